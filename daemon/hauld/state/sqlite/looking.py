"""Looking: progress, items and whether the ledger agrees with itself. Nothing here counts rows but ``check``."""

from __future__ import annotations

from collections.abc import Sequence

from hauld.errors import Fatal
from hauld.model import FolderProgress, Item, ItemStatus
from hauld.state.base import AccountTotals
from hauld.state.sqlite.part import Part
from hauld.state.sqlite.queries import load
from hauld.state.sqlite.rows import fetching_order, item_of, pack, progress_of, strategy_of, text

SQL = load("looking.sql")
CHECKS = load("check.sql")

OUTCOMES = {status: [status.value] for status in ItemStatus} | {ItemStatus.COMPLETED: ["completed", "downloaded"]}
"""How the wants of items of each status are marked."""


class Looking(Part):
    """Promises: ``State``, looking."""

    async def account_totals(self, account: int) -> AccountTotals:
        row = await self._database.reader.one(SQL["account_totals"], account=account)
        assert row is not None, "sums give a row"
        return AccountTotals(row["folders"], row["items"], row["bytes"], row["last_sync_at"], row["inbox_sync_at"])

    async def folder_progress(self, *, job: int | None = None, account: int | None = None) -> Sequence[FolderProgress]:
        if job is not None:
            rows = await self._database.reader.all(SQL["progress_of_job"], job=job)
            rows = [row for row in rows if row["total"] or strategy_of(row).selects(row["name"])]
        else:
            rows = await self._database.reader.all(SQL["progress_of_account"], account=account)
        return sorted(map(progress_of, rows), key=lambda progress: fetching_order(progress.folder))

    async def items(
        self,
        job: int,
        *,
        folder: str | None = None,
        status: ItemStatus | None = None,
        limit: int = 100,
        after: int | None = None,
    ) -> Sequence[Item]:
        outcomes = OUTCOMES[status] if status else [outcome for each in OUTCOMES.values() for outcome in each]
        rows = await self._database.reader.all(
            SQL["items_of_job"],
            job=job,
            folder=None if folder is None else text(folder),
            outcomes=pack(outcomes),
            after=after or 0,
            limit=limit,
        )
        return [item_of(row) for row in rows]

    async def check(self) -> Sequence[str]:
        wrong: list[str] = []
        try:
            async with self._database.snapshot() as connection:
                for name, statement in CHECKS.items():
                    found = [row[0] for row in await connection.all(statement)]
                    if found and name == "pages_are_sound":
                        self._database.mark(found[0])
                    wrong += found
        except Fatal as error:
            wrong.append(error.message)
        return wrong
