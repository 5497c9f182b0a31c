"""The copies of a ledger that lie beside it, for what files cannot tell: jobs, and what was said of items. ``copying`` makes
them, ``rescue`` uses them.

They are in ``<state>.copies/`` as ``000012-2026-11-21.db``: a number that counts copies, and the day. The newest is the one
with the highest number, so that a clock that jumps neither stops copies nor costs one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"(\d{6,})-(\d{4}-\d\d-\d\d)\.db", re.ASCII)
BEGUN = ".new"
"""How the name of a copy ends that is not whole yet."""


@dataclass(frozen=True)
class Copy:
    """One copy; ``day`` is in UTC."""

    number: int
    day: str
    path: Path


def directory_of(path: Path) -> Path:
    """Where the copies of the ledger ``path`` are."""
    return path.with_name(path.name + ".copies")


def copy_of(path: Path, number: int, day: str) -> Copy:
    """The copy of that number and day, whether or not it is there."""
    return Copy(number, day, directory_of(path) / f"{number:06d}-{day}.db")


def copies_of(path: Path) -> Sequence[Copy]:
    """The copies that are there, newest first."""
    directory = directory_of(path)
    names = os.listdir(directory) if directory.is_dir() else []
    found = [Copy(int(match[1]), match[2], directory / match[0]) for match in map(NAME.fullmatch, names) if match]
    return sorted(found, key=lambda copy: copy.number, reverse=True)


def outlived(copies: Sequence[Copy], keep: int) -> Sequence[Copy]:
    """Which of these, newest first, are kept no longer: those of days of which there is a newer one, and all but the newest
    ``keep`` of the rest."""
    last_of_day: dict[str, Copy] = {}
    for copy in copies:
        last_of_day.setdefault(copy.day, copy)
    kept = list(last_of_day.values())[:keep]
    return [copy for copy in copies if copy not in kept]
