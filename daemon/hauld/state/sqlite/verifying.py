"""Verifying: what is said to be stored, page by page, and giving up what turned out not to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import msgspec

from hauld.model import ItemStatus, Setback, StoredItem
from hauld.state.sqlite.connection import Value
from hauld.state.sqlite.downloads import SQL as DOWNLOADS
from hauld.state.sqlite.part import LEDGER, NAMED, Part
from hauld.state.sqlite.queries import load
from hauld.state.sqlite.rows import stored_of, text

SQL = load("verifying.sql")


class Verifying(Part):
    """Promises: ``State``, verifying."""

    async def stored(self, folder: int, *, after: int, limit: int) -> Sequence[StoredItem]:
        rows = await self._database.reader.all(SQL["stored_of_folder"], folder=folder, after=after, limit=limit)
        return [stored_of(row) for row in rows]

    async def paths(self, folder: int) -> Set[str]:
        async with self._database.snapshot() as connection:  # nobody who looks is to wait until all of it was read
            return {row["path"] for row in await connection.all(SQL["paths_of_folder"], folder=folder)}

    async def nobodys(self, paths: Sequence[str]) -> Sequence[str]:
        asked = msgspec.json.encode(paths).decode()
        async with self._database.snapshot() as connection:
            return [row["path"] for row in await connection.all(SQL["nobodys"], paths=asked)]

    async def confirm(self, items: Sequence[tuple[int, str]]) -> None:
        async with self._database.writing() as write:
            await write.many(SQL["confirm"], items)

    async def give_up(self, items: Sequence[Setback]) -> int:
        now = self._clock.now_ms()
        async with self._database.writing() as write:
            await write.run(DOWNLOADS["clear_results"])
            await write.many(SQL["put_lost"], map(_lost_columns, items))
            await write.run(SQL["judge_lost"])
            await write.run(SQL["remember_lost"])
            lost = await write.run(SQL["lose_items"], now=now)
            await write.run(SQL["list_lost_sizes"])
            await self._tell_by(write, SQL["tell_lost"], named=NAMED, now=now)
        return lost

    async def verified_at(self) -> int | None:
        row = await self._database.reader.one(LEDGER["ledger"])
        assert row is not None, "the migration that makes the table fills it"
        at: int | None = row["verified_at"]
        return at

    async def set_verified(self, told: Mapping[str, object]) -> None:
        async with self._database.writing() as write:
            await write.run(LEDGER["set_verified"], now=self._clock.now_ms())
            await self._tell(write, "store.verified", dict(told))


def _lost_columns(setback: Setback) -> tuple[Value, ...]:
    return setback.item, ItemStatus.PENDING, setback.kind, text(setback.reason)
