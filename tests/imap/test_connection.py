"""One connection: several commands in flight, every end told at once, nothing believed that was not asked."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aioimaplib import aioimaplib as library

from contracts.source import MemorySink, fetched
from hauld.errors import ItemRejected, Transient
from hauld.model import RemoteFolder
from hauld.sources.imap.arguments import Literal, astring
from hauld.sources.imap.client import Client as ImapClient
from hauld.sources.imap.grammar import Data
from hauld.sources.imap.protocol import Connection
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

INBOX = RemoteFolder(b"INBOX", ("INBOX",))


def client_of(server: ScriptedServer, timeout: float = 20.0) -> ImapClient:
    return ImapClient("127.0.0.1", server.port, where="here", timeout=timeout, tls=None)


async def greeted(client: Client) -> None:
    await client.send(b"* OK ready\r\n")


# --- the library beneath ---


@pytest.mark.parametrize(
    ("theirs", "ours"), [(library.IMAP4ClientProtocol, Connection), (library.IMAP4, ImapClient)], ids=["protocol", "client"]
)
def test_what_we_override_in_the_library_is_still_there(theirs, ours):
    overridden = {
        library.IMAP4ClientProtocol: {
            "__init__",
            "data_received",
            "connection_made",
            "connection_lost",
            "execute",
            "capability",
        },
        library.IMAP4: {"__init__", "create_client"},
    }[theirs]
    assert (vars(ours).keys() & set(dir(theirs))) - (vars(object).keys() - {"__init__"}) - {"__module__"} == overridden


async def test_the_names_that_we_use_of_the_library_are_still_there():
    assert {"LOGOUT", "LOGIN", "AUTHENTICATE", "CAPABILITY", "LIST", "EXAMINE", "UID"} <= library.Commands.keys()
    assert library.IMAP4ClientProtocol(asyncio.get_running_loop()).new_tag().isalnum()
    for state in ("STARTED", "NONAUTH", "AUTH", "SELECTED"):
        assert getattr(library, state) == state


def test_the_library_never_logs_what_it_sends():
    assert library.log.getEffectiveLevel() >= logging.INFO
    assert not library.log.isEnabledFor(logging.DEBUG)


# --- asking and answering ---


async def test_commands_in_flight_are_answered_in_any_order():
    async def play(client: Client) -> None:
        await greeted(client)
        first, second, third = [await client.command(b"NOOP") for _ in range(3)]
        await client.send(third.ok(b"three"), first.no(b"one"), second.ok(b"two"))

    async with ScriptedServer(play) as server:
        client = client_of(server)
        await client.open()
        told = await asyncio.gather(*(client.connection.ask("NOOP") for _ in range(3)))
        assert [(status.condition, status.text) for status in told] == [("NO", "one"), ("OK", "two"), ("OK", "three")]
        await client.abort(1.0)


async def test_every_untagged_response_reaches_every_listener():
    async def play(client: Client) -> None:
        await greeted(client)
        command = await client.command(b"CAPABILITY")
        await client.send(b"* 7 EXISTS\r\n* CAPABILITY x imap4rev1\r\n* VANISHED 1:3\r\n", command.ok())

    async with ScriptedServer(play) as server:
        client = client_of(server)
        await client.open()
        heard: list[object] = []
        with client.connection.listening(heard.append):
            await client.connection.capability()
        assert client.connection.capabilities == {"X", "IMAP4REV1"}
        assert heard == [
            Data("EXISTS", 7, []),
            Data("CAPABILITY", None, [b"x", b"imap4rev1"]),
            Data("VANISHED", None, [b"1:3"]),
        ]
        await client.abort(1.0)


async def test_the_verbs_of_the_library_work_on_our_connection():
    async with ScriptedServer(Honest()) as server:
        client = client_of(server)
        await client.open()
        assert (await client.noop()).result == "OK"
        assert (await client.logout()).result == "OK"
        await client.abort(1.0)
        assert server.commands == [b"NOOP", b"LOGOUT"]


async def test_a_command_out_of_its_state_is_not_sent():
    async with ScriptedServer(Honest()) as server:
        client = client_of(server)
        await client.open()
        with pytest.raises(library.Abort, match="UID FETCH is not allowed in state NONAUTH"):
            client.connection.begin("UID FETCH", b"1 (UID)")
        await client.abort(1.0)
        assert not server.commands


@pytest.mark.parametrize(
    "answer",
    [b"NOPE1 OK\r\n", b"{tag} OK\r\n{tag} OK\r\n", b"{earlier} OK\r\n", b"{lower} OK\r\n"],
    ids=["unknown tag", "twice", "an earlier command's", "in lower case"],
)
async def test_P26_an_answer_to_nothing_that_was_asked_ends_the_connection(answer):
    async def play(client: Client) -> None:
        await greeted(client)
        earlier = await client.command(b"NOOP")
        await client.send(earlier.ok())
        command = await client.command(b"NOOP")
        words = {b"{tag}": command.tag, b"{earlier}": earlier.tag, b"{lower}": command.tag.lower()}
        reply = answer
        for word, tag in words.items():
            reply = reply.replace(word, tag)
        await client.send(reply)

    async with ScriptedServer(play) as server:
        client = client_of(server)
        await client.open()
        await client.connection.ask("NOOP")
        answer_due = client.connection.begin("NOOP", b"")
        await client.connection.closed.wait()
        assert client.connection.failure.kind == "protocol"
        assert "no command that was sent" in client.connection.failure.message
        assert answer_due.done()
        await client.abort(1.0)


async def test_P27_a_continuation_that_nobody_asked_for_is_ignored():
    honest = Honest()

    @honest.instead_of("NOOP")
    async def go_on(client: Client, command: Command) -> None:
        await client.send(b"+ go on\r\n+\r\n", command.ok())

    async with ScriptedServer(honest) as server:
        client = client_of(server)
        await client.open()
        for _ in range(2):
            assert (await client.connection.ask("NOOP")).condition == "OK"
        await client.abort(1.0)


async def test_data_before_any_greeting_ends_the_connection():
    async def play(client: Client) -> None:
        await client.send(b"* 1 EXISTS\r\n* OK ready\r\n")

    async with ScriptedServer(play) as server:
        client = client_of(server)
        with pytest.raises(Transient, match="did not begin with a greeting"):
            await client.open()
        await client.abort(1.0)


# --- the end ---


async def test_everything_in_flight_ends_at_once_when_the_connection_goes():
    async def play(client: Client) -> None:
        await greeted(client)
        for _ in range(3):
            await client.command(b"NOOP")
        await client.reset()

    async with ScriptedServer(play) as server:
        client = client_of(server)
        await client.open()
        ends = await asyncio.gather(*(client.connection.ask("NOOP") for _ in range(3)), return_exceptions=True)
        assert [end.kind for end in ends] == ["network"] * 3
        with pytest.raises(Transient):
            client.connection.begin("NOOP", b"")


async def test_N19_a_BYE_ends_what_is_in_flight_even_if_the_connection_stays_open():
    async def play(client: Client) -> None:
        await greeted(client)
        await client.command(b"NOOP")
        await client.send(b"* BYE [UNAVAILABLE] maintenance\r\n")

    async with ScriptedServer(play) as server:
        client = client_of(server)
        await client.open()
        with pytest.raises(Transient, match=r"here is not available: \[UNAVAILABLE\] maintenance") as error:
            await client.connection.ask("NOOP")
        assert error.value.kind == "unavailable"


async def test_being_cancelled_while_an_answer_is_due_ends_the_connection():
    reached = asyncio.Event()

    async def play(client: Client) -> None:
        await greeted(client)
        await client.command(b"NOOP")
        reached.set()

    async with ScriptedServer(play) as server:
        client = client_of(server)
        await client.open()
        asking = asyncio.create_task(client.connection.ask("NOOP"))
        await reached.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert client.connection.failure.kind == "abandoned"
        await asyncio.wait_for(client.connection.closed.wait(), 5)


async def test_leaving_says_goodbye_and_does_not_wait_for_a_server_that_does_not():
    honest = Honest()

    @honest.instead_of("LOGOUT")
    async def says_nothing(client: Client, command: Command) -> None:
        await client.gone()

    async with ScriptedServer(honest) as server:
        client = client_of(server)
        await client.open()
        await client.leave(0.05)
        assert server.commands == [b"LOGOUT"]
        assert client.connection.closed.is_set()


async def test_N3_silence_is_the_servers_fault_only_while_an_answer_is_due():
    async with ScriptedServer(Honest()) as server:
        client = client_of(server, timeout=0.05)
        await client.open()
        await client.connection.ask("NOOP")
        loop = asyncio.get_running_loop()
        past_the_timeout = loop.create_future()
        loop.call_later(0.2, past_the_timeout.set_result, None)
        await past_the_timeout
        assert (await client.connection.ask("NOOP")).condition == "OK"
        await client.leave(1.0)


async def test_our_own_pause_is_not_the_servers_silence():
    honest = Honest({b"INBOX": Mailbox({1: b"x" * 3_000_000})})

    class PatientSink(MemorySink):
        """Asks to wait four times as long as the timeout, once."""

        def open(self, key, size):
            writer = super().open(key, size)
            loop = asyncio.get_running_loop()
            writes = iter([False])
            write = writer.write
            writer.write = lambda data: write(data) and next(writes, True)
            writer.when_ready = lambda resume: loop.call_later(0.4, resume)
            return writer

    async with ScriptedServer(honest) as server, server.source(timeout=0.1).session() as session:
        (outcome,) = await fetched(session, INBOX, "1", ["1.1"], PatientSink())
        assert outcome.body.size == 3_000_000


# --- arguments ---


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        (b"INBOX", b'"INBOX"'),
        (b'a "b" \\c', b'"a \\"b\\" \\\\c"'),
        (b"", b'""'),
        (b"a\r\nA2 DELETE x", Literal(b"a\r\nA2 DELETE x")),
        (b"nul\x00", Literal(b"nul\x00")),
        ("ü".encode(), Literal("ü".encode())),
    ],
)
def test_P35_arguments_are_quoted_or_literals(text, argument):
    assert astring(text) == argument


def test_a_literal_does_not_show_what_it_holds():
    assert "secret" not in repr(Literal(b"secret"))


@pytest.mark.parametrize("raw", [b'a"b', b"a\\", b"line\r\nA2 DELETE INBOX", b"\x00", b"\xff\xfe", b"x" * 4000])
async def test_P35_a_hostile_folder_name_is_sent_as_a_name_and_nothing_else(raw):
    honest = Honest({raw: Mailbox({1: b"one"})})
    async with ScriptedServer(honest) as server, server.source().session() as session:
        (folder,) = [folder async for folder in session.folders()]
        assert folder.raw == raw
        (outcome,) = await fetched(session, folder, "1", ["1.1"])
        assert bytes(outcome.body.data) == b"one"
    assert [command.split()[0] for command in server.commands] == [
        *(b"CAPABILITY", b"AUTHENTICATE", b"CAPABILITY"),
        *(b"LIST", b"EXAMINE", b"UID", b"LOGOUT"),
    ]


async def test_P35_a_literal_that_the_server_refuses_is_not_sent():
    honest = Honest()
    raw = b"two\r\nlines"

    async def play(client: Client) -> None:
        await greeted(client)
        for _ in range(3):  # CAPABILITY, AUTHENTICATE, CAPABILITY
            await honest.answer(client, await client.command())
        for _ in range(2):  # with and without what CONDSTORE adds
            tag, _, line = (await client.line()).partition(b" ")
            assert line == b"EXAMINE {10}"
            await client.send(tag + b" NO too strange\r\n")
        await honest.answer(client, await client.command(b"LOGOUT"))

    async with ScriptedServer(play) as server, server.source().session() as session:
        with pytest.raises(ItemRejected, match="too strange"):
            assert [page async for page in session.list(RemoteFolder(raw, ("x",)), None)]
        assert session.alive


async def test_P24_P25_what_goes_beyond_the_limits_ends_the_connection():
    honest = Honest()
    for flood, reason in ((b"* X " + b"a" * 2_000_000, "longer than"), (b"* X " + b"(" * 90_000 + b"\r\n", "64 deep")):

        @honest.instead_of("LIST")
        async def floods(client: Client, command: Command, flood: bytes = flood) -> None:
            await client.send(flood)

        async with ScriptedServer(honest) as server, server.source().session() as session:
            with pytest.raises(Transient, match=reason):
                assert [folder async for folder in session.folders()]
