"""The commit: the one place where bytes become files and files become rows.

Steps 6 and 7 of the way of one message, in this order and no other: a group is made durable under its final names by the
store, then its items, counters and events are one transaction of the state, then the store forgets the group's manifest.
Whatever breaks in between, ``Ingest.recover`` finds whole files without rows and adopts them: at start-up after a crash,
and before the next group after an error.

A group closes when nothing more waits, so a single new message is durable at once, and bulk makes large groups by itself
because arrivals pile up while a group is being committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hauld.errors import HaulError
from hauld.model import Deposit, Placed, Stored
from hauld.state.base import State
from hauld.stores.base import Store

log = logging.getLogger(__name__)

GROUP_ITEMS = 1000
GROUP_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Arrival:
    """One fetched item whose bytes are staged. ``settled`` is called once: None when it is durable and recorded."""

    item: int
    job: int
    deposit: Deposit
    listed_size: int | None
    settled: Callable[[HaulError | None], None]


class Ingest:
    """One committer for one store."""

    def __init__(self, store: Store, state: State) -> None:
        self._store = store
        self._state = state
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue()
        self._unfinished = False

    def put(self, arrival: Arrival) -> None:
        """Hand over an item for the next group. Never waits: the byte budget bounds what comes here."""
        self._arrivals.put_nowait(arrival)

    async def run(self) -> None:
        """Commit groups until cancelled; a group that was begun is finished first."""
        while True:
            group = await self._group()
            commit = asyncio.ensure_future(self._commit(group))
            try:
                await asyncio.shield(commit)
            except asyncio.CancelledError:
                await commit
                raise

    async def recover(self) -> int:
        """Adopt what the store holds and the ledger does not know. The number of rows that changed."""
        placed = await self._store.recover()
        adopted = await self._state.adopt(placed) if placed else 0
        await self._store.settle()
        self._unfinished = False
        if adopted:
            log.info("adopted %d stored items that had no row yet", adopted, extra={"event": "ingest.adopted"})
        return adopted

    async def _group(self) -> list[Arrival]:
        group = [await self._arrivals.get()]
        size = group[0].deposit.body.size
        while len(group) < GROUP_ITEMS and size < GROUP_BYTES and not self._arrivals.empty():
            group.append(self._arrivals.get_nowait())
            size += group[-1].deposit.body.size
        return group

    async def _commit(self, group: Sequence[Arrival]) -> None:
        try:
            if self._unfinished:
                await self.recover()
            self._unfinished = True  # until it is left in order; entering can fail after the first final name appeared
            async with self._store.commit([arrival.deposit for arrival in group]) as placed:
                refused = await self._record(group, placed)
            self._unfinished = False
            for path in refused:
                await self._store.remove(path)
        except HaulError as error:
            log.warning("a group of %d items was not stored: %s", len(group), error, extra={"event": "ingest.failed"})
            self._settle(group, error)
        else:
            self._settle(group, None)

    async def _record(self, group: Sequence[Arrival], placed: Sequence[Placed]) -> list[str]:
        """One transaction for each job in the group. The paths of items whose epoch has passed meanwhile: they are nobody's."""
        stored: dict[int, list[Stored]] = {}
        paths = {}
        for arrival, place in zip(group, placed, strict=True):
            differs = arrival.listed_size is not None and arrival.listed_size != place.size
            stored.setdefault(arrival.job, []).append(
                Stored(arrival.item, place, flags=arrival.deposit.flags, size_differs=differs)
            )
            paths[arrival.item] = place.path
        refused: list[str] = []
        for job, items in stored.items():
            committed = await self._state.record_group(job, items, ())
            refused.extend(paths[item] for item in committed.refused)
        return refused

    @staticmethod
    def _settle(group: Sequence[Arrival], error: HaulError | None) -> None:
        for arrival in group:
            arrival.settled(error)
