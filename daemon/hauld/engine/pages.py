"""How much of a list goes into one reply: so many elements, and no more than a line of the control socket holds."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

import msgspec

from haulapi.frames import MAX_LINE
from hauld.errors import Refused

LARGEST_PAGE = 1000

ROOM = MAX_LINE - (1 << 14)
"""Bytes for the elements of a page; the rest of the line is for what stands around them."""

T = TypeVar("T")


def page_size(limit: int) -> int:
    """How many elements a page has for whom asks for ``limit``. Raises ``Refused`` for less than one."""
    if limit < 1:
        raise Refused(
            "invalid_params", f"A page of {limit} is not possible.", hint=f"Ask for a limit from 1 to {LARGEST_PAGE:,}."
        )
    return min(limit, LARGEST_PAGE)


def page(values: Iterable[T], limit: int) -> tuple[list[T], bool]:
    """The first of the values, at most ``limit`` of them and as many as ``ROOM`` holds, but at least one; and whether there
    are more."""
    fitting: list[T] = []
    room = ROOM
    for value in islice(values, limit + 1):
        room -= len(msgspec.json.encode(value)) + 1
        if len(fitting) == limit or (fitting and room < 0):
            return fitting, True
        fitting.append(value)
    return fitting, False


def whole_number(text: str) -> int:
    """The number that an ``after`` stands for. Raises ``Refused`` for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused("invalid_params", f"{text!r} is not where a page ended.", hint="Pass the `next` of the page before.")
    return int(text)
