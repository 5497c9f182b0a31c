"""Messages from a seed: the same every time, all different, every line ended by CRLF."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator


def messages(count: int, *, size: int = 10_240, seed: int = 1) -> Iterator[bytes]:
    """``count`` messages of about ``size`` bytes, with a body that does not compress."""
    dice = random.Random(seed)
    for number in range(1, count + 1):
        header = (
            f"From: Sender {number} <sender{number}@example.org>\r\n"
            f"To: Reader <reader@example.net>\r\n"
            f"Subject: Message {number} of series {seed}\r\n"
            f"Message-ID: <{seed}.{number}.{dice.getrandbits(64):016x}@example.org>\r\n"
            f"MIME-Version: 1.0\r\n"
            f"Content-Type: application/octet-stream\r\n"
            f"Content-Transfer-Encoding: base64\r\n\r\n"
        ).encode()
        room = max(0, size - len(header))
        yield header + base64.encodebytes(dice.randbytes(room * 57 // 78)).replace(b"\n", b"\r\n")
