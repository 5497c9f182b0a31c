"""How long an answer may take: half an hour however little comes of it, and beyond that as long as something does.

The clock of these tests' event loop is moved by hand.
"""

from __future__ import annotations

from contracts.source import MemorySink, MemoryWriter
from hauld.sources.imap.protocol import LONGEST_ANSWER, SLOWEST
from support.patient_imap import TIMEOUT, Line, patiently

ITEM = b"* 1 FETCH (UID 1 BODY[] {%d}\r\n"


@patiently
async def test_N5_one_byte_a_second_for_ever_comes_to_an_end(line: Line) -> None:
    line.connection.begin("UID FETCH", b"1 (BODY.PEEK[])")
    line.say(ITEM % 1_000_000)
    passed = await line.seconds(10_000, saying=b"x")
    assert LONGEST_ANSWER < passed < LONGEST_ANSWER * 1.02
    assert line.wire.aborted
    assert line.connection.failure is not None
    assert line.connection.failure.kind == "timeout"
    assert line.connection.failure.message == "here has been answering UID FETCH for 30 min at 1 bytes/s, without an end."


@patiently
async def test_N5_a_large_body_that_comes_slowly_may_take_hours(line: Line) -> None:
    piece = b"x" * (20 * SLOWEST)
    size = 1000 * len(piece)
    answer = line.connection.begin("UID FETCH", b"1 (BODY.PEEK[])")
    line.connection.expect_body(size)
    line.say(ITEM % size)
    assert await line.seconds(10_000, every=10, saying=piece) == 10_000
    line.say(b")\r\n" + next(iter(line.connection._pending)) + b" OK done\r\n")
    assert line.connection.failure is None
    assert (await answer) is not None


@patiently
async def test_P23_little_lines_without_an_end_come_to_an_end(line: Line) -> None:
    line.connection.begin("UID SEARCH", b"ALL")
    passed = await line.seconds(10_000, every=10, saying=b"* OK Still here\r\n")
    assert LONGEST_ANSWER < passed < LONGEST_ANSWER * 1.05
    assert line.connection.failure is not None
    assert "has been answering UID SEARCH for 31 min at 2 bytes/s" in line.connection.failure.message


@patiently
async def test_a_long_search_of_which_the_server_says_that_it_goes_on_is_waited_for(line: Line) -> None:
    line.connection.begin("UID SEARCH", b"ALL")
    await line.seconds(LONGEST_ANSWER - 10, every=10, saying=b"* OK Searched 37% of the mailbox\r\n")
    assert line.connection.failure is None


@patiently
async def test_answers_that_come_to_an_end_have_half_an_hour_each(line: Line) -> None:
    for _ in range(4):
        line.connection.begin("UID FETCH", b"1 (BODY.PEEK[])")
    for tag in list(line.connection._pending):
        await line.seconds(LONGEST_ANSWER - 100, every=10, saying=b"* 1 EXISTS\r\n")
        line.say(tag + b" OK done\r\n")
    assert line.connection.failure is None
    assert line.connection.at_rest


@patiently
async def test_a_connection_at_rest_may_stay_for_hours_and_begins_afresh(line: Line) -> None:
    await line.seconds(20_000, every=1000)
    line.connection.begin("NOOP", b"")
    await line.seconds(TIMEOUT - 1)
    assert line.connection.failure is None
    await line.seconds(2)
    assert line.connection.failure is not None
    assert "sent nothing for 60 s while it owed an answer to NOOP" in line.connection.failure.message


@patiently
async def test_N5_our_own_pause_is_not_the_servers_slowness(line: Line) -> None:
    line.connection.begin("UID FETCH", b"1 (BODY.PEEK[])")
    await line.seconds(1000, every=10, saying=b"* 1 EXISTS\r\n")
    writer = MemoryWriter(MemorySink(stuck=True), "1.1", 5)
    line.connection.pause_until_ready(writer)
    assert line.wire.paused
    await line.seconds(50_000, every=1000)
    line.connection.release(writer)
    await line.seconds(500, every=10, saying=b"* 1 EXISTS\r\n")
    assert line.connection.failure is None
    passed = await line.seconds(1000, every=10, saying=b"* 1 EXISTS\r\n")
    assert passed < 400
    assert line.connection.failure is not None
    assert "for 30 min" in line.connection.failure.message
