"""Jobs that the configuration declares: there as long as it says so, and a person's word counts beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from haulapi import calls
from hauld.clock import SystemClock
from hauld.engine.declared import CHANGED, DECLARED_ANEW, REQUESTER, Declared
from hauld.errors import Refused
from hauld.model import JobStatus, Strategy, Trouble
from support.engine import Engine, running
from support.scripted_imap import Honest, Mailbox, ScriptedServer

FULL, INBOX = Strategy("full"), Strategy("inbox-only", ("INBOX",))


def mailbox(count: int) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in range(1, count + 1)})


class Declaring(Engine):
    """An engine with one account, and what the configuration says of it."""

    async def declare(self, strategy: Strategy | None, started: Collection[JobStatus] = ()) -> None:
        await Declared(self.supervisor, self.state, SystemClock()).apply({"a": strategy}, started=started)

    async def jobs(self) -> list[calls.Job]:
        return (await self.commands.jobs_list(calls.JobListParams())).jobs

    async def watching(self) -> calls.Job:
        """The newest job, once it has imported everything."""
        newest = (await self.jobs())[0]
        return await self.until(newest.id, lambda seen: seen.status == "completed")


@asynccontextmanager
async def declaring(root: Path) -> AsyncIterator[Declaring]:
    honest = Honest({b"INBOX": mailbox(3), b"Sent": mailbox(2)})
    async with ScriptedServer(honest) as server, running(root, server.source()) as engine:
        engine.__class__ = Declaring
        assert isinstance(engine, Declaring)
        yield engine


async def test_a_declared_job_is_made_once_and_watches(tmp_path):
    async with declaring(tmp_path) as engine:
        await engine.declare(FULL)
        job = await engine.watching()
        assert (job.requester, job.live, job.progress.downloaded_items) == (REQUESTER, True, 5)
        await engine.declare(FULL)
        assert [each.id for each in await engine.jobs()] == [job.id]


async def test_a_declared_job_goes_on_after_a_restart(tmp_path):
    async with declaring(tmp_path) as engine:
        await engine.declare(FULL)
        job = await engine.watching()
    async with declaring(tmp_path) as engine:
        await engine.declare(FULL)
        assert (await engine.watching()).id == job.id
        assert len(await engine.jobs()) == 1


async def test_a_job_that_is_no_longer_declared_is_paused_with_the_reason_and_goes_on_when_it_is_again(tmp_path):
    async with declaring(tmp_path) as engine:
        await engine.declare(FULL)
        job = await engine.watching()
        await engine.declare(None)
        paused = await engine.job(job.id)
        assert (paused.status, paused.error.kind) == ("paused", "configuration")
        assert "no longer declares this job" in paused.error.message
        assert len(engine.bodies()) == 5
        await engine.declare(FULL)
        back = await engine.watching()
        assert (back.id, back.error) == (job.id, None)


async def test_another_strategy_is_another_job_and_the_first_one_waits_for_its_return(tmp_path):
    async with declaring(tmp_path) as engine:
        await engine.declare(INBOX)
        inbox = await engine.watching()
        await engine.declare(FULL)
        full = await engine.watching()
        assert full.id != inbox.id
        assert full.progress.skipped_items == 3, "what is stored is not fetched again"
        assert (await engine.job(inbox.id)).status == "paused"
        await engine.declare(INBOX)
        await engine.until(inbox.id, lambda seen: seen.status == "completed")
        assert (await engine.job(full.id)).status == "paused"
        assert len(await engine.jobs()) == 2


@pytest.mark.parametrize("act", ["pause", "cancel"])
async def test_what_a_person_has_stopped_stays_so_while_the_configuration_says_the_same(tmp_path, act):
    async with declaring(tmp_path) as engine:
        await engine.declare(FULL)
        job = await engine.watching()
        stopped = await getattr(engine.commands, f"jobs_{act}")(calls.JobParams(job=job.id))
        assert stopped.error is None, "that is how it is told from what the configuration has stopped"
        await engine.declare(FULL)
        (seen,) = await engine.jobs()
        assert (seen.id, seen.status) == (job.id, stopped.status)


async def test_a_job_that_failed_since_its_account_was_gone_is_started_again_and_one_that_failed_otherwise_is_not(tmp_path):
    async with declaring(tmp_path) as engine:
        await engine.declare(FULL)
        job = await engine.watching()
        number = (await engine.state.job(job.id)).number
        for kind, after in (("sign-in", "failed"), ("configuration", "completed")):
            known = await engine.state.job(job.id)
            async with engine.supervisor.stopped(known):
                if known.status is JobStatus.FAILED:
                    await engine.state.move_job(number, JobStatus.PENDING)
                await engine.state.move_job(number, JobStatus.FAILED, error=Trouble(kind, "It failed."))
            await engine.declare(FULL)
            await engine.until(job.id, lambda seen, after=after: seen.status == after)


async def test_a_job_that_failed_is_tried_again_when_its_account_was_changed(tmp_path):
    async with declaring(tmp_path) as engine:
        await engine.declare(FULL)
        job = await engine.watching()
        known = await engine.state.job(job.id)
        async with engine.supervisor.stopped(known):
            await engine.state.move_job(known.number, JobStatus.FAILED, error=Trouble("sign-in", "Refused."))
        await engine.declare(FULL, CHANGED)
        assert (await engine.watching()).id == job.id
        await engine.commands.jobs_pause(calls.JobParams(job=job.id))
        await engine.declare(FULL, CHANGED)
        assert (await engine.job(job.id)).status == "paused", "a person's word counts all the same"


@pytest.mark.parametrize("act", ["pause", "cancel"])
async def test_a_job_that_a_person_has_stopped_is_started_when_it_is_declared_anew(tmp_path, act):
    async with declaring(tmp_path) as engine:
        await engine.declare(FULL)
        job = await engine.watching()
        await getattr(engine.commands, f"jobs_{act}")(calls.JobParams(job=job.id))
        await engine.declare(FULL, DECLARED_ANEW)
        assert (await engine.watching()).id == job.id


async def test_jobs_of_people_are_none_of_the_configurations_business(tmp_path):
    async with declaring(tmp_path) as engine:
        own = await engine.create(requester="me")
        await engine.declare(INBOX)
        await engine.declare(None)
        assert (await engine.until(own.id, lambda seen: seen.status == "completed")).error is None


async def test_nobody_makes_jobs_in_the_name_of_the_configuration(tmp_path):
    async with declaring(tmp_path) as engine:
        with pytest.raises(Refused, match="jobs that the configuration declares"):
            await engine.create(requester=REQUESTER)


async def test_a_declared_job_that_was_deleted_is_made_again(tmp_path):
    async with declaring(tmp_path) as engine:
        await engine.declare(FULL)
        job = await engine.watching()
        await engine.commands.jobs_delete(calls.DeleteParams(job=job.id))
        await engine.declare(FULL)
        again = await engine.watching()
        assert again.id != job.id
        assert (again.progress.downloaded_items, again.progress.skipped_items) == (0, 5)
