"""Lines: what is one, what is not, and where a stream is cut."""

from __future__ import annotations

import pytest

from haulapi.frames import MAX_LINE, FrameError, Lines, LineTooLong, decode, encode


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"  \r", id="blank"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"{} {}", id="two values"),
        pytest.param(b"{'a': 1}", id="not JSON's quotes"),
        pytest.param(b"[1,]", id="trailing comma"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": -Infinity}', id="Infinity"),
        pytest.param(b'{"a": 1e999}', id="a number beyond all bounds"),
        pytest.param(b'{"a": 1, "a": 2}', id="the same key twice"),
        pytest.param(b'{"b": [{"a": 1, "a": 1}]}', id="the same key twice, deep inside"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', id="the same key twice, once escaped"),
        pytest.param(b'{"a": "\xff"}', id="no UTF-8"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', id="a surrogate in UTF-8"),
        pytest.param(b'{"a": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"a": "\\udc00 x"}', id="the other half"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a": "\x1b"}', id="a control character"),
    ],
)
def test_C1_what_is_not_one_strict_json_value_is_refused_in_a_sentence(line: bytes) -> None:
    with pytest.raises(FrameError) as refused:
        decode(line)
    assert str(refused.value).endswith(".")
    assert "Traceback" not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"[" * 100_000, id="arrays"),
        pytest.param(b'{"a":' * 100_000, id="objects"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="arrays that end"),
        pytest.param(b"1" * 1_000_000, id="a million digits"),
        pytest.param(b"-" + b"9" * 5_000, id="more digits than an integer has"),
    ],
)
def test_C4_depth_and_digits_without_end_are_refused(line: bytes) -> None:
    with pytest.raises(FrameError):
        decode(line)


def test_a_value_survives_its_way_over_the_line() -> None:
    value = {"name": "Entwürfe/日本語 \u202e\x1b", "size": 2**63 - 1, "flags": ["\\Seen"], "nothing": None}
    line = encode(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == value


def test_C3_a_line_longer_than_a_mebibyte_is_neither_sent_nor_read() -> None:
    with pytest.raises(LineTooLong):
        encode("x" * MAX_LINE)
    with pytest.raises(LineTooLong):
        decode(b'"' + b"x" * MAX_LINE + b'"')
    assert decode(encode("x" * (MAX_LINE - 3))) == "x" * (MAX_LINE - 3)


def test_a_stream_is_cut_at_line_ends_however_it_arrives() -> None:
    stream = b'{"a": 1}\n\n{"b": 2}\n{"c"'
    whole, bytewise = Lines(), Lines()
    expected = [b'{"a": 1}', b"", b'{"b": 2}']
    assert whole.feed(stream) == expected
    assert [line for i in range(len(stream)) for line in bytewise.feed(stream[i : i + 1])] == expected
    assert whole.begun
    assert bytewise.begun
    assert whole.feed(b": 3}\n") == [b'{"c": 3}']
    assert not whole.begun


def test_C3_a_line_without_end_is_given_up_at_the_limit() -> None:
    lines = Lines(limit=10)
    assert lines.feed(b"123456789\n") == [b"123456789"]
    assert lines.feed(b"12345678") == []
    with pytest.raises(LineTooLong):
        lines.feed(b"90")


def test_C3_a_line_that_ends_beyond_the_limit_is_too_long_as_well() -> None:
    with pytest.raises(LineTooLong):
        Lines(limit=10).feed(b"1234567890\n")
