"""Listings: what EXAMINE, SEARCH and FETCH say becomes items and cursors, and nothing is concluded from silence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

import pytest

from hauld.errors import ItemRejected, StaleCursor, Throttled, Transient
from hauld.model import Page, RemoteFolder, RemoteItem
from hauld.sources.base import Session
from hauld.sources.imap import listing as imap_listing
from hauld.sources.imap import session as imap_session
from hauld.sources.imap.grammar import Data
from hauld.sources.imap.listing import Details, date_of, flags_of
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

INBOX = RemoteFolder(b"INBOX", ("INBOX",))


def numbered(count: int, first: int = 1) -> Mailbox:
    return Mailbox({uid: b"%d" % uid for uid in range(first, first + count)})


def inbox(mailbox: Mailbox) -> Honest:
    return Honest({b"INBOX": mailbox})


async def pages(session: Session, since: bytes | None = None) -> list[Page]:
    return [page async for page in session.list(INBOX, since)]


async def items(session: Session) -> list[RemoteItem]:
    return [item for page in await pages(session) for item in page.items]


def search_names(honest: Honest, *uids: int, before: bytes = b"") -> None:
    """Every SEARCH is answered with these UIDs, and with ``before`` in front of them."""

    @honest.instead_of("UID SEARCH")
    async def names(client: Client, command: Command) -> None:
        await client.send(before, b"* SEARCH" + b"".join(b" %d" % uid for uid in uids) + b"\r\n", command.ok())


def fetch_names(honest: Honest, *uids: int, before: bytes = b"") -> None:
    """Every FETCH is answered with the details of these of a folder's items, the first with ``before`` in front of them."""
    box = honest.mailboxes[b"INBOX"]
    first = [before]

    @honest.instead_of("UID FETCH")
    async def names(client: Client, command: Command) -> None:
        said = first.pop() if first else b""
        await client.send(said, *(honest.details(box, uid, uid) for uid in uids), command.ok())


class Examined:
    """Opens a folder and says only this of it, and its UIDVALIDITY."""

    def __init__(self, honest: Honest, said: bytes) -> None:
        self._honest = honest
        self._said = said

    async def __call__(self, client: Client, command: Command) -> None:
        self._honest.open(client, command)
        await client.send(self._said, b"* OK [UIDVALIDITY 1] x\r\n", command.ok())


def doubts(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of listings that are not whole."""
    return [record.message for record in caplog.records if getattr(record, "event", "") == "folder.doubted"]


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of more than two items is a large one."""
    monkeypatch.setattr(imap_session, "PAGE_ITEMS", 2)
    monkeypatch.setattr(imap_listing, "STRETCH", 2)


# --- items ---


async def test_items_come_newest_first_with_what_the_server_says_of_them():
    mailbox = Mailbox(
        {7: b"seven", 9: b"nine!!", 4294967294: b"x"}, uidvalidity=42, flags={9: rb"\Seen $Label1"}, dates={7: b"nonsense"}
    )
    async with ScriptedServer(inbox(mailbox)) as server, server.source().session() as session:
        listing = await pages(session)
    assert [page.epoch for page in listing] == ["42", "42"]
    assert list(listing[0].items) == [
        RemoteItem("42.4294967294", 4294967294, size=1, date=837596665000),
        RemoteItem("42.9", 9, size=6, flags=(r"\Seen", "$Label1"), date=837596665000),
        RemoteItem("42.7", 7, size=5),
    ]
    assert listing[1].whole


async def test_a_long_listing_comes_in_pages_newest_block_first():
    honest = inbox(Mailbox(dict.fromkeys(range(3, 3 * 2501, 3), b"x")))
    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
    assert [len(page.items) for page in listing] == [1000, 1000, 500, 0]
    ordinals = [item.ordinal for page in listing for item in page.items]
    assert ordinals == sorted(honest.mailboxes[b"INBOX"].messages, reverse=True)
    assert all(item.size == 1 for page in listing for item in page.items)


async def test_the_details_of_a_small_folder_are_asked_for_along_with_its_list():
    honest = inbox(numbered(3))

    @honest.instead_of("UID SEARCH")
    async def waits_for_both(client: Client, command: Command) -> None:
        fetch = await client.command(b"UID FETCH")
        assert fetch.arguments == b"1:* (UID FLAGS INTERNALDATE RFC822.SIZE)"
        await honest.answer(client, fetch)
        await client.send(b"* SEARCH 3 1 2\r\n", command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [(item.ordinal, item.size) for item in await items(session)] == [(3, 1), (2, 1), (1, 1)]
        assert len(server.asked("UID FETCH")) == 1


@pytest.mark.parametrize("said", [b"", b"* 2 FETCH (UID 2 FLAGS ())\r\n", b"* 2 FETCH (FLAGS () RFC822.SIZE 9)\r\n"])
async def test_P4_what_was_not_answered_in_full_along_with_the_list_is_asked_for_again(said):
    honest = inbox(numbered(3))
    mailbox = honest.mailboxes[b"INBOX"]

    @honest.instead_of("UID FETCH")
    async def leaves_out_two(client: Client, command: Command) -> None:
        honest.be_honest()
        await client.send(honest.details(mailbox, 1, 1), said, honest.details(mailbox, 3, 3), command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [(item.ordinal, item.size) for page in listing for item in page.items] == [(3, 1), (2, 1), (1, 1)]
        assert listing[-1].whole
        assert len(server.asked("UID FETCH")) == 2


async def test_P3_more_details_than_a_small_folder_can_have_are_not_kept():
    honest = inbox(numbered(1))

    @honest.instead_of("UID FETCH")
    async def says_much(client: Client, command: Command) -> None:
        for first in range(2, 20_000, 1000):
            await client.send(*(b"* 1 FETCH (UID %d FLAGS () RFC822.SIZE 1)\r\n" % uid for uid in range(first, first + 1000)))
        honest.be_honest()
        await client.send(command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [item.ordinal for item in await items(session)] == [1]
    details = Details()
    details.expect_any(1000)
    for uid in range(1, 20_000):
        details.listen(Data("FETCH", 1, [[b"UID", b"%d" % uid, b"RFC822.SIZE", b"1"]]))
    assert details.has(range(1, 1001))
    assert not details.has([1001])


async def test_an_empty_folder_is_whole_and_costs_one_command():
    async with ScriptedServer(inbox(Mailbox())) as server, server.source().session() as session:
        (page,) = await pages(session)
        assert page.whole
        assert not server.asked("UID")


async def test_items_left_out_by_FETCH_are_listed_without_details():
    honest = inbox(numbered(4))

    @honest.instead_of("UID FETCH")
    async def leaves_out_two_and_three(client: Client, command: Command) -> None:
        mailbox = honest.mailboxes[b"INBOX"]
        await client.send(honest.details(mailbox, 1, 1), honest.details(mailbox, 4, 4), command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [(item.ordinal, item.size) for item in await items(session)] == [(4, 1), (3, None), (2, None), (1, 1)]


async def test_items_are_listed_without_details_when_FETCH_is_refused():
    honest = inbox(numbered(2))

    @honest.instead_of("UID FETCH")
    async def refuses(client: Client, command: Command) -> None:
        await client.send(command.no(b"[SERVERBUG] internal error"))

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [item.size for item in await items(session)] == [None, None]


async def test_P16_items_that_nobody_asked_for_are_not_listed_twice_or_at_all():
    honest = inbox(numbered(3))

    @honest.instead_of("UID FETCH")
    async def says_more(client: Client, command: Command) -> None:
        mailbox = honest.mailboxes[b"INBOX"]
        mailbox.messages[9] = b"nine"
        await client.send(*(honest.details(mailbox, n, n) for n in (1, 2, 3, 3)), honest.details(mailbox, 4, 9), command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [item.ordinal for item in await items(session)] == [3, 2, 1]


async def test_P44_a_search_answered_over_several_lines_out_of_order_is_one_list():
    honest = inbox(numbered(5))

    @honest.instead_of("UID SEARCH")
    async def in_parts(client: Client, command: Command) -> None:
        await client.send(b"* SEARCH 4 5\r\n* 5 EXISTS\r\n* SEARCH 1 3 2 0 5 nonsense\r\n* SEARCH\r\n", command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [item.ordinal for item in await items(session)] == [5, 4, 3, 2, 1]


async def test_P10_very_large_numbers_are_listed_as_they_are():
    honest = inbox(numbered(1))

    @honest.instead_of("UID SEARCH")
    async def large(client: Client, command: Command) -> None:
        await client.send(b"* SEARCH 2147483648 9223372036854775807\r\n", command.ok())

    @honest.instead_of("UID FETCH")
    async def larger(client: Client, command: Command) -> None:
        await client.send(
            b"* 1 FETCH (UID 2147483648 RFC822.SIZE 9223372036854775807)\r\n",
            b"* 2 FETCH (UID 9223372036854775807 RFC822.SIZE -1 MODSEQ (-5))\r\n",
            command.ok(),
        )

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [(item.ordinal, item.size) for item in await items(session)] == [(2**63 - 1, None), (2**31, 2**63 - 1)]


async def test_P38_an_item_above_the_limit_is_listed_with_the_reason_to_skip_it():
    async with (
        ScriptedServer(inbox(Mailbox({1: b"x" * 11, 2: b"x" * 10}))) as server,
        server.source(max_message_size=10).session() as session,
    ):
        assert [item.skip for item in await items(session)] == [None, "too large: 11 bytes, the limit is 10"]


async def test_a_listing_that_is_left_in_the_middle_ends_the_session():
    async with ScriptedServer(inbox(numbered(2500))) as server, server.source().session() as session:
        async with aclosing(session.list(INBOX, None)) as listing:
            async for page in listing:
                assert len(page.items) == 1000
                break
        assert not session.alive
        with pytest.raises(Transient, match="left in the middle"):
            await pages(session)


# --- dates and flags ---


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        (b"17-Jul-1996 02:44:25 -0700", 837596665000),
        (b" 1-jan-1970 00:00:00 +0000", 0),
        (b"31-DEC-2099 23:59:60 +1400", 4102394399000),
    ],
)
def test_P45_an_internal_date_is_milliseconds_since_1970(written, ms):
    assert date_of(written) == ms


@pytest.mark.parametrize(
    "written",
    [
        *(None, [], b"", b"17-Jul-2020", b"17-Foo-2020 02:44:25 +0000", b"31-Feb-2020 00:00:00 +0000"),
        *(b"17-Jul-0000 02:44:25 +0000", b"17-Jul-1969 02:44:25 +0000", b"17-Jul-9999 02:44:25 +0000"),
        *(b"17-Jul-2020 25:44:25 +0000", b"17-Jul-2020 02:44:25 GMT"),
        *(b"17-Jul-2020 02:44:25 +9900", b"17-Jul-2020 02:44:25 +0060"),
    ],
)
def test_P45_an_internal_date_without_sense_is_none(written):
    assert date_of(written) is None


def test_P46_flags_are_bounded_once_each_and_in_their_usual_case():
    assert flags_of([rb"\seen", rb"\Seen", rb"\Recent", b"$Junk", b"kl\xe4ger", None, [b"x"]]) == (
        r"\Seen",
        "$Junk",
        r"kl\xe4ger",
    )
    assert flags_of([b"k%d" % n for n in range(10_000)])[:2] == ("k0", "k1")
    assert len(flags_of([b"k%d" % n for n in range(10_000)])) == 128
    assert flags_of([b"x" * 1024, b"y"]) == ("y",)
    assert flags_of(None) == ()


# --- cursors ---


async def test_nothing_changed_is_one_command():
    honest = inbox(numbered(3))
    async with ScriptedServer(honest) as server, server.source().session() as session:
        cursor = (await pages(session))[-1].cursor
        before = len(server.commands)
        assert await pages(session, cursor) == [Page("1", cursor=cursor)]
        assert server.commands[before:] == [b'EXAMINE "INBOX" (CONDSTORE)']


async def test_mod_sequences_are_not_asked_for_where_they_are_not_offered():
    honest = inbox(numbered(1))
    honest.capabilities = b"IMAP4rev1 AUTH=PLAIN SASL-IR"
    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert await items(session)
        assert server.asked("EXAMINE") == [b'EXAMINE "INBOX"']


@pytest.mark.parametrize("refuse", [Command.bad, Command.no])
async def test_P41_mod_sequences_that_are_offered_and_refused_are_done_without(refuse: Callable[[Command, bytes], bytes]):
    honest = inbox(numbered(1))

    @honest.instead_of("EXAMINE")
    async def knows_no_parameters(client: Client, command: Command) -> None:
        if command.line.endswith(b"(CONDSTORE)"):
            await client.send(refuse(command, b"unexpected parameter"))
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert await items(session)


async def test_N16_a_throttled_server_is_not_asked_once_more_without_mod_sequences():
    honest = inbox(numbered(1))

    @honest.instead_of("EXAMINE")
    async def throttles(client: Client, command: Command) -> None:
        await client.send(command.no(b"[THROTTLED] slow down"))

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(Throttled):
            await pages(session)
        assert len(server.asked("EXAMINE")) == 1


@pytest.mark.parametrize("change", ["flags", "new", "gone", "epoch"])
async def test_any_change_makes_a_whole_listing(change):
    honest = inbox(numbered(3))
    mailbox = honest.mailboxes[b"INBOX"]
    async with ScriptedServer(honest) as server, server.source().session() as session:
        cursor = (await pages(session))[-1].cursor
        if change == "flags":
            mailbox.touch()
        elif change == "new":
            mailbox.messages[4] = b"x"
        elif change == "gone":
            del mailbox.messages[1]
        else:
            mailbox.uidvalidity = 2
        listing = await pages(session, cursor)
        assert listing[-1].whole
        assert {item.ordinal for page in listing for item in page.items} == set(mailbox.messages)


@pytest.mark.parametrize("highestmodseq", [None, -7])
async def test_P10_without_a_mod_sequence_to_believe_nothing_is_proven(highestmodseq):
    honest = inbox(numbered(3))
    honest.mailboxes[b"INBOX"].highestmodseq = highestmodseq
    async with ScriptedServer(honest) as server, server.source().session() as session:
        cursor = (await pages(session))[-1].cursor
        assert (await pages(session, cursor))[-1].whole


async def test_what_a_search_leaves_out_of_a_small_folder_is_listed_where_its_details_came_along(caplog):
    honest = inbox(numbered(3))
    search_names(honest, 1, 3)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [(item.ordinal, item.size) for item in listing[0].items] == [(3, 1), (2, 1), (1, 1)]
        assert listing[-1].whole
        assert len(server.asked("UID FETCH")) == 1
    assert not doubts(caplog)


async def test_what_search_and_fetch_name_together_is_the_folder(caplog):
    honest = inbox(numbered(3))
    search_names(honest, 1, 3)
    fetch_names(honest, 1, 2)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [item.ordinal for page in listing for item in page.items] == [3, 2, 1]
        assert listing[-1].whole
    assert not doubts(caplog)


async def test_what_a_search_leaves_out_of_a_large_folder_is_asked_for_once_and_listed(short_pages, caplog):
    honest = inbox(numbered(9))
    search_names(honest, 2, 4, 5, 7, 8)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [(item.ordinal, item.size) for page in listing for item in page.items] == [(n, 1) for n in range(9, 0, -1)]
        assert listing[-1].whole
        asked = [command for command in server.asked("UID FETCH") if command.endswith(b" (UID)")]
        assert asked == [b"UID FETCH 1:4 (UID)", b"UID FETCH 5:7 (UID)", b"UID FETCH 8:* (UID)"]
    assert not doubts(caplog)


async def test_a_large_folder_of_which_a_search_names_none_is_listed_all_the_same(short_pages):
    honest = inbox(numbered(4))
    search_names(honest)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [item.ordinal for page in listing for item in page.items] == [4, 3, 2, 1]
        assert listing[-1].whole


async def test_a_listing_that_misses_nothing_costs_no_further_command(short_pages):
    honest = inbox(numbered(3))
    search_names(honest, 1, 2, 3, before=b"* 4 EXISTS\r\n")
    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert (await pages(session))[-1].whole
        assert [command.split(b" (")[0] for command in server.commands[-4:]] == [
            b'EXAMINE "INBOX"',
            b"UID SEARCH ALL",
            b"UID FETCH 2:3",
            b"UID FETCH 1:1",
        ]


async def test_a_small_folder_whose_items_nobody_names_proves_nothing_gone_and_says_so_once(caplog):
    honest = inbox(numbered(3))
    search_names(honest, 1, 2)
    fetch_names(honest, 1, 2)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        first = await pages(session)
        assert [item.ordinal for item in first[0].items] == [2, 1]
        assert not first[-1].whole
        assert first[-1].cursor
        assert len(server.asked("UID FETCH")) == 1
        assert len(doubts(caplog)) == 1
        assert "lists 2 items of 'INBOX', and says that there are at least 3: nothing is taken for gone" in doubts(caplog)[0]
        honest.be_honest()
        assert (await pages(session, first[-1].cursor))[-1].whole
        assert len(doubts(caplog)) == 1


async def test_a_large_folder_whose_items_nobody_names_proves_nothing_gone_and_says_so_once(short_pages, caplog):
    honest = inbox(numbered(5))
    search_names(honest, 1, 2, 3)
    fetch_names(honest, 1, 2, 3, 4)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        first = await pages(session)
        assert [item.ordinal for page in first for item in page.items] == [4, 3, 2, 1]
        assert not first[-1].whole
        assert "lists 4 items of 'INBOX', and says that there are at least 5" in doubts(caplog)[0]
        assert len(doubts(caplog)) == 1
        honest.be_honest()
        assert (await pages(session, first[-1].cursor))[-1].whole


@pytest.mark.parametrize("large", [True, False])
async def test_more_items_than_there_can_be_are_not_believed(large, request, caplog):
    if large:
        request.getfixturevalue("short_pages")
    honest = inbox(numbered(200))
    search_names(honest, 1, 2)
    honest.instead_of("EXAMINE")(Examined(honest, b"* 3 EXISTS\r\n"))
    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [item.ordinal for page in listing for item in page.items] == [2, 1]
        assert not listing[-1].whole
    assert len(doubts(caplog)) == 1


async def test_P10_a_folder_that_says_it_holds_billions_more_is_not_asked_for_each_of_them(caplog):
    honest = inbox(numbered(3))
    honest.instead_of("EXAMINE")(Examined(honest, b"* 4294967295 EXISTS\r\n"))
    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [item.ordinal for page in listing for item in page.items] == [3, 2, 1]
        assert not listing[-1].whole
        assert not [command for command in server.asked("UID FETCH") if command.endswith(b" (UID)")]
    assert len(doubts(caplog)) == 1


async def test_a_folder_that_does_not_say_how_many_items_it_holds_proves_nothing_gone(caplog):
    honest = inbox(numbered(3))
    honest.instead_of("EXAMINE")(Examined(honest, b"* OK [HIGHESTMODSEQ 7] x\r\n"))
    search_names(honest)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        (page,) = await pages(session)
        assert not page.whole
        assert "does not say how many there are" in doubts(caplog)[0]
        search_names(honest, 1, 2, 3)
        listing = await pages(session, page.cursor)
        assert [len(page.items) for page in listing] == [3, 0]
        assert not listing[-1].whole


@pytest.mark.parametrize("large", [True, False])
async def test_P17_what_was_expunged_before_a_search_and_is_told_after_it_is_no_lie(large, request, caplog):
    if large:
        request.getfixturevalue("short_pages")
    honest = inbox(numbered(5))
    search_names(honest, 1, 2, 4)
    fetch_names(honest, 1, 2, 4, before=b"* 3 EXPUNGE\r\n* 4 EXPUNGE\r\n")
    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert (await pages(session))[-1].whole
    assert not doubts(caplog)


async def test_P41_what_has_vanished_is_no_reason_for_fewer_items(caplog):
    honest = inbox(numbered(3))
    search_names(honest, 1, 2, before=b"* VANISHED 1:3\r\n")
    fetch_names(honest, 1, 2)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert not (await pages(session))[-1].whole
    assert len(doubts(caplog)) == 1


async def test_P17_what_is_expunged_while_it_is_listed_is_no_lie():
    honest = inbox(numbered(3))

    @honest.instead_of("UID SEARCH")
    async def expunges_first(client: Client, command: Command) -> None:
        await client.send(b"* 3 EXPUNGE\r\n* SEARCH 1 2\r\n", command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert (await pages(session))[-1].whole


async def test_a_search_without_any_answer_is_no_empty_folder():
    honest = inbox(numbered(3))

    @honest.instead_of("UID SEARCH")
    async def says_nothing(client: Client, command: Command) -> None:
        await client.send(command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(Transient, match=r"127\.0\.0\.1:\d+ \(user alice\) did not list 'INBOX'"):
            await pages(session)
        assert not session.alive


async def test_a_list_without_any_folder_is_no_empty_account():
    async with ScriptedServer(Honest({})) as server, server.source().session() as session:
        with pytest.raises(Transient, match="did not list its folders"):
            assert [folder async for folder in session.folders()]


# --- what cannot be opened ---


@pytest.mark.parametrize(
    "answer",
    [b"[NONEXISTENT] no such mailbox", b"[INUSE] locked by another client", b"[UNAVAILABLE] storage offline", b"denied"],
)
async def test_N17_a_folder_that_cannot_be_opened_is_rejected_alone(answer):
    honest = inbox(numbered(1))

    @honest.instead_of("EXAMINE")
    async def refuses(client: Client, command: Command) -> None:
        await client.send(command.no(answer))

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(ItemRejected, match=answer.decode().split("]")[-1]) as rejected:
            await pages(session)
        assert rejected.value.kind == "folder"
        assert session.alive
        honest.be_honest()
        assert await items(session)


@pytest.mark.parametrize("said", [b"NO [SERVERBUG] broken index", b"NO [INUSE] locked", b"NO never", b"BAD what is that"])
async def test_N18_a_folder_that_cannot_be_searched_is_rejected_alone(said):
    honest = Honest({b"INBOX": numbered(2), b"Bad": numbered(1)})

    @honest.instead_of("UID SEARCH")
    async def refuses(client: Client, command: Command) -> None:
        if server.asked("EXAMINE")[-1].startswith(b'EXAMINE "Bad"'):
            await client.send(command.tag + b" " + said + b"\r\n")
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(ItemRejected, match="does not list 'Bad': ") as rejected:
            assert [page async for page in session.list(RemoteFolder(b"Bad", ("Bad",)), None)]
        assert rejected.value.kind == "folder"
        assert session.alive
        assert [item.ordinal for item in await items(session)] == [2, 1]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"[THROTTLED] slow down", "throttled"),
        (b"[LIMIT] too much", "too-many-connections"),
        (b"[UNAVAILABLE] storage offline", "unavailable"),
    ],
)
async def test_N18_a_server_that_cannot_search_just_now_is_asked_again_later(said, kind):
    honest = inbox(numbered(1))

    @honest.instead_of("UID SEARCH")
    async def later(client: Client, command: Command) -> None:
        await client.send(command.no(said))

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(Transient) as transient:
            await pages(session)
        assert transient.value.kind == kind
        assert not session.alive


async def test_N16_a_throttled_server_names_its_own_time():
    honest = inbox(numbered(1))

    @honest.instead_of("EXAMINE")
    async def throttles(client: Client, command: Command) -> None:
        await client.send(command.bad(b"Request is throttled. Suggested Backoff Time: 299910 milliseconds"))

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(Throttled) as throttled:
            await pages(session)
        assert throttled.value.wait == 299.91
        assert not session.alive


@pytest.mark.parametrize("code", [b"", b"* OK [UIDVALIDITY 0] none\r\n", b"* OK [UIDVALIDITY -3] none\r\n"])
async def test_P14_a_folder_without_uidvalidity_has_the_epoch_0(code):
    honest = inbox(numbered(1))

    @honest.instead_of("EXAMINE")
    async def without(client: Client, command: Command) -> None:
        honest.open(client, command)
        await client.send(b"* 1 EXISTS\r\n", code, command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [item.key for item in await items(session)] == ["0.1"]


async def test_a_cursor_of_another_epoch_is_stale_for_fetching():
    honest = inbox(numbered(1))
    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(StaleCursor, match="in epoch 1 now, not in 2") as stale:
            assert [outcome async for outcome in session.fetch(INBOX, "2", [], None)]
        assert stale.value.epoch == "1"


# --- servers that contradict themselves ---


@pytest.mark.parametrize(
    "uidnext", [b"", b"* OK [UIDNEXT 1] low\r\n", b"* OK [UIDNEXT 4294967295] high\r\n", b"* OK [UIDNEXT x] odd\r\n"]
)
async def test_P15_what_is_said_of_the_next_uid_proves_nothing(uidnext):
    honest = inbox(numbered(3, first=7))

    @honest.instead_of("EXAMINE")
    async def lies(client: Client, command: Command) -> None:
        honest.open(client, command)
        await client.send(b"* 3 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n* OK [HIGHESTMODSEQ 5] x\r\n", uidnext, command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [item.key for page in listing for item in page.items] == ["1.9", "1.8", "1.7"]
        assert listing[-1].whole


UNSOUND = {
    "EXPUNGE 0": b"* 0 EXPUNGE\r\n",
    "EXPUNGE past the end": b"* 6 EXPUNGE\r\n",
    "more EXPUNGEs than messages": b"* 1 EXPUNGE\r\n" * 6,
    "EXPUNGE without a number": b"* EXPUNGE\r\n",
    "EXPUNGE of 2 to the 63": b"* 9223372036854775808 EXPUNGE\r\n",
    "EXISTS down": b"* 2 EXISTS\r\n",
    "EXISTS 0": b"* 0 EXISTS\r\n",
    "EXISTS up and down": b"* 9 EXISTS\r\n* 5 EXISTS\r\n",
}


@pytest.mark.parametrize("said", UNSOUND.values(), ids=UNSOUND.keys())
async def test_P18_P19_numbers_that_make_no_sense_prove_that_nothing_is_gone_and_nothing_unchanged(said, caplog):
    honest = inbox(numbered(5))

    @honest.instead_of("UID SEARCH")
    async def lies(client: Client, command: Command) -> None:
        await client.send(said, b"* SEARCH 1 2\r\n", command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [item.key for page in listing for item in page.items] == [f"1.{uid}" for uid in (5, 4, 3, 2, 1)]
        assert not listing[-1].whole
        assert len(doubts(caplog)) == 1
        honest.be_honest()
        again = await pages(session, listing[-1].cursor)
        assert [len(page.items) for page in again] == [5, 0]
        assert again[-1].whole


async def test_P18_messages_that_go_in_the_middle_of_a_search_are_gone():
    honest = inbox(numbered(5))

    @honest.instead_of("UID SEARCH")
    async def two_go(client: Client, command: Command) -> None:
        await client.send(b"* 5 EXPUNGE\r\n* 4 EXPUNGE\r\n* SEARCH 1 2 3\r\n", command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert (await pages(session))[-1].whole


async def test_P18_an_expunge_in_the_middle_of_a_listing_files_no_details_under_another_item():
    honest = inbox(Mailbox({1: b"x", 2: b"xx", 3: b"xxx"}))

    @honest.instead_of("UID FETCH")
    async def one_goes(client: Client, command: Command) -> None:
        box = honest.mailboxes[b"INBOX"]
        await client.send(honest.details(box, 1, 1), b"* 1 EXPUNGE\r\n", honest.details(box, 2, 3), command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [(item.key, item.size) for item in await items(session)] == [("1.3", 3), ("1.2", None), ("1.1", 1)]


@pytest.mark.parametrize("said", [b"* VANISHED (EARLIER) 1:4294967295\r\n", b"* VANISHED 1:5\r\n"])
@pytest.mark.parametrize("verb", ["EXAMINE", "UID SEARCH", "UID FETCH"])
async def test_P41_everything_has_vanished_says_a_server_that_was_not_asked(said, verb):
    honest = inbox(numbered(5))

    @honest.instead_of(verb)
    async def lies(client: Client, command: Command) -> None:
        await client.send(said)
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert sum(len(page.items) for page in listing) == 5
        assert listing[-1].whole


@pytest.mark.parametrize(
    "answer",
    [b'* ESEARCH (TAG "A1") UID\r\n', b'* ESEARCH (TAG "A1") UID COUNT 3\r\n', b'* ESEARCH (TAG "A1") UID ALL 1:3\r\n', b""],
)
async def test_P44_an_answer_without_a_list_is_no_empty_folder(answer):
    honest = inbox(numbered(3))

    @honest.instead_of("UID SEARCH")
    async def extends(client: Client, command: Command) -> None:
        await client.send(answer, command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(Transient, match="did not list 'INBOX'"):
            await pages(session)


@pytest.mark.parametrize("fetched", [True, False])
async def test_P44_an_empty_list_for_a_folder_that_has_items_proves_nothing(fetched):
    honest = inbox(numbered(3))
    search_names(honest)
    if not fetched:
        fetch_names(honest)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        listing = await pages(session)
        assert [item.ordinal for page in listing for item in page.items] == ([3, 2, 1] if fetched else [])
        assert listing[-1].whole is fetched


def test_P46_a_flag_that_is_none_and_one_of_a_kilobyte_are_nothing_that_breaks():
    assert flags_of([rb"\*", b"x" * 1024, b"a\x1b[31m"]) == (r"\*", "a\x1b[31m")
