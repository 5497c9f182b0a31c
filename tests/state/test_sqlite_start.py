"""Opening and closing the SQLite state: who may, what is refused untouched, what migrations promise."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from contracts.state import Scene, SetClock
from haulapi.faults import Exit
from hauld.errors import Fatal, Transient
from hauld.model import Strategy
from hauld.state.base import Preview
from hauld.state.sqlite import SqliteState, schema
from hauld.state.sqlite.connection import connect
from hauld.state.sqlite.guard import examine
from hauld.state.sqlite.queries import load, statements

PACKAGE = Path(schema.__file__).parent


async def opened(path: Path) -> SqliteState:
    state = SqliteState(path, SetClock())
    await state.start()
    return state


async def seeded(path: Path) -> None:
    """A ledger with a few items, closed in order."""
    state = await opened(path)
    scene = await Scene.set(state)
    await scene.list(range(1, 200))
    await scene.store([1, 2, 3])
    await state.close()


def files(directory: Path) -> dict[str, bytes]:
    """What is there, but for the lock file and the shared memory that every reader makes."""
    return {p.name: p.read_bytes() for p in sorted(directory.iterdir()) if not p.name.endswith((".lock", "-shm"))}


# --- open and close ---


async def test_what_was_recorded_is_there_after_a_restart(tmp_path: Path) -> None:
    await seeded(tmp_path / "haul.db")
    state = await opened(tmp_path / "haul.db")
    [job] = await state.jobs()
    assert (await state.counters(job.number)).downloaded == 3
    assert await state.check() == []
    await state.close()


async def test_closing_leaves_one_file_and_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    await seeded(tmp_path / "haul.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["haul.db", "haul.db.lock"]
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive()


async def test_a_state_that_was_never_started_can_be_closed_and_so_can_a_closed_one(tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "haul.db", SetClock())
    await state.close()
    await state.start()
    await state.close()
    await state.close()


async def test_the_ledger_is_made_with_its_directory_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a ?#%20 name" / "haul.db"
    await seeded(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Transient, match="file") as trouble:
        await opened(tmp_path / "file" / "haul.db")
    assert trouble.value.kind == "disk"


# --- a second daemon ---


async def test_L15_a_second_daemon_is_refused_and_told_where_the_first_is(tmp_path: Path) -> None:
    first = await opened(tmp_path / "haul.db")
    program = (
        "import asyncio, sys; from pathlib import Path; from hauld.clock import SystemClock;"
        "from hauld.errors import Fatal; from hauld.state.sqlite import SqliteState\n"
        "try: asyncio.run(SqliteState(Path(sys.argv[1]), SystemClock()).start())\n"
        "except Fatal as error: print(error.kind, error); sys.exit(error.exit_code)\n"
    )
    second = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, tmp_path / "haul.db"], capture_output=True, text=True, check=False
    )
    assert second.returncode == Exit.TRY_AGAIN
    assert second.stdout.startswith("locked ")
    assert str(tmp_path / "haul.db.lock") in second.stdout
    assert str(os.getpid()) in second.stdout
    await first.close()
    await (await opened(tmp_path / "haul.db")).close()


async def test_L15_one_process_cannot_open_it_twice_either(tmp_path: Path) -> None:
    first = await opened(tmp_path / "haul.db")
    with pytest.raises(Fatal):
        await opened(tmp_path / "haul.db")
    scene = await Scene.set(first)
    assert scene.job.number == 1
    await first.close()


async def test_a_lock_file_left_by_a_dead_daemon_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "haul.db.lock").write_text("999999\n")
    state = await opened(tmp_path / "haul.db")
    assert (tmp_path / "haul.db.lock").read_text() == f"{os.getpid()}\n"
    await state.close()


# --- what is refused, untouched ---


async def test_L10_a_schema_from_the_future_is_refused_untouched(tmp_path: Path) -> None:
    await seeded(tmp_path / "haul.db")
    with sqlite3.connect(tmp_path / "haul.db", isolation_level=None) as database:
        database.execute("INSERT INTO schema VALUES (9000, 'from_the_future', 0)")
    database.close()
    before = files(tmp_path)
    with pytest.raises(Fatal, match="9000") as refused:
        await opened(tmp_path / "haul.db")
    assert (refused.value.kind, refused.value.exit_code) == ("schema", Exit.FAILURE)
    assert files(tmp_path) == before


async def test_L10_a_future_schema_that_is_only_in_the_log_is_refused_untouched(tmp_path: Path) -> None:
    await seeded(tmp_path / "haul.db")
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    database = sqlite3.connect(tmp_path / "haul.db", isolation_level=None)
    database.execute("INSERT INTO schema VALUES (9000, 'from_the_future', 0)")
    for name in ("haul.db", "haul.db-wal"):
        (crashed / name).write_bytes((tmp_path / name).read_bytes())
    database.close()
    before = files(crashed)
    with pytest.raises(Fatal, match="9000"):
        await opened(crashed / "haul.db")
    assert files(crashed) == before


async def test_the_database_of_another_program_is_refused_untouched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "haul.db") as database:
        database.execute("CREATE TABLE schema (of_theirs)")
    database.close()
    before = files(tmp_path)
    with pytest.raises(Fatal, match="another program") as refused:
        await opened(tmp_path / "haul.db")
    assert refused.value.kind == "schema"
    assert files(tmp_path) == before


async def test_L10_a_large_file_is_to_be_looked_through_only_when_it_was_not_closed_in_order(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)
    crashed = sqlite3.connect(path, isolation_level=None)
    crashed.execute("UPDATE accounts SET name = 'renamed'")
    log = (tmp_path / "haul.db-wal").read_bytes()
    crashed.close()
    assert not await examine(path, 1, checked=0)
    (tmp_path / "haul.db-wal").write_bytes(log)
    assert await examine(path, 1, checked=0)


async def test_L10_a_large_file_whose_log_was_deleted_is_to_be_looked_through(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute("UPDATE ledger SET open = 1")
    database.close()
    assert await examine(path, 1, checked=0)


# --- migrations ---


async def test_migrations_are_numbered_without_a_gap_and_recorded(tmp_path: Path) -> None:
    steps = schema.migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    await seeded(tmp_path / "haul.db")
    with sqlite3.connect(tmp_path / "haul.db") as database:
        recorded = database.execute("SELECT version, name FROM schema").fetchall()
    database.close()
    assert recorded == [(step.version, step.name) for step in steps]


async def test_a_ledger_of_the_first_schema_is_brought_up_to_date_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    path.touch()
    async with connect(path, "mode=rw", patience=1) as database:
        await schema.migrate(database, schema.migrations()[:1], 5)
        await database.script(
            "INSERT INTO accounts VALUES (1, 'imap:example.org:ann', 'ann', 'imap');"
            "INSERT INTO jobs (number, id, account, strategy, queued, live, priority, created_at, updated_at)"
            ' VALUES (1, \'job_0123456789ab\', 1, \'{"kind":"full","folders":["A"],"exclude":[]}\', 0, 1, 2, 0, 0);'
            "INSERT INTO folders (number, account, raw, path, name, kind, selectable, epoch)"
            " VALUES (1, 1, x'41', '[\"A\"]', 'A', 'other', 1, '7');"
            "INSERT INTO items (number, folder, epoch, key, ordinal, status, size, sha256, local_path, meta,"
            " created_at, updated_at, downloaded_at)"
            " VALUES (1, 1, '7', '7.1', 1, 'completed', 9, 'ab', 'A/7.1', '{\"listed_size\":4}', 0, 0, 0);"
            "INSERT INTO wants VALUES (1, 1, 1, 'downloaded');"
            "INSERT INTO events (time, kind, job, data) VALUES (0, 'job.status', 'job_0123456789ab', '{}');"
        )
    state = await opened(path)
    job = await state.job("0123")
    assert job.strategy == Strategy(folders=("A",))
    assert [event.number for event in await state.events(0, job=job.id)] == [1]
    assert await state.stream()
    assert await state.delete_job(job.number, purge=True) == ["A/7.1"]
    assert await state.preview(1) == Preview(items=1, bytes=4, stored=0)
    assert await state.check() == []
    await state.close()


async def test_a_ledger_keeps_the_id_of_its_stream_and_shares_it_with_no_other(tmp_path: Path) -> None:
    streams = []
    for name in ("one.db", "one.db", "two.db"):
        state = await opened(tmp_path / name)
        streams.append(await state.stream())
        await state.close()
    assert streams[0] == streams[1] != streams[2]


async def test_a_migration_that_fails_leaves_nothing_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "haul.db"
    await seeded(path)
    later = schema.Migration(9, "broken", "CREATE TABLE half (a);\nCREATE TABLE half (a);\n")
    async with connect(path, "mode=rw", patience=1) as database:
        with pytest.raises(sqlite3.OperationalError, match="half"):
            await schema.migrate(database, [*schema.migrations(), later], 0)
        assert await database.one("SELECT 1 FROM sqlite_schema WHERE name = 'half'") is None
        assert await schema.version(database) == schema.migrations()[-1].version
        whole = schema.Migration(9, "whole", "CREATE TABLE half (a);\n")
        await schema.migrate(database, [whole], 0)
        await schema.migrate(database, [whole], 0)
        assert await schema.version(database) == 9


def test_a_script_is_cut_into_statements_and_triggers_stay_whole() -> None:
    script = "-- a; b\nCREATE TABLE t (a);\nCREATE TRIGGER r AFTER INSERT ON t BEGIN\n SELECT 1;\n SELECT 2;\nEND;\n-- end\n"
    cut = list(statements(script))
    assert [" ".join(statement.split())[:20] for statement in cut] == ["-- a; b CREATE TABLE", "CREATE TRIGGER r AFT"]


# --- statements ---


def test_every_statement_has_a_sentence_and_is_used_and_every_name_used_exists() -> None:
    code = "\n".join(path.read_text("utf-8") for path in PACKAGE.glob("*.py"))
    used = set(re.findall(r'"(\w+)"', code))
    for file in sorted({path.name for path in PACKAGE.glob("*.sql")} - {"scratch.sql", "check.sql"}):
        for name, statement in load(file).items():
            sentence = [line for line in statement.split("\n") if line.startswith("-- ")]
            assert sentence, f"{file}: {name} does not say what it does"
            assert sentence[-1].endswith("."), f"{file}: {name} does not end its sentence"
            assert name in used, f"{file}: nothing uses {name}"
    defined = {name for file in PACKAGE.glob("*.sql") for name in load(file.name)}
    assert set(re.findall(r'(?:SQL|EVENTS|LEDGER|DOWNLOADS)\["(\w+)"\]', code)) <= defined
