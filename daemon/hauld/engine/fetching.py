"""Fetching a batch of items that wait: each outcome that has its bytes goes on to ``ingest``, and the others are told.

What is fetched was claimed first, and is still pending then; of the budget it holds bytes until it is written. Whatever breaks,
what did not come is free for the next try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import aclosing
from typing import Protocol

import msgspec

from hauld.engine.account import Account
from hauld.engine.ingest import Arrival
from hauld.engine.plan import Batch, reckoned
from hauld.engine.trial import Trial
from hauld.engine.workshop import Workshop
from hauld.errors import HaulError, ItemRejected
from hauld.model import Deposit, Fetched, Folder, Missing, PendingItem, Place, Rejected, Setback, Twin, Want
from hauld.sources.base import Session


class Errand(Protocol):
    """For whom a batch is fetched: hears at once what did not come of it."""

    def lost(self, folder: Folder, item: PendingItem, outcome: Missing | Rejected) -> Setback | None:
        """The item did not come; what is to be recorded of that, if anything."""
        ...

    def unwritable(self, folder: Folder, error: ItemRejected) -> None:
        """The store cannot take the folder's items."""
        ...


class _Passage(msgspec.Struct):
    """An item that was passed on, until it is settled. ``weight`` are its bytes of the budget; ``over`` is for whoever waits
    for its end."""

    item: PendingItem
    folder: Folder
    errand: Errand
    weight: int
    over: asyncio.Future[None] | None = None


class Fetcher:
    """Fetches for one job, on any number of sessions. ``in_progress`` are the numbers of the items that were asked for and are
    not settled yet, ``stored`` is how many were stored; ``tell`` is called with how many were just now, and their bytes.
    ``urgent`` ones are stored before others."""

    def __init__(
        self,
        job: int,
        account: Account,
        workshop: Workshop,
        *,
        urgent: bool = False,
        tell: Callable[[int, int], None] = lambda _items, _bytes: None,
    ) -> None:
        self.in_progress: set[int] = set()
        self.stored = 0
        self._tell = tell
        self._job = job
        self._account = account
        self._workshop = workshop
        self._urgent = urgent
        self._unsettled = 0
        self._all_settled = asyncio.Event()
        self._failure: HaulError | None = None

    @property
    def refused(self) -> bool:
        """Whether something could not be stored, for which no folder is to blame."""
        return self._failure is not None

    async def fetch(self, session: Session, batch: Batch, place: Place, errand: Errand, trial: Trial | None = None) -> set[int]:
        """Fetch one batch under the byte budget. What came of it was passed on when this returns, and is stored after
        ``settled``. The numbers of those that were left alone: another is fetching them, or they are not pending any more.
        The ``trial`` says how far it came, however it ends."""
        claimed = await self._claim(batch)
        if claimed:
            await self._fetch(session, batch.folder, claimed, place, errand, trial or Trial(alone=False))
        return {item.number for item in batch.items}.difference(item.number for item in claimed)

    async def _fetch(
        self, session: Session, folder: Folder, claimed: Sequence[PendingItem], place: Place, errand: Errand, trial: Trial
    ) -> None:
        epoch = epoch_of(folder)
        items = {item.key: item for item in claimed}
        waiting = dict(items)
        held = await self._hold(claimed)
        wants = [Want(item.key, item.size) for item in claimed]
        sink = trial.over(self._workshop.store.sink(place, epoch))
        setbacks: list[Setback] = []
        try:
            async with aclosing(session.fetch(folder.remote, epoch, wants, sink)) as answers:
                async for outcomes in answers:
                    if not self._urgent:
                        await self._workshop.ingest.make_way()
                    arrivals: list[Arrival] = []
                    for outcome in outcomes:
                        item = items[outcome.key]
                        if isinstance(outcome, Fetched):
                            del waiting[item.key]
                            passage = _Passage(item, folder, errand, held.pop(item.key))
                            arrivals.append(self._arrival(item, outcome, place, epoch, passage))
                        elif isinstance(outcome, Twin):
                            self._put(arrivals)
                            arrivals = []
                            await self._pass_on_twin(item, outcome, place, folder, errand)
                        else:
                            del waiting[item.key]
                            if setback := errand.lost(folder, item, outcome):
                                setbacks.append(setback)
                            self._let_go([item], held.pop(item.key))
                    self._put(arrivals)
        finally:
            trial.unmet = tuple(waiting.values())
            self._let_go(waiting.values(), sum(held.values()))
            if setbacks:
                await self._workshop.state.record_group(self._job, (), setbacks)

    async def at_rest(self) -> None:
        """Wait until the commit of all that was passed on is over, however it went."""
        if self._unsettled:
            await self._all_settled.wait()

    async def settled(self) -> None:
        """Wait until all that was passed on is stored, and raise what kept it from being stored."""
        await self.at_rest()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # --- passing on ---

    def _arrival(self, item: PendingItem, fetched: Fetched, place: Place, epoch: str, passage: _Passage) -> Arrival:
        """The item's bytes are staged: on to the commit, with the item's share of the budget."""
        flags = item.flags if fetched.flags is None else fetched.flags
        date = item.date if fetched.date is None else fetched.date
        deposit = Deposit(place, epoch, item.key, fetched.body, flags, date)
        listed = item.size if fetched.listed_size is None else fetched.listed_size
        return Arrival(item.number, self._job, deposit, listed, self._passed, self._written, passage)

    async def _pass_on_twin(self, item: PendingItem, twin: Twin, place: Place, folder: Folder, errand: Errand) -> None:
        """The same for a second body of the item. It has no share of the budget, so its commit is waited for."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deposit = Deposit(place, epoch_of(folder), item.key, twin.body, item.flags, item.date)
        listed = item.size if twin.listed_size is None else twin.listed_size
        passage = _Passage(item, folder, errand, 0, over)
        self._put([Arrival(item.number, self._job, deposit, listed, self._passed, self._written, passage, twin=True)])
        await over

    def _put(self, arrivals: Sequence[Arrival]) -> None:
        if arrivals:
            self._unsettled += len(arrivals)
            self._all_settled.clear()
            self._workshop.ingest.put(arrivals, self._urgent)

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
                passage.errand.unwritable(passage.folder, error)
            if passage.over is None:
                firsts.append(passage.item)
                weight += passage.weight
                size += arrival.deposit.body.size
            elif not passage.over.done():
                passage.over.set_result(None)
        self._let_go(firsts, weight)
        if error is None:
            self.stored += len(firsts)
            self._tell(len(firsts), size)
        elif not isinstance(error, ItemRejected):
            self._failure = error
        self._unsettled -= len(arrivals)
        if not self._unsettled:
            self._all_settled.set()

    # --- bytes and claims ---

    async def _claim(self, batch: Batch) -> Sequence[PendingItem]:
        """Those of the items that nobody else is fetching and nobody has stored since they were read, claimed."""
        claims = self._account.claims
        is_recent = batch.releases == claims.releases
        numbers = claims.take(item.number for item in batch.items)
        self.in_progress |= numbers
        pending: Set[int] = numbers if is_recent else frozenset()
        try:
            if numbers and not is_recent:
                pending = await self._workshop.state.still_pending(numbers)
        finally:
            self._let_go([item for item in batch.items if item.number in numbers - pending], 0)
        return [item for item in batch.items if item.number in pending]

    async def _hold(self, items: Sequence[PendingItem]) -> dict[str, int]:
        """Bytes of the budget held for each item: fewer than it has where all are more than what is to be had."""
        total = sum(reckoned(item) for item in items)
        try:
            granted = await self._workshop.budget.acquire(total, self._account.number, urgent=self._urgent)
        except asyncio.CancelledError:
            self._let_go(items, 0)
            raise
        held = {}
        for item in items:
            held[item.key] = min(reckoned(item), granted)
            granted -= held[item.key]
        return held

    def _let_go(self, items: Iterable[PendingItem], weight: int) -> None:
        numbers = {item.number for item in items}
        self.in_progress -= numbers
        self._account.claims.release(numbers)
        if weight:
            self._workshop.budget.release(weight, self._account.number, urgent=self._urgent)


def epoch_of(folder: Folder) -> str:
    """The epoch of a folder that has been listed."""
    assert folder.epoch is not None, "a folder has an epoch from its first listing on"
    return folder.epoch


async def place_of(account: Account, workshop: Workshop, folder: Folder) -> Place:
    """The folder's place in the store, which it has even when it is empty."""
    settings = account.settings
    place = await workshop.store.prepare(settings.identity, settings.name, folder.remote, folder.directory)
    if place.directory != folder.directory:
        await workshop.state.set_directory(folder.number, place.directory)
    return place
