"""Verifying: what is stored is read again and compared with the ledger, folder by folder.

Each item's bytes must have the size and the hash that the ledger knows, each file must be an item's, and all that the origin
is known to have must be there. ``repair`` mends what can be mended; ``findings`` is what comes out. One verification at a
time, one piece at a time, with disk and memory to spare for whoever downloads meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager

from hauld.engine.account import Account
from hauld.engine.comparison import Comparison
from hauld.engine.findings import Asked, Findings, FolderFindings
from hauld.engine.pieces import every_job, pieces
from hauld.engine.repair import Jobs, Repair
from hauld.engine.workshop import Workshop
from hauld.errors import Fatal, HaulError, ItemRejected, Refused
from hauld.model import JobStatus, Place, Priority, StoredItem, Strategy, Trouble

log = logging.getLogger(__name__)

READ_RATE = 64 * 1024 * 1024
"""Bytes a second that a verification reads, at most."""

GIVING_WAY = 4
"""While something is downloaded it reads so many times slower."""

ROWS = 500
"""Rows taken from the ledger at a time."""

BATCH_BYTES = 8 * 1024 * 1024
"""Bytes read in one piece; a larger item is a piece of its own."""

NAMES = 10_000
"""File names looked through in one piece."""

WEEK_MS = 7 * 24 * 3600 * 1000
"""All that is stored is verified when the last time is so long ago."""


class Verifier:
    """Verifies when asked to, and by itself when it is due. ``findings`` are those of the last verification of this daemon,
    which may be running; None before the first."""

    def __init__(self, accounts: Mapping[str, Account], workshop: Workshop, jobs: Jobs, rate: int = READ_RATE) -> None:
        self.findings: Findings | None = None
        self._accounts = accounts
        self._workshop = workshop
        self._state = workshop.state
        self._store = workshop.store
        self._clock = workshop.clock
        self._jobs = jobs
        self._rate = rate
        self._told = asyncio.Event()
        workshop.state.when_told(self._told.set)

    @property
    def running(self) -> bool:
        return self.findings is not None and self.findings.status == "running"

    def begin(self, asked: Asked) -> Findings:
        """The findings of a verification that is to ``run`` now. ``Refused`` (``wrong_state``) while another one does."""
        if self.running:
            raise Refused("wrong_state", "A verification is running already.", hint="See how far it is: haulctl verify")
        self.findings = Findings(asked, self._clock.now_ms())
        return self.findings

    async def run(self, findings: Findings) -> None:
        """Verify; trouble that ends it is told in the findings."""
        began = self._clock.monotonic()
        try:
            await self._verify(findings)
        except asyncio.CancelledError:
            findings.trouble = Trouble("stopped", "The daemon stopped before the verification was over.")
            raise
        except HaulError as error:
            self._note_trouble(findings, error)
            if isinstance(error, Fatal):
                raise
        except Exception as error:
            log.exception("the verification broke; this is a defect of hauld", extra={"event": "verify.broke"})
            message = f"{type(error).__name__}: a defect of hauld; its log has the details."
            findings.trouble = Trouble("internal", message, None, self._clock.now_ms())
        finally:
            findings.phase = None
            findings.finished_at = self._clock.now_ms()
            findings.status = "completed" if findings.trouble is None else "failed"
        await self._tell(findings, self._clock.monotonic() - began)

    async def run_when_due(self) -> None:
        """Sweep the stage and verify all that is stored, if that was not done within a week. A clock that was set back makes
        it due at once rather than never."""
        last = await self._state.verified_at()
        if self.running or (last is not None and 0 <= self._clock.now_ms() - last < WEEK_MS):
            return
        await self._workshop.ingest.recover()
        if not self.running:  # somebody may have asked meanwhile
            await self.run(self.begin(Asked()))

    # --- the main path ---

    async def _verify(self, findings: Findings) -> None:
        asked = findings.asked
        accounts = [account for name, account in self._accounts.items() if asked.account in (None, name)]
        comparisons: dict[int, Comparison] = {}
        if asked.origin:
            for account in accounts:
                async with self._apart(findings):
                    comparisons[account.number] = await self._list(account)
        findings.phase = "reading"
        await self._expect(findings, accounts)
        for folder in findings.folders:
            try:
                await self._read(folder)
                await self._look_for_unknown(folder)
            except ItemRejected as error:
                folder.unreadable = error.message
                self._note_trouble(findings, error)
        if asked.account is None:
            async with self._apart(findings):
                async for strays in pieces(self._store.strays, NAMES):
                    findings.note_strays(strays)
        if asked.repair:
            findings.phase = "repairing"
            for account in accounts:
                async with self._apart(findings):
                    of_it = [each for each in findings.folders if each.account == account.settings.name]
                    listed = comparisons.get(account.number)
                    await Repair(account, self._workshop, self._jobs, self._told, listed).run(of_it)
        for account in accounts:
            await self._count(account, findings.folders)

    @asynccontextmanager
    async def _apart(self, findings: Findings) -> AsyncIterator[None]:
        """Trouble with one account's origin, or with one folder, does not keep the rest from being verified; it is told at the
        end."""
        try:
            yield
        except HaulError as error:
            if isinstance(error, Fatal):
                raise
            self._note_trouble(findings, error)

    def _note_trouble(self, findings: Findings, error: HaulError) -> None:
        if findings.trouble is None:
            findings.trouble = Trouble(error.kind, error.message, error.hint, self._clock.now_ms())

    # --- what the origin has ---

    async def _list(self, account: Account) -> Comparison:
        """Have each folder that is of interest listed whole and afresh; what the ledger did not know becomes a row."""
        comparison = Comparison(Strategy(), account, self._workshop, job=None, priority=Priority.BACKGROUND)
        await comparison.run(lambda _: False)
        selected = await self._selected(account)
        known = await self._state.folder_progress(account=account.number)
        kept = {each.folder.number for each in known if each.counters.total or each.folder.last_sync_at is not None}
        for folder in list(comparison.folders.values()):
            if folder.number in kept or selected(folder.name):
                async with account.session(Priority.BACKGROUND) as session:
                    await comparison.list_folder(session, folder, None)
        return comparison

    async def _expect(self, findings: Findings, accounts: Sequence[Account]) -> None:
        """What there is to verify, as far as the ledger and the store's own records tell."""
        owned: dict[tuple[str, bytes], list[Place]] = {}
        async with self._apart(findings):
            async for places in pieces(self._store.places, NAMES):
                for place in places:
                    owned.setdefault((place.identity, place.folder.raw), []).append(place)
        for account in accounts:
            name, identity = account.settings.name, account.settings.identity
            selected = await self._selected(account)
            for each in await self._state.folder_progress(account=account.number):
                folder = each.folder
                at = owned.pop((identity, folder.remote.raw), [])
                of_interest = folder.remote.selectable and account.wants(folder) and selected(folder.name)
                if at or each.counters.total or folder.last_sync_at is not None or of_interest:
                    findings.folders.append(FolderFindings(name, folder.name, folder, at, each.counters))
                    findings.expected_items += each.counters.downloaded
                    findings.expected_bytes += each.counters.bytes
            for (owner, _), at in owned.items():
                if owner == identity:
                    findings.folders.append(FolderFindings(name, at[0].folder.name, None, at))

    async def _selected(self, account: Account) -> _Selected:
        jobs = await every_job(self._state, account=account.number)
        return _Selected([job.strategy for job in jobs if job.status is not JobStatus.CANCELLED])

    async def _count(self, account: Account, folders: Iterable[FolderFindings]) -> None:
        """How the folders stand in the ledger now."""
        progress = {each.folder.number: each for each in await self._state.folder_progress(account=account.number)}
        for folder in folders:
            if folder.folder is not None and folder.folder.number in progress:
                now = progress[folder.folder.number]
                folder.folder, folder.counters = now.folder, now.counters

    # --- what is stored ---

    async def _read(self, folder: FolderFindings) -> None:
        """Read every stored item of the folder, in pieces, no faster than is decent."""
        if folder.folder is None:
            return
        after = 0
        while rows := await self._state.stored(folder.folder.number, after=after, limit=ROWS):
            for batch in batches(rows):
                began, before = self._clock.monotonic(), folder.bytes
                await self._inspect(folder, batch)
                await self._rest(folder.bytes - before, self._clock.monotonic() - began)
            after = rows[-1].number

    async def _inspect(self, folder: FolderFindings, batch: Sequence[StoredItem]) -> None:
        digests = await self._store.digest([row.path for row in batch])
        proven: list[tuple[int, str]] = []
        suspects: list[tuple[StoredItem, tuple[int, str] | None]] = []
        for row, digest in zip(batch, digests, strict=True):
            folder.checked += 1
            folder.bytes += digest[0] if digest is not None else 0
            if not is_whole(row, digest):
                suspects.append((row, digest))
            elif digest is not None and digest[1] != row.sha256:
                proven.append((row.number, digest[1]))
        if proven:
            await self._state.confirm(proven)
        for row, digest in suspects:
            if not await self._is_still_stored(folder, row):
                continue  # somebody let go of it between the ledger's answer and the look at the file
            (folder.missing if digest is None else folder.damaged).append(row.number)
            folder.note_item(what_is_wrong(row, digest))

    async def _is_still_stored(self, folder: FolderFindings, row: StoredItem) -> bool:
        assert folder.folder is not None
        now = await self._state.stored(folder.folder.number, after=row.number - 1, limit=1)
        return [(each.number, each.path, each.sha256) for each in now] == [(row.number, row.path, row.sha256)]

    async def _look_for_unknown(self, folder: FolderFindings) -> None:
        """Files that no row has. What is being stored meanwhile is none of them: who seems unknown is looked at again when
        everything on its way has its row."""
        suspects = await self._unknown(folder)
        if suspects:
            await self._workshop.ingest.finish()
            suspects &= await self._unknown(folder)
        folder.unknown = len(suspects)
        for path in sorted(suspects):
            folder.note_item(f"{path} is in the folder, and the ledger does not know it. It stays.")

    async def _unknown(self, folder: FolderFindings) -> set[str]:
        known: Set[str] = frozenset() if folder.folder is None else await self._state.paths(folder.folder.number)
        suspects: set[str] = set()
        for place in folder.places:
            async for found in pieces(lambda at=place: self._store.look(at), NAMES):  # type: ignore[misc]
                suspects |= {each.path for each in found} - known
        return suspects

    async def _rest(self, size: int, seconds: float) -> None:
        """Let others have the disk for as long as the rate asks."""
        budget = self._workshop.budget
        rate = self._rate / GIVING_WAY if budget.free < budget.limit else self._rate
        if size / rate > seconds:
            await self._clock.sleep(size / rate - seconds)

    # --- telling ---

    async def _tell(self, findings: Findings, seconds: float) -> None:
        told = {
            "items": findings.checked_items,
            "bytes": findings.checked_bytes,
            "damaged": findings.damaged,
            "missing": findings.missing,
            "repaired": findings.repaired,
            "unknown": findings.unknown,
        }
        if findings.trouble is not None:
            log.warning("the verification ended early: %s", findings.trouble.message, extra={"event": "verify.failed"})
            return
        log.log(
            logging.ERROR if findings.damaged + findings.missing > findings.repaired else logging.INFO,
            "verified %d items, %d bytes in %.1f s: %d damaged, %d missing, %d repaired, %d unknown files",
            findings.checked_items,
            findings.checked_bytes,
            seconds,
            findings.damaged,
            findings.missing,
            findings.repaired,
            findings.unknown,
            extra={"event": "verify.completed"},
        )
        if findings.asked.account is None:
            try:
                await self._state.set_verified(told)
            except HaulError as error:
                self._note_trouble(findings, error)
                findings.status = "failed"


class _Selected:
    """Whether any of these strategies wants something of the folder of that name."""

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self._strategies = strategies

    def __call__(self, name: str) -> bool:
        return any(strategy.selects(name) for strategy in self._strategies)


def batches(rows: Sequence[StoredItem]) -> list[list[StoredItem]]:
    """The rows in pieces of ``BATCH_BYTES``."""
    cut: list[list[StoredItem]] = []
    room = 0
    for row in rows:
        if not cut or row.size > room:
            cut.append([])
            room = BATCH_BYTES
        cut[-1].append(row)
        room -= row.size
    return cut


def is_whole(row: StoredItem, digest: tuple[int, str] | None) -> bool:
    """Whether what was read is what the ledger knows, of whose hash it may have the first half only."""
    return digest is not None and digest[0] == row.size and digest[1].startswith(row.sha256)


def what_is_wrong(row: StoredItem, digest: tuple[int, str] | None) -> str:
    """One sentence about an item that is not whole."""
    left = "" if row.there else " The origin no longer has it."
    if digest is None:
        return f"{row.path} is gone.{left}"
    if not digest[1]:
        return f"{row.path} cannot be read.{left}"
    if digest[0] != row.size:
        return f"{row.path} has {digest[0]:,} bytes instead of {row.size:,}.{left}"
    return f"{row.path} has other bytes than were stored.{left}"
