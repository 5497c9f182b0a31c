"""What the parts of the ledger stand on: the database, the clock, and telling events in the transaction at hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hauld.clock import Clock
from hauld.state.sqlite.connection import Connection, Value
from hauld.state.sqlite.database import Database
from hauld.state.sqlite.files import Files
from hauld.state.sqlite.queries import load
from hauld.state.sqlite.rows import pack, text

EVENTS = load("events.sql")
LEDGER = load("ledger.sql")
NAMED = 20
"""How many items an event names, so that a large group does not make a large event."""


class Part:
    """``patience`` is how many seconds another process may have the database locked before that is an error; ``files`` is the
    disk as rescue and copies use it."""

    def __init__(self, path: Path, clock: Clock, *, patience: float = 5.0, files: Files | None = None) -> None:
        self._files = files or Files()
        self._database = Database(path, patience, self._files)
        self._clock = clock
        self._copying = asyncio.Lock()
        self._closing = False  # what comes in many transactions, and can wait, begins no other one

    async def _tell(
        self, write: Connection, kind: str, data: dict[str, object], *, job: str | None = None, folder: str | None = None
    ) -> None:
        name = None if folder is None else text(folder)
        now = self._clock.now_ms()
        await self._tell_by(write, EVENTS["tell"], now=now, kind=kind, job=job, folder=name, data=pack(data))

    async def _tell_by(self, write: Connection, statement: str, **parameters: Value) -> None:
        """Tell with that statement; it may find nothing to tell."""
        if await write.run(statement, **parameters):
            self._database.told()
