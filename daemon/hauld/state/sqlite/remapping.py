"""Remapping: what is stored under keys of another epoch goes on under the keys that the origin lists now."""

from __future__ import annotations

from collections.abc import Sequence

from hauld.model import Alike, StoredItem
from hauld.state.sqlite.conflicts import Conflicts
from hauld.state.sqlite.downloads import SQL as DOWNLOADS
from hauld.state.sqlite.part import NAMED
from hauld.state.sqlite.queries import load
from hauld.state.sqlite.rows import pack, pending_of, stored_of

SQL = load("remapping.sql")


class Remapping(Conflicts):
    """Promises: ``State``, keys that changed."""

    async def alike(self, folder: int, *, below: int | None, limit: int) -> Sequence[Alike]:
        reader = self._database.reader
        waiting = [pending_of(row) for row in await reader.all(SQL["alike_pending"], folder=folder, below=below, limit=limit)]
        if not waiting:
            return ()
        looks = pack([[item.date, item.size] for item in waiting])
        stored: dict[tuple[int | None, int | None], list[StoredItem]] = {}
        for row in await reader.all(SQL["alike_stored"], folder=folder, looks=looks, limit=limit):
            stored.setdefault((row["date"], row["listed_size"]), []).append(stored_of(row))
        found = {look: tuple(items) for look, items in stored.items()}
        return [Alike(item, found.get((item.date, item.size), ())) for item in waiting]

    async def remap(self, folder: int, pairs: Sequence[tuple[int, int]]) -> int:
        now = self._clock.now_ms()
        async with self._database.writing() as write:
            await write.run(SQL["clear_pairs"])
            await write.many(SQL["put_pair"], pairs)
            await write.run(SQL["check_pairs"], folder=folder)
            await write.run(DOWNLOADS["clear_results"])
            await write.run(SQL["find_results"])
            mapped = await write.run(SQL["map_items"], now=now)
            await write.run(SQL["move_conflicts"])
            await write.run(SQL["leave_items"], now=now)
            await write.run(SQL["list_left_sizes"])
            await self._keep_conflicts(write, None, now)
            await self._tell_by(write, SQL["tell_mapped"], folder=folder, named=NAMED, now=now)
        return mapped
