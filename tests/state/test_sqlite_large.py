"""A ledger of a million items is no burden: what people look at costs the same however much there is.

Nothing here measures time. Plans are read, and the steps of SQLite's own machine are counted, which are the same on any day.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from bench.large_ledger import make
from contracts.state import IDENTITY, Scene, SetClock, create
from hauld.errors import Fatal, Refused, Transient
from hauld.model import Counters, ItemStatus, Job, JobStatus
from hauld.state.sqlite import SqliteState, folders, guard, jobs, rescue, schema
from hauld.state.sqlite.queries import load, read
from hauld.state.sqlite.rescue import mark_of

PACKAGE = Path(schema.__file__).parent
SMALL, LARGE = 5_000, 20_000
"""Items of two ledgers."""

FEW_ROWS = {
    *("accounts", "folders", "jobs", "ledger", "stream", "counting", "counted"),
    *("folder_counters", "job_counters", "listings"),  # one for each folder
    *("page", "results", "candidates", "found", "pairs"),  # one page, or one group
    *("json_each", "given", "keys", "looks", "outcomes", "first_few"),  # values that were passed in
}
"""What a statement may go through from end to end, by the names it has in statements."""

MAY_SCAN = {
    "find_purged": {"purged"},
    "put_purged_paths": {"purged"},
    "purge_items": {"purged"},
    "purged_paths": {"purged_paths", "items", "conflicts"},  # in a store of equal bytes any item may have the file
    "nobodys": {"asked", "items", "conflicts"},  # for the same reason
    "count_stored": {"stored"},  # these are made from one group
    "count_claims": {"claimed"},
    "tell_stored": {"stored"},
    "tell_failed": {"failed"},
    "tell_lost": {"lost"},
    "tell_mapped": {"mapped"},
    "find_candidates": {"given_up"},  # asks whether there is any
    "any_candidate": {"candidates"},
    "paths_of_folder": {"conflicts"},  # gives all paths of a folder, and conflicts are rare
    "event_span": {"sqlite_sequence"},
    "prune_events": {"sqlite_sequence", "events"},  # from the oldest to the first that is kept, and those go
}
"""Statements that may go through more; what a purge is about, it may go through."""


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A small ledger and a large one, by their number of items."""
    made = {}
    for items in (SMALL, LARGE):
        made[items] = tmp_path_factory.mktemp("ledger") / "haul.db"
        make(made[items], IDENTITY, "ann", items=items, folders=3, events=items)
    return made


@pytest_asyncio.fixture
async def states(ledgers: dict[int, Path]) -> AsyncIterator[list[SqliteState]]:
    """Both of them, open."""
    opened = [SqliteState(path, SetClock()) for path in ledgers.values()]
    for state in opened:
        await state.start()
    yield opened
    for state in opened:
        await state.close()


# --- plans ---


def through(database: sqlite3.Connection, statement: str) -> set[str]:
    """What the statement goes through from end to end. A subquery without a name has a plan of its own, which is seen, too."""
    places = max(map(int, re.findall(r"\?(\d+)", statement)), default=statement.count("?"))
    parameters = [None] * places if places else dict.fromkeys(re.findall(r":(\w+)", statement))
    plan = database.execute("EXPLAIN QUERY PLAN " + statement, parameters)
    found = (re.match(r"SCAN (?!CONSTANT ROW)(\w+)", row["detail"]) for row in plan)
    return {match[1] for match in found if match}


def test_no_statement_goes_through_all_items_wants_or_events(ledgers: dict[int, Path]) -> None:
    found = {}
    with closing(sqlite3.connect(ledgers[SMALL])) as database:
        database.row_factory = sqlite3.Row
        database.executescript(read("scratch.sql"))
        for file in sorted({path.name for path in PACKAGE.glob("*.sql")} - {"scratch.sql", "check.sql"}):
            for name, statement in load(file).items():
                if not statement.split("\n")[-1].startswith(("PRAGMA", "VACUUM")):
                    found[name] = through(database, statement) - FEW_ROWS - MAY_SCAN.get(name, set())
    assert {name: tables for name, tables in found.items() if tables} == {}


# --- steps ---


async def steps(state: SqliteState, look: Callable[[SqliteState], Awaitable[object]]) -> int:
    """How many tens of steps the reader's statements take."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    raw = state._database.reader._raw
    await raw.set_progress_handler(count, 10)
    await look(state)
    await raw.set_progress_handler(None, 0)  # type: ignore[arg-type]
    return taken


FIRST, SECOND = 1, 2
"""Numbers of the jobs."""

LOOKS: dict[str, Callable[[SqliteState], Awaitable[object]]] = {
    "jobs": lambda state: state.jobs(),
    "jobs of a status": lambda state: state.jobs(status=JobStatus.PAUSED),
    "how many jobs": lambda state: state.job_counts(),
    "the counters of a job": lambda state: state.counters(FIRST),
    "an account": lambda state: state.account_totals(1),
    "folders of a job": lambda state: state.folder_progress(job=FIRST),
    "folders of an account": lambda state: state.folder_progress(account=1),
    "items": lambda state: state.items(FIRST),
    "items of another job": lambda state: state.items(SECOND),
    "items from the middle on": lambda state: state.items(FIRST, after=2_500),
    "failed items": lambda state: state.items(FIRST, status=ItemStatus.FAILED, limit=5),
    "skipped items": lambda state: state.items(FIRST, status=ItemStatus.SKIPPED),
    "items of a folder": lambda state: state.items(FIRST, folder="Folder 1"),
    "pending items of a folder": lambda state: state.items(FIRST, folder="INBOX", status=ItemStatus.PENDING),
    "items of a folder that is not there": lambda state: state.items(FIRST, folder="Nope"),
    "events": lambda state: state.events(0, 100),
    "events from the middle on": lambda state: state.events(2_500, 100),
    "events of a job": lambda state: state.events(0, 100, "job_?"),
    "the span of events": lambda state: state.event_span(),
    "what is to be fetched": lambda state: state.pending(FIRST, 1, below=None, limit=100),
    "when something is due": lambda state: state.next_retry(FIRST),
    "what may have other keys now": lambda state: state.alike(1, below=None, limit=100),
    "what is stored": lambda state: state.stored(1, after=0, limit=100),
    "wanting what is wanted": lambda state: state.want_known(FIRST, 1),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
async def test_a_look_takes_no_more_steps_in_a_ledger_four_times_as_large(
    states: list[SqliteState], look: Callable[[SqliteState], Awaitable[object]]
) -> None:
    small, large = [await steps(state, look) for state in states]
    assert large <= small * 1.1 + 2


async def test_a_page_of_items_takes_no_more_steps_in_many_folders(tmp_path: Path) -> None:
    taken = []
    for number in (2, 100):
        path = tmp_path / f"{number}.db"
        await asyncio.to_thread(make, path, IDENTITY, "ann", items=200 * 100, folders=number, events=0, page=100)
        state = SqliteState(path, SetClock())
        await state.start()
        taken.append(await steps(state, lambda state: state.items(FIRST)))
        await state.close()
    assert taken[1] <= taken[0] * 1.1 + 2


# --- pieces ---


async def test_others_write_while_a_job_comes_to_want_a_large_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "PIECE", 10)
    state, scene = await large_inbox(tmp_path)
    late = await create(state, scene.account)
    wanting = asyncio.create_task(state.want_known(late.number, scene.inbox.number))
    seen = set()
    while not wanting.done():
        await state.set_folder_error(scene.inbox.number, None)
        seen.add((await state.counters(late.number)).total)
    assert await wanting == 100
    assert len(seen - {0, 100}) > 3, "transactions of others come in between"
    assert await state.check() == []
    await state.close()


async def test_wanting_a_large_folder_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "PIECE", 10)
    state, scene = await large_inbox(tmp_path)
    late = await create(state, scene.account)
    wanting = asyncio.create_task(state.want_known(late.number, scene.inbox.number))
    while not (await state.counters(late.number)).total:
        await state.set_folder_error(scene.inbox.number, None)
    wanting.cancel()
    await asyncio.gather(wanting, return_exceptions=True)
    before = (await state.counters(late.number)).total
    assert 0 < before < 100
    assert await state.want_known(late.number, scene.inbox.number) == 100 - before
    assert await state.counters(late.number) == Counters(total=100)
    await state.close()


async def test_others_write_while_a_large_job_is_deleted_and_see_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PIECE", 10)
    state, scene = await large_inbox(tmp_path)
    deleting = await half_deleted(state, scene)
    left = set()
    while not deleting.done():
        await state.set_folder_error(scene.inbox.number, None)
        left.add(await wants_of(state, scene.job))
        assert (await state.jobs(), await state.job_counts()) == ([], {})
        assert await state.counters(scene.job.number) == Counters()
    assert await deleting == []
    assert len(left - {0, 100}) > 3, "transactions of others come in between"
    assert await wants_of(state, scene.job) == 0
    assert [event.kind for event in await state.events(0, job=scene.job.id)] == ["job.status", "job.deleted"]
    assert await state.check() == []
    await state.close()


async def test_L4_a_large_job_that_was_half_deleted_is_gone_and_the_rest_goes_when_the_ledger_is_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PIECE", 10)
    state, scene = await large_inbox(tmp_path)
    await cut_off(await half_deleted(state, scene))
    await state.close()

    again = SqliteState(tmp_path / "haul.db", SetClock())
    await again.start()
    assert await again.jobs() == []
    with pytest.raises(Refused):
        await again.job(scene.job.id)
    with pytest.raises(Refused):
        await again.delete_job(scene.job.number)
    assert await again.check() == []
    assert await wants_of(again, scene.job) > 0
    await again.look_through()
    assert await wants_of(again, scene.job) == 0
    assert await again._database.reader.all("SELECT * FROM jobs") == []
    await again.close()


async def test_what_only_a_half_deleted_job_wants_too_is_purged_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, scene = await large_inbox(tmp_path)
    keeper = await create(state, scene.account)
    await state.want_keys(keeper.number, scene.inbox.number, "7", ["7.1", "7.2"])
    await scene.store([1, 2])
    monkeypatch.setattr(jobs, "PIECE", 10)
    await cut_off(await half_deleted(state, scene))
    assert sorted(await state.delete_job(keeper.number, purge=True)) == ["INBOX/7.1", "INBOX/7.2"]
    assert await state.check() == []
    await state.close()


async def test_a_state_that_is_closed_while_a_large_job_is_deleted_leaves_the_rest_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PIECE", 10)
    state, scene = await large_inbox(tmp_path)
    deleting = await half_deleted(state, scene)
    await state.close()
    assert await deleting == []
    await state.start()
    assert await wants_of(state, scene.job) > 0
    await state.look_through()
    assert await wants_of(state, scene.job) == 0
    await state.close()


async def test_L5_a_disk_that_fills_up_while_a_large_job_goes_does_not_bring_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PIECE", 10)
    state, scene = await large_inbox(tmp_path)
    piece = state._clear_piece

    async def full(job: int) -> bool:
        await piece(job)
        raise Transient("disk", "It is full.")

    monkeypatch.setattr(state, "_clear_piece", full)
    assert await state.delete_job(scene.job.number) == []
    assert await state.jobs() == []
    monkeypatch.undo()
    await state.look_through()
    assert await wants_of(state, scene.job) == 0
    await state.close()


async def half_deleted(state: SqliteState, scene: Scene) -> asyncio.Task[Sequence[str]]:
    """Somebody deletes the scene's job, and the first transaction of that is over."""
    deleting = asyncio.create_task(state.delete_job(scene.job.number))
    while any(job.number == scene.job.number for job in await state.jobs()):
        pass
    return deleting


async def cut_off(deleting: asyncio.Task[Sequence[str]]) -> None:
    """It goes no further, and its last transaction is over."""
    deleting.cancel()
    await asyncio.gather(deleting, return_exceptions=True)


async def wants_of(state: SqliteState, job: Job) -> int:
    """How many rows tell what the job wants."""
    [row] = await state._database.reader.all("SELECT count(*) FROM wants WHERE job = :job", job=job.number)
    number = row[0]
    assert isinstance(number, int)
    return number


async def large_inbox(directory: Path) -> tuple[SqliteState, Scene]:
    """A folder of a hundred items."""
    state = SqliteState(directory / "haul.db", SetClock())
    await state.start()
    scene = await Scene.set(state)
    await scene.list(range(1, 101))
    return state, scene


# --- starting ---


async def killed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that counts as large, as it lies there after its daemon was killed. It has a copy with all that is in it."""
    monkeypatch.setattr(rescue, "examine", functools.partial(guard.examine, checked=0))
    state = SqliteState(path.parent / "before" / path.name, SetClock())
    await state.start()
    scene = await Scene.set(state)
    await scene.list(range(1, 400))
    copy = await state.save_copy()
    assert copy is not None
    for name in (path.name, path.name + "-wal"):
        shutil.copy(path.parent / "before" / name, path.parent / name)
    shutil.copytree(copy.parent, path.parent / copy.parent.name)
    await state.close()


async def test_L10_a_large_ledger_that_was_killed_is_looked_through_after_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "haul.db"
    await killed(path, monkeypatch)
    for _ in range(3):
        state = SqliteState(path, SetClock())
        await state.start()
        assert not looked(caplog)
        await state.close()  # in order, but too early
    await state.start()
    await state.look_through()
    assert looked(caplog) == 1
    await state.look_through()
    await state.close()
    await state.start()
    await state.look_through()
    assert looked(caplog) == 1, "it was closed in order"
    await state.close()


async def test_L10_damage_that_shows_after_the_start_is_set_aside_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "haul.db"
    await killed(path, monkeypatch)
    state = SqliteState(path, SetClock())
    await state.start()
    await state.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-8192] + b"\xa5" * 8192)
    await state.start()
    with pytest.raises(Fatal, match="damaged"):
        await state.look_through()
    assert mark_of(path).exists()
    await state.close()
    await state.start()
    await state.look_through()
    assert [job.number for job in await state.jobs()] == [1]
    assert await state.check() == []
    assert len(list(tmp_path.glob("haul.db.damaged-*"))) == 1
    await state.close()


def looked(caplog: pytest.LogCaptureFixture) -> int:
    """How often a ledger was looked through and found sound."""
    return sum(getattr(record, "event", None) == "state.sound" for record in caplog.records)
