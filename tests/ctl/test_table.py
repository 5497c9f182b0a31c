"""Tables: what is cut, what is left out, and how wide things are."""

from __future__ import annotations

from haulctl.table import Cell, Column, cut, render, wide

COLUMNS = (Column("NAME", least=6), Column("N", right=True), Column("NOTE", spare=1), Column("MORE", spare=2))
ROWS = [("inbox", "1", "first", ""), ("archive-of-years", "1,000", "", "")]


def test_with_room_everything_is_there_and_numbers_stand_right() -> None:
    assert render(COLUMNS, ROWS, None)[1:] == [
        "inbox                 1  first",
        "archive-of-years  1,000",
    ]


def test_a_spare_column_that_says_nothing_is_left_out() -> None:
    assert "MORE" not in render(COLUMNS, ROWS, None)[0]
    assert "MORE" in render(COLUMNS, [("a", "1", "", "x")], None)[0]


def test_names_are_cut_before_anything_is_left_out() -> None:
    lines = render(COLUMNS, ROWS, 24)
    assert lines[2] == "archive-o…  1,000"
    assert "NOTE" in lines[0]


def test_what_matters_least_is_left_out_first() -> None:
    rows = [("inbox", "1", "first", "second")]
    assert "MORE" not in render(COLUMNS, rows, 20)[0]
    assert "NOTE" in render(COLUMNS, rows, 20)[0]
    assert "NOTE" not in render(COLUMNS, rows, 10)[0]


def test_a_table_that_cannot_be_narrower_is_as_wide_as_it_must() -> None:
    assert render(COLUMNS, ROWS, 3)[2] == "archi…  1,000"


def test_a_wide_script_takes_two_cells_a_sign_and_is_aligned() -> None:
    assert wide("日本") == 4
    assert wide("e\u0301") == 1
    first, second = render((Column("A"), Column("B")), [("日本", "x"), ("abcd", "y")], None)[1:]
    assert wide(first) == wide(second)
    assert cut("日本語", 5) == "日本…"
    assert cut("日本語", 4) == "日…"


def test_colour_takes_no_room() -> None:
    plain = render((Column("A"), Column("B")), [("x", "y")], None)
    painted = render((Column("A"), Column("B")), [(Cell("x", "red"), "y")], None)
    assert painted[1] == "\x1b[31mx\x1b[0m  y"
    assert plain[1] == "x  y"
