"""Copying the ledger, whole and while it is worked on."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from hauld.errors import HaulError
from hauld.state.sqlite.connection import connect
from hauld.state.sqlite.copies import BEGUN, Copy, copies_of, copy_of, directory_of, outlived
from hauld.state.sqlite.guard import reachable
from hauld.state.sqlite.part import LEDGER, Part


class Copying(Part):
    """Promises: ``State``, ``save_copy``."""

    async def save_copy(self, keep: int = 7) -> Path | None:
        day = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).strftime("%Y-%m-%d")
        path = self._database.path
        with reachable(directory_of(path)):
            async with self._copying:
                known = copies_of(path)
                if any([await self._tells_all(copy) for copy in known if copy.day == day]):
                    return None
                new = copy_of(path, known[0].number + 1 if known else 1, day)
                await self._write(new)
                for copy in outlived([new, *known], keep):
                    self._files.remove(copy.path)
        return new.path

    async def _tells_all(self, copy: Copy) -> bool:
        """Whether the copy tells what this ledger tells and files cannot. One that cannot be read does not."""
        ours = await self._database.reader.one(LEDGER["ledger"])
        assert ours is not None, "the migration that makes the table fills it"
        try:
            async with connect(copy.path, "mode=ro&immutable=1", patience=0) as database:
                theirs = await database.one(LEDGER["ledger"])
        except (HaulError, sqlite3.DatabaseError):
            return False
        return theirs is not None and (theirs["stream"], theirs["changes"]) == (ours["stream"], ours["changes"])

    async def _write(self, copy: Copy) -> None:
        """The ledger as it is now, durable before it has its name."""
        directory = copy.path.parent
        self._files.make_directory(directory)
        for left in directory.glob("*" + BEGUN):
            self._files.remove(left)
        begun = copy.path.with_name(copy.path.name + BEGUN)
        self._files.make(begun)
        await self._database.copy_to(begun)
        await asyncio.to_thread(self._files.sync, begun)
        self._files.rename(begun, copy.path)
        await asyncio.to_thread(self._files.sync_directory, directory)
