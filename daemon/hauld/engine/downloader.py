"""Downloading what a comparison found missing.

Batches of it go to sessions, each outcome that has its bytes goes on to ``ingest``, and each that has not is asked for again,
singly, before it is called failed. Nothing is concluded from silence: an item that stays away is failed, or skipped because a
fresh listing no longer names it. A folder that the store cannot write, or the origin does not open, keeps no other waiting.

Nor does an item at which the origin breaks the connection. What had been asked for then is suspect, and asked for again when
nothing else is left, until each is asked for alone. One that breaks the connection even so, without a byte more of it than
before, has had an attempt, but only if a new session opens and the origin gives something else on it: a network that is away,
or an origin that gives nothing at all, costs no item anything.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from hauld.engine.account import Account
from hauld.engine.comparison import Comparison
from hauld.engine.crew import crew
from hauld.engine.fetching import Fetcher, epoch_of
from hauld.engine.limits import Turn
from hauld.engine.plan import Batch, Plan
from hauld.engine.progress import Meter
from hauld.engine.suspects import BREAKS, Suspects, is_break
from hauld.engine.trial import Trial
from hauld.engine.workshop import Workshop
from hauld.errors import ItemRejected, StaleCursor, Transient
from hauld.model import Folder, Job, Missing, PendingItem, Rejected, Setback
from hauld.sources.base import Session

SHARE = 50
"""Items that make a further connection worth opening."""

WITNESSES = 100
"""Stored items of a folder among which one is asked for, to see whether the origin gives anything."""


class _Accused(NamedTuple):
    """An item that broke the connection when it was asked for alone."""

    folder: Folder
    item: PendingItem
    error: Transient


@dataclass
class _Pass:
    """What one pass over the pending items brought to light. It is what batches are fetched for: what did not come is asked for
    again, up to ``attempts`` times in all, and a folder that cannot be written is left. The items ``left`` were another's to
    fetch, or not pending any more. ``breaks`` are the ends of sessions that may be due to what was asked for, ``condemned`` is
    how many items were failed for that; ``doubtful`` is whether the origin may give nothing at all."""

    plan: Plan
    attempts: int
    suspects: Suspects
    silent: dict[int, list[PendingItem]] = field(default_factory=dict)
    relist: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    written_off: dict[int, tuple[Folder, ItemRejected]] = field(default_factory=dict)
    setbacks: int = 0
    breaks: list[Transient] = field(default_factory=list)
    accused: list[_Accused] = field(default_factory=list)
    condemned: int = 0
    doubtful: bool = False

    @property
    def spent(self) -> bool:
        """Whether enough broke to leave the origin alone for a while."""
        return self.doubtful or len(self.breaks) >= BREAKS

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

    def came(self, batch: Batch) -> None:
        if self.suspects:
            self.suspects.clear(item.number for item in batch.items)

    def broke(self, batch: Batch, trial: Trial, error: Transient) -> None:
        """The session ended when the batch had been asked for."""
        if not is_break(error):
            return
        self.breaks.append(error)
        unmet = {item.number for item in trial.unmet}
        if trial.alone and unmet and self.suspects.company(batch.items[0].number) is not None:
            if not self.suspects.got_further(batch.items[0].number, trial.reached):
                self.accused.append(_Accused(batch.folder, batch.items[0], error))
            return
        self.suspects.clear(item.number for item in batch.items if item.number not in unmet)
        self.suspects.add(unmet)
        self.plan.again_last(batch.folder, trial.unmet)

    def was_blamed(self, item: PendingItem) -> bool:
        return item.retry_count > 0 and self.suspects.company(item.number) is not None

    def verdict(self, accused: _Accused) -> Setback:
        """It was the item: an attempt, and where there were enough of them, the last one."""
        final = accused.item.retry_count + 1 >= self.attempts
        self.condemned += final
        reason = f"The connection breaks each time that this item is asked for: {accused.error.message}"
        return Setback(accused.item.number, "breaks", reason, final=final)


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
        self._condemned = 0

    @property
    def in_progress(self) -> int:
        """Items being fetched right now."""
        return len(self._fetcher.in_progress)

    @property
    def stored(self) -> int:
        """Items stored so far."""
        return self._fetcher.stored

    @property
    def got_on(self) -> bool:
        """Whether something was stored, or is known to be what breaks the connection."""
        return self.stored > 0 or self._condemned > 0

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
            self._account.suspects,
            batch_items=settings.batch_items,
            batch_bytes=min(share, settings.batch_bytes or share),
        )
        this = _Pass(plan, self._attempts, self._account.suspects)
        await crew(
            self._account,
            1 + remaining // SHARE,
            self._job.priority,
            f"job {self._job.id}",
            lambda session: self._fetch_batches(session, this),
            lambda error: error in this.breaks,
        )
        self._condemned += this.condemned
        await self._fetcher.settled()
        for folder, error in this.written_off.values():
            await self._comparison.set_unreadable(folder, error)
        await self._look_again(this)
        if this.breaks and self.stored == stored and not this.condemned:
            raise this.breaks[0]
        if self.stored == stored and not this.condemned and not this.setbacks and not this.relist and not self._must_stop():
            await self._wait_for_others(this.left)

    async def _fetch_batches(self, session: Session, this: _Pass) -> None:
        is_proven = await self._judge(session, this)
        while not this.spent and not self._must_stop() and (batch := await this.plan.next()) is not None:
            trial = Trial(alone=len(batch.items) == 1)
            if not is_proven and trial.alone and this.was_blamed(batch.items[0]):
                await self._gives_another(session, batch.folder, batch.items[0])
            is_proven = True
            try:
                place = await self._comparison.place(batch.folder)
                this.left |= await self._fetcher.fetch(session, batch, place, this, trial)
                this.came(batch)
            except StaleCursor:
                this.plan.drop(batch.folder)
                this.relist.add(batch.folder.number)
            except ItemRejected as error:
                this.plan.drop(batch.folder)
                await self._comparison.set_unreadable(batch.folder, error)
            except Transient as error:
                this.broke(batch, trial, error)
                raise

    async def _judge(self, session: Session, this: _Pass) -> bool:
        """Items have broken the connection, each asked for alone, and here is a new session: whether it was them. Where nothing
        can tell that the origin gives anything, it may have been one of them, and the pass is over. Whether there was anything
        to judge."""
        accused, this.accused = this.accused, []
        if not accused:
            return False
        if not await self._gives_another(session, accused[0].folder, accused[0].item):
            this.doubtful = True
            del accused[1:]
        await self._state.record_group(self._job.number, (), [this.verdict(each) for each in accused])
        return True

    async def _gives_another(self, session: Session, home: Folder, item: PendingItem) -> bool:
        """Have the origin give the beginning of another item, one that is stored, in the same folder if there is any. False
        where there is none anywhere: then it has listed the folder. Raises ``Transient`` where it does neither."""
        folders = [home, *self._comparison.folders.values()] if self._account.gives_heads else []
        for folder in folders:
            after = max(0, item.number - WITNESSES) if folder is home else 0
            stored = await self._state.stored(folder.number, after=after, limit=WITNESSES)
            if keys := [item.key for item in stored if item.there and item.epoch == folder.epoch]:
                witness = keys[item.retry_count % len(keys)]  # not always the same one: it may be as bad
                with suppress(StaleCursor, ItemRejected):  # an answer all the same
                    await session.heads(folder.remote, epoch_of(folder), [witness])
                return True
        async with aclosing(session.list(home.remote, home.cursor)) as pages:
            with suppress(ItemRejected):
                async for _ in pages:
                    pass
        return False

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
