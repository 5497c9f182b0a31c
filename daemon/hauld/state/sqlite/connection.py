"""One SQLite connection on a thread of its own. Every statement is one hop to that thread and back, so what belongs together
goes in one: a batch through ``many``, a result whole through ``all``, several statements through ``at_once``.

What SQLite raises leaves here as what to do next: ``Transient`` when the database is locked or the disk is in trouble,
``Fatal`` when the file is damaged. Anything else is a mistake of ours and stays what it is.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import quote

import aiosqlite

from hauld.errors import Fatal, HaulError, Transient, out_of_files

Value: TypeAlias = str | int | bytes | None
R = TypeVar("R")

LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
DISK = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Damaged(Fatal):
    """The database file is damaged; ``finding`` says how."""

    def __init__(self, path: Path, finding: str) -> None:
        super().__init__(
            "damaged",
            f"The state {path} is damaged: {finding}.",
            hint=(
                "Start hauld again: it sets the damaged file aside, deletes nothing, and rebuilds the ledger from its newest"
                " copy and from the stored files, without fetching these again. See whether the disk is failing."
            ),
        )
        self.finding = finding


class Connection:
    """Statements of one connection. Without a transaction each statement is one. ``when_damaged`` is called with what SQLite
    says when a statement meets damage in the file. ``moved_at`` is when the last one ended, by the monotonic clock."""

    def __init__(self, path: Path, raw: aiosqlite.Connection, when_damaged: Callable[[str], None] | None = None) -> None:
        self._path = path
        self._raw = raw
        self._when_damaged = when_damaged
        self.moved_at = time.monotonic()

    async def all(self, sql: str, **parameters: Value) -> Sequence[sqlite3.Row]:
        """Every row of the result."""
        with self._translated():
            return list(await self._raw.execute_fetchall(sql, parameters))

    async def one(self, sql: str, **parameters: Value) -> sqlite3.Row | None:
        """The first row, or None."""
        rows = await self.all(sql, **parameters)
        return rows[0] if rows else None

    async def run(self, sql: str, **parameters: Value) -> int:
        """How many rows the statement changed."""
        with self._translated():
            return (await self._raw.execute(sql, parameters)).rowcount

    async def many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """The statement once for each of the rows."""
        with self._translated():
            await self._raw.executemany(sql, rows)

    async def script(self, sql: str) -> None:
        """Several statements at once."""
        with self._translated():
            await self._raw.executescript(sql)

    async def at_once(self, work: Callable[[Statements], R]) -> R:
        """What ``work`` returns, which is called in the connection's thread: many short statements in one hop. While the loop
        is busy each hop costs more than they do."""
        with self._translated():
            done: R = await self._raw._execute(lambda: work(Statements(self._raw._conn)))  # type: ignore[no-untyped-call]
            return done

    async def all_long(self, sql: str, **parameters: Value) -> Sequence[sqlite3.Row]:
        """Every row of a result that takes long: it is broken off when the caller is cancelled."""
        try:
            return await self.all(sql, **parameters)
        except asyncio.CancelledError:
            await self._raw.interrupt()
            raise

    @asynccontextmanager
    async def transaction(self, begin: str = "BEGIN IMMEDIATE") -> AsyncIterator[None]:
        """Commit on leaving; take everything back on leaving with an error, or cancelled.

        The thread takes statements in their order: a statement or a commit that was cancelled while under way is done
        before the rollback, which has no effect when nothing is open.
        """
        try:
            await self.run(begin)
            yield
            await self.run("COMMIT")
        except BaseException:
            await self._raw.rollback()
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with translated(self._path):
                yield
        except Damaged as damaged:
            if self._when_damaged is not None:
                self._when_damaged(damaged.finding)
            raise
        finally:
            self.moved_at = time.monotonic()


class Statements:
    """The statements of a connection, for ``Connection.at_once``; what SQLite raises is translated there."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    def all(self, sql: str, **parameters: Value) -> Sequence[sqlite3.Row]:
        """Every row of the result."""
        return self._raw.execute(sql, parameters).fetchall()

    def run(self, sql: str, **parameters: Value) -> int:
        """How many rows the statement changed."""
        return self._raw.execute(sql, parameters).rowcount

    def many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """The statement once for each of the rows."""
        self._raw.executemany(sql, rows)


@asynccontextmanager
async def connect(
    path: Path, access: str, *, patience: float, pragmas: Sequence[str] = (), when_damaged: Callable[[str], None] | None = None
) -> AsyncIterator[Connection]:
    """A connection, closed on leaving. ``access`` is in SQLite's words (https://www.sqlite.org/uri.html); ``patience`` is how
    many seconds it waits for another process that has the database locked."""
    with translated(path):
        uri = f"file:{quote(str(path))}?{access}"
        raw = await aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=patience)
    try:
        raw.row_factory = sqlite3.Row
        connection = Connection(path, raw, when_damaged)
        for pragma in pragmas:
            await connection.run(f"PRAGMA {pragma}")
        yield connection
    finally:
        with translated(path):
            await raw.close()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """What SQLite raises, as an error that says what happens next."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        ours = translation(error, path)
        if ours is None:
            raise
        raise ours from error


def translation(error: sqlite3.DatabaseError, path: Path) -> HaulError | None:
    """What an error of SQLite means for the state at ``path``; None when it tells of a mistake in this program."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in LOCKED:
        return Transient(
            "locked",
            f"The state {path} is locked by another process: {error}.",
            hint=f"See which one has it: fuser -v {path}",
        )
    if code in DISK:
        trouble = f"The state {path} cannot be read or written: {error}."
        unopened = no_file_can_be_opened(path, trouble) if code == sqlite3.SQLITE_CANTOPEN else None
        return unopened or Transient(
            "disk",
            trouble,
            hint="See whether its disk is full, read-only or failing, and who owns the file.",
        )
    return Damaged(path, str(error)) if code in DAMAGED else None


def no_file_can_be_opened(path: Path, trouble: str) -> Transient | None:
    """The error for that, where it is so now: SQLite tells that it could not open a file, and not why."""
    try:
        os.close(os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return out_of_files(error, trouble)
    return None
