"""Repairing what a verification found: stored items that are not whole are given up, where the origin still has them, and the
jobs that want them fetch them again.

A damaged file leaves its folder only when the origin's own list, taken now, still names the item; what nobody else has stays
where it is. Jobs that a person has stopped are not started; what that leaves undone is told.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from hauld.engine.account import Account
from hauld.engine.comparison import Comparison
from hauld.engine.findings import FolderFindings
from hauld.engine.job import JobKeeper
from hauld.engine.pieces import every_job
from hauld.engine.workshop import Workshop
from hauld.errors import Fatal, HaulError, Refused
from hauld.model import Folder, Job, JobStatus, Phase, Priority, Setback, StoredItem, Strategy

log = logging.getLogger(__name__)

ROWS = 200
"""Items looked at and given up at once."""

ROUNDS = 3
"""How often jobs are asked to go on with what is still not there: one that was just ending may miss the first time."""


class Jobs(Protocol):
    """What makes jobs go on."""

    def keeper(self, job: int) -> JobKeeper | None:
        """The keeper of a job that is at work or watching."""
        ...

    async def resume(self, job: Job) -> Job:
        """The job is pending and has a keeper."""
        ...


class Repair:
    """Repairs folders of one account. ``told`` is set whenever something was told; ``comparison`` is one that has listed the
    account's folders afresh already, or None."""

    def __init__(
        self, account: Account, workshop: Workshop, jobs: Jobs, told: asyncio.Event, comparison: Comparison | None
    ) -> None:
        self._account = account
        self._workshop = workshop
        self._state = workshop.state
        self._store = workshop.store
        self._jobs = jobs
        self._fresh = comparison is not None
        self._comparison = comparison or Comparison(Strategy(), account, workshop, job=None, priority=Priority.BACKGROUND)
        self._told = told

    async def run(self, folders: Sequence[FolderFindings]) -> None:
        """Give up what is broken and can be had again, wait until the jobs that want it are through or wait for something,
        and count what is whole again."""
        broken = [folder for folder in folders if folder.broken]
        if not broken and not any(folder.counters.remaining for folder in folders):
            return
        if broken and not self._fresh:
            await self._comparison.run(lambda _: False)
        for folder in broken:
            await self._give_up(folder)
        refusals = await self._have_jobs_go_on()
        for folder in broken:
            await self._count(folder)
        if any(folder.given_up for folder in broken):
            await self._explain(broken, refusals)

    # --- giving up ---

    async def _give_up(self, folder: FolderFindings) -> None:
        assert folder.folder is not None, "only what the ledger knows can be broken"
        at_origin = await self._listed(folder.folder)
        if at_origin is None:
            why = "the origin does not give the folder, or the configuration leaves it out"
            folder.notes.append(f"{folder.broken:,} of its items are not whole and cannot be fetched again: {why}.")
            return
        for number, is_damaged in ((folder.damaged, True), (folder.missing, False)):
            async for rows in self._still_stored(at_origin, number):
                await self._give_up_rows(folder, rows, is_damaged)

    async def _listed(self, folder: Folder) -> Folder | None:
        """The folder after a fresh listing of all it holds; None where the origin does not have it, or does not give it."""
        listed = self._comparison.folders.get(folder.number)
        if listed is not None and not self._fresh:
            async with self._account.session(Priority.BACKGROUND) as session:
                await self._comparison.list_folder(session, listed, None)
            listed = self._comparison.folders.get(folder.number)
        return listed

    async def _give_up_rows(self, folder: FolderFindings, rows: Sequence[StoredItem], damaged: bool) -> None:
        setbacks = []
        digests = await self._store.digest([row.path for row in rows])
        for row, digest in zip(rows, digests, strict=True):
            if digest is not None and digest[0] == row.size and digest[1].startswith(row.sha256):
                folder.repaired += 1  # somebody has put it right since it was read
            elif row.there:
                if digest is not None:
                    await self._store.set_aside(row.path)
                kind, reason = ("damaged", "Its bytes were damaged.") if damaged else ("missing", "Its file was gone.")
                setbacks.append(Setback(row.number, kind, reason, attempt=False))
                folder.given_up.append(row.number)
            elif digest is None:
                setbacks.append(
                    Setback(row.number, "lost", "Its file is gone, and the origin no longer has it.", attempt=False)
                )
                folder.lost += 1
        if setbacks:
            await self._state.give_up(setbacks)

    async def _still_stored(self, folder: Folder, numbers: array[int]) -> AsyncIterator[list[StoredItem]]:
        """The rows of those of the numbers, which ascend, that are stored items of the folder now, some at a time."""
        at = 0
        while at < len(numbers):
            rows = await self._state.stored(folder.number, after=numbers[at] - 1, limit=ROWS)
            if not rows:
                return
            end = bisect_right(numbers, rows[-1].number, at)
            wanted = set(numbers[at:end])
            yield [row for row in rows if row.number in wanted]
            at = end

    # --- fetching again ---

    async def _have_jobs_go_on(self) -> dict[int, str]:
        """Jobs that want what is not there go on with it, as far as nobody has stopped them. For each that does not, why."""
        refusals: dict[int, str] = {}
        for turn in range(ROUNDS):
            at_work = []
            for job in await every_job(self._state, account=self._account.number):
                compares = turn == 0 and self._jobs.keeper(job.number) is not None  # and may come to want more than it does
                if job.number in refusals or not (compares or (await self._state.counters(job.number)).remaining):
                    continue
                if why := await self._have_go_on(job):
                    refusals[job.number] = why
                else:
                    at_work.append(job)
            if not at_work:
                break
            await self._until_at_rest(at_work)
        return refusals

    async def _have_go_on(self, job: Job) -> str | None:
        """None when the job is at work, else why it is not."""
        keeper = self._jobs.keeper(job.number)
        try:
            if keeper is not None:
                waits = job.phase is Phase.WAITING
                await keeper.sync()
                return f"job {job.id} waits: {_clause(job.error.message)}" if waits and job.error is not None else None
            if job.status is JobStatus.COMPLETED:
                await self._jobs.resume(job)
                return None
        except HaulError as error:
            if isinstance(error, Fatal):
                raise
            return f"job {job.id} could not go on: {_clause(error.message)}"
        return f"job {job.id} is {job.status}; `haulctl start {job.id}` has it fetch them"

    async def _until_at_rest(self, jobs: Iterable[Job]) -> None:
        """Each of the jobs is through, or waits and says for what."""
        waiting = list(jobs)
        while waiting:
            self._told.clear()
            waiting = [job for job in waiting if await self._is_at_work(job)]
            if waiting:
                await self._told.wait()

    async def _is_at_work(self, job: Job) -> bool:
        try:
            now = await self._state.job(job.id)
        except Refused:
            return False  # it was deleted
        if now.status is JobStatus.RUNNING:
            return now.phase is not Phase.WAITING
        return now.status is JobStatus.PENDING and now.queued

    # --- what came of it ---

    async def _count(self, folder: FolderFindings) -> None:
        """Those that were given up and are stored again are repaired."""
        assert folder.folder is not None
        numbers = array("q", sorted(folder.given_up))
        again: set[int] = set()
        async for rows in self._still_stored(folder.folder, numbers):
            again |= {row.number for row in rows}
        folder.repaired += len(again)
        folder.given_up = array("q", (number for number in numbers if number not in again))

    async def _explain(self, folders: Sequence[FolderFindings], refusals: dict[int, str]) -> None:
        """Why some of what was given up is not there again, and what to do."""
        reasons: dict[int, list[str]] = {}
        for job in await every_job(self._state, account=self._account.number):
            why = refusals.get(job.number, f"job {job.id} is still at it")
            for each in await self._state.folder_progress(job=job.number):
                if each.counters.remaining:
                    reasons.setdefault(each.folder.number, []).append(why)
        label = self._account.settings.name
        unknown = [f"see `haulctl items JOB --status failed`; where no job wants them, make one: `haulctl create {label}`"]
        for folder in folders:
            if folder.given_up and folder.folder is not None:
                whys = "; ".join(reasons.get(folder.folder.number, unknown))
                folder.notes.append(f"{len(folder.given_up):,} of its items are not fetched again yet: {whys}.")


def _clause(sentence: str) -> str:
    """A sentence as part of another one."""
    return sentence.rstrip(".")
