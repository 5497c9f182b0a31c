"""Each method of the control socket with its parameters and its result. Field names are promised: scripts rely on them.

Times are RFC 3339 in UTC, sizes bytes, durations seconds. Fields may be added; none is renamed or removed within a major
version, so a client reads results whose fields it does not all know, and the daemon refuses parameters that it does not.
"""

from __future__ import annotations

from typing import Any

import msgspec

from haulapi.events import Event

# --- values --------------------------------------------------------------------------------------------------------


class ErrorInfo(msgspec.Struct, kw_only=True):
    """Why something waits or failed: since when, when it is tried again, what a person can do."""

    kind: str
    message: str
    hint: str | None = None
    since: str | None = None
    retry_at: str | None = None


class Strategy(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Which items a job wants. Dates are INTERNALDATE in UTC, ``since`` inclusive, ``before`` exclusive."""

    kind: str = "full"
    folders: list[str] = []
    exclude: list[str] = []
    since: str | None = None
    before: str | None = None
    sender: str | None = msgspec.field(default=None, name="from")
    to: str | None = None
    subject: str | None = None


class Progress(msgspec.Struct, kw_only=True):
    """``remaining_items`` = total - downloaded - failed - skipped; ``percent_complete`` =
    100 * (downloaded + skipped) / total."""

    total_items: int = 0
    downloaded_items: int = 0
    failed_items: int = 0
    skipped_items: int = 0
    in_progress_items: int = 0
    remaining_items: int = 0
    percent_complete: float = 0.0
    bytes_downloaded: int = 0
    items_per_second: float = 0.0
    bytes_per_second: float = 0.0
    estimated_completion_secs: float | None = None


class Job(msgspec.Struct, kw_only=True):
    """What a person asked for, and how far it is. ``attempts`` is how often one item is asked for before it is failed; null is
    what the configuration says."""

    id: str
    account: str
    source: str
    status: str
    phase: str | None
    live: bool
    priority: int
    requester: str | None
    strategy: Strategy
    progress: Progress
    error: ErrorInfo | None
    created_at: str
    started_at: str | None
    updated_at: str
    completed_at: str | None
    last_sync_at: str | None
    attempts: int | None = None


class Folder(msgspec.Struct, kw_only=True):
    """A container at the origin, with the progress of one job in it, or of the whole account."""

    name: str
    kind: str
    total_items: int
    downloaded_items: int
    failed_items: int
    skipped_items: int
    remaining_items: int
    bytes: int
    is_complete: bool
    last_sync_at: str | None
    error: ErrorInfo | None = None


class Conflict(msgspec.Struct, kw_only=True):
    """Other bytes that the origin gave under the key of a stored item; they are kept beside it."""

    sha256: str
    size: int
    local_path: str
    seen_at: str


class Item(msgspec.Struct, kw_only=True):
    """One thing to download. ``key`` is opaque (``uidvalidity.uid`` for IMAP); ``local_path`` is directory and unique part.
    ``sha256`` is the first half of the hash where the ledger was rebuilt from names and the item was not verified since."""

    id: int
    folder: str
    key: str
    status: str
    size: int | None
    sha256: str | None
    local_path: str | None
    flags: list[str]
    item_type: str
    error: ErrorInfo | None
    retry_count: int
    downloaded_at: str | None
    removed_at: str | None
    conflicts: list[Conflict] = []


class Listener(msgspec.Struct, kw_only=True):
    """How news of a folder come: ``mode`` is ``push``, or ``polling`` as the schedule says. ``state`` is ``connecting``,
    ``catching up``, ``listening`` or ``waiting`` (``error`` says for what)."""

    folder: str
    mode: str
    state: str
    since: str
    error: ErrorInfo | None = None
    last_notice_at: str | None = None


class Account(msgspec.Struct, kw_only=True):
    """A configured origin and how it is: ``state`` is ``idle``, ``connected``, ``waiting`` or ``attention``. ``items`` and
    ``bytes`` are of what is stored. What is known of its inbox may be ``freshness_secs`` old: 0 while it is listened to, null
    before it was listed."""

    name: str
    source: str
    host: str
    user: str
    state: str
    since: str
    error: ErrorInfo | None = None
    connections: int = 0
    folders: int = 0
    items: int = 0
    bytes: int = 0
    last_sync_at: str | None = None
    listeners: list[Listener] = []
    freshness_secs: float | None = None


class TestedFolder(msgspec.Struct, kw_only=True):
    """A folder as the origin lists it."""

    name: str
    kind: str
    selectable: bool


# --- parameters and results ----------------------------------------------------------------------------------------


class Params(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all parameters: unknown names are refused, so that a misspelt one is never silently ignored."""


class NoParams(Params):
    """A call without parameters."""


class NoResult(msgspec.Struct, kw_only=True):
    """A reply that says no more than that it was done."""


class HelloParams(Params):
    """``version`` is the contract the client was built for; another major version is refused."""

    version: str | None = None
    client: str | None = None


class Hello(msgspec.Struct, kw_only=True):
    """``version`` is the daemon's, ``api`` the contract's."""

    name: str
    version: str
    api: str


class DaemonStatus(msgspec.Struct, kw_only=True):
    """The daemon on one screen. ``memory_bytes`` is resident memory; ``jobs`` counts by status. ``configuration_error`` is all
    that was wrong with the configuration when it was last read again, each problem on a line; what ran before goes on."""

    version: str
    uptime_seconds: float
    pid: int
    accounts: list[Account]
    jobs: dict[str, int]
    connections: int
    clients: int
    memory_bytes: int
    state_path: str
    store_path: str
    configuration_error: str | None = None


class Reload(msgspec.Struct, kw_only=True):
    """What reading the configuration again has changed: accounts by name, and keys such as ``daemon.log_level``. An account
    with another host or user is another one: removed, and added. ``applied`` keys hold from now on; those in
    ``restart_needed`` keep their old values until hauld is started again."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    unchanged: list[str]
    applied: list[str]
    restart_needed: list[str]


class Check(msgspec.Struct, kw_only=True):
    """One thing that was looked at: of one account, or of the machine (null). ``status`` is ``ok``, ``warning``, ``failed``, or
    ``skipped`` when something before it keeps it from being looked at. ``hint`` says what to do, ``kind`` names the error."""

    name: str
    account: str | None = None
    status: str = "ok"
    message: str
    hint: str | None = None
    kind: str | None = None


class Diagnosis(msgspec.Struct, kw_only=True):
    """All that was looked at, in order: the machine first, then account by account."""

    checks: list[Check]


class DoctorParams(Params):
    """One account beside the machine, or all."""

    account: str | None = None


class AccountParams(Params):
    """``account`` is the account's name in the configuration."""

    account: str


class AccountList(msgspec.Struct, kw_only=True):
    """All configured accounts, by name."""

    accounts: list[Account]


class AccountTest(msgspec.Struct, kw_only=True):
    """What signing in showed."""

    account: str
    greeting: str
    capabilities: list[str]
    folders: list[TestedFolder]
    seconds: float


class WantedStrategy(Strategy, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A strategy as it is asked for."""


class CreateParams(Params):
    """A job; the same ``idempotency_key`` again returns the job it made the first time."""

    account: str
    strategy: WantedStrategy = WantedStrategy()
    live: bool = True
    priority: int = 2
    requester: str | None = None
    start: bool = True
    dry_run: bool = False
    idempotency_key: str | None = None
    attempts: int | None = None


class PreviewFolder(msgspec.Struct, kw_only=True):
    """What a job would fetch of one folder."""

    name: str
    kind: str
    items: int
    bytes: int


class Preview(msgspec.Struct, kw_only=True):
    """What a job would fetch, had it been created: items that are not stored yet, their bytes as far as the origin says them,
    and how long that takes at a rate seen on this account before (null when none was)."""

    account: str
    strategy: Strategy
    folders: list[PreviewFolder]
    items: int
    bytes: int
    stored_items: int
    estimated_secs: float | None


class JobParams(Params):
    """``job`` is an id or any unambiguous prefix of one, its ``job_`` left out or not; ``job_`` alone names none."""

    job: str


class JobListParams(Params):
    """Newest first; ``after`` is the ``next`` of the page before."""

    status: str | None = None
    account: str | None = None
    limit: int = 100
    after: str | None = None


class JobList(msgspec.Struct, kw_only=True):
    """One page of jobs; ``next`` is null on the last."""

    jobs: list[Job]
    next: str | None = None


class DeleteParams(JobParams):
    """``purge`` also removes the files of items that no other job wants; these items become pending."""

    purge: bool = False


class RetryParams(JobParams):
    """``items`` are item ids; null is every failed item of the job."""

    items: list[int] | None = None


class FolderListParams(Params):
    """Either a job or an account; ``after`` is the ``next`` of the page before."""

    job: str | None = None
    account: str | None = None
    limit: int = 1000
    after: str | None = None


class FolderList(msgspec.Struct, kw_only=True):
    """One page of folders in the order in which they are fetched; ``next`` is null on the last."""

    folders: list[Folder]
    next: str | None = None


class ItemListParams(Params):
    """Keyset paging: ``after`` is the ``next`` of the page before; a first page takes constant time."""

    job: str
    folder: str | None = None
    status: str | None = None
    limit: int = 100
    after: str | None = None


class ItemList(msgspec.Struct, kw_only=True):
    """One page of items; ``next`` is null on the last."""

    items: list[Item]
    next: str | None = None


class Since(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A place in the event stream. ``stream`` changes when the ledger is made anew: numbers of another stream mean nothing."""

    stream: str
    number: int


class FollowParams(Params):
    """Events after ``since``, or after now; only those of ``job`` where it is given."""

    since: Since | None = None
    job: str | None = None


class Following(msgspec.Struct, kw_only=True):
    """Following has begun. Every event after ``number`` comes as an ``event`` notification whose params are an ``Event``, in
    order, each once; what calls answered before this reply is at least as old as ``number``."""

    stream: str
    number: int


class EventListParams(FollowParams):
    """Events after ``since``, or from the oldest that is kept, the oldest first."""

    limit: int = 100


class EventList(msgspec.Struct, kw_only=True):
    """One page of events; ``last`` is the newest number there is, ``oldest`` the oldest that is kept."""

    stream: str
    events: list[Event]
    oldest: int
    last: int


class VerifyParams(Params):
    """One account, or all. ``repair`` fetches again what is damaged or missing and the origin still has; ``origin`` compares
    the ledger with the origin's own lists first."""

    account: str | None = None
    repair: bool = False
    origin: bool = False


class VerifyStatusParams(Params):
    """``after`` is the ``next`` of the page of folders before."""

    limit: int = 1000
    after: str | None = None


class VerifiedFolder(msgspec.Struct, kw_only=True):
    """What became of one folder. ``checked`` items were read; ``damaged`` have other bytes than the ledger says, ``missing``
    have none; ``unknown`` files are in the folder and in no row; ``pending``, ``failed`` and ``skipped`` items are not stored.
    ``is_complete``: all that the origin is known to have is stored or skipped, and whole. ``problems`` are sentences, the first
    few."""

    account: str
    name: str
    checked: int = 0
    bytes: int = 0
    damaged: int = 0
    missing: int = 0
    unknown: int = 0
    repaired: int = 0
    pending: int = 0
    failed: int = 0
    skipped: int = 0
    is_complete: bool = False
    problems: list[str] = []


class Verification(msgspec.Struct, kw_only=True):
    """The last verification: ``status`` is ``never``, ``running``, ``completed`` or ``failed`` (``error`` says why); ``phase``
    of a running one is ``listing``, ``reading`` or ``repairing``. ``strays`` are files outside of all folders that are
    nobody's, the first hundred; ``unknown_files`` counts these and those in folders. Nothing unknown is ever deleted."""

    status: str
    phase: str | None = None
    account: str | None = None
    repair: bool = False
    origin: bool = False
    started_at: str | None = None
    finished_at: str | None = None
    total_items: int = 0
    checked_items: int = 0
    total_bytes: int = 0
    checked_bytes: int = 0
    damaged_items: int = 0
    missing_items: int = 0
    repaired_items: int = 0
    unknown_files: int = 0
    strays: list[str] = []
    folders: list[VerifiedFolder] = []
    next: str | None = None
    error: ErrorInfo | None = None


class Call(msgspec.Struct, frozen=True):
    """One method: its name, the types of its parameters and result, and what it is for."""

    method: str
    params: type[Params]
    result: Any
    help: str


CALLS = {
    call.method: call
    for call in (
        Call("daemon.hello", HelloParams, Hello, "Versions; refuses a client of another major version."),
        Call("daemon.status", NoParams, DaemonStatus, "The daemon, its accounts and jobs, and what is wrong."),
        Call("daemon.reload", NoParams, Reload, "Read the configuration again and apply what is different."),
        Call("daemon.doctor", DoctorParams, Diagnosis, "Look at all that may be wrong, changing nothing."),
        Call("accounts.list", NoParams, AccountList, "All configured accounts with their state."),
        Call("accounts.get", AccountParams, Account, "One account."),
        Call("accounts.test", AccountParams, AccountTest, "Sign in and list folders, changing nothing."),
        Call("jobs.create", CreateParams, Job | Preview, "A job on an account; or, with dry_run, what it would fetch."),
        Call("jobs.list", JobListParams, JobList, "Jobs, newest first."),
        Call("jobs.get", JobParams, Job, "One job."),
        Call("jobs.start", JobParams, Job, "Start or resume; a running job is an error that says so."),
        Call("jobs.pause", JobParams, Job, "Stop; what is being committed is finished first, then the reply comes."),
        Call("jobs.cancel", JobParams, Job, "Stop for good; files stay."),
        Call("jobs.delete", DeleteParams, Job, "Forget the job; items and files stay unless they are purged."),
        Call("jobs.retry", RetryParams, Job, "Ask for failed items again, with fresh attempts."),
        Call("jobs.sync", JobParams, Job, "Compare with the origin now."),
        Call("folders.list", FolderListParams, FolderList, "Folders with their progress."),
        Call("items.list", ItemListParams, ItemList, "Items of a job, a page at a time."),
        Call("events.follow", FollowParams, Following, "Send events as they happen, until the connection ends or unfollow."),
        Call("events.unfollow", NoParams, NoResult, "Send no more events on this connection."),
        Call("verify.start", VerifyParams, Verification, "Read again what is stored and compare it with the ledger."),
        Call("verify.status", VerifyStatusParams, Verification, "How far the last verification is, and what it found."),
        Call("events.list", EventListParams, EventList, "Past events, a page at a time."),
    )
}
"""The whole interface, by method name."""
