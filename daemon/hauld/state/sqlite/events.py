"""Events: numbered facts, read back by whoever follows. They are written in the transaction of what they tell (``part``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hauld.model import Event, Trouble
from hauld.state.sqlite.part import EVENTS, Part
from hauld.state.sqlite.rows import event_of, reason_of


class Events(Part):
    """Promises: ``State``, events."""

    async def stream(self) -> str:
        row = await self._database.reader.one(EVENTS["stream"])
        assert row is not None, "the migration that makes the table fills it"
        return str(row["id"])

    async def events(self, after: int, limit: int = 1000, job: str | None = None) -> Sequence[Event]:
        reader = self._database.reader
        if job is None:
            rows = await reader.all(EVENTS["events_after"], after=after, limit=limit)
        else:
            rows = await reader.all(EVENTS["events_of_job_after"], after=after, limit=limit, job=job)
        return [event_of(row) for row in rows]

    async def event_span(self) -> tuple[int, int]:
        row = await self._database.reader.one(EVENTS["event_span"])
        assert row is not None, "a SELECT of one row gives it"
        return row["oldest"], row["newest"]

    async def tell_accounts(self, how: Sequence[tuple[str, str, Trouble | None]]) -> None:
        async with self._database.writing() as write:
            for name, state, trouble in how:
                await self._tell(write, "account.state", {"account": name, "state": state, **reason_of(trouble)})

    async def prune_events(self, before: int, keep: int) -> int:
        async with self._database.writing() as write:
            return await write.run(EVENTS["prune_events"], before=before, keep=keep)

    def when_told(self, call: Callable[[], None]) -> None:
        self._database.when_told(call)
