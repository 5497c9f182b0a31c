"""What goes with a command: any bytes, written so that nothing in them can be taken for a command (RFC 3501, 4)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Literal:
    """An argument that is sent as a literal: any bytes at all, none of which the server takes for a command.

    With ``announced`` False its size is not named before it: the answer to a SASL challenge."""

    data: bytes
    announced: bool = True

    def __repr__(self) -> str:
        return f"Literal({len(self.data)} bytes)"


def astring(text: bytes) -> bytes | Literal:
    """Any bytes as an argument: quoted where that is possible, else a literal. Nothing in ``text`` can end the command."""
    if _QUOTABLE.fullmatch(text):
        return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return Literal(text)


def lines(arguments: Sequence[bytes | Literal]) -> list[bytes]:
    """A command's arguments as the lines to send; before each but the first the server has to say ``+``."""
    sent = [b""]
    for argument in arguments:
        separator = b" " if sent[-1] else b""
        if isinstance(argument, bytes):
            sent[-1] += separator + argument
            continue
        if argument.announced:
            sent[-1] += separator + b"{%d}" % len(argument.data)
        sent.append(argument.data)
    return sent


_QUOTABLE = re.compile(rb"[ -~]{0,1000}")
