"""The SQLite state when other processes, the disk or the power get in its way."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from contracts.state import Scene, SetClock, page, placed
from hauld.clock import SystemClock
from hauld.errors import Transient
from hauld.model import ItemStatus, Setback, Stored
from hauld.state.sqlite import SqliteState
from hauld.state.sqlite.connection import connect
from hauld.state.sqlite.rescue import mark_of

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[SqliteState]:
    state = SqliteState(tmp_path / "haul.db", SetClock(), patience=0.05)
    await state.start()
    yield state
    await state.close()


# --- locked ---


async def test_L9_a_database_locked_by_another_process_is_tried_again_without_loss(tmp_path: Path, state: SqliteState) -> None:
    scene = await Scene.set(state)
    await scene.list([1, 2])
    with closing(sqlite3.connect(tmp_path / "haul.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Transient, match=r"haul\.db") as locked:
            await scene.store([1])
        assert locked.value.kind == "locked"
        assert await scene.pending() == ["7.2", "7.1"], "readers go on"
        other.execute("ROLLBACK")
    assert (await scene.store([1])).stored == 1
    assert await state.check() == []


async def test_L9_a_lock_that_is_given_up_in_time_is_only_waited_for(tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "haul.db", SetClock(), patience=60)
    await state.start()
    scene = await Scene.set(state)
    with closing(sqlite3.connect(tmp_path / "haul.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        listing = asyncio.ensure_future(scene.list([1]))
        await scene.pending()
        assert not listing.done()
        other.execute("ROLLBACK")
        await listing
    assert await scene.pending() == ["7.1"]
    await state.close()


async def test_R6_how_long_the_writer_has_not_got_on_is_told_until_its_transaction_ends(tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "haul.db", SetClock(), patience=60)
    await state.start()
    scene = await Scene.set(state)
    with closing(sqlite3.connect(tmp_path / "haul.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(scene.list([1, 2]))
        while (state.writing_for() or 0.0) < 0.1:
            await asyncio.sleep(0.01)  # time is what is told
        other.execute("ROLLBACK")
    await writing
    assert state.writing_for() is None
    await state.close()


async def test_L9_a_daemon_that_ends_while_the_database_is_locked_ends_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = SqliteState(tmp_path / "haul.db", SetClock(), patience=0.05)
    await state.start()
    scene = await Scene.set(state)
    await scene.list([1])
    await state.set_reconciled()
    with closing(sqlite3.connect(tmp_path / "haul.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await state.close()
        assert "not closed in order" in caplog.text
        other.execute("ROLLBACK")
        await state.start()
    assert await scene.pending() == ["7.1"]
    assert await state.reconciled()
    await state.close()


# --- disk ---


@contextmanager
def full_disk(at: int) -> Iterator[None]:
    """No file of this process grows beyond that many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_is_full_is_said_and_nothing_is_half_there(tmp_path: Path, state: SqliteState) -> None:
    scene = await Scene.set(state)
    await scene.list(range(1, 501))
    log = tmp_path / "haul.db-wal"  # it has the size that the migrations have given it
    with full_disk(log.stat().st_size), pytest.raises(Transient) as full:
        await scene.store(range(1, 501))
    assert full.value.kind == "disk"
    assert str(tmp_path / "haul.db") in str(full.value)
    assert (await state.counters(scene.job.number)).downloaded == 0
    assert (await scene.store(range(1, 501))).stored == 500
    assert await state.check() == []


async def test_a_job_that_cannot_be_deleted_whole_is_there_whole(tmp_path: Path, state: SqliteState) -> None:
    scene = await Scene.set(state)
    await scene.list(range(1, 501))
    await scene.store(range(1, 501))
    before = await state.job(scene.job.id), await state.counters(scene.job.number), await state.event_span()
    with full_disk((tmp_path / "haul.db-wal").stat().st_size), pytest.raises(Transient):
        await state.delete_job(scene.job.number, purge=True)
    assert (await state.job(scene.job.id), await state.counters(scene.job.number), await state.event_span()) == before
    assert (await scene.item(500)).local_path == "INBOX/7.500"
    assert await state.check() == []
    assert len(await state.delete_job(scene.job.number, purge=True)) == 500
    assert await state.check() == []


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open no file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, before[1]))
    opened: list[int] = []
    try:
        with suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in opened:
            os.close(descriptor)


async def test_L8_a_database_that_cannot_be_opened_for_want_of_descriptors_is_no_trouble_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    state = SqliteState(path, SetClock())
    await state.start()
    await state.close()
    with no_more_files(), pytest.raises(Transient, match=r"haul\.db") as refused:
        await state.start()
    assert refused.value.kind == "files"
    with no_more_files(), pytest.raises(Transient, match=r"haul\.db") as refused:
        async with connect(path, "mode=rw", patience=0.05):
            pass
    assert refused.value.kind == "files"
    with pytest.raises(Transient) as refused:
        async with connect(tmp_path / "nowhere" / "haul.db", "mode=rw", patience=0.05):
            pass
    assert refused.value.kind == "disk"
    await state.start()
    assert await state.check() == []
    await state.close()


async def test_a_mistake_of_ours_is_not_called_trouble_and_takes_everything_back(state: SqliteState) -> None:
    scene = await Scene.set(state)
    await scene.list([1, 2])
    numbers = [await scene.number(uid) for uid in (1, 2)]
    with pytest.raises(sqlite3.IntegrityError):
        await state.record_group(scene.job.number, [Stored(numbers[0], placed(1)), Stored(numbers[1], placed(2, size=-1))], ())
    assert await scene.pending() == ["7.2", "7.1"]
    assert await scene.told("item.stored") == []


# --- what check finds ---


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("UPDATE job_counters SET downloaded = downloaded - 1", "counters of job"),
        ("DELETE FROM job_counters", "counters of job"),
        ("UPDATE folder_counters SET bytes = bytes + 1", "counters of folder"),
        ("UPDATE wants SET outcome = 'failed' WHERE item = 1", "has item 1 as failed"),
        ("UPDATE wants SET folder = 1 WHERE item = 1", "in folder 1, but"),
        ("UPDATE folders SET epoch = '8'", "its epoch 7 has passed"),
        ("DELETE FROM accounts", "is not there"),
        ("DELETE FROM ledger", "closed in order"),
        ("DELETE FROM stream", "no id"),
        ("INSERT INTO conflicts SELECT number, sha256, 1, 'x', 0 FROM items WHERE number = 1", "its own bytes"),
        ("INSERT INTO given_up SELECT number, sha256, 1, 'x' FROM items WHERE number = 1", "though it was given up"),
        ("INSERT INTO given_up VALUES (9999, 'ab', 1, 'x')", "is not there"),
    ],
)
async def test_check_finds_what_does_not_agree(tmp_path: Path, state: SqliteState, harm: str, said: str) -> None:
    scene = await Scene.set(state)
    await scene.list([1, 2])
    await scene.store([1])
    assert await state.check() == []
    with closing(sqlite3.connect(tmp_path / "haul.db", isolation_level=None)) as other:
        other.execute(harm)
    assert any(said in sentence for sentence in await state.check())


async def test_check_finds_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    state = SqliteState(path, SetClock())
    await state.start()
    scene = await Scene.set(state)
    await scene.list(range(1, 500))
    await state.close()
    await state.start()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (path.stat().st_size - 8192))
    assert any("damaged" in sentence or "database itself" in sentence for sentence in await state.check())
    assert mark_of(path).exists(), "the next start rebuilds it"
    await state.close()


async def test_the_size_of_a_stored_item_cannot_be_changed(tmp_path: Path, state: SqliteState) -> None:
    scene = await Scene.set(state)
    await scene.list([1])
    await scene.store([1])
    with (
        closing(sqlite3.connect(tmp_path / "haul.db", isolation_level=None)) as other,
        pytest.raises(sqlite3.IntegrityError, match="does not change"),
    ):
        other.execute("UPDATE items SET size = 5")


async def test_a_size_that_differs_from_the_listed_one_is_kept_beside_it(tmp_path: Path, state: SqliteState) -> None:
    scene = await Scene.set(state)
    await scene.list([1])
    stored = Stored(await scene.number(1), placed(1, size=7), size_differs=True)
    await state.record_group(scene.job.number, [stored], ())
    with closing(sqlite3.connect(tmp_path / "haul.db")) as other:
        assert other.execute("SELECT size, meta FROM items").fetchone() == (7, '{"listed_size":101}')


# --- items that were put off ---


async def test_an_item_that_was_put_off_is_pending_when_its_time_has_come(tmp_path: Path) -> None:
    clock = SetClock()
    state = SqliteState(tmp_path / "haul.db", clock)
    await state.start()
    scene = await Scene.set(state)
    await scene.list([1, 2])
    due = clock.now + 60_000
    with closing(sqlite3.connect(tmp_path / "haul.db", isolation_level=None)) as other:
        other.execute("UPDATE items SET next_retry_at = ? WHERE key = '7.1'", [due])
    assert await scene.pending() == ["7.2"]
    assert await state.next_retry(scene.job.number) == due
    clock.pass_seconds(60)
    assert await scene.pending() == ["7.2", "7.1"]
    assert await state.next_retry(scene.job.number) is None
    await state.close()


# --- killed ---

UIDS = 400


async def test_a_ledger_whose_daemon_is_killed_has_every_acknowledged_commit_and_no_half_one(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    dice = random.Random(5)
    acknowledged = 0
    for _ in range(6):
        acknowledged = max(acknowledged, await asyncio.to_thread(run_and_kill, path, dice.randrange(1, 40)))
        state = SqliteState(path, SetClock())
        await state.start()
        assert await state.check() == []
        [job] = await state.jobs()
        stored = await state.items(job.number, status=ItemStatus.COMPLETED, limit=1000)
        assert len(stored) % 5 == 0, "a group is whole"
        assert len(stored) >= acknowledged
        assert (await state.counters(job.number)).downloaded == len(stored)
        assert sum(int(str(e.data["count"])) for e in await state.events(0) if e.kind == "item.stored") == len(stored)
        await state.close()
    assert acknowledged


def run_and_kill(path: Path, groups: int) -> int:
    """Run a daemon that stores groups of five, kill it somewhere after so many; how many items it had acknowledged."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen([sys.executable, __file__, path], stdout=subprocess.PIPE, text=True, env=environment) as daemon:
        assert daemon.stdout is not None
        lines = [line for line, _ in zip(daemon.stdout, range(groups), strict=False)]
        daemon.send_signal(signal.SIGKILL)
        lines += daemon.stdout.readlines()
    return int(lines[-1]) if lines else 0


async def store_groups(path: Path) -> None:
    """Store groups of five, saying after each how many items are stored; setbacks in between. Ends when all are stored."""
    state = SqliteState(path, SystemClock())
    await state.start()
    scene = await Scene.set(state) if not await state.jobs() else None
    job = (await state.jobs())[0].number
    if scene is not None:
        await state.begin_listing(scene.inbox.number, "7")
        await state.record_page(scene.inbox.number, page(range(1, UIDS + 1)), [job])
    [inbox] = [folder.number for folder in await state.folders(1) if folder.name == "INBOX"]
    while group := await state.pending(job, inbox, below=None, limit=5):
        await state.record_group(job, (), [Setback(item.number, "missing", "Not this time.") for item in group])
        await state.record_group(job, [Stored(item.number, placed(item.ordinal)) for item in group], ())
        sys.stdout.write(f"{(await state.counters(job)).downloaded}\n")
        sys.stdout.flush()
    await state.close()


if __name__ == "__main__":
    asyncio.run(store_groups(Path(sys.argv[1])))
