"""What is new in one folder: listed, recorded, fetched and stored on the session that heard of it, before anything else.

It needs no slot and no connection of an import's, and waits for no history. What a look does not bring home itself is recorded
all the same and left to the job that wants it: too many or too large items, those that the origin did not give, and those that
could not be stored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from hauld.engine.account import Account
from hauld.engine.fetching import Fetcher, epoch_of, place_of
from hauld.engine.job import JobKeeper
from hauld.engine.plan import Batch, reckoned
from hauld.engine.workshop import Workshop
from hauld.errors import ItemRejected, Transient
from hauld.model import Dates, Folder, Missing, PendingItem, Place, Rejected
from hauld.sources.base import Session

log = logging.getLogger(__name__)

MOST = 500
"""Items that a look brings home, the newest of them; more come sooner on several connections."""

LARGEST = 16 * 1024 * 1024
"""Bytes of an item that is waited for: while it comes, nothing else is heard."""

AT_ONCE = 1024 * 1024
"""Bytes that are asked for together: the first are stored while the others come."""


class News:
    """What one session finds new in one folder, from the newest item that the ledger knows on."""

    def __init__(self, account: Account, workshop: Workshop, session: Session, folder: Folder) -> None:
        self._account = account
        self._workshop = workshop
        self._state = workshop.state
        self._session = session
        self._folder = folder
        self._newest = folder.newest
        self._place: Place | None = None

    async def look(self, keepers: Sequence[JobKeeper]) -> bool:
        """Whether anything was new. It is stored for those of these jobs that want whatever there is, or they are told that the
        folder is due; those that have to ask the origin what they want are told in any case."""
        async with self._account.looking:
            with self._workshop.ingest.expecting():
                return await self._look(keepers)

    async def _look(self, keepers: Sequence[JobKeeper]) -> bool:
        takers = [keeper for keeper in keepers if keeper.job.strategy.criteria is None]
        after = self._newest
        async with self._account.listing(self._folder.number):
            listed = await self._list(takers)
        if not listed:
            return False
        stored = False
        try:
            stored = await self._bring(takers, after)
        finally:
            for keeper in keepers:
                if keeper not in takers or not stored:
                    keeper.notice(self._folder.number, at_once=True)
        for keeper in takers if stored else ():
            await keeper.synced()
        log.info(
            "%s %r: %d new",
            self._account.settings.name,
            self._folder.name,
            listed,
            extra={"event": "folder.news", "account": self._account.settings.name},
        )
        return True

    async def _list(self, takers: Sequence[JobKeeper]) -> int:
        """How many items have come since the newest that was known. They are rows that are wanted, and known from now on."""
        wanting: dict[Dates, list[int]] = {}
        for keeper in takers:
            wanting.setdefault(keeper.job.strategy.dates, []).append(keeper.job.number)
        listed, newest = 0, self._newest
        pages = self._session.arrivals(self._folder.remote, epoch_of(self._folder), self._newest)
        async with aclosing(pages):
            async for page in pages:
                for dates, jobs in wanting.items():
                    await self._state.record_page(self._folder.number, page, jobs, dates)
                listed += len(page.items)
                newest = max(newest, *(item.ordinal for item in page.items)) if page.items else newest
        self._newest = newest
        return listed

    async def _bring(self, takers: Sequence[JobKeeper], after: int) -> bool:
        """Fetch and store what is newer than that for each of the jobs, one after the other: what one has stored is there for
        the next. Whether all of it is stored."""
        whole = [await self._bring_for(keeper.job.number, after) for keeper in takers]
        return all(whole)

    async def _bring_for(self, job: int, after: int) -> bool:
        releases = self._account.claims.releases
        waiting = await self._state.pending(job, self._folder.number, below=None, limit=MOST + 1)
        new = [item for item in waiting if item.ordinal > after]
        here = [item for item in new[:MOST] if reckoned(item) <= LARGEST]
        errand = _Errand(whole=len(here) == len(new))
        fetcher = Fetcher(job, self._account, self._workshop, urgent=True)
        try:
            for items in _portions(here):
                if await fetcher.fetch(self._session, Batch(self._folder, items, releases), await self._where(), errand):
                    errand.whole = False
        except ItemRejected as error:
            errand.unwritable(self._folder, error)
        finally:
            await fetcher.at_rest()
        try:
            await fetcher.settled()
        except Transient:
            return False  # the committer has told of it, and the job tries again
        return errand.whole

    async def _where(self) -> Place:
        if self._place is None:
            self._place = await place_of(self._account, self._workshop, self._folder)
        return self._place


@dataclass
class _Errand:
    """What did not come is the job's: it asks again, and records what became of it."""

    whole: bool

    def lost(self, folder: Folder, item: PendingItem, outcome: Missing | Rejected) -> None:
        self.whole = False

    def unwritable(self, folder: Folder, error: ItemRejected) -> None:
        self.whole = False


def _portions(items: Sequence[PendingItem]) -> Iterator[tuple[PendingItem, ...]]:
    """The items, which come newest first, as they are asked for: some together, by ordinal ascending."""
    portion: list[PendingItem] = []
    size = 0
    for item in items:
        if portion and size + reckoned(item) > AT_ONCE:
            yield tuple(reversed(portion))
            portion, size = [], 0
        portion.append(item)
        size += reckoned(item)
    if portion:
        yield tuple(reversed(portion))
