"""Bodies: exactly one outcome for each want, whatever the server makes of the question."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.source import MemorySink, body_of, fetched
from hauld.errors import Throttled, Transient
from hauld.model import Fetched, Missing, Outcome, Rejected, RemoteFolder, Twin, Want
from hauld.sources.imap import protocol
from hauld.sources.imap.fetching import BLOCK_ITEMS, MOST_TWINS, blocks, uid_set
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer, at_random, byte_by_byte, is_in, whole
from support.scripted_imap import fetched as response

INBOX = RemoteFolder(b"INBOX", ("INBOX",))


def inbox(count: int = 3) -> Honest:
    return Honest({b"INBOX": Mailbox({uid: b"body %d" % uid for uid in range(1, count + 1)})})


async def outcomes_of(
    server: ScriptedServer, uids: list[int], sink: MemorySink | None = None, **options: object
) -> dict[int, Outcome]:
    """One session, one fetch; outcomes by UID."""
    async with server.source(**options).session() as session:
        return await fetch(session, uids, sink)


async def fetch(session, uids: list[int], sink: MemorySink | None = None) -> dict[int, Outcome]:
    outcomes = await fetched(session, INBOX, "1", [f"1.{uid}" for uid in uids], sink)
    assert len(outcomes) == len(uids)
    return {int(outcome.key.partition(".")[2]): outcome for outcome in outcomes}


def answering(honest: Honest, *data: bytes) -> None:
    """Answer every UID FETCH with these bytes and OK."""

    @honest.instead_of("UID FETCH")
    async def lie(client: Client, command: Command) -> None:
        await client.send(*data, command.ok())


# --- what is asked ---


def test_P40_sets_are_ascending_with_runs_and_short_enough():
    assert [uid_set(block) for block in blocks([9, 1, 2, 3, 7, 5, 6])] == [b"1:3,5:7,9"]
    scattered = list(blocks(range(2**63 - 2000, 2**63, 3)))
    assert [len(block) for block in scattered] == [BLOCK_ITEMS] * 3 + [67]
    assert max(len(uid_set(block)) for block in scattered) < 8000 - 100


@given(st.sets(st.integers(1, 60), min_size=1))
def test_P40_a_set_names_what_is_wanted_and_nothing_else(uids):
    (block,) = blocks(uids)
    assert {uid for uid in range(62) if is_in(uid, uid_set(block))} == uids


async def test_P28_a_body_in_a_second_list_of_one_response_is_nobodys():
    honest = inbox(2)
    answering(honest, b"* 1 FETCH (UID 1 BODY[] {6}\r\nbody 1)\r * 2 FETCH (UID 2 BODY[] {6}\r\nbody 2)\r\n")
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        outcomes = await outcomes_of(server, [1, 2], sink)
    assert body_of(outcomes[1]) == b"body 1"
    assert isinstance(outcomes[2], Missing)


async def test_several_commands_are_under_way_at_once():
    honest = inbox(1000)
    async with ScriptedServer(honest) as server:
        waiting: list[Command] = []

        @honest.instead_of("UID FETCH")
        async def only_when_four_are_asked(client: Client, command: Command) -> None:
            waiting.append(command)
            if len(waiting) == 4:
                for asked in reversed(waiting):
                    await honest.answer(client, asked)
                honest.be_honest()

        outcomes = await outcomes_of(server, list(range(1, 1001)))
        assert {uid: body_of(outcome) for uid, outcome in outcomes.items()} == honest.mailboxes[b"INBOX"].messages
        assert [len(command) < 8000 for command in server.asked("UID FETCH")] == [True] * 5


async def test_a_folder_is_examined_once_for_many_fetches():
    async with ScriptedServer(inbox()) as server, server.source().session() as session:
        for uid in (1, 2, 3):
            assert isinstance((await fetch(session, [uid]))[uid], Fetched)
        assert len(server.asked("EXAMINE")) == 1
        assert not server.asked("SELECT")
        assert all(b"BODY.PEEK[]" in command for command in server.asked("UID FETCH"))


async def test_keys_that_are_no_keys_of_this_epoch_are_rejected():
    async with ScriptedServer(inbox()) as server, server.source().session() as session:
        outcomes = await fetched(session, INBOX, "1", ["2.1", "1", "1.x", "1.0", "1.-1", "1.1", "1.1"])
    assert [type(outcome) for outcome in outcomes].count(Rejected) == 6
    assert [outcome.key for outcome in outcomes if isinstance(outcome, Fetched)] == ["1.1"]


# --- what is answered ---


async def test_P1_an_item_left_out_once_is_missing_and_comes_when_asked_again():
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def leaves_two_out(client: Client, command: Command) -> None:
        honest.be_honest()
        await client.send(response(1, 1, b"body 1"), response(3, 3, b"body 3"), command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        outcomes = await fetch(session, [1, 2, 3])
        assert outcomes[2] == Missing("1.2", "the server's answer left it out")
        assert body_of(outcomes[1]) == b"body 1"
        assert body_of(outcomes[3]) == b"body 3"
        assert body_of((await fetch(session, [2]))[2]) == b"body 2"


async def test_P2_an_item_left_out_every_time_is_missing_every_time():
    honest = inbox()
    answering(honest)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        for _ in range(3):
            assert isinstance((await fetch(session, [2]))[2], Missing)
        assert session.alive


async def test_P3_items_that_nobody_asked_for_are_ignored_and_never_filed_under_another():
    honest = inbox()
    answering(honest, response(9, 9, b"nine"), response(2, 2, b"two"), response(1, 10, b"ten"))
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        outcomes = await outcomes_of(server, [1, 2], sink)
    assert isinstance(outcomes[1], Missing)
    assert body_of(outcomes[2]) == b"two"
    assert [bytes(writer.data) for writer in sink.writers] == [b"two"]


async def test_P4_the_uid_may_come_after_the_body():
    honest = inbox()
    answering(honest, b"* 2 FETCH (BODY[] {3}\r\ntwo RFC822.SIZE 3 UID 2)\r\n* 7 FETCH (BODY[] {5}\r\nseven UID 7)\r\n")
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        outcomes = await outcomes_of(server, [2], sink)
    assert body_of(outcomes[2]) == b"two"
    assert outcomes[2].listed_size == 3
    assert [writer.discarded for writer in sink.writers] == [False, True]


async def test_P4_an_answer_without_a_uid_is_dropped_and_the_item_missing():
    honest = inbox()
    answering(honest, b"* 2 FETCH (RFC822.SIZE 3 BODY[] {3}\r\ntwo)\r\n")
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        assert isinstance((await outcomes_of(server, [2], sink))[2], Missing)
    assert [writer.discarded for writer in sink.writers] == [True]


async def test_P5_a_change_of_flags_in_between_is_no_empty_message():
    honest = inbox()
    answering(
        honest, b"* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n", response(2, 2, b"two"), b"* 1 FETCH (FLAGS ())\r\n* 1 FETCH x\r\n"
    )
    async with ScriptedServer(honest) as server:
        assert body_of((await outcomes_of(server, [2]))[2]) == b"two"


TOLD = b"* 2 FETCH (UID 2 RFC822.SIZE 3)\r\n"
"""What some servers say of a message apart from its body."""


@pytest.mark.parametrize("between", [b"", b"* 2 FETCH (FLAGS ())\r\n", b"* 1 FETCH (FLAGS () UID 1)\r\n* 7 EXISTS\r\n"])
@pytest.mark.parametrize("body", [b"* 2 FETCH (BODY[] {3}\r\ntwo)\r\n", b'* 2 FETCH (BODY[] "two")\r\n'])
@pytest.mark.parametrize("body_first", [False, True])
async def test_P5_a_message_told_in_two_responses_is_one_whole_message(between, body, body_first):
    honest = inbox()
    answering(honest, *([body, between, TOLD] if body_first else [TOLD, between, body]))
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        outcome = (await outcomes_of(server, [2], sink))[2]
    assert body_of(outcome) == b"two"
    assert outcome.listed_size == 3
    assert len(sink.writers) == 1


@pytest.mark.parametrize("gone", [b"* 1 EXPUNGE\r\n", b"* VANISHED 1\r\n"])
@pytest.mark.parametrize("body_first", [False, True])
async def test_P5_halves_are_not_put_together_once_the_numbers_have_changed(gone, body_first):
    honest = inbox()
    body = b"* 2 FETCH (BODY[] {5}\r\nthree)\r\n"
    answering(honest, *([body, gone, TOLD] if body_first else [TOLD, gone, body]))
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        assert isinstance((await outcomes_of(server, [2], sink))[2], Missing)
    assert [writer.discarded for writer in sink.writers] == [True]


async def test_P5_of_two_bodies_that_wait_for_their_uid_the_last_is_kept_and_never_filed_under_the_other():
    honest = inbox()
    answering(honest, b"* 1 FETCH (BODY[] {3}\r\none)\r\n* 2 FETCH (BODY[] {3}\r\ntwo)\r\n* 1 FETCH (UID 1)\r\n", TOLD)
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        outcomes = await outcomes_of(server, [1, 2], sink)
    assert isinstance(outcomes[1], Missing)
    assert body_of(outcomes[2]) == b"two"
    assert not sink.unfinished


async def test_P5_the_body_of_an_item_that_nobody_waits_for_is_dropped_when_its_uid_comes():
    honest = inbox()
    answering(honest, b"* 9 FETCH (BODY[] {4}\r\nnine)\r\n* 9 FETCH (UID 9)\r\n", TOLD, b"* 2 FETCH (BODY[] NIL)\r\n")
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        assert isinstance((await outcomes_of(server, [2], sink))[2], Missing)
    assert [writer.discarded for writer in sink.writers] == [True]


@pytest.mark.parametrize(
    ("items", "size"),
    [(b"BODY[] NIL", 5), (b'BODY[] ""', 5), (b"BODY[] {0}\r\n", 5), (b"FLAGS ()", 5), (b'BODY[] ("x")', 5)],
)
async def test_P6_no_body_is_missing(items, size):
    honest = inbox()
    answering(honest, b"* 2 FETCH (UID 2 RFC822.SIZE %d %s)\r\n" % (size, items))
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        assert isinstance((await outcomes_of(server, [2], sink))[2], Missing)
    assert not sink.unfinished


@pytest.mark.parametrize(
    ("items", "body"),
    [
        (b'RFC822.SIZE 0 BODY[] ""', b""),
        (b"RFC822.SIZE 0 BODY[] {0}\r\n", b""),
        (b"BODY[] {0}\r\n", b""),
        (b'BODY[] "ab\\"c"', b'ab"c'),
    ],
)
async def test_P6_an_empty_message_is_fetched_and_a_quoted_one_too(items, body):
    honest = inbox()
    answering(honest, b"* 2 FETCH (UID 2 %s)\r\n" % items)
    async with ScriptedServer(honest) as server:
        assert body_of((await outcomes_of(server, [2]))[2]) == body


@pytest.mark.parametrize("size", [1, 6000, 2**63 - 1])
async def test_P7_a_body_that_disagrees_with_its_size_is_fetched_as_it_is(size):
    honest = inbox()
    answering(honest, response(2, 2, b"two", size))
    async with ScriptedServer(honest) as server:
        outcome = (await outcomes_of(server, [2]))[2]
    assert body_of(outcome) == b"two"
    assert outcome.listed_size == size


@pytest.mark.parametrize(
    "items", [b"RFC822.SIZE -5", b"RFC822.SIZE 99999999999999999999", b"RFC822.SIZE NIL", b"X-ODD (((())))"]
)
async def test_P10_a_size_that_is_none_is_not_believed(items):
    honest = inbox()
    answering(honest, b"* 2 FETCH (UID 2 %s BODY[] {3}\r\ntwo)\r\n" % items)
    async with ScriptedServer(honest) as server:
        outcome = (await outcomes_of(server, [2]))[2]
    assert outcome.listed_size is None
    assert body_of(outcome) == b"two"


async def test_P20_of_two_bodies_for_one_item_the_first_counts_and_the_second_is_its_twin():
    assert await told_of_2(response(2, 2, b"first"), response(2, 2, b"second", 9)) == [
        (Fetched, "1.2", b"first", 5),
        (Twin, "1.2", b"second", 9),
    ]


@pytest.mark.parametrize(
    "second",
    [
        b"* 2 FETCH (BODY[] {6}\r\nsecond)\r\n* 2 FETCH (UID 2)\r\n",
        b"* 2 FETCH (UID 2)\r\n* 2 FETCH (BODY[] {6}\r\nsecond)\r\n",
    ],
    ids=["UID behind", "UID before"],
)
async def test_P20_a_second_body_told_in_two_responses_is_a_twin(second):
    assert await told_of_2(response(2, 2, b"first"), second) == [
        (Fetched, "1.2", b"first", 5),
        (Twin, "1.2", b"second", None),
    ]


async def test_P20_a_third_body_is_dropped():
    bodies = [response(2, 2, word) for word in (b"first", b"second", b"third", b"fourth")]
    assert [body for _, _, body, _ in await told_of_2(*bodies)] == [b"first", b"second"]


async def test_P20_a_body_that_comes_again_in_the_answer_for_another_item_is_a_twin_too():
    honest = inbox(2 * BLOCK_ITEMS)

    @honest.instead_of("UID FETCH")
    async def repeats_itself(client: Client, command: Command) -> None:
        if not command.arguments.startswith(b"1:"):
            await client.send(response(7, 7, b"again"))
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        told = await everything(session, range(1, 2 * BLOCK_ITEMS + 1))
    assert len(told) == 2 * BLOCK_ITEMS + 1
    assert [(type(outcome), body_of(outcome)) for outcome in told if outcome.key == "1.7"] == [
        (Fetched, b"body 7"),
        (Twin, b"again"),
    ]


@pytest.mark.parametrize("second", [b"* 2 FETCH (UID 2 BODY[] NIL)\r\n", b'* 2 FETCH (UID 2 BODY[] "")\r\n'])
async def test_P20_a_second_answer_without_a_body_is_no_twin(second):
    assert [kind for kind, *_ in await told_of_2(response(2, 2, b"first"), second)] == [Fetched]


async def test_P20_a_second_body_above_the_limit_is_dropped():
    told = await told_of_2(response(2, 2, b"first"), response(2, 2, b"x" * 101), max_message_size=100)
    assert [kind for kind, *_ in told] == [Fetched]


async def test_P20_of_very_many_twins_some_are_taken():
    count = BLOCK_ITEMS // 2 + 50
    bodies = [response(uid, uid, b"%d of %d" % (time, uid)) for time in (1, 2) for uid in range(1, count + 1)]
    honest = inbox(count)
    answering(honest, *bodies)
    async with ScriptedServer(honest) as server, server.source().session() as session:
        told = await everything(session, range(1, count + 1))
    assert [type(outcome) for outcome in told].count(Fetched) == count
    assert [type(outcome) for outcome in told].count(Twin) == MOST_TWINS


async def test_P20_a_second_body_that_breaks_off_takes_nothing_from_the_first():
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def breaks_off(client: Client, command: Command) -> None:
        await client.send(response(2, 2, b"first"), b"* 2 FETCH (UID 2 BODY[] {10}\r\n01234")
        await client.close()

    sink = MemorySink()
    told: list[Outcome | Twin] = []
    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(Transient):  # noqa: PT012 - what came before the error is what this is about
            async for some in session.fetch(INBOX, "1", [Want("1.2")], sink):
                told += some
    assert [(type(outcome), body_of(outcome)) for outcome in told] == [(Fetched, b"first")]
    assert [writer.discarded for writer in sink.writers] == [False, True]


async def told_of_2(*data: bytes, **options: object) -> list[tuple[type, str, bytes, int | None]]:
    """What is told of item 2 when a FETCH of it is answered with these bytes."""
    honest = inbox()
    answering(honest, *data)
    async with ScriptedServer(honest) as server, server.source(**options).session() as session:
        sink = MemorySink()
        told = await everything(session, [2], sink)
    assert not sink.unfinished
    return [(type(outcome), outcome.key, body_of(outcome), outcome.listed_size) for outcome in told]


async def everything(session, uids: Iterable[int], sink: MemorySink | None = None) -> list[Outcome | Twin]:
    """All outcomes of one fetch, twins among them."""
    return await fetched(session, INBOX, "1", [f"1.{uid}" for uid in uids], sink)


async def test_two_bodies_in_one_response_leave_nothing_unfinished():
    honest = inbox()
    answering(honest, b"* 2 FETCH (UID 2 BODY[] {1}\r\na BODY[] {1}\r\nb)\r\n")
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        assert isinstance((await outcomes_of(server, [2], sink))[2], Fetched)
    assert not sink.unfinished


async def test_P21_messages_with_the_same_message_id_or_none_are_items_of_their_own():
    twin = b"Message-ID: <1@example.org>\r\n\r\ntwin\r\n"
    messages = {1: twin, 2: twin, 3: b"\r\nno id", 4: b"Message-ID: <" + b"x" * 1_000_000 + b">\r\n\r\n"}
    async with ScriptedServer(Honest({b"INBOX": Mailbox(messages)})) as server:
        outcomes = await outcomes_of(server, list(messages))
    assert {uid: body_of(outcome) for uid, outcome in outcomes.items()} == messages


async def test_P27_data_after_the_tagged_answer_is_not_waited_for():
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def too_early(client: Client, command: Command) -> None:
        await client.send(command.ok())
        honest.be_honest()
        following = await client.command()
        await client.send(response(2, 2, b"late"))
        await honest.answer(client, following)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert isinstance((await fetch(session, [2]))[2], Missing)
        assert body_of((await fetch(session, [3]))[3]) == b"body 3"


@pytest.mark.parametrize("cutter", [byte_by_byte, at_random(7)], ids=["byte by byte", "at random"])
async def test_P37_bodies_come_exactly_as_they_are_however_they_are_cut(cutter):
    messages = {
        1: b"bare\nLF, bare\rCR, NUL \x00 and \xff\xfe",
        2: b")\r\n* 3 FETCH (UID 3 BODY[] {4}\r\nfake)\r\nA1 OK\r\n",
        3: bytes(range(256)),
        4: b"\r\n",
    }
    async with ScriptedServer(Honest({b"INBOX": Mailbox(messages)}, cutter=cutter)) as server:
        outcomes = await outcomes_of(server, list(messages))
    assert {uid: body_of(outcome) for uid, outcome in outcomes.items()} == messages


# --- when the server refuses ---


@pytest.mark.parametrize("word", [b"NO [SERVERBUG] cannot read message", b"BAD confused"])
async def test_N18_what_came_before_a_refusal_counts_and_the_rest_is_missing_with_its_words(word):
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def refuses(client: Client, command: Command) -> None:
        await client.send(response(1, 1, b"one"), command.tag + b" " + word + b"\r\n")

    async with ScriptedServer(honest) as server, server.source().session() as session:
        outcomes = await fetch(session, [1, 2])
        assert body_of(outcomes[1]) == b"one"
        assert word.split(b" ", 1)[1].decode() in outcomes[2].reason
        assert session.alive


@pytest.mark.parametrize(
    ("words", "kind", "wait"),
    [
        (b"[UNAVAILABLE] try later", "unavailable", 0.0),
        (b"Request is throttled. Suggested Backoff Time: 1500 milliseconds", "throttled", 1.5),
        (b"[THROTTLED] slow down", "throttled", 60.0),
    ],
)
async def test_N16_a_server_that_cannot_now_costs_no_item_anything(words, kind, wait):
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def later(client: Client, command: Command) -> None:
        await client.send(command.no(words))

    async with ScriptedServer(honest) as server, server.source().session() as session:
        with pytest.raises(Transient) as error:
            await fetch(session, [1, 2])
        assert (error.value.kind, error.value.at_least) == (kind, wait)
        assert not session.alive


async def test_N19_a_BYE_in_the_middle_says_why_and_when():
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def bye(client: Client, command: Command) -> None:
        await client.send(response(1, 1, b"one"), b"* BYE Request is throttled. Suggested Backoff Time: 2000 milliseconds\r\n")

    async with ScriptedServer(honest) as server:
        with pytest.raises(Throttled) as error:
            await outcomes_of(server, [1, 2])
        assert error.value.wait == 2.0


# --- when the connection breaks ---

HALF = b"* 1 FETCH (UID 1 RFC822.SIZE 10 BODY[] {10}\r\n01234"


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize("length", [0, 10, len(HALF) - 5, len(HALF)])
async def test_N1_N2_P8_a_connection_that_breaks_off_leaves_no_half_message(end, length):
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def breaks_off(client: Client, command: Command) -> None:
        await client.send(response(3, 3, b"three"), HALF[:length])
        await (client.reset() if end == "reset" else client.close())

    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        async with server.source().session() as session:
            with pytest.raises(Transient, match=r"127\.0\.0\.1:\d+ \(user alice\): the connection was") as error:
                await fetch(session, [1, 3], sink)
            assert not session.alive
        assert error.value.kind == "network"
        assert not sink.unfinished
        assert [writer for writer in sink.writers if writer.finished and writer.data != b"three"] == []
        honest.be_honest()
        assert body_of((await outcomes_of(server, [1]))[1]) == b"body 1"


async def test_N1_what_came_whole_before_the_connection_broke_counts():
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def breaks_off(client: Client, command: Command) -> None:
        await client.send(response(3, 3, b"three"), response(2, 2, b"two"), HALF)
        await client.close()

    async with ScriptedServer(honest) as server, server.source().session() as session:
        outcomes: list[Outcome] = []
        wants = [Want(f"1.{uid}") for uid in (1, 2, 3)]
        with pytest.raises(Transient):  # noqa: PT012 - what came before the error is what this is about
            async for some in session.fetch(INBOX, "1", wants, MemorySink()):
                outcomes += some
    assert {outcome.key: body_of(outcome) for outcome in outcomes} == {"1.3": b"three", "1.2": b"two"}


async def test_a_body_that_nobody_wants_after_all_does_not_keep_the_others_waiting():
    """The sink asks to wait for the first body, which turns out to have no UID and is dropped; it never calls back."""

    class FirstStuck(MemorySink):
        def open(self, key, size):
            self.stuck = not self.writers
            return super().open(key, size)

    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def without_a_uid_first(client: Client, command: Command) -> None:
        await client.send(b"* 2 FETCH (BODY[] {3}\r\nwho)\r\n")
        await client.send(response(2, 2, b"two" * 1_000_000), command.ok())

    async with ScriptedServer(honest) as server:
        sink = FirstStuck()
        assert body_of((await outcomes_of(server, [2], sink))[2]) == b"two" * 1_000_000
        assert sink.pauses == 1


async def test_N3_silence_in_the_middle_of_a_message_ends_the_connection():
    honest = inbox()

    @honest.instead_of("UID FETCH")
    async def falls_silent(client: Client, command: Command) -> None:
        await client.send(HALF)
        await client.gone()

    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        async with server.source(timeout=0.1).session() as session:
            with pytest.raises(Transient, match=r"sent nothing for 0\.1 s while it owed an answer to UID FETCH") as error:
                await fetch(session, [1], sink)
        assert error.value.kind == "timeout"
        assert [writer.discarded for writer in sink.writers] == [True]


async def test_P9_an_impossible_literal_ends_the_connection_before_anything_is_kept():
    honest = inbox()
    answering(honest, b"* 1 FETCH (UID 1 BODY[] {99999999999999999999}\r\n")
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        with pytest.raises(Transient, match=r"broke the IMAP protocol: a literal of 9+ bytes") as error:
            await outcomes_of(server, [1], sink)
    assert error.value.kind == "protocol"
    assert not sink.writers


# --- beginnings ---


def as_usual(number: int, body: bytes) -> bytes:
    return response(number, number, body)


def without_a_size(number: int, body: bytes) -> bytes:
    return b"* %d FETCH (UID %d BODY[] {%d}\r\n" % (number, number, len(body)) + body + b")\r\n"


def with_the_uid_behind(number: int, body: bytes) -> bytes:
    return b"* %d FETCH (BODY[] {%d}\r\n" % (number, len(body)) + body + b" UID %d)\r\n" % number


def as_a_string(number: int, body: bytes) -> bytes:
    return b'* %d FETCH (UID %d BODY[] "%s")\r\n' % (number, number, body)


def as_its_beginning(number: int, body: bytes) -> bytes:
    return without_a_size(number, body).replace(b"BODY[]", b"BODY[]<0>")


def with_another_part(number: int, body: bytes) -> bytes:
    return as_its_beginning(number, body)[:-3] + b" BODY[]<7> {%d}\r\n" % len(body) + body[::-1] + b")\r\n"


@pytest.mark.parametrize(
    "written", [as_usual, without_a_size, with_the_uid_behind, as_a_string, as_its_beginning, with_another_part]
)
@pytest.mark.parametrize("cutter", [whole, at_random(3, longest=9000)])
@pytest.mark.parametrize("length", [2_000, 100_000])
async def test_a_server_that_does_not_know_of_parts_gives_beginnings_all_the_same(written, cutter, length):
    bodies = {number: bytes([64 + number, *range(65, 90)]) * (length // 26) for number in (1, 2, 3)}
    honest = Honest({b"INBOX": Mailbox(bodies)}, cutter=cutter)
    answering(honest, *(written(number, body) for number, body in bodies.items()))
    async with ScriptedServer(honest) as server, server.source().session() as session:
        heads = await session.heads(INBOX, "1", ["1.1", "1.3"], 1000)
        assert heads == {f"1.{number}": bodies[number][:1000] for number in (1, 3)}
        assert session.alive


@pytest.mark.parametrize("times", [1, 2])
async def test_P23_a_body_comes_once_in_place_of_its_beginning(times, monkeypatch):
    monkeypatch.setattr(protocol, "MOST_BESIDE_BODIES", 100_000)
    honest = inbox()
    answering(honest, *(as_usual(uid, bytes(90_000)) for uid in (1, 2, 3)), *[as_usual(1, bytes(90_000))] * 20 * (times - 1))
    async with ScriptedServer(honest) as server, server.source().session() as session:
        asked = session.heads(INBOX, "1", ["1.1", "1.2", "1.3"], 10)
        if times == 1:
            assert await asked == {f"1.{uid}": bytes(10) for uid in (1, 2, 3)}
        else:
            with pytest.raises(Transient, match="it sent more than 100000 bytes"):
                await asked


# --- large ---


class CountingSink:
    """Hashes what comes and keeps nothing."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = hashlib.sha256()

    def open(self, key, size):
        return self

    def write(self, data):
        self.size += len(data)
        self.digest.update(data)
        return True

    def finish(self):
        return self

    def discard(self):
        raise AssertionError


async def test_P38_a_message_of_100_MB_passes_through_in_bounded_memory():
    honest = inbox()
    piece, count = bytes(range(250)) * 400, 1000

    @honest.instead_of("UID FETCH")
    async def large(client: Client, command: Command) -> None:
        await client.send(b"* 1 FETCH (UID 1 RFC822.SIZE %d BODY[] {%d}\r\n" % ((len(piece) * count,) * 2))
        tracemalloc.start()
        for _ in range(count):
            await client.send(piece)
        await client.send(b")\r\n", command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        sink = CountingSink()
        (outcome,) = await fetched(session, INBOX, "1", ["1.1"], sink)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert isinstance(outcome, Fetched)
    assert sink.size == 100_000_000
    assert sink.digest.digest() == hashlib.sha256(piece * count).digest()
    assert peak < 8_000_000


async def test_P38_a_message_above_the_limit_is_skipped_and_the_next_one_fetched():
    honest = Honest({b"INBOX": Mailbox({1: b"x" * 300_000, 2: b"small", 3: b"y" * 101})})
    async with ScriptedServer(honest) as server:
        sink = MemorySink()
        outcomes = await outcomes_of(server, [1, 2, 3], sink, max_message_size=100)
    assert outcomes[1] == Rejected("1.1", "too-large", "too large: 300000 bytes, the limit is 100", skip=True)
    assert body_of(outcomes[2]) == b"small"
    assert isinstance(outcomes[3], Rejected)
    assert [writer.announced for writer in sink.writers] == [5]
