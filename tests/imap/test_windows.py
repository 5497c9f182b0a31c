"""Large bodies in windows: gone on with at the byte, and fetched whole where a server makes something else of the question."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.source import MemorySink, body_of
from hauld.errors import Throttled, Transient
from hauld.model import OVERLAP, Fetched, Missing, Outcome, Rejected, RemoteFolder, Twin, Want, Writer
from hauld.sources.imap.grammar import Limits, Parser, Status
from hauld.sources.imap.windows import Windows
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer, at_random
from support.scripted_imap import fetched as response

INBOX = RemoteFolder(b"INBOX", ("INBOX",))
WINDOW = 100_000
SIZE = 10 * WINDOW + 12_345
BODY = bytes(range(251)) * (SIZE // 251 + 1)
BODY = BODY[:SIZE]


def inbox(body: bytes = BODY, **others: bytes) -> Honest:
    """A large message with UID 1, and others."""
    messages = {1: body} | {int(uid.removeprefix("uid")): other for uid, other in others.items()}
    return Honest({b"INBOX": Mailbox(messages)})


def instead_of_window(honest: Honest, number: int, lie: Callable[[int, bytes, bytes], bytes]) -> None:
    """Every connection is told the truth, but of that window (from 0): there ``lie`` makes the response of the offset, of the
    bytes asked for, and of the true response."""
    seen: dict[int, int] = {}

    @honest.instead_of("UID FETCH")
    async def answer(client: Client, command: Command) -> None:
        place = seen.get(client.number, 0)
        start, length = part_of(command.line)
        if length:
            seen[client.number] = place + 1
        if place != number or not length:
            await honest.answer(client, command)
            return
        mailbox = honest.mailboxes[b"INBOX"]
        truth = honest.part(mailbox, 1, 1, start, length)
        await client.send(lie(start, mailbox.messages[1][start : start + length], truth), command.ok())


def part_of(command: bytes) -> tuple[int, int]:
    """Offset and length that a command asks for; nothing where it asks for bodies whole."""
    found = re.search(rb"BODY\.PEEK\[\]<(\d+)\.(\d+)>", command)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def windows_asked(server: ScriptedServer) -> list[tuple[int, int]]:
    return [part_of(command) for command in server.asked("UID FETCH") if part_of(command)[1]]


def asked_whole(server: ScriptedServer) -> list[bytes]:
    """The UIDs of the commands that asked for whole bodies."""
    return [command.split()[2] for command in server.asked("UID FETCH") if command.endswith(b"BODY.PEEK[])")]


async def fetch(
    server: ScriptedServer, sink: MemorySink, sizes: dict[int, int] | None = None, **options: object
) -> dict[int, Outcome]:
    """One session, one fetch; outcomes by UID."""
    async with server.source(window=WINDOW, **options).session() as session:
        return await fetch_in(session, sink, sizes)


async def fetch_in(session, sink: MemorySink, sizes: dict[int, int] | None = None) -> dict[int, Outcome]:
    wants = [Want(f"1.{uid}", size) for uid, size in (sizes or {1: SIZE}).items()]
    outcomes = [outcome async for some in session.fetch(INBOX, "1", wants, sink) for outcome in some]
    assert not any(isinstance(outcome, Twin) for outcome in outcomes)
    assert sorted(outcome.key for outcome in outcomes) == sorted(want.key for want in wants)
    return {int(outcome.key.partition(".")[2]): outcome for outcome in outcomes}


# --- an honest server ---


@pytest.mark.parametrize("size", [2 * WINDOW, 2 * WINDOW + 1, 3 * WINDOW - 1, 3 * WINDOW, SIZE])
async def test_a_large_body_comes_in_windows_and_its_neighbours_whole(size: int) -> None:
    honest = inbox(BODY[:size], uid2=b"small", uid3=BODY[: 2 * WINDOW - 1])
    async with ScriptedServer(honest) as server:
        outcomes = await fetch(server, sink := MemorySink(), {1: size, 2: 5, 3: 2 * WINDOW - 1})
    assert {uid: body_of(outcome) for uid, outcome in outcomes.items()} == honest.mailboxes[b"INBOX"].messages
    assert all(isinstance(outcome, Fetched) and outcome.listed_size == outcome.body.size for outcome in outcomes.values())
    starts = range(0, size + 1, WINDOW)
    assert windows_asked(server) == [(max(0, start - OVERLAP), WINDOW + min(start, OVERLAP)) for start in starts]
    assert asked_whole(server) == [b"2:3"]
    assert not sink.unfinished


async def test_an_item_whose_size_nobody_knows_comes_whole() -> None:
    async with ScriptedServer(inbox()) as server, server.source(window=WINDOW).session() as session:
        [outcome] = [outcome async for some in session.fetch(INBOX, "1", [Want("1.1")], MemorySink()) for outcome in some]
    assert body_of(outcome) == BODY
    assert not windows_asked(server)


async def test_windows_cut_anywhere_on_the_way_are_the_same() -> None:
    honest = inbox(BODY[: 3 * WINDOW])
    honest.cutter = at_random(7, longest=3000)
    async with ScriptedServer(honest) as server:
        outcomes = await fetch(server, MemorySink(), {1: 3 * WINDOW})
    assert body_of(outcomes[1]) == BODY[: 3 * WINDOW]


async def test_the_next_window_is_asked_for_while_one_comes() -> None:
    honest = inbox()
    waiting: list[Command] = []

    @honest.instead_of("UID FETCH")
    async def first_alone_then_only_two_together(client: Client, command: Command) -> None:
        if part_of(command.line)[0] == 0:
            await honest.answer(client, command)
            return
        waiting.append(command)
        if len(waiting) == 2:
            honest.be_honest()
            for asked in waiting:
                await honest.answer(client, asked)

    async with ScriptedServer(honest) as server:
        assert body_of((await fetch(server, MemorySink()))[1]) == BODY


async def test_a_slow_sink_gets_every_byte_of_every_window() -> None:
    async with ScriptedServer(inbox()) as server:
        sink = MemorySink(slow=True)
        assert body_of((await fetch(server, sink))[1]) == BODY
    assert sink.pauses


async def test_P38_an_item_above_the_limit_is_rejected_and_never_asked_for_in_windows() -> None:
    async with ScriptedServer(inbox()) as server:
        outcomes = await fetch(server, MemorySink(), max_message_size=WINDOW)
    assert isinstance(outcomes[1], Rejected)
    assert outcomes[1].skip
    assert not windows_asked(server)


class NoPace:
    """Nothing is paused."""

    def pause_until_ready(self, writer: Writer) -> None:
        raise AssertionError

    def release(self, writer: Writer) -> None:
        pass

    def expect_body(self, size: int) -> None:
        pass


@settings(max_examples=50, deadline=None)
@given(
    size=st.integers(1, 12_000),
    window=st.integers(1000, 9000),
    share=st.floats(0, 1),
    collected=st.sampled_from([0, 1000, 64 * 1024]),
    cut=st.integers(10, 5000),
)
def test_windows_of_any_size_make_the_body_however_they_come(
    size: int, window: int, share: float, collected: int, cut: int
) -> None:
    honest, sink, parser = inbox(BODY[:size]), MemorySink(), Parser(Limits(part=collected))
    writer = sink.open("1.1", size)
    writer.begin(BODY[: int(share * size)])
    windows = Windows(1, size, window, writer, NoPace())
    asked: deque[bytes] = deque()
    while True:
        while (question := windows.ask()) is not None:
            asked.append(question)
        if not asked:
            break
        said = honest.part(honest.mailboxes[b"INBOX"], 1, 1, *part_of(asked.popleft()))
        for start in range(0, len(said), cut):
            for event in parser.feed(said[start : start + cut]):
                windows.listen(event)
        windows.answer(Status(b"a", "OK"))
    assert windows.complete
    assert writer.data == BODY[:size]


# --- a fetch that goes on ---


@pytest.mark.parametrize("cut", [1, OVERLAP, OVERLAP + 1, WINDOW // 2, WINDOW])
async def test_N1_a_fetch_cut_in_the_fourth_window_goes_on_at_the_byte(cut: int) -> None:
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def cuts(client: Client, command: Command) -> None:
        start, length = part_of(command.line)
        if start < 2 * WINDOW:
            await honest.answer(client, command)
            return
        honest.be_honest()
        truth = honest.part(honest.mailboxes[b"INBOX"], 1, 1, start, length)
        head = truth.index(b"\r\n") + 2
        await client.send(truth[: head + cut])
        await client.close()

    sink = MemorySink()
    async with ScriptedServer(honest) as server:
        with pytest.raises(Transient):
            await fetch(server, sink)
        there = len(sink.left["1.1"])
        assert there == 3 * WINDOW + max(0, cut - OVERLAP)
        server.commands.clear()
        assert body_of((await fetch(server, sink))[1]) == BODY
    again = windows_asked(server)
    assert again[0][0] == there - OVERLAP
    assert again[-1][0] <= SIZE


@pytest.mark.parametrize("there", [1, OVERLAP - 1, OVERLAP, 3 * WINDOW, SIZE - 1, SIZE])
async def test_a_fetch_goes_on_behind_whatever_is_there(there: int) -> None:
    sink = MemorySink()
    sink.left["1.1"] = BODY[:there]
    async with ScriptedServer(inbox()) as server:
        assert body_of((await fetch(server, sink))[1]) == BODY
    assert windows_asked(server)[0][0] == max(0, there - OVERLAP)
    assert not asked_whole(server)


async def test_a_fetch_that_is_cancelled_keeps_what_has_come() -> None:
    honest = inbox()
    reached = asyncio.Event()

    @honest.instead_of("UID FETCH")
    async def stops_in_the_fourth(client: Client, command: Command) -> None:
        if part_of(command.line)[0] < 2 * WINDOW:
            await honest.answer(client, command)
        else:
            reached.set()
            await client.gone()

    sink = MemorySink()
    async with ScriptedServer(honest) as server:
        fetching = asyncio.create_task(fetch(server, sink))
        await reached.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert sink.left["1.1"] == BODY[: 3 * WINDOW]
    assert not sink.unfinished


async def test_a_server_that_asks_for_patience_between_windows_is_not_blamed() -> None:
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def throttles(client: Client, command: Command) -> None:
        if part_of(command.line)[0] < WINDOW:
            await honest.answer(client, command)
        else:
            await client.send(command.no(b"[THROTTLED] later"))

    sink = MemorySink()
    async with ScriptedServer(honest) as server:
        with pytest.raises(Throttled):
            await fetch(server, sink)
    assert len(sink.left["1.1"]) == 2 * WINDOW
    assert not asked_whole(server)


async def test_trouble_with_the_sink_in_a_window_ends_the_session_with_that_error() -> None:
    async with ScriptedServer(inbox()) as server, server.source(window=WINDOW).session() as session:
        with pytest.raises(Transient) as trouble:
            await fetch_in(session, MemorySink(broken=True))
        assert trouble.value.kind == "disk"
        assert not session.alive


# --- a server that makes something else of it ---


def ignores_the_offset(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(asked, BODY[: len(asked)])


def changes_the_bytes(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(asked, asked[:1] + bytes([asked[1] ^ 1]) + asked[2:])


def says_another_offset(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(b"BODY[]<%d>" % start, b"BODY[]<%d>" % (start + 1))


def says_an_offset_beyond_all_numbers(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(b"BODY[]<%d>" % start, b"BODY[]<" + b"9" * 5000 + b">")


def gives_less(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(b"{%d}\r\n" % len(asked) + asked, b"{%d}\r\n" % (len(asked) // 2) + asked[: len(asked) // 2])


def gives_hardly_anything(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(b"{%d}\r\n" % len(asked) + asked, b'"short"')


def gives_all_of_it_as_a_part(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(b"{%d}\r\n" % len(asked) + asked, b"{%d}\r\n" % SIZE + BODY)


def says_another_size(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(b"RFC822.SIZE %d" % SIZE, b"RFC822.SIZE %d" % (SIZE + 1))


def says_another_uid(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(b"UID 1 ", b"UID 2 ")


def says_no_uid(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth.replace(b"UID 1 ", b"")


def gives_it_twice(start: int, asked: bytes, truth: bytes) -> bytes:
    return truth + truth


WRONG = [
    says_another_offset,
    says_an_offset_beyond_all_numbers,
    gives_less,
    gives_hardly_anything,
    gives_all_of_it_as_a_part,
    says_another_size,
    says_another_uid,
    says_no_uid,
]
WRONG_BEHIND_THE_FIRST = [ignores_the_offset, changes_the_bytes]


def is_nil(start: int, asked: bytes, truth: bytes) -> bytes:
    return b"* 1 FETCH (UID 1 RFC822.SIZE %d BODY[]<%d> NIL)\r\n" % (SIZE, start)


def leaves_it_out(start: int, asked: bytes, truth: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("number", "lie"),
    [(0, lie) for lie in WRONG]
    + [(number, lie) for number in (3, 10) for lie in (*WRONG, *WRONG_BEHIND_THE_FIRST)]
    + [(number, gives_it_twice) for number in (0, 3)],
)
async def test_an_item_is_fetched_whole_where_a_window_is_wrong_and_the_next_one_at_once(
    number: int, lie: Callable[[int, bytes, bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    honest = inbox(uid2=BODY[::-1])
    instead_of_window(honest, number, lie)
    sink = MemorySink()
    async with ScriptedServer(honest) as server, server.source(window=WINDOW).session() as session:
        outcomes = await fetch_in(session, sink, {1: SIZE, 2: SIZE})
    assert {uid: body_of(outcome) for uid, outcome in outcomes.items()} == honest.mailboxes[b"INBOX"].messages
    assert asked_whole(server) == [b"1", b"2"]
    assert len(windows_asked(server)) <= number + 2
    assert not sink.unfinished
    assert not sink.left
    assert [record.event for record in caplog.records if hasattr(record, "event")] == ["fetch.whole"]


@pytest.mark.parametrize("lie", [is_nil, leaves_it_out], ids=lambda lie: lie.__name__)
async def test_an_item_of_which_a_window_is_not_given_is_fetched_whole_and_the_next_one_in_windows(
    lie: Callable[[int, bytes, bytes], bytes],
) -> None:
    honest = inbox(uid2=BODY[::-1])
    instead_of_window(honest, 2, lie)
    async with ScriptedServer(honest) as server:
        outcomes = await fetch(server, MemorySink(), {1: SIZE, 2: SIZE})
    assert {uid: body_of(outcome) for uid, outcome in outcomes.items()} == honest.mailboxes[b"INBOX"].messages
    assert asked_whole(server) == [b"1"]


@pytest.mark.parametrize(("condition", "whole"), [("no", [b"1"]), ("bad", [b"1", b"2"])])
async def test_an_item_is_fetched_whole_where_windows_are_refused(condition: str, whole: list[bytes]) -> None:
    honest = inbox(uid2=BODY[::-1])

    @honest.instead_of("UID FETCH")
    async def refuses(client: Client, command: Command) -> None:
        if part_of(command.line)[1] and b" 1 " in command.line:
            await client.send(getattr(command, condition)(b"what?"))
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server:
        outcomes = await fetch(server, MemorySink(), {1: SIZE, 2: SIZE})
    assert {uid: body_of(outcome) for uid, outcome in outcomes.items()} == honest.mailboxes[b"INBOX"].messages
    assert asked_whole(server) == whole


async def test_a_server_that_answers_with_the_whole_body_is_taken_at_its_word_and_asked_no_second_time() -> None:
    honest = inbox(uid2=BODY[::-1])

    @honest.instead_of("UID FETCH")
    async def knows_no_parts(client: Client, command: Command) -> None:
        uid = int(command.arguments.split()[0])
        await client.send(response(uid, uid, honest.mailboxes[b"INBOX"].messages[uid]), command.ok())

    sink = MemorySink()
    async with ScriptedServer(honest) as server:
        outcomes = await fetch(server, sink, {1: SIZE, 2: SIZE})
    assert {uid: body_of(outcome) for uid, outcome in outcomes.items()} == honest.mailboxes[b"INBOX"].messages
    assert len(windows_asked(server)) == 1
    assert asked_whole(server) == [b"2"]
    assert not sink.unfinished


async def test_an_item_whose_listed_size_is_not_its_size_is_fetched_whole() -> None:
    async with ScriptedServer(inbox()) as server:
        outcomes = await fetch(server, MemorySink(), {1: SIZE - 1})
    assert body_of(outcomes[1]) == BODY
    assert asked_whole(server) == [b"1"]


async def test_an_item_that_is_gone_is_missing() -> None:
    async with ScriptedServer(Honest({b"INBOX": Mailbox()})) as server:
        outcomes = await fetch(server, MemorySink())
    assert isinstance(outcomes[1], Missing)


async def test_what_is_there_of_other_bytes_is_forgotten() -> None:
    sink = MemorySink()
    sink.left["1.1"] = BODY[::-1][: 3 * WINDOW]
    async with ScriptedServer(inbox()) as server:
        assert body_of((await fetch(server, sink))[1]) == BODY
    assert asked_whole(server) == [b"1"]
    assert not sink.left


async def test_flags_told_in_between_and_other_items_are_no_windows() -> None:
    honest = inbox()

    def chatters(start: int, asked: bytes, truth: bytes) -> bytes:
        flags = rb"* 1 FETCH (UID 1 FLAGS (\Seen))" + b"\r\n* 2 EXISTS\r\n* 2 FETCH (FLAGS ())\r\n"
        return flags + truth + flags

    instead_of_window(honest, 2, chatters)
    async with ScriptedServer(honest) as server:
        assert body_of((await fetch(server, MemorySink()))[1]) == BODY
    assert not asked_whole(server)
