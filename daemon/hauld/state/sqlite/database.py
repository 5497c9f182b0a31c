"""The file while it is open: one writer, one transaction at a time, and one reader that waits for no writer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from hauld.errors import HaulError
from hauld.state.sqlite.connection import Connection, Damaged, connect
from hauld.state.sqlite.files import Files
from hauld.state.sqlite.guard import alone, look_through, make, reachable
from hauld.state.sqlite.queries import load, read
from hauld.state.sqlite.rescue import leave_mark, rescue
from hauld.state.sqlite.schema import migrate, migrations
from hauld.state.sqlite.wal import written

log = logging.getLogger(__name__)
SQL = load("ledger.sql")

WRITER = (
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit is on the disk when it returns
    "foreign_keys = ON",
    "cache_size = -8192",
    "temp_store = MEMORY",  # else what large statements keep for taking themselves back goes through a file: twice the time
    "journal_size_limit = 67108864",
)
READER = ("query_only = ON",)


class Database:
    """``patience`` is how many seconds another process may have the file locked before that is an error."""

    def __init__(self, path: Path, patience: float, files: Files) -> None:
        self.path = path
        self._patience = patience
        self._files = files
        self._turn = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._listeners: list[Callable[[], None]] = []
        self._told = False
        self._began: float | None = None

    async def open(self, now: int) -> None:
        """Lock, see that it is sound, migrate, and be ready to read and write."""
        async with AsyncExitStack() as stack:
            stack.enter_context(alone(self.path))
            doubtful = await rescue(self.path, self._patience, now, self._files)
            make(self.path)
            with reachable(self.path):
                logged = written(self.path.with_name(self.path.name + "-wal"))
            writer = await stack.enter_async_context(self._connect(WRITER))
            whole = await checkpoint(writer)
            await migrate(writer, migrations(), now)
            await writer.script(read("scratch.sql"))
            self._reader = await stack.enter_async_context(self._connect(READER))
            await self._begin(writer, log_is_whole=0 < whole >= logged, doubtful=doubtful)
            self._writer = writer
            self._opened = stack.pop_all()

    async def _begin(self, writer: Connection, *, log_is_whole: bool, doubtful: bool) -> None:
        """Say in the file itself that work has begun. Where it says so already, the last daemon was not closed in order, and
        its last transactions are in the log, or lost. A copy says so, too, and has no log. That it is ``doubtful`` is said
        until it was looked through, over any number of starts."""
        async with writer.transaction():
            before = await writer.one(SQL["ledger"])
            lost = before is not None and bool(before["open"]) and not log_is_whole
            await writer.run(SQL["open_ledger"], lost=lost, doubtful=doubtful)
            if lost:
                await writer.run(SQL["renew_stream"])
        await checkpoint(writer)
        if lost:
            log.warning(
                "the state %s may lack its last transactions; what is stored will be compared with it",
                self.path,
                extra={"event": "state.incomplete", "path": str(self.path)},
            )

    async def close(self) -> None:
        """Close when the transaction under way is done. The last connection to go empties the log into the file."""
        async with self._turn:
            if self._writer is not None:
                await self._end(self._writer)
            self._reader = self._writer = None
            await self._opened.aclose()

    async def _end(self, writer: Connection) -> None:
        """Say in the file itself that it is closed in order, after everything else is in it."""
        try:
            await checkpoint(writer)
            await writer.run(SQL["close_ledger"])
        except HaulError as error:
            log.warning("the state was not closed in order: %s", error, extra={"event": "state.unclosed"})

    @property
    def reader(self) -> Connection:
        """Each of its statements sees everything that was committed before it."""
        assert self._reader is not None, "the state is not open"
        return self._reader

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Connection]:
        """A transaction; the next one waits for its end."""
        async with self._turn:
            assert self._writer is not None, "the state is not open"
            self._told = False
            self._began = time.monotonic()
            try:
                async with self._writer.transaction():
                    yield self._writer
            finally:
                self._began = None
                self._call_listeners()

    def writing_for(self) -> float | None:
        """Seconds since the transaction at hand began, or its last statement ended. A disk that is slow holds up statements,
        so that what takes many of them is not taken for stuck; a lock that another has ends after ``patience``."""
        if self._began is None or self._writer is None:
            return None
        return time.monotonic() - max(self._began, self._writer.moved_at)

    def told(self) -> None:
        """The transaction at hand has written events."""
        self._told = True

    def when_told(self, call: Callable[[], None]) -> None:
        """Call this after each transaction that wrote events."""
        self._listeners.append(call)

    def _call_listeners(self) -> None:
        """Also when the caller was cancelled, because the commit may have been done by then; who looks in vain has lost
        little."""
        if self._told:
            for call in self._listeners:
                call()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection of its own whose statements all see the same moment, for what takes long."""
        async with self._connect(READER) as connection, connection.transaction("BEGIN"):
            yield connection

    async def copy_to(self, target: Path) -> None:
        """The ledger as it is at this moment, in that empty file; it is not durable yet."""
        async with self._connect(()) as connection:
            await connection.all_long(SQL["write_copy"], path=str(target))

    async def look_through(self) -> None:
        """Where the start has put that off: raise ``Damaged`` unless all of the file is sound. It is not put off twice."""
        row = await self.reader.one(SQL["ledger"])
        if row is None or not row["doubtful"]:
            return
        began = time.monotonic()
        try:
            async with self._connect(READER) as connection:
                await look_through(connection, self.path)
        except Damaged as damaged:
            self.mark(damaged.finding)
            raise
        async with self.writing() as write:
            await write.run(SQL["trust_ledger"])
        log.info(
            "the state %s was not closed in order; it was looked through and is sound, in %.1f s",
            self.path,
            time.monotonic() - began,
            extra={"event": "state.sound", "path": str(self.path)},
        )

    def _connect(self, pragmas: tuple[str, ...]) -> AbstractAsyncContextManager[Connection]:
        return connect(self.path, "mode=rw", patience=self._patience, pragmas=pragmas, when_damaged=self.mark)

    def mark(self, finding: str) -> None:
        """The file is damaged: the next start sets it aside, whatever that sees."""
        leave_mark(self.path, finding, self._files)


async def checkpoint(writer: Connection) -> int:
    """Bring the log into the file; how many of its pages are whole."""
    row = await writer.one(SQL["checkpoint"])
    assert row is not None, "it gives a row"
    pages = row["log"]
    assert isinstance(pages, int)
    return pages
