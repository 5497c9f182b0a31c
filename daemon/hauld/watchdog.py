"""The word that all is well, for systemd's watchdog (WatchdogSec=): given only while what everything depends on gets on.

It is given by the event loop, so a loop that is blocked gives none. The ledger's writer and the engine are looked at first:
when one of them is stuck, the log says which, and nothing is said to systemd, which then ends the daemon and starts it anew.
What waits for a disk, a lock or a server is not stuck: it tries again, and says what it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from hauld.clock import Clock
from hauld.systemd import Notifier

log = logging.getLogger(__name__)

BEATS = 3
"""How often, within the watchdog's time, it is told that all is well: one word may get lost."""


class Watchdog:
    """``patience`` is the watchdog's time in seconds; ``writing_for`` tells since how many seconds the ledger's writer has not
    got on, and ``pulse`` why the engine does not; None where there is nothing to tell."""

    def __init__(
        self,
        notifier: Notifier,
        clock: Clock,
        patience: float,
        *,
        writing_for: Callable[[], float | None],
        pulse: Callable[[], str | None],
    ) -> None:
        self._notifier = notifier
        self._clock = clock
        self._patience = patience
        self._writing_for = writing_for
        self._pulse = pulse
        self._is_silent = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.beat()
            await self._clock.sleep(self._patience / BEATS)

    def beat(self) -> None:
        """Say that all is well, or log why not: once, until it is."""
        reason = self._reason()
        if reason is None:
            if self._is_silent:
                log.warning("the watchdog is told again that all is well", extra={"event": "watchdog.fed"})
            self._notifier.watchdog()
        elif not self._is_silent:
            log.error("the watchdog is not told any more that all is well: %s", reason, extra={"event": "watchdog.unfed"})
        self._is_silent = reason is not None

    def _reason(self) -> str | None:
        """What is stuck; None when all is well."""
        seconds = self._writing_for()
        if seconds is not None and seconds > self._patience:
            return f"the ledger's writer has been at one statement for {seconds:.0f} s"
        return self._pulse()


@asynccontextmanager
async def watched(watchdog: Watchdog) -> AsyncIterator[None]:
    """Beats until left. A daemon that systemd ends for its silence writes where each of its threads is to standard error, which
    is in the journal; nothing is dumped but names of files and functions."""
    faulthandler.enable()
    beating = asyncio.create_task(watchdog.run(), name="watchdog")
    try:
        yield
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
