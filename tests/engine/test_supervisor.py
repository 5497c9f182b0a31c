"""Accounts side by side: what one of them does, or suffers, is its own business."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from haulapi import calls
from hauld.clock import SystemClock
from hauld.engine.account import Account
from hauld.engine.hosts import AT_ONCE, ENOUGH, Hosts
from hauld.engine.waking import Instant, unnoticed
from hauld.engine.wire import job_on_the_wire
from hauld.errors import Refused, Transient
from hauld.model import Event, JobStatus, Notice, Phase, RemoteFolder, Trouble
from hauld.retry import RetryPolicy
from hauld.sources.base import Session, Source
from support.engine import QUICK, Engine, Gate, running, settings
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

NOON = Instant(1000.0, 5000.0, 1_767_225_600.0)


def mailbox(count: int, size: int = 100) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\n" % uid + b"x" * size + b"\r\n" for uid in range(1, count + 1)})


class Dead:
    """An origin that never answers: who tries finds that out when the test says that time is ``up``. ``tries`` counts."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.tries = 0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        self.tries += 1
        await self.up.wait()
        raise Transient("timeout", "dead.example:993 did not connect and greet.")
        yield


class Slow(Honest):
    """An honest server that gives bodies only while the gate is open."""

    def __init__(self, mailboxes: dict[bytes, Mailbox]) -> None:
        super().__init__(mailboxes)
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()

    async def answer(self, client: Client, command: Command) -> None:
        if command.verb == "UID FETCH" and b"BODY" in command.arguments:
            self.asked.set()
            await self.gate.wait()
        await super().answer(client, command)


async def watching(engine: Engine, account: str = "a") -> calls.Job:
    """A live job that has imported everything, with the account's listener listening."""
    job = await engine.create(account)
    seen = await engine.until(job.id, lambda seen: seen.status == "completed")
    await until(engine, account, lambda told: any(each.state == "listening" for each in told.listeners))
    return seen


async def until(engine: Engine, account: str, true: Callable[[calls.Account], bool]) -> calls.Account:
    """Look at the account until it is so."""
    async with asyncio.timeout(30):
        while not true(told := await engine.commands.accounts_get(calls.AccountParams(account=account))):
            await asyncio.sleep(0.005)
    return told


async def told(engine: Engine, kind: str, count: int = 1) -> list[Event]:
    """Events of that kind, as soon as there are so many."""
    async with asyncio.timeout(30):
        while len(found := [event for event in await engine.state.events(0) if event.kind == kind]) < count:
            await asyncio.sleep(0.005)
    return found


def another(account: Account, source: Source) -> Account:
    """The account with another source, and so other settings."""
    return Account(replace(account.settings, connections=1), account.number, source, SystemClock())


# --- hosts that do not answer ---


async def test_N26_thirty_accounts_on_a_dead_host_cost_the_others_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There is one slot for imports, and those thirty ask for it first."""
    caplog.set_level(logging.INFO, "hauld")
    hole = Dead()
    names = [f"dead{number}" for number in range(30)]
    async with ScriptedServer(Honest({b"INBOX": mailbox(30)})) as server:
        sources: dict[str, Source] = dict.fromkeys(names, hole) | {"good": server.source()}
        hosts = dict.fromkeys(names, "dead.example")
        patient = RetryPolicy(initial=3600.0, longest=3600.0)
        async with running(tmp_path, sources, hosts=hosts, slots=1, policy=patient) as engine:
            jobs = [await engine.create(name, live=False) for name in names]
            good = await engine.create("good", live=False, priority=3)
            done = await engine.until(good.id, lambda seen: seen.status == "completed")
            assert done.progress.downloaded_items == 30
            hole.up.set()
            assert await engine.until(jobs[0].id, lambda seen: seen.phase == "waiting")
            waiting = await engine.until(jobs[-1].id, lambda seen: seen.phase == "waiting")
            assert waiting.error is not None
            assert (waiting.error.kind, waiting.error.retry_at is not None) == ("timeout", True)
            accounts = (await engine.commands.accounts_list(calls.NoParams())).accounts
            assert {each.state for each in accounts if each.name in names} <= {"waiting", "idle"}
    assert hole.tries < ENOUGH + AT_ONCE
    events = [getattr(record, "event", None) for record in caplog.records]
    assert events.count("host.dead") == 1
    assert events.count("account.failed") == hole.tries


async def test_a_job_that_reaches_its_origin_when_others_have_the_slots_says_that_it_waits_for_one(tmp_path: Path) -> None:
    slow = Slow({b"INBOX": mailbox(3)})
    async with ScriptedServer(slow) as server:
        gate = Gate(server.source(), is_open=False)
        async with running(tmp_path, {"away": gate, "slow": server.source()}, slots=1) as engine:
            late = await engine.create("away", live=False)
            await engine.until(late.id, lambda seen: seen.error is not None and seen.error.kind == "network")
            first = await engine.create("slow", live=False)
            await slow.asked.wait()
            gate.is_open = True
            waiting = await engine.until(late.id, lambda seen: seen.error is not None and seen.error.kind == "slot")
            assert (waiting.status, waiting.phase) == ("running", "waiting")
            slow.gate.set()
            assert [(await engine.ended(job.id)).progress.downloaded_items for job in (first, late)] == [3, 3]


async def test_N24_a_host_that_is_away_is_tried_once_a_step_and_work_goes_on_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hauld")
    async with ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server:
        gate = Gate(server.source(), is_open=False)
        async with running(tmp_path, gate) as engine:
            job = await engine.create(live=False)
            waiting = await engine.until(job.id, lambda seen: seen.phase == "waiting")
            assert (waiting.status, waiting.error.kind if waiting.error else None) == ("running", "network")
            await told(engine, "job.phase", 6)
            gate.is_open = True
            assert (await engine.ended(job.id)).progress.downloaded_items == 3
    events = [getattr(record, "event", None) for record in caplog.records]
    assert events.count("account.failed") == events.count("account.recovered") == 1
    assert events.count("host.dead") == events.count("host.alive") == 1


async def test_a_job_that_was_read_before_it_ran_is_not_said_to_wait(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server, running(tmp_path, server.source()) as engine:
        row = await engine.state.job((await watching(engine)).id)
        keeper = engine.supervisor.keeper(row.number)
        assert keeper is not None
        keeper.untold = Trouble("locked", "Another program has locked the ledger.")
        counters = await engine.state.counters(row.number)
        now = job_on_the_wire(replace(row, status=JobStatus.RUNNING, phase=Phase.LISTING), counters, keeper)
        assert (now.phase, now.error is not None) == ("waiting", True)
        before = job_on_the_wire(replace(row, status=JobStatus.PENDING, phase=None), counters, keeper)
        assert (before.phase, before.error) == (None, None)


async def test_an_account_in_trouble_says_since_when_why_and_when_it_is_tried_again_and_events_tell(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server:
        gate = Gate(server.source(), is_open=False)
        async with running(tmp_path, gate, policy=RetryPolicy(initial=0.05, longest=0.05)) as engine:
            job = await engine.create(live=False)
            account = await until(engine, "a", lambda told: told.state == "waiting")
            assert account.error is not None
            assert account.error.kind == "network"
            assert account.error.retry_at is not None
            assert account.error.since is not None
            assert account.since >= account.error.since[:-5]
            gate.is_open = True
            await engine.ended(job.id)
            first, last = (await told(engine, "account.state", 2))[:2]
    assert first.data == {
        "account": "a",
        "state": "waiting",
        "kind": "network",
        "reason": "gate.example:993 cannot be reached.",
    }
    assert (last.data["state"], last.data["kind"]) == ("connected", None)


async def test_trouble_that_comes_and_goes_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hauld")
    account = Account(settings("a", connections=1, interval=1.0), 1, Dead(), SystemClock())
    for _ in range(20):
        account.failed(Transient("network", "The connection was reset."), 1)
        account.recovered()
    account.failed(Transient("tls", "No encryption."), 1)
    assert [record.event for record in caplog.records] == ["account.failed", "account.recovered", "account.failed"]  # type: ignore[attr-defined]


async def test_N25_a_host_that_has_moved_to_another_address_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are looked up for each connection; one address that does not answer is no reason not to try the next."""
    addresses = ["127.0.0.2"]
    original = socket.getaddrinfo

    def look_up(host: str, port: object, **options: Any) -> list[Any]:
        return [found for address in addresses for found in original(address, None, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with (
        ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server,
        running(tmp_path, server.source(host="mail.example", allow_plaintext=True)) as engine,
    ):
        job = await engine.create(live=False)
        await engine.until(job.id, lambda seen: seen.phase == "waiting")
        addresses += ["127.0.0.1"]
        assert (await engine.ended(job.id)).progress.downloaded_items == 3


# --- listening ---


async def test_an_account_listens_while_a_live_job_of_it_is_at_work_and_no_longer(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server, running(tmp_path, server.source()) as engine:
        await engine.finish()
        assert engine.supervisor.accounts["a"].listeners == []
        job = await watching(engine)
        other = await watching(engine)
        assert len(engine.supervisor.accounts["a"].listeners) == 1
        await engine.commands.jobs_pause(calls.JobParams(job=other.id))
        assert len(engine.supervisor.accounts["a"].listeners) == 1
        await engine.commands.jobs_cancel(calls.JobParams(job=job.id))
        await until(engine, "a", lambda told: told.listeners == [])
        await engine.commands.jobs_start(calls.JobParams(job=other.id))
        await until(engine, "a", lambda told: len(told.listeners) == 1)


class Deaf:
    """A source whose sessions have a defect where they listen."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.listened = 0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        async with self.source.session() as session:

            async def watch(folder: RemoteFolder, patience: float) -> Notice | None:
                self.listened += 1
                raise ZeroDivisionError("this cannot be")

            session.watch = watch  # type: ignore[method-assign]
            yield session


async def test_R6_a_listener_with_a_defect_is_given_up_and_shown_while_downloads_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(3)})) as server:
        deaf = Deaf(server.source())
        async with running(tmp_path, deaf) as engine:
            job = await engine.create()
            account = await until(engine, "a", lambda told: told.state == "attention")
            assert (account.error.kind if account.error else None, account.listeners) == ("internal", [])
            assert "ZeroDivisionError" in caplog.text
            assert deaf.listened == 6
            synced = await engine.commands.jobs_sync(calls.JobParams(job=job.id))
            assert synced.progress.downloaded_items == 3


async def test_N23_after_a_sleep_no_idle_connection_is_trusted_and_listeners_come_back(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    clock = Hasty()
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), clock=clock) as engine:
        job = await watching(engine)
        (before,) = engine.supervisor.accounts["a"].listeners
        assert engine.supervisor.accounts["a"].connections > 1
        await engine.supervisor.awake("the machine slept for 3600 s")
        (after,) = engine.supervisor.accounts["a"].listeners
        await until(engine, "a", lambda told: any(each.state == "listening" for each in told.listeners))
        assert after is not before
        assert engine.supervisor.accounts["a"].connections == 1
        honest.mailboxes[b"INBOX"].add(4, b"new\r\n")
        await honest.announce()
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 4)


class Hasty(SystemClock):
    """A clock on which nobody sleeps for long, but who would sleep for minutes sleeps."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.01) if seconds < 60 else seconds)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Instant(1005.0, 5005.0, 1_767_225_605.0), None),
        (Instant(1012.0, 5012.0, 1_767_225_612.0), None),
        (Instant(1005.0, 5005.0, 1_767_225_606.5), None),
        (Instant(1005.0, 8605.0, 1_767_229_205.0), "the machine slept for 3600 s"),
        (Instant(1125.0, 5125.0, 1_767_225_725.0), "the process was stopped for 120 s"),
        (Instant(1005.0, 5005.0, 1_767_225_605.0 + 28_800), "the wall clock was set by +28800 s"),
        (Instant(1005.0, 5005.0, 1_767_225_605.0 - 3600), "the wall clock was set by -3600 s"),
    ],
    ids=["in time", "a little late", "clock corrected", "slept", "stopped", "set forward", "set back"],
)
def test_N23_sleep_and_stops_and_leaps_of_the_clock_are_told_apart(now: Instant, said: str | None) -> None:
    assert unnoticed(NOON, now, 5.0) == said


# --- accounts that come and go ---


async def test_G3_an_account_that_is_removed_while_it_downloads_stops_and_its_jobs_say_why(tmp_path: Path) -> None:
    slow = Slow({b"INBOX": mailbox(40)})
    async with ScriptedServer(slow) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await slow.asked.wait()
        paused = await engine.create(start=False)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await engine.supervisor.remove("a")
        assert loop.time() - began < 5.0
        failed = await engine.job(job.id)
        assert (failed.status, failed.error.kind if failed.error else None) == ("failed", "configuration")
        assert "no longer configured" in str(failed.error)
        assert (await engine.job(paused.id)).status == "pending"
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("job", "listener"))]
        assert (await engine.state.counters((await engine.state.job(job.id)).number)).total == 40
        with pytest.raises(Refused, match="no longer configured"):
            await engine.commands.jobs_start(calls.JobParams(job=job.id))


async def test_G3_an_account_that_is_back_goes_on_where_it_was(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(5)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await watching(engine)
        gone = engine.supervisor.accounts["a"]
        await engine.supervisor.remove("a")
        assert (await engine.job(job.id)).status == "failed"
        with pytest.raises(Refused, match="has just changed"):
            async with gone.session(1):
                pass
        await engine.supervisor.add(another(gone, server.source()))
        honest.mailboxes[b"INBOX"].add(6, b"new\r\n")
        await engine.commands.jobs_start(calls.JobParams(job=job.id))
        done = await engine.until(job.id, lambda seen: seen.status == "completed")
        assert (done.progress.total_items, done.progress.downloaded_items) == (6, 6)
        assert len([command for command in server.asked("UID FETCH 1:5") if b"BODY" in command]) == 1


async def test_an_account_that_is_added_takes_up_the_jobs_that_were_at_work(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(5)})) as server:
        async with running(tmp_path, server.source()) as engine:
            job = await watching(engine)
        async with running(tmp_path, {}) as engine:
            assert (await engine.job(job.id)).status == "failed", "at the start there is no such account"
            number = (await engine.state.job(job.id)).account
            await engine.state.move_job((await engine.state.job(job.id)).number, JobStatus.PENDING)
            account = Account(settings("a", connections=2, interval=3600.0), number, server.source(), SystemClock())
            await engine.supervisor.add(account)
            await engine.until(job.id, lambda seen: seen.status == "completed")
            await until(engine, "a", lambda told: any(each.state == "listening" for each in told.listeners))


async def test_an_account_with_other_settings_goes_on_with_them_and_no_job_fails(tmp_path: Path) -> None:
    slow = Slow({b"INBOX": mailbox(40)})
    honest = Honest({b"INBOX": mailbox(40)})
    async with ScriptedServer(slow) as before, ScriptedServer(honest) as after, running(tmp_path, before.source()) as engine:
        job = await engine.create()
        await slow.asked.wait()
        await engine.supervisor.replace(another(engine.supervisor.accounts["a"], after.source()))
        done = await engine.until(job.id, lambda seen: seen.status == "completed")
        assert done.progress.downloaded_items == 40
        await until(engine, "a", lambda told: any(each.state == "listening" for each in told.listeners))
        assert not [moved for moved in await told(engine, "job.status") if moved.data["to"] == "failed"]


async def test_an_account_that_others_do_not_share_a_thing_with_is_not_touched_when_one_goes(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(3)})
    async with ScriptedServer(honest) as server, running(tmp_path, {"a": server.source(), "b": server.source()}) as engine:
        await watching(engine, "a")
        await watching(engine, "b")
        connections = server.connections
        (listener,) = engine.supervisor.accounts["b"].listeners
        await engine.supervisor.remove("a")
        assert engine.supervisor.accounts["b"].listeners == [listener]
        assert listener.stage == "listening"
        assert server.connections == connections


# --- what is left behind ---


async def test_R5_connections_that_came_and_went_leave_nothing_behind(tmp_path: Path) -> None:
    async with ScriptedServer(Honest({b"INBOX": mailbox(1)})) as server:
        account = Account(settings("a", connections=4, interval=1.0), 1, server.source(), SystemClock())
        account.join(Hosts(SystemClock(), QUICK, a_second=10**6), lambda _: None)

        async def come_and_go(times: int) -> None:
            for number in range(times):
                async with account.listening_session() as session:
                    if number % 3 == 0:
                        await anext(session.folders())  # left in the middle

        def left() -> tuple[int, int, int]:
            return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), threading.active_count()

        await come_and_go(20)
        before = await settled(left)
        await come_and_go(250)
        assert await settled(left) == before


async def settled(look: Callable[[], tuple[int, int, int]]) -> tuple[int, int, int]:
    """What is seen when the other end has noticed, too."""
    seen = look()
    for _ in range(200):
        await asyncio.sleep(0.005)
        seen, before = look(), seen
        if seen == before and seen[1] <= 2:
            break
    return seen
