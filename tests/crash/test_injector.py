"""The injector does what the crash tests believe it does: counts, kills, fails and writes down."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crash.injector import Fault, Kind, NoCompiler, build, read_records

TESTS = Path(__file__).resolve().parents[1]

STEPS = """
import errno, json, os, sqlite3, sys
from pathlib import Path
from crash.injector import Fault, Injector

injector = Injector()
tree, fault, at, error, record = Path(sys.argv[1]), Fault(int(sys.argv[2])), *map(int, sys.argv[3:5]), sys.argv[5]
elsewhere = os.open(tree.with_name("elsewhere"), os.O_WRONLY | os.O_CREAT)
injector.arm(tree, fault, at, error)
if record:
    injector.record_to(os.open(record, os.O_WRONLY | os.O_CREAT))
done = []

def step(name, call, *arguments):
    try:
        return call(*arguments)
    except OSError as failed:
        done.append([name, failed.errno])

os.write(elsewhere, b"not counted")
step("mkdir", os.mkdir, tree / "d")                                         # 1
opened = step("create", os.open, tree / "d/a", os.O_WRONLY | os.O_CREAT)    # 2
if opened is not None:
    step("write", os.write, opened, b"hello")                               # 3
    step("fsync", os.fsync, opened)                                         # 4
step("rename", os.rename, tree / "d/a", tree / "b")                         # 5
step("read", os.open, tree / "b", os.O_RDONLY)                              # counted for EMFILE alone
step("unlink", os.unlink, tree / "b")                                       # 6
print(json.dumps([injector.counted(), done]))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("injector"))
    except NoCompiler as missing:
        pytest.skip(str(missing))


def steps(library: Path, tree: Path, fault: Fault, at: int = 0, error: int = 0, record: str = "") -> object:
    """What the steps have to say; None when they were killed."""
    tree.mkdir(parents=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-S", "-c", STEPS, tree, str(int(fault)), str(at), str(error), record]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode in (0, -9), ended.stderr
    return json.loads(ended.stdout) if ended.returncode == 0 else None


def left(tree: Path) -> list[str]:
    return sorted(f"{path.relative_to(tree)}={path.read_text()}" for path in tree.rglob("*") if path.is_file())


def test_only_changes_below_the_directory_are_counted(library: Path, tmp_path: Path) -> None:
    assert steps(library, tmp_path / "tree", Fault.NONE) == [6, []]


@pytest.mark.parametrize(
    ("fault", "at", "remains"),
    [
        (Fault.DIE_BEFORE, 2, []),
        (Fault.DIE_AFTER, 2, ["d/a="]),
        (Fault.DIE_BEFORE, 3, ["d/a="]),
        (Fault.DIE_AFTER, 3, ["d/a=hello"]),
        (Fault.DIE_BEFORE, 5, ["d/a=hello"]),
        (Fault.DIE_AFTER, 5, ["b=hello"]),
        (Fault.DIE_AFTER, 6, []),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_process_dies_exactly_there(library: Path, tmp_path: Path, fault: Fault, at: int, remains: list[str]) -> None:
    assert steps(library, tmp_path / "tree", fault, at) is None
    assert left(tmp_path / "tree") == remains


def test_a_call_fails_once_and_the_next_ones_do_not(library: Path, tmp_path: Path) -> None:
    assert steps(library, tmp_path / "tree", Fault.FAIL_ONCE, 3, errno.EIO) == [6, [["write", errno.EIO]]]


def test_from_that_call_on_all_fail_that_can(library: Path, tmp_path: Path) -> None:
    missing = [["read", errno.ENOENT], ["unlink", errno.ENOENT]]  # what is there can be deleted; this is not
    _, failed = steps(library, tmp_path / "1", Fault.FAIL_FOR_GOOD, 3, errno.ENOSPC)  # type: ignore[misc]
    assert failed == [["write", errno.ENOSPC], ["fsync", errno.ENOSPC], ["rename", errno.ENOSPC], *missing]
    _, failed = steps(library, tmp_path / "2", Fault.FAIL_FOR_GOOD, 2, errno.EMFILE)  # type: ignore[misc]
    assert failed == [["read", errno.EMFILE]], "the first file can be opened, and no other after it"


def test_what_was_done_is_written_down_in_order_with_its_bytes(library: Path, tmp_path: Path) -> None:
    steps(library, tmp_path / "tree", Fault.NONE, record=str(tmp_path / "record"))
    tree = str(tmp_path / "tree")
    found = [(change.kind, change.path.removeprefix(tree), change.data) for change in read_records(tmp_path / "record")]
    assert found == [
        (Kind.MKDIR, "/d", b""),
        (Kind.CREATE, "/d/a", b""),
        (Kind.WRITE, "/d/a", b"hello"),
        (Kind.SYNC_FILE, "/d/a", b""),
        (Kind.RENAME, "/d/a", b""),
        (Kind.UNLINK, "/b", b""),
    ]


def test_what_the_database_does_is_seen_as_well(library: Path, tmp_path: Path) -> None:
    program = (
        "import sqlite3, sys; from pathlib import Path; from crash.injector import Fault, Injector;"
        "tree = Path(sys.argv[1]); injector = Injector(); injector.arm(tree, Fault.NONE, 0);"
        "database = sqlite3.connect(tree / 'd', isolation_level=None); database.execute('PRAGMA journal_mode = WAL');"
        "before = injector.counted(); database.execute('CREATE TABLE t (x)'); print(before, injector.counted())"
    )
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(TESTS)}
    ended = subprocess.run(
        [sys.executable, "-S", "-c", program, tmp_path], env=environment, capture_output=True, text=True, check=True
    )
    before, after = map(int, ended.stdout.split())
    assert before > 3, "pages, journal and syncs of the switch to WAL"
    assert after > before + 3, "frames of the log, and its sync"
