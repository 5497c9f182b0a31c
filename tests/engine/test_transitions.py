"""Moves that people make, while the engine is at work."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from haulapi import calls
from hauld.errors import Refused
from hauld.model import MOVES, JobStatus
from support.engine import Engine, running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer


def mailbox(count: int, size: int = 100) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\n" % uid + b"x" * size + b"\r\n" for uid in range(1, count + 1)})


class Slow(Honest):
    """An honest server that gives bodies only while the ``gate`` is open, and says when it was asked for some."""

    def __init__(self, mailboxes: dict[bytes, Mailbox]) -> None:
        super().__init__(mailboxes)
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.given: list[int] = []

    async def answer(self, client: Client, command: Command) -> None:
        if command.verb == "UID FETCH" and b"BODY" in command.arguments:
            self.asked.set()
            await self.gate.wait()
        await super().answer(client, command)

    def body(self, mailbox: Mailbox, number: int, uid: int) -> bytes:
        self.given.append(uid)
        return super().body(mailbox, number, uid)


def named(job: calls.Job) -> calls.JobParams:
    return calls.JobParams(job=job.id)


async def moves(engine: Engine, job: calls.Job) -> list[tuple[object, object]]:
    """What the events say of the job."""
    events = await engine.state.events(0, job=job.id)
    return [(event.data["from"], event.data["to"]) for event in events if event.kind == "job.status"]


async def test_a_paused_job_stops_keeps_what_it_has_and_goes_on_where_it_was(tmp_path: Path) -> None:
    slow = Slow({b"INBOX": mailbox(60)})
    async with ScriptedServer(slow) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create(live=False)
        await slow.asked.wait()
        paused = await engine.commands.jobs_pause(named(job))
        assert (paused.status, paused.phase) == ("paused", None)
        assert paused.progress.in_progress_items == 0
        slow.gate.set()
        resumed = await engine.commands.jobs_start(named(job))
        assert resumed.status in ("pending", "running")
        done = await engine.ended(job.id)
        assert (done.status, done.progress.downloaded_items) == ("completed", 60)
        assert engine.bodies() == sorted(slow.mailboxes[b"INBOX"].messages.values())
        assert ("running", "paused") in await moves(engine, job)


async def test_a_pause_in_the_middle_of_a_huge_message_leaves_no_piece_of_it(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": Mailbox({1: b"y" * 3_000_000})})
    half, go_on = asyncio.Event(), asyncio.Event()

    @honest.instead_of("UID FETCH")
    async def stalls_half_way(client: Client, command: Command) -> None:
        if b"BODY" in command.arguments and not go_on.is_set():
            await client.send(honest.body(honest.mailboxes[b"INBOX"], 1, 1)[:1_500_000])
            half.set()
            await go_on.wait()
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create(live=False)
        await half.wait()
        await engine.commands.jobs_pause(named(job))
        assert engine.bodies() == []
        go_on.set()
        await engine.commands.jobs_start(named(job))
        assert (await engine.ended(job.id)).progress.downloaded_items == 1
        assert engine.bodies() == [b"y" * 3_000_000]
        assert not list((engine.root / ".haul" / "stage").iterdir())


async def test_a_cancelled_job_keeps_its_files_and_can_be_started_again(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert (await engine.commands.jobs_cancel(named(job))).status == "cancelled"
        assert len(engine.bodies()) == 5
        with pytest.raises(Refused, match="cancelled and cannot become cancelled"):
            await engine.commands.jobs_cancel(named(job))
        await engine.commands.jobs_start(named(job))
        assert (await engine.ended(job.id)).status == "completed"


async def test_a_job_that_watches_can_be_paused_and_watches_again(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(2)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await engine.until(job.id, lambda seen: seen.status == "completed")
        await engine.commands.jobs_pause(named(job))
        honest.mailboxes[b"INBOX"].add(3, b"new\r\n")
        with pytest.raises(Refused, match="watches nothing"):
            await engine.commands.jobs_sync(named(job))
        await engine.commands.jobs_start(named(job))
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 3)


async def test_every_refusal_of_the_table_is_one_in_words_and_changes_nothing(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(1)})) as server, running(tmp_path, server.source()) as engine:
        asks = {JobStatus.PAUSED: engine.commands.jobs_pause, JobStatus.CANCELLED: engine.commands.jobs_cancel}
        for (to, ask), status in itertools.product(asks.items(), JobStatus):
            job = await engine.create(start=False)
            number = (await engine.state.job(job.id)).number
            for step in PATHS[status]:
                await engine.state.move_job(number, step)
            if to in MOVES[status]:
                assert (await ask(named(job))).status == to
            else:
                with pytest.raises(Refused, match=f"is {status} and cannot become {to}"):
                    await ask(named(job))
                assert (await engine.job(job.id)).status == status


PATHS: dict[JobStatus, list[JobStatus]] = {
    JobStatus.PENDING: [],
    JobStatus.RUNNING: [JobStatus.RUNNING],
    JobStatus.PAUSED: [JobStatus.PAUSED],
    JobStatus.COMPLETED: [JobStatus.RUNNING, JobStatus.COMPLETED],
    JobStatus.FAILED: [JobStatus.RUNNING, JobStatus.FAILED],
    JobStatus.CANCELLED: [JobStatus.CANCELLED],
}


async def test_a_job_deleted_and_made_again_fetches_nothing_twice(tmp_path: Path) -> None:
    slow = Slow({b"INBOX": mailbox(30)})
    slow.gate.set()
    async with ScriptedServer(slow) as server, running(tmp_path, server.source()) as engine:
        first = await engine.finish()
        assert (await engine.commands.jobs_delete(calls.DeleteParams(job=first.id))).id == first.id
        with pytest.raises(Refused, match=first.id):
            await engine.job(first.id)
        again = await engine.finish()
        assert (again.progress.downloaded_items, again.progress.skipped_items) == (0, 30)
        assert sorted(slow.given) == list(range(1, 31))


async def test_a_running_job_can_be_deleted(tmp_path: Path) -> None:
    slow = Slow({b"INBOX": mailbox(30)})
    async with ScriptedServer(slow) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await slow.asked.wait()
        await engine.commands.jobs_delete(calls.DeleteParams(job=job.id))
        assert (await engine.commands.jobs_list(calls.JobListParams())).jobs == []


async def test_purging_removes_what_no_other_job_wants(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(4), b"Sent": mailbox(3)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        everything = await engine.finish()
        inbox = await engine.finish(strategy=calls.WantedStrategy(kind="inbox-only"))
        await engine.commands.jobs_delete(calls.DeleteParams(job=everything.id, purge=True))
        assert engine.bodies() == sorted(honest.mailboxes[b"INBOX"].messages.values())
        await engine.commands.jobs_delete(calls.DeleteParams(job=inbox.id, purge=True))
        assert engine.bodies() == []
        again = await engine.finish()
        assert again.progress.downloaded_items == 7
        assert len(engine.bodies()) == 7


async def test_failed_items_are_retried_singly_or_all(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(6)})

    @honest.instead_of("UID FETCH")
    async def gives_only_odd_ones(client: Client, command: Command) -> None:
        box = honest.mailboxes[b"INBOX"]
        every = dict(box.messages)
        if b"BODY" in command.arguments:
            box.messages = {uid: body for uid, body in every.items() if uid % 2}
        await honest.answer(client, command)
        box.messages = every

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert job.progress.failed_items == 3
        failed = (await engine.commands.items_list(calls.ItemListParams(job=job.id, status="failed"))).items
        honest.be_honest()
        await engine.commands.jobs_retry(calls.RetryParams(job=job.id, items=[failed[0].id]))
        one = await engine.ended(job.id)
        assert (one.progress.downloaded_items, one.progress.failed_items) == (4, 2)
        await engine.commands.jobs_retry(calls.RetryParams(job=job.id))
        rest = await engine.ended(job.id)
        assert (rest.progress.downloaded_items, rest.progress.failed_items) == (6, 0)
        with pytest.raises(Refused, match="no failed items"):
            await engine.commands.jobs_retry(calls.RetryParams(job=job.id))


async def test_an_urgent_job_goes_first_between_groups_when_slots_are_short(tmp_path: Path) -> None:
    slow = Slow({b"INBOX": mailbox(1200), b"Sent": mailbox(3)})
    async with ScriptedServer(slow) as server, running(tmp_path, server.source(), slots=1, connections=1) as engine:
        long = await engine.create(live=False, priority=3)
        await slow.asked.wait()
        sent = calls.WantedStrategy(kind="selected-folders", folders=["Sent"])
        urgent = await engine.create(live=False, priority=1, strategy=sent)
        slow.gate.set()
        first = await engine.ended(urgent.id)
        assert first.status == "completed"
        assert (await engine.job(long.id)).progress.remaining_items > 0
        done = await engine.ended(long.id)
        assert (done.status, done.progress.downloaded_items + done.progress.skipped_items) == ("completed", 1203)
        reasons = [event.data for event in await engine.state.events(0, job=long.id) if event.kind == "job.phase"]
        assert any("more urgent" in str(data) for data in reasons)


async def test_what_a_search_found_once_stays_wanted(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(6)})
    found = [b"2 5"]

    @honest.instead_of("UID SEARCH")
    async def finds(client: Client, command: Command) -> None:
        if command.arguments == b"ALL":
            await honest.answer(client, command)
        else:
            await client.send(b"* SEARCH " + found[0] + b"\r\n", command.ok())

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create(strategy=calls.WantedStrategy(kind="unseen"))
        seen = await engine.until(job.id, lambda seen: seen.status == "completed")
        assert seen.progress.total_items == 2
        assert server.asked("UID SEARCH UNSEEN")
        found[0] = b"3"
        await engine.commands.jobs_sync(named(job))
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 3 and seen.status == "completed")


async def test_a_range_of_dates_takes_the_first_day_and_not_the_last(tmp_path: Path) -> None:
    box = mailbox(4)
    box.dates = {
        1: b"31-Dec-2025 23:59:59 +0000",
        2: b" 1-Jan-2026 00:00:00 +0000",
        3: b"31-Jan-2026 23:30:00 -0100",
        4: b"31-Jan-2026 23:30:00 +0000",
    }
    honest = Honest({b"INBOX": box})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        january = calls.WantedStrategy(kind="date-range", since="2026-01-01", before="2026-02-01")
        preview = await engine.create(strategy=january, dry_run=True)
        assert isinstance(preview, calls.Preview)
        assert (preview.items, preview.stored_items, preview.estimated_secs) == (2, 0, None)
        assert engine.bodies() == []
        job = await engine.finish(strategy=january)
        items = (await engine.commands.items_list(calls.ItemListParams(job=job.id))).items
        assert sorted(item.key for item in items) == ["1.2", "1.4"]
        again = await engine.create(dry_run=True)
        assert isinstance(again, calls.Preview)
        assert (again.items, again.stored_items) == (2, 2)
        assert again.bytes == len(box.messages[1]) + len(box.messages[3])
        assert again.estimated_secs is not None
        assert [(folder.name, folder.items) for folder in again.folders] == [("INBOX", 2)]
        assert len((await engine.commands.jobs_list(calls.JobListParams())).jobs) == 1
