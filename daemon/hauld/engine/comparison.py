"""Comparing the ledger with the origin: which folders there are, what they hold, and which of it is wanted.

A folder's listing becomes ``pending`` rows before any body is fetched, so what is missing is always the difference of two
lists. ``downloader`` fetches it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from hauld.engine.account import Account
from hauld.engine.crew import crew
from hauld.engine.fetching import place_of
from hauld.engine.remap import Remapper
from hauld.engine.suspects import BREAKS, FOLDER_BREAKS, Suspects, is_break
from hauld.engine.workshop import Workshop
from hauld.errors import ItemRejected, Transient
from hauld.model import Criteria, Folder, Job, Page, Place, Setback, StoredItem, Strategy, Trouble
from hauld.sources.base import Session
from hauld.state.base import Preview

log = logging.getLogger(__name__)

DAY_MS = 24 * 3600 * 1000

FEW = 10
"""Where fewer than one in so many folders is due, each is asked about by itself, and not all along with their names."""

SHORT = 2
"""Pages of a listing that are in memory at once."""

ROWS = 2000
"""Rows read from the ledger at a time."""


RARE = 20
"""Where fewer than one in so many listings breaks and comes when it is asked for again, the line is good."""


class Comparison:
    """One comparison for one strategy; with a job, what the strategy selects is wanted by it.

    ``folders`` are those selected, by number, as they stand after their listing, without those that cannot be read or
    written, which are in ``unreadable``; ``selected`` are the numbers of both.
    """

    def __init__(self, strategy: Strategy, account: Account, workshop: Workshop, *, job: Job | None, priority: int) -> None:
        self.folders: dict[int, Folder] = {}
        self.selected: frozenset[int] = frozenset()
        self.unreadable: list[Folder] = []
        self._strategy = strategy
        self._account = account
        self._workshop = workshop
        self._state = workshop.state
        self._job = job
        self._priority = priority
        self._places: dict[int, Place] = {}
        self._found: dict[int, list[str]] = {}
        self._unchanged: list[int] = []
        self._came: dict[int, int] = {}

    async def run(self, due: Callable[[Folder], bool]) -> list[Folder]:
        """List every selected folder that is due, and want what the strategy selects. The folders compared."""
        told = await self._list_folders(due)
        if self._job is not None:
            day_ago = self._workshop.clock.now_ms() - DAY_MS
            await self._state.retry_failed(self._job.number, before=day_ago)
        compared = [folder for folder in self.folders.values() if due(folder)]
        await self._list_all(
            [folder for folder in compared if not await self._is_unchanged(folder, told.get(folder.remote.raw))]
        )
        if self._unchanged:
            await self._state.set_unchanged(self._unchanged)
        return compared

    async def preview(self) -> list[tuple[Folder, Preview]]:
        """What the folders of this comparison, once it has run, hold of what the strategy selects."""
        return [
            (folder, await self._state.preview(number, self._strategy.dates, self._found.get(number)))
            for number, folder in self.folders.items()
        ]

    async def list_folder(self, session: Session, folder: Folder, since: bytes | None, *, stale: bool = False) -> None:
        """One folder's listing, whole, into the ledger. A folder that cannot be read or written while others can says so and is
        left. ``stale``: a fetch found it in another epoch than it was listed in."""
        criteria = self._strategy.criteria
        try:
            async with self._account.listing(folder.number):
                self._account.check_epochs(folder)
                page = await self._record_listing(session, folder, since)
                if stale or folder.epoch not in (None, page.epoch):
                    self._account.epoch_turned(folder)
                if self._job is not None:
                    await Remapper(self._account, self._workshop).run(session, folder, page.epoch)
                found = None if criteria is None else await self._search(session, folder, page.epoch, criteria)
            if self._job is not None:
                await self._want(self._job, folder, page.epoch, found)
                await self.place(folder)
        except ItemRejected as error:
            await self.set_unreadable(folder, error)
            return
        if folder.error is not None:
            await self._state.set_folder_error(folder.number, None)
        self.folders[folder.number] = replace(folder, epoch=page.epoch, cursor=page.cursor, error=None)
        self._account.suspects.listed(folder.number)
        self._account.listed.set()
        if found is not None:
            self._found[folder.number] = found

    async def place(self, folder: Folder) -> Place:
        """The folder's place in the store, which it has even when it is empty."""
        if folder.number not in self._places:
            self._places[folder.number] = await place_of(self._account, self._workshop, folder)
        return self._places[folder.number]

    async def set_unreadable(self, folder: Folder, error: ItemRejected) -> None:
        """Nothing more of that folder in this comparison; the reason is kept with it."""
        if self.folders.pop(folder.number, None) is None:
            return  # two sessions ran into the same trouble
        since = folder.error.since if folder.error is not None else self._workshop.clock.now_ms()
        trouble = Trouble(error.kind, error.message, error.hint, since)
        await self._state.set_folder_error(folder.number, trouble)
        self.unreadable.append(replace(folder, error=trouble))
        log.warning("%s %r: %s", self._account.settings.name, folder.name, error, extra={"event": "folder.unreadable"})

    async def _list_all(self, folders: Iterable[Folder]) -> None:
        """List these folders; what becomes of those that break it is for ``_judge``."""
        this = _Round(folders, self._account.suspects)

        async def list_next(session: Session) -> None:
            while (folder := this.next()) is not None:
                try:
                    await self.list_folder(session, folder, folder.cursor)
                except BaseException as error:
                    this.broke(folder, error)
                    raise
                this.came(folder)

        name = f"job {self._job.id}" if self._job is not None else "preview"
        while this.goes_on:  # again where a session broke on a folder when the others had come to their end
            await crew(self._account, len(this.waiting), self._priority, name, list_next, lambda error: error in this.errors)
        if this.broken:
            await self._judge(this)
        if this.waiting:
            raise this.errors[0]

    async def _judge(self, this: _Round) -> None:
        """Folders broke their listing, while a new session could be opened each time. Those that did so too often are taken for
        unreadable; where there are others, the comparison is not done."""
        suspects = self._account.suspects
        waits: Transient | None = None
        for folder, error in this.broken.values():
            if this.blames:
                suspects.broke(folder.number, self._came.get(folder.number, 0))
            if suspects.breaks(folder.number) < FOLDER_BREAKS:
                waits = waits or error
                continue
            trouble = ItemRejected(
                "folder",
                f"The connection breaks each time that the folder {folder.name!r} is listed: {error.message}",
                hint="Tell the provider: something in this folder breaks its server. It is tried again with each comparison.",
            )
            await self.set_unreadable(folder, trouble)
        if waits is not None:
            raise waits

    async def _list_folders(self, due: Callable[[Folder], bool]) -> dict[bytes, bytes]:
        """Which folders there are; by raw name, the cursors that the origin told along."""
        known = [folder for folder in await self._state.folders(self._account.number) if folder.gone_at is None]
        listed_before = [folder for folder in known if folder.cursor is not None and self._selects(folder) and due(folder)]
        cursors = bool(listed_before) and len(listed_before) * FEW >= len(known)
        async with self._account.session(self._priority) as session:
            listed = [folder async for folder in session.folders(cursors=cursors)]
        if {folder.remote for folder in known} != set(listed):
            known = list(await self._state.record_folders(self._account.number, listed))
        self.folders = {folder.number: folder for folder in known if self._selects(folder)}
        self.selected = frozenset(self.folders)
        return {remote.raw: remote.cursor for remote in listed if remote.cursor is not None}

    async def _is_unchanged(self, folder: Folder, cursor: bytes | None) -> bool:
        """Whether that cursor proves that the folder need not be listed. What is known of it is wanted then, too. A search has
        to be asked, and so has what may be there under other keys."""
        if cursor is None or cursor != folder.cursor or folder.error is not None or self._strategy.criteria is not None:
            return False
        if self._job is not None:
            if folder.directory is None or await self._state.alike(folder.number, below=None, limit=1):
                return False
            await self._state.want_known(self._job.number, folder.number, self._strategy.dates)
        self._unchanged.append(folder.number)
        self._account.listed.set()
        return True

    def _selects(self, folder: Folder) -> bool:
        return (
            folder.gone_at is None
            and folder.remote.selectable
            and self._account.wants(folder)
            and self._strategy.selects(folder.name)
        )

    async def _want(self, job: Job, folder: Folder, epoch: str, found: list[str] | None) -> None:
        if found is None:
            await self._state.want_known(job.number, folder.number, self._strategy.dates)
        else:
            await self._state.want_keys(job.number, folder.number, epoch, found)

    async def _search(self, session: Session, folder: Folder, epoch: str, criteria: Criteria) -> list[str]:
        async with aclosing(session.search(folder.remote, epoch, criteria)) as answers:
            return [key async for keys in answers for key in keys]

    async def _record_listing(self, session: Session, folder: Folder, since: bytes | None) -> Page:
        """What the origin lists, in the ledger; the last page. Most folders are short: one transaction is enough for them."""
        async with aclosing(self._counted(folder, session.list(folder.remote, since))) as pages:
            begun = []
            async for page in pages:
                begun.append(page)
                if page.cursor is not None or len(begun) == SHORT:
                    break
            last = begun[-1] if begun else None
            if last is None or last.cursor is None or _has_returned(folder, last.epoch):
                return await self._record_pages(folder, begun, pages)
        if last.cursor == since and begun == [last] and not last.items:
            self._unchanged.append(folder.number)
        else:
            self._say_listed(folder, *await self._state.record_listing(folder.number, begun, self._jobs, self._strategy.dates))
        return last

    async def _counted(self, folder: Folder, pages: AsyncGenerator[Page, None]) -> AsyncGenerator[Page, None]:
        """The same pages; how many items have come is known when the listing breaks off."""
        self._came[folder.number] = 0
        async with aclosing(pages):
            async for page in pages:
                self._came[folder.number] += len(page.items)
                yield page

    async def _record_pages(self, folder: Folder, begun: Sequence[Page], pages: AsyncIterator[Page]) -> Page:
        """Those pages and the rest, each as it comes; the last one. The cursor moves only when it is reached."""
        new = 0
        stored: dict[str, StoredItem] | None = None
        async with aclosing(_chained(begun, pages)) as chained:
            async for page in chained:
                if stored is None:
                    await self._state.begin_listing(folder.number, page.epoch)
                    stored = await self._stored_before(folder, page.epoch)
                if page.items:
                    new += await self._state.record_page(folder.number, page, self._jobs, self._strategy.dates)
                if changed := list(_changed(page, stored)):
                    await self._state.give_up(changed)
                if page.cursor is not None:
                    gone = await self._state.finish_listing(folder.number, page)
                    self._say_listed(folder, new, gone)
                    return page
        raise Transient("protocol", f"The listing of {folder.name!r} ended before it was complete.")

    @property
    def _jobs(self) -> list[int]:
        """Who wants every item that is listed."""
        return [self._job.number] if self._job is not None and self._strategy.criteria is None else []

    async def _stored_before(self, folder: Folder, epoch: str) -> dict[str, StoredItem]:
        """What is stored under keys that the folder once had, lost, and now has again. Nobody knows whether they still mean the
        same."""
        stored: dict[str, StoredItem] = {}
        last = 0 if _has_returned(folder, epoch) else None
        while last is not None and (rows := await self._state.stored(folder.number, after=last, limit=ROWS)):
            stored |= {row.key: row for row in rows if row.epoch == epoch}
            last = rows[-1].number
        return stored

    def _say_listed(self, folder: Folder, new: int, gone: int) -> None:
        if new or gone:
            log.info(
                "%s %r: %d new, %d gone",
                self._account.settings.name,
                folder.name,
                new,
                gone,
                extra={"event": "folder.listed"} | ({"job": self._job.id} if self._job is not None else {}),
            )


class _Round:
    """The folders that one comparison lists, last those that broke the one before. One at which a session breaks is asked for
    once more when others are listed; when it breaks that session, too, or no other is listed, it stays among the ``broken``.
    ``errors`` are the ends of sessions that may be due to what was listed."""

    def __init__(self, folders: Iterable[Folder], suspects: Suspects) -> None:
        self.waiting = deque(sorted(folders, key=lambda folder: suspects.breaks(folder.number)))
        self.broken: dict[int, tuple[Folder, Transient]] = {}
        self.errors: list[Transient] = []
        self.listed = 0
        self._suspects = suspects
        self._surprises = 0
        self._redeemed = 0

    @property
    def goes_on(self) -> bool:
        """Whether there is a folder to list, and too little broke to leave the origin alone for a while."""
        return bool(self.waiting) and self._surprises < BREAKS + self.listed // RARE

    @property
    def blames(self) -> bool:
        """Whether the broken ones have themselves to blame, as far as one can tell: not where no other was listed, for then the
        origin may list none; nor where listings broke that came afterwards, for then the line is bad."""
        return self.listed > 0 and self._redeemed * RARE <= self.listed

    def next(self) -> Folder | None:
        while self.goes_on:
            folder = self.waiting.popleft()
            if self.listed or folder.number not in self.broken:
                return folder
        return None

    def came(self, folder: Folder) -> None:
        self.listed += 1
        self._redeemed += self.broken.pop(folder.number, None) is not None

    def broke(self, folder: Folder, error: BaseException) -> None:
        if not isinstance(error, Transient) or not is_break(error):
            self.waiting.appendleft(folder)
            return
        self.errors.append(error)
        if self._suspects.breaks(folder.number) < FOLDER_BREAKS:
            self._surprises += 1
            if folder.number not in self.broken:
                self.waiting.append(folder)
        self.broken[folder.number] = (folder, error)


async def _chained(begun: Sequence[Page], rest: AsyncIterator[Page]) -> AsyncGenerator[Page, None]:
    for page in begun:
        yield page
    async for page in rest:
        yield page


def _has_returned(folder: Folder, epoch: str) -> bool:
    """Whether the folder is back in an earlier epoch, or was gone and is there again."""
    return folder.last_sync_at is not None and (folder.cursor is None or folder.epoch != epoch)


def _changed(page: Page, stored: Mapping[str, StoredItem]) -> Iterator[Setback]:
    """The items of the page that have another size than what is stored under their key."""
    for item in page.items:
        before = stored.get(item.key)
        if before is not None and item.size not in (None, before.size):
            reason = f"The folder's keys have come back, and this one has {item.size} bytes instead of {before.size}."
            yield Setback(before.number, "changed", reason)
