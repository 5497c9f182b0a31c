"""What is at work stays at work: keepers, listeners and what is told of them, when something comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

import pytest

from haulapi import calls
from hauld.engine import job as keeping
from hauld.errors import HaulError, Refused, Transient
from hauld.model import Deposit, Job, JobStatus, Placed
from hauld.retry import RetryPolicy
from hauld.state.sqlite import SqliteState
from hauld.stores.maildir import MaildirStore
from support.engine import Engine, Gate, running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer, fetched


def mailbox(count: int) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in range(1, count + 1)})


async def watching(engine: Engine) -> calls.Job:
    """A live job that has imported everything, with a listener that listens."""
    job = await engine.create()
    await engine.until(job.id, lambda seen: seen.status == "completed")
    await listening(engine)
    return await engine.job(job.id)


async def listening(engine: Engine) -> None:
    (account,) = engine.supervisor.accounts.values()
    async with asyncio.timeout(30):
        while not any(each.stage == "listening" for each in account.listeners):
            await asyncio.sleep(0.005)


async def on(engine: Engine, command: str, job: calls.Job) -> calls.Job:
    answer: calls.Job = await getattr(engine.commands, f"jobs_{command}")(calls.JobParams(job=job.id))
    return answer


class Locked(SqliteState):
    """A ledger in which jobs cannot be moved there."""

    to: JobStatus | None = None

    async def move_job(self, job: int, to: JobStatus, **options: object) -> Job:  # type: ignore[override]
        if to is self.to:
            raise Transient("locked", "Another program has locked the ledger.")
        return await super().move_job(job, to, **options)  # type: ignore[arg-type]


# --- commands that cannot be done ---


@pytest.mark.parametrize(("command", "status"), [("pause", JobStatus.PAUSED), ("cancel", JobStatus.CANCELLED)])
async def test_L9_a_job_whose_stop_cannot_be_written_down_goes_on(tmp_path: Path, command: str, status: JobStatus) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    asked = asyncio.Event()

    @honest.instead_of("UID FETCH")
    async def dawdles(client: Client, command: Command) -> None:
        asked.set()

    server = ScriptedServer(honest)
    async with server, running(tmp_path, server.source(), state=Locked) as engine:
        assert isinstance(engine.state, Locked)
        job = await engine.create(live=False)
        await asked.wait()
        honest.be_honest()
        engine.state.to = status
        with pytest.raises(Transient):
            await on(engine, command, job)
        done = await engine.until(job.id, lambda seen: seen.status == "completed")
        assert done.progress.downloaded_items == 3


async def test_L9_a_watching_job_whose_start_cannot_be_written_down_goes_on_watching(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), state=Locked) as engine:
        assert isinstance(engine.state, Locked)
        job = await watching(engine)
        engine.state.to = JobStatus.PENDING
        with pytest.raises(Transient):
            await on(engine, "start", job)
        honest.mailboxes[b"INBOX"].add(4, b"new\r\n")
        await on(engine, "sync", job)
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 4)


async def test_a_job_that_began_to_download_while_it_was_to_be_started_goes_on(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3), b"Work": mailbox(3)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await watching(engine)
        row = await engine.state.job(job.id)
        await engine.state.move_job(row.number, JobStatus.RUNNING)  # as its keeper does, just now
        with pytest.raises(Refused, match="is running"):
            await engine.supervisor.resume(row)
        await engine.until(job.id, lambda seen: seen.status == "completed")
        assert engine.supervisor.keeper(row.number) is not None


async def test_who_asks_for_a_comparison_while_a_broken_keeper_rests_is_answered_when_the_job_is_stopped(
    tmp_path: Path,
) -> None:
    patient = RetryPolicy(initial=3600.0, longest=3600.0)
    async with (
        ScriptedServer(Honest({b"INBOX": mailbox(1)})) as server,
        running(tmp_path, server.source(), policy=patient) as engine,
    ):
        job = await watching(engine)
        keeper = engine.supervisor.keeper((await engine.state.job(job.id)).number)
        assert keeper is not None
        with mock.patch.object(keeping, "Comparison", side_effect=ZeroDivisionError("a defect")), pytest.raises(Refused):
            await keeper.sync()
        asking = asyncio.create_task(keeper.sync())
        await on(engine, "pause", job)
        with pytest.raises(Refused, match="stopped before the comparison was over"):
            await asking


# --- listeners ---


async def test_a_listener_that_takes_its_time_to_end_is_followed_by_another(tmp_path: Path) -> None:
    storing, leaving, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(MaildirStore):
        @asynccontextmanager
        async def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AsyncIterator[Sequence[Placed]]:
            if urgent:
                storing.set()
                await leaving.wait()
            async with super().commit(group, urgent=urgent) as placed:
                yield placed

    honest = Honest({b"INBOX": mailbox(3)})

    @honest.instead_of("LOGOUT")
    async def dawdles(client: Client, command: Command) -> None:
        leaving.set()
        await gone.wait()
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), store=Slow) as engine:
        job = await watching(engine)
        (before,) = engine.supervisor.accounts["a"].listeners
        honest.mailboxes[b"INBOX"].add(4, b"new\r\n")
        await honest.announce()
        await storing.wait()
        await on(engine, "start", job)
        assert engine.supervisor.accounts["a"].listeners == [before], "it says goodbye"
        gone.set()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        await listening(engine)
        assert before not in engine.supervisor.accounts["a"].listeners


async def test_P13_a_folder_with_new_keys_for_the_listener_alone_is_listened_to_again(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    lied = asyncio.Event()

    async def lies_once(client: Client, command: Command) -> None:
        if not lied.is_set():
            lied.set()
            honest.mailboxes[b"INBOX"].uidvalidity += 1
            await honest.answer(client, command)
            honest.mailboxes[b"INBOX"].uidvalidity -= 1
            return
        await honest.answer(client, command)

    with mock.patch("hauld.engine.listener.ANOTHER_LOOK", 0.05), mock.patch("hauld.engine.supervisor.SPREAD", 0.0):
        async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
            await watching(engine)
            honest.instead_of("EXAMINE")(lies_once)
            await engine.supervisor.awake("the clock says so")
            await lied.wait()
            await listening(engine)


# --- what is told ---


async def test_trouble_of_the_machine_that_news_met_is_over_when_something_could_be_stored(tmp_path: Path) -> None:
    class FullOnce(MaildirStore):
        full = True

        @asynccontextmanager
        async def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AsyncIterator[Sequence[Placed]]:
            if urgent and self.full:
                FullOnce.full = False
                raise Transient("disk", "No space left on device.")
            async with super().commit(group, urgent=urgent) as placed:
                yield placed

    honest = Honest({b"INBOX": mailbox(1)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), store=FullOnce) as engine:
        job = await watching(engine)
        honest.mailboxes[b"INBOX"].add(2, b"new\r\n")
        await honest.announce()
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 2)
        await on(engine, "sync", job)
        assert not engine.machine.troubled


async def test_L1_new_mail_that_finds_no_room_makes_the_watching_job_wait_and_say_so(tmp_path: Path) -> None:
    class Full(MaildirStore):
        full = False

        @asynccontextmanager
        async def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AsyncIterator[Sequence[Placed]]:
            if self.full:
                raise Transient("disk", "No space left on device.")
            async with super().commit(group, urgent=urgent) as placed:
                yield placed

        async def probe(self) -> None:
            if self.full:
                raise Transient("disk", "No space left on device.")

    honest = Honest({b"INBOX": mailbox(1)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), store=Full) as engine:
        job = await watching(engine)
        Full.full = True
        honest.mailboxes[b"INBOX"].add(2, b"new\r\n")
        await honest.announce()
        waiting = await engine.until(job.id, lambda seen: seen.phase == "waiting")
        assert (waiting.status, waiting.error.kind if waiting.error else None) == ("running", "disk")
        Full.full = False
        done = await engine.until(job.id, lambda seen: seen.status == "completed")
        assert (done.error, done.progress.downloaded_items) == (None, 2)
        await on(engine, "sync", job)
        assert not engine.machine.troubled


async def test_N6_each_refusal_after_a_download_that_was_cut_off_is_waited_for_longer(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    waits: list[int] = []
    many = asyncio.Event()

    def noted(error: HaulError, failures: int, policy: RetryPolicy, dice: object) -> float | None:
        waits.append(failures)
        if len(waits) == 6:
            many.set()
        return 0.0

    @honest.instead_of("UID FETCH")
    async def gives_one_and_goes(client: Client, command: Command) -> None:
        if b"BODY" not in command.arguments:
            await honest.answer(client, command)
            return
        for verb in ("AUTHENTICATE", "LOGIN"):
            honest.instead_of(verb)(is_away)
        await client.send(fetched(1, 1, honest.mailboxes[b"INBOX"].messages[1]))
        async with asyncio.timeout(30):
            while not engine.bodies():
                await asyncio.sleep(0.005)
        await client.close()

    async def is_away(client: Client, command: Command) -> None:
        await client.send(command.no(b"[UNAVAILABLE] the disks are being changed"))

    with mock.patch.object(keeping, "decide", noted):
        server = ScriptedServer(honest)
        async with server, running(tmp_path, server.source(), connections=1) as engine:
            await engine.create(live=False)
            async with asyncio.timeout(30):
                await many.wait()
    assert waits[:6] == [1, 2, 3, 4, 5, 6]


def closes(honest: Honest, name: bytes) -> None:
    """From now on the mailbox cannot be opened."""

    @honest.instead_of("EXAMINE")
    async def refuses(client: Client, command: Command) -> None:
        await (
            client.send(command.no(b"[NOPERM] you may not")) if name in command.arguments else honest.answer(client, command)
        )


async def test_a_watching_job_tells_of_a_folder_that_cannot_be_read_as_long_as_that_is_so(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(2), b"Sent": mailbox(3)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await watching(engine)
        assert job.error is None
        closes(honest, b"Sent")
        honest.mailboxes[b"Sent"].touch()
        closed = await on(engine, "sync", job)
        assert closed.error is not None
        assert "'Sent'" in closed.error.message
        honest.mailboxes[b"INBOX"].add(3, b"new\r\n")
        await honest.announce()
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 6)
        assert (await engine.job(job.id)).error == closed.error, "news of another folder say nothing of this one"
        honest.be_honest()
        assert (await on(engine, "sync", job)).error is None
        told = [event.data["reason"] for event in await engine.state.events(0) if event.kind == "job.status"]
        assert told[-2:] == [closed.error.message, None]


async def test_trouble_that_goes_on_after_a_person_has_tried_again_lasts_since_it_began(tmp_path: Path) -> None:
    server = ScriptedServer(Honest({b"INBOX": mailbox(1)}))
    async with server, running(tmp_path, Gate(server.source(), is_open=False)) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.phase == "waiting")
        began = (await engine.commands.accounts_get(calls.AccountParams(account="a"))).error
        await on(engine, "pause", job)
        await on(engine, "start", job)
        again = await engine.until(job.id, lambda seen: seen.phase == "waiting")
        told = (await engine.commands.accounts_get(calls.AccountParams(account="a"))).error
    assert began is not None
    assert told is not None
    assert again.error is not None
    assert began.since == told.since == again.error.since
