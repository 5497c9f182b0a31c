"""Downloading what a comparison found missing.

Batches of it go to sessions, each outcome that has its bytes goes on to ``ingest``, and each that has not is asked for again,
singly, before it is called failed. Nothing is concluded from silence: an item that stays away is failed, or skipped because a
fresh listing no longer names it. A folder that the store cannot write, or the origin does not open, keeps no other waiting.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from hauld.engine.account import Account
from hauld.engine.comparison import Comparison
from hauld.engine.crew import crew
from hauld.engine.fetching import Fetcher
from hauld.engine.limits import Turn
from hauld.engine.plan import Plan
from hauld.engine.progress import Meter
from hauld.engine.workshop import Workshop
from hauld.errors import ItemRejected, StaleCursor, Transient
from hauld.model import Folder, Job, Missing, PendingItem, Rejected, Setback
from hauld.sources.base import Session

SHARE = 50
"""Items that make a further connection worth opening."""


@dataclass
class _Pass:
    """What one pass over the pending items brought to light. It is what batches are fetched for: what did not come is asked for
    again, up to ``attempts`` times in all, and a folder that cannot be written is left. The items ``left`` were another's to
    fetch, or not pending any more."""

    plan: Plan
    attempts: int
    silent: dict[int, list[PendingItem]] = field(default_factory=dict)
    relist: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    written_off: dict[int, tuple[Folder, ItemRejected]] = field(default_factory=dict)
    setbacks: int = 0

    def lost(self, folder: Folder, item: PendingItem, outcome: Missing | Rejected) -> Setback:
        self.setbacks += 1
        if isinstance(outcome, Rejected):
            return Setback(item.number, outcome.kind, outcome.reason, final=True, skip=outcome.skip)
        asked = msgspec.structs.replace(item, retry_count=item.retry_count + 1)
        if asked.retry_count < self.attempts:
            self.plan.again(folder, asked)
        else:
            self.silent.setdefault(folder.number, []).append(asked)
        return Setback(item.number, "missing", outcome.reason)

    def unwritable(self, folder: Folder, error: ItemRejected) -> None:
        self.written_off[folder.number] = (folder, error)
        self.plan.drop(folder)


class Downloader:
    """Downloads for one job what its comparison left pending, between batches giving way to whoever is more urgent."""

    def __init__(
        self, job: Job, account: Account, workshop: Workshop, comparison: Comparison, meter: Meter, turn: Turn
    ) -> None:
        self._job = job
        self._account = account
        self._workshop = workshop
        self._state = workshop.state
        self._comparison = comparison
        self._meter = meter
        self._turn = turn
        self._attempts = job.attempts or workshop.policy.attempts
        self._fetcher = Fetcher(job.number, account, workshop, tell=meter.add)

    @property
    def in_progress(self) -> int:
        """Items being fetched right now."""
        return len(self._fetcher.in_progress)

    @property
    def stored(self) -> int:
        """Items stored so far."""
        return self._fetcher.stored

    async def run(self) -> None:
        """Pass over what is pending until nothing is left of it. Cancelled, it ends when what was passed on is stored."""
        await self._workshop.ingest.finish()  # what a group that failed has left durable is not fetched again
        self._meter.begin()
        try:
            while (await self._state.counters(self._job.number)).remaining:
                await self._turn.give_way()
                await self._pass()
        finally:
            self._account.items_per_second = self._meter.rates()[0] or self._account.items_per_second
            self._meter.end()
            await self._fetcher.at_rest()

    async def _pass(self) -> None:
        stored = self.stored
        remaining = (await self._state.counters(self._job.number)).remaining
        settings = self._account.settings
        budget = self._workshop.budget
        share = max(1, min(budget.share, budget.limit // (2 * settings.connections)))
        plan = Plan(
            self._state,
            self._job.number,
            list(self._comparison.folders.values()),
            batch_items=settings.batch_items,
            batch_bytes=min(share, settings.batch_bytes or share),
        )
        this = _Pass(plan, self._attempts)
        name = f"job {self._job.id}"
        await crew(
            self._account, 1 + remaining // SHARE, self._job.priority, name, lambda session: self._fetch_batches(session, this)
        )
        await self._fetcher.settled()
        for folder, error in this.written_off.values():
            await self._comparison.set_unreadable(folder, error)
        await self._look_again(this)
        if self.stored == stored and not this.setbacks and not this.relist and not self._must_stop():
            await self._wait_for_others(this.left)

    async def _fetch_batches(self, session: Session, this: _Pass) -> None:
        while not self._must_stop() and (batch := await this.plan.next()) is not None:
            try:
                this.left |= await self._fetcher.fetch(session, batch, await self._comparison.place(batch.folder), this)
            except StaleCursor:
                this.plan.drop(batch.folder)
                this.relist.add(batch.folder.number)
            except ItemRejected as error:
                this.plan.drop(batch.folder)
                await self._comparison.set_unreadable(batch.folder, error)

    def _must_stop(self) -> bool:
        """Whether to begin no further batch: the disk refuses, or somebody more urgent waits."""
        return self._fetcher.refused or self._turn.wanted or self._account.wanted(self._job.priority)

    async def _look_again(self, this: _Pass) -> None:
        """List afresh the folders in doubt. What they still name and never gave is failed; the rest is no longer wanted."""
        for number in sorted(this.relist | this.silent.keys()):
            if (folder := self._comparison.folders.get(number)) is None:
                continue  # it cannot be read or written just now, and that is known
            async with self._account.session(self._job.priority) as session:
                await self._comparison.list_folder(session, folder, None, stale=number in this.relist)
            silent = {item.number for item in this.silent.get(number, ())}
            if silent:
                pending = await self._state.pending(self._job.number, number, below=None, limit=10**9)
                reason = f"The origin lists it, but left it out of {self._attempts} answers."
                failed = [
                    Setback(i.number, "missing", reason, final=True, attempt=False) for i in pending if i.number in silent
                ]
                await self._state.record_group(self._job.number, (), failed)

    async def _wait_for_others(self, left: set[int]) -> None:
        """Nothing moved in a pass: another job is fetching what this one wants, or it cannot be had now."""
        if left:
            await self._account.claims.until_free(left)
            return
        troubles = [folder.error.message for folder in self._comparison.unreadable if folder.error is not None]
        more = f" (and {len(troubles) - 1} folders more have trouble)" if len(troubles) > 1 else ""
        detail = f"{troubles[0]}{more}" if troubles else "the origin gives none of them."
        raise Transient("stalled", f"Items are wanted, but cannot be had: {detail}")
