"""Modified UTF-7 (RFC 3501, 5.1.3), written apart from haul's own so that one cannot hide the other's mistakes."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode


def encode(name: str) -> bytes:
    """A mailbox name as it goes over the wire."""
    return re.sub(r"&|[^\x20-\x7e]+", _shifted, name).encode("ascii")


def decode(name: bytes) -> str:
    """A mailbox name as people read it."""
    return re.sub(r"&([^-]*)-", _plain, name.decode("ascii"))


def _shifted(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    return "&" + b64encode(match[0].encode("utf-16-be")).decode("ascii").rstrip("=").replace("/", ",") + "-"


def _plain(match: re.Match[str]) -> str:
    if not match[1]:
        return "&"
    padded = match[1].replace(",", "/") + "=" * (-len(match[1]) % 4)
    return b64decode(padded).decode("utf-16-be")
