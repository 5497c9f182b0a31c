"""The commit: the one place where bytes become files and files become rows.

Steps 6 and 7 of the way of one message, in this order and no other: a group is made durable under its final names by the
store, then its items, counters and events are one transaction of the state, then the store forgets the group's manifest.
Whatever breaks in between, ``Ingest.recover`` finds whole files without rows and adopts them: at start-up after a crash,
and before the next group after an error.

While one group is recorded, the next is made durable, and the bodies of the one behind it are written: three may be under way,
one at each step, and none overtakes another. Beside them, and waiting for none of them, goes what is urgent, in small groups,
one at a time.

A group closes when nothing more waits, so a single new message is durable at once, and bulk makes large groups by itself
because arrivals pile up while others are being committed.

A group that the disk refuses is tried folder by folder: one folder that cannot be written then fails alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from typing import NamedTuple, TypeAlias, TypeVar

from hauld.engine.machine import Machine
from hauld.errors import HaulError, Transient
from hauld.model import Deposit, Placed, Stored
from hauld.retry import LOCAL
from hauld.state.base import State
from hauld.stores.base import Store

log = logging.getLogger(__name__)

GROUP_ITEMS = 1000
GROUP_BYTES = 16 * 1024 * 1024
URGENT_ITEMS = 16
"""Their files are synced one by one."""

DISCARDED = 10_000
"""Files that are removed before anything else may be stored."""

SLICE = 100
"""Items of a group that are written before others may take their place in memory, or recorded before what is urgent is."""

COURTESY = 0.1
"""Seconds that a piece of what is not urgent waits for what is, at most: news without end must not end an import."""

K = TypeVar("K")

Item: TypeAlias = tuple[str, bytes, str, str]
"""What names an item everywhere: the account's identity, the folder as the origin names it, epoch and key."""


class Arrival(NamedTuple):
    """One fetched item whose bytes are staged. ``settled`` is called once for it, and for others that were committed with it:
    None when they are durable and recorded. ``written`` may be called before that: they take no memory any more. ``passage`` is
    whatever who passed it on wants to know again by then. A ``twin`` is a second body of an item that came before it."""

    item: int
    job: int
    deposit: Deposit
    listed_size: int | None
    settled: Callable[[Sequence[Arrival], HaulError | None], None]
    written: Callable[[Sequence[Arrival]], None]
    passage: object = None
    twin: bool = False


class Ingest:
    """One committer for one store."""

    def __init__(self, store: Store, state: State, machine: Machine | None = None) -> None:
        self.machine = machine or Machine()
        self._store = store
        self._state = state
        self._bulk = _Lane(GROUP_ITEMS, urgent=False)
        self._urgent = _Lane(URGENT_ITEMS, urgent=True)
        self._way_is_free = asyncio.Event()
        self._way_is_free.set()
        self._unfinished = False

    def put(self, arrivals: Sequence[Arrival], urgent: bool = False) -> None:
        """Hand over items for the next group; urgent ones wait for no group that is not. Never waits: the byte budget bounds
        what comes here."""
        (self._urgent if urgent else self._bulk).put(arrivals)
        self._look_at_the_way()

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Something urgent will come: the rest stops for it, as soon as a small piece of it is done, though never for long."""
        self._urgent.expected += 1
        self._look_at_the_way()
        try:
            yield
        finally:
            self._urgent.expected -= 1
            self._look_at_the_way()

    async def run(self) -> None:
        """Commit groups until cancelled; those that were begun are finished first."""
        lanes = [asyncio.create_task(self._run(lane), name=lane.name) for lane in (self._bulk, self._urgent)]
        try:
            await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)  # a defect ends one
        finally:
            for lane in lanes:
                lane.cancel()
            for end in await asyncio.gather(*lanes, return_exceptions=True):
                if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                    raise end

    async def _run(self, lane: _Lane) -> None:
        under_way: set[asyncio.Task[None]] = set()
        defects: list[BaseException] = []
        running = asyncio.current_task()
        assert running is not None

        def over(task: asyncio.Task[None]) -> None:
            under_way.discard(task)
            if error := task.exception():
                defects.append(error)
                running.cancel()

        try:
            while True:
                await lane.writing.acquire()  # first, so that a group grows until it can go on
                try:
                    group = await lane.group()
                except BaseException:
                    lane.writing.release()
                    raise
                task = asyncio.create_task(self._commit(lane, group), name=f"commit of {len(group)} items")
                under_way.add(task)
                task.add_done_callback(over)
        finally:
            while under_way:
                await asyncio.wait(under_way)
            if defects:
                raise defects[0]

    def _look_at_the_way(self) -> None:
        (self._way_is_free.clear if self._urgent.busy else self._way_is_free.set)()

    async def make_way(self) -> None:
        """Between two pieces of what is not urgent, on its way from the origin or into the store: whatever works takes time
        from all else. Returns when nothing urgent is expected, or after a moment."""
        if not self._way_is_free.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COURTESY):
                    await self._way_is_free.wait()

    async def recover(self) -> int:
        """Adopt what the store holds and the ledger does not know, and sweep what nobody will ask for. The number of rows that
        changed."""
        async with self._none_under_way():
            return (await self._recover())[0]

    async def finish(self) -> None:
        """Wait until every file that has its final name by now has its row, too, if it is to have one."""
        async with self._none_under_way():
            if self._unfinished:
                await self._recover()

    async def discard(self, paths: Sequence[str]) -> None:
        """Remove files that the ledger has let go of, but those that another item has by now: equal bytes may be one file."""
        for start in range(0, len(paths), DISCARDED):
            async with self._none_under_way():
                for path in await self._state.nobodys(paths[start : start + DISCARDED]):
                    await self._store.remove(path)

    async def _recover(self) -> tuple[int, set[Item]]:
        """How many rows changed, and all that was found to be durable."""
        placed = await self._store.recover()
        adopted = await self._state.adopt(placed) if placed else 0
        await self._store.settle()
        self._unfinished = False
        if adopted:
            log.info("adopted %d stored items that had no row yet", adopted, extra={"event": "ingest.adopted"})
        return adopted, {(each.identity, each.folder, each.epoch, each.key) for each in placed}

    @asynccontextmanager
    async def _none_under_way(self) -> AsyncIterator[None]:
        """What has its final name by now has its row, or its group went wrong. Whoever takes several of these locks takes them
        in this order."""
        async with self._bulk.landing, self._bulk.recording, self._urgent.landing, self._urgent.recording:
            yield

    async def _commit(self, lane: _Lane, group: Sequence[Arrival]) -> None:
        """All steps of one group, the first of which is its own already."""
        try:
            await self._make_ready(lane, group)
            await lane.landing.acquire()
        finally:
            lane.writing.release()
        try:
            await self._store_group(lane, group)
        except HaulError as error:
            folders = by_folder(group)
            if isinstance(error, Transient) and error.kind == "disk" and len(folders) > 1:
                await self._commit_folders(folders)
            else:
                self._refuse(group, error)
        else:
            self._settle(group, None)

    async def _make_ready(self, lane: _Lane, group: Sequence[Arrival]) -> None:
        """What is done before it is the group's turn. What is urgent is not written ahead, which would be a step more; but
        where a group went wrong it waits here until that is in order, because at its turn it must not wait for the others."""
        if not lane.urgent:
            await self._write(group)
        elif self._unfinished:
            with contextlib.suppress(HaulError):  # it meets the same again
                await self.finish()

    async def _write(self, group: Sequence[Arrival]) -> None:
        """The bodies are in files as far as possible. What they held of the budget is free for others bit by bit."""
        for start in range(0, len(group), SLICE):
            await self.make_way()
            arrivals = group[start : start + SLICE]
            if await self._store.write([arrival.deposit for arrival in arrivals]):
                for written, theirs in _by(arrivals, attrgetter("written")):
                    written(theirs)

    async def _commit_folders(self, folders: Sequence[Sequence[Arrival]]) -> None:
        """Each folder as a group of its own, so that what keeps one from being written is that one's alone."""
        durable: set[Item] = set()
        for group in folders:
            await self._bulk.landing.acquire()
            try:
                durable |= await self._put_in_order()
            except HaulError as error:
                self._bulk.landing.release()
                self._refuse_rest(group, durable, error)
                continue
            try:
                await self._store_group(self._bulk, [arrival for arrival in group if not _is_among(durable, arrival)])
            except HaulError as error:
                self._refuse_rest(group, durable, error)
            else:
                self._settle(group, None)

    async def _store_group(self, lane: _Lane, group: Sequence[Arrival]) -> None:
        """Durable under its final names, and recorded. It is the group's turn to be made durable, and it goes on by itself to
        where it is recorded."""
        turn = lane.landing
        try:
            if not lane.urgent:
                await self._put_in_order()
                await self.make_way()
            async with self._store.commit([arrival.deposit for arrival in group], urgent=lane.urgent) as placed:
                await lane.recording.acquire()
                lane.landing.release()
                turn = lane.recording
                refused = await self._record(lane, group, placed)
        except BaseException:
            self._unfinished = True  # entering can fail after the first final name appeared
            raise
        finally:
            turn.release()
            self._look_at_the_way()
        self.machine.works()
        if refused:
            await self.discard(refused)

    async def _put_in_order(self) -> set[Item]:
        """Where a group went wrong, what it has left durable gets its rows, and is returned. It is the caller's turn to make
        something durable, and what he has is not urgent."""
        if not self._unfinished:
            return set()
        async with self._bulk.recording, self._urgent.landing, self._urgent.recording:
            return (await self._recover())[1]

    async def _record(self, lane: _Lane, group: Sequence[Arrival], placed: Sequence[Placed]) -> list[str]:
        """One transaction for each job in the group, and another for its twins: which of two bodies came first is known by
        then. While something urgent is under way there are more, and it need not wait for a long one. The paths of items whose
        epoch has passed meanwhile: they are nobody's."""
        stored: dict[tuple[bool, int], list[Stored]] = {}
        for arrival, place in zip(group, placed, strict=True):
            differs = arrival.listed_size is not None and arrival.listed_size != place.size
            row = Stored(arrival.item, place, flags=arrival.deposit.flags, size_differs=differs)
            stored.setdefault((arrival.twin, arrival.job), []).append(row)
        kept: set[str] = set()
        refused: set[str] = set()
        for (_, job), rows in sorted(stored.items(), key=lambda of_a_job: of_a_job[0]):
            while rows:
                if not lane.urgent:
                    await self.make_way()
                count = SLICE if self._urgent.busy else len(rows)
                some, rows = rows[:count], rows[count:]
                nobodys = set((await self._state.record_group(job, some, ())).refused)
                for row in some:
                    (refused if row.item in nobodys else kept).add(row.placed.path)
        return sorted(refused - kept)

    def _refuse(self, group: Sequence[Arrival], error: HaulError) -> None:
        if isinstance(error, Transient) and error.kind in LOCAL:
            self.machine.failed(error)
        else:
            log.warning("a group of %d items was not stored: %s", len(group), error, extra={"event": "ingest.failed"})
        for arrival in group:
            arrival.deposit.body.discard()
        self._settle(group, error)

    def _refuse_rest(self, group: Sequence[Arrival], durable: set[Item], error: HaulError) -> None:
        """The error is that of the arrivals which are not durable."""
        self._settle([arrival for arrival in group if _is_among(durable, arrival)], None)
        self._refuse([arrival for arrival in group if not _is_among(durable, arrival)], error)

    @staticmethod
    def _settle(group: Sequence[Arrival], error: HaulError | None) -> None:
        for settled, theirs in _by(group, attrgetter("settled")):
            settled(theirs, error)


class _Lane:
    """Groups on their way, of at most so many ``items``: each lock is a step, and held by the group that is there."""

    def __init__(self, items: int, *, urgent: bool) -> None:
        self.urgent = urgent
        self.writing = asyncio.Lock()
        self.landing = asyncio.Lock()
        self.recording = asyncio.Lock()
        self._items = items
        self._arrivals: deque[Arrival] = deque()
        self._news = asyncio.Event()
        self.expected = 0

    @property
    def name(self) -> str:
        return "urgent ingest" if self.urgent else "ingest"

    @property
    def busy(self) -> bool:
        """Whether something is on its way into the store, or is expected."""
        return self.expected > 0 or bool(self._arrivals) or self.landing.locked() or self.recording.locked()

    def put(self, arrivals: Sequence[Arrival]) -> None:
        """For the next group."""
        self._arrivals.extend(arrivals)
        self._news.set()

    async def group(self) -> list[Arrival]:
        """The next group, once there is something."""
        while not self._arrivals:
            self._news.clear()
            await self._news.wait()
        group: list[Arrival] = []
        size = 0
        while self._arrivals and len(group) < self._items and size < GROUP_BYTES:
            group.append(self._arrivals.popleft())
            size += group[-1].deposit.body.size
        return group


def by_folder(group: Sequence[Arrival]) -> Sequence[Sequence[Arrival]]:
    """The arrivals of each folder, in their order."""
    folders = _by(group, lambda arrival: (arrival.deposit.place.identity, arrival.deposit.place.folder.raw))
    return [theirs for _, theirs in folders]


def _by(group: Sequence[Arrival], what: Callable[[Arrival], K]) -> Iterable[tuple[K, Sequence[Arrival]]]:
    """The arrivals that have the same, in their order."""
    parts: dict[K, list[Arrival]] = {}
    for arrival in group:
        parts.setdefault(what(arrival), []).append(arrival)
    return parts.items()


def _is_among(durable: set[Item], arrival: Arrival) -> bool:
    """Whether the item's bytes are among those that were found to be durable; a twin's are not told from its first's."""
    deposit = arrival.deposit
    item = (deposit.place.identity, deposit.place.folder.raw, deposit.epoch, deposit.key)
    return not arrival.twin and item in durable
