"""The stage: bodies on their way, manifests, and the order in which things become durable."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from contracts.store import IDENTITY, INBOX, items_in, staged, stored, write_all
from hauld.errors import Transient
from hauld.model import Deposit, Placed, RemoteFolder
from hauld.stores.bodies import BACKLOG
from hauld.stores.maildir import MaildirStore
from hauld.stores.manifest import Entry, decode, encode
from hauld.stores.stage import uncut
from support.disks import WatchedDisk, failing

LARGE = 300_000  # more than is held in memory


@pytest_asyncio.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[Callable[[WatchedDisk], MaildirStore]]:
    """Starts a store on that disk and closes it in the end."""
    stores = []

    async def start(disk: WatchedDisk) -> MaildirStore:
        stores.append(MaildirStore(tmp_path / "mail", disk=disk))
        await stores[-1].start()
        return stores[-1]

    yield start
    for store in stores:
        await store.close()


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    return tmp_path / "mail/.haul/stage"


# --- manifests ---

ENTRIES = [
    Entry(
        f"a-{n}", f"work/INBOX/cur/{n}", Placed("id", b"IN\xffBOX", "7", f"7.{n}", n, hashlib.sha256(b"").hexdigest(), f"w/{n}")
    )
    for n in range(3)
]


def test_a_manifest_reads_back() -> None:
    assert decode(encode(ENTRIES)) == ENTRIES


def test_a_manifest_torn_at_any_byte_is_known_for_torn() -> None:
    whole = encode(ENTRIES)
    for end in range(len(whole)):
        assert decode(whole[:end]) is None
        assert decode(whole[:end] + b"\0" * (len(whole) - end)) is None


def test_a_manifest_with_any_byte_changed_is_known_for_torn() -> None:
    whole = encode(ENTRIES)
    for place in range(len(whole)):
        assert decode(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]) is None


async def test_L14_a_torn_manifest_and_what_it_named_are_swept(open_store: Callable, stage: Path) -> None:
    store = await open_store(WatchedDisk())
    (stage / "old-1.manifest").write_bytes(encode(ENTRIES)[:-5])
    (stage / "a-1").write_bytes(b"")
    assert list(await store.recover()) == []
    assert os.listdir(stage) == []


@pytest.mark.parametrize("damage", [b"", b"half", b"other bytes of that length"], ids=["empty", "short", "changed"])
async def test_L17_staged_bytes_that_are_not_whole_are_not_adopted(open_store: Callable, stage: Path, damage: bytes) -> None:
    store = await open_store(WatchedDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    body = b"the bytes that were staged"
    placed = Placed(IDENTITY, b"INBOX", "7", "7.1", len(body), hashlib.sha256(body).hexdigest(), f"{place.directory}/x")
    (stage / "old-1.manifest").write_bytes(encode([Entry("old-0", f"{place.directory}/cur/x:2,", placed)]))
    (stage / "old-0").write_bytes(damage)
    assert list(await store.recover()) == []
    (stage / "old-0").write_bytes(body)
    assert list(await store.recover()) == [placed]


@pytest.mark.parametrize("damage", [b"", b"half", b"other bytes, as many as those."], ids=["empty", "short", "changed"])
async def test_L11_a_damaged_file_under_the_final_name_gives_way_to_the_staged_bytes(
    open_store: Callable, stage: Path, tmp_path: Path, damage: bytes
) -> None:
    store = await open_store(WatchedDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    body = b"the bytes that were staged now"
    placed = Placed(IDENTITY, b"INBOX", "7", "7.1", len(body), hashlib.sha256(body).hexdigest(), f"{place.directory}/x")
    final = tmp_path / "mail" / place.directory / "cur/x:2,"
    final.write_bytes(damage)
    (stage / "old-1.manifest").write_bytes(encode([Entry("old-0", f"{place.directory}/cur/x:2,", placed)]))
    assert list(await store.recover()) == []
    (stage / "old-0").write_bytes(body)
    assert list(await store.recover()) == [placed]
    assert final.read_bytes() == body


# --- the order ---


@pytest.mark.parametrize("whole", [True, False], ids=["syncfs", "file by file"])
@pytest.mark.parametrize("count", [1, 20])
async def test_a_name_appears_after_its_bytes_are_synced_and_its_directory_is_synced_after_it(
    open_store: Callable, stage: Path, whole: bool, count: int
) -> None:
    disk = WatchedDisk(whole=whole)
    store = await open_store(disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.steps.clear()
    await stored(store, *(staged(store, place, f"7.{n}", b"%d" % n) for n in range(count)))
    steps = disk.names()
    writes, renames = steps.index("rename"), len(steps) - steps[::-1].index("rename")
    if whole and count == 20:
        assert steps[:writes].count("sync_file_system") == 1
        assert steps[writes - 1] == "sync_file_system"
        assert "sync_file" not in steps
    else:
        assert steps[:writes].count("sync_file") == count + 1
        assert disk.steps[writes - 1] == ("sync_directory", (str(stage),))
        assert "sync_file_system" not in steps
    assert set(steps[:writes]) <= {"create", "append", "sync_file", "sync_directory", "sync_file_system"}
    assert set(steps[writes:renames]) == {"rename"}
    assert steps[renames:] == ["sync_directory", "unlink"]


async def test_many_directories_are_synced_at_once(open_store: Callable) -> None:
    disk = WatchedDisk()
    store = await open_store(disk)
    places = [await store.prepare(IDENTITY, "work", RemoteFolder(b"%d" % n, (str(n),)), None) for n in range(9)]
    disk.steps.clear()
    await stored(store, *(staged(store, place, "7.1", b"x") for place in places))
    assert disk.names()[-2:] == ["sync_file_system", "unlink"]
    assert "sync_directory" not in disk.names()


# --- trouble ---


@pytest.mark.parametrize("sync", ["sync_file_system", "sync_file", "sync_directory"])
async def test_L7_after_a_failed_sync_nothing_of_the_group_is_believed(open_store: Callable, stage: Path, sync: str) -> None:
    disk = WatchedDisk(whole=sync == "sync_file_system")
    store = await open_store(disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.steps.clear()
    disk.before = failing(sync, errno.EIO)
    with pytest.raises(Transient, match="Input/output error"):
        await stored(store, *(staged(store, place, f"7.{n}", b"x" * (LARGE if n == 1 else 1)) for n in range(9)))
    assert disk.names().count(sync) == 1
    assert "rename" not in disk.names()
    assert os.listdir(stage) == []
    assert list(await store.recover()) == []
    assert items_in(store) == []


async def test_L7_a_large_body_written_while_a_sync_failed_is_not_believed_either(open_store: Callable) -> None:
    disk = WatchedDisk()
    store = await open_store(disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    meanwhile = store.open("7.99", 2 * LARGE)
    meanwhile.write(b"x" * LARGE)
    disk.before = failing("sync_file_system", errno.EIO)
    with pytest.raises(Transient):
        await stored(store, *(staged(store, place, f"7.{n}", b"x") for n in range(9)))
    with pytest.raises(Transient, match="suspect"):
        meanwhile.write(b"x" * LARGE)
    meanwhile.discard()
    await stored(store, staged(store, place, "7.99", b"x" * LARGE))


async def test_L7_what_was_written_ahead_while_a_sync_failed_is_not_believed_either(open_store: Callable, stage: Path) -> None:
    disk = WatchedDisk()
    store = await open_store(disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    first, second = ([staged(store, place, f"7.{uid}", b"%d" % uid) for uid in uids] for uids in (range(1, 7), range(7, 13)))
    assert await store.write(second)
    disk.before = failing("sync_file_system", errno.EIO)
    with pytest.raises(Transient):
        await stored(store, *first)
    with pytest.raises(Transient, match="suspect"):
        await stored(store, *second)
    for deposit in second:
        deposit.body.discard()
    assert list(await store.recover()) == []
    assert os.listdir(stage) == []


async def test_L14_a_sweep_spares_what_is_written_while_it_looks(open_store: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await open_store(WatchedDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    deposit = staged(store, place, "7.1", b"x")
    spool = store._tree.spool
    in_use = spool.in_use

    def look() -> set[str]:
        names = in_use()
        deposit.body.write(None)
        return names

    monkeypatch.setattr(spool, "in_use", look)
    assert list(await store.recover()) == []
    monkeypatch.undo()
    [placed] = await stored(store, deposit)
    assert await store.read(placed.path) == b"x"


async def test_what_was_written_ahead_takes_no_memory(open_store: Callable) -> None:
    store = await open_store(WatchedDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    deposit = staged(store, place, "7.1", b"x" * 900)
    assert await store.write([deposit])
    assert (len(deposit.body.data), deposit.body.size) == (0, 900)
    [placed] = await stored(store, deposit)
    assert await store.read(placed.path) == b"x" * 900


async def test_L7_a_directory_that_cannot_be_synced_leaves_the_group_to_recovery(open_store: Callable) -> None:
    disk = WatchedDisk()
    store = await open_store(disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.before = failing("sync_directory", errno.EIO, within="/cur")
    with pytest.raises(Transient):
        await stored(store, *(staged(store, place, f"7.{n}", b"x") for n in range(9)))
    assert {item.key for item in await store.recover()} == {f"7.{n}" for n in range(9)}


async def test_L5_a_rename_that_fails_midway_leaves_the_group_to_recovery(open_store: Callable, stage: Path) -> None:
    disk = WatchedDisk()
    store = await open_store(disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    renames = []

    def fifth(_number: int, name: str, _arguments: object) -> None:
        if name == "rename":
            renames.append(name)
            if len(renames) == 5:
                raise OSError(errno.ENOSPC, "No space left on device")

    disk.before = fifth
    with pytest.raises(Transient):
        await stored(store, *(staged(store, place, f"7.{n}", b"%d" % n * LARGE) for n in range(9)))
    found = await store.recover()
    assert [await store.read(item.path) for item in found] == [b"%d" % n * LARGE for n in range(9)]
    await store.settle()
    assert os.listdir(stage) == []


async def test_L5_a_large_body_that_cannot_be_written_fails_alone(open_store: Callable, stage: Path) -> None:
    disk = WatchedDisk()
    store = await open_store(disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.before = failing("append", errno.ENOSPC)
    writer = store.open("7.1", 10 * LARGE)
    with pytest.raises(Transient, match="No space left"):
        await write_all(writer, b"x" * LARGE, 1000)
    with pytest.raises(Transient, match="No space left"):
        writer.finish()
    writer.discard()
    [placed] = await stored(store, staged(store, place, "7.2", b"y" * LARGE))
    assert await store.read(placed.path) == b"y" * LARGE
    assert os.listdir(stage) == []


async def test_L5_a_large_body_whose_last_bytes_cannot_be_written_fails_its_commit(open_store: Callable, stage: Path) -> None:
    disk = WatchedDisk()
    store = await open_store(disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.before = failing("append", errno.ENOSPC)
    with pytest.raises(Transient, match="No space left"):
        await stored(store, staged(store, place, "7.1", b"x" * LARGE))
    assert os.listdir(stage) == []


async def test_a_large_body_is_committed_once(open_store: Callable) -> None:
    store = await open_store(WatchedDisk())
    deposit = staged(store, await store.prepare(IDENTITY, "work", INBOX, None), "7.1", b"x" * LARGE)
    await stored(store, deposit)
    with pytest.raises(Transient, match="no longer in the stage"):
        await stored(store, deposit)


async def test_closing_gives_up_what_is_being_written(open_store: Callable, stage: Path) -> None:
    store = await open_store(WatchedDisk())
    writer = store.open("7.1", 2 * LARGE)
    writer.write(b"x" * LARGE)
    await store.close()
    assert os.listdir(stage) == []
    with pytest.raises(Transient):
        writer.write(b"x")
    writer.discard()


# --- pauses ---


class StuckDisk(WatchedDisk):
    """Appends wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def append(self, descriptor: int, data: bytes) -> None:
        self.go.wait(30)
        super().append(descriptor, data)


async def test_a_writer_asks_for_a_pause_while_much_waits_and_calls_back_when_it_does_not(open_store: Callable) -> None:
    disk = StuckDisk()
    disk.go.set()
    store = await open_store(disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.go.clear()
    writer = store.open("7.1", 4 * BACKLOG)
    taken = 0
    while writer.write(b"x" * 100_000):
        taken += 100_000
    assert BACKLOG - 100_000 <= taken <= BACKLOG + LARGE
    ready = asyncio.Event()
    writer.when_ready(ready.set)
    await asyncio.sleep(0)
    assert not ready.is_set()
    disk.go.set()
    await asyncio.wait_for(ready.wait(), 30)
    [placed] = await stored(store, Deposit(place, "7", "7.1", writer.finish()))
    assert placed.size == taken + 100_000


async def test_P38_a_large_message_takes_little_memory(open_store: Callable) -> None:
    store = await open_store(WatchedDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunk = os.urandom(65_536)
    writer = store.open("7.1", 1600 * len(chunk))
    await write_all(writer, chunk, 1600)
    [placed] = await stored(store, Deposit(place, "7", "7.1", writer.finish()))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 32 * 1024
    assert placed.size == 1600 * len(chunk)
    assert placed.sha256 == hashlib.sha256(chunk * 1600).hexdigest()


# --- threads ---


async def test_a_cancelled_caller_leaves_when_the_step_has_ended() -> None:
    began, go, ended = threading.Event(), threading.Event(), threading.Event()

    def step() -> None:
        began.set()
        go.wait(30)
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        caller = asyncio.create_task(uncut(pool, step))
        await asyncio.to_thread(began.wait, 30)
        for _ in range(3):
            caller.cancel()
            await asyncio.sleep(0)
        assert not caller.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert ended.is_set()


# --- odd ends ---


async def test_a_large_body_has_the_date_of_its_item(open_store: Callable, tmp_path: Path) -> None:
    store = await open_store(WatchedDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    await stored(store, staged(store, place, "7.1", b"x" * LARGE, date=1_700_000_000_000))
    [file] = (tmp_path / "mail" / "work" / "INBOX" / "cur").iterdir()
    assert file.stat().st_mtime == 1_700_000_000


async def test_L4_an_item_that_two_crashed_groups_name_is_reported_once(open_store: Callable) -> None:
    store = await open_store(WatchedDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    for flags in ([], ["\\Flagged"]):
        with pytest.raises(ZeroDivisionError):
            async with store.commit([staged(store, place, "7.1", b"one", flags=flags)]) as placed:
                raise ZeroDivisionError
    assert list(await store.recover()) == list(placed)


async def test_L14_a_manifest_whose_files_are_gone_reports_nothing(open_store: Callable, stage: Path) -> None:
    store = await open_store(WatchedDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    placed = Placed(IDENTITY, b"INBOX", "7", "7.1", 1, "0" * 64, f"{place.directory}/x")
    (stage / "old-1.manifest").write_bytes(encode([Entry("old-0", f"{place.directory}/cur/x:2,", placed)]))
    assert list(await store.recover()) == []
    await store.settle()
    assert os.listdir(stage) == []


async def test_two_items_of_one_path_are_both_reported(open_store: Callable, stage: Path) -> None:
    store = await open_store(WatchedDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    sha256 = hashlib.sha256(b"x").hexdigest()
    both = [Placed(IDENTITY, b"INBOX", "7", key, 1, sha256, f"{place.directory}/x") for key in ("7.1", "7.2")]
    entries = [Entry(f"old-{n}", f"{place.directory}/cur/x:2,", item) for n, item in enumerate(both)]
    (stage / "old.manifest").write_bytes(encode(entries))
    for entry in entries:
        (stage / entry.staged).write_bytes(b"x")
    for _ in range(2):
        assert list(await store.recover()) == both
