"""Values in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from haulctl import words

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, ""),
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (1_234_567_890, "1.2 GB"),
        (999_940, "999.9 kB"),
        (999_960, "1.0 MB"),
        (5_000_000_000_000, "5.0 TB"),
        (2_000_000_000_000_000_000, "2,000.0 PB"),
    ],
)
def test_a_size_has_the_unit_that_makes_it_short(number: int | None, text: str) -> None:
    assert words.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (11_520, "3 h 12 min"),
        (90_000, "1 day"),
    ],
)
def test_a_duration_has_the_units_that_matter(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, ""),
        ("2026-01-31T12:00:00Z", "now"),
        ("2026-01-31T12:00:05.000Z", "now"),
        ("2026-01-31T11:59:57Z", "3 s ago"),
        ("2026-01-31T08:48:00Z", "3 h ago"),
        ("2026-01-29T12:00:00Z", "2 days ago"),
        ("2025-06-01T12:00:00Z", "2025-06-01"),
    ],
)
def test_a_moment_is_told_by_how_long_ago_it_was(moment: str | None, text: str) -> None:
    assert words.ago(moment, NOON) == text


def test_a_moment_to_come_is_told_by_how_long_it_takes() -> None:
    assert words.until("2026-01-31T12:02:00Z", NOON) == "in 2 min"
    assert words.until("2026-01-31T11:00:00Z", NOON) == "now"


def test_a_percentage_is_not_rounded_up_to_what_is_not_true_yet() -> None:
    assert words.percent(99.99) == "99 %"
    assert words.percent(100.0) == "100 %"


def test_one_thing_is_not_several() -> None:
    assert words.counted(1, "item") == "1 item"
    assert words.counted(20_000, "item") == "20,000 items"
    assert words.counted(2, "copy", "copies") == "2 copies"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("Entwürfe/日本語 👍", "Entwürfe/日本語 👍", id="what is harmless stays"),
        pytest.param("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m", id="colours"),
        pytest.param("\x1b]0;title\x07", "\\x1b]0;title\\x07", id="a window's title"),
        pytest.param("\x9b31m", "\\x9b31m", id="the one-byte escape"),
        pytest.param("a\nb\r\tc", "a\\nb\\r\\tc", id="line ends"),
        pytest.param("\u202egpj.exe", "\\u202egpj.exe", id="turned direction"),
        pytest.param("in\u200bbox", "in\\u200bbox", id="no width"),
        pytest.param("a\u2028b", "a\\u2028b", id="a line separator"),
        pytest.param("\x00\x7f", "\\x00\\x7f", id="NUL and DEL"),
        pytest.param("\U000e0041", "\\U000e0041", id="an invisible tag"),
        pytest.param("\udcff", "\\udcff", id="a byte that was no text"),
    ],
)
def test_C12_nothing_that_a_terminal_would_act_on_comes_through(text: str, shown: str) -> None:
    assert words.visible(text) == shown
