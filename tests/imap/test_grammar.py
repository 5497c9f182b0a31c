"""The response parser: what it makes of lines, lists and literals, and where it stops."""

from __future__ import annotations

import contextlib

import pytest

from hauld.sources.imap.grammar import (
    BODY,
    BodyChunk,
    BodyEnd,
    BodyStart,
    Continuation,
    Data,
    Limits,
    Parser,
    ProtocolError,
    Status,
    number,
    pairs,
)

DEFAULT = Limits()


def parse(data: bytes, limits: Limits = DEFAULT) -> list:
    """All events, bodies as bytes."""
    return [
        BodyChunk(bytes(event.data)) if isinstance(event, BodyChunk) else event  # type: ignore[arg-type]
        for event in Parser(limits).feed(data)
    ]


def one(data: bytes):
    (event,) = parse(data)
    return event


# --- status responses ---


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"A1 OK done", Status(b"A1", "OK", text="done")),
        (b"* OK [UIDVALIDITY 3857529045] UIDs valid", Status(b"*", "OK", "UIDVALIDITY", b"3857529045", "UIDs valid")),
        (
            rb"* OK [PERMANENTFLAGS (\Deleted \*)] Limited",
            Status(b"*", "OK", "PERMANENTFLAGS", rb"(\Deleted \*)", "Limited"),
        ),
        (b"* BYE going down", Status(b"*", "BYE", text="going down")),
        (b"* PREAUTH hello", Status(b"*", "PREAUTH", text="hello")),
        (b"A1 BAD [", Status(b"A1", "BAD", text="[")),
        (b"* NO it said {5}", Status(b"*", "NO", text="it said {5}")),
        ("* NO Größe".encode(), Status(b"*", "NO", text="Größe")),
    ],
)
def test_a_status_response_has_a_condition_a_code_and_words(line, status):
    assert one(line + b"\r\n") == status


@pytest.mark.parametrize("line", [b"A1 OK", b"A1 ok", b"A1 OK ", b"A1 OK   "])
def test_P28_the_words_of_a_status_may_be_missing_and_its_keyword_in_lower_case(line):
    assert one(line + b"\r\n") == Status(b"A1", "OK")


def test_P28_a_line_may_end_in_a_bare_LF_and_in_blanks():
    assert parse(b"* 3 EXISTS  \n* SEARCH 1 2 \nA1 OK\n") == [
        Data("EXISTS", 3, []),
        Data("SEARCH", None, [b"1", b"2"]),
        Status(b"A1", "OK"),
    ]


def test_P28_a_parenthesis_too_many_or_too_few_does_not_spoil_what_is_there():
    assert one(b"* 1 FETCH (UID 7))\r\n") == Data("FETCH", 1, [[b"UID", b"7"]])
    assert one(b"* 1 FETCH (UID 7\r\n") == Data("FETCH", 1, [[b"UID", b"7"]])
    assert one(b"* STATUS box ()\r\n") == Data("STATUS", None, [b"box", []])


def test_P28_a_response_code_on_a_line_of_its_own_is_passed_over():
    assert parse(b"[COPYUID 1 2 3]\r\n\r\nA1 OK\r\n") == [Status(b"A1", "OK")]


def test_a_continuation_has_words():
    assert parse(b"+ go on\r\n+\r\n") == [Continuation(b"go on"), Continuation(b"")]


@pytest.mark.parametrize("line", [b"garbage", b"A1 PERHAPS", b"* ", b"* ("])
def test_a_line_without_sense_is_an_error(line):
    with pytest.raises(ProtocolError, match="makes no sense"):
        parse(line + b"\r\n")


# --- values ---


def test_lists_strings_NIL_and_atoms_are_told_apart():
    assert one(rb'* LIST (\Noselect (a "b)") NIL) "\\" "a \"quoted\" name"' + b"\r\n") == Data(
        "LIST", None, [[rb"\Noselect", [b"a", b"b)"], None], b"\\", b'a "quoted" name']
    )
    assert one(b'* LIST () nil "NIL"\r\n') == Data("LIST", None, [[], None, b"NIL"])


def test_brackets_of_a_section_belong_to_its_name_and_others_to_atoms():
    line = b'* 1 FETCH (BODY[HEADER.FIELDS (DATE FROM)]<0> "x" FLAGS ([Gmail]/a[b UID))\r\n'
    assert one(line) == Data("FETCH", 1, [[b"BODY[HEADER.FIELDS (DATE FROM)]<0>", b"x", b"FLAGS", [b"[Gmail]/a[b", b"UID"]]])


def test_a_quoted_string_that_never_closes_runs_to_the_end_of_its_line():
    assert parse(b'* LIST () "/" "unclosed\r\nA1 OK\r\n') == [
        Data("LIST", None, [[], b"/", b"unclosed"]),
        Status(b"A1", "OK"),
    ]


def test_P33_a_literal_may_stand_for_any_string():
    assert one(b'* LIST () "/" {9}\r\na\r\n"b (c)\r\n') == Data("LIST", None, [[], b"/", b'a\r\n"b (c)'])
    assert one(b"* X {0}\r\n {2}\r\nab c\r\n") == Data("X", None, [b"", b"ab", b"c"])


def test_an_atom_that_looks_like_a_literal_in_the_middle_of_a_line_is_none():
    assert one(b"* X {3} a{4}\r\n") == Data("X", None, [b"{3}", b"a{4}"])


def test_P10_numbers_are_64_bit_and_what_is_none_is_None():
    assert number(b"4294967295") == 2**32 - 1
    assert number(b"9223372036854775807") == 2**63 - 1
    for none in (b"9223372036854775808", b"-1", b"", b"1_0", b"9" * 5000, "²".encode("latin-1"), None, [b"1"]):
        assert number(none) is None


def test_pairs_are_by_upper_case_name_and_the_first_counts():
    assert pairs([b"uid", b"1", b"UID", b"2", [b"odd"], b"3", b"left over"]) == {b"UID": b"1"}


def test_P44_search_results_may_be_none_and_may_carry_a_mod_sequence():
    assert one(b"* SEARCH\r\n") == Data("SEARCH", None, [])
    assert one(b"* search 2 (MODSEQ 917)\r\n") == Data("SEARCH", None, [b"2", b"(MODSEQ", b"917)"])


def test_P44_two_million_search_results_in_one_line_are_no_line_too_long():
    line = b"* SEARCH " + b" ".join(b"%d" % uid for uid in range(1, 2_000_001)) + b"\r\n"
    parser = Parser()
    found = [
        int(result)
        for start in range(0, len(line), 65536)
        for event in parser.feed(line[start : start + 65536])
        for result in event.values
    ]
    assert found == list(range(1, 2_000_001))


# --- bodies ---


def test_a_body_is_handed_on_as_it_comes_and_the_whole_response_follows():
    parser = Parser()
    assert list(parser.feed(b"* 12 FETCH (UID 7 BODY[] {5}\r\nab")) == [BodyStart(12, [b"UID", b"7"], 5), BodyChunk(b"ab")]
    assert list(parser.feed(b"cd")) == [BodyChunk(b"cd")]
    assert list(parser.feed(b"e")) == [BodyChunk(b"e"), BodyEnd()]
    assert list(parser.feed(b" RFC822.SIZE 5)\r\n")) == [
        Data("FETCH", 12, [[b"UID", b"7", b"BODY[]", BODY, b"RFC822.SIZE", b"5"]])
    ]


def test_an_empty_body_begins_and_ends():
    assert parse(b"* 1 FETCH (BODY[] {0}\r\n)\r\n") == [
        BodyStart(1, [], 0),
        BodyEnd(),
        Data("FETCH", 1, [[b"BODY[]", BODY]]),
    ]


def test_a_body_is_not_copied():
    data = b"* 1 FETCH (BODY[] {100000}\r\n" + b"x" * 100_000
    _, chunk, *_ = Parser().feed(data)
    assert chunk.data.obj is data


def test_P37_a_body_may_hold_anything():
    body = b"\x00\r\n\n\r* 1 FETCH (BODY[] {3}\r\n)\r\nA1 OK\r\n\xff"
    _, chunk, *_ = parse(b"* 1 FETCH (body[] {%d}\r\n" % len(body) + body + b")\r\n")
    assert chunk.data == body


def test_only_the_whole_body_of_a_FETCH_is_streamed():
    assert one(b"* 1 FETCH (BODY[HEADER] {1}\r\nx)\r\n") == Data("FETCH", 1, [[b"BODY[HEADER]", b"x"]])
    assert one(b"* 1 FETCH (FLAGS (BODY[] {1}\r\nx))\r\n") == Data("FETCH", 1, [[b"FLAGS", [b"BODY[]", b"x"]]])
    assert one(b"* 1 OTHER (BODY[] {1}\r\nx)\r\n") == Data("OTHER", 1, [[b"BODY[]", b"x"]])


@pytest.mark.parametrize("literal", [b"{3}", b"{3+}", b"~{3}", b"~{3+}"])
def test_P9_literal8_and_non_synchronising_literals_are_literals(literal):
    assert parse(b"* 1 FETCH (BODY[] " + literal + b"\r\n\x00ab)\r\n")[1] == BodyChunk(b"\x00ab")


@pytest.mark.parametrize("size", [b"4294967296", b"9223372036854775808", b"-1", b"99999999999999999999", b"1" * 100_000])
@pytest.mark.parametrize("where", [b"* 1 FETCH (UID 1 BODY[] ", b"* LIST () NIL "])
def test_P9_a_literal_of_impossible_size_is_refused_before_anything_is_kept(size, where):
    with pytest.raises(ProtocolError, match="literal of") as refused:
        parse(where + b"{" + size + b"}\r\n")
    assert len(str(refused.value)) < 100


# --- limits ---


def test_P24_a_line_without_end_is_refused_at_the_limit():
    parser = Parser(Limits(line=1000))
    assert list(parser.feed(b"* X " + b"a" * 996)) == []
    with pytest.raises(ProtocolError, match="longer than 1000 bytes"):
        list(parser.feed(b"aa"))
    with pytest.raises(ProtocolError, match="longer than 1000 bytes"):
        parse(b"* X " + b"a" * 1000 + b"\r\n", Limits(line=1000))
    with pytest.raises(ProtocolError, match="longer than 1000 bytes"):
        parse(b"* X {1}\r\n" + b"a" * 1002 + b"\r\n", Limits(line=1000))


def test_P24_a_line_as_long_as_the_limit_is_none_too_long_wherever_it_is_cut():
    line = b"* X " + b"a" * 996 + b"\r\n"
    for place in range(len(line)):
        parser = Parser(Limits(line=1000))
        assert [*parser.feed(line[:place]), *parser.feed(line[place:])] == [Data("X", None, [b"a" * 996])]


def test_P24_a_search_result_without_end_is_refused_too():
    parser = Parser(Limits(line=1000))
    with pytest.raises(ProtocolError, match="longer than 1000 bytes"):
        list(parser.feed(b"* SEARCH " + b"1" * 2000))
    with pytest.raises(ProtocolError, match="no number"):
        parse(b"* SEARCH " + b"1" * 2000 + b"\r\n", Limits(line=1000))


def test_P25_lists_in_lists_are_refused_beyond_a_depth():
    assert parse(b"* X " + b"(" * 64 + b")" * 64 + b"\r\n")
    with pytest.raises(ProtocolError, match="64 deep"):
        parse(b"* X " + b"(" * 90_000 + b"\r\n")
    with pytest.raises(ProtocolError):
        parse(b"* X " + b"(" * 100_000 + b"\r\n")


def test_P25_a_response_of_very_many_values_is_refused():
    ten_thousand_parts = b"* 1 FETCH (BODYSTRUCTURE (" + b'("TEXT" "PLAIN" NIL NIL)' * 10_000 + b"))\r\n"
    assert len(one(ten_thousand_parts).values[0][1]) == 10_000
    with pytest.raises(ProtocolError, match="more than 100 values"):
        parse(b"* X " + b"a " * 101 + b"\r\n", Limits(tokens=100))
    with pytest.raises(ProtocolError, match="more than 100 values"):
        parse(b"* X {0}\r\n" + b" {0}\r\n" * 100, Limits(tokens=100))


def test_literals_that_are_no_bodies_are_refused_beyond_a_limit_all_together():
    with pytest.raises(ProtocolError, match="more than 10 bytes of literals"):
        parse(b"* LIST () NIL {6}\r\nabcdef {5}\r\n", Limits(collected=10))


def test_twenty_thousand_short_lines_in_one_read_are_one_loop():
    assert len(parse(b"".join(b"* %d EXISTS\r\n" % n for n in range(20_000)))) == 20_000


@pytest.mark.parametrize(
    "line",
    [
        b"* X " + b'"' + b"\\a" * 400_000,
        b"* X " + b"BODY[" * 150_000,
        b"* X " + b"BODY[ " * 150_000,
        b"* X " + b" {1" * 150_000 + b"}",
        b"* OK [" + b"[" * 900_000,
        b"* " + b"9" * 900_000,
    ],
    ids=["escapes", "sections", "sections apart", "literals", "codes", "digits"],
)
def test_no_line_makes_the_parser_slow(line):
    """Were any pattern quadratic, this would take hours."""
    with contextlib.suppress(ProtocolError):
        parse(line + b"\r\n", Limits(tokens=2_000_000))
