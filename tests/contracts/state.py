"""What every state promises (``hauld.state.base``), as tests. An implementation subclasses ``StateContract`` and gives a
``state`` fixture: started, empty, on the fixture ``clock``."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
from msgspec import structs

from hauld.errors import Refused, StaleCursor
from hauld.model import (
    MOVES,
    Conflict,
    Counters,
    Dates,
    Event,
    Folder,
    FolderKind,
    Found,
    Item,
    ItemStatus,
    Job,
    JobStatus,
    Page,
    Phase,
    Place,
    Placed,
    RemoteFolder,
    RemoteItem,
    Setback,
    Stored,
    StoredItem,
    Strategy,
    Trouble,
)
from hauld.state.base import Committed, Preview, State

NOON = 1_767_225_600_000
INBOX = RemoteFolder(b"INBOX", ("INBOX",), FolderKind.INBOX)
WORK = RemoteFolder(b"Work", ("Work",))
IDENTITY = "imap:example.org:ann"


class SetClock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000

    async def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1000)

    def pass_seconds(self, seconds: float) -> int:
        self.now += int(seconds * 1000)
        return self.now


def remote(uids: Iterable[int], epoch: str = "7", **more: object) -> list[RemoteItem]:
    """Items of these UIDs, 100 bytes and one each."""
    return [structs.replace(RemoteItem(f"{epoch}.{uid}", uid, 100 + uid), **more) for uid in uids]  # type: ignore[arg-type]


def page(uids: Iterable[int], epoch: str = "7", **more: object) -> Page:
    return Page(epoch, remote(uids, epoch, **more))


def placed(uid: int, epoch: str = "7", folder: bytes = INBOX.raw, size: int | None = None) -> Placed:
    size = 100 + uid if size is None else size
    return Placed(IDENTITY, folder, epoch, f"{epoch}.{uid}", size, f"{uid:064x}", f"{folder.decode()}/{epoch}.{uid}")


INBOX_PLACE = Place(IDENTITY, "ann", INBOX, "INBOX")


def other(uid: int, digit: str = "f", epoch: str = "7") -> Placed:
    """Other bytes under the same key: 999 of them, in a file of their own."""
    return structs.replace(placed(uid, epoch), size=999, sha256=digit * 64, path=f"INBOX/{epoch}.{uid}.{digit}")


def found(uids: Iterable[int], epoch: str = "7", **more: object) -> list[Found]:
    """Files of these items, with the half of the hash that names tell."""
    halves = [structs.replace(placed(uid, epoch), sha256=placed(uid).sha256[:32]) for uid in uids]
    return [replace(Found(half.path, half.size, half), **more) for half in halves]  # type: ignore[arg-type]


@dataclass
class Scene:
    """An account with two folders and a job, and the usual steps on the way of an item."""

    state: State
    account: int
    job: Job
    inbox: Folder
    work: Folder

    @classmethod
    async def set(cls, state: State) -> Scene:
        account = await state.account(IDENTITY, "ann", "imap")
        inbox, work = await state.record_folders(account, [WORK, INBOX])
        return cls(state, account, await create(state, account), inbox, work)

    async def list(
        self, uids: Iterable[int], *, folder: Folder | None = None, epoch: str = "7", job: Job | None = None, **more: object
    ) -> int:
        """A whole listing of one page; how many items are gone."""
        number = (folder or self.inbox).number
        await self.state.begin_listing(number, epoch)
        whole = replace(page(uids, epoch, **more), cursor=b"cursor", whole=True)
        await self.state.record_page(number, whole, [(job or self.job).number])
        return await self.state.finish_listing(number, whole)

    async def number(self, uid: int, epoch: str = "7", job: Job | None = None) -> int:
        return (await self.item(uid, epoch, job)).number

    async def item(self, uid: int, epoch: str = "7", job: Job | None = None) -> Item:
        items = await self.state.items((job or self.job).number, limit=1000)
        return next(item for item in items if item.key == f"{epoch}.{uid}")

    async def store(self, uids: Iterable[int], *, epoch: str = "7", job: Job | None = None) -> Committed:
        items = await self.state.items((job or self.job).number, limit=1000)
        numbers = {item.key: item.number for item in reversed(items)}
        group = [Stored(numbers[f"{epoch}.{uid}"], placed(uid, epoch)) for uid in uids]
        return await self.state.record_group((job or self.job).number, group, ())

    async def set_back(self, uid: int, **more: bool) -> Committed:
        setback = Setback(await self.number(uid), "missing", "The answer left it out.", **more)
        return await self.state.record_group(self.job.number, (), [setback])

    async def alike(self) -> dict[str, list[str]]:
        """The keys of what waits in INBOX, each with those of what may be the same."""
        found = await self.state.alike(self.inbox.number, below=None, limit=1000)
        return {alike.item.key: [each.key for each in alike.stored] for alike in found}

    async def map(self, uids: Iterable[tuple[int, int]], *, before: str = "7", after: str = "8") -> int:
        """These stored items of one epoch are those of another."""
        pairs = [(await self.number(new, after), await self.number(old, before)) for old, new in uids]
        return await self.state.remap(self.inbox.number, pairs)

    async def pending(self, job: Job | None = None) -> list[str]:
        items = await self.state.pending((job or self.job).number, self.inbox.number, below=None, limit=1000)
        return [item.key for item in items]

    async def give_up(self, uid: int, epoch: str = "7") -> int:
        setback = Setback(await self.number(uid, epoch), "damaged", "A bit of it is another.")
        return await self.state.give_up([setback])

    async def stored(self) -> dict[str, StoredItem]:
        return {item.key: item for item in await self.state.stored(self.inbox.number, after=0, limit=1000)}

    async def told(self, kind: str) -> list[Event]:
        return [event for event in await self.state.events(0) if event.kind == kind]


def dated(*dates: int | None) -> Page:
    """Items 1, 2, ... of these dates."""
    return Page("7", [RemoteItem(f"7.{uid}", uid, 100 + uid, date=date) for uid, date in enumerate(dates, 1)])


async def create(state: State, account: int, *, start: bool = True, strategy: Strategy | None = None) -> Job:
    job, _ = await state.create_job(
        account,
        strategy or Strategy(),
        live=True,
        priority=2,
        requester="tests",
        start=start,
        idempotency_key=None,
    )
    return job


class StateContract:
    @pytest.fixture
    def clock(self) -> SetClock:
        return SetClock()

    @pytest.fixture
    def state(self, clock: SetClock) -> State:
        raise NotImplementedError("an implementation gives its own")

    @pytest.fixture
    async def scene(self, state: State) -> Scene:
        return await Scene.set(state)

    @pytest.fixture(autouse=True)
    async def _agrees_with_itself(self, state: State) -> object:
        """Whatever a test did, counters and rows agree after it."""
        yield
        assert await state.check() == []

    # --- accounts ---

    async def test_an_account_keeps_its_number_when_its_label_changes(self, state: State) -> None:
        number = await state.account(IDENTITY, "ann", "imap")
        assert await state.account("imap:example.org:bob", "ann", "imap") != number
        job = await create(state, number)
        assert await state.account(IDENTITY, "renamed", "imap") == number
        renamed = await state.job(job.id)
        assert (renamed.account, renamed.account_name, renamed.source) == (number, "renamed", "imap")

    async def test_account_totals_tell_folders_what_is_stored_and_since_when(self, scene: Scene, clock: SetClock) -> None:
        empty = await scene.state.account_totals(scene.account)
        assert (empty.folders, empty.items, empty.bytes, empty.last_sync_at) == (2, 0, 0, None)
        assert empty.inbox_sync_at is None
        await scene.list([1, 2, 3])
        await scene.store([1, 2])
        await scene.state.record_folders(scene.account, [INBOX])
        totals = await scene.state.account_totals(scene.account)
        assert (totals.folders, totals.items, totals.bytes, totals.last_sync_at) == (1, 2, 203, clock.now)
        assert totals.inbox_sync_at == clock.now

    async def test_how_accounts_are_is_told_and_nothing_else_is_kept_of_it(self, scene: Scene) -> None:
        jobs = await scene.state.jobs()
        trouble = Trouble("network", "The server is not reachable.", "Look at the network.", retry_at=5)
        await scene.state.tell_accounts([("ann", "waiting", trouble), ("bob", "connected", None)])
        assert [event.data for event in await scene.told("account.state")] == [
            {"account": "ann", "state": "waiting", "kind": "network", "reason": "The server is not reachable."},
            {"account": "bob", "state": "connected", "kind": None, "reason": None},
        ]
        assert await scene.state.jobs() == jobs

    # --- jobs ---

    async def test_a_new_job_is_pending_and_queued_and_told(self, scene: Scene, clock: SetClock) -> None:
        strategy = Strategy("selected-folders", ("Work/*", "Päivä"), ("Spam",))
        job = await create(scene.state, scene.account, strategy=strategy)
        assert re.fullmatch("job_[a-z0-9]{12}", job.id)
        assert (job.status, job.queued, job.phase, job.error) == (JobStatus.PENDING, True, None, None)
        assert (job.strategy, job.live, job.priority, job.requester) == (strategy, True, 2, "tests")
        assert (job.created_at, job.updated_at, job.started_at, job.completed_at) == (clock.now, clock.now, None, None)
        assert await scene.state.job(job.id) == job
        event = (await scene.told("job.status"))[-1]
        assert (event.job, event.time, event.data["from"], event.data["to"]) == (job.id, clock.now, None, "pending")

    async def test_a_job_created_without_start_is_not_queued_until_it_is_started(self, scene: Scene) -> None:
        job = await create(scene.state, scene.account, start=False)
        assert (job.status, job.queued) == (JobStatus.PENDING, False)
        started = await scene.state.move_job(job.number, JobStatus.PENDING)
        assert (started.status, started.queued) == (JobStatus.PENDING, True)
        with pytest.raises(Refused, match="pending"):
            await scene.state.move_job(job.number, JobStatus.PENDING)

    async def test_the_same_idempotency_key_gives_the_job_it_made_before(self, scene: Scene) -> None:
        async def ask(account: int, key: str | None) -> tuple[str, bool]:
            job, new = await scene.state.create_job(
                account, Strategy(), live=True, priority=2, requester=None, start=True, idempotency_key=key
            )
            return job.id, new

        first, new = await ask(scene.account, "once")
        assert new
        assert await ask(scene.account, "once") == (first, False)
        other = await scene.state.account("imap:example.org:bob", "bob", "imap")
        assert (await ask(other, "once"))[1]
        assert (await ask(scene.account, None))[0] != (await ask(scene.account, None))[0]

    async def test_a_job_is_found_by_any_unambiguous_prefix(self, scene: Scene) -> None:
        random = scene.job.id.removeprefix("job_")
        for prefix in (scene.job.id, "job_" + random[:5], random[:5], random[0]):
            assert (await scene.state.job(prefix)).id == scene.job.id
        with pytest.raises(Refused) as missing:
            await scene.state.job("job_" + random[:5] + "!")
        assert missing.value.kind == "not_found"

    async def test_a_prefix_of_several_jobs_is_answered_with_them(self, scene: Scene) -> None:
        jobs = Counter([(await create(scene.state, scene.account)).id[:5] for _ in range(37)])  # of 36 letters and digits
        [(prefix, count)] = jobs.most_common(1)
        with pytest.raises(Refused) as ambiguous:
            await scene.state.job(prefix)
        assert ambiguous.value.kind == "ambiguous"
        assert 2 <= len(ambiguous.value.candidates) <= count + 1
        assert all(candidate.startswith(prefix) for candidate in ambiguous.value.candidates)

    @pytest.mark.parametrize("prefix", ["", "j", "jo", "job", "job_"])
    async def test_what_every_job_has_names_none(self, scene: Scene, prefix: str) -> None:
        """Or else a script whose variable is empty would delete the only one."""
        if scene.job.id.removeprefix("job_").startswith(prefix or "-"):
            return  # by the dice, it is a start of its own
        with pytest.raises(Refused) as missing:
            await scene.state.job(prefix)
        assert missing.value.kind == "not_found"
        assert missing.value.message == f"{prefix!r} is what every job's id begins with, and names none."

    async def test_jobs_come_newest_first_a_page_at_a_time(self, scene: Scene) -> None:
        ids = [scene.job.id, *[(await create(scene.state, scene.account)).id for _ in range(4)]]
        first = await scene.state.jobs(limit=3)
        assert [job.id for job in first] == ids[:1:-1]
        rest = await scene.state.jobs(limit=3, after=first[-1].id)
        assert [job.id for job in rest] == ids[1::-1]

    async def test_jobs_are_listed_by_status_and_account(self, scene: Scene) -> None:
        bob = await scene.state.account("imap:example.org:bob", "bob", "imap")
        other = await create(scene.state, bob)
        await scene.state.move_job(scene.job.number, JobStatus.PAUSED)
        assert [job.id for job in await scene.state.jobs(status=JobStatus.PAUSED)] == [scene.job.id]
        assert [job.id for job in await scene.state.jobs(account=bob)] == [other.id]
        assert await scene.state.jobs(status=JobStatus.PAUSED, account=bob) == []
        assert await scene.state.job_counts() == {JobStatus.PAUSED: 1, JobStatus.PENDING: 1}

    async def test_every_allowed_move_is_made_and_every_other_refused(self, scene: Scene) -> None:
        ways = {
            JobStatus.PENDING: [],
            JobStatus.RUNNING: [JobStatus.RUNNING],
            JobStatus.PAUSED: [JobStatus.PAUSED],
            JobStatus.COMPLETED: [JobStatus.RUNNING, JobStatus.COMPLETED],
            JobStatus.FAILED: [JobStatus.FAILED],
            JobStatus.CANCELLED: [JobStatus.CANCELLED],
        }
        for before, way in ways.items():
            for after in JobStatus:
                job = await create(scene.state, scene.account)
                for step in way:
                    await scene.state.move_job(job.number, step)
                if after in MOVES[before]:
                    assert (await scene.state.move_job(job.number, after)).status is after
                else:
                    with pytest.raises(Refused) as refused:
                        await scene.state.move_job(job.number, after)
                    assert refused.value.kind == "wrong_state"
                    assert (await scene.state.job(job.id)).status is before

    async def test_a_move_is_told_with_its_reason_and_keeps_its_times(self, scene: Scene, clock: SetClock) -> None:
        number = scene.job.number
        began = clock.pass_seconds(1)
        running = await scene.state.move_job(number, JobStatus.RUNNING, phase=Phase.CONNECTING)
        assert (running.started_at, running.phase, running.queued) == (began, Phase.CONNECTING, False)
        done = clock.pass_seconds(1)
        completed = await scene.state.move_job(number, JobStatus.COMPLETED)
        assert (completed.completed_at, completed.last_sync_at, completed.phase) == (done, done, None)
        clock.pass_seconds(1)
        again = await scene.state.move_job(number, JobStatus.RUNNING, phase=Phase.DOWNLOADING)
        assert again.started_at == began
        trouble = Trouble("auth", "The password was refused.", "Change it.", since=5)
        failed = await scene.state.move_job(number, JobStatus.FAILED, error=trouble)
        assert failed.error == trouble
        assert (failed.updated_at, failed.last_sync_at) == (clock.now, done)
        told = [(event.data["from"], event.data["to"], event.data["phase"]) for event in await scene.told("job.status")]
        assert told[1:] == [
            ("pending", "running", "connecting"),
            ("running", "completed", None),
            ("completed", "running", "downloading"),
            ("running", "failed", None),
        ]
        assert (await scene.told("job.status"))[-1].data["reason"] == "The password was refused."
        assert (await scene.state.move_job(number, JobStatus.PENDING)).error is None

    async def test_moving_a_job_that_does_not_exist_is_refused(self, state: State) -> None:
        with pytest.raises(Refused) as refused:
            await state.move_job(99, JobStatus.RUNNING)
        assert refused.value.kind == "not_found"

    async def test_a_comparison_that_found_nothing_is_dated_and_not_told(self, scene: Scene, clock: SetClock) -> None:
        await scene.state.move_job(scene.job.number, JobStatus.RUNNING)
        await scene.state.move_job(scene.job.number, JobStatus.COMPLETED)
        before = (await scene.state.event_span())[1]
        now = clock.pass_seconds(60)
        assert (await scene.state.synced(scene.job.number)).last_sync_at == now
        assert (await scene.state.job(scene.job.id)).status is JobStatus.COMPLETED
        assert (await scene.state.event_span())[1] == before

    async def test_a_comparison_tells_what_it_could_not_read_when_that_begins_and_when_it_is_over(
        self, scene: Scene, clock: SetClock
    ) -> None:
        number = scene.job.number
        await scene.state.move_job(number, JobStatus.RUNNING)
        await scene.state.move_job(number, JobStatus.COMPLETED)
        trouble = Trouble("folder", "One folder could not be read.")
        began = clock.now
        for _ in range(2):
            job = await scene.state.compared(number, trouble)
            assert (job.error, job.last_sync_at) == (replace(trouble, since=began), clock.now)
            clock.pass_seconds(60)
        assert (await scene.state.compared(number, None)).error is None
        told = [(event.data["from"], event.data["to"], event.data["reason"]) for event in (await scene.told("job.status"))[-2:]]
        assert told == [("completed", "completed", trouble.message), ("completed", "completed", None)]

    async def test_a_comparison_of_a_job_that_was_stopped_meanwhile_leaves_its_reason(self, scene: Scene) -> None:
        number = scene.job.number
        await scene.state.move_job(number, JobStatus.RUNNING)
        stopped = await scene.state.move_job(number, JobStatus.PAUSED, error=Trouble("configuration", "Not declared."))
        told = await scene.told("job.status")
        assert (await scene.state.compared(number, None)).error == stopped.error
        assert await scene.told("job.status") == told

    async def test_a_phase_is_told_once_and_says_why_the_job_waits(self, scene: Scene, clock: SetClock) -> None:
        number = scene.job.number
        await scene.state.move_job(number, JobStatus.RUNNING, phase=Phase.CONNECTING)
        trouble = Trouble("network", "The server is not reachable.", retry_at=clock.now + 2000)
        for _ in range(2):
            await scene.state.set_phase(number, Phase.WAITING, trouble)
        waiting = await scene.state.job(scene.job.id)
        assert (waiting.phase, waiting.error) == (Phase.WAITING, replace(trouble, since=clock.now))
        [event] = await scene.told("job.phase")
        assert (event.job, event.data["phase"], event.data["kind"]) == (scene.job.id, "waiting", "network")
        since = clock.now
        clock.pass_seconds(9)
        await scene.state.set_phase(number, Phase.WAITING, replace(trouble, retry_at=clock.now))
        error = (await scene.state.job(scene.job.id)).error
        assert error is not None
        assert (error.since, error.retry_at) == (since, clock.now)
        await scene.state.set_phase(number, Phase.LISTING)
        assert (await scene.state.job(scene.job.id)).error is None

    async def test_only_a_running_job_has_a_phase(self, scene: Scene) -> None:
        with pytest.raises(Refused) as refused:
            await scene.state.set_phase(scene.job.number, Phase.LISTING)
        assert refused.value.kind == "wrong_state"
        assert (await scene.state.move_job(scene.job.number, JobStatus.PAUSED, phase=Phase.LISTING)).phase is None

    async def test_a_job_keeps_how_often_it_asks_for_one_item(self, scene: Scene) -> None:
        async def ask(attempts: int | None) -> Job:
            job, _ = await scene.state.create_job(
                scene.account,
                Strategy(),
                live=True,
                priority=2,
                requester=None,
                start=True,
                idempotency_key=None,
                attempts=attempts,
            )
            return job

        for attempts in (None, 1, 9):
            job = await ask(attempts)
            assert job.attempts == (await scene.state.job(job.id)).attempts == attempts

    async def test_every_field_of_a_strategy_is_kept(self, scene: Scene) -> None:
        strategy = Strategy(
            "search", ("Work",), ("*/Old",), "2026-01-31", "2026-02-01", "bo\udcffb@example.org", 'to"', "Grüße \x00 *"
        )
        job = await create(scene.state, scene.account, strategy=strategy)
        assert (await scene.state.job(job.id)).strategy == strategy

    # --- deleting jobs ---

    async def test_a_deleted_job_is_forgotten_and_what_was_told_of_it_is_not(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.store([1])
        told = await scene.state.events(0, job=scene.job.id)
        assert list(await scene.state.delete_job(scene.job.number)) == []
        with pytest.raises(Refused) as missing:
            await scene.state.job(scene.job.id)
        assert missing.value.kind == "not_found"
        assert list(await scene.state.jobs()) == []
        assert await scene.state.job_counts() == {}
        assert await scene.state.counters(scene.job.number) == Counters()
        assert list(await scene.state.items(scene.job.number)) == []
        *before, last = await scene.state.events(0, job=scene.job.id)
        assert before == told
        assert (last.kind, last.data) == ("job.deleted", {"status": "pending", "purged": 0})

    async def test_the_items_of_a_deleted_job_stay_and_the_same_job_skips_them(self, scene: Scene) -> None:
        await scene.list([1, 2, 3])
        await scene.store([1])
        await scene.set_back(2, final=True)
        stored, totals = await scene.item(1), await scene.state.account_totals(scene.account)
        progress = await scene.state.folder_progress(account=scene.account)
        await scene.state.delete_job(scene.job.number)
        assert await scene.state.account_totals(scene.account) == totals
        assert await scene.state.folder_progress(account=scene.account) == progress
        again = await create(scene.state, scene.account)
        assert await scene.state.want_known(again.number, scene.inbox.number) == 3
        assert await scene.state.counters(again.number) == Counters(total=3, failed=1, skipped=1)
        assert await scene.item(1, job=again) == stored

    async def test_deleting_a_job_changes_nothing_for_others(self, scene: Scene) -> None:
        other = await create(scene.state, scene.account)
        await scene.list([1, 2])
        await scene.list([1, 2, 3], job=other)
        await scene.store([1])
        await scene.store([2], job=other)
        counters, items = await scene.state.counters(other.number), await scene.state.items(other.number)
        await scene.state.delete_job(scene.job.number, purge=True)
        assert await scene.state.counters(other.number) == counters == Counters(total=3, downloaded=1, skipped=1, bytes=102)
        assert await scene.state.items(other.number) == items
        assert await scene.pending(other) == ["7.3"]

    async def test_a_job_that_does_not_exist_cannot_be_deleted(self, scene: Scene) -> None:
        await scene.state.delete_job(scene.job.number)
        with pytest.raises(Refused) as refused:
            await scene.state.delete_job(scene.job.number)
        assert refused.value.kind == "not_found"

    async def test_the_number_and_the_key_of_a_deleted_job_make_a_new_one(self, scene: Scene) -> None:
        async def ask() -> tuple[Job, bool]:
            return await scene.state.create_job(
                scene.account, Strategy(), live=True, priority=2, requester=None, start=True, idempotency_key="once"
            )

        first, _ = await ask()
        await scene.state.delete_job(first.number)
        second, new = await ask()
        assert new
        assert second.id != first.id
        assert second.number > first.number

    async def test_purging_gives_up_what_no_other_job_wants(self, scene: Scene) -> None:
        await scene.list([1, 2, 3, 4])
        await scene.store([1, 2])
        await scene.set_back(3, final=True)
        assert sorted(await scene.state.delete_job(scene.job.number, purge=True)) == ["INBOX/7.1", "INBOX/7.2"]
        [event] = await scene.told("job.deleted")
        assert event.data["purged"] == 2
        totals = await scene.state.account_totals(scene.account)
        assert (totals.items, totals.bytes) == (0, 0)
        [inbox, _] = await scene.state.folder_progress(account=scene.account)
        assert inbox.counters == Counters(total=4, failed=1)
        again = await create(scene.state, scene.account)
        await scene.state.want_known(again.number, scene.inbox.number)
        assert await scene.pending(again) == ["7.4", "7.2", "7.1"]
        item = await scene.item(1, job=again)
        assert (item.status, item.sha256, item.local_path, item.downloaded_at) == (ItemStatus.PENDING, None, None, None)
        assert (item.size, item.error, item.retry_count) == (101, None, 0)
        assert await scene.store([1], job=again) == Committed(1)
        assert await scene.state.counters(again.number) == Counters(total=4, downloaded=1, failed=1, bytes=101)

    @pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.CANCELLED, JobStatus.FAILED])
    async def test_what_another_job_wants_is_not_purged_whatever_became_of_that_job(
        self, scene: Scene, status: JobStatus
    ) -> None:
        other = await create(scene.state, scene.account)
        await scene.list([1, 2, 3])
        await scene.store([1, 2])
        await scene.state.want_keys(other.number, scene.inbox.number, "7", ["7.1"])
        if status is not JobStatus.PENDING:
            await scene.state.move_job(other.number, status)
        assert list(await scene.state.delete_job(scene.job.number, purge=True)) == ["INBOX/7.2"]
        assert (await scene.item(1, job=other)).local_path == "INBOX/7.1"
        assert list(await scene.state.delete_job(other.number, purge=True)) == ["INBOX/7.1"]

    async def test_what_is_purged_and_cannot_be_had_again_is_skipped_until_it_is_listed_again(
        self, scene: Scene, clock: SetClock
    ) -> None:
        await scene.list([1, 2])
        await scene.list([5], folder=scene.work)
        await scene.store([1, 2])
        in_work = Stored(await scene.number(5), placed(5, folder=b"Work"))
        await scene.state.record_group(scene.job.number, [in_work], ())
        await scene.list([], epoch="8")
        await scene.list([2], epoch="7")
        await scene.state.record_folders(scene.account, [INBOX])
        now = clock.pass_seconds(1)
        paths = await scene.state.delete_job(scene.job.number, purge=True)
        assert sorted(paths) == ["INBOX/7.1", "INBOX/7.2", "Work/7.5"]
        again = await create(scene.state, scene.account)
        await scene.state.want_keys(again.number, scene.inbox.number, "7", ["7.1", "7.2"])
        await scene.state.want_keys(again.number, scene.work.number, "7", ["7.5"])
        gone, there, lost = [await scene.item(uid, job=again) for uid in (1, 2, 5)]
        assert (there.status, there.removed_at) == (ItemStatus.PENDING, None)
        for item in (gone, lost):
            assert item.error is not None
            assert (item.status, item.error.kind, item.error.since) == (ItemStatus.SKIPPED, "gone", now)
            assert (item.local_path, item.removed_at is None) == (None, False)
        await scene.list([1, 2], job=again)
        assert await scene.pending(again) == ["7.2", "7.1"]

    async def test_what_is_purged_in_an_epoch_that_has_passed_does_not_wait(self, scene: Scene) -> None:
        await scene.list([1])
        await scene.store([1])
        await scene.list([], epoch="8")
        assert list(await scene.state.delete_job(scene.job.number, purge=True)) == ["INBOX/7.1"]
        [inbox, _] = await scene.state.folder_progress(account=scene.account)
        assert inbox.counters == Counters(total=1, skipped=1)

    async def test_what_is_purged_has_the_size_that_the_origin_says(self, scene: Scene) -> None:
        await scene.list([1])
        stored = Stored(await scene.number(1), placed(1, size=7), size_differs=True)
        await scene.state.record_group(scene.job.number, [stored], ())
        await scene.state.delete_job(scene.job.number, purge=True)
        again = await create(scene.state, scene.account)
        await scene.state.want_known(again.number, scene.inbox.number)
        [item] = await scene.state.pending(again.number, scene.inbox.number, below=None, limit=9)
        assert item.size == 101
        await scene.store([1], job=again)
        assert (await scene.state.counters(again.number)).bytes == 101

    async def test_the_files_of_conflicts_are_purged_with_their_item(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.store([1])
        await scene.state.record_group(scene.job.number, [Stored(await scene.number(1), other(1))], ())
        assert sorted(await scene.state.delete_job(scene.job.number, purge=True)) == ["INBOX/7.1", "INBOX/7.1.f"]
        [event] = await scene.told("job.deleted")
        assert event.data["purged"] == 1
        again = await create(scene.state, scene.account)
        await scene.state.want_known(again.number, scene.inbox.number)
        assert (await scene.item(1, job=again)).conflicts == ()

    async def test_a_file_that_another_stored_item_has_too_is_not_purged(self, scene: Scene) -> None:
        await scene.list([1, 2, 3])
        keeper = await create(scene.state, scene.account)
        await scene.state.want_keys(keeper.number, scene.inbox.number, "7", ["7.3"])
        numbers = [await scene.number(uid) for uid in (1, 2, 3)]
        paths = {1: "same", 2: "same", 3: "kept"}
        group = [
            Stored(number, structs.replace(placed(uid), sha256="a" * 64, size=5, path=paths[uid]))
            for number, uid in zip(numbers, (1, 2, 3), strict=True)
        ]
        await scene.state.record_group(scene.job.number, group, ())
        conflict = [
            Stored(numbers[0], structs.replace(other(1), path="kept")),
            Stored(numbers[2], structs.replace(other(3), path="beside")),
        ]
        await scene.state.record_group(scene.job.number, conflict, ())
        await scene.state.record_group(scene.job.number, [Stored(numbers[1], structs.replace(other(2), path="beside"))], ())
        assert list(await scene.state.delete_job(scene.job.number, purge=True)) == ["same"]
        assert sorted(await scene.state.delete_job(keeper.number, purge=True)) == ["beside", "kept"]

    async def test_what_a_deleted_job_had_under_way_is_stored_for_nobody(self, scene: Scene) -> None:
        await scene.list([1])
        group = [Stored(await scene.number(1), placed(1))]
        await scene.state.delete_job(scene.job.number)
        assert await scene.state.record_group(scene.job.number, group, ()) == Committed(1)
        assert (await scene.state.account_totals(scene.account)).bytes == 101

    # --- folders ---

    async def test_folders_come_in_fetching_order_and_keep_their_numbers(self, state: State) -> None:
        account = await state.account(IDENTITY, "ann", "imap")
        listed = [
            RemoteFolder(b"Trash", ("Trash",), FolderKind.TRASH),
            RemoteFolder(b"b", ("b",)),
            RemoteFolder(b"a&AOk-", ("a", "é"), selectable=False),
            INBOX,
        ]
        folders = await state.record_folders(account, listed)
        assert [folder.name for folder in folders] == ["INBOX", "a/é", "b", "Trash"]
        assert [folder.remote for folder in folders] == [listed[3], listed[2], listed[1], listed[0]]
        assert await state.record_folders(account, listed) == folders
        assert await state.folders(account) == folders

    async def test_two_raw_names_that_read_alike_are_two_folders(self, state: State) -> None:
        account = await state.account(IDENTITY, "ann", "imap")
        twins = [RemoteFolder(b"x", ("x",)), RemoteFolder(b"&AHg-", ("x",))]
        assert len({folder.number for folder in await state.record_folders(account, twins)}) == 2

    async def test_a_folder_that_is_listed_no_more_is_gone_and_what_was_not_stored_is_skipped(
        self, scene: Scene, clock: SetClock
    ) -> None:
        await scene.list([1, 2])
        await scene.store([1])
        now = clock.pass_seconds(1)
        assert [folder.name for folder in await scene.state.record_folders(scene.account, [WORK])] == ["Work"]
        gone, work = await scene.state.folders(scene.account)
        assert (gone.name, gone.gone_at, work.gone_at) == ("INBOX", now, None)
        assert [item.status for item in await scene.state.items(scene.job.number)] == [ItemStatus.COMPLETED, ItemStatus.SKIPPED]
        assert (await scene.state.counters(scene.job.number)).remaining == 0
        clock.pass_seconds(1)
        await scene.state.record_folders(scene.account, [WORK])
        assert (await scene.state.folders(scene.account))[0].gone_at == now

    async def test_a_folder_that_comes_back_is_listed_whole_and_wants_what_it_never_gave(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.store([1])
        await scene.state.record_folders(scene.account, [WORK])
        back, _ = await scene.state.record_folders(scene.account, [WORK, INBOX])
        assert (back.number, back.gone_at, back.cursor) == (scene.inbox.number, None, None)
        await scene.list([1, 2])
        assert await scene.pending() == ["7.2"]
        assert (await scene.item(1)).status is ItemStatus.COMPLETED

    async def test_a_folder_keeps_its_directory_and_says_why_it_cannot_be_read(self, scene: Scene) -> None:
        trouble = Trouble("folder", "It cannot be opened.", "Look at its rights.", since=3)
        await scene.state.set_directory(scene.inbox.number, "ann/INBOX")
        await scene.state.set_folder_error(scene.inbox.number, trouble)
        inbox, _ = await scene.state.folders(scene.account)
        assert (inbox.directory, inbox.error) == ("ann/INBOX", trouble)
        await scene.state.set_folder_error(scene.inbox.number, None)
        assert (await scene.state.folders(scene.account))[0].error is None

    async def test_P36_names_and_reasons_that_are_not_unicode_stop_nothing(self, scene: Scene) -> None:
        odd = RemoteFolder(b"\xff\x00odd", ("\ud800", "a\x00b", "\x1b[31m"))
        folder = (await scene.state.record_folders(scene.account, [INBOX, odd]))[1]
        assert folder.remote == odd
        await scene.state.begin_listing(folder.number, "7")
        flags = ("\\Seen", "\udcff", 'quo"te')
        await scene.state.record_page(folder.number, page([1], flags=flags), [scene.job.number])
        await scene.state.record_page(folder.number, page([2], skip="too \ud800 large"), [scene.job.number])
        await scene.state.record_page(folder.number, page([3]), [scene.job.number])
        first, second, third = await scene.state.items(scene.job.number, folder=folder.name)
        assert first.flags == flags
        assert second.error is not None
        assert "too" in second.error.message
        committed = await scene.state.record_group(
            scene.job.number, (), [Setback(third.number, "gone", "\udcff\x00", final=True)]
        )
        assert committed.refused == ()
        assert (await scene.item(3)).status is ItemStatus.FAILED

    # --- listings ---

    async def test_new_items_are_pending_and_wanted_and_what_is_excluded_is_skipped(
        self, scene: Scene, clock: SetClock
    ) -> None:
        await scene.state.begin_listing(scene.inbox.number, "7")
        listed = [
            RemoteItem("7.1", 1, 900, ("\\Seen", "$Work"), 123),
            RemoteItem("7.2", 2),
            RemoteItem("7.3", 3, 10**10, skip="It is larger than 1 GiB."),
        ]
        assert await scene.state.record_page(scene.inbox.number, Page("7", listed), [scene.job.number]) == 3
        assert await scene.state.record_page(scene.inbox.number, Page("7", listed), [scene.job.number]) == 0
        one, two, three = await scene.state.items(scene.job.number)
        assert [item.status for item in (one, two, three)] == [ItemStatus.PENDING, ItemStatus.PENDING, ItemStatus.SKIPPED]
        assert (one.key, one.size, one.flags, one.folder) == ("7.1", 900, ("\\Seen", "$Work"), "INBOX")
        assert (two.size, two.flags, two.error) == (None, (), None)
        assert three.error == Trouble("excluded", "It is larger than 1 GiB.", since=clock.now)
        assert await scene.state.counters(scene.job.number) == Counters(total=3, skipped=1)
        [first, _] = await scene.state.pending(scene.job.number, scene.inbox.number, below=3, limit=2)
        assert (first.key, first.ordinal, first.size, first.date, first.retry_count) == ("7.2", 2, None, None, 0)

    async def test_what_is_stored_failed_or_unknown_is_not_pending_any_more(self, scene: Scene) -> None:
        await scene.list([1, 2, 3, 4])
        numbers = {item.key: item.number for item in await scene.state.items(scene.job.number)}
        everything = {*numbers.values(), 10**9}
        assert await scene.state.still_pending(everything) == set(numbers.values())
        await scene.store([1])
        setbacks = [Setback(numbers["7.2"], "missing", "Left out."), Setback(numbers["7.3"], "gone", "Never.", final=True)]
        await scene.state.record_group(scene.job.number, (), setbacks)
        assert await scene.state.still_pending(everything) == {numbers["7.2"], numbers["7.4"]}
        assert await scene.state.still_pending({numbers["7.1"]}) == set()

    async def test_listing_a_folder_that_does_not_exist_is_refused(self, state: State) -> None:
        with pytest.raises(Refused) as refused:
            await state.begin_listing(99, "7")
        assert refused.value.kind == "not_found"

    async def test_P16_the_last_message_named_again_is_one_item(self, scene: Scene) -> None:
        await scene.state.begin_listing(scene.inbox.number, "7")
        assert await scene.state.record_page(scene.inbox.number, page([5, 5]), [scene.job.number]) == 1
        assert await scene.state.record_page(scene.inbox.number, page([5]), [scene.job.number]) == 0
        assert (await scene.state.counters(scene.job.number)).total == 1

    async def test_a_page_of_another_epoch_is_refused_whole(self, scene: Scene) -> None:
        with pytest.raises(StaleCursor):
            await scene.state.record_page(scene.inbox.number, page([1]), [scene.job.number])
        await scene.state.begin_listing(scene.inbox.number, "8")
        with pytest.raises(StaleCursor) as stale:
            await scene.state.record_page(scene.inbox.number, page([1]), [scene.job.number])
        assert stale.value.epoch == "8"
        with pytest.raises(StaleCursor):
            await scene.state.finish_listing(scene.inbox.number, Page("7", cursor=b"c", whole=True))
        assert await scene.state.items(scene.job.number) == []

    async def test_the_cursor_moves_only_with_a_finished_listing_which_is_told(self, scene: Scene, clock: SetClock) -> None:
        await scene.state.begin_listing(scene.inbox.number, "7")
        await scene.state.record_page(scene.inbox.number, page([1, 2]), [scene.job.number])
        inbox = (await scene.state.folders(scene.account))[0]
        assert (inbox.epoch, inbox.cursor, inbox.last_sync_at) == ("7", None, None)
        now = clock.pass_seconds(1)
        last = Page("7", remote([3]), cursor=b"\x00cursor", whole=True)
        await scene.state.record_page(scene.inbox.number, last, [scene.job.number])
        assert await scene.state.finish_listing(scene.inbox.number, last) == 0
        inbox = (await scene.state.folders(scene.account))[0]
        assert (inbox.cursor, inbox.last_sync_at) == (b"\x00cursor", now)
        [event] = await scene.told("folder.listed")
        assert (event.folder, event.data["new"], event.data["gone"]) == ("INBOX", 3, 0)

    async def test_how_new_the_newest_item_of_an_epoch_is_is_known_with_its_folder(self, scene: Scene) -> None:
        async def newest() -> int:
            return (await scene.state.folders(scene.account))[0].newest

        assert await newest() == 0
        await scene.list([3, 4_294_967_295, 7])
        assert await newest() == 4_294_967_295
        await scene.list([3])
        assert await newest() == 4_294_967_295, "what went was known once"
        await scene.list([5, 6], epoch="8")
        assert await newest() == 6
        await scene.state.record_page(scene.inbox.number, page([9], "8"), [scene.job.number])
        await scene.state.record_page(scene.inbox.number, page([], "8"), [scene.job.number])
        assert await newest() == 9

    async def test_a_page_is_wanted_by_the_jobs_that_are_still_there(self, scene: Scene) -> None:
        gone = await create(scene.state, scene.account)
        await scene.list([1])
        await scene.state.delete_job(gone.number)
        assert await scene.state.record_page(scene.inbox.number, page([2]), [gone.number, scene.job.number]) == 1
        assert (await scene.state.counters(scene.job.number)).total == 2
        assert await scene.state.check() == []

    async def test_a_short_listing_is_recorded_whole_or_not_at_all(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1, 2])
        now = clock.pass_seconds(1)
        pages = [page([2, 3]), Page("7", cursor=b"next", whole=True)]
        assert await scene.state.record_listing(scene.inbox.number, pages, [scene.job.number]) == (1, 1)
        inbox = (await scene.state.folders(scene.account))[0]
        assert (inbox.epoch, inbox.cursor, inbox.last_sync_at) == ("7", b"next", now)
        assert (await scene.item(1)).removed_at == now
        assert (await scene.item(3)).status is ItemStatus.PENDING
        assert [(event.data["new"], event.data["gone"]) for event in await scene.told("folder.listed")] == [(2, 0), (1, 1)]
        torn = [page([4]), replace(page([5]), epoch="8"), Page("7", cursor=b"last", whole=True)]
        with pytest.raises(StaleCursor):
            await scene.state.record_listing(scene.inbox.number, torn, [scene.job.number])
        assert (await scene.state.folders(scene.account))[0] == inbox
        assert await scene.list([2, 3]) == 0

    async def test_folders_that_are_proven_unchanged_only_say_when_that_was(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1, 2])
        before = await scene.state.folders(scene.account)
        events = await scene.told("folder.listed")
        now = clock.pass_seconds(1)
        await scene.state.set_unchanged([scene.inbox.number])
        inbox, work = await scene.state.folders(scene.account)
        assert inbox == replace(before[0], last_sync_at=now)
        assert work == before[1]
        assert await scene.told("folder.listed") == events

    async def test_P17_only_a_whole_listing_that_does_not_name_an_item_makes_it_gone(
        self, scene: Scene, clock: SetClock
    ) -> None:
        await scene.list([1, 2, 3, 4])
        await scene.store([1])
        await scene.set_back(3, final=True)
        await scene.state.begin_listing(scene.inbox.number, "7")
        assert await scene.state.finish_listing(scene.inbox.number, Page("7", cursor=b"same")) == 0
        assert (await scene.item(2)).removed_at is None
        now = clock.pass_seconds(1)
        assert await scene.list([4]) == 3
        stored, pending, failed, named = [await scene.item(uid) for uid in (1, 2, 3, 4)]
        assert (stored.status, stored.removed_at, stored.local_path) == (ItemStatus.COMPLETED, now, "INBOX/7.1")
        for item in (pending, failed):
            assert item.error is not None
            assert (item.status, item.error.kind, item.removed_at) == (ItemStatus.SKIPPED, "gone", now)
        assert (named.status, named.removed_at) == (ItemStatus.PENDING, None)
        assert await scene.list([4]) == 0
        assert await scene.state.counters(scene.job.number) == Counters(total=4, downloaded=1, skipped=2, bytes=101)

    async def test_P17_a_listing_that_broke_off_names_nothing_for_the_next_one(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.state.begin_listing(scene.inbox.number, "7")
        await scene.state.record_page(scene.inbox.number, page([1, 2]), [scene.job.number])
        assert await scene.list([2]) == 1
        assert (await scene.item(1)).removed_at is not None

    async def test_P17_a_listing_that_was_not_begun_cannot_be_finished(self, scene: Scene) -> None:
        await scene.list([1, 2])
        with pytest.raises(StaleCursor):
            await scene.state.finish_listing(scene.inbox.number, Page("7", cursor=b"c", whole=True))
        assert (await scene.item(1)).removed_at is None

    async def test_two_folders_are_listed_side_by_side(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.list([1, 2], folder=scene.work)
        for folder in (scene.inbox, scene.work):
            await scene.state.begin_listing(folder.number, "7")
        for folder, uid in ((scene.inbox, 1), (scene.work, 2)):
            await scene.state.record_page(folder.number, page([uid]), [scene.job.number])
        for folder in (scene.inbox, scene.work):
            assert await scene.state.finish_listing(folder.number, Page("7", cursor=b"c", whole=True)) == 1

    async def test_an_item_that_is_listed_again_is_no_longer_removed(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.store([1])
        await scene.list([])
        await scene.list([1, 2])
        stored, unstored = await scene.item(1), await scene.item(2)
        assert (stored.status, stored.removed_at) == (ItemStatus.COMPLETED, None)
        assert (unstored.status, unstored.removed_at, unstored.error) == (ItemStatus.PENDING, None, None)
        assert (await scene.state.counters(scene.job.number)).remaining == 1

    async def test_a_listing_brings_flags_up_to_date_and_never_the_size_of_what_is_stored(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.store([1])
        await scene.state.begin_listing(scene.inbox.number, "7")
        await scene.state.record_page(scene.inbox.number, page([1, 2], flags=("\\Seen",), size=5), [scene.job.number])
        one, two = await scene.item(1), await scene.item(2)
        assert (one.flags, one.size) == (("\\Seen",), 101)
        assert (two.flags, two.size) == (("\\Seen",), 5)

    async def test_what_is_excluded_later_is_skipped_and_what_is_no_longer_excluded_is_wanted(self, scene: Scene) -> None:
        await scene.list([1, 2, 3])
        await scene.store([1])
        await scene.set_back(3, final=True, skip=True)

        async def list_with(skip: str | None) -> list[ItemStatus]:
            await scene.state.begin_listing(scene.inbox.number, "7")
            await scene.state.record_page(scene.inbox.number, page([1, 2, 3], skip=skip), [scene.job.number])
            return [item.status for item in await scene.state.items(scene.job.number)]

        assert await list_with("too large") == [ItemStatus.COMPLETED, ItemStatus.SKIPPED, ItemStatus.SKIPPED]
        assert await list_with(None) == [ItemStatus.COMPLETED, ItemStatus.PENDING, ItemStatus.SKIPPED]

    async def test_a_new_epoch_closes_the_old_one_and_keeps_what_is_stored(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1, 2, 3])
        await scene.store([1])
        await scene.set_back(3, final=True)
        now = clock.pass_seconds(1)
        await scene.state.begin_listing(scene.inbox.number, "8")
        inbox = (await scene.state.folders(scene.account))[0]
        assert (inbox.epoch, inbox.cursor) == ("8", None)
        stored = await scene.item(1)
        assert (stored.status, stored.removed_at, stored.local_path) == (ItemStatus.COMPLETED, now, "INBOX/7.1")
        for item in (await scene.item(2), await scene.item(3)):
            assert item.error is not None
            assert (item.status, item.error.kind) == (ItemStatus.SKIPPED, "epoch")
        await scene.state.record_page(scene.inbox.number, page([1, 2], "8"), [scene.job.number])
        assert await scene.pending() == ["8.2", "8.1"]
        assert (await scene.state.counters(scene.job.number)).remaining == 2

    async def test_an_epoch_that_comes_back_has_its_items_again(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.store([1])
        await scene.list([9], epoch="8")
        await scene.list([1, 2])
        assert (await scene.item(1)).removed_at is None
        assert await scene.pending() == ["7.2"]

    async def test_a_job_wants_what_is_known_once_and_not_what_is_gone(self, scene: Scene) -> None:
        await scene.list([1, 2, 3, 4])
        await scene.store([1])
        await scene.set_back(2, final=True)
        await scene.list([1, 2, 3])
        late = await create(scene.state, scene.account)
        assert await scene.state.want_known(late.number, scene.inbox.number) == 3
        assert await scene.state.want_known(late.number, scene.inbox.number) == 0
        assert await scene.state.counters(late.number) == Counters(total=3, failed=1, skipped=1)
        await scene.state.begin_listing(scene.inbox.number, "8")
        later = await create(scene.state, scene.account)
        assert await scene.state.want_known(later.number, scene.inbox.number) == 0

    async def test_a_job_wants_what_was_listed_within_its_dates(self, scene: Scene) -> None:
        listed = dated(NOON - 1, NOON, NOON + 9, NOON + 10, None)
        await scene.state.begin_listing(scene.inbox.number, "7")
        number, dates = scene.job.number, Dates(NOON, NOON + 10)
        assert await scene.state.record_page(scene.inbox.number, listed, [number], dates) == 5
        assert await scene.pending() == ["7.3", "7.2"]
        assert await scene.state.record_page(scene.inbox.number, listed, [number], Dates(since=NOON + 10)) == 0
        assert await scene.pending() == ["7.4", "7.3", "7.2"]
        await scene.state.record_page(scene.inbox.number, listed, [number], Dates(before=NOON))
        assert await scene.pending() == ["7.4", "7.3", "7.2", "7.1"]
        await scene.state.record_page(scene.inbox.number, listed, [number])
        assert len(await scene.pending()) == 5

    async def test_a_date_that_a_later_listing_leaves_out_still_counts(self, scene: Scene) -> None:
        await scene.state.begin_listing(scene.inbox.number, "7")
        await scene.state.record_page(scene.inbox.number, dated(NOON), [])
        await scene.state.record_page(scene.inbox.number, dated(None), [scene.job.number], Dates(since=NOON))
        assert await scene.pending() == ["7.1"]

    async def test_a_job_wants_what_is_known_within_its_dates(self, scene: Scene) -> None:
        await scene.state.begin_listing(scene.inbox.number, "7")
        await scene.state.record_page(scene.inbox.number, dated(NOON - 1, NOON, NOON + 9, NOON + 10, None), [])
        want_known, number = scene.state.want_known, scene.job.number
        assert await want_known(number, scene.inbox.number, Dates(NOON, NOON + 10)) == 2
        assert await scene.pending() == ["7.3", "7.2"]
        assert await want_known(number, scene.inbox.number, Dates(NOON, NOON + 10)) == 0
        assert await want_known(number, scene.inbox.number, Dates(before=NOON + 1)) == 1
        assert await want_known(number, scene.inbox.number, Dates(since=NOON + 1)) == 1
        assert await want_known(number, scene.inbox.number) == 1

    async def test_a_job_wants_the_keys_it_names_as_far_as_they_are_known(self, scene: Scene) -> None:
        await scene.list([1, 2, 3, 4])
        await scene.list([1], folder=scene.work)
        await scene.store([1])
        other = await create(scene.state, scene.account)
        want_keys, inbox = scene.state.want_keys, scene.inbox.number
        assert await want_keys(other.number, inbox, "7", ["7.1", "7.3", "7.3", "7.99", "8.1", ""]) == 2
        assert await want_keys(other.number, inbox, "7", ["7.4", "7.3"]) == 1
        assert await want_keys(other.number, inbox, "7", []) == 0
        assert await scene.pending(other) == ["7.4", "7.3"]
        assert await scene.state.counters(other.number) == Counters(total=3, skipped=1)
        assert {item.folder for item in await scene.state.items(other.number)} == {"INBOX"}

    async def test_keys_of_another_epoch_are_refused(self, scene: Scene) -> None:
        await scene.list([1])
        await scene.list([1], epoch="8")
        other = await create(scene.state, scene.account)
        with pytest.raises(StaleCursor) as stale:
            await scene.state.want_keys(other.number, scene.inbox.number, "7", ["7.1", "8.1"])
        assert stale.value.epoch == "8"
        assert await scene.state.counters(other.number) == Counters()

    async def test_a_preview_tells_what_a_job_would_find_and_changes_nothing(self, scene: Scene) -> None:
        await scene.state.begin_listing(scene.inbox.number, "7")
        listed = dated(NOON - 1, NOON, NOON + 1, NOON + 2, None)
        await scene.state.record_page(scene.inbox.number, listed, [scene.job.number])
        await scene.store([2])
        await scene.set_back(3, final=True)
        preview, inbox = scene.state.preview, scene.inbox.number
        events, counters = await scene.state.event_span(), await scene.state.counters(scene.job.number)
        assert await preview(inbox) == Preview(items=3, bytes=101 + 104 + 105, stored=1)
        assert await preview(inbox, Dates(NOON, NOON + 2)) == Preview(items=0, bytes=0, stored=1)
        assert await preview(inbox, Dates(since=NOON + 2)) == Preview(items=1, bytes=104, stored=0)
        assert await preview(inbox, keys=["7.1", "7.1", "7.2", "7.99"]) == Preview(items=1, bytes=101, stored=1)
        assert await preview(inbox, Dates(before=NOON), keys=["7.1", "7.2"]) == Preview(items=1, bytes=101, stored=0)
        assert await preview(inbox, keys=[]) == Preview(items=0, bytes=0, stored=0)
        assert await scene.state.event_span() == events
        assert await scene.state.counters(scene.job.number) == counters

    async def test_a_preview_leaves_out_what_the_origin_has_no_more(self, scene: Scene) -> None:
        assert await scene.state.preview(scene.inbox.number) == Preview(items=0, bytes=0, stored=0)
        await scene.list([1, 2, 3])
        await scene.store([1, 2])
        await scene.list([2])
        assert await scene.state.preview(scene.inbox.number) == Preview(items=0, bytes=0, stored=1)
        await scene.list([5], epoch="8")
        assert await scene.state.preview(scene.inbox.number) == Preview(items=1, bytes=105, stored=0)
        with pytest.raises(Refused) as refused:
            await scene.state.preview(99)
        assert refused.value.kind == "not_found"

    async def test_a_preview_does_not_count_sizes_that_the_origin_did_not_say(self, scene: Scene) -> None:
        await scene.state.begin_listing(scene.inbox.number, "7")
        await scene.state.record_page(scene.inbox.number, page([1, 2], size=None), [])
        assert await scene.state.preview(scene.inbox.number) == Preview(items=2, bytes=0, stored=0)

    async def test_P10_a_preview_of_more_bytes_than_can_be_counted_says_as_many_as_can(self, scene: Scene) -> None:
        await scene.state.begin_listing(scene.inbox.number, "7")
        await scene.state.record_page(scene.inbox.number, page([1, 2], size=2**63 - 1), [])
        preview = scene.state.preview
        assert await preview(scene.inbox.number) == Preview(items=2, bytes=2**63 - 1, stored=0)
        assert await preview(scene.inbox.number, keys=["7.1", "7.2"]) == Preview(items=2, bytes=2**63 - 1, stored=0)

    # --- downloading ---

    async def test_pending_items_come_newest_first_below_a_mark(self, scene: Scene) -> None:
        await scene.list(range(1, 8))
        await scene.store([6])
        first = await scene.state.pending(scene.job.number, scene.inbox.number, below=None, limit=3)
        assert [item.ordinal for item in first] == [7, 5, 4]
        rest = await scene.state.pending(scene.job.number, scene.inbox.number, below=4, limit=9)
        assert [item.ordinal for item in rest] == [3, 2, 1]
        assert await scene.state.pending(scene.job.number, scene.work.number, below=None, limit=9) == []

    async def test_only_what_the_job_wants_is_pending_for_it(self, scene: Scene) -> None:
        await scene.list([1])
        other = await create(scene.state, scene.account)
        await scene.list([1, 2], job=other)
        assert await scene.pending() == ["7.1"]
        assert await scene.pending(other) == ["7.2", "7.1"]

    async def test_nothing_waits_for_its_time_when_nothing_was_put_off(self, scene: Scene) -> None:
        await scene.list([1])
        await scene.set_back(1)
        assert await scene.state.next_retry(scene.job.number) is None

    async def test_a_group_is_stored_counted_and_told_together(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1, 2, 3])
        now = clock.pass_seconds(1)
        assert await scene.store([1, 3]) == Committed(2)
        item = await scene.item(3)
        assert (item.status, item.sha256, item.local_path) == (ItemStatus.COMPLETED, f"{3:064x}", "INBOX/7.3")
        assert (item.downloaded_at, item.error, item.size) == (now, None, 103)
        assert await scene.state.counters(scene.job.number) == Counters(total=3, downloaded=2, bytes=204)
        [event] = await scene.told("item.stored")
        assert (event.job, event.folder, event.time) == (scene.job.id, "INBOX", now)
        assert event.data == {"count": 2, "bytes": 204, "items": [await scene.number(1), item.number]}

    async def test_a_group_over_two_folders_is_told_by_folder_and_names_few_of_many(self, scene: Scene) -> None:
        await scene.list(range(1, 101))
        await scene.list([1], folder=scene.work)
        items = await scene.state.items(scene.job.number)
        folders = {"INBOX": b"INBOX", "Work": b"Work"}
        everything = await scene.state.items(scene.job.number, limit=1000)
        assert len(everything) == 101
        assert len(items) == 100
        group = [Stored(item.number, placed(int(item.key[2:]), folder=folders[item.folder])) for item in everything]
        assert (await scene.state.record_group(scene.job.number, group, ())).stored == 101
        inbox, work = sorted(await scene.told("item.stored"), key=lambda event: str(event.folder))
        assert (inbox.folder, inbox.data["count"], work.folder, work.data["count"]) == ("INBOX", 100, "Work", 1)
        named = inbox.data["items"]
        assert isinstance(named, list)
        assert len(named) < 100

    async def test_an_empty_group_tells_nothing(self, scene: Scene) -> None:
        before = (await scene.state.event_span())[1]
        assert await scene.state.record_group(scene.job.number, (), ()) == Committed(0)
        assert (await scene.state.event_span())[1] == before

    async def test_an_item_that_two_jobs_want_is_fetched_once_and_skipped_by_the_other(self, scene: Scene) -> None:
        await scene.list([1, 2])
        other = await create(scene.state, scene.account)
        await scene.state.want_known(other.number, scene.inbox.number)
        await scene.store([1])
        assert await scene.state.counters(scene.job.number) == Counters(total=2, downloaded=1, bytes=101)
        assert await scene.state.counters(other.number) == Counters(total=2, skipped=1)
        assert await scene.pending(other) == ["7.2"]
        assert [item.key for item in await scene.state.items(other.number, status=ItemStatus.COMPLETED)] == ["7.1"]

    async def test_what_no_job_fetched_is_skipped_by_all(self, scene: Scene) -> None:
        await scene.list([1])
        await scene.state.record_group(None, [Stored(await scene.number(1), placed(1))], ())
        assert await scene.state.counters(scene.job.number) == Counters(total=1, skipped=1)
        assert (await scene.told("item.stored"))[0].job is None

    async def test_what_is_stored_already_is_left_alone(self, scene: Scene) -> None:
        await scene.list([1, 2])
        number = await scene.number(1)
        await scene.store([1])
        before = await scene.item(1)
        again = Stored(number, structs.replace(placed(1), path="elsewhere", size=5))
        setback = Setback(number, "missing", "?", final=True)
        assert await scene.state.record_group(scene.job.number, [again], [setback]) == Committed(0)
        assert await scene.item(1) == before

    async def test_an_item_twice_in_a_group_is_stored_once(self, scene: Scene) -> None:
        await scene.list([1])
        number = await scene.number(1)
        stored = Stored(number, placed(1))
        setback = Setback(number, "missing", "?", final=True)
        assert await scene.state.record_group(scene.job.number, [stored, stored], [setback]) == Committed(1)
        assert (await scene.item(1)).status is ItemStatus.COMPLETED

    async def test_rows_of_another_epoch_and_unknown_ones_are_refused_and_the_rest_is_stored(self, scene: Scene) -> None:
        await scene.list([1, 2, 3])
        await scene.store([3])
        old, kept = await scene.number(1), await scene.number(3)
        await scene.list([1], epoch="8")
        new = await scene.number(1, "8")
        group = [
            Stored(old, placed(1)),
            Stored(kept, placed(3)),
            Stored(new, placed(1, "8")),
            Stored(9999, placed(4)),
        ]
        setbacks = [Setback(await scene.number(2), "missing", "?", final=True), Setback(8888, "missing", "?")]
        committed = await scene.state.record_group(scene.job.number, group, setbacks)
        assert committed.stored == 1
        assert sorted(committed.refused) == sorted([old, await scene.number(2), 8888, 9999])
        assert (await scene.item(1)).status is ItemStatus.SKIPPED
        assert (await scene.item(3)).status is ItemStatus.COMPLETED

    async def test_bytes_filed_under_another_key_are_refused(self, scene: Scene) -> None:
        await scene.list([1, 2])
        number = await scene.number(1)
        committed = await scene.state.record_group(scene.job.number, [Stored(number, placed(2))], ())
        assert committed == Committed(0, (number,))
        assert await scene.pending() == ["7.2", "7.1"]

    async def test_the_true_size_counts_and_new_flags_are_kept(self, scene: Scene) -> None:
        await scene.list([1])
        stored = Stored(await scene.number(1), placed(1, size=7), flags=("\\Flagged",), size_differs=True)
        await scene.state.record_group(scene.job.number, [stored], ())
        item = await scene.item(1)
        assert (item.size, item.flags) == (7, ("\\Flagged",))
        assert (await scene.state.counters(scene.job.number)).bytes == 7

    async def test_P2_a_setback_costs_an_attempt_and_the_item_stays_pending(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1])
        since = clock.pass_seconds(1)
        await scene.set_back(1)
        clock.pass_seconds(1)
        await scene.set_back(1)
        await scene.set_back(1, attempt=False)
        item = await scene.item(1)
        assert (item.status, item.retry_count) == (ItemStatus.PENDING, 2)
        assert item.error == Trouble("missing", "The answer left it out.", since=since)
        assert await scene.pending() == ["7.1"]
        assert await scene.told("item.failed") == []

    async def test_P2_a_final_setback_makes_it_failed_visibly(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1, 2])
        await scene.set_back(1)
        now = clock.pass_seconds(1)
        await scene.set_back(1, final=True)
        item = await scene.item(1)
        assert (item.status, item.retry_count, item.error) == (
            ItemStatus.FAILED,
            2,
            Trouble("missing", "The answer left it out.", since=now),
        )
        assert await scene.pending() == ["7.2"]
        assert await scene.state.counters(scene.job.number) == Counters(total=2, failed=1)
        [event] = await scene.told("item.failed")
        assert (event.job, event.folder) == (scene.job.id, "INBOX")
        assert event.data == {"count": 1, "kinds": ["missing"], "items": [item.number]}

    async def test_a_final_setback_that_skips_keeps_its_reason(self, scene: Scene) -> None:
        await scene.list([1])
        await scene.set_back(1, final=True, skip=True)
        item = await scene.item(1)
        assert item.error is not None
        assert (item.status, item.error.message) == (ItemStatus.SKIPPED, "The answer left it out.")
        assert await scene.state.counters(scene.job.number) == Counters(total=1, skipped=1)
        assert await scene.told("item.failed") == []

    async def test_P2_failed_items_are_asked_for_again_with_fresh_attempts(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1, 2, 3])
        await scene.set_back(1, final=True)
        noon = clock.pass_seconds(60)
        await scene.set_back(2, final=True)
        assert await scene.state.retry_failed(scene.job.number, before=noon) == 1
        assert await scene.pending() == ["7.3", "7.1"]
        assert await scene.state.retry_failed(scene.job.number) == 1
        assert [(i.retry_count, i.error) for i in await scene.state.items(scene.job.number)] == [(0, None)] * 3
        assert await scene.state.counters(scene.job.number) == Counters(total=3)
        assert await scene.state.retry_failed(scene.job.number) == 0

    async def test_a_job_asks_again_only_for_what_it_wants(self, scene: Scene) -> None:
        await scene.list([1])
        await scene.set_back(1, final=True)
        other = await create(scene.state, scene.account)
        assert await scene.state.retry_failed(other.number) == 0

    async def test_P2_only_the_failed_items_that_are_named_are_asked_for_again(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1, 2, 3])
        for uid in (1, 2, 3):
            await scene.set_back(uid, final=True)
        one, two = await scene.number(1), await scene.number(2)
        assert await scene.state.retry_failed(scene.job.number, items=[]) == 0
        assert await scene.state.retry_failed(scene.job.number, before=clock.now, items=[one]) == 0
        assert await scene.state.retry_failed(scene.job.number, items=[two, one, two]) == 2
        assert await scene.pending() == ["7.2", "7.1"]
        assert await scene.state.counters(scene.job.number) == Counters(total=3, failed=1)

    async def test_an_item_that_has_not_failed_or_is_not_wanted_is_not_asked_for_again(self, scene: Scene) -> None:
        await scene.list([1, 2, 3])
        await scene.store([2])
        await scene.set_back(1, final=True)
        other = await create(scene.state, scene.account)
        await scene.list([1, 2, 3, 4], job=other)
        unwanted = await scene.number(4, job=other)
        await scene.state.record_group(other.number, (), [Setback(unwanted, "missing", "?", final=True)])
        failed, stored, waiting = [await scene.number(uid) for uid in (1, 2, 3)]
        for wrong, said in ((stored, "completed"), (waiting, "pending"), (unwanted, scene.job.id), (9999, scene.job.id)):
            with pytest.raises(Refused, match=rf"\b{wrong}\b.*{said}") as refused:
                await scene.state.retry_failed(scene.job.number, items=[failed, wrong])
            assert refused.value.kind == "wrong_state"
        assert (await scene.item(1)).status is ItemStatus.FAILED

    async def test_an_item_that_failed_and_came_after_all_is_downloaded(self, scene: Scene) -> None:
        await scene.list([1])
        await scene.set_back(1, final=True)
        await scene.store([1])
        item = await scene.item(1)
        assert (item.status, item.error) == (ItemStatus.COMPLETED, None)
        assert await scene.state.counters(scene.job.number) == Counters(total=1, downloaded=1, bytes=101)

    async def test_what_a_store_reports_is_adopted_once_by_all_that_want_it(self, scene: Scene) -> None:
        await scene.list([1, 2])
        other = await create(scene.state, scene.account)
        await scene.state.want_known(other.number, scene.inbox.number)
        strangers = [
            structs.replace(placed(2), identity="imap:example.org:bob"),
            structs.replace(placed(2), folder=b"Work"),
            placed(2, "8"),
            placed(77),
        ]
        assert await scene.state.adopt([placed(1), *strangers]) == 1
        assert await scene.state.adopt([placed(1)]) == 0
        item = await scene.item(1)
        assert (item.status, item.local_path, item.sha256) == (ItemStatus.COMPLETED, "INBOX/7.1", f"{1:064x}")
        for job in (scene.job, other):
            assert await scene.state.counters(job.number) == Counters(total=2, downloaded=1, bytes=101)
        [event] = await scene.told("item.stored")
        assert (event.job, event.folder, event.data["count"]) == (None, "INBOX", 1)

    # --- conflicts ---

    async def test_P39_other_bytes_for_what_is_stored_are_a_conflict_and_the_first_stay(
        self, scene: Scene, clock: SetClock
    ) -> None:
        await scene.list([1, 2])
        await scene.store([1, 2])
        before = await scene.item(1)
        seen = clock.pass_seconds(1)
        stored = [Stored(before.number, other(1)), Stored(await scene.number(2), placed(2))]
        for _ in range(2):
            assert await scene.state.record_group(scene.job.number, stored, ()) == Committed(0)
            clock.pass_seconds(1)
        assert await scene.item(1) == replace(before, conflicts=(Conflict("f" * 64, 999, "INBOX/7.1.f", seen),))
        assert (await scene.item(2)).conflicts == ()
        [event] = await scene.told("item.conflict")
        assert (event.job, event.folder, event.time) == (scene.job.id, "INBOX", seen)
        assert event.data == {"item": before.number, "sha256": "f" * 64, "path": "INBOX/7.1.f"}
        assert await scene.state.counters(scene.job.number) == Counters(total=2, downloaded=2, bytes=203)

    async def test_P20_of_two_bodies_in_one_group_the_first_is_the_item_and_the_second_a_conflict(self, scene: Scene) -> None:
        await scene.list([1, 2])
        one, two = await scene.number(1), await scene.number(2)
        group = [
            Stored(one, placed(1)),
            Stored(two, other(2)),
            Stored(one, other(1)),
            Stored(one, other(1, "e")),
            Stored(one, placed(1)),
            Stored(two, other(2)),
            Stored(two, structs.replace(other(2, "d"), key="7.1")),
        ]
        assert await scene.state.record_group(scene.job.number, group, ()) == Committed(2)
        item = await scene.item(1)
        assert (item.status, item.local_path, item.sha256) == (ItemStatus.COMPLETED, "INBOX/7.1", f"{1:064x}")
        assert [conflict.path for conflict in item.conflicts] == ["INBOX/7.1.e", "INBOX/7.1.f"]
        assert (await scene.item(2)).conflicts == ()
        assert len(await scene.told("item.conflict")) == 2

    async def test_P20_a_conflict_is_adopted_as_one(self, scene: Scene) -> None:
        await scene.list([1])
        assert await scene.state.adopt([placed(1), other(1)]) == 1
        assert await scene.state.adopt([placed(1), other(1)]) == 0
        item = await scene.item(1)
        assert (item.local_path, [conflict.path for conflict in item.conflicts]) == ("INBOX/7.1", ["INBOX/7.1.f"])
        assert len(await scene.told("item.conflict")) == 1

    async def test_bytes_of_which_half_the_hash_is_known_are_compared_by_that_half(self, scene: Scene) -> None:
        await scene.state.restore("imap", INBOX_PLACE, found([1]))
        await scene.list([1])
        number = await scene.number(1)
        await scene.state.record_group(scene.job.number, [Stored(number, structs.replace(placed(1), path="again"))], ())
        assert (await scene.item(1)).conflicts == ()
        await scene.state.record_group(scene.job.number, [Stored(number, other(1))], ())
        half = structs.replace(other(1), sha256="f" * 32)
        await scene.state.record_group(scene.job.number, [Stored(number, half)], ())
        assert [conflict.path for conflict in (await scene.item(1)).conflicts] == ["INBOX/7.1.f"]

    async def test_P39_what_comes_again_with_other_bytes_makes_the_old_ones_a_conflict(
        self, scene: Scene, clock: SetClock
    ) -> None:
        await scene.list([1, 2])
        await scene.store([1, 2])
        await scene.give_up(1)
        await scene.give_up(2)
        seen = clock.pass_seconds(1)
        group = [Stored(await scene.number(1), other(1)), Stored(await scene.number(2), placed(2))]
        assert await scene.state.record_group(scene.job.number, group, ()) == Committed(2)
        item = await scene.item(1)
        assert (item.sha256, item.local_path) == ("f" * 64, "INBOX/7.1.f")
        assert item.conflicts == (Conflict(f"{1:064x}", 101, "INBOX/7.1", seen),)
        assert (await scene.item(2)).conflicts == ()
        assert [event.data["item"] for event in await scene.told("item.conflict")] == [item.number]
        assert await scene.state.counters(scene.job.number) == Counters(total=2, downloaded=2, bytes=999 + 102)

    async def test_P39_a_conflict_whose_bytes_come_again_as_the_item_is_one_no_more(self, scene: Scene) -> None:
        await scene.list([1])
        number = await scene.number(1)
        await scene.state.record_group(None, [Stored(number, placed(1)), Stored(number, other(1))], ())
        await scene.give_up(1)
        await scene.state.record_group(None, [Stored(number, other(1))], ())
        item = await scene.item(1)
        assert (item.local_path, [conflict.path for conflict in item.conflicts]) == ("INBOX/7.1.f", ["INBOX/7.1"])

    # --- restoring ---

    async def test_a_new_ledger_is_not_reconciled_until_somebody_says_so(self, state: State) -> None:
        assert not await state.reconciled()
        await state.account(IDENTITY, "ann", "imap")
        assert not await state.reconciled()
        await state.set_reconciled()
        assert await state.reconciled()

    async def test_L10_what_the_store_holds_is_restored_into_an_empty_ledger(self, state: State, clock: SetClock) -> None:
        stranger = Found("INBOX/somebody", 7)
        files = [*found([1], flags=("\\Seen",), date=5), stranger, *found([9], "8")]
        assert await state.restore("imap", INBOX_PLACE, files) == 2
        assert await state.restore("imap", INBOX_PLACE, files) == 0
        account = await state.account(IDENTITY, "renamed", "imap")
        [inbox] = await state.folders(account)
        assert (inbox.remote, inbox.directory, inbox.epoch, inbox.cursor) == (INBOX, "INBOX", None, None)
        assert (await state.account_totals(account)).bytes == 101 + 109
        job = await create(state, account)
        await state.record_folders(account, [INBOX])
        scene = Scene(state, account, job, inbox, inbox)
        await scene.list([1, 2])
        item = await scene.item(1)
        assert (item.status, item.size, item.local_path) == (ItemStatus.COMPLETED, 101, "INBOX/7.1")
        assert (item.sha256, item.downloaded_at) == (f"{1:064x}"[:32], clock.now)
        assert await scene.pending() == ["7.2"]
        assert await state.counters(job.number) == Counters(total=2, skipped=1)
        stored = await scene.stored()
        assert (stored["7.1"].there, stored["8.9"].there) == (True, False)

    async def test_flags_and_date_of_what_is_restored_are_those_of_its_file(self, scene: Scene) -> None:
        await scene.list([])
        assert await scene.state.restore("imap", INBOX_PLACE, found([1], flags=("\\Seen",), date=NOON)) == 1
        await scene.state.want_keys(scene.job.number, scene.inbox.number, "7", ["7.1"])
        assert (await scene.item(1)).flags == ("\\Seen",)
        assert (await scene.state.preview(scene.inbox.number, Dates(since=NOON))).stored == 1
        assert (await scene.state.preview(scene.inbox.number, Dates(since=NOON + 1))).stored == 0

    async def test_what_waits_or_has_failed_is_completed_by_the_file_that_is_there(self, scene: Scene) -> None:
        await scene.list([1, 2, 3, 4, 5])
        await scene.store([1])
        await scene.set_back(2, final=True)
        await scene.set_back(3, final=True, skip=True)
        stored = await scene.item(1)
        assert await scene.state.restore("imap", INBOX_PLACE, found([1, 2, 3, 4])) == 3
        assert await scene.item(1) == stored
        assert await scene.pending() == ["7.5"]
        assert [(await scene.item(uid)).error for uid in (2, 3, 4)] == [None] * 3
        assert await scene.state.counters(scene.job.number) == Counters(total=5, downloaded=1, skipped=3, bytes=101)

    async def test_what_is_restored_is_listed_anew_and_gets_its_age(self, scene: Scene) -> None:
        await scene.list([3])
        await scene.state.restore("imap", INBOX_PLACE, found([1, 2]))
        inbox = next(folder for folder in await scene.state.folders(scene.account) if folder.number == scene.inbox.number)
        assert (inbox.epoch, inbox.cursor) == ("7", None)
        assert await scene.list([2, 3]) == 1
        await scene.give_up(2)
        pending = await scene.state.pending(scene.job.number, scene.inbox.number, below=None, limit=9)
        assert [item.ordinal for item in pending] == [3, 2]
        assert not (await scene.stored())["7.1"].there

    async def test_what_is_restored_of_a_passed_epoch_stays_and_is_gone_from_the_origin(self, scene: Scene) -> None:
        await scene.list([1], epoch="8")
        await scene.state.restore("imap", INBOX_PLACE, [*found([1], "7"), *found([1], "8")])
        stored = await scene.stored()
        assert (stored["7.1"].there, stored["8.1"].there) == (False, True)
        assert await scene.state.preview(scene.inbox.number) == Preview(0, 0, 1)

    async def test_what_was_restored_before_a_folder_is_listed_is_gone_with_every_epoch_but_the_first_listed(
        self, state: State
    ) -> None:
        await state.restore("imap", INBOX_PLACE, [*found([1], "7"), *found([1], "8")])
        account = await state.account(IDENTITY, "ann", "imap")
        [inbox] = await state.folders(account)
        await state.begin_listing(inbox.number, "7")
        assert (await state.preview(inbox.number)).stored == 1
        await state.begin_listing(inbox.number, "8")
        assert (await state.preview(inbox.number)).stored == 0

    async def test_two_files_of_one_item_are_restored_as_an_item_and_a_conflict(self, scene: Scene) -> None:
        both = [*found([1]), Found(other(1).path, 999, other(1)), *found([1], path="copied")]
        assert await scene.state.restore("imap", INBOX_PLACE, both) == 1
        assert await scene.state.restore("imap", INBOX_PLACE, both) == 0
        await scene.list([1])
        item = await scene.item(1)
        assert (item.local_path, [conflict.path for conflict in item.conflicts]) == ("INBOX/7.1", ["INBOX/7.1.f"])

    async def test_a_folder_that_is_known_keeps_what_the_origin_says_of_it(self, scene: Scene) -> None:
        await scene.state.set_directory(scene.inbox.number, "chosen")
        strange = Place(IDENTITY, "older label", RemoteFolder(b"INBOX", ("Strange",)), "INBOX")
        await scene.state.restore("imap", strange, found([1]))
        inbox, _ = await scene.state.folders(scene.account)
        assert (inbox.remote, inbox.directory) == (INBOX, "chosen")
        assert (await scene.state.job(scene.job.id)).account_name == "ann"

    # --- keys that changed ---

    async def test_what_waits_is_alike_to_what_is_stored_of_other_epochs_with_its_size_and_date(self, scene: Scene) -> None:
        await scene.list([1, 2, 3, 4], date=NOON)
        await scene.list([1], folder=scene.work, date=NOON)
        await scene.store([1, 2, 3])
        await scene.list([1, 2, 4, 5], epoch="8", date=NOON)
        found = await scene.alike()
        assert found == {"8.2": ["7.2"], "8.1": ["7.1"]}
        assert list(found) == ["8.2", "8.1"]

    @pytest.mark.parametrize("date", [None, NOON + 1000])
    async def test_what_has_another_date_or_none_is_not_alike(self, scene: Scene, date: int | None) -> None:
        await scene.list([1], date=None if date is None else NOON)
        await scene.store([1])
        await scene.list([1], epoch="8", date=date)
        assert await scene.alike() == {}

    async def test_what_is_gone_within_the_epoch_is_not_alike(self, scene: Scene) -> None:
        await scene.list([1], date=NOON)
        await scene.store([1])
        await scene.list([2], date=NOON, size=101)
        assert await scene.alike() == {}

    async def test_the_size_that_the_origin_said_makes_alike_not_that_of_the_bytes(self, scene: Scene) -> None:
        await scene.list([1], date=NOON, size=90)
        await scene.state.record_group(scene.job.number, [Stored(await scene.number(1), placed(1), size_differs=True)], ())
        await scene.list([1, 2], epoch="8", date=NOON, size=90)
        [second, first] = await scene.state.alike(scene.inbox.number, below=None, limit=9)
        assert second.stored == first.stored
        assert await scene.state.remap(scene.inbox.number, [(first.item.number, first.stored[0].number)]) == 1
        assert [(await scene.item(1, epoch)).size for epoch in "78"] == [90, 101]
        assert await scene.state.check() == []
        await scene.list([], epoch="9")
        await scene.list([1], epoch="10", date=NOON, size=90)
        assert await scene.alike() == {"10.1": ["8.1"]}

    async def test_what_is_alike_comes_a_page_at_a_time(self, scene: Scene) -> None:
        await scene.list(range(1, 8), date=NOON, size=100)
        numbers = [Stored(await scene.number(uid), placed(uid, size=100)) for uid in range(1, 8)]
        await scene.state.record_group(scene.job.number, numbers, ())
        await scene.list(range(1, 8), epoch="8", date=NOON, size=100)
        first = await scene.state.alike(scene.inbox.number, below=None, limit=3)
        assert [alike.item.key for alike in first] == ["8.7", "8.6", "8.5"]
        assert [[each.key for each in alike.stored] for alike in first] == [["7.1", "7.2", "7.3"]] * 3
        second = await scene.state.alike(scene.inbox.number, below=first[-1].item.ordinal, limit=5)
        assert [alike.item.key for alike in second] == ["8.4", "8.3", "8.2", "8.1"]

    async def test_P11_what_is_mapped_has_its_file_under_the_new_key_and_the_old_one_says_who_has_it(
        self, scene: Scene, clock: SetClock
    ) -> None:
        await scene.list([1, 2], date=NOON)
        await scene.store([1, 2])
        before = await scene.item(1)
        later = await create(scene.state, scene.account)
        clock.pass_seconds(5)
        await scene.list([11, 12], epoch="8", date=NOON)
        await scene.state.want_known(later.number, scene.inbox.number)
        assert await scene.map([(1, 11)]) == 1
        new, old = await scene.item(11, "8"), await scene.item(1)
        assert (new.status, new.size, new.sha256, new.local_path, new.downloaded_at, new.removed_at) == (
            ItemStatus.COMPLETED,
            before.size,
            before.sha256,
            before.local_path,
            before.downloaded_at,
            None,
        )
        assert (old.status, old.sha256, old.local_path, old.downloaded_at) == (ItemStatus.SKIPPED, None, None, None)
        assert old.error is not None
        assert old.error.kind == "moved"
        assert f"item {new.number} now" in old.error.message
        assert await scene.state.counters(later.number) == Counters(total=2, skipped=1)
        assert await scene.state.counters(scene.job.number) == Counters(total=4, downloaded=1, skipped=2, bytes=102)
        assert await scene.pending() == ["8.12"]
        [event] = [event for event in await scene.state.events(0) if event.kind == "folder.mapped"]
        assert (event.folder, event.data) == ("INBOX", {"count": 1, "items": [new.number]})
        assert await scene.state.check() == []

    async def test_a_pair_that_is_not_so_any_more_is_left_alone(self, scene: Scene) -> None:
        await scene.list([1, 2], date=NOON)
        await scene.store([1])
        await scene.list([1], folder=scene.work, date=NOON)
        await scene.list([11, 12, 13], epoch="8", date=NOON)
        await scene.store([12], epoch="8")
        items = {item.key: item.number for item in await scene.state.items(scene.job.number, folder="INBOX")}
        work = next(item.number for item in await scene.state.items(scene.job.number, folder="Work"))
        before = await scene.state.items(scene.job.number)
        wrong = [(items["8.12"], items["7.1"]), (items["8.11"], items["7.2"]), (items["8.13"], work), (10**6, 10**6 + 1)]
        for pair in wrong:
            assert await scene.state.remap(scene.inbox.number, [pair]) == 0
        assert await scene.state.remap(scene.work.number, [(items["8.11"], items["7.1"])]) == 0
        assert await scene.state.items(scene.job.number) == before
        assert "folder.mapped" not in [event.kind for event in await scene.state.events(0)]
        assert await scene.state.remap(scene.inbox.number, [(items["8.11"], items["7.1"]), (items["8.13"], items["7.1"])]) == 1

    async def test_P14_what_moved_away_waits_again_when_its_key_is_listed_and_can_be_mapped_back(self, scene: Scene) -> None:
        await scene.list([1, 2], date=NOON)
        await scene.store([1, 2])
        await scene.list([11, 12], epoch="8", date=NOON)
        await scene.map([(1, 11), (2, 12)])
        await scene.list([1, 2], date=NOON)
        assert await scene.pending() == ["7.2", "7.1"]
        await scene.map([(11, 1), (12, 2)], before="8", after="7")
        assert await scene.pending() == []
        assert [(await scene.item(uid)).local_path for uid in (1, 2)] == ["INBOX/7.1", "INBOX/7.2"]
        assert (await scene.item(11, "8")).status == ItemStatus.SKIPPED
        assert await scene.state.check() == []

    async def test_what_moved_is_not_restored_while_another_item_has_its_file(self, scene: Scene) -> None:
        await scene.list([1, 2], date=NOON)
        await scene.store([1, 2])
        await scene.list([11, 12], epoch="8", date=NOON)
        await scene.map([(1, 11), (2, 12)])
        await scene.list([21, 22], epoch="9", date=NOON)
        await scene.map([(11, 21)], before="8", after="9")
        assert await scene.state.restore("imap", INBOX_PLACE, found([1, 2], date=NOON)) == 0
        assert await scene.state.adopt([placed(1), placed(2)]) == 0
        assert {item.key for item in (await scene.stored()).values()} == {"9.21", "8.12"}
        lost = Setback(await scene.number(21, "9"), "missing", "It is not there.")
        await scene.state.give_up([lost])
        assert await scene.state.restore("imap", INBOX_PLACE, found([1, 2], date=NOON)) == 1
        assert (await scene.item(1)).status == ItemStatus.COMPLETED
        assert await scene.state.check() == []

    async def test_other_bytes_of_an_item_go_along_when_it_is_mapped(self, scene: Scene) -> None:
        await scene.list([1], date=NOON)
        await scene.store([1])
        await scene.state.record_group(scene.job.number, [Stored(await scene.number(1), other(1))], ())
        await scene.list([11], epoch="8", date=NOON)
        await scene.map([(1, 11)])
        assert [conflict.path for conflict in (await scene.item(11, "8")).conflicts] == ["INBOX/7.1.f"]
        assert (await scene.item(1)).conflicts == ()
        assert await scene.state.paths(scene.inbox.number) == {"INBOX/7.1", "INBOX/7.1.f"}
        assert await scene.state.check() == []

    async def test_what_was_given_up_under_the_new_key_and_was_other_bytes_is_a_conflict(self, scene: Scene) -> None:
        await scene.list([1], date=NOON)
        await scene.store([1])
        await scene.list([11], epoch="8", date=NOON)
        await scene.store([11], epoch="8")
        await scene.give_up(11, "8")
        await scene.map([(1, 11)])
        assert [conflict.path for conflict in (await scene.item(11, "8")).conflicts] == ["INBOX/8.11"]
        assert await scene.state.check() == []

    # --- verifying ---

    async def test_what_is_stored_of_a_folder_comes_by_number_of_every_epoch(self, scene: Scene) -> None:
        await scene.list([1, 2, 3])
        await scene.list([1], folder=scene.work)
        await scene.store([1, 2])
        await scene.list([1, 5], epoch="8")
        await scene.store([5], epoch="8")
        first = await scene.state.stored(scene.inbox.number, after=0, limit=2)
        assert first == [
            StoredItem(await scene.number(uid), f"7.{uid}", "7", 100 + uid, f"{uid:064x}", f"INBOX/7.{uid}", False)
            for uid in (1, 2)
        ]
        [last] = await scene.state.stored(scene.inbox.number, after=first[-1].number, limit=2)
        assert (last.key, last.epoch, last.there) == ("8.5", "8", True)
        assert list(await scene.state.stored(scene.work.number, after=0, limit=2)) == []

    async def test_what_is_stored_of_a_folder_that_is_gone_is_not_there(self, scene: Scene) -> None:
        await scene.list([1])
        await scene.store([1])
        await scene.state.record_folders(scene.account, [WORK])
        assert not (await scene.stored())["7.1"].there

    async def test_the_paths_of_a_folder_are_those_of_its_items_and_conflicts(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.list([5], folder=scene.work)
        await scene.store([1])
        await scene.state.record_group(None, [Stored(await scene.number(1), other(1))], ())
        await scene.state.record_group(None, [Stored(await scene.number(5), placed(5, folder=b"Work"))], ())
        assert await scene.state.paths(scene.inbox.number) == {"INBOX/7.1", "INBOX/7.1.f"}
        assert await scene.state.paths(scene.work.number) == {"Work/7.5"}

    async def test_a_path_is_nobodys_when_neither_an_item_nor_a_conflict_has_it(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.store([1])
        await scene.state.record_group(None, [Stored(await scene.number(1), other(1))], ())
        asked = ["INBOX/7.1", "INBOX/7.1.f", "INBOX/7.2", "Work/7.1"]
        assert sorted(await scene.state.nobodys(asked)) == ["INBOX/7.2", "Work/7.1"]
        assert await scene.state.nobodys([]) == []

    async def test_a_hash_of_which_half_was_known_is_confirmed_whole(self, scene: Scene) -> None:
        await scene.state.restore("imap", INBOX_PLACE, found([1, 2]))
        await scene.list([1, 2, 3])
        await scene.store([3])
        one, two, three = [await scene.number(uid) for uid in (1, 2, 3)]
        await scene.state.confirm([(one, f"{1:064x}"), (two, "f" * 64), (three, "f" * 64), (9999, "f" * 64)])
        stored = await scene.stored()
        assert [stored[f"7.{uid}"].sha256 for uid in (1, 2, 3)] == [f"{1:064x}", f"{2:064x}"[:32], f"{3:064x}"]

    async def test_L11_what_is_given_up_is_fetched_again_for_all_that_want_it(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1, 2])
        late = await create(scene.state, scene.account)
        await scene.state.want_known(late.number, scene.inbox.number)
        await scene.store([1, 2])
        now = clock.pass_seconds(1)
        setbacks = [
            Setback(await scene.number(1), "damaged", "A bit is another \udcff."),
            Setback(9999, "damaged", "?"),
        ]
        assert await scene.state.give_up(setbacks) == 1
        assert await scene.state.give_up(setbacks) == 0
        item = await scene.item(1)
        assert item.error is not None
        assert (item.status, item.error.kind, item.error.since) == (ItemStatus.PENDING, "damaged", now)
        assert (item.sha256, item.local_path, item.downloaded_at, item.size) == (None, None, None, 101)
        assert await scene.pending() == await scene.pending(late) == ["7.1"]
        assert await scene.state.counters(scene.job.number) == Counters(total=2, downloaded=1, bytes=102)
        assert await scene.state.counters(late.number) == Counters(total=2, skipped=1)
        [event] = await scene.told("item.lost")
        assert (event.folder, event.data) == ("INBOX", {"count": 1, "kinds": ["damaged"], "items": [item.number]})
        assert await scene.state.paths(scene.inbox.number) == {"INBOX/7.2"}
        await scene.store([1])
        assert (await scene.item(1)).error is None
        assert await scene.state.counters(scene.job.number) == Counters(total=2, downloaded=2, bytes=203)

    async def test_L11_what_is_given_up_and_cannot_be_had_again_is_skipped_with_the_reason(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await scene.store([1, 2])
        await scene.list([2])
        assert await scene.give_up(1) == 1
        item = await scene.item(1)
        assert item.error is not None
        assert (item.status, item.error.kind, item.error.message) == (ItemStatus.SKIPPED, "lost", "A bit of it is another.")
        await scene.list([2], epoch="8")
        assert await scene.give_up(2) == 1
        assert (await scene.item(2)).status is ItemStatus.SKIPPED
        await scene.list([1], epoch="7")
        assert await scene.pending() == ["7.1"], "until the origin has it again"

    async def test_what_is_given_up_before_its_folder_is_listed_is_fetched_once_it_is(self, state: State) -> None:
        await state.restore("imap", INBOX_PLACE, found([1]))
        account = await state.account(IDENTITY, "ann", "imap")
        [inbox] = await state.record_folders(account, [INBOX])
        scene = Scene(state, account, await create(state, account), inbox, inbox)
        [item] = (await scene.stored()).values()
        assert await state.give_up([Setback(item.number, "damaged", "?")]) == 1
        await scene.list([1])
        assert await scene.pending() == ["7.1"]

    async def test_what_is_given_up_has_the_size_that_the_origin_says(self, scene: Scene) -> None:
        await scene.list([1])
        stored = Stored(await scene.number(1), placed(1, size=7), size_differs=True)
        await scene.state.record_group(scene.job.number, [stored], ())
        await scene.give_up(1)
        assert (await scene.item(1)).size == 101
        assert (await scene.state.counters(scene.job.number)).bytes == 0
        await scene.state.record_group(scene.job.number, [stored], ())
        assert (await scene.state.counters(scene.job.number)).bytes == 7

    async def test_when_all_was_verified_is_remembered_and_told(self, scene: Scene, clock: SetClock) -> None:
        assert await scene.state.verified_at() is None
        now = clock.pass_seconds(1)
        await scene.state.set_verified({"items": 3, "lost": 0})
        clock.pass_seconds(1)
        assert await scene.state.verified_at() == now
        [event] = await scene.told("store.verified")
        assert (event.time, event.data) == (now, {"items": 3, "lost": 0})

    # --- copies ---

    async def test_a_copy_is_made_once_a_day_unless_jobs_have_changed(self, scene: Scene, clock: SetClock) -> None:
        first = await scene.state.save_copy()
        assert first is not None
        assert first.stat().st_size > 0
        await scene.list([1])
        await scene.store([1])
        assert await scene.state.save_copy() is None, "files tell that"
        for change in (
            lambda: create(scene.state, scene.account),
            lambda: scene.state.move_job(scene.job.number, JobStatus.PAUSED),
            lambda: scene.state.delete_job(scene.job.number),
        ):
            await change()
            before, first = first, await scene.state.save_copy()
            assert first is not None
            assert first.exists()
            assert not before.exists(), "one a day"
            assert await scene.state.save_copy() is None
        clock.pass_seconds(86_400)
        assert await scene.state.save_copy() is not None
        assert first.exists()

    # --- looking ---

    async def test_progress_shows_every_folder_of_the_job_in_fetching_order(self, scene: Scene) -> None:
        holder = RemoteFolder(b"Lists", ("Lists",), selectable=False)
        await scene.state.record_folders(scene.account, [WORK, INBOX, holder])
        await scene.list([1, 2])
        await scene.store([1])
        progress = await scene.state.folder_progress(job=scene.job.number)
        assert [(each.folder.name, each.counters) for each in progress] == [
            ("INBOX", Counters(total=2, downloaded=1, bytes=101)),
            ("Work", Counters()),
        ]
        narrow = await create(scene.state, scene.account, strategy=Strategy("selected-folders", ("Work",)))
        assert [each.folder.name for each in await scene.state.folder_progress(job=narrow.number)] == ["Work"]

    async def test_progress_of_an_account_counts_what_is_stored_as_downloaded(self, scene: Scene) -> None:
        await scene.list([1, 2, 3])
        await scene.state.record_group(None, [Stored(await scene.number(1), placed(1))], ())
        await scene.set_back(2, final=True)
        inbox, work = await scene.state.folder_progress(account=scene.account)
        assert inbox.counters == Counters(total=3, downloaded=1, failed=1, bytes=101)
        assert (work.folder.name, work.counters) == ("Work", Counters())

    async def test_a_gone_folder_is_shown_only_where_it_left_something(self, scene: Scene) -> None:
        await scene.list([1])
        await scene.state.record_folders(scene.account, [])
        assert [each.folder.name for each in await scene.state.folder_progress(job=scene.job.number)] == ["INBOX"]
        assert [each.folder.name for each in await scene.state.folder_progress(account=scene.account)] == ["INBOX"]

    async def test_items_come_by_number_a_page_at_a_time(self, scene: Scene) -> None:
        await scene.list(range(1, 6))
        await scene.list(range(1, 4), folder=scene.work)
        first = await scene.state.items(scene.job.number, limit=5)
        rest = await scene.state.items(scene.job.number, limit=5, after=first[-1].number)
        numbers = [item.number for item in (*first, *rest)]
        assert numbers == sorted(set(numbers))
        assert (len(first), len(rest)) == (5, 3)

    async def test_items_are_found_by_folder_and_status(self, scene: Scene) -> None:
        await scene.list([1, 2, 3])
        await scene.list([1], folder=scene.work)
        await scene.store([1])
        await scene.set_back(2, final=True)
        items, job = scene.state.items, scene.job.number
        assert [item.key for item in await items(job, folder="INBOX")] == ["7.1", "7.2", "7.3"]
        assert [item.folder for item in await items(job, folder="Work", status=ItemStatus.PENDING)] == ["Work"]
        assert [item.key for item in await items(job, status=ItemStatus.FAILED)] == ["7.2"]
        assert [item.key for item in await items(job, status=ItemStatus.COMPLETED)] == ["7.1"]
        assert await items(job, folder="Nowhere") == []

    async def test_events_are_numbered_in_order_and_read_from_any_number(self, scene: Scene) -> None:
        await scene.list([1, 2])
        await asyncio.gather(*(scene.store([uid]) for uid in (1, 2)))
        events = await scene.state.events(0)
        numbers = [event.number for event in events]
        assert numbers == sorted(set(numbers))
        assert (await scene.state.event_span())[1] == numbers[-1]
        assert await scene.state.events(numbers[1]) == events[2:]
        assert await scene.state.events(0, limit=2) == events[:2]
        assert await scene.state.events(numbers[-1]) == []

    async def test_an_empty_ledger_has_no_last_event(self, state: State) -> None:
        assert await state.event_span() == (1, 0)
        assert await state.events(0) == []

    async def test_the_event_stream_has_an_id_that_stays(self, scene: Scene) -> None:
        stream = await scene.state.stream()
        assert stream
        await scene.list([1])
        assert await scene.state.stream() == stream

    async def test_events_of_one_job_are_read_in_order_from_any_number(self, scene: Scene) -> None:
        other = await create(scene.state, scene.account)
        await scene.list([1, 2])
        await scene.store([1])
        await scene.state.move_job(other.number, JobStatus.PAUSED)
        await scene.store([2])
        events = [event for event in await scene.state.events(0) if event.job == scene.job.id]
        assert [event.kind for event in events] == ["job.status", "item.stored", "item.stored"]
        assert await scene.state.events(0, job=scene.job.id) == events
        assert await scene.state.events(events[0].number, 1, scene.job.id) == events[1:2]
        assert list(await scene.state.events(0, job="job_000000000000")) == []

    async def test_old_events_are_forgotten_but_none_of_the_newest(self, scene: Scene, clock: SetClock) -> None:
        for _ in range(9):
            await create(scene.state, scene.account)
        later = clock.pass_seconds(60)
        await create(scene.state, scene.account)
        assert await scene.state.event_span() == (1, 11)
        assert await scene.state.prune_events(NOON, 0) == 0
        assert await scene.state.prune_events(later, 11) == 0
        assert await scene.state.prune_events(later, 8) == 3
        assert await scene.state.event_span() == (4, 11)
        assert [event.number for event in await scene.state.events(0)] == list(range(4, 12))
        assert await scene.state.prune_events(later, 0) == 7
        assert await scene.state.event_span() == (11, 11)

    async def test_the_numbers_of_forgotten_events_are_not_given_again(self, scene: Scene, clock: SetClock) -> None:
        _, newest = await scene.state.event_span()
        assert await scene.state.prune_events(clock.now + 1, 0) == newest
        assert await scene.state.event_span() == (newest + 1, newest)
        await create(scene.state, scene.account)
        assert await scene.state.event_span() == (newest + 1, newest + 1)

    async def test_what_is_kept_of_the_events_has_no_gaps_when_the_clock_was_set_back(
        self, scene: Scene, clock: SetClock
    ) -> None:
        clock.pass_seconds(-3600)
        await create(scene.state, scene.account)
        assert await scene.state.prune_events(NOON, 0) == 0
        assert await scene.state.event_span() == (1, 2)
        assert [event.number for event in await scene.state.events(0)] == [1, 2]

    async def test_whoever_asked_is_called_in_the_loop_once_events_can_be_read(self, scene: Scene) -> None:
        await scene.list([1, 2, 3])
        calls: list[asyncio.Future[object]] = []
        threads: set[int] = set()

        def call() -> None:
            threads.add(threading.get_ident())
            calls.append(asyncio.ensure_future(scene.state.event_span()))

        scene.state.when_told(call)
        number = scene.job.number
        steps = [
            lambda: scene.store([1]),
            lambda: scene.set_back(2, final=True),
            lambda: scene.state.adopt([placed(3)]),
            lambda: scene.state.move_job(number, JobStatus.RUNNING),
            lambda: scene.state.set_phase(number, Phase.LISTING),
            lambda: scene.list([1]),
            lambda: scene.state.begin_listing(scene.inbox.number, "8"),
            lambda: scene.state.record_folders(scene.account, [WORK]),
            lambda: create(scene.state, scene.account),
            lambda: scene.state.delete_job(number),
        ]
        for told, step in enumerate(steps, 1):
            await step()
            assert len(calls) == told
            assert await calls[-1] == await scene.state.event_span()
        assert threads == {threading.get_ident()}

    async def test_nobody_is_called_when_nothing_was_told(self, scene: Scene, clock: SetClock) -> None:
        await scene.list([1])
        await scene.set_back(1, final=True)
        calls: list[None] = []
        scene.state.when_told(lambda: calls.append(None))
        await scene.state.record_group(scene.job.number, (), ())
        await scene.state.retry_failed(scene.job.number)
        await scene.state.synced(scene.job.number)
        await scene.state.want_known(scene.job.number, scene.inbox.number)
        await scene.state.prune_events(clock.now + 1, 0)
        with pytest.raises(Refused):
            await scene.state.set_phase(scene.job.number, Phase.LISTING)
        assert calls == []

    async def test_everyone_who_asked_is_called(self, scene: Scene) -> None:
        calls: list[str] = []
        scene.state.when_told(lambda: calls.append("first"))
        scene.state.when_told(lambda: calls.append("second"))
        await create(scene.state, scene.account)
        assert sorted(calls) == ["first", "second"]

    async def test_a_commit_whose_caller_was_cancelled_is_told_all_the_same(self, scene: Scene) -> None:
        calls: list[None] = []
        scene.state.when_told(lambda: calls.append(None))
        _, newest = await scene.state.event_span()
        hops, in_time = 0, False
        while not in_time:
            called = len(calls)
            task = asyncio.ensure_future(create(scene.state, scene.account))
            for _ in range(hops):
                await asyncio.sleep(0)
            in_time = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            before, (_, newest) = newest, await scene.state.event_span()
            assert newest == before or len(calls) > called
            hops += 1 + hops // 16

    async def test_many_tasks_write_at_once_and_every_transaction_stays_whole(self, scene: Scene) -> None:
        await scene.list(range(1, 41))
        numbers = {int(item.key[2:]): item.number for item in await scene.state.items(scene.job.number)}

        async def store(uid: int) -> None:
            await scene.state.record_group(scene.job.number, [Stored(numbers[uid], placed(uid))], ())

        async def refused() -> None:
            with pytest.raises(StaleCursor):
                await scene.state.record_page(scene.inbox.number, page([99], "8"), [scene.job.number])

        await asyncio.gather(*(store(uid) for uid in numbers), *(refused() for _ in range(10)))
        assert (await scene.state.counters(scene.job.number)).downloaded == 40

    async def test_while_a_transaction_is_open_it_tells_how_long_it_has_not_got_on(self, scene: Scene) -> None:
        assert scene.state.writing_for() is None
        task = asyncio.ensure_future(scene.list(range(1, 2001)))
        seen: list[float] = []
        while not task.done():
            if (seconds := scene.state.writing_for()) is not None:
                seen.append(seconds)
            await asyncio.sleep(0.0005)
        assert seen
        assert 0 <= min(seen) <= max(seen) < 60
        assert scene.state.writing_for() is None

    async def test_a_write_that_is_cancelled_is_whole_or_not_there(self, scene: Scene) -> None:
        await scene.list(range(1, 101))
        items = await scene.state.items(scene.job.number)
        group = [Stored(item.number, placed(int(item.key[2:]))) for item in items]
        for hops in range(40):
            task = asyncio.ensure_future(scene.state.record_group(scene.job.number, group, ()))
            for _ in range(hops):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await scene.state.counters(scene.job.number)).downloaded in (0, 100)
        assert (await scene.state.record_group(scene.job.number, group, ())).refused == ()
        assert (await scene.state.counters(scene.job.number)).downloaded == 100
