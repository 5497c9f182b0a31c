"""A server that does not stop talking is listened to for so long and no longer, and nobody else notices.

``HAUL_FLOOD`` says how many lines make a flood (default 30,000; a release is tried with a million).
"""

from __future__ import annotations

import asyncio
import os
import tracemalloc

import pytest

from contracts.source import MemorySink, fetched
from hauld.errors import Transient
from hauld.model import Criteria, RemoteFolder
from hauld.sources.imap import listing, protocol
from hauld.sources.imap.client import Client as ImapClient
from hauld.sources.imap.grammar import Data, ProtocolError
from hauld.sources.imap.listing import Found
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer
from support.scripted_imap import fetched as response

INBOX = RemoteFolder(b"INBOX", ("INBOX",))

LINES = int(os.environ.get("HAUL_FLOOD", "30000"))

CHATTER = b"* OK " + b"x" * 1_000_000 + b"\r\n"


def inbox() -> Honest:
    return Honest({b"INBOX": Mailbox({1: b"one"})})


@pytest.mark.parametrize(
    "line",
    [b"* 17 EXISTS\r\n", b"* 1 FETCH (UID 9 FLAGS (\\Seen))\r\n"],
    ids=["EXISTS", "FLAGS"],
)
async def test_P22_a_flood_of_short_lines_is_taken_in_turns_and_not_kept(line):
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def floods(client: Client, command: Command) -> None:
        tracemalloc.start()
        for _ in range(LINES // 1000):
            await client.send(line * 1000)
        await client.send(response(1, 1, b"one"), command.ok())

    turns = 0

    async def somebody_else() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        heard: dict[int, int] = {}
        other = asyncio.create_task(somebody_else())
        with session._connection.listening(lambda event: heard.update({turns: heard.get(turns, 0) + 1})):
            (outcome,) = await fetched(session, INBOX, "1", ["1.1"], MemorySink())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        other.cancel()
    assert outcome.key == "1.1"
    assert sum(heard.values()) > LINES
    assert max(heard.values()) <= 256 * 1024 / len(line) + 10  # what one read from the socket holds
    assert peak < 600_000  # twenty bytes kept of each line would be more


@pytest.mark.parametrize("more", [CHATTER, response(9, 9, b"y" * 1_000_000), b"* 1 FETCH (BODY[] {6}\r\nnobody)\r\n" + CHATTER])
async def test_P23_data_without_an_end_ends_the_connection(more):
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def never_stops(client: Client, command: Command) -> None:
        while True:
            await client.send(more)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(Transient, match=r"sent more than 67108864 bytes while it owed an answer to UID FETCH") as error:
            await fetched(session, INBOX, "1", ["1.1"], MemorySink())
        assert error.value.kind == "protocol"
        assert not session.alive


async def test_P23_data_without_an_end_that_nobody_asked_for_ends_the_connection():
    async def play(client: Client) -> None:
        await client.send(b"* OK ready\r\n")
        while True:
            await client.send(CHATTER)

    async with ScriptedServer(play) as server:
        client = ImapClient("127.0.0.1", server.port, where="here", timeout=20.0, tls=None)
        await client.open()
        await client.connection.closed.wait()
        assert "67108864 bytes unasked" in client.connection.failure.message
        await client.abort(1.0)


async def test_P23_answers_that_each_come_to_an_end_do_not_add_up():
    honest = inbox()

    @honest.instead_of("NOOP")
    async def talks_much(client: Client, command: Command) -> None:
        for _ in range(40):
            await client.send(CHATTER)
        await client.send(command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        for _ in range(3):
            assert (await session._connection.ask("NOOP")).condition == "OK"


async def test_P23_a_list_of_folders_without_an_end_ends_the_connection(monkeypatch):
    monkeypatch.setattr(protocol, "MOST_COLLECTED", 100_000)
    honest = inbox()

    @honest.instead_of("LIST")
    async def never_stops(client: Client, command: Command) -> None:
        while True:
            await client.send(b'* LIST () "/" again\r\n' * 100)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(Transient, match="its answer to LIST would take more than 100000 bytes of memory") as error:
            assert [folder async for folder in session.folders()]
        assert error.value.kind == "protocol"


LISTS = {
    "names": b'* LIST () "/" name\r\n',
    "attributes": b"* LIST (" + b"xy " * 40_000 + b') "/" many\r\n',
    "lists in lists": b"* LIST (" + b"() " * 20_000 + b') "/" deep\r\n',
    "literals": b'* LIST () "/" {1000000}\r\n' + b"n" * 1_000_000 + b"\r\n",
}


@pytest.mark.parametrize("line", LISTS.values(), ids=LISTS.keys())
async def test_P23_the_memory_of_a_list_is_reckoned_as_large_as_it_is(line, monkeypatch):
    limit = 4_000_000
    monkeypatch.setattr(protocol, "MOST_COLLECTED", limit)
    honest = inbox()

    @honest.instead_of("LIST")
    async def never_stops(client: Client, command: Command) -> None:
        piece = line * max(1, 100_000 // len(line))
        while True:
            await client.send(piece)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        tracemalloc.start()
        with pytest.raises(Transient, match="bytes of memory"):
            assert [folder async for folder in session.folders()]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert limit / 2 < peak < 2 * limit + 6_000_000  # what is being parsed and sent, too


def test_P23_search_results_are_counted_over_all_lines(monkeypatch):
    assert listing.MOST_FOUND == 5_000_000
    monkeypatch.setattr(listing, "MOST_FOUND", 50_000)
    found = Found()
    line = Data("SEARCH", None, [b"1"] * 10_000)
    for _ in range(5):
        found.listen(line)
    with pytest.raises(ProtocolError, match="more than 50000 results"):
        found.listen(Data("SEARCH", None, [b"1"]))
    assert list(found.uids()) == [1]


async def test_P23_two_million_results_are_no_flood():
    honest = inbox()
    first, last = 2**32 - 2_000_000, 2**32 - 1

    @honest.instead_of("UID SEARCH")
    async def has_many(client: Client, command: Command) -> None:
        await client.send(b"* SEARCH " + b" ".join(map(b"%d".__mod__, range(first, last + 1))) + b"\r\n", command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        count = 0
        async for keys in session.search(INBOX, "1", Criteria()):
            count += len(keys)
        assert count == 2_000_000
