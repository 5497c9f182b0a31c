"""A ledger that is damaged, lost or cut short: nothing is deleted, and a start ends with a sound one."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from contracts.state import IDENTITY, Scene, SetClock, create, placed
from hauld.errors import Fatal, Transient
from hauld.model import Found, Place, Stored
from hauld.state.sqlite import SqliteState
from hauld.state.sqlite.files import Files
from hauld.state.sqlite.rescue import mark_of

ASIDE = re.compile(r"haul\.db\.damaged-\d{8}T\d{6}Z(\.\d+)?")


async def opened(path: Path, files: Files | None = None) -> SqliteState:
    state = SqliteState(path, SetClock(), files=files)
    await state.start()
    return state


async def seeded(path: Path, *, copy: bool = True) -> str:
    """A ledger that is reconciled, closed in order, with a job that its copy tells of and one that came later; the id of its
    stream."""
    state = await opened(path)
    scene = await Scene.set(state)
    await scene.list(range(1, 400))
    await scene.store([1, 2, 3])
    await state.set_reconciled()
    if copy:
        await state.save_copy()
    await create(state, scene.account)
    stream = await state.stream()
    await state.close()
    return stream


async def ended(state: SqliteState) -> tuple[int, bool, str]:
    """How many jobs there are, whether it is reconciled, and the id of the stream; closed."""
    assert await state.check() == []
    told = len(await state.jobs()), await state.reconciled(), await state.stream()
    await state.close()
    return told


def killed(path: Path, change: Callable[[Path], None] = lambda log: None) -> Path:
    """What lies on the disk after the ledger was opened, has got one more job, and was killed; ``change`` is done to its log.
    ``path`` itself is closed."""
    crashed = path.parent / "crashed"
    crashed.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE ledger SET open = 1")
        database.execute("PRAGMA wal_checkpoint")
        for number in range(8):
            database.execute("UPDATE accounts SET name = ?", [f"renamed {number}"])
        for name in ("haul.db", "haul.db-wal"):
            (crashed / name).write_bytes((path.parent / name).read_bytes())
    change(crashed / "haul.db-wal")
    return crashed / "haul.db"


def aside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if ASIDE.match(entry.name))


def truncate(at: float) -> Callable[[Path], None]:
    def harm(path: Path) -> None:
        os.truncate(path, int(at if at > 1 else path.stat().st_size * at))

    return harm


def overwrite(first: int, last: int | None = None) -> Callable[[Path], None]:
    """Garbage pages from the first to the last."""

    def harm(path: Path) -> None:
        whole = path.read_bytes()
        start, end = first * 4096, len(whole) if last is None else (last + 1) * 4096
        path.write_bytes(whole[:start] + b"\xa5" * (end - start) + whole[end:])

    return harm


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("of somebody")


HARMS: dict[str, Callable[[Path], None]] = {
    "truncated to 50 bytes": truncate(50),
    "truncated within the header": truncate(99),
    "truncated within the first page": truncate(1000),
    "truncated to one page": truncate(4096),
    "truncated to half": truncate(0.5),
    "truncated by a page": lambda path: os.truncate(path, path.stat().st_size - 4096),
    "truncated by a byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "first page garbage": overwrite(0, 0),
    "second page garbage": overwrite(1, 1),
    "a page in the middle garbage": overwrite(9, 9),
    "all pages but the first garbage": overwrite(1),
    "all garbage": overwrite(0),
    "text": lambda path: path.write_text("Dear diary"),
    "a directory": replace_by_directory,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())
async def test_L10_what_is_damaged_is_set_aside_and_its_copy_takes_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "haul.db"
    stream = await seeded(path)
    harm(path)
    damaged = path.read_bytes() if path.is_file() else None
    jobs, reconciled, new_stream = await ended(await opened(path))
    assert (jobs, reconciled) == (1, False)
    assert new_stream != stream, "numbers of events are given again"
    [name] = aside(path)
    assert (tmp_path / name).read_bytes() == damaged if damaged is not None else (tmp_path / name / "something").exists()
    assert any(record.levelno == logging.ERROR and name in record.getMessage() for record in caplog.records)
    assert not mark_of(path).exists()
    assert (await ended(await opened(path)))[1:] == (False, new_stream), "until somebody has reconciled it"


@pytest.mark.parametrize("first", [b"SQLite format 3\0" + bytes(4080), bytes(4096), b"SQLite format 3\0" + bytes(300)])
async def test_L2_a_ledger_that_was_being_made_when_the_power_went_is_made_anew_and_nothing_is_set_aside(
    tmp_path: Path, first: bytes
) -> None:
    path = tmp_path / "haul.db"
    path.write_bytes(first)
    words = (0, 1, 0, 512, 4096)  # records, a nonce, pages before, and the sizes of a sector and a page
    header = bytes.fromhex("d9d505f920a163d7") + b"".join(word.to_bytes(4, "big") for word in words)
    (tmp_path / "haul.db-journal").write_bytes(header.ljust(512, b"\0"))
    jobs, _, _ = await ended(await opened(path))
    assert jobs == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["haul.db", "haul.db.lock"]


async def test_L10_without_a_copy_the_ledger_is_new(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    stream = await seeded(path, copy=False)
    overwrite(1)(path)
    jobs, reconciled, new_stream = await ended(await opened(path))
    assert (jobs, reconciled) == (0, False)
    assert new_stream != stream
    assert len(aside(path)) == 1


async def test_L10_a_missing_ledger_is_made_from_its_copy(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)
    path.unlink()
    assert (await ended(await opened(path)))[:2] == (1, False)
    assert aside(path) == []


async def test_L10_an_empty_file_is_a_new_ledger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "haul.db"
    path.touch()
    assert (await ended(await opened(path)))[:2] == (0, False)
    assert caplog.records == []


async def test_L10_a_log_whose_ledger_is_missing_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path, copy=False)
    crashed = killed(path)
    log = (crashed.parent / "haul.db-wal").read_bytes()
    crashed.unlink()
    assert (await ended(await opened(crashed)))[:2] == (0, False)
    [name] = aside(crashed)
    assert name.endswith("Z-wal")
    assert (crashed.parent / name).read_bytes() == log


async def test_L10_when_the_newest_copy_is_damaged_the_one_before_is_used(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    clock = SetClock()
    state = SqliteState(path, clock)
    await state.start()
    scene = await Scene.set(state)
    copies = []
    for _ in range(3):
        copies.append(await state.save_copy())
        clock.pass_seconds(86_400)
        await create(state, scene.account)
    await state.close()
    overwrite(0)(path)
    for copy, harm in zip(copies[1:], (overwrite(3), truncate(0.5)), strict=True):
        assert copy is not None
        harm(copy)
    assert (await ended(await opened(path)))[0] == 1
    assert all(copy is not None and copy.exists() for copy in copies)


async def test_L10_a_copy_from_the_future_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)
    [copy] = (tmp_path / "haul.db.copies").iterdir()
    with closing(sqlite3.connect(copy, isolation_level=None)) as database:
        database.execute("INSERT INTO schema VALUES (9000, 'from_the_future', 0)")
    path.unlink()
    assert (await ended(await opened(path)))[0] == 0


async def test_L10_what_was_set_aside_before_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    for number in range(3):
        path.write_text(f"damaged {number}")
        await (await opened(path)).close()
    texts = [(tmp_path / name).read_text() for name in aside(path)]
    assert sorted(texts) == ["damaged 0", "damaged 1", "damaged 2"]


# --- the log ---


async def test_L2_a_ledger_that_was_killed_has_all_its_transactions_and_stays_reconciled(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    stream = await seeded(path)
    state = await opened(killed(path))
    assert (await state.jobs())[0].account_name == "renamed 7"
    assert (await ended(state))[1:] == (True, stream)


async def test_L2_a_ledger_that_is_killed_at_once_stays_reconciled(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    stream = await seeded(path)
    state = await opened(path)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("haul.db", "haul.db-wal"):
        (crashed / name).write_bytes((tmp_path / name).read_bytes())
    await state.close()
    assert (await ended(await opened(crashed / "haul.db")))[1:] == (True, stream)


LOST: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "emptied": lambda log: log.write_bytes(b""),
    "garbage": lambda log: log.write_bytes(b"\xa5" * log.stat().st_size),
    "garbage in its header": lambda log: log.write_bytes(b"\xa5" * 32 + log.read_bytes()[32:]),
    "garbage in a page": lambda log: log.write_bytes(
        log.read_bytes()[: 32 + 3 * 4120 + 500] + b"\xa5" * 500 + log.read_bytes()[32 + 3 * 4120 + 1000 :]
    ),
}


@pytest.mark.parametrize("harm", LOST.values(), ids=LOST.keys())
async def test_L10_when_the_log_is_lost_after_a_crash_the_store_may_hold_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "haul.db"
    stream = await seeded(path)
    jobs, reconciled, new_stream = await ended(await opened(killed(path, harm)))
    assert (jobs, reconciled) == (2, False)
    assert new_stream != stream
    assert any("last transactions" in record.getMessage() for record in caplog.records)


async def test_L10_the_file_alone_tells_that_the_ledger_is_open(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)
    state = await opened(path)
    (tmp_path / "crashed.db").write_bytes(path.read_bytes())
    await state.close()
    assert not (await ended(await opened(tmp_path / "crashed.db")))[1]


async def test_a_ledger_that_was_closed_in_order_stays_reconciled(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    stream = await seeded(path)
    for _ in range(2):
        assert await ended(await opened(path)) == (2, True, stream)


async def test_a_copy_that_a_person_puts_in_place_is_not_reconciled_and_tells_another_stream(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    stream = await seeded(path)
    [copy] = (tmp_path / "haul.db.copies").iterdir()
    copy.rename(path)
    jobs, reconciled, new_stream = await ended(await opened(path))
    assert (jobs, reconciled) == (1, False)
    assert new_stream != stream


# --- damage that shows later ---


async def test_L10_damage_that_shows_while_it_works_is_remembered_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)
    whole = path.read_bytes()
    state = await opened(path)
    overwrite(1)(path)
    with pytest.raises(Fatal) as fatal:
        await state.paths(1)
    assert fatal.value.kind == "damaged"
    assert fatal.value.hint is not None
    assert "rebuilds" in fatal.value.hint
    assert mark_of(path).exists()
    await state.close()
    for log in tmp_path.glob("haul.db-*"):
        log.unlink()
    path.write_bytes(whole)  # a look at every page finds nothing
    assert (await ended(await opened(path)))[:2] == (1, False)
    [name] = aside(path)
    assert (tmp_path / name).read_bytes() == whole
    assert not mark_of(path).exists()
    assert (await ended(await opened(path)))[0] == 1, "once"
    assert len(aside(path)) == 1


async def test_L10_a_marked_ledger_from_the_future_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("INSERT INTO schema VALUES (9000, 'from_the_future', 0)")
    mark_of(path).write_text("{}")
    with pytest.raises(Fatal, match="9000"):
        await opened(path)
    assert aside(path) == []
    assert mark_of(path).exists()


async def test_a_mark_that_is_no_mark_is_one_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)
    mark_of(path).write_bytes(b"\xff[")
    assert (await ended(await opened(path)))[0] == 1
    assert len(aside(path)) == 1


# --- crashes and trouble within the rescue ---


class Broken(Exception):
    """The power went."""


class BreakingFiles(Files):
    """The power goes before the step of that number, counted from 1; nothing is done after it."""

    def __init__(self, before: int) -> None:
        self.steps = 0
        self._before = before

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in ("write", "copy", "make", "make_directory", "rename", "remove", "sync", "sync_directory"):
            return method

        def step(*arguments: Any) -> Any:
            self.steps += 1
            if self.steps >= self._before:
                raise Broken
            return method(*arguments)

        return step


@pytest.mark.parametrize("log", [False, True], ids=["closed", "killed"])
async def test_L4_a_rescue_that_breaks_off_anywhere_is_finished_by_the_next_start(tmp_path: Path, log: bool) -> None:
    await seeded(tmp_path / "haul.db")
    [copy] = (tmp_path / "haul.db.copies").iterdir()
    origin = killed(tmp_path / "haul.db") if log else tmp_path / "haul.db"
    overwrite(4)(origin)
    pieces = sorted(piece.read_bytes() for piece in map(origin.with_name, ("haul.db", "haul.db-wal")) if piece.exists())
    broken = 0
    for step in range(1, 100):
        path = tmp_path / f"{step}" / "haul.db"
        (path.parent / "haul.db.copies").mkdir(parents=True)
        (path.parent / "haul.db.copies" / copy.name).write_bytes(copy.read_bytes())
        for name in ("haul.db", "haul.db-wal"):
            if (origin.parent / name).exists():
                (path.parent / name).write_bytes((origin.parent / name).read_bytes())
        files = BreakingFiles(step)
        try:
            state = await opened(path, files)
        except Broken:
            broken += 1
            with contextlib.suppress(Broken):  # the same again a step further on
                await (await opened(path, BreakingFiles(2))).close()
            state = await opened(path)
        assert (await ended(state))[:2] == (1, False)
        found = sorted((path.parent / name).read_bytes() for name in aside(path) if not name.endswith("-shm"))
        assert found == pieces, "nothing is deleted, nothing written over"
        assert len({ASIDE.match(name)[0] for name in aside(path)}) == 1, "what belongs together has one name"  # type: ignore[index]
        left = {entry.name for entry in path.parent.iterdir()} - set(aside(path))
        assert left == {"haul.db", "haul.db.copies", "haul.db.lock"}
        if files.steps < step:
            break
    assert broken >= 8


async def test_trouble_with_the_disk_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)

    class Full(Files):
        def copy(self, source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

    before = path.read_bytes()
    overwrite(0)(path)
    with pytest.raises(Transient, match="No space left") as full:
        await opened(path, Full())
    assert full.value.kind == "disk"
    assert len(aside(path)) == 1
    (tmp_path / aside(path)[0]).write_bytes(before)
    assert (await ended(await opened(path)))[:2] == (1, False)


async def test_what_cannot_be_read_is_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    path.symlink_to("haul.db")  # it leads nowhere, for whichever user
    with pytest.raises(Transient) as trouble:
        await opened(path)
    assert trouble.value.kind == "disk"
    assert path.is_symlink()
    assert aside(path) == []


# --- what is restored after it ---


async def test_L10_what_the_store_holds_is_stored_again_without_being_fetched(tmp_path: Path) -> None:
    """The whole way: damage, an older copy, and the rows that came after it."""
    path = tmp_path / "haul.db"
    state = await opened(path)
    scene = await Scene.set(state)
    await scene.list([1, 2, 3])
    await scene.store([1])
    await state.save_copy()
    await scene.store([2])
    number = await scene.number(3)
    await state.record_group(None, [Stored(number, placed(3))], ())
    await state.close()
    overwrite(0)(path)
    state = await opened(path)
    assert [item.key for item in await state.pending(1, scene.inbox.number, below=None, limit=9)] == ["7.3", "7.2"]
    place = Place(IDENTITY, "ann", scene.inbox.remote, "INBOX")
    found = [Found(placed(uid).path, 100 + uid, placed(uid)) for uid in (1, 2, 3)]
    assert await state.restore("imap", place, found) == 2
    await state.set_reconciled()
    assert await state.pending(1, scene.inbox.number, below=None, limit=9) == []
    assert (await ended(state))[1]
