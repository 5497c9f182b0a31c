"""Statements from ``.sql`` files: each stands under a heading ``-- name --``, with a sentence that says what it does."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from importlib import resources
from types import MappingProxyType

HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def load(file: str) -> Mapping[str, str]:
    """The statements of a file of this package, by name."""
    parts = HEADING.split(read(file))
    return MappingProxyType(dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True)))


def read(file: str) -> str:
    """The text of a file of this package."""
    return resources.files(__package__).joinpath(file).read_text("utf-8")


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one; each ends its line. Triggers stay whole."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
