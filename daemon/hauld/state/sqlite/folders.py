"""Folders and their listings: what the origin has, and what it has no more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from hauld.errors import Refused, StaleCursor
from hauld.model import ANY_DATE, Dates, Folder, Page, RemoteFolder, RemoteItem, Trouble
from hauld.state.base import Preview
from hauld.state.sqlite.connection import Connection, Statements, Value
from hauld.state.sqlite.part import Part
from hauld.state.sqlite.queries import load
from hauld.state.sqlite.rows import fetching_order, folder_of, pack, pack_flags, pack_trouble, text

SQL = load("folders.sql")

EPOCH_PASSED = "The origin gave the folder's items new identities before this one was downloaded."
GONE = "The origin had it no more before it was downloaded."

PIECE = 4000
"""Items that a job comes to want at a time, so that other transactions get their turn in between."""


class Folders(Part):
    """Promises: ``State``, folders and listings."""

    async def record_folders(self, account: int, listed: Sequence[RemoteFolder]) -> Sequence[Folder]:
        async with self._database.writing() as write:
            await write.many(SQL["put_folder"], [_folder_columns(account, remote) for remote in listed])
            names = pack([remote.raw.hex() for remote in listed])
            for lost in await write.all(SQL["lose_folders"], account=account, listed=names, now=self._clock.now_ms()):
                skipped = await self._skip_unstored(write, lost["number"], lost["epoch"], "gone", GONE)
                await self._tell(write, "folder.gone", {"skipped": skipped}, folder=lost["name"])
            known = await write.all(SQL["folders_of_account"], account=account)
        return sorted((folder for folder in map(folder_of, known) if folder.gone_at is None), key=fetching_order)

    async def folders(self, account: int) -> Sequence[Folder]:
        known = await self._database.reader.all(SQL["folders_of_account"], account=account)
        return sorted(map(folder_of, known), key=fetching_order)

    async def set_directory(self, folder: int, directory: str) -> None:
        async with self._database.writing() as write:
            await write.run(SQL["set_directory"], folder=folder, directory=directory)

    async def set_folder_error(self, folder: int, error: Trouble | None) -> None:
        async with self._database.writing() as write:
            await write.run(SQL["set_folder_error"], folder=folder, error=pack_trouble(error))

    async def record_listing(
        self, folder: int, pages: Sequence[Page], jobs: Sequence[int], dates: Dates = ANY_DATE
    ) -> tuple[int, int]:
        async with self._database.writing() as write:
            await self._begin_listing(write, folder, pages[0].epoch)
            new = sum([await self._record_page(write, folder, page, jobs, dates) for page in pages if page.items])
            gone = await self._finish_listing(write, folder, pages[-1])
        return new, gone

    async def begin_listing(self, folder: int, epoch: str) -> None:
        async with self._database.writing() as write:
            await self._begin_listing(write, folder, epoch)

    async def _begin_listing(self, write: Connection, folder: int, epoch: str) -> None:
        before = await _folder(write, folder)
        if before.epoch != epoch:
            await self._turn_epoch(write, before, epoch)
        await write.run(SQL["forget_named"], folder=folder)
        await write.run(SQL["open_listing"], folder=folder)

    async def _turn_epoch(self, write: Connection, folder: Folder, epoch: str) -> None:
        now = self._clock.now_ms()
        await write.run(SQL["open_epoch"], folder=folder.number, epoch=epoch)
        if folder.epoch is None:
            await write.run(SQL["remove_others"], folder=folder.number, epoch=epoch, now=now)
            return
        skipped = await self._skip_unstored(write, folder.number, folder.epoch, "epoch", EPOCH_PASSED)
        kept = await write.run(SQL["remove_rest"], folder=folder.number, epoch=folder.epoch, now=now)
        data: dict[str, object] = {"from": folder.epoch, "to": epoch, "skipped": skipped, "kept": kept}
        await self._tell(write, "folder.epoch", data, folder=folder.name)

    async def _skip_unstored(self, write: Connection, folder: int, epoch: str | None, kind: str, reason: str) -> int:
        now = self._clock.now_ms()
        return await write.run(SQL["skip_unstored"], folder=folder, epoch=epoch, kind=kind, reason=reason, now=now)

    async def record_page(self, folder: int, page: Page, jobs: Sequence[int], dates: Dates = ANY_DATE) -> int:
        async with self._database.writing() as write:
            return await self._record_page(write, folder, page, jobs, dates)

    async def _record_page(self, write: Connection, folder: int, page: Page, jobs: Sequence[int], dates: Dates) -> int:
        await _check_epoch(write, folder, page.epoch)
        return await write.at_once(partial(_record_page, folder, page, jobs, dates, self._clock.now_ms()))

    async def finish_listing(self, folder: int, page: Page) -> int:
        async with self._database.writing() as write:
            return await self._finish_listing(write, folder, page)

    async def _finish_listing(self, write: Connection, folder: int, page: Page) -> int:
        now = self._clock.now_ms()
        known = await _check_epoch(write, folder, page.epoch)
        listing = await write.one(SQL["close_listing"], folder=folder)
        if listing is None:
            raise StaleCursor(f"No listing of folder {known.name!r} was begun.", epoch=page.epoch)
        gone = 0
        if page.whole:
            gone = await write.run(SQL["remove_unnamed"], folder=folder, epoch=page.epoch, now=now, reason=GONE)
        await write.run(SQL["forget_named"], folder=folder)
        await write.run(SQL["finish_listing"], folder=folder, cursor=page.cursor, now=now)
        await self._tell(write, "folder.listed", {"new": listing["new"], "gone": gone}, folder=known.name)
        return gone

    async def set_unchanged(self, folders: Sequence[int]) -> None:
        async with self._database.writing() as write:
            await write.run(SQL["set_unchanged"], folders=pack(list(folders)), now=self._clock.now_ms())

    async def want_known(self, job: int, folder: int, dates: Dates = ANY_DATE) -> int:
        known = await self._database.reader.one(SQL["wants_not_all"], job=job, folder=folder)
        if known is None:
            return 0
        here: dict[str, Value] = {"job": job, "folder": folder, "since": dates.since, "before": dates.before}
        async with self._database.snapshot() as connection:
            row = await connection.one(SQL["not_wanted"], **here, epoch=known["epoch"])
        assert row is not None, "a sum gives a row"
        numbers = json.loads(row["numbers"])
        wanted = 0
        for start in range(0, len(numbers), PIECE):
            async with self._database.writing() as write:
                piece = pack(numbers[start : start + PIECE])
                wanted += await write.run(SQL["want_items"], job=job, folder=folder, numbers=piece)
        return wanted

    async def want_keys(self, job: int, folder: int, epoch: str, keys: Sequence[str]) -> int:
        async with self._database.writing() as write:
            await _check_epoch(write, folder, epoch)
            return await write.run(SQL["want_keys"], job=job, folder=folder, epoch=epoch, keys=pack(list(keys)))

    async def preview(self, folder: int, dates: Dates = ANY_DATE, keys: Sequence[str] | None = None) -> Preview:
        here: dict[str, Value] = {"folder": folder, "since": dates.since, "before": dates.before}
        async with self._database.snapshot() as connection:
            await _folder(connection, folder)
            if keys is None:
                row = await connection.one(SQL["preview_known"], **here)
            else:
                row = await connection.one(SQL["preview_keys"], **here, keys=pack(list(keys)))
        assert row is not None, "sums give a row"
        return Preview(row["items"], row["bytes"], row["stored"])


def _record_page(folder: int, page: Page, jobs: Sequence[int], dates: Dates, now: int, write: Statements) -> int:
    """The page is in the folder's epoch. The number of new items."""
    here: dict[str, Value] = {"folder": folder, "epoch": page.epoch}
    write.run(SQL["clear_page"])
    write.many(SQL["put_on_page"], map(_item_columns, page.items))
    new = write.run(SQL["add_items"], **here, now=now)
    write.run(SQL["find_page"], **here)
    if new < len(page.items):
        for statement in ("refresh_items", "revive_items", "exclude_items"):
            write.run(SQL[statement], now=now)
    write.run(SQL["want_page"], jobs=pack(list(jobs)), since=dates.since, before=dates.before)
    write.run(SQL["name_page"], folder=folder)
    write.run(SQL["set_newest"], folder=folder)
    write.run(SQL["count_page"], folder=folder, new=new)
    return new


async def _folder(connection: Connection, number: int) -> Folder:
    row = await connection.one(SQL["folder"], folder=number)
    if row is None:
        raise Refused("not_found", f"There is no folder number {number}.")
    return folder_of(row)


async def _check_epoch(write: Connection, number: int, epoch: str) -> Folder:
    """The folder, if it is in that epoch."""
    folder = await _folder(write, number)
    if folder.epoch != epoch:
        raise StaleCursor(
            f"What was listed of folder {folder.name!r} is of epoch {epoch}, but the folder is in {folder.epoch}.",
            epoch=folder.epoch,
        )
    return folder


def _folder_columns(account: int, remote: RemoteFolder) -> tuple[Value, ...]:
    return account, remote.raw, pack(remote.path), text(remote.name), remote.kind, remote.selectable


def _item_columns(item: RemoteItem) -> tuple[Value, ...]:
    skip = None if item.skip is None else text(item.skip)
    return item.key, item.ordinal, item.size, pack_flags(tuple(item.flags)), item.date, skip
