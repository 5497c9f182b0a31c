"""Downloads: what is still to be fetched, and the commit that says what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from functools import partial
from typing import NamedTuple

from hauld.errors import Refused
from hauld.model import ItemStatus, PendingItem, Placed, Setback, Stored
from hauld.state.base import Committed
from hauld.state.sqlite.conflicts import Conflicts, find_candidates
from hauld.state.sqlite.connection import Connection, Statements, Value
from hauld.state.sqlite.part import NAMED
from hauld.state.sqlite.queries import load
from hauld.state.sqlite.rows import pack, pack_flags, pending_of, text

SQL = load("downloads.sql")


class Downloads(Conflicts):
    """Promises: ``State``, downloading."""

    async def pending(self, job: int, folder: int, *, below: int | None, limit: int) -> Sequence[PendingItem]:
        rows = await self._database.reader.all(
            SQL["pending"], job=job, folder=folder, below=below, limit=limit, now=self._clock.now_ms()
        )
        return [pending_of(row) for row in rows]

    async def still_pending(self, items: Set[int]) -> Set[int]:
        return {row["number"] for row in await self._database.reader.all(SQL["still_pending"], items=pack(list(items)))}

    async def next_retry(self, job: int) -> int | None:
        row = await self._database.reader.one(SQL["next_retry"], job=job, now=self._clock.now_ms())
        return None if row is None else row["next_retry_at"]

    async def record_group(self, job: int | None, stored: Sequence[Stored], setbacks: Sequence[Setback]) -> Committed:
        now = self._clock.now_ms()
        async with self._database.writing() as write:
            recorded = await write.at_once(partial(_record, job, stored, setbacks, now))
            if recorded.told:
                self._database.told()
            if recorded.doubtful:
                await self._compare_candidates(write, job, now)
            if setbacks:
                await write.run(SQL["set_back_items"], now=now)
                await self._tell_by(write, SQL["tell_failed"], job=job, named=NAMED, now=now)
        return recorded.committed

    async def adopt(self, placed: Sequence[Placed]) -> int:
        now = self._clock.now_ms()
        async with self._database.writing() as write:
            await write.run(SQL["clear_results"])
            await write.many(SQL["find_placed"], map(_placed_columns, placed))
            completed = await write.run(SQL["complete_items"], now=now)
            await write.run(SQL["claim_for_all"])
            await self._tell_by(write, SQL["tell_stored"], job=None, named=NAMED, now=now)
            await write.many(SQL["find_placed_candidates"], map(_placed_columns, placed))
            await self._keep_conflicts(write, None, now)
        return completed

    async def retry_failed(self, job: int, before: int | None = None, items: Sequence[int] | None = None) -> int:
        chosen = None if items is None else pack(list(items))
        async with self._database.writing() as write:
            if chosen is not None:
                await _check_failed(write, job, chosen)
            return await write.run(SQL["retry_failed"], job=job, before=before, items=chosen, now=self._clock.now_ms())


class _Recorded(NamedTuple):
    """What was done; whether there are events of it, and other bytes to be compared."""

    committed: Committed
    told: bool
    doubtful: bool


def _record(job: int | None, stored: Sequence[Stored], setbacks: Sequence[Setback], now: int, write: Statements) -> _Recorded:
    """What the group has stored is stored; what it has not is among the results."""
    write.run(SQL["clear_results"])
    write.many(SQL["put_stored"], map(_stored_columns, stored))  # of two for one item, the first
    write.many(SQL["put_setback"], map(_setback_columns, setbacks))
    write.run(SQL["judge_results"])
    refused = write.all(SQL["refused_results"])
    completed = _complete(write, job, now) if stored else 0
    told = write.run(SQL["tell_stored"], job=job, named=NAMED, now=now) > 0
    doubtful = find_candidates(list(_twins(stored)), write)
    return _Recorded(Committed(completed, tuple(row["item"] for row in refused)), told, doubtful)


def _complete(write: Statements, job: int | None, now: int) -> int:
    """What the group has stored is stored, counted, and claimed for the job. The triggers would do it row by row."""
    write.run(SQL["count_by_hand"], by_hand=True)
    completed = write.run(SQL["complete_items"], now=now)
    write.run(SQL["count_stored"])
    write.run(SQL["count_claims"], job=job)
    write.run(SQL["claim_for_job"], job=job)
    write.run(SQL["count_by_hand"], by_hand=False)
    return completed


async def _check_failed(write: Connection, job: int, items: str) -> None:
    """Refuse the first item that the job does not want or that has not failed."""
    wrong = await write.one(SQL["not_failed"], job=job, items=items)
    if wrong is None:
        return
    if wrong["status"] is None:
        raise Refused(
            "wrong_state",
            f"Item {wrong['item']} is not one of those that job {wrong['job']} wants.",
            hint=f"`haulctl items {wrong['job']} --status failed` shows what can be retried.",
        )
    raise Refused("wrong_state", f"Item {wrong['item']} is {wrong['status']}; only what has failed can be retried.")


def _twins(stored: Sequence[Stored]) -> Iterator[Stored]:
    """What comes after others for the same item."""
    seen: set[int] = set()
    for each in stored:
        if each.item in seen:
            yield each
        seen.add(each.item)


def _stored_columns(stored: Stored) -> tuple[Value, ...]:
    placed = stored.placed
    flags = None if stored.flags is None else pack_flags(tuple(stored.flags))
    return stored.item, placed.epoch, placed.key, placed.size, placed.sha256, placed.path, flags, stored.size_differs


def _setback_columns(setback: Setback) -> tuple[Value, ...]:
    return setback.item, _becomes(setback), setback.kind, text(setback.reason), setback.attempt


def _placed_columns(placed: Placed) -> tuple[Value, ...]:
    return placed.size, placed.sha256, placed.path, placed.folder, placed.epoch, placed.key, placed.identity


def _becomes(setback: Setback) -> ItemStatus:
    if not setback.final:
        return ItemStatus.PENDING
    return ItemStatus.SKIPPED if setback.skip else ItemStatus.FAILED
