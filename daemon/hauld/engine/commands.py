"""What the door may ask for: each method of the control socket, answered from the ledger and by the supervisor."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from haulapi import calls
from hauld.clock import Clock, rfc3339
from hauld.engine.account import Account
from hauld.engine.declared import REQUESTER
from hauld.engine.findings import Asked
from hauld.engine.pages import page, page_size, whole_number
from hauld.engine.strategies import accepted
from hauld.engine.supervisor import Supervisor
from hauld.engine.wire import (
    folder_on_the_wire,
    freshness,
    item_on_the_wire,
    job_on_the_wire,
    listener_on_the_wire,
    strategy_on_the_wire,
    trouble_on_the_wire,
    verification_on_the_wire,
    verified_folder_on_the_wire,
)
from hauld.errors import Refused
from hauld.model import FolderProgress, ItemStatus, Job, JobStatus, Priority, Strategy, check_move
from hauld.state.base import State

MOST_ATTEMPTS = 100
"""How often a job may ask for one item, at most."""

MOST_BYTES = 2**63 - 1
"""An origin may list sizes that add up to more than can be written down."""

S = TypeVar("S", JobStatus, ItemStatus)


@dataclass(frozen=True)
class Premises:
    """What is known and done above the engine: what ``daemon.status`` says of the daemon itself, the reload, the doctor.
    ``configuration_error`` tells what was wrong when the configuration was last read again."""

    version: str
    state_path: str
    store_path: str
    clients: Callable[[], int]
    reload: Callable[[], Awaitable[calls.Reload]]
    configuration_error: Callable[[], str | None]
    diagnose: Callable[[str | None], Awaitable[calls.Diagnosis]]


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
        accounts = list(self._supervisor.accounts.values())
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
            configuration_error=self._premises.configuration_error(),
        )

    async def daemon_reload(self, _: calls.NoParams) -> calls.Reload:
        return await self._premises.reload()

    async def daemon_doctor(self, params: calls.DoctorParams) -> calls.Diagnosis:
        if params.account is not None:
            self._known(params.account)
        return await self._premises.diagnose(params.account)

    # --- accounts ---

    async def accounts_list(self, _: calls.NoParams) -> calls.AccountList:
        accounts = list(self._supervisor.accounts.values())
        return calls.AccountList(accounts=[await self._account(account) for account in accounts])

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

    async def jobs_create(self, params: calls.CreateParams) -> calls.Job | calls.Preview:
        account = self._known(params.account)
        strategy = accepted(params.strategy)
        if params.priority not in tuple(Priority):
            raise Refused("invalid_params", f"Priority {params.priority} is not 1 (urgent), 2 (normal) or 3 (background).")
        if params.attempts is not None and not 1 <= params.attempts <= MOST_ATTEMPTS:
            raise Refused("invalid_params", f"{params.attempts} attempts are not possible; ask for 1 to {MOST_ATTEMPTS}.")
        if params.requester == REQUESTER:
            raise Refused("invalid_params", f"{REQUESTER!r} is who asks for jobs that the configuration declares.")
        if params.dry_run:
            return await self._preview(account, strategy, params.priority)
        job, new = await self._state.create_job(
            account.number,
            strategy,
            live=params.live,
            priority=params.priority,
            requester=params.requester,
            start=params.start,
            idempotency_key=params.idempotency_key,
            attempts=params.attempts,
        )
        if new:
            self._supervisor.copies.changed()
        if new and params.start:
            account.forgive()
            await self._supervisor.keep(job)
        return await self._job(job)

    async def jobs_list(self, params: calls.JobListParams) -> calls.JobList:
        account = None if params.account is None else self._known(params.account).number
        limit = page_size(params.limit)
        status = None if params.status is None else one_of(JobStatus, params.status, "job status")
        jobs = await self._state.jobs(status=status, account=account, limit=limit + 1, after=params.after)
        listed, more = page([await self._job(job) for job in jobs], limit)
        return calls.JobList(jobs=listed, next=listed[-1].id if more else None)

    async def jobs_get(self, params: calls.JobParams) -> calls.Job:
        return await self._job(await self._state.job(params.job))

    async def jobs_start(self, params: calls.JobParams) -> calls.Job:
        job = await self._state.job(params.job)
        if job.status is JobStatus.RUNNING:
            raise Refused("wrong_state", f"Job {job.id} is already running.", hint=f"How far it is: haulctl show {job.id}")
        if job.status is JobStatus.PENDING and job.queued:
            raise Refused("wrong_state", f"Job {job.id} is already waiting for a free slot.")
        return await self._job(await self._start(job))

    async def jobs_pause(self, params: calls.JobParams) -> calls.Job:
        return await self._job(await self._stop(params.job, JobStatus.PAUSED))

    async def jobs_cancel(self, params: calls.JobParams) -> calls.Job:
        return await self._job(await self._stop(params.job, JobStatus.CANCELLED))

    async def jobs_delete(self, params: calls.DeleteParams) -> calls.Job:
        job = await self._state.job(params.job)
        return await asyncio.shield(self._delete(job, params.purge))  # a client that leaves must not leave files without rows

    async def jobs_retry(self, params: calls.RetryParams) -> calls.Job:
        job = await self._state.job(params.job)
        if not await self._state.retry_failed(job.number, items=params.items):
            raise Refused("wrong_state", f"Job {job.id} has no failed items.", hint=f"See them all: haulctl items {job.id}")
        if job.status in (JobStatus.COMPLETED, JobStatus.FAILED):
            job = await self._start(job)
        return await self._job(job)

    async def jobs_sync(self, params: calls.JobParams) -> calls.Job:
        job = await self._state.job(params.job)
        keeper = self._supervisor.keeper(job.number)
        if keeper is None or job.status not in (JobStatus.RUNNING, JobStatus.COMPLETED):
            raise Refused(
                "wrong_state", f"Job {job.id} is {job.status} and watches nothing.", hint=f"Start it: haulctl start {job.id}"
            )
        await keeper.sync()
        return await self._job(await self._state.job(job.id))

    async def _start(self, job: Job) -> Job:
        self._supervisor.copies.changed()
        return await self._supervisor.resume(job)

    async def _stop(self, prefix: str, status: JobStatus) -> Job:
        """End the job's work, if the move is allowed at all; what is being committed is finished first."""
        job = await self._state.job(prefix)
        check_move(job.id, job.status, status)
        self._supervisor.copies.changed()
        async with self._supervisor.stopped(job):
            return await self._state.move_job(job.number, status)

    async def _delete(self, job: Job, purge: bool) -> calls.Job:
        """The job as it was at last."""
        self._supervisor.copies.changed()
        async with self._supervisor.stopped(job):
            last = await self._job(await self._state.job(job.id))
            paths = await self._state.delete_job(job.number, purge=purge)
        await self._supervisor.discard(paths)
        return last

    async def _preview(self, account: Account, strategy: Strategy, priority: int) -> calls.Preview:
        comparison = self._supervisor.comparison(account, strategy, priority)
        await comparison.run(lambda _: True)
        found = await comparison.preview()
        items = sum(preview.items for _, preview in found)
        return calls.Preview(
            account=account.settings.name,
            strategy=strategy_on_the_wire(strategy),
            folders=[
                calls.PreviewFolder(name=folder.name, kind=folder.remote.kind, items=preview.items, bytes=preview.bytes)
                for folder, preview in found
            ],
            items=items,
            bytes=min(sum(preview.bytes for _, preview in found), MOST_BYTES),
            stored_items=sum(preview.stored for _, preview in found),
            estimated_secs=account.seconds_for(items),
        )

    # --- folders and items ---

    async def folders_list(self, params: calls.FolderListParams) -> calls.FolderList:
        if (params.job is None) == (params.account is None):
            raise Refused("invalid_params", "Name either a job or an account.")
        limit = page_size(params.limit)
        if params.job is not None:
            job = await self._state.job(params.job)
            account = self._supervisor.accounts.get(job.account_name)
            known = await self._state.folder_progress(job=job.number)
            rest = [each for each in following(known, params.after) if account is None or belongs(each, account)]
        else:
            known = await self._state.folder_progress(account=self._known(str(params.account)).number)
            rest = list(following(known, params.after))
        listed, more = page(map(folder_on_the_wire, rest), limit)
        return calls.FolderList(folders=listed, next=str(rest[len(listed) - 1].folder.number) if more else None)

    async def items_list(self, params: calls.ItemListParams) -> calls.ItemList:
        job = await self._state.job(params.job)
        limit = page_size(params.limit)
        status = None if params.status is None else one_of(ItemStatus, params.status, "item status")
        after = None if params.after is None else whole_number(params.after)
        items = await self._state.items(job.number, folder=params.folder, status=status, limit=limit + 1, after=after)
        listed, more = page(map(item_on_the_wire, items), limit)
        return calls.ItemList(items=listed, next=str(listed[-1].id) if more else None)

    # --- verifying ---

    async def verify_start(self, params: calls.VerifyParams) -> calls.Verification:
        if params.account is not None:
            self._known(params.account)
        findings = self._supervisor.verify(Asked(params.account, params.repair, params.origin))
        return verification_on_the_wire(findings, (), None)

    async def verify_status(self, params: calls.VerifyStatusParams) -> calls.Verification:
        limit = page_size(params.limit)
        start = 0 if params.after is None else whole_number(params.after)
        findings = self._supervisor.verifier.findings
        if findings is None:
            return calls.Verification(status="never")
        listed, more = page(map(verified_folder_on_the_wire, findings.folders[start:]), limit)
        return verification_on_the_wire(findings, listed, str(start + len(listed)) if more else None)

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
            listeners=[listener_on_the_wire(listener) for listener in account.listeners],
            freshness_secs=freshness(account.listeners, totals.inbox_sync_at, self._clock.now_ms()),
        )

    async def _job(self, job: Job) -> calls.Job:
        counters = await self._state.counters(job.number)
        return job_on_the_wire(job, counters, self._supervisor.keeper(job.number))


def following(known: Sequence[FolderProgress], after: str | None) -> Sequence[FolderProgress]:
    """The folders behind the one with which a page ended. No folder is ever forgotten, so it is still among them."""
    if after is None:
        return known
    last = whole_number(after)
    places = [place for place, each in enumerate(known) if each.folder.number == last]
    if not places:
        raise Refused("invalid_params", f"{after!r} is not where a page ended.", hint="Pass the `next` of the page before.")
    return known[places[0] + 1 :]


def belongs(progress: FolderProgress, account: Account) -> bool:
    """Whether a folder is one of a job's: the configuration does not keep it from the job, or did not always."""
    return progress.counters.total > 0 or account.wants(progress.folder)


def one_of(kinds: type[S], word: str, what: str) -> S:
    try:
        return kinds(word)
    except ValueError:
        raise Refused("invalid_params", f"{word!r} is no {what}.", hint=f"One of {', '.join(kinds)}.") from None


def resident_memory() -> int:
    """Resident memory of the daemon in bytes (``/proc/self/statm``, proc(5)); 0 where it is hidden."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
