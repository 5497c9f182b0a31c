"""Conflicts: an origin gives other bytes under a key than it gave before. The item keeps its first bytes; the others are kept
beside them, and told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hauld.model import Stored
from hauld.state.sqlite.connection import Connection, Statements, Value
from hauld.state.sqlite.part import Part
from hauld.state.sqlite.queries import load

SQL = load("conflicts.sql")


class Conflicts(Part):
    """For the parts that store."""

    async def _keep_conflicts(self, write: Connection, job: int | None, now: int, twins: Sequence[Stored] = ()) -> None:
        """Compare what came for items that are stored by now: the results at hand, these twins, and what else the transaction
        has put among the candidates."""
        if await write.at_once(partial(find_candidates, twins)):
            await self._compare_candidates(write, job, now)

    async def _compare_candidates(self, write: Connection, job: int | None, now: int) -> None:
        """What is other than what the item has is kept, and told."""
        for new in await write.all(SQL["keep_conflicts"], now=now):
            other: dict[str, Value] = {"item": new["item"], "sha256": new["sha256"], "path": new["path"]}
            await self._tell_by(write, SQL["tell_conflict"], job=job, now=now, **other)
        await write.run(SQL["settle_conflicts"])
        await write.run(SQL["forget_given_up"])
        await write.run(SQL["clear_candidates"])


def find_candidates(twins: Sequence[Stored], write: Statements) -> bool:
    """Whether there is anything to compare."""
    if twins:
        write.many(SQL["put_twin"], map(_twin_columns, twins))
    write.run(SQL["find_candidates"])
    return bool(write.all(SQL["any_candidate"]))


def _twin_columns(twin: Stored) -> tuple[Value, ...]:
    placed = twin.placed
    return placed.sha256, placed.size, placed.path, twin.item, placed.epoch, placed.key
