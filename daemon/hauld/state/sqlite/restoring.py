"""Restoring: rows for what the store holds and the ledger does not tell of, made from the names of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hauld.model import Found, Place
from hauld.state.sqlite.conflicts import Conflicts
from hauld.state.sqlite.connection import Value
from hauld.state.sqlite.downloads import SQL as DOWNLOADS
from hauld.state.sqlite.part import LEDGER
from hauld.state.sqlite.queries import load
from hauld.state.sqlite.rows import pack, pack_flags, text

SQL = load("restoring.sql")


class Restoring(Conflicts):
    """Promises: ``State``, ``reconciled``, ``set_reconciled`` and ``restore``."""

    async def reconciled(self) -> bool:
        row = await self._database.reader.one(LEDGER["ledger"])
        assert row is not None, "the migration that makes the table fills it"
        return bool(row["reconciled"])

    async def set_reconciled(self) -> None:
        async with self._database.writing() as write:
            await write.run(LEDGER["set_reconciled"])

    async def restore(self, source: str, place: Place, found: Sequence[Found]) -> int:
        now = self._clock.now_ms()
        async with self._database.writing() as write:
            await write.run(SQL["make_account"], identity=place.identity, name=place.account, source=source)
            folder = await write.one(SQL["make_folder"], **_folder_columns(place))
            assert folder is not None, "RETURNING gives the row"
            number: int = folder["number"]
            await write.run(SQL["clear_found"])
            await write.many(SQL["put_found"], _found_columns(found))
            restored = await write.run(SQL["add_found"], folder=number, epoch=folder["epoch"], now=now)
            await write.run(DOWNLOADS["clear_results"])
            await write.run(SQL["find_known"], folder=number)
            restored += await write.run(DOWNLOADS["complete_items"], now=now)
            await write.run(SQL["find_others"], folder=number)
            await self._keep_conflicts(write, None, now)
            if restored:
                await write.run(SQL["list_whole"], folder=number)
            await write.run(SQL["clear_found"])
        return restored


def _folder_columns(place: Place) -> dict[str, Value]:
    folder = place.folder
    return {
        "identity": place.identity,
        "raw": folder.raw,
        "path": pack(folder.path),
        "name": text(folder.name),
        "kind": folder.kind,
        "selectable": folder.selectable,
        "directory": place.directory,
    }


def _found_columns(found: Sequence[Found]) -> Iterator[tuple[Value, ...]]:
    for each in found:
        if (placed := each.placed) is not None:
            yield placed.epoch, placed.key, placed.size, placed.sha256, placed.path, pack_flags(tuple(each.flags)), each.date
