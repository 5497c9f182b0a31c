"""What becomes of a ledger that is damaged: nothing is deleted, and a start always ends with a sound one.

The file is set aside under another name, with its log, and the newest sound copy (``copies``) takes its place, or none does:
then the ledger is new. What a copy or a new ledger does not tell is restored from the store by whoever asks whether the ledger
is reconciled.

    damage found --> mark beside the file --> log and file set aside --> mark gone --> copy written --> copy in place

A crash between any two steps is finished by the next start: with the mark, whatever lies there is set aside, and without it, a
file that is missing is replaced. The mark is also left when damage shows while the daemon works, because a start does not look
at every page of a large file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from hauld.errors import Fatal
from hauld.state.sqlite.connection import Damaged
from hauld.state.sqlite.copies import copies_of
from hauld.state.sqlite.files import Files
from hauld.state.sqlite.guard import examine, reachable, size_of

log = logging.getLogger(__name__)

PIECES = ("-wal", "-shm", "")
"""What a database consists of, by the ends of the names; the file itself comes last."""


async def rescue(path: Path, patience: float, now: int, files: Files) -> bool:
    """Leave a sound ledger there, an empty file, or none; or a large one that is still to be looked through: True. ``Fatal``
    for one that is from the future or another program's: it is left as it is."""
    finding, doubtful = await find_damage(path, patience)
    with reachable(path):
        if finding is not None:
            set_aside(path, finding, now, files)
        if size_of(path) == 0:
            await bring_back(path, patience, files)
    return doubtful


async def find_damage(path: Path, patience: float) -> tuple[str | None, bool]:
    """What is wrong with the file, by what was found before or shows now; None when it is sound, empty or missing. And whether
    it may be damaged all the same, because it is large and was not looked through."""
    marked = read_mark(path)
    try:
        doubtful = await examine(path, patience)
    except Damaged as damaged:
        return marked.get("finding", damaged.finding), False
    if marked:
        return marked.get("finding", "damage was found before"), False
    if size_of(path) == 0 and size_of(path.with_name(path.name + "-wal")) > 0:
        return "it is missing, and its log is there", False
    return None, doubtful


def set_aside(path: Path, finding: str, now: int, files: Files) -> None:
    """Rename the pieces, all to names of one kind that nothing has."""
    name = read_mark(path).get("aside")
    if name is None or taken(path, path.with_name(name)):
        name = free_name(path, now)
        files.replace_text(mark_of(path), json.dumps({"finding": finding, "aside": name}))
    for piece in PIECES:
        if os.path.lexists(path.with_name(path.name + piece)):
            files.rename(path.with_name(path.name + piece), path.with_name(name + piece))
    files.sync_directory(path.parent)
    log.error(
        "the state %s is damaged (%s); it was set aside as %s, nothing is deleted",
        path,
        finding,
        name,
        extra={"event": "state.damaged", "path": str(path), "aside": name, "finding": finding},
    )
    files.remove(mark_of(path))
    files.sync_directory(path.parent)


def free_name(path: Path, now: int) -> str:
    """The name for what is set aside now."""
    moment = datetime.fromtimestamp(now / 1000, UTC)
    name = first = f"{path.name}.damaged-{moment:%Y%m%dT%H%M%SZ}"
    number = 1
    while any(os.path.lexists(path.with_name(name + piece)) for piece in PIECES):
        number += 1
        name = f"{first}.{number}"
    return name


def taken(path: Path, aside: Path) -> bool:
    """Whether setting aside under that name would write over something."""
    return any(
        os.path.lexists(path.with_name(path.name + piece)) and os.path.lexists(aside.with_name(aside.name + piece))
        for piece in PIECES
    )


async def bring_back(path: Path, patience: float, files: Files) -> None:
    """The newest sound copy, in place of the file; nothing when there is none."""
    for copy in copies_of(path):
        try:
            await examine(copy.path, patience, checked=size_of(copy.path))
        except Fatal as error:
            log.error("a copy cannot be used: %s", error, extra={"event": "state.copy_unsound", "path": str(copy.path)})
            continue
        new = path.with_name(path.name + ".new")
        await asyncio.to_thread(files.copy, copy.path, new)
        files.rename(new, path)
        files.sync_directory(path.parent)
        log.warning(
            "the state %s was made from its copy %s",
            path,
            copy.path,
            extra={"event": "state.brought_back", "path": str(path), "copy": str(copy.path)},
        )
        return


# --- the mark ---


def leave_mark(path: Path, finding: str, files: Files) -> None:
    """Damage showed: the next start sets the file aside, whatever it finds then."""
    if mark_of(path).exists():
        return
    try:
        files.replace_text(mark_of(path), json.dumps({"finding": finding}))
    except OSError as error:
        log.error("the damage of the state %s cannot be marked: %s", path, error, extra={"event": "state.unmarked"})


def read_mark(path: Path) -> dict[str, str]:
    """What the mark says; empty when there is none."""
    with reachable(path):
        if not mark_of(path).exists():
            return {}
        text = mark_of(path).read_text("utf-8", "replace")
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    told = {name: value for name, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}
    return {"finding": "damage was found before"} | told


def mark_of(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")
