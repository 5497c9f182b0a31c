"""Which jobs run: the only place that makes tasks which outlive the call that asked for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from hauld.engine.account import Account
from hauld.engine.comparison import Comparison
from hauld.engine.job import JobKeeper
from hauld.engine.limits import Slots
from hauld.engine.workshop import Workshop
from hauld.errors import Fatal, Transient
from hauld.model import Job, JobStatus, Strategy, Trouble

log = logging.getLogger(__name__)


LAST_COMMIT = 8.0
"""Seconds, at most, that a shutdown waits for what is on its way into the store; what does not get there is fetched again."""


class Supervisor:
    """Keeps the committer and one keeper for each job that has something to do. ``fatal`` is set when the daemon must end."""

    def __init__(self, accounts: Mapping[str, Account], workshop: Workshop, slots: int) -> None:
        self.accounts = accounts
        self.fatal: asyncio.Future[Fatal] = asyncio.get_running_loop().create_future()
        self._workshop = workshop
        self._state = workshop.state
        self._slots = Slots(slots)
        self._keepers: dict[int, JobKeeper] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._committer: asyncio.Task[None] | None = None
        self._chores: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Adopt what a crash left behind, then go on with every job that was at work."""
        await self._workshop.ingest.recover()
        self._committer = asyncio.create_task(self._workshop.ingest.run(), name="ingest")
        self._committer.add_done_callback(self._ended)
        for status in (JobStatus.RUNNING, JobStatus.PENDING, JobStatus.COMPLETED):
            for job in await self._every(status):
                if status is JobStatus.RUNNING or (job.queued if status is JobStatus.PENDING else job.live):
                    await self.keep(job)

    async def stop(self) -> None:
        """End every task: the jobs first, and when what they had passed on is stored, the committer."""
        for task in (*self._chores, *self._tasks.values()):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=LAST_COMMIT)
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.gather(self._committer, return_exceptions=True)
        await asyncio.gather(*(account.close() for account in self.accounts.values()), return_exceptions=True)

    async def keep(self, job: Job) -> None:
        """Give the job a keeper; a job whose account is no longer configured fails, saying so."""
        account = self.accounts.get(job.account_name)
        if account is None or account.number != job.account:
            trouble = Trouble(
                "configuration",
                f"The account {job.account_name!r} of job {job.id} is no longer configured.",
                "Put the account back into the configuration, or delete the job.",
                self._workshop.clock.now_ms(),
            )
            await self._state.move_job(job.number, JobStatus.FAILED, error=trouble)
            log.error("job %s failed: %s", job.id, trouble.message, extra={"event": "job.failed", "job": job.id})
            return
        await self.let_go(job)
        keeper = JobKeeper(job, account, self._workshop, self._slots)
        task = asyncio.create_task(keeper.run(), name=f"job {job.id}")
        self._keepers[job.number] = keeper
        self._tasks[job.number] = task
        task.add_done_callback(self._ended)

    def keeper(self, job: int) -> JobKeeper | None:
        """The keeper of a job that is at work or watching."""
        task = self._tasks.get(job)
        return None if task is None or task.done() else self._keepers[job]

    async def let_go(self, job: Job) -> None:
        """End the job's keeper, if it has one."""
        task = self._tasks.pop(job.number, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def tend(self, name: str, chore: Callable[[], Awaitable[object]], every: float) -> None:
        """Do a chore now and every so many seconds. One that fails is logged and done again next time."""
        task = asyncio.create_task(self._tend(name, chore, every), name=name)
        task.add_done_callback(self._ended)
        self._chores.append(task)

    async def _tend(self, name: str, chore: Callable[[], Awaitable[object]], every: float) -> None:
        while True:
            try:
                await chore()
            except Transient as error:
                log.warning("%s was put off: %s", name, error, extra={"event": "chore.failed"})
            await self._workshop.clock.sleep(every)

    def comparison(self, account: Account, strategy: Strategy, priority: int) -> Comparison:
        """A comparison for nobody: what a job of that strategy would want."""
        return Comparison(strategy, account, self._workshop, job=None, priority=priority)

    async def discard(self, paths: Sequence[str]) -> None:
        """Remove files that the ledger has let go of."""
        for path in paths:
            await self._workshop.store.remove(path)

    async def _every(self, status: JobStatus) -> list[Job]:
        jobs: list[Job] = []
        page = await self._state.jobs(status=status)
        while page:
            jobs.extend(page)
            page = await self._state.jobs(status=status, after=page[-1].id)
        return jobs

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None or self.fatal.done():
            return
        if not isinstance(error, Fatal):
            log.error("%s ended; this is a defect of hauld", task.get_name(), exc_info=error, extra={"event": "task.broke"})
            error = Fatal("internal", f"{task.get_name()} ended: {type(error).__name__}: {error}")
        self.fatal.set_result(error)
