"""What runs: the only place that makes tasks which outlive the call that asked for them.

The committer and the chores are the daemon's. Each account has a keeper for each of its jobs that has something to do, and,
while one of these is live, a listener. What one account does, and how it fails, is its own business: see ``tasks`` for what
happens to a task that breaks, ``hosts`` for origins that do not answer, ``account`` for how it is.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hauld.engine.account import Account
from hauld.engine.comparison import Comparison
from hauld.engine.copies import Copies
from hauld.engine.findings import Asked, Findings
from hauld.engine.hosts import Hosts
from hauld.engine.job import JobKeeper
from hauld.engine.limits import Slots
from hauld.engine.listener import Listener
from hauld.engine.pieces import every_job
from hauld.engine.rebuild import rebuild
from hauld.engine.tasks import Supervised, Tasks
from hauld.engine.verify import Verifier
from hauld.engine.waking import Instant, instant, unnoticed
from hauld.engine.workshop import Workshop
from hauld.errors import Fatal, Refused, Transient
from hauld.memory import give_back
from hauld.model import Job, JobStatus, Strategy, Trouble

log = logging.getLogger(__name__)

DAY = 24 * 3600.0
HOUR = 3600.0
MINUTE = 60.0
"""Seconds."""

BEAT = 5.0
"""Seconds between two looks at the clocks."""

SPREAD = 10.0
"""Seconds over which the listeners come back when all of them have to connect again."""

REMOVAL = 5.0
"""Seconds, at most, until an account that is removed or replaced does nothing more; a connection that is stuck is cut off."""

LETTING_GO = 30.0
"""Seconds, at most, that who stops a job waits for what of it is being stored."""

LAST_COMMIT = 8.0
"""Seconds, at most, that a shutdown waits for what is on its way into the store; what does not get there is fetched again."""


@dataclass(frozen=True)
class _Kept:
    """A job that has something to do."""

    keeper: JobKeeper
    account: Account
    task: Supervised


class Supervisor:
    """Keeps the committer, the keepers, the listeners and the chores. ``fatal`` is set when the daemon must end. ``copies`` is
    to be told of changes that files cannot tell. ``accounts`` are those of now, by name."""

    def __init__(self, accounts: Mapping[str, Account], workshop: Workshop, slots: int) -> None:
        self.accounts = dict(accounts)
        self.fatal: asyncio.Future[Fatal] = asyncio.get_running_loop().create_future()
        self.copies = Copies(workshop.state, workshop.clock)
        self.verifier = Verifier(self.accounts, workshop, self)
        self._workshop = workshop
        self._state = workshop.state
        self._slots = Slots(slots)
        self._hosts = Hosts(workshop.clock, workshop.policy)
        self._tasks = Tasks(workshop.clock, workshop.policy, self._cannot_go_on)
        self._kept: dict[int, _Kept] = {}
        self._listening: dict[str, Supervised] = {}
        self._committer: Supervised | None = None
        self._stopping = False
        self._changed: dict[str, Account] = {}
        self._has_changed = asyncio.Event()
        self._last_beat: Instant | None = None
        for account in self.accounts.values():
            account.join(self._hosts, self._note_change)

    # --- from start to stop ---

    async def start(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Adopt what a crash left behind, give every stored file its row, then go on with every job that was at work. ``say``
        takes a line for people while that takes long. After ``Transient`` it can be called again.

        Adopting comes first: it gives what was on its way its final name, and there the rebuilding finds it.
        """
        await self._workshop.ingest.recover()
        await rebuild(self._state, self._workshop.store, say)
        if self._committer is None:
            # Not begun again after a defect: nobody knows then which files have their rows. A restart of the daemon finds out.
            self._committer = self._tasks.begin("ingest", self._workshop.ingest.run, most=0)
        await self._keep_jobs(None)
        self._tasks.begin("copying the ledger after changes", self.copies.run)
        self._tasks.begin("telling how accounts are", self._tell_changes)

    def do_chores(self) -> None:
        """From now on look the ledger through, if that is due, copy it daily, verify weekly, keep an eye on the clocks, and
        keep no memory for nothing."""
        self.tend("looking the ledger through", self._state.look_through, DAY)
        self.tend("copying the ledger", self._state.save_copy, DAY, first=MINUTE)
        self.tend("verifying what is stored", self.verifier.run_when_due, 6 * HOUR, first=HOUR)
        self.tend("looking at the clocks", self._beat, BEAT)
        self.tend("giving memory back", self._give_memory_back, MINUTE, first=MINUTE)

    async def stop(self) -> None:
        """End every task: the jobs first, and when what they had passed on is stored, the committer."""
        self._stopping = True
        clock = self._workshop.clock
        end = clock.monotonic() + LAST_COMMIT
        sessions = [account.close() for account in self.accounts.values()]
        await asyncio.gather(
            self._tasks.end([task for task in self._tasks.all if task is not self._committer], LAST_COMMIT),
            *sessions,
            return_exceptions=True,
        )
        if self._committer is not None:
            await self._tasks.end([self._committer], max(1.0, end - clock.monotonic()))
        await self.copies.finish()

    def pulse(self) -> str | None:
        """Why the supervisor seems to be stuck; None while it is well, before it begins and while it stops."""
        if self._stopping or self._last_beat is None or (late := instant().monotonic - self._last_beat.monotonic) < 4 * BEAT:
            return None
        return f"the supervisor has not looked at the clocks for {late:.0f} s"

    def _cannot_go_on(self, error: Fatal) -> None:
        if not self.fatal.done():
            self.fatal.set_result(error)

    # --- accounts ---

    async def add(self, account: Account) -> None:
        """The account is there from now on, and its jobs that were at work or watching go on."""
        self.accounts[account.settings.name] = account
        account.join(self._hosts, self._note_change)
        await self._keep_jobs(account.number)

    async def remove(self, name: str) -> None:
        """The account is no longer configured: what it does ends, within ``REMOVAL`` seconds, its jobs that were at work or
        watching are failed and say so, and its files and rows stay."""
        for kept in await self._end_all(self.accounts.pop(name)):
            known = kept.keeper.job.id
            try:
                job = await self._state.job(known)
                if is_at_work(job):
                    await self._fail_without_account(job)
            except (Refused, Transient) as error:  # it has just been deleted, or the next start fails it
                log.warning("job %s could not be failed: %s", known, error, extra={"event": "job.unsettled", "job": known})

    async def replace(self, account: Account) -> None:
        """The account of the same name and identity has other settings: all it does ends, within ``REMOVAL`` seconds, and
        begins again with them; no job is failed."""
        before = self.accounts[account.settings.name]
        self.accounts[account.settings.name] = account
        await self._end_all(before)
        account.items_per_second = before.items_per_second
        await self.add(account)

    async def _end_all(self, account: Account) -> list[_Kept]:
        """Nothing more is done for the account, which is not among ``accounts`` any more; the jobs that were kept."""
        kept = [each for each in self._kept.values() if each.account is account]
        await asyncio.gather(self._tasks.end(self._tasks.of(account.settings.name), REMOVAL), account.close())
        return kept

    def _note_change(self, account: Account) -> None:
        self._changed[account.settings.name] = account
        self._has_changed.set()

    async def _tell_changes(self) -> None:
        """Events of how the accounts are. What changes while one is written is told with the next."""
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            changed, self._changed = self._changed, {}
            try:
                await self._state.tell_accounts([(name, each.state, each.trouble) for name, each in changed.items()])
            except Transient:
                self._changed = changed | self._changed
                self._has_changed.set()
                await self._workshop.clock.sleep(MINUTE)

    # --- jobs ---

    async def keep(self, job: Job) -> None:
        """Give the job a keeper; a job whose account is no longer configured fails, saying so."""
        account = self._account_of(job)
        if account is None:
            await self._fail_without_account(job)
            return
        await self._let_go(job)
        keeper = JobKeeper(job, account, self._workshop, self._slots)
        task = self._tasks.begin(
            f"job {job.id}",
            keeper.run,
            owner=account.settings.name,
            gave_up=functools.partial(self._give_up, keeper, account),
            over=functools.partial(self._over, keeper, account),
        )
        self._kept[job.number] = _Kept(keeper, account, task)
        self._listen_or_not(account)

    async def resume(self, job: Job) -> Job:
        """The job is pending and has a keeper; what its account was blamed for is forgiven."""
        account = self._account_of(job)
        if account is None:
            raise Refused("not_found", f"The account {job.account_name!r} of job {job.id} is no longer configured.")
        async with self.stopped(job):
            job = await self._state.move_job(job.number, JobStatus.PENDING)
        account.forgive()
        await self.keep(job)
        return job

    def keeper(self, job: int) -> JobKeeper | None:
        """The keeper of a job that is at work or watching."""
        kept = self._kept.get(job)
        return None if kept is None or kept.task.over else kept.keeper

    @asynccontextmanager
    async def stopped(self, job: Job) -> AsyncIterator[None]:
        """The job's keeper has ended, so that somebody can move the job; where he cannot, it is kept as before."""
        kept = self._kept.get(job.number)
        await self._let_go(job)
        try:
            yield
        except BaseException:
            if kept is not None:
                await self._keep_again(kept.keeper.job)
            raise

    async def _keep_again(self, job: Job) -> None:
        """As the ledger knows it, or where that cannot be read, as its keeper last did."""
        try:
            job = await self._state.job(job.id)
        except Refused:
            return  # it is gone
        except Transient:
            pass
        if is_at_work(job) and self._account_of(job) is not None and self.keeper(job.number) is None and not self._stopping:
            await self.keep(job)

    async def _let_go(self, job: Job) -> None:
        """End the job's keeper, if it has one."""
        kept = self._kept.pop(job.number, None)
        if kept is not None:
            await self._tasks.end([kept.task], LETTING_GO)

    def _account_of(self, job: Job) -> Account | None:
        account = self.accounts.get(job.account_name)
        return account if account is not None and account.number == job.account else None

    async def _keep_jobs(self, account: int | None) -> None:
        """Go on with the jobs that were at work or watching, of that account or of all."""
        for status in (JobStatus.RUNNING, JobStatus.PENDING, JobStatus.COMPLETED):
            for job in await every_job(self._state, status=status, account=account):
                if is_at_work(job):
                    await self.keep(job)

    async def _fail_without_account(self, job: Job) -> None:
        trouble = Trouble(
            "configuration",
            f"The account {job.account_name!r} of job {job.id} is no longer configured.",
            "Put the account back into the configuration, or delete the job.",
            self._workshop.clock.now_ms(),
        )
        await self._state.move_job(job.number, JobStatus.FAILED, error=trouble)
        log.error("job %s failed: %s", job.id, trouble.message, extra={"event": "job.failed", "job": job.id})

    async def _give_up(self, keeper: JobKeeper, account: Account, trouble: Trouble) -> None:
        account.broke(trouble)
        await keeper.give_up(trouble)

    def _over(self, keeper: JobKeeper, account: Account) -> None:
        kept = self._kept.get(keeper.job.number)
        if kept is not None and kept.keeper is keeper:
            del self._kept[keeper.job.number]
        keeper.turn_away()
        self._listen_or_not(account)

    # --- listening ---

    def _listen_or_not(self, account: Account) -> None:
        """An account has a listener while a job of it is live."""
        name = account.settings.name
        wanted = self.accounts.get(name) is account and not self._stopping and bool(self._live(account))
        listening = self._listening.get(name)
        if not wanted:
            if listening is not None and self.accounts.get(name) in (account, None):
                listening.task.cancel()
        elif listening is None or listening.over:
            self._listen(account)

    def _listen(self, account: Account, first: float = 0.0) -> None:
        """Listen, ``first`` seconds from now."""
        listener = Listener(account, self._workshop, functools.partial(self._at_work, account))
        account.listeners.append(listener)

        async def listen() -> None:
            await self._workshop.clock.sleep(first)
            await listener.run()

        given_up = False

        async def give_up(trouble: Trouble) -> None:
            nonlocal given_up
            given_up = True
            account.broke(trouble)

        def over() -> None:
            account.listeners.remove(listener)
            if not given_up:  # one may be wanted again that was told to end because none was
                self._listen_or_not(account)

        name = account.settings.name
        self._listening[name] = self._tasks.begin(f"listener of {name}", listen, owner=name, gave_up=give_up, over=over)

    def _live(self, account: Account) -> list[JobKeeper]:
        """The keepers of the account's live jobs."""
        mine = [each for each in self._kept.values() if each.account is account and not each.task.over]
        return [each.keeper for each in mine if each.keeper.job.live]

    def _at_work(self, account: Account) -> list[JobKeeper]:
        """Those of them that run or watch, and do not wait for a first slot."""
        return [each for each in self._live(account) if each.job.status is not JobStatus.PENDING]

    # --- chores ---

    def verify(self, asked: Asked) -> Findings:
        """Begin a verification, which goes on whoever asked for it; its findings grow. ``Refused`` while another one runs."""
        findings = self.verifier.begin(asked)
        self._tasks.begin("verification", functools.partial(self.verifier.run, findings), most=0)
        return findings

    def limit_jobs(self, slots: int) -> None:
        """So many imports at once from now on; those that are at work go on."""
        self._slots.resize(slots)

    def tend(self, name: str, chore: Callable[[], Awaitable[object]], every: float, *, first: float = 0.0) -> None:
        """Do a chore every so many seconds, for the first time after ``first``. One that fails is logged and done again next
        time."""
        self._tasks.begin(name, functools.partial(self._tend, name, chore, every, first))

    async def _tend(self, name: str, chore: Callable[[], Awaitable[object]], every: float, first: float) -> None:
        await self._workshop.clock.sleep(first)
        while True:
            try:
                await chore()
            except Transient as error:
                log.warning("%s was put off: %s", name, error, extra={"event": "chore.failed"})
            await self._workshop.clock.sleep(every)

    async def _beat(self) -> None:
        before, self._last_beat = self._last_beat, instant()
        if before is not None and (why := unnoticed(before, self._last_beat, BEAT)) is not None:
            await self.awake(why)

    async def _give_memory_back(self) -> None:
        if self._workshop.budget.free == self._workshop.budget.limit:  # nothing is being fetched
            give_back()

    async def awake(self, why: str) -> None:
        """Time has passed unnoticed, and connections that were idle may be dead without having said so: they are dropped, and
        the listeners connect again, not all at once."""
        log.info("%s: idle connections are opened again", why, extra={"event": "daemon.awake"})
        for account in self.accounts.values():
            listening = self._listening.get(account.settings.name)
            if listening is not None and not listening.over:
                listening.task.cancel()
                self._listen(account, random.uniform(0.0, SPREAD))  # noqa: S311 - nothing secret
        await asyncio.gather(*(account.drop_idle() for account in self.accounts.values()))

    def comparison(self, account: Account, strategy: Strategy, priority: int) -> Comparison:
        """A comparison for nobody: what a job of that strategy would want."""
        return Comparison(strategy, account, self._workshop, job=None, priority=priority)

    async def discard(self, paths: Sequence[str]) -> None:
        """Remove files that the ledger has let go of."""
        await self._workshop.ingest.discard(paths)


def is_at_work(job: Job) -> bool:
    """Whether there is something to do for the job, without anybody asking."""
    if job.status is JobStatus.PENDING:
        return job.queued
    return job.status is JobStatus.RUNNING or (job.status is JobStatus.COMPLETED and job.live)
