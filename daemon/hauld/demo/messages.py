"""The demo's mail: made from a seed, so that whoever knows the number of messages knows every byte of them.

All of it is awkward in the ways that real mail is: folder names that want quoting, subjects in other scripts or in no charset
at all, attachments, long lines, messages without a subject or without a body.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple

FOLDERS = {
    "INBOX": 40,
    "Sent": 12,
    "Archive/2024": 12,
    "Archive/2025": 12,
    "Projects/a b": 8,
    "Grö ße (x) * y": 6,
    'Quoted "name" and \\': 4,
    "日本 🎉": 6,
}
"""Each folder with its share of the messages."""

SUBJECTS = [
    b"Minutes of the meeting",
    b"=?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?=",
    b"=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=",
    "Besuch am Montag? Schön!".encode(),  # 8-bit without a charset, as some programs send it
    b"Gr\xfc\xdfe",
    b'Re: Fwd: Re: (no "subject") {42}',
]

FIRST = datetime(2024, 1, 1, 8, 0, tzinfo=UTC)


class Message(NamedTuple):
    """One message, with the folder it goes to and when it came."""

    folder: str
    received: datetime
    content: bytes


def mailbox(count: int, seed: int = 2026) -> Iterator[Message]:
    """``count`` messages in the order in which they came."""
    dice = random.Random(seed)  # noqa: S311 - made up, not secret
    names, shares = list(FOLDERS), list(FOLDERS.values())
    for number in range(1, count + 1):
        received = FIRST + timedelta(minutes=7 * number)
        folder = names[(number - 1) % len(names)] if number <= len(names) else dice.choices(names, shares)[0]
        body = dice.choices(BODIES, BODY_SHARES)[0]
        content = b"\r\n".join([*_headers(dice, number, received), *body(dice)]) + b"\r\n"
        yield Message(folder, received, content)


def _headers(dice: random.Random, number: int, received: datetime) -> Iterator[bytes]:
    yield b"Return-Path: <sender%d@example.org>" % number
    yield b"From: Sender %d <sender%d@example.org>" % (number, number)
    yield b"To: You <you@example.net>"
    if dice.random() < 0.97:
        yield b"Subject: " + dice.choice(SUBJECTS)
    yield b"Date: " + format_datetime(received).encode()
    yield b"Message-ID: <%d.%08x@example.org>" % (number, dice.getrandbits(32))
    yield b"MIME-Version: 1.0"


def _plain(dice: random.Random) -> Iterator[bytes]:
    yield b"Content-Type: text/plain; charset=utf-8"
    yield b"Content-Transfer-Encoding: 8bit"
    yield b""
    yield from _prose(dice, dice.randint(5, 60))


def _one_long_line(dice: random.Random) -> Iterator[bytes]:
    yield b"Content-Type: text/plain; charset=utf-8"
    yield b""
    yield b" ".join(_prose(dice, 90))


def _no_body(dice: random.Random) -> Iterator[bytes]:
    yield b"X-Priority: %d" % dice.randint(1, 5)
    yield b""


def _alternative(dice: random.Random) -> Iterator[bytes]:
    boundary = b"=_%016x" % dice.getrandbits(64)
    text = list(_prose(dice, dice.randint(5, 40)))
    yield b'Content-Type: multipart/alternative; boundary="%s"' % boundary
    yield b""
    yield from (b"--" + boundary, b"Content-Type: text/plain; charset=utf-8", b"", *text)
    yield from (b"--" + boundary, b"Content-Type: text/html; charset=utf-8", b"", b"<p>", *text, b"</p>")
    yield b"--" + boundary + b"--"


def _attachment(dice: random.Random) -> Iterator[bytes]:
    boundary = b"=_%016x" % dice.getrandbits(64)
    # most are small, few are large: 2 KB to 220 KB, which base64 makes 300 KB
    data = dice.randbytes(int(2_000 * 110 ** (dice.random() ** 3)))
    yield b'Content-Type: multipart/mixed; boundary="%s"' % boundary
    yield b""
    yield from (b"--" + boundary, b"Content-Type: text/plain; charset=utf-8", b"", *_prose(dice, 4))
    yield b"--" + boundary
    yield b"Content-Type: application/pdf; name*=utf-8''Rechnung%20M%C3%A4rz.pdf"
    yield b"Content-Transfer-Encoding: base64"
    yield b""
    yield base64.encodebytes(data).rstrip(b"\n").replace(b"\n", b"\r\n")
    yield b"--" + boundary + b"--"


BODIES: list[Callable[[random.Random], Iterator[bytes]]] = [_plain, _alternative, _attachment, _one_long_line, _no_body]
BODY_SHARES = [45, 25, 24, 4, 2]

WORDS = ["the", "mail", "that", "matters", "lies", "on", "your", "own", "disk", "größer", "schöner", "安全", "and", "plain"]


def _prose(dice: random.Random, lines: int) -> Iterator[bytes]:
    for _ in range(lines):
        yield " ".join(dice.choices(WORDS, k=12)).encode()
