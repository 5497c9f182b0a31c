"""Searching: what is sent is only what was meant, and what cannot be searched is one folder's trouble."""

from __future__ import annotations

import pytest

from hauld.errors import ItemRejected, Transient
from hauld.model import Criteria, RemoteFolder
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

INBOX = RemoteFolder(b"INBOX", ("INBOX",))


def honest_server(count: int = 3) -> Honest:
    return Honest({b"INBOX": Mailbox(dict.fromkeys(range(1, count + 1), b"x"))})


async def search(server: ScriptedServer, criteria: Criteria) -> list[list[str]]:
    async with server.source().session() as session:
        return [list(keys) async for keys in session.search(INBOX, "1", criteria)]


@pytest.mark.parametrize(
    ("criteria", "sent"),
    [
        (Criteria(), b"ALL"),
        (Criteria(unseen=True), b"UNSEEN"),
        (Criteria(sender="a", to="b", subject="c d"), b'FROM "a" TO "b" SUBJECT "c d"'),
        (Criteria(subject='"\\'), b'SUBJECT "\\"\\\\"'),
        (Criteria(unseen=True, subject="\u00fc"), b"CHARSET UTF-8 UNSEEN SUBJECT \xc3\xbc"),
        (Criteria(subject="x\r\nA9 DELETE INBOX"), b"SUBJECT x\r\nA9 DELETE INBOX"),
    ],
)
async def test_P35_texts_are_sent_as_texts_and_a_charset_only_where_it_matters(criteria, sent):
    honest = honest_server()

    @honest.instead_of("UID SEARCH")
    async def finds_nothing(client: Client, command: Command) -> None:
        await client.send(b"* SEARCH\r\n", command.ok())

    async with ScriptedServer(honest) as server:
        assert await search(server, criteria) == []
        assert server.asked("UID SEARCH") == [b"UID SEARCH " + sent]


async def test_results_over_several_lines_are_named_once_each_some_at_a_time():
    honest = honest_server()

    @honest.instead_of("UID SEARCH")
    async def says_it_in_pieces(client: Client, command: Command) -> None:
        for start in (2000, 1, 1000, 1500):
            await client.send(b"* SEARCH " + b" ".join(b"%d" % uid for uid in range(start, start + 1000)) + b"\r\n")
        await client.send(command.ok())

    async with ScriptedServer(honest) as server:
        found = await search(server, Criteria(unseen=True))
        assert [key for keys in found for key in keys] == [f"1.{uid}" for uid in range(1, 3000)]
        assert max(map(len, found)) == 1000


@pytest.mark.parametrize(
    ("answer", "subject", "words"),
    [
        (b"NO [BADCHARSET (US-ASCII)] no", "\u00fc", "does not search 'INBOX' for letters beyond ASCII"),
        (b"BAD what is SUBJECT", "plain", "does not search 'INBOX': what is SUBJECT"),
    ],
)
async def test_a_search_that_is_refused_is_the_folders_trouble_alone(answer, subject, words):
    honest = honest_server()

    @honest.instead_of("UID SEARCH")
    async def refuses(client: Client, command: Command) -> None:
        await client.send(b"* SEARCH 1\r\n" + command.tag + b" " + answer + b"\r\n")

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(ItemRejected) as rejected:
            await anext(session.search(INBOX, "1", Criteria(subject=subject)))
        assert rejected.value.kind == "folder"
        assert words in rejected.value.message
        assert session.alive


async def test_a_server_that_cannot_search_just_now_is_asked_again_later():
    honest = honest_server()

    @honest.instead_of("UID SEARCH")
    async def later(client: Client, command: Command) -> None:
        await client.send(command.no(b"[UNAVAILABLE] index is being built"))

    async with ScriptedServer(honest) as server:
        with pytest.raises(Transient, match="index is being built"):
            await search(server, Criteria(subject="x"))
