"""The response parser on anything at all: the same events for every cutting, and no error but the documented one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hauld.sources.imap.grammar import BodyChunk, Data, Event, Limits, Parser, ProtocolError, WholeBody

TRANSCRIPTS = Path(__file__).parents[3] / "shared" / "corpus" / "transcripts"

SMALL = Limits(line=300, depth=5, tokens=60, collected=100)


def events(pieces: list[bytes], limits: Limits = SMALL) -> tuple[list, bool]:
    """All events and whether it ended in an error, with what depends on the cutting put together: chunks of one body, and
    search results that follow each other."""
    parser = Parser(limits)
    found: list = []
    try:
        for piece in pieces:
            for event in expanded(parser.feed(piece)):
                last = found[-1] if found else None
                if isinstance(event, BodyChunk) and isinstance(last, bytearray):
                    last += event.data
                elif isinstance(event, BodyChunk):
                    found.append(bytearray(event.data))
                elif isinstance(event, Data) and event.name == "SEARCH" and isinstance(last, Data) and last.name == "SEARCH":
                    found[-1] = last._replace(values=[*last.values, *event.values])
                else:
                    found.append(event)
    except ProtocolError:
        return found, True
    return found, False


def expanded(events: Iterable[Event]) -> Iterator[Event]:
    """With what a whole body stands for."""
    for event in events:
        yield from event.parts() if isinstance(event, WholeBody) else (event,)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def the_same_however_cut(data: bytes, places: list[int]) -> None:
    whole, broken = events([data])
    pieces, broken_too = events(cut(data, places))
    assert broken == broken_too
    if broken or not data.endswith(b"\n"):  # of a line that does not end, search results may have been handed on
        whole, pieces = without_results(whole), without_results(pieces)
    assert pieces == whole


def without_results(found: list) -> list:
    return [event for event in found if type(event) is not Data or event.name != "SEARCH"]


words = st.sampled_from(
    [
        *(b"* ", b"+ ", b"A1 OK", b"1 ", b"7 ", b"abc", b" ", b"(", b")", b"[", b"]", b'"', b"\\", b"\x00", b"\xff"),
        *(b"FETCH ", b"UID ", b"BODY[] ", b"BODY[HEADER", b"FLAGS ", b"SEARCH ", b"LIST ", b"NIL ", b"RFC822.SIZE 3"),
        *(b"{3}\r\n", b"{0}\r\n", b"~{12}\r\n", b"{200}\r\n", b"{-1}\r\n", b"\r\n", b"\n", b"\r"),
        *(b"* OK [UIDNEXT 4] x\r\n", b"* 1 FETCH (UID 1 BODY[] {4}\r\nab\r\n)\r\n"),
        *(b"* SEARCH 1 22 333\r\n", b"* SEARCH " + b"123 " * 100),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(words, max_size=40).map(b"".join), st.lists(st.integers(0, 10_000), max_size=12))
def test_events_do_not_depend_on_how_the_bytes_are_cut(data, places):
    the_same_however_cut(data, places)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_give_events_or_the_documented_error(data, places):
    the_same_however_cut(b"* 1 FETCH (UID 5 " + data, places)
    the_same_however_cut(data, places)


HONEST = (
    b"* OK [CAPABILITY IMAP4rev1] ready\r\n"
    b'* LIST (\\Sent) "/" {4}\r\nS\r\nt\r\n'
    b"* 3 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* SEARCH 1 2 3\r\n"
    b'* 1 FETCH (UID 1 FLAGS (\\Seen) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 10)\r\n'
    b"* 1 FETCH (UID 1 RFC822.SIZE 10 BODY[] {10}\r\n0123456789)\r\nA1 OK done\r\n"
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(HONEST) - 1), st.integers(0, 255)), max_size=4),
    st.lists(st.integers(0, len(HONEST)), max_size=6),
)
def test_flipped_bytes_give_events_or_the_documented_error(flips, places):
    mutated = bytearray(HONEST)
    for position, byte in flips:
        mutated[position] = byte
    the_same_however_cut(bytes(mutated), places)


@pytest.mark.skipif(not TRANSCRIPTS.is_dir(), reason="the collection of recorded server answers is not on this machine")
def test_recorded_answers_of_real_servers_are_understood_however_they_are_cut():
    recordings = sorted(TRANSCRIPTS.glob("*/*.txt"))
    assert recordings
    for recording in recordings:
        data = recording.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"A########", b"A00000001")
        whole, broken = events([data], Limits())
        assert whole, recording
        assert not broken, recording
        assert events([data[n : n + 1] for n in range(len(data))], Limits()) == (whole, False), recording
        dice = random.Random(recording.name)
        for _ in range(5):
            pieces = cut(data, [dice.randrange(len(data)) for _ in range(dice.randint(1, 30))])
            assert events(pieces, Limits()) == (whole, False), recording
