"""Migrations: from whatever an earlier version left to the tables this one works with.

Each ``migrations/NNNN_name.sql`` is one transaction together with its row in the table ``schema``: after a crash it is there
whole, or not at all. A database from a later version is refused, and so is one that is not ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hauld.errors import Fatal
from hauld.state.sqlite.connection import Connection
from hauld.state.sqlite.queries import read, statements

OURS = int.from_bytes(b"haul", "big")
"""The ``application_id`` that the first migration writes into the file's header."""

FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str


def migrations() -> Sequence[Migration]:
    """The steps that come with this version of the program, in order."""
    names = (entry.name for entry in resources.files(__package__).joinpath("migrations").iterdir())
    found = [match for match in map(FILE_NAME.fullmatch, sorted(names)) if match]
    return [Migration(int(match[1]), match[2], read(f"migrations/{match[0]}")) for match in found]


async def migrate(database: Connection, steps: Sequence[Migration], now: int) -> None:
    """Apply the steps that the database has not seen."""
    reached = await version(database) or 0
    for step in steps:
        if step.version > reached:
            async with database.transaction():
                for statement in statements(step.sql):
                    await database.run(statement)
                await database.run(
                    "INSERT INTO schema (version, name, applied_at) VALUES (:version, :name, :now)",
                    version=step.version,
                    name=step.name,
                    now=now,
                )


async def refuse_foreign(database: Connection, path: Path) -> int | None:
    """Raise ``Fatal`` when the database is another program's, or from a later version of this one. Else its version."""
    reached = await version(database)
    known = migrations()[-1].version
    if reached is None and await database.one("SELECT 1 FROM sqlite_schema"):
        raise Fatal(
            "schema",
            f"{path} is a database of another program; it was not touched.",
            hint="Name another file as the state in the configuration.",
        )
    if reached is not None and reached > known:
        raise Fatal(
            "schema",
            f"The state {path} has schema {reached}, and this hauld knows none after {known}; it was not touched.",
            hint="Install the version of hauld that wrote it, or a later one.",
        )
    return reached


async def version(database: Connection) -> int | None:
    """The last migration that was applied; None when this is no ledger, 0 when it is one whose record is lost."""
    mark = await database.one("PRAGMA application_id")
    if mark is None or mark[0] != OURS:
        return None
    if await database.one("SELECT 1 FROM sqlite_schema WHERE name = 'schema'") is None:
        return 0
    reached = await database.one("SELECT max(version) FROM schema")
    return 0 if reached is None else reached[0] or 0
