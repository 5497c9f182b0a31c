"""The life of one job: it waits for a slot, runs until nothing it wants is missing, and, when live, compares again and again.

What is transient never fails a job: it waits, says why and until when, and goes on. What needs a person fails it, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hauld.engine.account import Account
from hauld.engine.comparison import Comparison
from hauld.engine.downloader import Downloader
from hauld.engine.limits import FreeTurn, Slots, SlotTurn
from hauld.engine.progress import Meter
from hauld.engine.schedule import Schedule
from hauld.engine.workshop import Workshop
from hauld.errors import Fatal, HaulError, NeedsAttention, Refused, Transient
from hauld.model import Folder, Job, JobStatus, Phase, Trouble
from hauld.retry import LOCAL, decide

log = logging.getLogger(__name__)


class JobKeeper:
    """Keeps one job. ``run`` ends when there is nothing more to do for it until somebody starts it again; it can be called
    again after a defect. ``untold`` is why it waits, where the ledger could not be told."""

    def __init__(self, job: Job, account: Account, workshop: Workshop, slots: Slots) -> None:
        self.job = job
        self.meter = Meter(workshop.clock)
        self.untold: Trouble | None = None
        self._account = account
        self._workshop = workshop
        self._state = workshop.state
        self._slots = slots
        self._downloader: Downloader | None = None
        self._turn: SlotTurn | FreeTurn = FreeTurn()
        self._schedule = Schedule(account, workshop.clock)
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._everything = False  # whether every folder is to be compared, due or not
        self._asking: list[asyncio.Future[None]] = []
        self._asked: list[asyncio.Future[None]] = []

    @property
    def in_progress(self) -> int:
        """Items being fetched right now."""
        return self._downloader.in_progress if self._downloader is not None else 0

    async def run(self) -> None:
        """Import, then watch while the job is live and well."""
        self._turn = FreeTurn()
        try:
            if self.job.status in (JobStatus.PENDING, JobStatus.RUNNING):
                async with self._slots.slot(self.job.priority) as self._turn:
                    await self._import()
                self._turn = FreeTurn()
            while self.job.live and self.job.status is JobStatus.COMPLETED:
                await self._until_due()
                await self._persist()
        finally:
            self.turn_away()

    def turn_away(self) -> None:
        """Nothing is compared any more: those who still wait for that are told."""
        self._answer(Refused("try_again", f"Job {self.job.id} stopped before the comparison was over."), everybody=True)

    async def give_up(self, trouble: Trouble) -> None:
        """It broke again and again: the job is failed."""
        log.error("job %s failed: %s", self.job.id, trouble.message, extra={"event": "job.failed", "job": self.job.id})
        with contextlib.suppress(Refused):  # it has ended, or is gone
            await self._move(JobStatus.FAILED, error=trouble)

    async def sync(self) -> None:
        """Compare every folder now; returns when that is done, and raises why it could not be done. One that has begun already
        does not count. A job that is importing is not waited for: it compares again when it is through."""
        asker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking.append(asker)
        self._wake.set()
        try:
            if (await self._state.job(self.job.id)).status is not JobStatus.RUNNING:
                await asker
        finally:
            asker.cancel()

    # --- what a listener says ---

    def wants(self, folder: Folder) -> bool:
        """Whether the job, at work or watching, is to have what is new in the folder."""
        at_work = self.job.live and self.job.status in (JobStatus.RUNNING, JobStatus.COMPLETED)
        return at_work and self._account.wants(folder) and self.job.strategy.selects(folder.name)

    def notice(self, folder: int, *, at_once: bool) -> None:
        """Something has changed in the folder, by number: it is to be compared, at once or when there was some rest. A job that
        is importing does so when it is through."""
        self._schedule.notice(folder, at_once=at_once)
        self._news.set()

    async def synced(self) -> None:
        """All that is new was found and stored: that is as good as a comparison."""
        if self.job.status is JobStatus.COMPLETED:
            with contextlib.suppress(Refused):  # it is gone
                await self._state.synced(self.job.number)

    def reckon_again(self) -> None:
        """The origin tells news of a folder by itself from now on, or does not any more."""
        self._news.set()

    # --- giving way, as its downloads do between batches ---

    @property
    def wanted(self) -> bool:
        """Whether a more urgent job waits for this one's slot."""
        return self._turn.wanted

    async def give_way(self) -> None:
        """Let a more urgent job have the slot, and say so."""
        if not self.wanted:
            return
        await self._say_it_waits("A more urgent job goes first.")
        await self._turn.give_way()
        await self._tell(Phase.DOWNLOADING)

    # --- the main path ---

    async def _import(self) -> None:
        if self.job.status is JobStatus.PENDING:
            await self._move(JobStatus.RUNNING, phase=Phase.CONNECTING)
        log.info(
            "job %s: import of account %s begins",
            self.job.id,
            self._account.settings.name,
            extra={"event": "job.running", "job": self.job.id},
        )
        await self._persist()

    async def _persist(self) -> None:
        """One comparison with the downloads it asks for, tried until it is done or a person is needed."""
        failures = 0
        self._everything = False
        while True:
            self._hear()
            self._downloader = None
            try:
                await self._reach()
                await self._once()
            except HaulError as error:
                if isinstance(error, Fatal):
                    raise
                failures = 1 if self._downloader is not None and self._downloader.got_on else failures + 1
                self._answer(error)
                if not await self._patience(error, failures):
                    return
            else:
                return

    async def _reach(self) -> None:
        """Have an origin that answers, and the right to work. Who waits for the one leaves the other to those who can work."""
        if not self._account.reachable:
            self._turn.leave()
            await self._account.reach(self.job.priority)
        if self._turn.must_wait:
            await self._say_it_waits("Other jobs go first.")
        await self._turn.take()

    async def _once(self) -> None:
        self._hear()
        if self.job.status is JobStatus.RUNNING:
            await self._probe()
        comparison = Comparison(self.job.strategy, self._account, self._workshop, job=self.job, priority=self.job.priority)
        await self._tell(Phase.LISTING)
        started = self._workshop.clock.monotonic()
        compared = await comparison.run(lambda folder: self._everything or self._schedule.is_due(folder))
        self._schedule.compared(started, compared, comparison.selected)
        if await self._is_missing_some():
            await self._download(comparison)
        await self._complete(comparison)
        with contextlib.suppress(Transient):  # this job has all that it wants, and does not mind
            await self._probe()
        self._workshop.machine.works()
        self._answer(None)

    async def _probe(self) -> None:
        """Where something could not be stored, look before anything is fetched again whether it could be now."""
        if self._workshop.machine.troubled:
            await self._workshop.store.probe()
            self._workshop.machine.probed()

    async def _is_missing_some(self) -> bool:
        """Whether anything is to be fetched. What a listener is bringing home just now is not, while the job watches."""
        async with self._account.looking if self.job.status is JobStatus.COMPLETED else contextlib.nullcontext():
            return (await self._state.counters(self.job.number)).remaining > 0

    async def _download(self, comparison: Comparison) -> None:
        if self.job.status is JobStatus.COMPLETED:
            self.job = await self._state.move_job(self.job.number, JobStatus.RUNNING, phase=Phase.DOWNLOADING)
        await self._tell(Phase.DOWNLOADING)
        self._answer(None, everybody=True)
        await self._probe()
        self._downloader = Downloader(self.job, self._account, self._workshop, comparison, self.meter, self)
        await self._downloader.run()

    async def _complete(self, comparison: Comparison) -> None:
        left = [folder for folder in comparison.folders.values() if folder.error is not None]  # was not due now
        trouble = unreadable([*comparison.unreadable, *left])
        if self.job.status is JobStatus.COMPLETED:
            self.job = await self._state.compared(self.job.number, trouble)
            return
        self.job = await self._state.move_job(self.job.number, JobStatus.COMPLETED, error=trouble)
        counters = await self._state.counters(self.job.number)
        log.info(
            "job %s: complete; %d downloaded now, %d wanted in all, %d failed",
            self.job.id,
            self._downloader.stored if self._downloader is not None else 0,
            counters.total,
            counters.failed,
            extra={"event": "job.completed", "job": self.job.id},
        )

    # --- waiting ---

    async def _patience(self, error: HaulError, failures: int) -> bool:
        """Wait until it is worth trying again; False when a person has to act first, and the job is failed."""
        if isinstance(error, NeedsAttention):
            self._account.sign_in_failures += 1
            failures = self._account.sign_in_failures
        delay = decide(error, failures, self._workshop.policy, random.random)
        retry_at = None if delay is None else self._workshop.clock.now_ms() + int(delay * 1000)
        if isinstance(error, Transient) and error.kind in LOCAL:
            trouble = self._workshop.machine.failed(error, retry_at)
        else:
            trouble = self._account.failed(error, retry_at)
        if delay is None:
            hint = f"{trouble.hint or 'Mend that.'} Then: haulctl start {self.job.id}"
            await self._move(JobStatus.FAILED, error=replace(trouble, hint=hint))
            log.error("job %s failed: %s", self.job.id, error, extra={"event": "job.failed", "job": self.job.id})
            return False
        if self.job.status is JobStatus.RUNNING:
            self.untold = trouble
            with contextlib.suppress(Transient):  # that it waits cannot be written down just now; it waits all the same
                await self._state.set_phase(self.job.number, Phase.WAITING, trouble)
                self.untold = None
        self._turn.leave()
        await self._pause(delay)
        return True

    async def _until_due(self) -> None:
        """Wait for the first folder that is due, or until somebody asks for a comparison."""
        while not self._wake.is_set():
            self._news.clear()
            if (seconds := self._schedule.seconds()) <= 0:
                return
            await self._pause(seconds, self._news)

    async def _move(self, to: JobStatus, *, phase: Phase | None = None, error: Trouble | None = None) -> None:
        """A transition that has to be written down, however long the disk refuses."""
        failures = 0
        while True:
            try:
                self.job = await self._state.move_job(self.job.number, to, phase=phase, error=error)
            except Transient as trouble:
                failures += 1
                self._workshop.machine.failed(trouble)
                await self._workshop.clock.sleep(decide(trouble, failures, self._workshop.policy, random.random) or 0.0)
            else:
                return

    async def _pause(self, seconds: float, *reasons: asyncio.Event) -> None:
        """Wait that long, or until somebody asks for a comparison, or for one of these reasons."""
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait()) for event in (self._wake, *reasons)]
        waiting.append(asyncio.ensure_future(self._workshop.clock.sleep(seconds)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    # --- telling ---

    async def _say_it_waits(self, why: str) -> None:
        trouble = Trouble("slot", why, None, self._workshop.clock.now_ms())
        await self._state.set_phase(self.job.number, Phase.WAITING, trouble)
        self.untold = None

    async def _tell(self, phase: Phase) -> None:
        if self.job.status is JobStatus.RUNNING:
            await self._state.set_phase(self.job.number, phase)
            self.untold = None

    def _hear(self) -> None:
        """Whoever has asked for a comparison until now is answered by the one that begins."""
        self._everything |= self._wake.is_set() or self.job.status is JobStatus.RUNNING
        self._wake.clear()
        self._asked += self._asking
        self._asking.clear()

    def _answer(self, error: HaulError | None, *, everybody: bool = False) -> None:
        """Tell those who asked before the comparison began how it went, or ``everybody`` who waits."""
        asked, self._asked = self._asked, []
        if everybody:
            asked += self._asking
            self._asking = []
        for asker in asked:
            if asker.done():
                continue
            if error is None:
                asker.set_result(None)
            else:
                asker.set_exception(error)


def unreadable(folders: Iterable[Folder]) -> Trouble | None:
    """What to say of a job whose other folders are complete."""
    names = [folder.name for folder in folders]
    if not names:
        return None
    listed = ", ".join(repr(name) for name in names[:5]) + (" and others" if len(names) > 5 else "")
    return Trouble(
        "folder", f"{len(names)} of the account's folders could not be read: {listed}.", "See `haulctl folders JOB`."
    )
