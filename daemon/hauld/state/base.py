"""What every state promises. The contract suite (``tests/contracts/state.py``) holds each implementation to it.

A method that changes something is one transaction, its events included; when it returns, it is durable. Rows of another
epoch and moves that ``model.MOVES`` does not allow are refused. Counters are kept in the same transaction as the rows they
count. Times are Unix milliseconds from the state's clock.

Trouble with the disk or a locked database is ``Transient`` (kind ``disk`` or ``locked``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hauld.model import (
    ANY_DATE,
    Alike,
    Counters,
    Dates,
    Event,
    Folder,
    FolderProgress,
    Found,
    Item,
    ItemStatus,
    Job,
    JobStatus,
    Page,
    PendingItem,
    Phase,
    Place,
    Placed,
    RemoteFolder,
    Setback,
    Stored,
    StoredItem,
    Strategy,
    Trouble,
)


@dataclass(frozen=True)
class AccountTotals:
    """What the ledger holds of one account: ``items`` and ``bytes`` are of what is stored. ``inbox_sync_at`` is when its inbox
    was last compared with the origin."""

    folders: int
    items: int
    bytes: int
    last_sync_at: int | None
    inbox_sync_at: int | None = None


@dataclass(frozen=True)
class Committed:
    """What one ``record_group`` changed: ``stored`` were new, ``refused`` are item numbers of another epoch or unknown."""

    stored: int
    refused: tuple[int, ...] = ()


@dataclass(frozen=True)
class Preview:
    """Items that would be fetched, the bytes the origin says they have, and how many of the wanted ones are stored."""

    items: int
    bytes: int
    stored: int


class State(Protocol):
    """The ledger."""

    async def start(self) -> None:
        """Lock, open, migrate, check. ``Fatal`` when another daemon has it, or its schema is from the future: then nothing is
        touched. What is damaged is set aside, and the newest sound copy takes its place, or an empty ledger."""
        ...

    async def look_through(self) -> None:
        """What ``start`` puts off where it would take long: see whether all of the ledger is sound, when it was not closed in
        order. ``Fatal`` when it is not: the next start sets it aside. What is cut off is due again after the next start."""
        ...

    async def reconciled(self) -> bool:
        """False while the store may hold items that these rows do not tell of: the ledger is new, was made anew or from a
        copy, or lost its last transactions. Stays so, over restarts, until ``set_reconciled``."""
        ...

    async def set_reconciled(self) -> None:
        """What the store holds has been restored."""
        ...

    async def restore(self, source: str, place: Place, found: Sequence[Found]) -> int:
        """Rows for files of one folder that the store tells of; account and folder are made where they are missing. What the
        ledger has as stored stays as it is, what it has in any other status becomes completed, what it does not know is added
        in the epoch and under the key of its name, and what has moved stays so while another item has its file. Jobs that want
        them count them skipped. The number of rows changed."""
        ...

    def writing_for(self) -> float | None:
        """Seconds since the transaction at hand began, or last got on; None while there is none. For a watchdog."""
        ...

    async def save_copy(self, keep: int = 7) -> Path | None:
        """A copy of the ledger beside it, durable under its final name, unless nothing that files cannot tell has changed since
        the last of today; only the newest ``keep`` days stay. Where it is. Waits for no writer, and none waits for it."""
        ...

    async def close(self) -> None: ...

    # --- accounts ---

    async def account(self, identity: str, name: str, source: str) -> int:
        """The number of the account of that identity, made when new; its label is brought up to date."""
        ...

    async def account_totals(self, account: int) -> AccountTotals: ...

    async def tell_accounts(self, how: Sequence[tuple[str, str, Trouble | None]]) -> None:
        """Events (``account.state``: account, state, kind, reason), one for each name with how that account is now and why.
        They are all that is kept of it."""
        ...

    # --- jobs ---

    async def create_job(
        self,
        account: int,
        strategy: Strategy,
        *,
        live: bool,
        priority: int,
        requester: str | None,
        start: bool,
        idempotency_key: str | None,
        attempts: int | None = None,
    ) -> tuple[Job, bool]:
        """A new pending job, queued when it is to ``start``, id ``job_`` and 12 of [a-z0-9]; or the one that key made before,
        with False."""
        ...

    async def job(self, prefix: str) -> Job:
        """The job whose id starts so. ``Refused``: ``not_found``, or ``ambiguous`` with candidates. The id's ``job_`` may
        be left out, and alone it names none."""
        ...

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        account: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Job]:
        """Jobs, newest first, those created before the job ``after`` only."""
        ...

    async def job_counts(self) -> Mapping[JobStatus, int]:
        """How many jobs there are of each status."""
        ...

    async def move_job(self, job: int, to: JobStatus, *, phase: Phase | None = None, error: Trouble | None = None) -> Job:
        """A transition with its event (``job.status``: from, to, phase, reason). ``Refused`` (``wrong_state``) when it is
        not allowed. Sets ``started_at`` on the first run, ``completed_at`` and ``last_sync_at`` on completion. A job that
        becomes pending is queued; one that is pending but not queued yet may become so."""
        ...

    async def synced(self, job: int) -> Job:
        """All that is new was found and stored: ``last_sync_at`` is now. No event."""
        ...

    async def compared(self, job: int, error: Trouble | None) -> Job:
        """The watching job was compared with the origin, and nothing was missing but what ``error`` tells of: ``last_sync_at``
        is now. An event (``job.status``) only where the trouble is another than before."""
        ...

    async def set_phase(self, job: int, phase: Phase, error: Trouble | None = None) -> None:
        """What a running job does now; ``error`` says why it waits. No event when nothing changed."""
        ...

    async def delete_job(self, job: int, *, purge: bool = False) -> Sequence[str]:
        """Forget the job, its wants and its counters, with an event (``job.deleted``). With ``purge``, stored items that no
        other job wants become pending in the same transaction; the paths of their files, those of conflicts included, which
        are now the caller's to remove (one that another stored item has, too, is not among them). Events about it stay.
        Without ``purge``, wants beyond a few thousand go in transactions of their own, between which others get their turn;
        nobody sees the job after the first, and what was cut off goes when the ledger is looked through."""
        ...

    async def counters(self, job: int) -> Counters: ...

    # --- folders and listings ---

    async def record_folders(self, account: int, listed: Sequence[RemoteFolder]) -> Sequence[Folder]:
        """The folders as listed now, in fetching order (kind, then name). Folders no longer listed get ``gone_at``, and their
        items that were never stored become ``skipped``; a folder that is listed again loses it."""
        ...

    async def folders(self, account: int) -> Sequence[Folder]:
        """All known folders, gone ones included, in fetching order."""
        ...

    async def set_directory(self, folder: int, directory: str) -> None: ...

    async def set_folder_error(self, folder: int, error: Trouble | None) -> None:
        """Why this folder cannot be read while others can; None when it can again."""
        ...

    async def begin_listing(self, folder: int, epoch: str) -> None:
        """A listing starts in that epoch. A new epoch closes the old one: items of it that were never stored become
        skipped (``epoch``), stored ones get ``removed_at``; files stay."""
        ...

    async def record_page(self, folder: int, page: Page, jobs: Sequence[int], dates: Dates = ANY_DATE) -> int:
        """Add what is new as ``pending`` (or ``skipped`` with its reason), want everything on the page that lies within
        ``dates`` for those of ``jobs`` that are still there, and remember what was named, and how new it is. An item that is
        listed again after ``removed_at`` loses it. The number of new items. ``StaleCursor`` when the page's epoch is not the
        folder's."""
        ...

    async def finish_listing(self, folder: int, page: Page) -> int:
        """The last page was recorded: set the cursor and ``last_sync_at``, mark what a ``whole`` listing did not name as
        removed (an item never stored becomes ``skipped``: gone before it was downloaded), tell it (``folder.listed``:
        new, gone). The number of items gone."""
        ...

    async def record_listing(
        self, folder: int, pages: Sequence[Page], jobs: Sequence[int], dates: Dates = ANY_DATE
    ) -> tuple[int, int]:
        """A listing that is short, in one transaction: begun, all its pages recorded, finished. How many items are new, and how
        many are gone."""
        ...

    async def set_unchanged(self, folders: Sequence[int]) -> None:
        """These folders were compared with the origin, which proved that nothing has changed: ``last_sync_at`` is now. No
        event."""
        ...

    async def want_known(self, job: int, folder: int, dates: Dates = ANY_DATE) -> int:
        """The job wants everything within ``dates`` that the ledger has in the folder's epoch and the origin still has:
        stored items count as skipped. Idempotent. Not one transaction but several, so that others get their turn; what was cut
        off goes on with the next call. The number of wants added."""
        ...

    async def want_keys(self, job: int, folder: int, epoch: str, keys: Sequence[str]) -> int:
        """The job wants these items of the folder, as far as the ledger knows them; what it wants already stays wanted.
        ``StaleCursor`` when the epoch is not the folder's. The number of wants added."""
        ...

    async def preview(self, folder: int, dates: Dates = ANY_DATE, keys: Sequence[str] | None = None) -> Preview:
        """What a job that wants these items of the folder (within ``dates``; only ``keys`` where they are given) would find
        pending and stored. Changes nothing."""
        ...

    # --- keys that changed ---

    async def alike(self, folder: int, *, below: int | None, limit: int) -> Sequence[Alike]:
        """Items that wait in the folder's epoch, by ordinal descending, those under ``below`` only, each with what is stored of
        other epochs and has its date and its size, as the origin said it: at least one, and at most ``limit`` of one date and
        size. Where all that is stored is still at the origin, that costs no more than looking whether it is."""
        ...

    async def remap(self, folder: int, pairs: Sequence[tuple[int, int]]) -> int:
        """Of each pair, what waits (the first number) is the stored item of another epoch (the second) under a new key: it has
        that one's bytes from now on, in the file where they are; jobs that want it count it skipped. The other one becomes
        ``skipped`` (kind ``moved``), and what is known of other bytes goes along. Told (``folder.mapped``). A pair of which one
        is not so any more is left alone. The number of pairs changed."""
        ...

    # --- downloading ---

    async def pending(self, job: int, folder: int, *, below: int | None, limit: int) -> Sequence[PendingItem]:
        """Items the job wants in the folder that are pending and due (``next_retry_at``), by ordinal descending, those
        under ``below`` only."""
        ...

    async def still_pending(self, items: Set[int]) -> Set[int]:
        """Those of the items that are pending, due or not. Sees all that was recorded before the call."""
        ...

    async def next_retry(self, job: int) -> int | None:
        """When the earliest pending item that the job wants and that is not due yet becomes due; None when there is none."""
        ...

    async def record_group(self, job: int | None, stored: Sequence[Stored], setbacks: Sequence[Setback]) -> Committed:
        """The commit: items, wants, counters and events (``item.stored``, ``item.failed``, a group at a time) in one
        transaction. The job is the one that fetched them and counts them ``downloaded``; every other job that wants them
        counts them ``skipped``. Items already completed are left alone, but where other bytes come for one than it has, or had
        before it was given up, that is a conflict: recorded with the item and told (``item.conflict``)."""
        ...

    async def adopt(self, placed: Sequence[Placed]) -> int:
        """Rows for what a store reports as durable: pending items of the same identity, folder, epoch and key become
        completed; the jobs that want them count them ``downloaded``. The number of rows changed."""
        ...

    async def retry_failed(self, job: int, before: int | None = None, items: Sequence[int] | None = None) -> int:
        """Failed items the job wants become pending again with fresh attempts: those that failed before that time only, and
        only ``items`` where they are given. ``Refused`` (``wrong_state``), naming it, for an item that the job does not want or
        that has not failed."""
        ...

    # --- verifying ---

    async def stored(self, folder: int, *, after: int, limit: int) -> Sequence[StoredItem]:
        """The folder's stored items of every epoch, by number, those after ``after`` only."""
        ...

    async def paths(self, folder: int) -> Set[str]:
        """The paths of all that is stored of the folder, those of conflicts included."""
        ...

    async def nobodys(self, paths: Sequence[str]) -> Sequence[str]:
        """Those of these paths that no stored item and no conflict has. Looks at every row of the ledger: pass many at once."""
        ...

    async def confirm(self, items: Sequence[tuple[int, str]]) -> None:
        """The whole SHA-256 of stored items of which the first half was known. Items whose half differs are left alone."""
        ...

    async def give_up(self, items: Sequence[Setback]) -> int:
        """Stored items whose bytes are not what they were: pending again, with the reason, where the origin still has them,
        else ``skipped`` with it (kind ``lost``); told (``item.lost``). What they were is remembered, so that other bytes
        under their key are known for a conflict. The number of rows changed."""
        ...

    async def verified_at(self) -> int | None:
        """When all that is stored was last verified."""
        ...

    async def set_verified(self, told: Mapping[str, object]) -> None:
        """All that is stored was verified now; ``told`` goes with the event (``store.verified``)."""
        ...

    # --- looking ---

    async def folder_progress(self, *, job: int | None = None, account: int | None = None) -> Sequence[FolderProgress]:
        """Folders in fetching order with the counters of the job in them, or of the whole account (there, stored items
        count as downloaded)."""
        ...

    async def items(
        self,
        job: int,
        *,
        folder: str | None = None,
        status: ItemStatus | None = None,
        limit: int = 100,
        after: int | None = None,
    ) -> Sequence[Item]:
        """Items the job wants, by number, those after ``after`` only."""
        ...

    async def stream(self) -> str:
        """The id of the event stream, made with the ledger and kept for its life."""
        ...

    async def events(self, after: int, limit: int = 1000, job: str | None = None) -> Sequence[Event]:
        """Events numbered above ``after``, in order; only those of the job of that id where it is given."""
        ...

    async def event_span(self) -> tuple[int, int]:
        """The numbers of the oldest event that is kept (1 when none was forgotten) and of the newest (0: there is none)."""
        ...

    async def prune_events(self, before: int, keep: int) -> int:
        """Forget events older than that time, but none of the newest ``keep``. The number forgotten."""
        ...

    def when_told(self, call: Callable[[], None]) -> None:
        """Call this, in the event loop, after each transaction that wrote events. It must be quick and not raise."""
        ...

    async def check(self) -> Sequence[str]:
        """Compare counters with rows and the database with itself; one sentence for each thing that is wrong."""
        ...
