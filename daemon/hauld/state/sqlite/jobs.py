"""Accounts and jobs: what people asked for, and the moves a job may make."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hauld.errors import Refused, Transient
from hauld.model import Counters, Job, JobStatus, Phase, Strategy, Trouble, check_move
from hauld.state.sqlite.connection import Connection
from hauld.state.sqlite.part import Part
from hauld.state.sqlite.queries import load
from hauld.state.sqlite.rows import counters_of, job_of, pack_strategy, pack_trouble, reason_of, text

SQL = load("jobs.sql")
ALPHABET = string.ascii_lowercase + string.digits
CANDIDATES = 10
"""How many jobs an ambiguous prefix is answered with."""
PIECE = 4000
"""Wants of a deleted job that go at a time, so that other transactions get their turn in between."""
PURGED = "Its file was purged, and the origin has it no more."


class Jobs(Part):
    """Promises: ``State``, accounts and jobs."""

    async def account(self, identity: str, name: str, source: str) -> int:
        async with self._database.writing() as write:
            row = await write.one(SQL["name_account"], identity=identity, name=name, source=source)
        return _number(row)

    async def create_job(
        self,
        account: int,
        strategy: Strategy,
        *,
        live: bool,
        priority: int,
        requester: str | None,
        start: bool,
        idempotency_key: str | None,
        attempts: int | None = None,
    ) -> tuple[Job, bool]:
        async with self._database.writing() as write:
            made = await write.one(SQL["job_of_key"], account=account, idempotency_key=idempotency_key)
            if made is not None:
                return job_of(made), False
            row = await write.one(
                SQL["add_job"],
                id="job_" + "".join(secrets.choice(ALPHABET) for _ in range(12)),
                account=account,
                strategy=pack_strategy(strategy),
                queued=start,
                live=live,
                priority=priority,
                requester=None if requester is None else text(requester),
                idempotency_key=idempotency_key,
                attempts=attempts,
                now=self._clock.now_ms(),
            )
            job = await _job(write, _number(row))
            await self._tell_status(write, None, job)
        return job, True

    async def job(self, prefix: str) -> Job:
        rows = await self._database.reader.all(SQL["jobs_of_prefix"], prefix=prefix, limit=CANDIDATES)
        if not rows and "job_".startswith(prefix):
            message = f"{prefix!r} is what every job's id begins with, and names none."
            raise Refused("not_found", message, hint="Give more of the id; `haulctl list` shows all jobs.")
        if not rows:
            raise Refused("not_found", f"There is no job {prefix!r}.", hint="`haulctl list` shows all jobs.")
        if len(rows) > 1:
            candidates = [row["id"] for row in rows]
            raise Refused(
                "ambiguous",
                f"More than one job starts with {prefix!r}: {', '.join(candidates)}.",
                hint="Give more of the id.",
                candidates=candidates,
            )
        return job_of(rows[0])

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        account: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Job]:
        before = None if after is None else (await self.job(after)).number
        rows = await self._database.reader.all(SQL["list_jobs"], status=status, account=account, before=before, limit=limit)
        return [job_of(row) for row in rows]

    async def job_counts(self) -> Mapping[JobStatus, int]:
        rows = await self._database.reader.all(SQL["job_counts"])
        return {JobStatus(row["status"]): row["jobs"] for row in rows}

    async def move_job(self, job: int, to: JobStatus, *, phase: Phase | None = None, error: Trouble | None = None) -> Job:
        async with self._database.writing() as write:
            before = await _job(write, job)
            if not (to is before.status is JobStatus.PENDING and not before.queued):
                check_move(before.id, before.status, to)
            now = self._clock.now_ms()
            moved = await write.run(
                SQL["move_job"],
                number=job,
                **{"from": before.status},
                to=to,
                phase=phase if to is JobStatus.RUNNING else None,
                error=pack_trouble(_since(error, before.error, now)),
                now=now,
            )
            assert moved == 1, "nobody else writes inside this transaction"
            after = await _job(write, job)
            await self._tell_status(write, before.status, after)
        return after

    async def synced(self, job: int) -> Job:
        async with self._database.writing() as write:
            await write.run(SQL["set_synced"], number=job, now=self._clock.now_ms())
            return await _job(write, job)

    async def compared(self, job: int, error: Trouble | None) -> Job:
        async with self._database.writing() as write:
            before = await _job(write, job)
            now = self._clock.now_ms()
            error = _since(error, before.error, now)
            await write.run(SQL["set_compared"], number=job, error=pack_trouble(error), now=now)
            after = await _job(write, job)
            if error != before.error and after.status is JobStatus.COMPLETED:
                await self._tell_status(write, before.status, after)
            return after

    async def set_phase(self, job: int, phase: Phase, error: Trouble | None = None) -> None:
        async with self._database.writing() as write:
            before = await _job(write, job)
            if before.status is not JobStatus.RUNNING:
                raise Refused("wrong_state", f"Job {before.id} is {before.status}; only a running job is {phase}.")
            now = self._clock.now_ms()
            error = _since(error, before.error, now)
            if (phase, error) == (before.phase, before.error):
                return
            await write.run(SQL["set_phase"], number=job, phase=phase, error=pack_trouble(error), now=now)
            await self._tell(write, "job.phase", {"phase": phase, **reason_of(error)}, job=before.id)

    async def delete_job(self, job: int, *, purge: bool = False) -> Sequence[str]:
        purged, paths = 0, list[str]()
        async with self._database.writing() as write:
            deleted = await _job(write, job)
            small = (await _counters(write, job)).total <= PIECE
            if purge:
                await write.run(SQL["clear_purged"])
                purged = await write.run(SQL["find_purged"], job=job)
                await write.run(SQL["clear_purged_paths"])
                await write.run(SQL["put_purged_paths"])
                paths = [row["path"] for row in await write.all(SQL["purged_paths"])]
            await write.run(SQL["forget_job_counters"], job=job)
            if purge or small:
                await write.run(SQL["forget_wants"], job=job)
                await write.run(SQL["forget_job"], job=job)
            else:
                await write.run(SQL["hide_job"], job=job)
            if purge:  # now that nobody wants these items, no want follows them
                await write.run(SQL["purge_items"], reason=PURGED, now=self._clock.now_ms())
                await write.run(SQL["forget_conflicts"])
            await self._tell(write, "job.deleted", {"status": deleted.status, "purged": purged}, job=deleted.id)
        await self.clear_forgotten()
        return paths

    async def clear_forgotten(self) -> None:
        """The wants of deleted jobs go, and then the jobs. What is cut off here, or the disk refuses, goes after the next
        deletion or when the ledger is looked through: for others these jobs are gone already."""
        with contextlib.suppress(Transient):
            for row in await self._database.reader.all(SQL["forgotten_jobs"]):
                while not self._closing and await self._clear_piece(row["number"]):
                    pass

    async def _clear_piece(self, job: int) -> bool:
        """Whether something of the job is left."""
        async with self._database.writing() as write:
            if await write.run(SQL["forget_some_wants"], job=job, piece=PIECE) == PIECE:
                return True
            await write.run(SQL["forget_job"], job=job)
            return False

    async def counters(self, job: int) -> Counters:
        return await _counters(self._database.reader, job)

    async def _tell_status(self, write: Connection, before: JobStatus | None, job: Job) -> None:
        data = {"from": before, "to": job.status, "phase": job.phase, **reason_of(job.error)}
        await self._tell(write, "job.status", data, job=job.id)


async def _job(connection: Connection, number: int) -> Job:
    row = await connection.one(SQL["job"], number=number)
    if row is None:
        raise Refused("not_found", f"There is no job number {number}.")
    return job_of(row)


async def _counters(connection: Connection, job: int) -> Counters:
    row = await connection.one(SQL["job_counters"], job=job)
    return Counters() if row is None else counters_of(row)


def _since(error: Trouble | None, before: Trouble | None, now: int) -> Trouble | None:
    """Trouble that does not say since when it lasts: since the same kind was first seen."""
    if error is None or error.since is not None:
        return error
    return replace(error, since=before.since if before is not None and before.kind == error.kind else now)


def _number(row: sqlite3.Row | None) -> int:
    assert row is not None, "RETURNING gives the row"
    number = row["number"]
    assert isinstance(number, int)
    return number
