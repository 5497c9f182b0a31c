"""A folder that is watched: what is news, how long a server is left to speak first, and every way in which that ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from contracts.source import ARRIVING, arrived, body_of, fetched, items_of, listing
from hauld.errors import ItemRejected, StaleCursor, Transient
from hauld.model import Notice, RemoteFolder
from hauld.sources.base import Session
from hauld.sources.imap import ImapOptions, ImapSource
from hauld.sources.imap.idling import SHORTEST_SPAN, Span, Watch
from hauld.sources.imap.listing import Mailbox as OpenMailbox
from hauld.sources.imap.protocol import LONGEST_ANSWER
from support.dovecot import Dovecot, User
from support.patient_imap import TIMEOUT, Line, patiently
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

INBOX = RemoteFolder(b"INBOX", ("INBOX",))
PATIENCE = 20.0
A_MOMENT = 0.05
"""Seconds for which to wait where nothing is to come."""


def honest_with(count: int) -> Honest:
    return Honest({b"INBOX": Mailbox({uid: b"message %d\r\n" % uid for uid in range(1, count + 1)})})


def says(*lines: bytes) -> Callable[[Client, Command], Awaitable[None]]:
    """A server that says this as soon as it idles."""

    async def idle(client: Client, command: Command) -> None:
        await client.send(b"+ idling\r\n", *lines)
        assert await client.line() == b"DONE"
        await client.send(command.ok())

    return idle


async def noticed(idle: Callable[[Client, Command], Awaitable[None]], patience: float = PATIENCE) -> Notice | None:
    """What a watch of three messages tells, with a server that answers IDLE so."""
    honest = honest_with(3)
    honest.instead_of("IDLE")(idle)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        await listing(session, INBOX)
        notice = await session.watch(INBOX, patience)
        assert len(await listing(session, INBOX)) == 2
        return notice


# --- what is news ---


@pytest.mark.parametrize(
    ("said", "notice"),
    [
        (b"* 4 EXISTS\r\n", Notice(new=True, other=False)),
        (b"* 2 EXPUNGE\r\n", Notice(new=False, other=True)),
        (b"* 2 EXPUNGE\r\n* 3 EXISTS\r\n", Notice(new=True, other=True)),
        (b"* 1 FETCH (FLAGS (\\Seen))\r\n", Notice(new=False, other=True)),
        (b"* 1 fetch (uid 1 modseq (9) flags ())\r\n", Notice(new=False, other=True)),
        (b"* VANISHED 2\r\n", Notice(new=False, other=True)),
        (b"* 2 EXISTS\r\n", Notice(new=False, other=True)),
        (b"* EXISTS\r\n", Notice(new=False, other=True)),
        (b"* 99 EXPUNGE\r\n", Notice(new=False, other=True)),
    ],
)
async def test_a_notice_says_what_kind_of_thing_happened(said: bytes, notice: Notice) -> None:
    assert await noticed(says(said)) == notice


@pytest.mark.parametrize(
    "said",
    [
        b"* OK Still here\r\n",
        b"* 3 EXISTS\r\n",
        b"* 1 RECENT\r\n* 3 EXISTS\r\n",
        b"* CAPABILITY IMAP4rev1 IDLE\r\n",
        b"* OK [UIDVALIDITY 1] as ever\r\n",
        b"* OK [HIGHESTMODSEQ 9] more\r\n",
        b"* FLAGS (\\Seen)\r\n",
        b"+ more\r\n",
        b"* FETCH\r\n* 1 FETCH x\r\n* 1 FETCH (UID 1)\r\n",
    ],
)
async def test_what_says_nothing_new_is_no_notice(said: bytes) -> None:
    assert await noticed(says(said), A_MOMENT) is None


async def test_a_burst_is_one_notice() -> None:
    honest = honest_with(3)
    honest.instead_of("IDLE")(says(b"* 3 EXPUNGE\r\n", *(b"* %d EXISTS\r\n" % count for count in range(3, 500))))
    async with ScriptedServer(honest) as server, server.source().session() as session:
        await listing(session, INBOX)
        assert await session.watch(INBOX, PATIENCE) == Notice(new=True, other=True)
        honest.be_honest()
        assert await session.watch(INBOX, A_MOMENT) is None
        assert len(server.asked("IDLE")) == 2


async def test_what_comes_before_the_server_lets_IDLE_go_on_counts_and_DONE_waits_for_that() -> None:
    honest = honest_with(3)
    let_go_on = asyncio.Event()

    @honest.instead_of("IDLE")
    async def late(client: Client, command: Command) -> None:
        await client.send(b"* 4 EXISTS\r\n")
        done = asyncio.create_task(client.line())
        await let_go_on.wait()
        assert not done.done()
        await client.send(b"+ idling\r\n")
        assert await done == b"DONE"
        await client.send(command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        await listing(session, INBOX)
        asyncio.get_running_loop().call_later(A_MOMENT, let_go_on.set)
        assert await session.watch(INBOX, PATIENCE) == Notice(new=True, other=False)


async def test_what_was_said_beside_other_answers_is_told_without_asking() -> None:
    honest = honest_with(3)

    @honest.instead_of("UID FETCH")
    async def beside(client: Client, command: Command) -> None:
        await client.send(b"* 4 EXISTS\r\n* 1 FETCH (FLAGS (\\Seen))\r\n")
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        epoch, items = await items_of(session, INBOX)
        await fetched(session, INBOX, epoch, [items[0].key])
        assert await session.watch(INBOX, PATIENCE) == Notice(new=True, other=True)
        assert not server.asked("IDLE")


async def test_a_listing_is_no_news_of_itself() -> None:
    honest = honest_with(1500)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        epoch, items = await items_of(session, INBOX)
        assert len(items) == len(await arrived(session, INBOX, epoch, 0)) == 1500
        assert await session.watch(INBOX, A_MOMENT) is None


async def test_after_a_notice_the_folder_is_not_opened_again() -> None:
    honest = honest_with(3)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        epoch, _ = await items_of(session, INBOX)
        for uid in (4, 5):
            honest.mailboxes[b"INBOX"].add(uid, ARRIVING)
            assert await session.watch(INBOX, PATIENCE) == Notice(new=True, other=False)
            (item,) = await arrived(session, INBOX, epoch, uid - 1)
            (outcome,) = await fetched(session, INBOX, epoch, [item.key])
            assert body_of(outcome) == ARRIVING
        since = server.commands[server.commands.index(b"IDLE") :]
        assert [command.split(b" ")[0] for command in since] == [b"IDLE", b"UID", b"UID"] * 2


async def test_over_a_compressed_connection_a_notice_comes_too(dovecot: Dovecot, mail_user: User) -> None:
    async def secret() -> str:
        return mail_user.password

    dovecot.fill(mail_user, "INBOX", [ARRIVING])
    options = ImapOptions(
        "localhost", mail_user.name, dovecot.tls_port, ca_file=dovecot.certificate, compress=True, idle_span=0.3
    )
    async with ImapSource(options, secret).session() as session:
        epoch, (item,) = await items_of(session, INBOX)
        watching = asyncio.create_task(session.watch(INBOX, PATIENCE))
        await asyncio.to_thread(dovecot.append, mail_user, "INBOX", ARRIVING)
        assert await watching == Notice(new=True, other=False)
        assert len(await arrived(session, INBOX, epoch, item.ordinal)) == 1


# --- servers that do not push ---


async def test_N21_a_server_that_keeps_its_news_to_itself_is_asked_now_and_then() -> None:
    honest = honest_with(3)
    honest.instead_of("IDLE")(says())
    async with ScriptedServer(honest) as server, server.source(idle_span=A_MOMENT).session() as session:
        epoch, _ = await items_of(session, INBOX)
        while len(server.asked("NOOP")) < 2:
            assert await session.watch(INBOX, 2 * A_MOMENT) is None
        honest.mailboxes[b"INBOX"].add(4, ARRIVING)
        assert await session.watch(INBOX, PATIENCE) == Notice(new=True, other=False)
        assert len(await arrived(session, INBOX, epoch, 3)) == 1


async def test_N21_short_watches_are_asked_between_too() -> None:
    honest = honest_with(3)
    honest.instead_of("IDLE")(says())
    async with ScriptedServer(honest) as server, server.source(idle_span=4 * A_MOMENT).session() as session:
        await listing(session, INBOX)
        honest.mailboxes[b"INBOX"].add(4, ARRIVING)
        while await session.watch(INBOX, A_MOMENT) is None:
            assert len(server.asked("IDLE")) < 50
        assert len(server.asked("NOOP")) == 1


async def does_not_push(honest: Honest) -> list[bytes]:
    """Nothing is pushed, and the session can be used as before; the commands that were sent."""
    async with ScriptedServer(honest) as server, server.source().session() as session:
        epoch, _ = await items_of(session, INBOX)
        for _ in range(2):
            with pytest.raises(ItemRejected) as rejected:
                await session.watch(INBOX, PATIENCE)
            assert rejected.value.kind == "push"
            assert "push" in rejected.value.message
        assert session.alive
        honest.mailboxes[b"INBOX"].add(4, ARRIVING)
        assert len(await arrived(session, INBOX, epoch, 3)) == 1
        return server.asked("IDLE")


async def test_N22_a_server_without_IDLE_is_not_asked_for_it() -> None:
    honest = honest_with(3)
    honest.capabilities = b"IMAP4rev1"
    assert await does_not_push(honest) == []


@pytest.mark.parametrize("answer", [b"NO not now", b"BAD what is that", b"NO [UNAVAILABLE] some other day"])
async def test_N22_a_server_that_refuses_IDLE_is_believed(answer: bytes) -> None:
    honest = honest_with(3)

    @honest.instead_of("IDLE")
    async def refuses(client: Client, command: Command) -> None:
        await client.send(command.tag + b" " + answer + b"\r\n")

    assert len(await does_not_push(honest)) == 2


@pytest.mark.parametrize("first", [b"", b"+ idling\r\n"], ids=["without a word", "after letting it go on"])
async def test_N22_a_server_that_ends_each_IDLE_at_once_is_asked_three_times(first: bytes) -> None:
    honest = honest_with(3)

    @honest.instead_of("IDLE")
    async def ends(client: Client, command: Command) -> None:
        await client.send(first + command.ok())

    assert 6 <= len(await does_not_push(honest)) < 12  # which were more only where the machine was busy for a second


@patiently
async def test_N22_a_server_that_ends_IDLE_after_a_while_is_asked_again(line: Line) -> None:
    watching = asyncio.create_task(watch_of(line).notice(open_mailbox(line), 10_000))
    for _ in range(10):
        await line.seconds(2)
        assert line.sent() == [b"IDLE"]
        line.say(b"+ idling\r\n")
        await line.seconds(5)
        line.answer()
    await line.seconds(2)
    line.say(b"+ idling\r\n* 1 EXISTS\r\n")
    await line.seconds(2)
    assert line.sent() == [b"IDLE", b"DONE"]
    line.answer()
    assert await watching == Notice(new=True, other=False)


# --- connections that end ---


@pytest.mark.parametrize("closes", [True, False], ids=["and closes", "and stays"])
async def test_N19_BYE_instead_of_a_greeting_is_told_at_once(closes: bool) -> None:
    async def play(client: Client) -> None:
        await client.send(b"* BYE too busy\r\n")
        if closes:
            await client.close()

    async with ScriptedServer(play) as server:
        with pytest.raises(Transient, match="ended the connection: too busy"):
            async with server.source().session():
                pass


@pytest.mark.parametrize("closes", [True, False], ids=["and closes", "and stays"])
async def test_N19_BYE_in_the_middle_of_a_body_leaves_the_item_for_another_time(closes: bool) -> None:
    honest = honest_with(3)

    @honest.instead_of("UID FETCH")
    async def says_goodbye(client: Client, command: Command) -> None:
        if b"BODY" not in command.arguments:
            await honest.answer(client, command)
            return
        await client.send(honest.body(honest.mailboxes[b"INBOX"], 1, 1), b"* BYE for today\r\n")
        await (client.close() if closes else client.gone())

    async with ScriptedServer(honest) as server:
        async with server.source().session() as session:
            epoch, items = await items_of(session, INBOX)
            with pytest.raises(Transient, match="ended the connection: for today"):
                await fetched(session, INBOX, epoch, [item.key for item in items])
            assert not session.alive
        honest.be_honest()
        async with server.source().session() as session:
            assert len(await fetched(session, INBOX, epoch, [item.key for item in items])) == 3


@pytest.mark.parametrize("closes", [True, False], ids=["and closes", "and stays"])
async def test_N19_BYE_while_it_idles_ends_the_watch_at_once(closes: bool) -> None:
    honest = honest_with(3)

    @honest.instead_of("IDLE")
    async def says_goodbye(client: Client, command: Command) -> None:
        await client.send(b"+ idling\r\n* BYE Autologout\r\n")
        await (client.close() if closes else client.gone())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        await listing(session, INBOX)
        with pytest.raises(Transient, match="Autologout") as error:
            await session.watch(INBOX, PATIENCE)
        assert error.value.kind == "network"
        assert not session.alive


async def after_the_greeting_of_idle(client: Client) -> None:
    await client.send(b"+ idling\r\n")


async def between_notice_and_DONE(client: Client) -> None:
    await client.send(b"+ idling\r\n* 4 EXISTS\r\n")


async def before_its_answer_to_DONE(client: Client) -> None:
    await client.send(b"+ idling\r\n* 4 EXISTS\r\n")
    assert await client.line() == b"DONE"


async def within_its_answer_to_DONE(client: Client) -> None:
    await before_its_answer_to_DONE(client)
    await client.send(b"* 5 EXISTS\r\n* 4 EX")


async def without_a_word(client: Client) -> None:
    pass


@pytest.mark.parametrize(
    "until",
    [
        without_a_word,
        after_the_greeting_of_idle,
        between_notice_and_DONE,
        before_its_answer_to_DONE,
        within_its_answer_to_DONE,
    ],
)
async def test_N20_a_reset_while_it_idles_loses_nothing(until: Callable[[Client], Awaitable[None]]) -> None:
    honest = honest_with(3)

    @honest.instead_of("IDLE")
    async def resets(client: Client, command: Command) -> None:
        await until(client)
        honest.mailboxes[b"INBOX"].add(4, ARRIVING)
        await client.reset()

    async with ScriptedServer(honest) as server:
        source = server.source()
        async with source.session() as session:
            epoch, _ = await items_of(session, INBOX)
            with pytest.raises(Transient) as error:
                await session.watch(INBOX, PATIENCE)
            assert error.value.kind == "network"
            assert not session.alive
        honest.be_honest()
        async with source.session() as session:
            (item,) = await arrived(session, INBOX, epoch, 3)
            assert body_of((await fetched(session, INBOX, epoch, [item.key]))[0]) == ARRIVING
            assert await session.watch(INBOX, A_MOMENT) is None


async def test_N4_a_server_that_has_gone_without_a_word_is_found() -> None:
    honest = honest_with(3)

    @honest.instead_of("IDLE")
    async def falls_silent(client: Client, command: Command) -> None:
        await client.send(b"+ idling\r\n")
        await client.gone()

    async with ScriptedServer(honest) as server, server.source(timeout=1.0, idle_span=0.2).session() as session:
        await listing(session, INBOX)
        with pytest.raises(Transient, match="sent nothing for 1 s while it owed an answer to IDLE") as error:
            await session.watch(INBOX, PATIENCE)
        assert error.value.kind == "timeout"
        assert not session.alive


async def test_N4_the_kernel_probes_an_idle_connection_and_gives_up_after_the_timeout() -> None:
    async with ScriptedServer(honest_with(1)) as server, server.source(timeout=45.0).session() as session:
        wire = session._connection.transport.get_extra_info("socket")
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
        # where it is set, it and not the number of probes says when an idle connection is given up (tcp(7))
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000


async def test_a_folder_that_gets_another_epoch_while_it_is_watched_ends_the_session() -> None:
    honest = honest_with(3)
    honest.instead_of("IDLE")(says(b"* OK [UIDVALIDITY 7] made anew\r\n"))
    async with ScriptedServer(honest) as server:
        async with server.source().session() as session:
            epoch, _ = await items_of(session, INBOX)
            with pytest.raises(Transient, match="changed the UIDVALIDITY of the open folder"):
                await session.watch(INBOX, PATIENCE)
        honest.mailboxes[b"INBOX"].uidvalidity = 7
        async with server.source().session() as session:
            with pytest.raises(StaleCursor):
                await arrived(session, INBOX, epoch, 3)


# --- how long ---


def open_mailbox(line: Line) -> OpenMailbox:
    """An empty folder, open on that line."""
    mailbox = OpenMailbox()
    mailbox.exists = 0
    mailbox.opened()
    line.connection._listeners.append(mailbox.listen)
    return mailbox


def watch_of(line: Line, span: Span | None = None) -> Watch:
    return Watch(line.connection, span or Span(600))


async def idling(line: Line, span: Span, patience: float = 100_000) -> asyncio.Task[Notice | None]:
    """A watch whose server has let IDLE go on."""
    watching = asyncio.create_task(watch_of(line, span).notice(open_mailbox(line), patience))
    await line.seconds(2)
    line.say(b"+ idling\r\n")
    await line.seconds(2)
    assert line.sent() == [b"IDLE"]
    return watching


@patiently
async def test_a_server_that_idles_may_be_silent_until_it_is_asked(line: Line) -> None:
    watching = await idling(line, Span(600))
    for _ in range(20):
        passed = 0.0
        while not (sent := line.sent()):
            passed += await line.seconds(10, every=10)
        assert sent == [b"DONE"]
        assert 580 < passed <= 620
        line.answer()
        await line.seconds(1)
        assert line.sent() == [b"NOOP"]
        line.answer()
        await line.seconds(1)
        assert line.sent() == [b"IDLE"]
        line.say(b"+ idling\r\n")
    assert line.connection.failure is None
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert line.wire.aborted


@patiently
async def test_N4_the_answer_to_DONE_is_due_as_any_other(line: Line) -> None:
    watching = await idling(line, Span(600))
    passed = await line.seconds(1000)
    assert 600 < passed < 600 + TIMEOUT + 5
    with pytest.raises(Transient, match="sent nothing for 60 s while it owed an answer to IDLE"):
        await watching


@patiently
async def test_N4_a_server_that_does_not_let_IDLE_go_on_is_found(line: Line) -> None:
    watching = asyncio.create_task(watch_of(line).notice(open_mailbox(line), 10_000))
    passed = await line.seconds(1000)
    assert TIMEOUT <= passed < TIMEOUT + 5
    with pytest.raises(Transient, match="sent nothing for 60 s while it owed an answer to IDLE"):
        await watching


@patiently
async def test_N5_an_answer_to_DONE_that_has_no_end_comes_to_one(line: Line) -> None:
    watching = await idling(line, Span(600))
    passed = await line.seconds(10_000, every=10, saying=b"* OK\r\n")
    assert 600 + LONGEST_ANSWER < passed < 700 + LONGEST_ANSWER * 1.05
    with pytest.raises(Transient, match="without an end"):
        await watching


@patiently
async def test_N5_a_server_that_talks_and_does_not_let_IDLE_go_on_is_left(line: Line) -> None:
    watching = asyncio.create_task(watch_of(line).notice(open_mailbox(line), 10_000))
    passed = await line.seconds(1000, every=5, saying=b"* OK wait\r\n")
    assert TIMEOUT <= passed < TIMEOUT + 20
    with pytest.raises(Transient, match="did not let IDLE go on within 60 s"):
        await watching


@patiently
async def test_a_server_that_cuts_idle_connections_is_asked_more_often(line: Line) -> None:
    span = Span(600)
    watching = await idling(line, span)
    await line.seconds(400, every=10)
    line.say(b"* BYE Autologout; idle for too long\r\n")
    with pytest.raises(Transient):
        await watching
    assert span.seconds == pytest.approx(300, rel=0.02)


@patiently
async def test_a_connection_that_goes_soon_teaches_nothing(line: Line) -> None:
    span = Span(600)
    watching = await idling(line, span)
    await line.seconds(60)
    line.connection.connection_lost(ConnectionResetError())
    with pytest.raises(Transient):
        await watching
    assert span.seconds == 600


def test_a_span_has_an_end_to_growing_shorter() -> None:
    span = Span(600)
    for idled in (SHORTEST_SPAN + 1, 500, 10):
        span.cut_after(idled)
    assert span.seconds == SHORTEST_SPAN


async def test_what_one_session_learned_of_its_server_holds_for_the_next() -> None:
    async with ScriptedServer(honest_with(1)) as server:
        source = server.source()
        spans = []
        for _ in range(2):
            async with source.session() as session:
                spans.append(session._watch._span)
        assert spans[0] is spans[1]


# --- arrivals ---


async def newest(session: Session, after: int) -> list[int]:
    return [item.ordinal for item in await arrived(session, INBOX, "1", after)]


async def test_P15_arrivals_are_all_there_though_the_server_is_wrong_about_the_next_UID() -> None:
    honest = honest_with(2500)

    @honest.instead_of("EXAMINE")
    async def lies(client: Client, command: Command) -> None:
        honest.open(client, command)
        await client.send(b"* 2500 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n* OK [UIDNEXT 3] x\r\n", command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert await newest(session, 5) == list(range(2500, 5, -1))
        assert await newest(session, 2490) == list(range(2500, 2490, -1))


async def test_many_arrivals_come_in_pages() -> None:
    async with ScriptedServer(honest_with(2500)) as server, server.source().session() as session:
        pages = [page async for page in session.arrivals(INBOX, "1", 100)]
        assert [len(page.items) for page in pages] == [1000, 1000, 400]
        assert not server.asked("UID FETCH 101:*")


@pytest.mark.parametrize("count", [0, 3])
async def test_a_server_that_refuses_to_fetch_what_may_not_be_there_is_asked_what_is(count: int) -> None:
    honest = honest_with(count)

    @honest.instead_of("UID FETCH")
    async def picky(client: Client, command: Command) -> None:
        if b"*" in command.arguments:
            await client.send(command.bad(b"invalid sequence"))
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert await newest(session, 1) == list(range(count, 1, -1))
        assert await newest(session, count) == []
        assert session.alive


async def test_what_arrives_while_somebody_asks_is_told_by_the_next_watch() -> None:
    honest = honest_with(3)

    @honest.instead_of("UID FETCH")
    async def too_late(client: Client, command: Command) -> None:
        await honest.answer(client, command)
        honest.mailboxes[b"INBOX"].add(4, ARRIVING)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert await newest(session, 2) == [3]
        assert await session.watch(INBOX, PATIENCE) == Notice(new=True, other=False)
        assert await newest(session, 3) == [4]


async def test_P16_the_last_item_is_no_arrival_though_the_server_names_it() -> None:
    async with ScriptedServer(honest_with(3)) as server, server.source().session() as session:
        assert await newest(session, 3) == []
        assert await newest(session, 70) == []
        assert server.asked("UID FETCH 4:*")
