"""What the door may ask for: each method of the control socket, answered from the ledger and by the supervisor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from haulapi import calls
from hauld.clock import Clock, rfc3339
from hauld.engine.account import Account
from hauld.engine.job import JobKeeper
from hauld.engine.supervisor import Supervisor
from hauld.errors import Refused
from hauld.model import Counters, FolderProgress, Item, ItemStatus, Job, JobStatus, Priority, Strategy, Trouble
from hauld.state.base import State

STRATEGIES = {"full": "full", "full-sync": "full", "inbox-only": "inbox-only", "selected-folders": "selected-folders"}
"""The names of strategies that are accepted, and the names they are kept under."""

LARGEST_PAGE = 1000

S = TypeVar("S", JobStatus, ItemStatus)


@dataclass(frozen=True)
class Premises:
    """What ``daemon.status`` says of the daemon itself."""

    version: str
    state_path: str
    store_path: str
    clients: Callable[[], int]


class Commands:
    """One method for each call, named after it. Raises ``HaulError``; the door makes words of it."""

    def __init__(self, supervisor: Supervisor, state: State, clock: Clock, premises: Premises) -> None:
        self._supervisor = supervisor
        self._state = state
        self._clock = clock
        self._premises = premises
        self._began = clock.monotonic()

    # --- daemon ---

    async def daemon_status(self, _: calls.NoParams) -> calls.DaemonStatus:
        accounts = self._supervisor.accounts.values()
        counts = await self._state.job_counts()
        return calls.DaemonStatus(
            version=self._premises.version,
            uptime_seconds=round(self._clock.monotonic() - self._began, 3),
            pid=os.getpid(),
            accounts=[await self._account(account) for account in accounts],
            jobs={status.value: counts.get(status, 0) for status in JobStatus},
            connections=sum(account.connections for account in accounts),
            clients=self._premises.clients(),
            memory_bytes=resident_memory(),
            state_path=self._premises.state_path,
            store_path=self._premises.store_path,
        )

    # --- accounts ---

    async def accounts_list(self, _: calls.NoParams) -> calls.AccountList:
        return calls.AccountList(accounts=[await self._account(account) for account in self._supervisor.accounts.values()])

    async def accounts_get(self, params: calls.AccountParams) -> calls.Account:
        return await self._account(self._known(params.account))

    async def accounts_test(self, params: calls.AccountParams) -> calls.AccountTest:
        account = self._known(params.account)
        started = time.monotonic()
        async with account.source.session() as session:
            folders = [folder async for folder in session.folders()]
            return calls.AccountTest(
                account=account.settings.name,
                greeting=session.greeting,
                capabilities=list(session.capabilities),
                folders=[calls.TestedFolder(name=f.name, kind=f.kind, selectable=f.selectable) for f in folders],
                seconds=round(time.monotonic() - started, 3),
            )

    # --- jobs ---

    async def jobs_create(self, params: calls.CreateParams) -> calls.Job:
        account = self._known(params.account)
        strategy = accepted(params.strategy)
        if params.priority not in tuple(Priority):
            raise Refused("invalid_params", f"Priority {params.priority} is not 1 (urgent), 2 (normal) or 3 (background).")
        if params.dry_run:
            raise Refused("invalid_params", "A dry run is not available in this version of hauld.")
        job, new = await self._state.create_job(
            account.number,
            strategy,
            live=params.live,
            priority=params.priority,
            requester=params.requester,
            start=params.start,
            idempotency_key=params.idempotency_key,
        )
        if new and params.start:
            account.forgive()
            await self._supervisor.keep(job)
        return await self._job(job)

    async def jobs_list(self, params: calls.JobListParams) -> calls.JobList:
        account = None if params.account is None else self._known(params.account).number
        limit = page_size(params.limit)
        status = None if params.status is None else one_of(JobStatus, params.status, "job status")
        jobs = await self._state.jobs(status=status, account=account, limit=limit + 1, after=params.after)
        more = jobs[limit - 1].id if len(jobs) > limit else None
        return calls.JobList(jobs=[await self._job(job) for job in jobs[:limit]], next=more)

    async def jobs_get(self, params: calls.JobParams) -> calls.Job:
        return await self._job(await self._state.job(params.job))

    async def jobs_start(self, params: calls.JobParams) -> calls.Job:
        job = await self._state.job(params.job)
        if job.status is JobStatus.RUNNING:
            raise Refused("wrong_state", f"Job {job.id} is already running.", hint="`haulctl show` tells how far it is.")
        if job.status is JobStatus.PENDING and job.queued:
            raise Refused("wrong_state", f"Job {job.id} is already waiting for a free slot.")
        account = self._supervisor.accounts.get(job.account_name)
        if account is None or account.number != job.account:
            raise Refused("not_found", f"The account {job.account_name!r} of job {job.id} is no longer configured.")
        await self._supervisor.let_go(job)
        account.forgive()
        job = await self._state.move_job(job.number, JobStatus.PENDING)
        await self._supervisor.keep(job)
        return await self._job(job)

    async def jobs_sync(self, params: calls.JobParams) -> calls.Job:
        job = await self._state.job(params.job)
        keeper = self._supervisor.keeper(job.number)
        if keeper is None or job.status not in (JobStatus.RUNNING, JobStatus.COMPLETED):
            raise Refused("wrong_state", f"Job {job.id} is {job.status} and watches nothing.", hint=f"haulctl start {job.id}")
        await keeper.sync()
        return await self._job(await self._state.job(job.id))

    # --- folders and items ---

    async def folders_list(self, params: calls.FolderListParams) -> calls.FolderList:
        if (params.job is None) == (params.account is None):
            raise Refused("invalid_params", "Name either a job or an account.")
        if params.job is not None:
            listed = await self._folders_of(await self._state.job(params.job))
        else:
            listed = await self._state.folder_progress(account=self._known(str(params.account)).number)
        return calls.FolderList(folders=[folder_on_the_wire(progress) for progress in listed])

    async def _folders_of(self, job: Job) -> Sequence[FolderProgress]:
        """The job's folders, without those that the configuration keeps from it."""
        account = self._supervisor.accounts.get(job.account_name)
        listed = await self._state.folder_progress(job=job.number)
        return [each for each in listed if account is None or each.counters.total or account.wants(each.folder)]

    async def items_list(self, params: calls.ItemListParams) -> calls.ItemList:
        job = await self._state.job(params.job)
        limit = page_size(params.limit)
        status = None if params.status is None else one_of(ItemStatus, params.status, "item status")
        after = None if params.after is None else whole_number(params.after)
        items = await self._state.items(job.number, folder=params.folder, status=status, limit=limit + 1, after=after)
        more = str(items[limit - 1].number) if len(items) > limit else None
        return calls.ItemList(items=[item_on_the_wire(item) for item in items[:limit]], next=more)

    # --- from the ledger to the wire ---

    def _known(self, name: str) -> Account:
        account = self._supervisor.accounts.get(name)
        if account is None:
            known = ", ".join(sorted(self._supervisor.accounts)) or "none"
            raise Refused("not_found", f"No account is called {name!r}.", hint=f"Configured accounts: {known}.")
        return account

    async def _account(self, account: Account) -> calls.Account:
        totals = await self._state.account_totals(account.number)
        settings = account.settings
        return calls.Account(
            name=settings.name,
            source=settings.source,
            host=settings.host,
            user=settings.user,
            state=account.state,
            since=str(rfc3339(account.since)),
            error=trouble_on_the_wire(account.trouble),
            connections=account.connections,
            folders=totals.folders,
            items=totals.items,
            bytes=totals.bytes,
            last_sync_at=rfc3339(totals.last_sync_at),
        )

    async def _job(self, job: Job) -> calls.Job:
        counters = await self._state.counters(job.number)
        return calls.Job(
            id=job.id,
            account=job.account_name,
            source=job.source,
            status=job.status,
            phase=job.phase,
            live=job.live,
            priority=job.priority,
            requester=job.requester,
            strategy=calls.Strategy(
                kind=job.strategy.kind, folders=list(job.strategy.folders), exclude=list(job.strategy.exclude)
            ),
            progress=progress_on_the_wire(job, counters, self._supervisor.keeper(job.number)),
            error=trouble_on_the_wire(job.error),
            created_at=str(rfc3339(job.created_at)),
            started_at=rfc3339(job.started_at),
            updated_at=str(rfc3339(job.updated_at)),
            completed_at=rfc3339(job.completed_at),
            last_sync_at=rfc3339(job.last_sync_at),
        )


def progress_on_the_wire(job: Job, counters: Counters, keeper: JobKeeper | None) -> calls.Progress:
    """A job's counters with the figures that only its keeper knows."""
    done = counters.downloaded + counters.skipped
    listed = job.status is JobStatus.COMPLETED or job.phase in ("downloading", "waiting")
    items_rate, bytes_rate = keeper.meter.rates() if keeper is not None else (0.0, 0.0)
    left = keeper.meter.seconds_left(counters.remaining) if keeper is not None else None
    return calls.Progress(
        total_items=counters.total,
        downloaded_items=counters.downloaded,
        failed_items=counters.failed,
        skipped_items=counters.skipped,
        in_progress_items=keeper.in_progress if keeper is not None else 0,
        remaining_items=counters.remaining,
        percent_complete=round(100 * done / counters.total, 1) if counters.total else (100.0 if listed else 0.0),
        bytes_downloaded=counters.bytes,
        items_per_second=round(items_rate, 1),
        bytes_per_second=round(bytes_rate, 1),
        estimated_completion_secs=None if left is None else round(left, 1),
    )


def folder_on_the_wire(progress: FolderProgress) -> calls.Folder:
    """A folder; complete when it was listed, all it named is stored or skipped, and nothing keeps it from being read."""
    folder, counters = progress.folder, progress.counters
    complete = folder.last_sync_at is not None and not counters.remaining and not counters.failed and folder.error is None
    return calls.Folder(
        name=folder.name,
        kind=folder.remote.kind,
        total_items=counters.total,
        downloaded_items=counters.downloaded,
        failed_items=counters.failed,
        skipped_items=counters.skipped,
        remaining_items=counters.remaining,
        bytes=counters.bytes,
        is_complete=complete,
        last_sync_at=rfc3339(folder.last_sync_at),
        error=trouble_on_the_wire(folder.error),
    )


def item_on_the_wire(item: Item) -> calls.Item:
    return calls.Item(
        id=item.number,
        folder=item.folder,
        key=item.key,
        status=item.status,
        size=item.size,
        sha256=item.sha256,
        local_path=item.local_path,
        flags=list(item.flags),
        item_type="message",
        error=trouble_on_the_wire(item.error),
        retry_count=item.retry_count,
        downloaded_at=rfc3339(item.downloaded_at),
        removed_at=rfc3339(item.removed_at),
    )


def trouble_on_the_wire(trouble: Trouble | None) -> calls.ErrorInfo | None:
    if trouble is None:
        return None
    return calls.ErrorInfo(
        kind=trouble.kind,
        message=trouble.message,
        hint=trouble.hint,
        since=rfc3339(trouble.since),
        retry_at=rfc3339(trouble.retry_at),
    )


def accepted(asked: calls.Strategy) -> Strategy:
    """The strategy asked for, checked; raises ``Refused`` for one that this version cannot carry out."""
    kind = STRATEGIES.get(asked.kind)
    if kind is None:
        raise Refused(
            "invalid_params",
            f"The strategy {asked.kind!r} is not available in this version of hauld.",
            hint=f"Available: {', '.join(sorted(set(STRATEGIES.values())))}.",
        )
    unused = [name for name in ("since", "before", "sender", "to", "subject") if getattr(asked, name) is not None]
    if unused:
        raise Refused("invalid_params", f"The strategy {kind!r} takes no {' or '.join(unused)}.")
    if kind == "selected-folders" and not asked.folders:
        raise Refused("invalid_params", "The strategy 'selected-folders' needs at least one folder.", hint="--folder GLOB")
    if kind == "inbox-only":
        if asked.folders:
            raise Refused("invalid_params", "The strategy 'inbox-only' takes no folders.")
        return Strategy(kind, ("INBOX",), tuple(asked.exclude))
    return Strategy(kind, tuple(asked.folders), tuple(asked.exclude))


def page_size(limit: int) -> int:
    if limit < 1:
        raise Refused("invalid_params", f"A page of {limit} is not possible; ask for 1 to {LARGEST_PAGE}.")
    return min(limit, LARGEST_PAGE)


def one_of(kinds: type[S], word: str, what: str) -> S:
    try:
        return kinds(word)
    except ValueError:
        raise Refused("invalid_params", f"{word!r} is no {what}.", hint=f"One of {', '.join(kinds)}.") from None


def whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused("invalid_params", f"{text!r} is not where a page ended.", hint="Pass the `next` of the page before.")
    return int(text)


def resident_memory() -> int:
    """Resident memory of the daemon in bytes (``/proc/self/statm``, proc(5)); 0 where it is hidden."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
