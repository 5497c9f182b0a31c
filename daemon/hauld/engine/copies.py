"""When a copy of the ledger is made: daily, and soon after people made, changed or deleted jobs, because files cannot tell of
jobs and a ledger that is lost is rebuilt from a copy and files."""

from __future__ import annotations

import asyncio
import logging

from hauld.clock import Clock
from hauld.errors import Transient
from hauld.state.base import State

log = logging.getLogger(__name__)

SETTLED = 5.0
"""Seconds from a change to its copy; what changes meanwhile is in the same one."""

SHARE = 20
"""A copy is not made sooner than so many times after the last one as that one took: copying a large ledger again and again
must not be what the disk is busy with."""

LAST_COPY = 1.5
"""Seconds, at most, that a shutdown waits for a copy that is due; one that takes longer is made after the next start."""


class Copies:
    """Copies that are due because of a change. ``run`` makes them until it is cancelled."""

    def __init__(self, state: State, clock: Clock, settled: float = SETTLED) -> None:
        self._state = state
        self._clock = clock
        self._settled = settled
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something has changed that files cannot tell."""
        self._changed.set()

    async def run(self) -> None:
        """Wait for changes, and copy them soon."""
        while True:
            await self._changed.wait()
            await self._clock.sleep(self._settled)
            took = await self._copy()
            await self._clock.sleep(SHARE * took)

    async def finish(self) -> None:
        """Make the copy that is due, if one is and it does not take long."""
        if self._changed.is_set():
            try:
                async with asyncio.timeout(LAST_COPY):
                    await self._copy()
            except TimeoutError:
                log.warning("the last changes of jobs are in no copy of the ledger yet", extra={"event": "copy.late"})

    async def _copy(self) -> float:
        """Seconds that it took. A copy that fails is made again with the next change, or the next day."""
        began = self._clock.monotonic()
        self._changed.clear()
        try:
            await self._state.save_copy()
        except asyncio.CancelledError:
            self._changed.set()
            raise
        except Transient as error:
            log.warning("the ledger could not be copied: %s", error, extra={"event": "copy.failed"})
        return self._clock.monotonic() - began
