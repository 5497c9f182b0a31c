"""Jobs that the configuration declares (``mirror``): there without anybody making them, at work as long as it says so.

A declared job is found again by its requester, its account and its strategy. The configuration starts a job that it stopped
itself, which is one that is paused or failed for a reason of kind ``configuration``; a person's pause has no reason, and what
a person paused or cancelled stays so until it is declared anew. One that failed otherwise is started when its account changes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

import msgspec

from hauld.clock import Clock
from hauld.engine.account import Account
from hauld.engine.pieces import every_job
from hauld.engine.supervisor import Supervisor
from hauld.errors import Refused
from hauld.model import Job, JobStatus, Priority, Strategy, Trouble
from hauld.state.base import State

log = logging.getLogger(__name__)

REQUESTER = "configuration"
"""Who asks for a declared job; nobody else may ask in this name."""

CHANGED = frozenset({JobStatus.FAILED})
DECLARED_ANEW = frozenset({JobStatus.FAILED, JobStatus.PAUSED, JobStatus.CANCELLED})
"""From which statuses a declared job is started when its account has changed in some way, or in its very ``mirror``."""

KIND = "configuration"
"""The kind of the reason for which the configuration stops a job; that of an account which is no longer configured, too."""


class Declared:
    """Keeps the jobs as they are declared."""

    def __init__(self, supervisor: Supervisor, state: State, clock: Clock) -> None:
        self._supervisor = supervisor
        self._state = state
        self._clock = clock

    async def apply(self, declared: Mapping[str, Strategy | None], *, started: Collection[JobStatus] = ()) -> None:
        """Of each of these accounts, by name, the job of that strategy is there and goes on, and no other declared one does.
        From the statuses ``started`` it is started whoever stopped it."""
        jobs = [job for job in await every_job(self._state) if job.requester == REQUESTER]
        for name, strategy in declared.items():
            account = self._supervisor.accounts[name]
            own = [job for job in jobs if job.account == account.number]
            await self._pause(job for job in own if job.strategy != strategy)
            if strategy is None:
                continue
            there = [job for job in own if job.strategy == strategy]
            if not there:
                await self._make(account, strategy)
            elif there[0].status in started or _stopped_by_configuration(there[0]):
                await self._resume(there[0])

    async def _make(self, account: Account, strategy: Strategy) -> None:
        """The key keeps it one job, whatever happens between looking and making."""
        job, new = await self._state.create_job(
            account.number,
            strategy,
            live=True,
            priority=Priority.NORMAL,
            requester=REQUESTER,
            start=True,
            idempotency_key=f"{REQUESTER} {msgspec.json.encode(strategy).decode()}",
        )
        if new:
            log.info(
                "made job %s, which the configuration declares for account %s",
                job.id,
                account.settings.name,
                extra={"event": "job.declared", "job": job.id, "account": account.settings.name},
            )
            self._supervisor.copies.changed()
            await self._supervisor.keep(job)

    async def _resume(self, job: Job) -> None:
        log.info("job %s goes on, as the configuration declares it", job.id, extra={"event": "job.declared", "job": job.id})
        self._supervisor.copies.changed()
        await self._supervisor.resume(job)

    async def _pause(self, jobs: Iterable[Job]) -> None:
        """Stop those that are at work or watching; what they have stored stays."""
        for job in jobs:
            if job.status not in (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.COMPLETED):
                continue
            reason = Trouble(
                KIND,
                f"The configuration no longer declares this job: 'mirror' of account {job.account_name!r} is another, or gone.",
                f"What it has stored stays. To go on by hand: haulctl start {job.id}. To forget it: haulctl delete {job.id}",
                self._clock.now_ms(),
            )
            try:
                async with self._supervisor.stopped(job):
                    await self._state.move_job(job.number, JobStatus.PAUSED, error=reason)
            except Refused:
                continue  # a person has stopped it meanwhile, which is as good
            log.info("job %s is paused: %s", job.id, reason.message, extra={"event": "job.undeclared", "job": job.id})
            self._supervisor.copies.changed()


def _stopped_by_configuration(job: Job) -> bool:
    stopped = job.status in (JobStatus.PAUSED, JobStatus.FAILED)
    return stopped and job.error is not None and job.error.kind == KIND
