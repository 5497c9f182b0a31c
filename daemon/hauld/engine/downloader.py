"""Downloading what a comparison found missing.

Batches of it go to sessions, each outcome that has its bytes goes on to ``ingest``, and each that has not is asked for again,
singly, before it is called failed. Nothing is concluded from silence: an item that stays away is failed, or skipped because a
fresh listing no longer names it. A folder that the store cannot write, or the origin does not open, keeps no other waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from hauld.engine.account import Account
from hauld.engine.comparison import Comparison
from hauld.engine.crew import crew
from hauld.engine.ingest import Arrival
from hauld.engine.limits import Turn
from hauld.engine.plan import Batch, Plan, reckoned
from hauld.engine.progress import Meter
from hauld.engine.workshop import Workshop
from hauld.errors import HaulError, ItemRejected, StaleCursor, Transient
from hauld.model import Deposit, Fetched, Folder, Job, Missing, PendingItem, Place, Rejected, Setback, Twin, Want
from hauld.sources.base import Session

SHARE = 50
"""Items that make a further connection worth opening."""


@dataclass
class _Pass:
    """What one pass over the pending items brought to light."""

    plan: Plan
    silent: dict[int, list[PendingItem]] = field(default_factory=dict)
    relist: set[int] = field(default_factory=set)
    unwritable: dict[int, tuple[Folder, ItemRejected]] = field(default_factory=dict)
    setbacks: int = 0


class _Passage(msgspec.Struct):
    """An item that was passed on, until it is settled. ``weight`` are its bytes of the budget; ``over`` is for whoever waits
    for its end."""

    item: PendingItem
    folder: Folder
    this: _Pass
    weight: int
    over: asyncio.Future[None] | None = None


class Downloader:
    """Downloads for one job what its comparison left pending, between batches giving way to whoever is more urgent."""

    def __init__(
        self, job: Job, account: Account, workshop: Workshop, comparison: Comparison, meter: Meter, turn: Turn
    ) -> None:
        self.in_progress: set[int] = set()
        self.stored = 0
        self._job = job
        self._account = account
        self._workshop = workshop
        self._state = workshop.state
        self._comparison = comparison
        self._meter = meter
        self._turn = turn
        self._attempts = job.attempts or workshop.policy.attempts
        self._unsettled = 0
        self._all_settled = asyncio.Event()
        self._failure: HaulError | None = None

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
            if self._unsettled:
                await self._all_settled.wait()

    async def _pass(self) -> None:
        stored = self.stored
        remaining = (await self._state.counters(self._job.number)).remaining
        claimed = self._account.claimed - self.in_progress
        settings = self._account.settings
        share = max(1, self._workshop.budget.limit // (2 * settings.connections))
        plan = Plan(
            self._state,
            self._job.number,
            list(self._comparison.folders.values()),
            self._account.claimed,
            batch_items=settings.batch_items,
            batch_bytes=min(share, settings.batch_bytes or share),
        )
        this = _Pass(plan)
        name = f"job {self._job.id}"
        await crew(
            self._account, 1 + remaining // SHARE, self._job.priority, name, lambda session: self._fetch_batches(session, this)
        )
        await self._settled()
        for folder, error in this.unwritable.values():
            await self._comparison.set_unreadable(folder, error)
        await self._look_again(this)
        if self.stored == stored and not this.setbacks and not this.relist and not self._must_stop():
            await self._wait_for_others(claimed)

    async def _fetch_batches(self, session: Session, this: _Pass) -> None:
        while not self._must_stop() and (batch := await this.plan.next()) is not None:
            try:
                await self._fetch(session, batch, this)
            except StaleCursor:
                this.plan.drop(batch.folder)
                this.relist.add(batch.folder.number)
            except ItemRejected as error:
                this.plan.drop(batch.folder)
                await self._comparison.set_unreadable(batch.folder, error)

    def _must_stop(self) -> bool:
        """Whether to begin no further batch: the disk refuses, or somebody more urgent waits."""
        return self._failure is not None or self._turn.wanted or self._account.wanted(self._job.priority)

    async def _fetch(self, session: Session, batch: Batch, this: _Pass) -> None:
        """Fetch one batch under the byte budget. Whatever happens, what did not come is free for the next try."""
        folder, epoch = batch.folder, epoch_of(batch.folder)
        place = await self._comparison.place(folder)
        items = {item.key: item for item in batch.items}
        waiting = dict(items)
        numbers = {item.number for item in batch.items}
        self._account.claimed |= numbers
        self.in_progress |= numbers
        held = await self._hold(batch)
        wants = [Want(item.key, item.size) for item in batch.items]
        setbacks: list[Setback] = []
        try:
            async with aclosing(session.fetch(folder.remote, epoch, wants, self._workshop.store.sink(place, epoch))) as answers:
                async for outcomes in answers:
                    arrivals: list[Arrival] = []
                    for outcome in outcomes:
                        item = items[outcome.key]
                        if isinstance(outcome, Fetched):
                            del waiting[item.key]
                            passage = _Passage(item, folder, this, held.pop(item.key))
                            arrivals.append(self._arrival(item, outcome, place, epoch, passage))
                        elif isinstance(outcome, Twin):
                            self._put(arrivals)
                            arrivals = []
                            await self._pass_on_twin(item, outcome, place, folder, this)
                        else:
                            del waiting[item.key]
                            setbacks.append(self._setback(folder, item, outcome, this))
                            self._let_go([item], held.pop(item.key))
                    self._put(arrivals)
        finally:
            self._let_go(waiting.values(), sum(held.values()))
            if setbacks:
                this.setbacks += len(setbacks)
                await self._state.record_group(self._job.number, (), setbacks)

    def _arrival(self, item: PendingItem, fetched: Fetched, place: Place, epoch: str, passage: _Passage) -> Arrival:
        """The item's bytes are staged: on to the commit, with the item's share of the budget."""
        flags = item.flags if fetched.flags is None else fetched.flags
        date = item.date if fetched.date is None else fetched.date
        deposit = Deposit(place, epoch, item.key, fetched.body, flags, date)
        listed = item.size if fetched.listed_size is None else fetched.listed_size
        return Arrival(item.number, self._job.number, deposit, listed, self._passed, self._written, passage)

    async def _pass_on_twin(self, item: PendingItem, twin: Twin, place: Place, folder: Folder, this: _Pass) -> None:
        """The same for a second body of the item. It has no share of the budget, so its commit is waited for."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deposit = Deposit(place, epoch_of(folder), item.key, twin.body, item.flags, item.date)
        listed = item.size if twin.listed_size is None else twin.listed_size
        passage = _Passage(item, folder, this, 0, over)
        self._put([Arrival(item.number, self._job.number, deposit, listed, self._passed, self._written, passage, twin=True)])
        await over

    def _put(self, arrivals: Sequence[Arrival]) -> None:
        if arrivals:
            self._unsettled += len(arrivals)
            self._all_settled.clear()
            self._workshop.ingest.put(arrivals)

    def _written(self, arrivals: Sequence[Arrival]) -> None:
        """Their bytes are out of memory: others may come."""
        weight = 0
        for arrival in arrivals:
            assert isinstance(arrival.passage, _Passage)
            weight += arrival.passage.weight
            arrival.passage.weight = 0
        self._let_go((), weight)

    def _passed(self, arrivals: Sequence[Arrival], error: HaulError | None) -> None:
        """A commit is over, whatever became of these."""
        firsts: list[PendingItem] = []
        weight = size = 0
        for arrival in arrivals:
            passage = arrival.passage
            assert isinstance(passage, _Passage)
            if isinstance(error, ItemRejected):
                passage.this.unwritable[passage.folder.number] = (passage.folder, error)
                passage.this.plan.drop(passage.folder)
            if passage.over is None:
                firsts.append(passage.item)
                weight += passage.weight
                size += arrival.deposit.body.size
            elif not passage.over.done():
                passage.over.set_result(None)
        self._let_go(firsts, weight)
        if error is None:
            self.stored += len(firsts)
            self._meter.add(len(firsts), size)
        elif not isinstance(error, ItemRejected):
            self._failure = error
        self._unsettled -= len(arrivals)
        if not self._unsettled:
            self._all_settled.set()

    def _setback(self, folder: Folder, item: PendingItem, outcome: Missing | Rejected, this: _Pass) -> Setback:
        if isinstance(outcome, Rejected):
            return Setback(item.number, outcome.kind, outcome.reason, final=True, skip=outcome.skip)
        asked = msgspec.structs.replace(item, retry_count=item.retry_count + 1)
        if asked.retry_count < self._attempts:
            this.plan.again(folder, asked)
        else:
            this.silent.setdefault(folder.number, []).append(asked)
        return Setback(item.number, "missing", outcome.reason)

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

    async def _wait_for_others(self, claimed: set[int]) -> None:
        """Nothing moved in a pass: another job is fetching what this one wants, or it cannot be had now."""
        if claimed & self._account.claimed:
            await self._account.until_released()
        if claimed:
            return
        troubles = [folder.error.message for folder in self._comparison.unreadable if folder.error is not None]
        more = f" (and {len(troubles) - 1} folders more have trouble)" if len(troubles) > 1 else ""
        detail = f"{troubles[0]}{more}" if troubles else "the origin gives none of them."
        raise Transient("stalled", f"Items are wanted, but cannot be had: {detail}")

    # --- bytes and claims ---

    async def _settled(self) -> None:
        """Wait until all that was passed on is stored, and raise what kept it from being stored."""
        if self._unsettled:
            await self._all_settled.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _hold(self, batch: Batch) -> dict[str, int]:
        """Bytes of the budget held for each item. Only a batch of one can be larger than the whole budget."""
        total = sum(reckoned(item) for item in batch.items)
        try:
            granted = await self._workshop.budget.acquire(total)
        except asyncio.CancelledError:
            self._let_go(batch.items, 0)
            raise
        if len(batch.items) == 1:
            return {batch.items[0].key: granted}
        return {item.key: reckoned(item) for item in batch.items}

    def _let_go(self, items: Iterable[PendingItem], weight: int) -> None:
        numbers = {item.number for item in items}
        self.in_progress -= numbers
        self._account.release(numbers)
        if weight:
            self._workshop.budget.release(weight)


def epoch_of(folder: Folder) -> str:
    """The epoch of a folder that has been listed."""
    assert folder.epoch is not None, "a folder has an epoch from its first listing on"
    return folder.epoch
