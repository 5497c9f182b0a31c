"""Parts of large items: what a kill, a loss of power and a failing disk leave of them, and for how long."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from contracts.store import IDENTITY, INBOX, items_in, resumed, stored, write_all
from hauld.errors import Transient
from hauld.model import OVERLAP, Deposit, PartWriter, Place
from hauld.stores.bodies import BACKLOG, MARK_EVERY
from hauld.stores.maildir import MaildirStore
from hauld.stores.parts import LONGEST_WAIT
from support.disks import UnsyncedDisk, WatchedDisk, failing
from support.killed_part_store import ITEM, PIECE, on_disk, store_in
from support.killed_part_store import MARK_EVERY as OFTEN
from support.killed_part_store import resumed as resumed_item
from support.killed_part_store import write as write_item
from support.killed_store import known, recovered
from support.power_loss import RecordingDisk, moments


@pytest_asyncio.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[Callable]:
    """Starts a store in ``tmp_path``, on that disk, and closes it in the end."""
    stores = []

    async def start(disk: WatchedDisk | None = None) -> tuple[MaildirStore, Place]:
        stores.append(store_in(tmp_path, disk))
        await stores[-1].start()
        return stores[-1], await stores[-1].prepare(IDENTITY, "work", INBOX, None)

    yield start
    for store in stores:
        await store.close()


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    return tmp_path / "mail/.haul/stage"


async def left(store: MaildirStore, place: Place, data: bytes) -> None:
    """That much of an item of ``len(ITEM)`` bytes, left, and the store closed."""
    writer = await resumed(store, place, size=len(ITEM))
    writer.write(data)
    writer.leave()
    await store.close()


async def completed(writer: PartWriter, store: MaildirStore, place: Place) -> bytes:
    """What is stored when the rest of the item has come."""
    writer.write(ITEM[writer.offset :])
    [placed] = await stored(store, Deposit(place, "7", "7.1", writer.finish()))
    return await store.read(placed.path)


async def write_until_it_fails(writer: PartWriter, data: bytes = b"") -> None:
    for start in range(0, len(data), PIECE):
        writer.write(data[start : start + PIECE])
        await asyncio.sleep(0.001)  # lets each piece be a write of its own, mostly
    while True:
        writer.write(b"")
        await asyncio.sleep(0)


# --- kills and power cuts ---


async def test_L1_L2_killed_at_every_step_an_item_is_gone_on_with_and_at_most_one_mark_behind(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "support.killed_part_store", tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
        timeout=300,
    )
    trees = sorted(tmp_path.iterdir())
    assert len(trees) > 30
    gone_on_with = 0
    for tree in trees:
        written = on_disk(tree)
        store = MaildirStore(tree / "mail", disk=UnsyncedDisk())
        await store.start()
        await recovered(store, tree)
        if not known(tree):
            writer, deposit = await resumed_item(store)
            assert written - writer.offset <= OFTEN + PIECE
            assert writer.tail == ITEM[max(0, writer.offset - OVERLAP) : writer.offset]
            gone_on_with += writer.offset > 0
            assert await completed(writer, store, deposit.place) == ITEM
        assert [await store.read(item.path) for item in items_in(store)] == [ITEM]
        assert list(await store.recover()) == []
        assert os.listdir(tree / "mail/.haul/stage") == []
        await store.close()
    assert gone_on_with > 8


async def test_L17_after_a_power_cut_at_any_moment_an_item_is_gone_on_with_behind_its_exact_bytes(tmp_path: Path) -> None:
    disk = RecordingDisk(whole=True)
    store = store_in(tmp_path / "before", disk)
    await store.start()
    disk.done.clear()
    writer, deposit = await resumed_item(store)
    await write_item(writer, tmp_path / "before")
    async with store.commit([Deposit(deposit.place, "7", "7.1", writer.finish())]) as placed:
        disk.done.append(("commit", placed))
    await store.close()
    most_believed = 0
    for number, model in moments(disk.done, tmp_path / "before/mail"):
        for most in (True, False):
            root = tmp_path / f"{number:03} {most}"
            model.after_power_loss(root, most=most)
            found = MaildirStore(root, disk=UnsyncedDisk())
            await found.start()
            if not [*model.rows, *await found.recover()]:
                writer, deposit = await resumed_item(found)
                most_believed = max(most_believed, writer.offset)
                assert await completed(writer, found, deposit.place) == ITEM
            assert [await found.read(item.path) for item in items_in(found)] == [ITEM]
            await found.close()
    assert most_believed > len(ITEM) - OFTEN - PIECE


async def test_L17_nothing_is_marked_before_it_lasts(open_store: Callable, tmp_path: Path) -> None:
    disk = WatchedDisk()
    store, place = await open_store(disk)
    writer = await resumed(store, place, size=len(ITEM))
    disk.steps.clear()
    await write_item(writer, tmp_path)
    names = [os.path.splitext(str(arguments[0]))[1] if name == "sync_file" else name for name, arguments in disk.steps]
    pieces = ["append"] * -(-OFTEN // PIECE)
    first = ["create", *pieces, "", "create", "append", ".mark", "sync_directory"]
    again = [*pieces, "", "append", ".mark"]
    assert names[: len(first + again + again)] == first + again + again
    writer.discard()


async def test_L17_bytes_that_are_not_what_the_mark_says_are_not_believed(open_store: Callable, stage: Path) -> None:
    half = ITEM[:3000]
    for damage in (b"", half[:-1], half[:-1] + b"?", b"\0" * len(half), None):
        store, place = await open_store()
        await left(store, place, half)
        [part] = (path for path in stage.iterdir() if path.suffix != ".mark")
        if damage is None:
            part.unlink()
        else:
            part.write_bytes(damage)
        store, place = await open_store()
        writer = await resumed(store, place, size=len(ITEM))
        assert (writer.offset, writer.tail) == (0, b"")
        assert list(stage.iterdir()) == []
        assert await completed(writer, store, place) == ITEM
        await store.close()


async def test_L17_of_a_torn_mark_what_is_whole_is_believed(open_store: Callable, stage: Path, tmp_path: Path) -> None:
    store, place = await open_store()
    writer = await resumed(store, place, size=len(ITEM))
    await write_item(writer, tmp_path)
    writer.leave()
    await store.close()
    [mark] = stage.glob("*.mark")
    [part] = (path for path in stage.iterdir() if path != mark)
    whole, bytes_of_it = mark.read_bytes(), part.read_bytes()
    lines = whole.splitlines(keepends=True)
    for end in {len(whole), len(whole) - 1, len(whole) - 70, len(lines[0]), len(lines[0]) + 1, len(lines[0] + lines[1]), 5, 0}:
        for rest in (b"", b"\0" * (len(whole) - end)):
            mark.write_bytes(whole[:end] + rest)
            part.write_bytes(bytes_of_it)
            store, place = await open_store()
            await store.recover()
            writer = await resumed(store, place, size=len(ITEM))
            marks = whole[:end].count(b"\n") - 1
            assert writer.offset == (len(ITEM) if marks == len(lines) - 1 else max(0, marks) * -(-OFTEN // PIECE) * PIECE)
            writer.leave()
            await store.close()


async def test_bytes_written_after_a_part_was_taken_up_are_marked_as_those_before(open_store: Callable) -> None:
    for end in (1000, 1001, 2500, 2501):
        store, place = await open_store()
        writer = await resumed(store, place, size=len(ITEM))
        writer.write(ITEM[writer.offset : end])
        writer.leave()
        await store.close()
    store, place = await open_store()
    writer = await resumed(store, place, size=len(ITEM))
    assert writer.offset == 2501
    assert await completed(writer, store, place) == ITEM


# --- a disk in trouble ---


@pytest.mark.parametrize("sync", ["part", ".mark", "directory"])
async def test_L7_a_part_whose_sync_failed_is_not_believed(open_store: Callable, stage: Path, sync: str) -> None:
    disk = WatchedDisk()
    store, place = await open_store(disk)
    writer = await resumed(store, place, size=len(ITEM))
    name = "sync_directory" if sync == "directory" else "sync_file"
    disk.before = failing(name, errno.EIO, within="stage" if sync == "directory" else sync)
    writer.write(ITEM[:1500])
    with pytest.raises(Transient, match=r"Input/output error|suspect"):
        await write_until_it_fails(writer)
    writer.leave()
    again = await resumed(store, place, size=len(ITEM))
    assert again.offset == 0
    assert list(stage.iterdir()) == []
    assert await completed(again, store, place) == ITEM


async def test_L7_a_part_that_was_being_written_while_another_sync_failed_is_not_believed(open_store: Callable) -> None:
    disk = WatchedDisk()
    store, place = await open_store(disk)
    writer = await resumed(store, place, size=len(ITEM))
    writer.write(ITEM[: OFTEN - 1])
    disk.before = failing("sync_file", errno.EIO, within="stage/")
    small = store.open("7.2", 1)
    small.write(b"x")
    with pytest.raises(Transient):
        await stored(store, Deposit(place, "7", "7.2", small.finish()))
    with pytest.raises(Transient):
        writer.write(ITEM[OFTEN - 1 :])
    writer.leave()
    assert (await resumed(store, place, size=len(ITEM))).offset == 0


async def test_L5_a_full_disk_costs_what_came_after_the_last_mark(open_store: Callable, tmp_path: Path) -> None:
    disk = WatchedDisk()
    store, place = await open_store(disk)
    writer = await resumed(store, place, size=len(ITEM))

    def full(_number: int, name: str, _arguments: object) -> None:
        if name == "append" and on_disk(tmp_path) > 2 * OFTEN:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk.before = full
    with pytest.raises(Transient, match="No space left"):
        await write_until_it_fails(writer, ITEM)
    writer.leave()
    disk.before = None
    again = await resumed(store, place, size=len(ITEM))
    assert again.offset >= OFTEN
    assert await completed(again, store, place) == ITEM


@pytest.mark.parametrize(("step", "error"), [("sync_file", errno.EIO), ("append", errno.ENOSPC)])
async def test_L5_L7_a_part_that_cannot_be_marked_when_it_is_left_leaves_no_file_open(
    open_store: Callable, stage: Path, step: str, error: int
) -> None:
    disk = WatchedDisk()
    store, place = await open_store(disk)
    writer = await resumed(store, place, size=len(ITEM))
    writer.write(ITEM[: OFTEN - 1])
    while not list(stage.iterdir()):
        await asyncio.sleep(0)  # nothing tells that a piece has been written
    disk.before = failing(step, error, within="part" if step == "sync_file" else "")
    writer.leave()
    assert (await resumed(store, place, size=len(ITEM))).offset == 0
    opened = [os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    assert [path for path in opened if str(stage) in path and path != str(stage)] == []


# --- how long ---


async def test_a_part_that_nobody_went_on_with_for_a_week_is_swept(open_store: Callable, stage: Path) -> None:
    store, place = await open_store()
    await left(store, place, ITEM[:3000])
    [mark] = stage.glob("*.mark")
    for age, kept in ((LONGEST_WAIT - 60, 2), (LONGEST_WAIT + 60, 0)):
        os.utime(mark, (time.time() - age,) * 2)
        store, place = await open_store()
        await store.recover()
        assert len(list(stage.iterdir())) == kept
        await store.close()


async def test_L14_a_part_without_a_mark_and_a_mark_without_its_part_are_swept(open_store: Callable, stage: Path) -> None:
    for goes, stays in ((".mark", 1), ("", 1)):
        store, place = await open_store()
        await left(store, place, ITEM[:3000])
        [path] = (path for path in stage.iterdir() if path.suffix == goes)
        path.unlink()
        assert len(list(stage.iterdir())) == stays
        store, place = await open_store()
        await store.recover()
        assert list(stage.iterdir()) == []
        await store.close()


async def test_a_part_that_a_crashed_commit_had_made_durable_is_not_gone_on_with(open_store: Callable, stage: Path) -> None:
    store, place = await open_store()
    writer = await resumed(store, place, size=len(ITEM))
    writer.write(ITEM)
    marked = {}

    def keep_the_mark(_number: int, name: str, arguments: tuple) -> None:
        if name == "unlink" and str(arguments[0]).endswith(".mark"):
            marked[arguments[0]] = Path(arguments[0]).read_bytes()
        if name == "rename":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    await store.close()
    disk = WatchedDisk(keep_the_mark)
    store, place = await open_store(disk)
    writer = await resumed(store, place, size=len(ITEM))
    assert writer.offset == len(ITEM)
    with pytest.raises(Transient):
        await stored(store, Deposit(place, "7", "7.1", writer.finish()))
    disk.before = None
    for path, said in marked.items():
        Path(path).write_bytes(said)  # as if the process had died before it went
    [placed] = await store.recover()
    await store.settle()
    assert await store.read(placed.path) == ITEM
    assert list(stage.iterdir()) == []


async def test_a_large_body_that_is_finished_and_discarded_at_once_leaves_nothing(open_store: Callable, stage: Path) -> None:
    store, _ = await open_store()
    writer = store.open("7.1", 400_000)
    writer.write(b"x" * 400_000)
    body = writer.finish()
    body.discard()
    await body.ended()
    assert list(stage.iterdir()) == []


async def test_P38_a_part_takes_little_memory_and_few_syncs(tmp_path: Path) -> None:
    disk = WatchedDisk()
    store = MaildirStore(tmp_path / "mail", disk=disk)
    await store.start()
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    writer = await resumed(store, place, size=3 * MARK_EVERY)
    disk.steps.clear()
    piece = b"x" * (BACKLOG // 4)
    await write_all(writer, piece, 3 * MARK_EVERY // len(piece))
    [placed] = await stored(store, Deposit(place, "7", "7.1", writer.finish()))
    assert placed.size == 3 * MARK_EVERY
    assert disk.names().count("sync_file") <= 2 * 3 + 2
    await store.close()
