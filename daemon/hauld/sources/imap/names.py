"""Folder names: modified UTF-7 (RFC 3501, 5.1.3), hierarchy, INBOX, and what a folder is for (RFC 6154).

A folder's raw name, as the server wrote it, stays its only key and is what is sent back; everything here is for display
and for choosing the order of fetching. So nothing has to be reversible, and no name is ever refused.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection

from hauld.model import FolderKind

INBOX = b"INBOX"


def canonical(raw: bytes) -> bytes:
    """The raw name as a key: INBOX is the same in any case, all others are as they are."""
    return INBOX if raw.upper() == INBOX else raw


def path_of(raw: bytes, delimiter: bytes | None) -> tuple[str, ...]:
    """The decoded components of a raw name. Without a delimiter (NIL or empty) the name is flat."""
    if not delimiter:
        return (decode(raw),)
    components = [b""]
    for piece in re.findall(rb"&[A-Za-z0-9+,]*-|" + re.escape(delimiter) + rb"|.", raw, re.DOTALL):
        if piece == delimiter:
            components.append(b"")
        else:
            components[-1] += piece
    return tuple(decode(component) for component in components)


# --- what a folder is for ------------------------------------------------------------------------------------------

_ATTRIBUTES = {
    b"\\INBOX": FolderKind.INBOX,
    b"\\SENT": FolderKind.SENT,
    b"\\DRAFTS": FolderKind.DRAFTS,
    b"\\FLAGGED": FolderKind.FLAGGED,
    b"\\IMPORTANT": FolderKind.IMPORTANT,
    b"\\ARCHIVE": FolderKind.ARCHIVE,
    b"\\ALL": FolderKind.ALL,
    b"\\JUNK": FolderKind.JUNK,
    b"\\TRASH": FolderKind.TRASH,
}

_CUSTOMARY_NAMES = {
    "sent": FolderKind.SENT,
    "sent items": FolderKind.SENT,
    "sent mail": FolderKind.SENT,
    "sent messages": FolderKind.SENT,
    "drafts": FolderKind.DRAFTS,
    "archive": FolderKind.ARCHIVE,
    "archives": FolderKind.ARCHIVE,
    "junk": FolderKind.JUNK,
    "junk e-mail": FolderKind.JUNK,
    "spam": FolderKind.JUNK,
    "bulk mail": FolderKind.JUNK,
    "trash": FolderKind.TRASH,
    "deleted items": FolderKind.TRASH,
    "deleted messages": FolderKind.TRASH,
}


def declared_kind(attributes: Collection[bytes]) -> FolderKind | None:
    """What the server says the folder is for, by upper-case LIST attributes."""
    return next((kind for attribute, kind in _ATTRIBUTES.items() if attribute in attributes), None)


def customary_kind(path: tuple[str, ...]) -> FolderKind | None:
    """What the name suggests, for a server that declares nothing: well-known names at the top or right below INBOX."""
    below_inbox = len(path) == 2 and path[0].upper() == "INBOX"
    return _CUSTOMARY_NAMES.get(path[-1].lower()) if len(path) == 1 or below_inbox else None


# --- modified UTF-7 ------------------------------------------------------------------------------------------------

_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def decode(raw: bytes) -> str:
    r"""A name for people. What cannot be decoded stays as it was written; bytes that are no UTF-8 (some servers send
    8-bit names, RFC 6855 ones send UTF-8) and control characters are shown as ``\xNN``."""
    text = _SHIFTED.sub(_unshift, raw.decode("ascii")) if raw.isascii() else raw.decode("utf-8", "backslashreplace")
    return _CONTROLS.sub(lambda control: f"\\x{ord(control[0]):02x}", text)


def _unshift(shifted: re.Match[str]) -> str:
    digits = shifted[1].replace(",", "/")
    if not digits:
        return "&"
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4)).decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError):
        return shifted[0]
