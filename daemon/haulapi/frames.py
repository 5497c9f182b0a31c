"""One JSON value a line: how requests and replies become bytes, and what a line may be.

A line is distrusted until it has been through ``decode``: whatever is not one strict JSON value in UTF-8 is a ``FrameError``,
before anything is made of it. What the value means is told in ``envelope``.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

MAX_LINE = 1 << 20
"""Bytes of one line, its end included; the same for requests and replies."""

MAX_BATCH = 100
"""Requests in one batch."""


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
    try:
        value = msgspec.json.decode(line)
        json.loads(line, object_pairs_hook=_refuse_twins)  # msgspec takes the last of two equal keys without a word
    except RecursionError:
        raise FrameError("The line is not acceptable JSON: it is nested too deep.") from None
    except UnicodeDecodeError as error:
        raise FrameError(f"The line is not UTF-8 (byte {error.start}).") from None
    except (ValueError, msgspec.MsgspecError) as error:
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


def _refuse_twins(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        raise ValueError("a key comes twice in one object")
