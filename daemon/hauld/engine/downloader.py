"""One run of a job: compare the ledger with the origin, then download the difference.

The way of one message as seen from here: ``compare`` lists folders into ``pending`` rows, ``download`` hands batches of them
to sessions, each outcome that has its bytes goes on to ``ingest``, and each that has not is asked for again, singly, before
it is called failed. Nothing is concluded from silence: an item that stays away is failed, or skipped because a fresh
listing no longer names it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from hauld.clock import Clock
from hauld.engine.account import Account
from hauld.engine.ingest import Arrival, Ingest
from hauld.engine.limits import ByteBudget
from hauld.engine.plan import Batch, Plan, reckoned
from hauld.engine.progress import Meter
from hauld.errors import HaulError, ItemRejected, StaleCursor, Transient
from hauld.model import (
    Deposit,
    Fetched,
    Folder,
    Job,
    Missing,
    Outcome,
    Page,
    PendingItem,
    Phase,
    Place,
    Rejected,
    Setback,
    Trouble,
    Want,
)
from hauld.retry import RetryPolicy
from hauld.sources.base import Session
from hauld.state.base import State
from hauld.stores.base import Store

log = logging.getLogger(__name__)

SHARE = 50
"""Items that make a further connection worth opening."""

EPOCHS_A_RUN = 3
"""Changes of a folder's epoch within one run that are believed."""

DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Workshop:
    """What every job works with."""

    state: State
    store: Store
    ingest: Ingest
    budget: ByteBudget
    policy: RetryPolicy
    clock: Clock


@dataclass
class _Pass:
    """What one pass over the pending items brought to light."""

    plan: Plan
    silent: dict[int, list[PendingItem]] = field(default_factory=dict)
    relist: set[int] = field(default_factory=set)
    setbacks: int = 0


class Downloader:
    """One run of one job. ``tell`` is told each phase as it begins."""

    def __init__(
        self, job: Job, account: Account, workshop: Workshop, meter: Meter, tell: Callable[[Phase], Awaitable[None]]
    ) -> None:
        self.in_progress: set[int] = set()
        self.stored = 0
        self.selected: frozenset[int] = frozenset()
        self.unreadable: list[Folder] = []
        self._job = job
        self._account = account
        self._workshop = workshop
        self._state = workshop.state
        self._meter = meter
        self._tell = tell
        self._folders: dict[int, Folder] = {}
        self._places: dict[int, Place] = {}
        self._epochs: dict[int, int] = {}
        self._unsettled = 0
        self._all_settled = asyncio.Event()
        self._failure: HaulError | None = None

    # --- comparing ---

    async def compare(self, due: Callable[[Folder], bool]) -> list[Folder]:
        """List every selected folder that is due, and want what the job's strategy selects. The folders compared."""
        await self._tell(Phase.LISTING)
        async with self._account.session() as session:
            listed = [folder async for folder in session.folders()]
            known = await self._state.record_folders(self._account.number, listed)
        self._folders = {folder.number: folder for folder in known if self._selected(folder)}
        self.selected = frozenset(self._folders)
        day_ago = self._workshop.clock.now_ms() - DAY_MS
        await self._state.retry_failed(self._job.number, before=day_ago)
        compared = [folder for folder in self._folders.values() if due(folder)]
        waiting = deque(compared)

        async def list_next(session: Session) -> None:
            while waiting:
                folder = waiting.popleft()
                try:
                    await self._list(session, folder, folder.cursor)
                except BaseException:
                    waiting.appendleft(folder)
                    raise

        if compared:
            await self._crew(len(compared), list_next)
        return compared

    def _selected(self, folder: Folder) -> bool:
        return (
            folder.gone_at is None
            and folder.remote.selectable
            and self._account.wants(folder)
            and self._job.strategy.selects(folder.name)
        )

    async def _list(self, session: Session, folder: Folder, since: bytes | None) -> None:
        """One folder's listing, whole, into the ledger. A folder that cannot be read while others can says so and is left."""
        async with self._account.listing(folder.number):
            try:
                page = await self._record_listing(session, folder, since)
            except ItemRejected as error:
                await self._set_unreadable(folder, error)
                return
        if folder.error is not None:
            await self._state.set_folder_error(folder.number, None)
        await self._state.want_known(self._job.number, folder.number)
        self._folders[folder.number] = replace(folder, epoch=page.epoch, cursor=page.cursor, error=None)
        await self._place(folder)

    async def _record_listing(self, session: Session, folder: Folder, since: bytes | None) -> Page:
        """Each page as it comes; the last one. The cursor moves only when it is reached."""
        new = 0
        begun = False
        async with aclosing(session.list(folder.remote, since)) as pages:
            async for page in pages:
                if not begun:
                    await self._state.begin_listing(folder.number, page.epoch)
                    begun = True
                new += await self._state.record_page(folder.number, page, [self._job.number])
                if page.cursor is not None:
                    gone = await self._state.finish_listing(folder.number, page)
                    self._say_listed(folder, new, gone)
                    return page
        raise Transient("protocol", f"The listing of {folder.name!r} ended before it was complete.")

    def _say_listed(self, folder: Folder, new: int, gone: int) -> None:
        if new or gone:
            log.info(
                "%s %r: %d new, %d gone",
                self._account.settings.name,
                folder.name,
                new,
                gone,
                extra={"event": "folder.listed", "job": self._job.id},
            )

    async def _set_unreadable(self, folder: Folder, error: ItemRejected) -> None:
        since = folder.error.since if folder.error is not None else self._workshop.clock.now_ms()
        trouble = Trouble(error.kind, error.message, error.hint, since)
        await self._state.set_folder_error(folder.number, trouble)
        self.unreadable.append(replace(folder, error=trouble))
        self._folders.pop(folder.number, None)
        log.warning("%s %r: %s", self._account.settings.name, folder.name, error, extra={"event": "folder.unreadable"})

    # --- downloading ---

    async def download(self) -> None:
        """Pass over what is pending until nothing is left of it."""
        await self._tell(Phase.DOWNLOADING)
        for folder in self._folders.values():
            await self._place(folder)
        self._meter.begin()
        try:
            while (await self._state.counters(self._job.number)).remaining:
                await self._pass()
        finally:
            self._meter.end()

    async def _pass(self) -> None:
        stored = self.stored
        remaining = (await self._state.counters(self._job.number)).remaining
        claimed = self._account.claimed - self.in_progress
        batch_bytes = max(1, self._workshop.budget.limit // (2 * self._account.settings.connections))
        plan = Plan(self._state, self._job.number, list(self._folders.values()), self._account.claimed, batch_bytes)
        this = _Pass(plan)
        await self._crew(1 + remaining // SHARE, lambda session: self._fetch_batches(session, this))
        await self._settled()
        await self._look_again(this)
        if self.stored == stored and not this.setbacks and not this.relist:
            await self._wait_for_others(claimed)

    async def _fetch_batches(self, session: Session, this: _Pass) -> None:
        while self._failure is None and (batch := await this.plan.next()) is not None:
            try:
                await self._fetch(session, batch, this)
            except StaleCursor:
                this.plan.drop(batch.folder)
                this.relist.add(batch.folder.number)
            except ItemRejected as error:
                this.plan.drop(batch.folder)
                await self._set_unreadable(batch.folder, error)

    async def _fetch(self, session: Session, batch: Batch, this: _Pass) -> None:
        """Fetch one batch under the byte budget. Whatever happens, what did not come is free for the next try."""
        waiting = {item.key: item for item in batch.items}
        numbers = {item.number for item in batch.items}
        self._account.claimed |= numbers
        self.in_progress |= numbers
        held = await self._hold(batch)
        setbacks: list[Setback] = []
        try:
            async for item, outcome in self._outcomes(session, batch, waiting):
                weight = held.pop(item.key)
                if isinstance(outcome, Fetched):
                    self._pass_on(item, outcome, batch.folder, weight)
                else:
                    setbacks.append(self._setback(batch.folder, item, outcome, this))
                    self._let_go([item], weight)
        finally:
            self._let_go(waiting.values(), sum(held.values()))
            if setbacks:
                this.setbacks += len(setbacks)
                await self._state.record_group(self._job.number, (), setbacks)

    async def _outcomes(
        self, session: Session, batch: Batch, waiting: dict[str, PendingItem]
    ) -> AsyncIterator[tuple[PendingItem, Outcome]]:
        """What becomes of each item, as it becomes known; what is left in ``waiting`` did not come."""
        folder = batch.folder
        wants = [Want(item.key, item.size) for item in batch.items]
        async with aclosing(session.fetch(folder.remote, epoch_of(folder), wants, self._workshop.store)) as answers:
            async for outcomes in answers:
                for outcome in outcomes:
                    yield waiting.pop(outcome.key), outcome

    def _pass_on(self, item: PendingItem, fetched: Fetched, folder: Folder, weight: int) -> None:
        """The item's bytes are staged: on to the commit."""

        def settled(error: HaulError | None) -> None:
            self._let_go([item], weight)
            self._unsettled -= 1
            if error is not None:
                self._failure = error
            else:
                self.stored += 1
                self._meter.add(1, fetched.body.size)
            if not self._unsettled:
                self._all_settled.set()

        self._unsettled += 1
        self._all_settled.clear()
        flags = item.flags if fetched.flags is None else fetched.flags
        date = item.date if fetched.date is None else fetched.date
        deposit = Deposit(self._places[folder.number], epoch_of(folder), item.key, fetched.body, flags, date)
        listed = item.size if fetched.listed_size is None else fetched.listed_size
        self._workshop.ingest.put(Arrival(item.number, self._job.number, deposit, listed, settled))

    def _setback(self, folder: Folder, item: PendingItem, outcome: Missing | Rejected, this: _Pass) -> Setback:
        if isinstance(outcome, Rejected):
            return Setback(item.number, outcome.kind, outcome.reason, final=True, skip=outcome.skip)
        asked = replace(item, retry_count=item.retry_count + 1)
        if asked.retry_count < self._workshop.policy.attempts:
            this.plan.again(folder, asked)
        else:
            this.silent.setdefault(folder.number, []).append(asked)
        return Setback(item.number, "missing", outcome.reason)

    async def _look_again(self, this: _Pass) -> None:
        """List afresh the folders in doubt. What they still name and never gave is failed; the rest is no longer wanted."""
        for number in sorted(this.relist | this.silent.keys()):
            if number in this.relist:
                self._count_epoch(number)
            async with self._account.session() as session:
                await self._list(session, self._folders[number], None)
            silent = {item.number for item in this.silent.get(number, ())}
            if silent:
                pending = await self._state.pending(self._job.number, number, below=None, limit=10**9)
                reason = f"The origin lists it, but left it out of {self._workshop.policy.attempts} answers."
                failed = [
                    Setback(i.number, "missing", reason, final=True, attempt=False) for i in pending if i.number in silent
                ]
                await self._state.record_group(self._job.number, (), failed)

    def _count_epoch(self, number: int) -> None:
        self._epochs[number] = self._epochs.get(number, 0) + 1
        if self._epochs[number] > EPOCHS_A_RUN:
            name = self._folders[number].name
            raise Transient("epoch", f"The origin renumbers the folder {name!r} again and again.", at_least=300)

    async def _wait_for_others(self, claimed: set[int]) -> None:
        """Nothing moved in a pass: another job is fetching what this one wants, or it cannot be had now."""
        if claimed & self._account.claimed:
            await self._account.until_released()
        if claimed:
            return
        unreadable = ", ".join(repr(folder.name) for folder in self.unreadable)
        detail = f"the folders {unreadable} cannot be read" if unreadable else "the origin gives none of them"
        raise Transient("stalled", f"Items are wanted, but {detail}.")

    # --- sessions, bytes and claims ---

    async def _crew(self, size: int, work: Callable[[Session], Awaitable[None]]) -> None:
        """Up to ``size`` sessions do the same work side by side. The first signs in alone, so that a wrong password is sent
        once; one that breaks leaves the others to it, and when none came to the end, what broke the first is raised."""
        signed_in = asyncio.Event()
        errors: list[HaulError] = []

        async def member(first: bool) -> bool:
            try:
                if not first:
                    await signed_in.wait()
                    if errors:
                        return False
                async with self._account.session() as session:
                    signed_in.set()
                    await work(session)
            except Transient as error:
                errors.append(error)
                return False
            finally:
                signed_in.set()
            return True

        count = max(1, min(size, self._account.settings.connections))
        members = [asyncio.create_task(member(i == 0), name=f"{self._job.id} session {i}") for i in range(count)]
        try:
            finished = await asyncio.gather(*members)
        finally:
            for task in members:
                task.cancel()
            await asyncio.gather(*members, return_exceptions=True)
        if not any(finished):
            raise errors[0]

    async def _settled(self) -> None:
        """Wait until all that was passed on is stored, and raise what kept it from being stored."""
        if self._unsettled:
            await self._all_settled.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _place(self, folder: Folder) -> None:
        """The folder has its place in the store, even when it is empty."""
        if folder.number in self._places:
            return
        settings = self._account.settings
        place = await self._workshop.store.prepare(settings.identity, settings.name, folder.remote, folder.directory)
        if place.directory != folder.directory:
            await self._state.set_directory(folder.number, place.directory)
        self._places[folder.number] = place

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
