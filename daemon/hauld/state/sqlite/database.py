"""The file while it is open: one writer, one transaction at a time, and one reader that waits for no writer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from hauld.state.sqlite.connection import Connection, connect
from hauld.state.sqlite.guard import alone, examine, make
from hauld.state.sqlite.queries import read
from hauld.state.sqlite.schema import migrate, migrations

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

    def __init__(self, path: Path, patience: float) -> None:
        self.path = path
        self._patience = patience
        self._turn = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._listeners: list[Callable[[], None]] = []
        self._told = False

    async def open(self, now: int) -> None:
        """Lock, examine, migrate, and be ready to read and write."""
        async with AsyncExitStack() as stack:
            stack.enter_context(alone(self.path))
            await examine(self.path, self._patience)
            make(self.path)
            writer = await stack.enter_async_context(self._connect(WRITER))
            await migrate(writer, migrations(), now)
            await writer.script(read("scratch.sql"))
            self._reader = await stack.enter_async_context(self._connect(READER))
            self._writer = writer
            self._opened = stack.pop_all()

    async def close(self) -> None:
        """Close when the transaction under way is done. The last connection to go empties the log into the file."""
        async with self._turn:
            self._reader = self._writer = None
            await self._opened.aclose()

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
            try:
                async with self._writer.transaction():
                    yield self._writer
            finally:
                self._call_listeners()

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

    def _connect(self, pragmas: tuple[str, ...]) -> AbstractAsyncContextManager[Connection]:
        return connect(self.path, "mode=rw", patience=self._patience, pragmas=pragmas)
