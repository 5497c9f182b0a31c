"""Who may open the state, and whether it may be opened: checked before anything is written, so that what is refused here is
left exactly as it was found."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from haulapi.faults import Exit
from hauld.errors import Fatal, Transient, out_of_files
from hauld.state.sqlite.connection import Connection, Damaged, connect
from hauld.state.sqlite.queries import load
from hauld.state.sqlite.schema import refuse_foreign

LEDGER = load("ledger.sql")

JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""How a rollback journal begins; its count of records, a nonce and the pages of the database follow, four bytes each."""

CHECKED_AT_ONCE = 32 * 1024 * 1024
"""Bytes; a file up to this size is checked at every start, because that takes no time one would notice."""


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file beside the database; a directory that is missing is made. The lock goes with the process, however
    it ends; the file stays."""
    lock = path.with_name(path.name + ".lock")
    with reachable(lock):
        make_directory(path.parent)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with reachable(lock):
            take(path, lock, descriptor)
        yield
    finally:
        os.close(descriptor)


def take(path: Path, lock: Path, descriptor: int) -> None:
    """Lock, and leave our process number for whoever is refused."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        raise Fatal(
            "locked",
            f"The state {path} is in use by another hauld (process {holder or 'unknown'}, lock file {lock}).",
            hint="One daemon works on one state: stop the other, or give this one a state of its own.",
            exit_code=Exit.TRY_AGAIN,
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def make_directory(path: Path) -> None:
    """The directory is there, its name durable in the one above, and so on upwards as far as anything was missing: however well
    a database is synced, a power cut that takes its directory takes it along."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def make(path: Path) -> None:
    """An empty file where there is none, for its owner alone; SQLite gives the files beside it the same rights."""
    with reachable(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


@contextmanager
def reachable(path: Path) -> Iterator[None]:
    """Trouble with the file is trouble with the disk, unless no file at all can be opened."""
    try:
        yield
    except OSError as error:
        trouble = f"{path} cannot be opened: {error.strerror}."
        raise out_of_files(error, trouble) or Transient(
            "disk",
            trouble,
            hint="See whether its directory belongs to the user that hauld runs as, and whether the disk is full or read-only.",
        ) from error


async def examine(path: Path, patience: float, checked: int = CHECKED_AT_ONCE) -> bool:
    """Raise ``Fatal`` unless the file is ours, of a schema we know, and sound (``Damaged``); one that is empty is.

    A file of up to so many bytes is ``checked`` at once. A larger one is trusted when it was closed in order; damage in it
    shows when it is read. One that was not, as its log beside it tells or the file itself, is still to be looked through: True.
    That would take longer than a start may.
    """
    size = size_of(path)
    logged = size_of(path.with_name(path.name + "-wal")) > 0
    if size == 0 or (not logged and is_being_made(path)):
        return False
    access = "mode=ro" if logged else "mode=ro&immutable=1"  # the second leaves no files of its own behind
    async with connect(path, access, patience=patience) as database:
        version = await refuse_foreign(database, path)
        if version == 0:
            raise Damaged(path, "it does not tell which schema it has")
        [page] = await database.all("PRAGMA page_size")
        if size % page[0] and not logged:
            raise Damaged(path, "its last page is cut short")
        if size > checked:
            return logged or await is_doubtful(database, path)
        await look_through(database, path)
        return False


def is_being_made(path: Path) -> bool:
    """Whether power went before there was anything in the file: a rollback journal beside it, which the next who opens it goes
    by, says that it had no page (https://www.sqlite.org/fileformat2.html, 3)."""
    journal = path.with_name(path.name + "-journal")
    with reachable(journal):
        if not journal.is_file():
            return False
        with journal.open("rb") as file:
            header = file.read(len(JOURNAL) + 12)
    return header.startswith(JOURNAL) and header[-4:] == bytes(4)


async def look_through(database: Connection, path: Path) -> None:
    """Raise ``Damaged`` unless all of the file is sound. It is broken off when the caller is cancelled."""
    [finding] = await database.all_long(LEDGER["look_through"])
    if finding[0] != "ok":
        raise Damaged(path, " ".join(finding[0].split()))


async def is_doubtful(database: Connection, path: Path) -> bool:
    """Whether work was begun on the ledger and not ended in order, now or before it could be looked through."""
    if await database.one("SELECT 1 FROM sqlite_schema WHERE name = 'ledger'") is None:
        return False  # it was written before ledgers knew that
    row = await database.one(LEDGER["ledger"])
    if row is None:
        raise Damaged(path, "it does not tell whether it was closed in order")
    return bool(row["open"]) or ("doubtful" in row.keys() and bool(row["doubtful"]))  # noqa: SIM118 - a row is no mapping


def size_of(path: Path) -> int:
    """Bytes; 0 where there is no file."""
    with reachable(path):
        if path.is_dir():
            raise Damaged(path, "it is a directory")
        return path.stat().st_size if path.exists() else 0
