"""The event log over a real ledger: readers and their bell, pages, and what is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from contracts.state import NOON, SetClock, create
from haulapi.calls import EventListParams, FollowParams, Since
from hauld.engine.events import KEPT_MS, LARGEST_PAGE, EventLog
from hauld.errors import Refused, Transient
from hauld.model import Event, Job, JobStatus
from hauld.state.sqlite import SqliteState

PATIENCE = 20.0


class Ledger(SqliteState):
    """The ledger, with what was read of its events written down, and a hand in between when a test wants one."""

    def __init__(self, path: Path, clock: SetClock) -> None:
        super().__init__(path, clock)
        self.read_after: list[int] = []
        self.forget_first = False
        self.tell_behind = 0
        self.job_made: Job | None = None

    async def events(self, after: int, limit: int = 1000, job: str | None = None) -> Sequence[Event]:
        self.read_after.append(after)
        if self.forget_first:
            await self.prune_events(2**50, 1)
        read = await super().events(after, limit, job)
        if self.tell_behind:
            self.tell_behind -= 1
            await self.tell()
        return read

    async def last(self) -> int:
        return (await self.event_span())[1]

    async def tell(self, times: int = 1) -> None:
        """So many events of one job."""
        assert self.job_made is not None
        for _ in range(times):
            paused = (await self.job(self.job_made.id)).status is JobStatus.PAUSED
            await self.move_job(self.job_made.number, JobStatus.PENDING if paused else JobStatus.PAUSED)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def ledger(tmp_path: Path, clock: SetClock) -> AsyncIterator[Ledger]:
    ledger = Ledger(tmp_path / "haul.db", clock)
    await ledger.start()
    ledger.job_made = await create(ledger, await ledger.account("test:example.org:ann", "ann", "test"))
    yield ledger
    await ledger.close()


@pytest.fixture
async def event_log(ledger: Ledger, clock: SetClock) -> EventLog:
    return EventLog(ledger, clock)


async def test_a_reader_that_has_read_all_waits_without_reading(ledger: Ledger, event_log: EventLog) -> None:
    reader = await event_log.reader(FollowParams())
    waiting = asyncio.create_task(reader.next())
    while not ledger.read_after:
        await asyncio.sleep(0)
    for _ in range(100):
        await ledger.event_span()
    assert not waiting.done()
    assert len(ledger.read_after) == 1
    await ledger.tell()
    async with asyncio.timeout(PATIENCE):
        assert [event.number for event in await waiting] == [await ledger.last()]


async def test_one_ring_wakes_every_reader_and_what_they_read_is_read_once(ledger: Ledger, event_log: EventLog) -> None:
    readers = [await event_log.reader(FollowParams()) for _ in range(50)]
    waiting = [asyncio.create_task(reader.next()) for reader in readers]
    while not ledger.read_after:
        await asyncio.sleep(0)
    await ledger.event_span()  # what they read has come by then: the ledger reads in turn
    assert len(ledger.read_after) == 1
    ledger.read_after.clear()
    await ledger.tell()
    async with asyncio.timeout(PATIENCE):
        pages = await asyncio.gather(*waiting)
    assert {tuple(event.number for event in page) for page in pages} == {(await ledger.last(),)}
    assert len(ledger.read_after) == 1


async def test_readers_far_apart_each_get_their_own(ledger: Ledger, event_log: EventLog) -> None:
    first, stream = await ledger.last(), await ledger.stream()
    await ledger.tell(30)
    readers = [await event_log.reader(FollowParams(since=Since(stream=stream, number=first + ago))) for ago in range(30)]
    for _ in range(2):
        pages = await asyncio.gather(*(reader.next() for reader in readers))
        assert [[event.number for event in page] for page in pages] == [
            list(range(first + ago + 1, first + 31)) for ago in range(30)
        ]
        readers = [await event_log.reader(FollowParams(since=Since(stream=stream, number=first + ago))) for ago in range(30)]


async def test_what_could_not_be_read_is_read_again_for_the_next_one(
    ledger: Ledger, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = Since(stream=await ledger.stream(), number=await ledger.last())
    await ledger.tell()

    async def fail(*_: object) -> Sequence[Event]:
        raise Transient("disk", "The ledger cannot be read.")

    with monkeypatch.context() as failing:
        failing.setattr(ledger, "events", fail)
        with pytest.raises(Transient):
            await (await event_log.reader(FollowParams(since=since))).next()
    assert len(await (await event_log.reader(FollowParams(since=since))).next()) == 1


async def test_what_is_told_while_a_reader_reads_is_not_missed(ledger: Ledger, event_log: EventLog) -> None:
    reader = await event_log.reader(FollowParams())
    first, seen = await ledger.last(), 0
    telling = asyncio.create_task(ledger.tell(50))
    async with asyncio.timeout(PATIENCE):
        while seen < 50:
            for event in await reader.next():
                seen += 1
                assert event.number == first + seen
    await telling


async def test_what_is_told_right_after_a_reader_has_read_wakes_it(ledger: Ledger, event_log: EventLog) -> None:
    reader = await event_log.reader(FollowParams())
    first = await ledger.last()
    ledger.tell_behind = 2
    async with asyncio.timeout(PATIENCE):
        assert [event.number for event in await reader.next()] == [first + 1]
        assert [event.number for event in await reader.next()] == [first + 2]


async def test_a_reader_of_a_quiet_job_does_not_read_over_again_what_others_told(ledger: Ledger, event_log: EventLog) -> None:
    other = await create(ledger, (await ledger.job(ledger.job_made.id)).account)  # type: ignore[union-attr]
    reader = await event_log.reader(FollowParams(job=other.id))
    waiting = asyncio.create_task(reader.next())
    while not ledger.read_after:
        await asyncio.sleep(0)
    for _ in range(3):
        read = len(ledger.read_after)
        await ledger.tell()
        while len(ledger.read_after) == read:
            await asyncio.sleep(0)
        await ledger.event_span()
    first = ledger.read_after[0]
    assert ledger.read_after == [first, first, first + 1, first + 2]
    await ledger.move_job(other.number, JobStatus.PAUSED)
    async with asyncio.timeout(PATIENCE):
        assert [event.job for event in await waiting] == [other.id]


async def test_a_reader_under_whom_events_are_forgotten_is_told_that_they_are_gone(ledger: Ledger, event_log: EventLog) -> None:
    for params in (FollowParams(), FollowParams(job=ledger.job_made.id)):  # type: ignore[union-attr]
        reader = await event_log.reader(params)
        await ledger.tell(5)
        ledger.forget_first = True
        with pytest.raises(Refused) as refused:
            await reader.next()
        ledger.forget_first = False
        assert refused.value.kind == "events_gone"
        assert str(await ledger.last()) in str(refused.value.hint)


async def test_pages_lead_from_the_oldest_event_to_the_newest(ledger: Ledger, event_log: EventLog) -> None:
    await ledger.tell(7)
    numbers: list[int] = []
    since = None
    while True:
        page = await event_log.events_list(EventListParams(since=since, limit=3))
        assert (page.oldest, page.last, page.stream) == (1, await ledger.last(), await ledger.stream())
        if not page.events:
            break
        numbers += [event.number for event in page.events]
        since = Since(stream=page.stream, number=numbers[-1])
    assert numbers == list(range(1, await ledger.last() + 1))


async def test_pages_begin_with_the_oldest_that_is_kept(ledger: Ledger, event_log: EventLog) -> None:
    await ledger.tell(7)
    await ledger.prune_events(2**50, 2)
    page = await event_log.events_list(EventListParams())
    assert [event.number for event in page.events] == [page.oldest, page.last]


async def test_the_events_of_a_job_are_found_after_it_was_deleted(ledger: Ledger, event_log: EventLog) -> None:
    job = ledger.job_made
    assert job is not None
    await ledger.delete_job(job.number)
    page = await event_log.events_list(EventListParams(job=job.id))
    assert page.events[-1].kind == "job.deleted"
    for unknown in (job.id[:10], "job_zzzzzzzzzzzz"):
        with pytest.raises(Refused) as refused:
            await event_log.events_list(EventListParams(job=unknown))
        assert refused.value.kind == "not_found"


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_page_of_nothing_is_refused(event_log: EventLog, limit: int) -> None:
    with pytest.raises(Refused) as refused:
        await event_log.events_list(EventListParams(limit=limit))
    assert refused.value.kind == "invalid_params"


async def test_a_page_is_never_larger_than_the_largest(ledger: Ledger, event_log: EventLog) -> None:
    await ledger.tell(LARGEST_PAGE)
    page = await event_log.events_list(EventListParams(limit=LARGEST_PAGE + 1))
    assert len(page.events) == LARGEST_PAGE < page.last


async def test_a_negative_number_is_refused(ledger: Ledger, event_log: EventLog) -> None:
    with pytest.raises(Refused) as refused:
        await event_log.reader(FollowParams(since=Since(stream=await ledger.stream(), number=-1)))
    assert refused.value.kind == "invalid_params"


async def test_events_are_forgotten_after_thirty_days_but_a_number_is_kept(
    ledger: Ledger, event_log: EventLog, clock: SetClock
) -> None:
    await ledger.tell(10)
    last = await ledger.last()
    clock.now = NOON + KEPT_MS + 1
    assert await event_log.prune_now() == 0  # they are old, but far fewer than a million
    keeps_few = EventLog(ledger, clock, keep=4)
    clock.now = NOON + KEPT_MS
    assert await keeps_few.prune_now() == 0  # they are many, but not old yet
    clock.now += 1
    assert await keeps_few.prune_now() == last - 4
    assert await ledger.event_span() == (last - 3, last)
