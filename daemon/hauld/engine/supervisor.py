"""Which jobs run: the only place that makes tasks which outlive the call that asked for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

from hauld.engine.account import Account
from hauld.engine.comparison import Comparison
from hauld.engine.copies import Copies
from hauld.engine.findings import Asked, Findings
from hauld.engine.job import JobKeeper
from hauld.engine.limits import Slots
from hauld.engine.pieces import every_job
from hauld.engine.rebuild import rebuild
from hauld.engine.verify import Verifier
from hauld.engine.workshop import Workshop
from hauld.errors import Fatal, Refused, Transient
from hauld.model import Job, JobStatus, Strategy, Trouble

log = logging.getLogger(__name__)

DAY = 24 * 3600.0
HOUR = 3600.0
MINUTE = 60.0
"""Seconds."""

LAST_COMMIT = 8.0
"""Seconds, at most, that a shutdown waits for what is on its way into the store; what does not get there is fetched again."""


class Supervisor:
    """Keeps the committer, one keeper for each job that has something to do, and the chores. ``fatal`` is set when the daemon
    must end. ``copies`` is to be told of changes that files cannot tell."""

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
        self.copies = Copies(self._state, workshop.clock)
        self.verifier = Verifier(accounts, workshop, self)
        self._verification: asyncio.Task[None] | None = None

    async def start(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Adopt what a crash left behind, give every stored file its row, then go on with every job that was at work. ``say``
        takes a line for people while that takes long. After ``Transient`` it can be called again.

        Adopting comes first: it gives what was on its way its final name, and there the rebuilding finds it.
        """
        await self._workshop.ingest.recover()
        await rebuild(self._state, self._workshop.store, say)
        if self._committer is None:
            self._committer = asyncio.create_task(self._workshop.ingest.run(), name="ingest")
            self._committer.add_done_callback(self._ended)
        for status in (JobStatus.RUNNING, JobStatus.PENDING, JobStatus.COMPLETED):
            for job in await every_job(self._state, status=status):
                if status is JobStatus.RUNNING or (job.queued if status is JobStatus.PENDING else job.live):
                    await self.keep(job)
        self._own("copying the ledger after changes", self.copies.run())

    def do_chores(self) -> None:
        """Look the ledger through, if that is due, copy it daily, and verify weekly, from now on."""
        self.tend("looking the ledger through", self._state.look_through, DAY)
        self.tend("copying the ledger", self._state.save_copy, DAY, first=MINUTE)
        self.tend("verifying what is stored", self.verifier.run_when_due, 6 * HOUR, first=HOUR)

    async def stop(self) -> None:
        """End every task: the jobs first, and when what they had passed on is stored, the committer."""
        ending = [*self._chores, *self._tasks.values()]
        if self._verification is not None:
            ending.append(self._verification)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending, timeout=LAST_COMMIT)
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.gather(self._committer, return_exceptions=True)
        await self.copies.finish()
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

    async def resume(self, job: Job) -> Job:
        """The job is pending and has a keeper; what its account was blamed for is forgiven."""
        account = self.accounts.get(job.account_name)
        if account is None or account.number != job.account:
            raise Refused("not_found", f"The account {job.account_name!r} of job {job.id} is no longer configured.")
        await self.let_go(job)
        account.forgive()
        job = await self._state.move_job(job.number, JobStatus.PENDING)
        await self.keep(job)
        return job

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

    def verify(self, asked: Asked) -> Findings:
        """Begin a verification, which goes on whoever asked for it; its findings grow. ``Refused`` while another one runs."""
        findings = self.verifier.begin(asked)
        self._verification = asyncio.create_task(self.verifier.run(findings), name="verification")
        self._verification.add_done_callback(self._ended)
        return findings

    def tend(self, name: str, chore: Callable[[], Awaitable[object]], every: float, *, first: float = 0.0) -> None:
        """Do a chore every so many seconds, for the first time after ``first``. One that fails is logged and done again next
        time."""
        self._own(name, self._tend(name, chore, every, first))

    def _own(self, name: str, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._chores.append(task)

    async def _tend(self, name: str, chore: Callable[[], Awaitable[object]], every: float, first: float) -> None:
        await self._workshop.clock.sleep(first)
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
