"""What is urgent is stored and recorded beside bulk, and an account that hogs keeps no other waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hauld.clock import SystemClock
from hauld.engine.ingest import SLICE, Arrival, Ingest
from hauld.errors import HaulError, Transient
from hauld.model import Deposit, FolderKind, Page, PendingItem, Place, RemoteFolder, RemoteItem, Setback, Stored, Strategy
from hauld.state.base import Committed
from hauld.state.sqlite import SqliteState
from hauld.stores.maildir import MaildirStore
from support.disks import UnsyncedDisk
from support.engine import PATIENCE, running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

INBOX = RemoteFolder(b"INBOX", ("INBOX",), FolderKind.INBOX)
IDENTITY = "imap://a@test.example"
COUNT = 400


class SlowDisk(UnsyncedDisk):
    """One that syncs a whole file system when ``go_on`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.go_on.set()

    def can_sync_file_system(self, path: str) -> bool:
        return True

    def sync_file_system(self, descriptor: int) -> None:
        assert self.go_on.wait(PATIENCE)


class SlowState(SqliteState):
    """A ledger that records what ``waits`` says, by its number of items, when ``go_on`` is set, and fails with single ones as
    often as it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "haul.db", SystemClock())
        self.waits: Callable[[int], bool] = lambda _: False
        self.go_on = asyncio.Event()
        self.reached = asyncio.Event()
        self.failures = 0
        self.recorded: list[int] = []

    async def record_group(self, job: int | None, stored: Sequence[Stored], setbacks: Sequence[Setback]) -> Committed:
        if self.waits(len(stored)):
            self.reached.set()
            await self.go_on.wait()
        if self.failures and len(stored) == 1:
            self.failures -= 1
            raise Transient("locked", "Somebody has the ledger.")
        self.recorded.append(len(stored))
        return await super().record_group(job, stored, setbacks)


class Bench:
    """A committer on a store and a ledger that know of ``COUNT`` items which wait."""

    def __init__(self, ingest: Ingest, state: SlowState, store: MaildirStore, disk: SlowDisk, place: Place, job: int) -> None:
        self.ingest = ingest
        self.state = state
        self.store = store
        self.disk = disk
        self.items: list[PendingItem] = []
        self._place = place
        self._job = job

    def put(self, items: Sequence[PendingItem], *, urgent: bool = False) -> asyncio.Future[HaulError | None]:
        """What becomes of them."""
        over: asyncio.Future[HaulError | None] = asyncio.get_running_loop().create_future()
        left = len(items)

        def settled(arrivals: Sequence[Arrival], error: HaulError | None) -> None:
            nonlocal left
            left -= len(arrivals)
            if not left:
                over.set_result(error)

        self.ingest.put([self._arrival(item, settled) for item in items], urgent)
        return over

    def _arrival(self, item: PendingItem, settled: Callable[[Sequence[Arrival], HaulError | None], None]) -> Arrival:
        writer = self.store.open(item.key, 5)
        writer.write(b"%05d" % item.ordinal)
        deposit = Deposit(self._place, "7", item.key, writer.finish())
        return Arrival(item.number, self._job, deposit, 5, settled, lambda _: None)


@asynccontextmanager
async def bench(root: Path) -> AsyncIterator[Bench]:
    disk = SlowDisk()
    state, store = SlowState(root), MaildirStore(root / "mail", disk=disk)
    await state.start()
    await store.start()
    ingest = Ingest(store, state)
    running = asyncio.create_task(ingest.run())
    try:
        account = await state.account(IDENTITY, "a", "imap")
        [folder] = await state.record_folders(account, [INBOX])
        job, _ = await state.create_job(
            account, Strategy(), live=True, priority=2, requester=None, start=True, idempotency_key=None
        )
        await state.begin_listing(folder.number, "7")
        page = Page("7", [RemoteItem(f"7.{uid}", uid, 5) for uid in range(1, COUNT + 1)])
        await state.record_page(folder.number, page, [job.number])
        at_work = Bench(ingest, state, store, disk, await store.prepare(IDENTITY, "a", INBOX, None), job.number)
        at_work.items += await state.pending(job.number, folder.number, below=None, limit=COUNT)
        async with asyncio.timeout(PATIENCE):
            yield at_work
    finally:
        state.go_on.set()
        disk.go_on.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await state.check() == []
        await store.close()
        await state.close()


async def test_what_is_urgent_is_recorded_while_bulk_waits_for_the_disk(tmp_path: Path) -> None:
    async with bench(tmp_path) as at_work:
        at_work.disk.go_on.clear()
        bulk = at_work.put(at_work.items[1:])
        assert await at_work.put(at_work.items[:1], urgent=True) is None
        assert at_work.state.recorded == [1]
        assert not bulk.done()
        at_work.disk.go_on.set()
        assert await bulk is None


async def test_what_is_urgent_is_recorded_while_bulk_waits_for_the_ledger(tmp_path: Path) -> None:
    async with bench(tmp_path) as at_work:
        at_work.state.waits = lambda count: count > 1
        bulk = at_work.put(at_work.items[1:])
        await at_work.state.reached.wait()
        assert await at_work.put(at_work.items[:1], urgent=True) is None
        assert not bulk.done()
        at_work.state.go_on.set()
        assert await bulk is None
        assert at_work.state.recorded == [1, COUNT - 1]


async def test_bulk_is_recorded_in_slices_while_something_urgent_is_under_way(tmp_path: Path) -> None:
    async with bench(tmp_path) as at_work:
        at_work.state.waits = lambda count: count == 1
        urgent = at_work.put(at_work.items[:1], urgent=True)
        await at_work.state.reached.wait()
        assert await at_work.put(at_work.items[1:]) is None
        assert at_work.state.recorded == [SLICE, SLICE, SLICE, COUNT - 1 - 3 * SLICE]
        at_work.state.go_on.set()
        assert await urgent is None


async def test_L7_an_urgent_group_whose_rows_failed_is_put_in_order_before_the_next_one(tmp_path: Path) -> None:
    async with bench(tmp_path) as at_work:
        at_work.state.failures = 1
        error = await at_work.put(at_work.items[:1], urgent=True)
        assert isinstance(error, Transient)
        assert await at_work.put(at_work.items[1:2], urgent=True) is None
        assert at_work.state.recorded == [1]
        assert list(await at_work.store.recover()) == [], "the first has its row, too"


async def test_L7_bulk_whose_rows_failed_waits_for_what_is_urgent_and_is_put_in_order(tmp_path: Path) -> None:
    async with bench(tmp_path) as at_work:
        at_work.state.failures = 1
        assert isinstance(await at_work.put(at_work.items[:1]), Transient)
        urgent = at_work.put(at_work.items[1:2], urgent=True)
        assert await at_work.put(at_work.items[2:]) is None
        assert await urgent is None
        await at_work.ingest.finish()
        assert list(await at_work.store.recover()) == []


async def test_R3_an_account_whose_server_drips_large_items_keeps_no_other_waiting(tmp_path: Path) -> None:
    hog = Honest({b"INBOX": Mailbox(dict.fromkeys(range(1, 101), b"x" * 600_000))})

    @hog.instead_of("UID FETCH")
    async def drip(client: Client, command: Command) -> None:
        if b"BODY" not in command.arguments:
            await hog.answer(client, command)
            return
        uid = command.arguments.split()[0].split(b":")[0].split(b",")[0]
        await client.send(b"* 1 FETCH (UID " + uid + b" RFC822.SIZE 600000 BODY[] {600000}\r\nx")
        dripping.set()
        await asyncio.Event().wait()

    dripping = asyncio.Event()
    other = Honest({b"INBOX": Mailbox({uid: b"Subject: %d\r\n\r\nsmall\r\n" % uid for uid in range(1, 201)})})
    async with ScriptedServer(hog) as slow, ScriptedServer(other) as quick:
        sources = {"hog": slow.source(), "b": quick.source()}
        async with running(tmp_path, sources, budget=1 << 20) as engine:
            await engine.create("hog", live=False)
            await dripping.wait()
            async with asyncio.timeout(5):
                assert (await engine.finish("b")).progress.downloaded_items == 200


async def test_an_import_takes_nothing_more_from_its_origin_while_something_urgent_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, make_way = Ingest.put, Ingest.make_way
    handed_over: list[Arrival] = []
    reached = asyncio.Event()

    def noting_put(ingest: Ingest, arrivals: Sequence[Arrival], urgent: bool = False) -> None:
        handed_over.extend(arrivals)
        put(ingest, arrivals, urgent)

    async def noting_make_way(ingest: Ingest) -> None:
        reached.set()
        await make_way(ingest)

    monkeypatch.setattr(Ingest, "put", noting_put)
    monkeypatch.setattr(Ingest, "make_way", noting_make_way)
    monkeypatch.setattr("hauld.engine.ingest.COURTESY", PATIENCE)
    mailbox = Mailbox({uid: b"Subject: %d\r\n\r\n" % uid for uid in range(1, 51)})
    async with ScriptedServer(Honest({b"INBOX": mailbox})) as server, running(tmp_path, server.source()) as engine:
        with engine.supervisor._workshop.ingest.expecting():
            job = await engine.create(live=False)
            await reached.wait()
            assert handed_over == []
        done = await engine.ended(job.id)
    assert (done.progress.downloaded_items, len(handed_over)) == (50, 50)
