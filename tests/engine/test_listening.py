"""New mail, from the server's notice to the file: it waits for no import, and no broken connection makes it be missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from haulapi import calls
from hauld.clock import SystemClock
from hauld.engine import listener as listening_module
from hauld.engine.ingest import SLICE
from hauld.engine.listener import Listener
from hauld.errors import Transient
from hauld.model import Deposit, Placed, Setback, Stored
from hauld.sources.imap import ImapOptions, ImapSource
from hauld.state.base import Committed
from hauld.state.sqlite import SqliteState
from hauld.stores.maildir import MaildirStore
from support.dovecot import Dovecot, User
from support.engine import PATIENCE, Engine, running
from support.line import Line
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

LOOK = 0.005
"""Seconds; how a listener is, is told by no event."""


def message(number: int, size: int = 100) -> bytes:
    return b"Subject: %d\r\n\r\n" % number + b"x" * size + b"\r\n"


def messages(*numbers: int) -> list[bytes]:
    return sorted(message(number) for number in numbers)


def mailbox(*numbers: int) -> Mailbox:
    return Mailbox({number: message(number) for number in numbers})


async def deliver(honest: Honest, uid: int, number: int | None = None) -> None:
    """A new message, and those who idle are told."""
    honest.mailboxes[b"INBOX"].add(uid, message(number or uid))
    await honest.announce()


def origin(dovecot: Dovecot, user: User, port: int | None = None, **options: float) -> ImapSource:
    async def password() -> str:
        return user.password

    defaults = {"port": port or dovecot.port, "tls": "none"}
    return ImapSource(ImapOptions(host=dovecot.host, user=user.name, **{**defaults, **options}), password)  # type: ignore[arg-type]


def listener_of(engine: Engine) -> Listener | None:
    listeners = engine.supervisor.accounts["a"].listeners
    return listeners[0] if listeners else None


async def seen(engine: Engine) -> calls.Account:
    """The account, as it is told."""
    return await engine.commands.accounts_get(calls.AccountParams(account="a"))


def goodbye(honest: Honest) -> asyncio.Event:
    """The next who idles is told goodbye when this is set."""
    now = asyncio.Event()

    @honest.instead_of("IDLE")
    async def say_goodbye(client: Client, command: Command) -> None:
        honest.be_honest()
        await client.send(b"+ idling\r\n")
        await now.wait()
        await client.send(b"* BYE until later\r\n")
        await client.close()

    return now


class Hurried(SystemClock):
    """A clock that a test can put forward: who sleeps wakes up."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.sleeping: list[float] = []
        self._moved = asyncio.Event()

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        until = self.monotonic() + seconds
        self.sleeping.append(seconds)
        try:
            while (left := until - self.monotonic()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._moved.wait(), left)
        finally:
            self.sleeping.remove(seconds)

    def hurry(self, seconds: float) -> None:
        self.ahead += seconds
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(LOOK)


async def is_listening(engine: Engine) -> None:
    await until(lambda: (listener := listener_of(engine)) is not None and listener.stage == "listening")


async def has(engine: Engine, bodies: Iterable[bytes]) -> None:
    """Wait until exactly that is stored."""
    wanted = sorted(bodies)
    async with asyncio.timeout(PATIENCE):
        while engine.bodies() != wanted:
            await asyncio.sleep(LOOK)


async def append(dovecot: Dovecot, user: User, *numbers: int, folder: str = "INBOX") -> None:
    for number in numbers:
        await asyncio.to_thread(dovecot.append, user, folder, message(number))


@asynccontextmanager
async def listening(tmp_path: Path, source: ImapSource, **params: object) -> AsyncIterator[tuple[Engine, calls.Job]]:
    """An engine whose live job has imported everything, and whose listener listens."""
    async with running(tmp_path, source) as engine:
        job = await engine.create(**params)
        await engine.until(job.id, lambda seen: seen.status == "completed")
        await is_listening(engine)
        yield engine, await engine.job(job.id)


# --- what comes ---


async def test_mail_that_comes_is_stored_though_nobody_asks_for_it_and_the_job_stays_completed(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(1, 2))
    async with listening(tmp_path, origin(dovecot, mail_user)) as (engine, job):
        last = (await engine.state.event_span())[1]
        await append(dovecot, mail_user, 3)
        await has(engine, messages(1, 2, 3))
        after = await engine.until(job.id, lambda seen: str(seen.last_sync_at) > str(job.last_sync_at))
        assert (after.status, after.progress.downloaded_items, after.progress.remaining_items) == ("completed", 3, 0)
        assert "job.status" not in {event.kind for event in await engine.state.events(last)}


async def test_several_that_come_at_once_and_by_copy_and_were_read_elsewhere_all_come(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "Work", messages(1, 2))

    def deliver() -> None:
        with dovecot.client(mail_user) as client:
            for number in (3, 4):
                assert client.append("INBOX", r"(\Seen)", "", message(number))[0] == "OK"
            assert client.select("Work")[0] == "OK"
            assert client.copy("1", "INBOX")[0] == "OK"
            assert client.uid("MOVE", "2", "INBOX")[0] == "OK"

    inbox = calls.WantedStrategy(kind="inbox-only")
    async with listening(tmp_path, origin(dovecot, mail_user), strategy=inbox) as (engine, _):
        await asyncio.to_thread(deliver)
        await has(engine, messages(1, 2, 3, 4))


async def test_mail_that_comes_during_an_import_is_there_before_what_is_older(tmp_path: Path) -> None:
    honest, let_go = Honest({b"INBOX": mailbox(1, 2, 3)}), asyncio.Event()

    @honest.instead_of("UID FETCH")
    async def hold_what_is_old(client: Client, command: Command) -> None:
        if b"BODY" in command.arguments and not command.arguments.startswith(b"4"):
            await let_go.wait()
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), connections=1, slots=1) as engine:
        job = await engine.create()
        await is_listening(engine)
        await deliver(honest, 4)
        await has(engine, messages(4))
        assert (await engine.job(job.id)).status == "running"
        let_go.set()
        done = await engine.until(job.id, lambda seen: seen.status == "completed")
        assert done.progress.downloaded_items == 4
        assert engine.bodies() == messages(1, 2, 3, 4)


async def test_a_second_job_that_wants_the_same_has_it_too_and_one_of_other_dates_does_not(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    async with ScriptedServer(honest) as server, listening(tmp_path, server.source()) as (engine, job):
        same = await engine.create(strategy=calls.WantedStrategy(kind="inbox-only"))
        later = await engine.create(strategy=calls.WantedStrategy(kind="date-range", since="2020-01-01"))
        for other in (same, later):
            await engine.until(other.id, lambda seen: seen.status == "completed")
        await deliver(honest, 2)
        await has(engine, messages(1, 2))
        for each, wanted in ((job, 2), (same, 2), (later, 0)):
            progress = (await engine.until(each.id, lambda seen: seen.progress.remaining_items == 0)).progress
            assert progress.total_items == wanted
        assert sum(b"BODY" in command for command in server.asked("UID FETCH 2 ")) == 1


async def test_a_job_that_has_to_ask_what_it_wants_compares_at_once(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    unseen = calls.WantedStrategy(kind="unseen")
    async with ScriptedServer(honest) as server, listening(tmp_path, server.source(), strategy=unseen) as (engine, _):
        await deliver(honest, 2)
        await has(engine, messages(1, 2))


async def test_what_an_answer_leaves_out_is_left_to_the_job_which_asks_again(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    async with ScriptedServer(honest) as server, listening(tmp_path, server.source()) as (engine, job):
        left_out: list[int] = []

        @honest.instead_of("UID FETCH")
        async def leave_out_once(client: Client, command: Command) -> None:
            if b"BODY" in command.arguments and not left_out:
                left_out.append(client.number)
                await client.send(command.ok())
            else:
                await honest.answer(client, command)

        await deliver(honest, 2)
        await has(engine, messages(1, 2))
        done = await engine.until(job.id, lambda seen: seen.status == "completed")
        assert left_out
        assert (done.progress.downloaded_items, done.progress.failed_items) == (2, 0)


async def test_a_comparison_does_not_ask_for_what_is_being_brought_home(tmp_path: Path) -> None:
    honest, asked, let_go = Honest({b"INBOX": mailbox(1)}), asyncio.Event(), asyncio.Event()
    async with ScriptedServer(honest) as server, listening(tmp_path, server.source()) as (engine, job):

        @honest.instead_of("UID FETCH")
        async def slowly(client: Client, command: Command) -> None:
            if b"BODY" in command.arguments:
                asked.set()
                await let_go.wait()
            await honest.answer(client, command)

        last = (await engine.state.event_span())[1]
        await deliver(honest, 2)
        await asked.wait()
        comparing = asyncio.create_task(engine.commands.jobs_sync(calls.JobParams(job=job.id)))
        await until(lambda: len(server.asked("LIST")) > 1)
        let_go.set()
        assert (await comparing).status == "completed"
        assert engine.bodies() == messages(1, 2)
        assert "job.status" not in {event.kind for event in await engine.state.events(last)}
        assert sum(b"BODY" in command for command in server.asked("UID FETCH 2 ")) == 1


async def test_while_something_new_comes_an_import_leaves_gaps_for_it_in_the_ledger(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1), b"Old": mailbox(*range(1, 301))})
    asked, let_go = asyncio.Event(), asyncio.Event()
    sizes: list[int] = []

    class Counting(SqliteState):
        async def record_group(self, job: int | None, stored: Sequence[Stored], setbacks: Sequence[Setback]) -> Committed:
            sizes.append(len(stored))
            return await super().record_group(job, stored, setbacks)

    @honest.instead_of("UID FETCH")
    async def hold_what_is_new(client: Client, command: Command) -> None:
        if b"BODY" in command.arguments and command.arguments.startswith(b"2 "):
            asked.set()
            await let_go.wait()
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), state=Counting) as engine:
        await engine.create(strategy=calls.WantedStrategy(kind="inbox-only"))
        await is_listening(engine)
        await deliver(honest, 2)
        await asked.wait()
        done = await engine.finish(strategy=calls.WantedStrategy(kind="selected-folders", folders=["Old"]))
        assert done.progress.downloaded_items == 300
        assert 1 < max(sizes) <= SLICE
        let_go.set()
        await has(engine, messages(1, 2, *range(1, 301)))


async def test_what_cannot_be_stored_is_left_to_the_job_which_waits_for_the_disk(tmp_path: Path) -> None:
    honest, full = Honest({b"INBOX": mailbox(1)}), [False]

    class Full(MaildirStore):
        @asynccontextmanager
        async def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AsyncIterator[Sequence[Placed]]:
            if full[0]:
                raise Transient("disk", "There is no room.")
            async with super().commit(group, urgent=urgent) as placed:
                yield placed

    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), store=Full) as engine:
        job = await engine.create()
        await is_listening(engine)
        full[0] = True
        await deliver(honest, 2)
        waiting = await engine.until(job.id, lambda seen: seen.phase == "waiting")
        assert waiting.error is not None
        assert waiting.error.kind == "disk"
        full[0] = False
        await engine.until(job.id, lambda seen: seen.status == "completed")
        assert engine.bodies() == messages(1, 2)
        await deliver(honest, 3)
        await has(engine, messages(1, 2, 3))


async def test_what_went_and_what_was_read_elsewhere_is_found_by_a_comparison(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2)})
    clock = Hurried()
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), clock=clock) as engine:
        job = await engine.create()
        await is_listening(engine)
        del honest.mailboxes[b"INBOX"].messages[1]
        honest.mailboxes[b"INBOX"].flags[2] = rb"\Seen"
        honest.mailboxes[b"INBOX"].touch()
        await honest.announce()

        async def known() -> list[tuple[str, bool, list[str]]]:
            page = await engine.commands.items_list(calls.ItemListParams(job=job.id))
            return [(item.key, item.removed_at is None, item.flags) for item in page.items]

        async with asyncio.timeout(PATIENCE):
            while sorted(await known()) != [("1.1", False, []), ("1.2", True, ["\\Seen"])]:
                clock.hurry(30)
                await asyncio.sleep(LOOK)


async def test_a_first_import_is_listed_before_anybody_listens(tmp_path: Path) -> None:
    honest, let_go = Honest({b"INBOX": mailbox(1)}), asyncio.Event()

    @honest.instead_of("UID SEARCH")
    async def slowly(client: Client, command: Command) -> None:
        await let_go.wait()
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.create()
        await until(lambda: bool(server.asked("UID SEARCH")))
        assert (await seen(engine)).listeners[0].state == "waiting"
        assert (await seen(engine)).freshness_secs is None
        let_go.set()
        await is_listening(engine)
        account = await seen(engine)
        assert (account.listeners[0].mode, account.listeners[0].folder, account.freshness_secs) == ("push", "INBOX", 0.0)
        await engine.commands.jobs_pause(calls.JobParams(job=job.id))
        await until(lambda: listener_of(engine) is None)


# --- what breaks ---


@pytest.mark.parametrize("end", ["close", "reset"], ids=["FIN", "RST"])
async def test_N20_a_listener_that_is_cut_off_catches_up_before_it_listens_again(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, end: str
) -> None:
    async with (
        Line(dovecot.host, dovecot.port) as line,
        listening(tmp_path, origin(dovecot, mail_user, line.port)) as (engine, _),
    ):
        line.refuse()
        getattr(line, end)()
        await until(lambda: (listener := listener_of(engine)) is not None and listener.trouble is not None)
        listener = (await seen(engine)).listeners[0]
        assert listener.mode == "push"
        assert listener.state in ("waiting", "connecting")
        assert listener.error is not None
        assert listener.error.retry_at is not None
        await append(dovecot, mail_user, 1)
        line.accept()
        await has(engine, messages(1))
        await is_listening(engine)
        await append(dovecot, mail_user, 2)
        await has(engine, messages(1, 2))
        assert (await seen(engine)).listeners[0].error is None


async def test_N4_a_server_that_has_gone_without_a_word_is_found_out_and_nothing_is_missed(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    async with Line(dovecot.host, dovecot.port) as line:
        source = origin(dovecot, mail_user, line.port, idle_span=0.2, timeout=0.3)
        async with listening(tmp_path, source) as (engine, _):
            line.swallow()
            await append(dovecot, mail_user, 1)
            await has(engine, messages(1))
            await is_listening(engine)


async def test_N19_a_listener_is_told_goodbye_and_comes_back(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    now = goodbye(honest)
    async with ScriptedServer(honest) as server, listening(tmp_path, server.source()) as (engine, _):
        honest.mailboxes[b"INBOX"].add(2, message(2))
        now.set()
        await has(engine, messages(1, 2))
        await is_listening(engine)


async def test_N21_a_server_that_never_speaks_first_is_asked(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    async with ScriptedServer(honest) as server, listening(tmp_path, server.source(idle_span=0.1)) as (engine, _):
        honest.mailboxes[b"INBOX"].add(2, message(2))
        await has(engine, messages(1, 2))


async def test_N22_a_server_without_push_is_asked_by_the_schedule_and_says_so(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    honest.capabilities = honest.capabilities.replace(b"IDLE ", b"")
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), interval=0.05) as engine:
        await engine.create()
        await until(lambda: (listener := listener_of(engine)) is not None and listener.trouble is not None)
        (listener,) = (await seen(engine)).listeners
        assert listener.error is not None
        assert (listener.mode, listener.state, listener.error.kind) == ("polling", "waiting", "push")
        honest.mailboxes[b"INBOX"].add(2, message(2))
        await has(engine, messages(1, 2))
        freshness = (await seen(engine)).freshness_secs
        assert freshness is not None
        assert 0 <= freshness < PATIENCE


async def test_a_listener_whose_password_is_refused_waits_for_a_person(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1)})
    now = goodbye(honest)
    async with ScriptedServer(honest) as server, listening(tmp_path, server.source()) as (engine, job):
        accepted = len(server.asked("AUTHENTICATE"))
        honest.password = b"changed"
        now.set()
        async with asyncio.timeout(PATIENCE):
            while (account := await seen(engine)).state != "attention":
                await asyncio.sleep(LOOK)
        assert [listener.state for listener in account.listeners] in (["waiting"], [])
        assert len(server.asked("AUTHENTICATE")) == accepted + 3
        honest.mailboxes[b"INBOX"].add(2, message(2))
        honest.password = b"secret"
        await engine.commands.jobs_pause(calls.JobParams(job=job.id))
        await engine.commands.jobs_start(calls.JobParams(job=job.id))
        await has(engine, messages(1, 2))
        await is_listening(engine)


async def test_P11_new_keys_are_listed_by_the_job_before_anybody_listens_again(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": mailbox(1, 2)})
    now = goodbye(honest)
    async with ScriptedServer(honest) as server, listening(tmp_path, server.source()) as (engine, _):
        honest.mailboxes[b"INBOX"] = Mailbox({1: message(7), 2: message(8)}, uidvalidity=2)
        now.set()
        await has(engine, messages(1, 2, 7, 8))
        await is_listening(engine)
        await deliver(honest, 3, 9)
        await has(engine, messages(1, 2, 7, 8, 9))


async def test_a_server_that_cries_wolf_is_not_heard_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Honest({b"INBOX": mailbox(1)})

    @honest.instead_of("IDLE")
    async def cry_wolf(client: Client, command: Command) -> None:
        await client.send(b"+ idling\r\n* 2 EXISTS\r\n* 1 EXPUNGE\r\n")
        assert await client.line() == b"DONE"
        await client.send(command.ok())

    clock = Hurried()
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), clock=clock) as engine:
        await engine.create()
        await until(lambda: listening_module.RESPITE in clock.sleeping)
        asked = len(server.asked("IDLE"))
        assert asked == listening_module.VAIN
        clock.hurry(listening_module.RESPITE)
        await until(lambda: len(server.asked("IDLE")) > asked)
