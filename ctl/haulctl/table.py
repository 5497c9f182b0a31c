"""Tables without lines, as wide as they may be: what has no room is cut, and what matters least is left out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import click

GAP = "  "


@dataclass(frozen=True)
class Cell:
    """Text that is fit for a terminal (``words.visible``), and its colour."""

    text: str
    colour: str | None = None


@dataclass(frozen=True)
class Column:
    """``least`` is the width to which it may be cut, None for never. ``spare`` says how soon it is left out where there is
    no room, the highest first; 0 is never. A spare column without any text is left out anyway."""

    title: str
    right: bool = False
    least: int | None = None
    spare: int = 0


def render(columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], width: int | None) -> list[str]:
    """The table's lines, at most ``width`` cells wide as far as the columns allow; None is as wide as it likes."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    natural = [max([len(column.title), *(wide(row[i].text) for row in cells)]) for i, column in enumerate(columns)]
    shown = [i for i, column in enumerate(columns) if not column.spare or any(row[i].text for row in cells)]
    widths = _fit(columns, natural, shown, width)
    header = [Cell(column.title, "bright_black") for column in columns]
    return [_line(columns, row, widths) for row in [header, *cells]]


def wide(text: str) -> int:
    """How many cells of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def cut(text: str, width: int) -> str:
    """The text in at most ``width`` cells, with an ellipsis where something is missing."""
    if wide(text) <= width:
        return text
    kept, room = "", width - 1
    for char in text:
        room -= _cells(char)
        if room < 0:
            break
        kept += char
    return kept + "…"


def paint(text: str, colour: str | None) -> str:
    """The text in that colour; ``click.echo`` takes it away again where colours are not wanted."""
    return click.style(text, fg=colour) if colour else text


def _fit(columns: Sequence[Column], natural: list[int], shown: list[int], width: int | None) -> dict[int, int]:
    """The columns to show and their widths: leave out spare ones until the rest fits when cut, then cut the widest."""
    if width is None:
        return {i: natural[i] for i in shown}

    def excess(widths: dict[int, int]) -> int:
        return sum(widths.values()) + len(GAP) * (len(widths) - 1) - width

    def narrowest(i: int) -> int:
        least = columns[i].least
        return natural[i] if least is None else min(natural[i], max(least, len(columns[i].title)))

    while excess({i: narrowest(i) for i in shown}) > 0:
        spare = max(shown, key=lambda i: columns[i].spare)
        if not columns[spare].spare:
            break
        shown = [i for i in shown if i != spare]
    widths = {i: natural[i] for i in shown}
    while excess(widths) > 0:
        can_yield = [i for i in shown if widths[i] > narrowest(i)]
        if not can_yield:
            break
        widths[max(can_yield, key=lambda i: widths[i])] -= 1
    return widths


def _line(columns: Sequence[Column], row: Sequence[Cell], widths: dict[int, int]) -> str:
    last = max(widths)
    parts = []
    for i, width in widths.items():
        text = cut(row[i].text, width)
        space = " " * (width - wide(text))
        painted = paint(text, row[i].colour)
        if columns[i].right:
            parts.append(space + painted)
        else:
            parts.append(painted + (space if i != last else ""))
    return GAP.join(parts).rstrip()


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
