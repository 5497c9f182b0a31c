"""Copies of the SQLite state: whole, durable, a week of them, and nobody waits."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from contracts.state import NOON, Scene, SetClock, create
from hauld.errors import Transient
from hauld.state.sqlite import SqliteState
from hauld.state.sqlite.files import Files

DAY = 86_400


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def state(tmp_path: Path, clock: SetClock) -> AsyncIterator[SqliteState]:
    state = SqliteState(tmp_path / "haul.db", clock, patience=0.05)
    await state.start()
    yield state
    await state.close()


def names(tmp_path: Path) -> list[str]:
    return sorted(copy.name for copy in (tmp_path / "haul.db.copies").iterdir())


async def test_a_copy_is_a_whole_ledger_for_its_owner_alone(tmp_path: Path, state: SqliteState) -> None:
    scene = await Scene.set(state)
    await scene.list(range(1, 50))
    await scene.store([1, 2])
    copy = await state.save_copy()
    assert copy == tmp_path / "haul.db.copies" / "000001-2026-01-01.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    other = SqliteState(tmp_path / "other.db", SetClock())
    copy.rename(tmp_path / "other.db")
    await other.start()
    assert await other.check() == []
    assert await other.job(scene.job.id) == scene.job
    assert await other.counters(scene.job.number) == await state.counters(scene.job.number)
    await other.close()


async def test_the_newest_seven_days_are_kept(tmp_path: Path, state: SqliteState, clock: SetClock) -> None:
    for _ in range(10):
        await state.save_copy()
        clock.pass_seconds(DAY)
    assert names(tmp_path) == [f"{day:06d}-2026-01-{day:02d}.db" for day in range(4, 11)]
    await state.save_copy(keep=2)
    assert names(tmp_path) == ["000010-2026-01-10.db", "000011-2026-01-11.db"]


async def test_L12_a_clock_that_jumps_neither_stops_copies_nor_costs_many(
    tmp_path: Path, state: SqliteState, clock: SetClock
) -> None:
    for _ in range(5):
        await state.save_copy()
        clock.pass_seconds(DAY)
    now = clock.now
    for wrong in (now + 3650 * DAY * 1000, 0):
        clock.now = wrong
        assert await state.save_copy() is not None
    clock.now = now
    assert await state.save_copy() is not None
    assert [name[7:] for name in names(tmp_path)] == [
        *(f"2026-01-{day:02d}.db" for day in range(2, 6)),
        "2036-01-04.db",
        "1970-01-01.db",
        "2026-01-06.db",
    ]
    for _ in range(7):
        clock.pass_seconds(DAY)
        assert await state.save_copy() is not None
    assert [name[7:] for name in names(tmp_path)] == [f"2026-01-{day:02d}.db" for day in range(7, 14)]


async def test_what_a_copy_left_that_broke_off_is_swept_and_what_is_not_ours_stays(tmp_path: Path, state: SqliteState) -> None:
    copies = tmp_path / "haul.db.copies"
    copies.mkdir()
    (copies / "000009-2025-12-31.db.new").write_text("half")
    (copies / "notes.txt").write_text("of somebody")
    await state.save_copy()
    assert names(tmp_path) == ["000001-2026-01-01.db", "notes.txt"]


async def test_a_copy_of_today_that_cannot_be_read_is_replaced(tmp_path: Path, state: SqliteState) -> None:
    copy = await state.save_copy()
    assert copy is not None
    copy.write_text("Dear diary")
    assert await state.save_copy() == tmp_path / "haul.db.copies" / "000002-2026-01-01.db"
    assert names(tmp_path) == ["000002-2026-01-01.db"]


async def test_a_copy_waits_for_no_writer_and_none_waits_for_it(tmp_path: Path, state: SqliteState) -> None:
    scene = await Scene.set(state)
    with closing(sqlite3.connect(tmp_path / "haul.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await state.save_copy() is not None
        other.execute("ROLLBACK")
    await create(state, scene.account)
    copying = asyncio.ensure_future(state.save_copy())
    await scene.list([1])
    assert await copying is not None


async def test_copies_asked_for_at_once_are_one(tmp_path: Path, state: SqliteState) -> None:
    made = await asyncio.gather(*(state.save_copy() for _ in range(5)))
    assert len([path for path in made if path]) == 1
    assert len(names(tmp_path)) == 1


async def test_a_copy_that_the_disk_refuses_leaves_the_older_ones(tmp_path: Path, clock: SetClock) -> None:
    class Failing(Files):
        def sync(self, path: Path) -> None:
            if clock.now > NOON:
                raise OSError(5, "Input/output error")
            super().sync(path)

    state = SqliteState(tmp_path / "haul.db", clock, files=Failing())
    await state.start()
    await state.save_copy(keep=1)
    clock.pass_seconds(DAY)
    with pytest.raises(Transient, match="Input/output") as trouble:
        await state.save_copy(keep=1)
    assert trouble.value.kind == "disk"
    assert "000001-2026-01-01.db" in names(tmp_path)
    assert "000002-2026-01-02.db" not in names(tmp_path)
    await state.close()


async def test_a_copy_that_is_cancelled_is_no_copy(tmp_path: Path, state: SqliteState) -> None:
    scene = await Scene.set(state)
    await scene.list(range(1, 500))
    for hops in range(0, 30, 3):
        task = asyncio.ensure_future(state.save_copy())
        for _ in range(hops):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for copy in (tmp_path / "haul.db.copies").glob("*.db"):
        with closing(sqlite3.connect(copy)) as database:
            assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
    await create(state, scene.account)
    assert await state.save_copy() is not None
    assert len(names(tmp_path)) == 1
