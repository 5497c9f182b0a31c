"""A short run of each fuzzer, of another seed every time, which a failure tells; the long ones are the fuzzers' own."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import crowd, door, parser
from fuzz.mutation import Figures, a_seed, dice_of, mutated, run

GENEROUS = 1.0
"""Seconds; a machine that runs all tests at once is slow, and a door that takes no turns takes seconds."""


def told(figures: Figures) -> str:
    return "\n".join([str(figures), *figures.findings[:10]])


def test_P28_no_answer_of_a_server_brings_more_than_the_documented_errors() -> None:
    figures = parser.fuzz(10_000, a_seed())
    assert not figures.findings, told(figures)
    assert 0.1 * figures.inputs < figures.refused < 0.9 * figures.inputs


def test_C1_C2_no_frame_brings_more_than_the_documented_errors() -> None:
    figures = door.fuzz(3_000, a_seed())
    assert not figures.findings, told(figures)
    assert 0.1 * figures.inputs < figures.refused < 0.98 * figures.inputs


def test_an_honest_client_hardly_notices_a_crowd_of_bad_ones() -> None:
    figures = crowd.siege(1_000, 16, a_seed())
    assert figures.p99 < GENEROUS, figures


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*parser.WORDS, *parser.SCRIPTED]), max_size=12).map(b"".join), st.integers(0, 2**32))
def test_any_sequence_of_events_is_taken_by_all_that_listen(data: bytes, seed: int) -> None:
    parser.take(random.Random(seed), data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**32))
def test_any_bytes_inside_a_body_are_taken_by_all_that_listen(data: bytes, seed: int) -> None:
    parser.take(random.Random(seed), b"* 1 FETCH (UID 1 BODY[] {100}\r\n" + data)


# --- the fuzzers themselves ---


def test_an_input_is_made_again_from_its_seed_and_number() -> None:
    made = [mutated(dice_of("seed", number), parser.SCRIPTED[4], parser.WORDS, parser.SCRIPTED) for number in (7, 8, 7)]
    assert made[0] == made[2] != made[1]


def test_an_error_that_nobody_documented_is_a_finding_with_its_number() -> None:
    def fails(dice: random.Random) -> bool:
        if dice.random() < 0.5:
            raise KeyError("odd")
        return True

    figures = run(100, "seed", fails)
    again = run(1, "seed", fails, first=int(figures.findings[0].split()[1].rstrip(":")))
    assert again.findings == figures.findings[:1]
    assert figures.refused + len(figures.findings) == 100


@pytest.mark.parametrize(
    "answer",
    [
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "x", "data": {"kind": "internal"}}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "x", "data": {"kind": "parse_error"}}},
        {"jsonrpc": "2.0", "id": 1, "result": 1, "error": {}},
        {"jsonrpc": "1.0", "id": 1, "result": 1},
    ],
    ids=["internal error", "code of another kind", "result and error", "another version"],
)
def test_an_answer_that_is_not_documented_is_a_finding(answer: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        door.check_answer(answer)
