"""One JSON value a line: how requests and replies become bytes, and what a line may be.

A line is distrusted until it has been through ``decode``: whatever is not one strict JSON value in UTF-8 is a ``FrameError``,
before anything is made of it. What the value means is told in ``envelope``.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import msgspec

MAX_LINE = 1 << 20
"""Bytes of one line, its end included; the same for requests and replies."""

MAX_BATCH = 100
"""Requests in one batch."""


MAX_VALUES = 20_000
"""Values in one line of a request, about: its commas, colons and opening brackets. Reading more would keep others waiting."""

PIECE = 1 << 16
"""Bytes of a line in which values are counted at once."""

LONGEST_NUMBER = 400
"""Digits of a whole number: the time to read one grows with their square."""

_SEPARATORS = (b",", b":", b"[", b"{")
_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


class FrameError(Exception):
    """A line that is not one; the text is a sentence for the other side."""


class LineTooLong(FrameError):
    """A line of more than ``MAX_LINE`` bytes: where the next one starts cannot be known soon, so the connection ends."""


def encode(message: Any) -> bytes:
    """The message as one line. Raises ``LineTooLong`` for what the other side would refuse."""
    line = msgspec.json.encode(message) + b"\n"
    if len(line) > MAX_LINE:
        raise LineTooLong(f"The message has {len(line):,} bytes; a line may have {MAX_LINE:,}.")
    return line


def decode(line: bytes) -> Any:
    """The one JSON value of a line: UTF-8, no NaN or Infinity, no key twice in an object, no half surrogate pairs, not
    nested deeper than the parser's own stack. Raises ``FrameError``."""
    if len(line) > MAX_LINE:
        raise LineTooLong(f"The line has more than {MAX_LINE:,} bytes.")
    if not line.strip():
        raise FrameError("The line is empty.")
    _check_values(line)
    try:
        value = json.loads(line.decode(), object_pairs_hook=_members, **_NUMBERS)
        if _HALF_A_PAIR.search(line):
            msgspec.json.encode(value)  # which half a pair cannot be
    except RecursionError:
        raise FrameError("The line is not acceptable JSON: it is nested too deep.") from None
    except UnicodeDecodeError as error:
        raise FrameError(f"The line is not UTF-8 (byte {error.start}).") from None
    except (ValueError, OverflowError) as error:
        raise FrameError(f"The line is not acceptable JSON: {error}.") from None
    return value


class Lines:
    """Cuts a stream of bytes into lines, and holds no more of it than one line."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._tail = bytearray()

    @property
    def begun(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._tail)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends. Raises ``LineTooLong``, after which the stream is lost."""
        *ended, rest = data.split(b"\n")
        lines = []
        for part in ended:
            lines.append(bytes(self._tail) + part)
            self._tail.clear()
        self._tail += rest
        if len(self._tail) >= self._limit or any(len(line) >= self._limit for line in lines):
            raise LineTooLong(f"A line may have {self._limit:,} bytes, its end included; this one has more.")
        return lines


def _check_values(line: bytes) -> None:
    """Raise where the line holds too many values, as soon as that is known."""
    values = 0
    for start in range(0, len(line), PIECE):
        values += sum(line.count(separator, start, start + PIECE) for separator in _SEPARATORS)
        if values > MAX_VALUES:
            raise FrameError(f"The line holds more than {MAX_VALUES:,} values.")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return members


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number has more than {LONGEST_NUMBER} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is beyond all bounds")
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


_NUMBERS: dict[str, Any] = {"parse_int": _whole, "parse_float": _finite, "parse_constant": _no_number}
