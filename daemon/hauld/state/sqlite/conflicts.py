"""Conflicts: an origin gives other bytes under a key than it gave before. The item keeps its first bytes; the others are kept
beside them, and told."""

from __future__ import annotations

from collections.abc import Sequence

from hauld.model import Stored
from hauld.state.sqlite.connection import Connection, Value
from hauld.state.sqlite.part import Part
from hauld.state.sqlite.queries import load

SQL = load("conflicts.sql")


class Conflicts(Part):
    """For the parts that store."""

    async def _keep_conflicts(self, write: Connection, job: int | None, now: int, twins: Sequence[Stored] = ()) -> None:
        """Compare what came for items that are stored by now: the results at hand, these twins, and what else the transaction
        has put among the candidates."""
        if twins:
            await write.many(SQL["put_twin"], map(_twin_columns, twins))
        await write.run(SQL["find_candidates"])
        if await write.one(SQL["any_candidate"]) is None:
            return
        for new in await write.all(SQL["keep_conflicts"], now=now):
            other: dict[str, Value] = {"item": new["item"], "sha256": new["sha256"], "path": new["path"]}
            await self._tell_by(write, SQL["tell_conflict"], job=job, now=now, **other)
        await write.run(SQL["settle_conflicts"])
        await write.run(SQL["forget_given_up"])
        await write.run(SQL["clear_candidates"])


def _twin_columns(twin: Stored) -> tuple[Value, ...]:
    placed = twin.placed
    return placed.sha256, placed.size, placed.path, twin.item, placed.epoch, placed.key
