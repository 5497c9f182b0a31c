"""The way into systemd's journal: entries with fields, in its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).

Our own, because the libraries for it need libsystemd's headers to be built, and what is needed of the protocol is this page.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

JOURNAL = Path("/run/systemd/journal/socket")
"""Where the journal takes entries."""

LONGEST_FIELD = 16 * 1024
"""Bytes of a field; the rest is cut off. With the few fields that our entries have, each fits into one datagram."""

LONGEST_NAME = 64
"""Characters of a field's name, as the journal has it."""


class Journal:
    """Takes entries, one datagram each, without being connected: it may be started anew at any time."""

    def __init__(self, path: Path = JOURNAL) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def put(self, entry: bytes) -> None:
        """Send it. Raises ``OSError`` when there is no journal; waits while it is busy."""
        self._socket.sendto(entry, self._path)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


def is_there(path: Path = JOURNAL) -> bool:
    """Whether a journal listens at the path, and we may speak to it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def leads_to(stream: TextIO) -> bool:
    """Whether systemd has connected the stream with the journal (``$JOURNAL_STREAM``, systemd.exec(5)), and nobody has put
    another in its place since."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def entry(fields: Mapping[str, str]) -> bytes:
    """An entry on the wire. Names are made such as the journal takes; a value with a newline goes with its length, so that none
    can add a field."""
    return b"".join(_field(_name(name), _cut(value.encode(errors="backslashreplace"))) for name, value in fields.items())


def _cut(value: bytes) -> bytes:
    """No longer than ``LONGEST_FIELD``, and no character in halves."""
    return value if len(value) <= LONGEST_FIELD else value[:LONGEST_FIELD].decode(errors="ignore").encode()


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" not in value:
        return name + b"=" + value + b"\n"
    return name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"


def _name(name: str) -> bytes:
    """Upper case, digits and underscores; the journal keeps to itself what begins with one."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper()).lstrip("_0123456789")[:LONGEST_NAME].encode() or b"UNNAMED"
