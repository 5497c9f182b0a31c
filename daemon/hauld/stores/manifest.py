"""A manifest: which staged bytes are which item, and where they go. It ends with its own hash, so that a torn one is known.

Why there is one, and when it comes and goes, is told by ``stage``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

import msgspec

from hauld.model import Placed

SUFFIX = ".manifest"


class Entry(msgspec.Struct, frozen=True):
    """One line of a manifest: the file of the stage, and where it goes."""

    staged: str
    target: str
    placed: Placed


def encode(entries: Sequence[Entry]) -> bytes:
    """A manifest: one line of JSON, one line with its SHA-256."""
    lines = [
        {
            "staged": entry.staged,
            "target": entry.target,
            "identity": entry.placed.identity,
            "folder": entry.placed.folder,  # in Base64: these are the origin's own bytes
            "epoch": entry.placed.epoch,
            "key": entry.placed.key,
            "size": entry.placed.size,
            "sha256": entry.placed.sha256,
            "path": entry.placed.path,
        }
        for entry in entries
    ]
    text = msgspec.json.encode({"version": 1, "entries": lines})
    return text + b"\n" + _hash_line(text)


def decode(data: bytes) -> list[Entry] | None:
    """The entries; None when the manifest is torn."""
    text, _, hash_line = data.partition(b"\n")
    if hash_line != _hash_line(text):
        return None
    return [
        Entry(
            line["staged"],
            line["target"],
            Placed(
                identity=line["identity"],
                folder=base64.b64decode(line["folder"]),
                epoch=line["epoch"],
                key=line["key"],
                size=line["size"],
                sha256=line["sha256"],
                path=line["path"],
            ),
        )
        for line in msgspec.json.decode(text)["entries"]
    ]


def _hash_line(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode("ascii") + b"\n"
