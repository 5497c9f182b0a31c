"""Values and allowed moves: the words of the project as types. Knows nothing of wire, disk or database.

What two neighbours on the floor above need of each other is here: what a source lists and fetches (``RemoteItem``,
``Want``, ``Outcome``), what a store takes and gives (``Deposit``, ``Placed``), and the bytes between them (``Sink``).
What is made for each item of an import is a ``msgspec.Struct``, which is made in a fraction of the time of a dataclass.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from hauld.errors import Refused

Buffer: TypeAlias = bytes | bytearray | memoryview

# --- jobs ----------------------------------------------------------------------------------------------------------


class JobStatus(StrEnum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """What a running job does."""

    CONNECTING = "connecting"
    LISTING = "listing"
    DOWNLOADING = "downloading"
    WAITING = "waiting"


class Priority(IntEnum):
    """Lower is sooner."""

    URGENT = 1
    NORMAL = 2
    BACKGROUND = 3


MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset({JobStatus.COMPLETED, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.COMPLETED: frozenset(
        {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.PAUSED: frozenset({JobStatus.PENDING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.FAILED: frozenset({JobStatus.PENDING, JobStatus.CANCELLED}),
    JobStatus.CANCELLED: frozenset({JobStatus.PENDING}),
}
"""From each status, the statuses a job may move to. The state refuses every other move."""


def check_move(job: str, before: JobStatus, after: JobStatus) -> None:
    """Raise ``Refused`` (kind ``wrong_state``) unless the move is allowed."""
    if after not in MOVES[before]:
        raise Refused("wrong_state", f"Job {job} is {before} and cannot become {after}.")


@dataclass(frozen=True)
class Strategy:
    """Which items a job wants. Folder globs match display names; an empty ``folders`` means all. ``since`` (inclusive) and
    ``before`` (exclusive) are days in UTC, as ``2026-01-31``; the rest is what the origin is asked to search for."""

    kind: str = "full"
    folders: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    since: str | None = None
    before: str | None = None
    sender: str | None = None
    to: str | None = None
    subject: str | None = None

    def selects(self, folder: str) -> bool:
        """Whether the job wants items of the folder of that display name."""
        return matches(folder, self.folders or ("*",), self.exclude)

    @property
    def dates(self) -> Dates:
        """The INTERNALDATEs of the items it wants."""
        return Dates(day_ms(self.since), day_ms(self.before))

    @property
    def criteria(self) -> Criteria | None:
        """What the origin has to be asked; None where the ledger's rows tell."""
        if self.kind == "unseen":
            return Criteria(unseen=True)
        if self.kind == "search":
            return Criteria(sender=self.sender, to=self.to, subject=self.subject)
        return None


@dataclass(frozen=True)
class Dates:
    """A span of INTERNALDATE in Unix milliseconds: ``since`` inclusive, ``before`` exclusive, None for no bound. An item
    without a date is in the span only when it has no bound."""

    since: int | None = None
    before: int | None = None


ANY_DATE = Dates()


@dataclass(frozen=True)
class Criteria:
    """What an origin searches for: items that fit everything given. Texts are found anywhere in the header, in any case."""

    unseen: bool = False
    sender: str | None = None
    to: str | None = None
    subject: str | None = None


def day_ms(day: str | None) -> int | None:
    """The first millisecond of a day in UTC. Raises ``ValueError`` for what is no day as ``2026-01-31``."""
    if day is None:
        return None
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", day, re.ASCII):
            raise ValueError(day)
        return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        raise ValueError(f"{day!r} is no day as 2026-01-31") from None


def matches(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a display name matches any glob of ``include`` and none of ``exclude``; ``*`` crosses ``/``; case counts,
    but ``INBOX`` is the same in any case (RFC 3501, 5.1)."""
    if name.upper() == "INBOX":
        name = "INBOX"

    def match(globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, "INBOX" if glob.upper() == "INBOX" else glob) for glob in globs)

    return match(include) and not match(exclude)


@dataclass(frozen=True)
class Trouble:
    """Why something waits or failed. Times are Unix milliseconds."""

    kind: str
    message: str
    hint: str | None = None
    since: int | None = None
    retry_at: int | None = None


@dataclass(frozen=True)
class Job:
    """A job as the state knows it. ``number`` is the state's own key; times are Unix milliseconds. A pending job that is not
    ``queued`` was created without being started. ``attempts`` is how often it asks for one item; None: as configured."""

    number: int
    id: str
    account: int
    account_name: str
    source: str
    strategy: Strategy
    status: JobStatus
    queued: bool
    phase: Phase | None
    live: bool
    priority: int
    requester: str | None
    error: Trouble | None
    created_at: int
    started_at: int | None
    updated_at: int
    completed_at: int | None
    last_sync_at: int | None
    attempts: int | None = None


@dataclass(frozen=True)
class Counters:
    """Items a job wants, by what became of them; ``bytes`` are those it downloaded. Counted in the commit's transaction."""

    total: int = 0
    downloaded: int = 0
    failed: int = 0
    skipped: int = 0
    bytes: int = 0

    @property
    def remaining(self) -> int:
        return self.total - self.downloaded - self.failed - self.skipped


# --- folders -------------------------------------------------------------------------------------------------------


class FolderKind(StrEnum):
    """What a folder is for (RFC 6154 where the origin says so); its order is the order of fetching."""

    INBOX = "inbox"
    SENT = "sent"
    DRAFTS = "drafts"
    FLAGGED = "flagged"
    IMPORTANT = "important"
    OTHER = "other"
    ARCHIVE = "archive"
    ALL = "all"
    JUNK = "junk"
    TRASH = "trash"


FOLDER_ORDER = tuple(FolderKind)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder as the origin lists it. ``raw`` is its name in the origin's own bytes and the only key; ``path`` are the
    decoded components of its display name, ``name`` these joined by ``/``; ``cursor`` is where a listing would end now, if the
    origin has told."""

    raw: bytes
    path: tuple[str, ...]
    kind: FolderKind = FolderKind.OTHER
    selectable: bool = True
    cursor: bytes | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return "/".join(self.path)


@dataclass(frozen=True)
class Folder:
    """A folder as the state knows it. ``epoch`` is None until first listed; ``directory`` is the store's; ``cursor`` is the
    source's. ``gone_at`` is set when the origin no longer lists it; ``newest`` is the highest ordinal that was listed in the
    epoch, 0 where none was."""

    number: int
    account: int
    remote: RemoteFolder
    epoch: str | None = None
    cursor: bytes | None = None
    directory: str | None = None
    gone_at: int | None = None
    last_sync_at: int | None = None
    error: Trouble | None = None
    newest: int = 0

    @property
    def name(self) -> str:
        return self.remote.name


@dataclass(frozen=True)
class FolderProgress:
    """A folder with the counters of one job in it, or of the whole account."""

    folder: Folder
    counters: Counters


# --- items ---------------------------------------------------------------------------------------------------------


class ItemStatus(StrEnum):
    """What became of an item."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class RemoteItem(msgspec.Struct, frozen=True):
    """An item as the origin lists it. ``ordinal`` grows with age within an epoch (the UID); ``date`` is Unix milliseconds
    (INTERNALDATE) or None where the origin's makes no sense; ``skip`` is a reason not to download it."""

    key: str
    ordinal: int
    size: int | None = None
    flags: tuple[str, ...] = ()
    date: int | None = None
    skip: str | None = None


@dataclass(frozen=True)
class Page:
    """A part of a folder's listing, in the source's order. On the last page ``cursor`` is set, and when ``whole`` too,
    every item of the epoch that no page named is gone from the origin. ``whole`` is False when nothing changed."""

    epoch: str
    items: Sequence[RemoteItem] = ()
    cursor: bytes | None = None
    whole: bool = False


class Notice(NamedTuple):
    """What an origin said of a folder that is watched: there may be ``new`` items; something ``other`` may have changed (flags,
    items that went). Hints, both: only a listing tells."""

    new: bool
    other: bool


class PendingItem(msgspec.Struct, frozen=True):
    """A row that waits to be downloaded."""

    number: int
    key: str
    ordinal: int
    size: int | None
    flags: tuple[str, ...]
    date: int | None
    retry_count: int


@dataclass(frozen=True)
class StoredItem:
    """A row whose bytes are stored. ``sha256`` is the first half of it only where a rebuild took it from a name;
    ``there`` is whether the origin still has the item."""

    number: int
    key: str
    epoch: str
    size: int
    sha256: str
    path: str
    there: bool


@dataclass(frozen=True)
class Alike:
    """An item that waits in the folder's epoch, and what is stored of other epochs with the size and date that it has."""

    item: PendingItem
    stored: tuple[StoredItem, ...]


@dataclass(frozen=True)
class Conflict:
    """Other bytes that came under a stored item's key; both are kept. ``seen_at`` is Unix milliseconds."""

    sha256: str
    size: int
    path: str
    seen_at: int


@dataclass(frozen=True)
class Item:
    """An item as the state knows it."""

    number: int
    folder: str
    key: str
    status: ItemStatus
    size: int | None
    sha256: str | None
    local_path: str | None
    flags: tuple[str, ...]
    error: Trouble | None
    retry_count: int
    downloaded_at: int | None
    removed_at: int | None
    conflicts: tuple[Conflict, ...] = ()


# --- bytes on their way --------------------------------------------------------------------------------------------


OVERLAP = 4096
"""Bytes that are fetched a second time where a fetch goes on inside an item, and compared: what goes on may not be the same."""


class Body(Protocol):
    """All bytes of one item, staged; what it holds is the store's business."""

    @property
    def size(self) -> int:
        """Bytes received."""
        ...

    def discard(self) -> None:
        """Nobody will commit it: let go of what it holds. Called from the event loop; does nothing once a commit took it."""
        ...


class Writer(Protocol):
    """Takes the bytes of one item as they arrive. Called from the event loop; never blocks."""

    def write(self, data: Buffer) -> bool:
        """Take ``data`` (copied before returning). False: stop reading until ``when_ready`` calls back.
        Raises ``Transient`` (kind ``disk``) when earlier bytes could not be written."""
        ...

    def when_ready(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` once, from the event loop, as soon as more may be written."""
        ...

    def finish(self) -> Body:
        """All bytes have come. Raises ``Transient`` as ``write`` does."""
        ...

    def discard(self) -> None:
        """The item broke off: forget its bytes. Does nothing after ``finish``."""
        ...


class PartWriter(Writer, Protocol):
    """A writer that goes on where an earlier one of the same item was left, and keeps what it has when it is left itself. What
    is written is made durable and remembered as it comes, so that a kill costs little of it."""

    @property
    def offset(self) -> int:
        """How many bytes of the item are there from before: the first to write is the one behind them."""
        ...

    @property
    def tail(self) -> bytes:
        """The last of these bytes, ``OVERLAP`` of them, or all where there are fewer."""
        ...

    def leave(self) -> None:
        """The connection went: keep what has come. Does nothing after ``finish`` or ``discard``."""
        ...


class Sink(Protocol):
    """Where a source puts what it fetches of one folder in one epoch."""

    def open(self, key: str, size: int) -> Writer:
        """A writer for one item of ``size`` bytes as announced."""
        ...

    async def resume(self, key: str, size: int) -> PartWriter | None:
        """A writer for a large item of exactly ``size`` bytes that may come in several fetches. None where the item has to
        come in one. Raises ``Transient`` (kind ``disk``)."""
        ...


class Want(msgspec.Struct, frozen=True):
    """One item to fetch. ``size`` as listed, or None."""

    key: str
    size: int | None = None


class Fetched(msgspec.Struct, frozen=True):
    """The item's bytes are staged. ``listed_size`` is what the origin said (RFC822.SIZE); it may disagree with the body's."""

    key: str
    body: Body
    listed_size: int | None = None
    flags: tuple[str, ...] | None = None
    date: int | None = None


@dataclass(frozen=True)
class Missing:
    """The origin answered without the item; it may come when asked again."""

    key: str
    reason: str


@dataclass(frozen=True)
class Rejected:
    """The item cannot be had, and asking again today would not help. ``skip`` makes it skipped instead of failed."""

    key: str
    kind: str
    reason: str
    skip: bool = False


@dataclass(frozen=True)
class Twin:
    """The origin gave a second body under a key that has its outcome already. Where the bytes differ, both are kept."""

    key: str
    body: Body
    listed_size: int | None = None


Outcome: TypeAlias = Fetched | Missing | Rejected


# --- storing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a folder's items go. ``identity`` is the account's (source + host + user), ``account`` its label;
    ``directory`` is what the store once chose, relative to its root."""

    identity: str
    account: str
    folder: RemoteFolder
    directory: str


class Deposit(msgspec.Struct, frozen=True):
    """One staged item on its way into a store."""

    place: Place
    epoch: str
    key: str
    body: Body
    flags: tuple[str, ...] = ()
    date: int | None = None


class Placed(msgspec.Struct, frozen=True):
    """One item that is durable under its final name. ``path`` is directory + unique part, relative to the store's root."""

    identity: str
    folder: bytes
    epoch: str
    key: str
    size: int
    sha256: str
    path: str


@dataclass(frozen=True)
class Found:
    """A file that is in a folder of the store, from names and sizes alone. ``placed`` is None for one that is no item of ours
    (another program's, or cut short: then it has another ``size`` than its name says); its ``sha256`` may be the first half of
    the hash. ``date`` is Unix milliseconds, or None."""

    path: str
    size: int
    placed: Placed | None = None
    flags: tuple[str, ...] = ()
    date: int | None = None


# --- results of a commit -------------------------------------------------------------------------------------------


class Stored(msgspec.Struct, frozen=True):
    """A placed item with the row it belongs to, for the state."""

    item: int
    placed: Placed
    flags: tuple[str, ...] | None = None
    size_differs: bool = False


@dataclass(frozen=True)
class Setback:
    """An item that was not stored this time. ``final`` makes it failed, or skipped when ``skip``; ``attempt`` counts."""

    item: int
    kind: str
    reason: str
    final: bool = False
    skip: bool = False
    attempt: bool = True


@dataclass(frozen=True)
class Event:
    """A numbered fact; ``job`` is the job's id, ``folder`` its display name, ``time`` Unix milliseconds."""

    number: int
    time: int
    kind: str
    job: str | None
    folder: str | None
    data: dict[str, object] = field(default_factory=dict)
