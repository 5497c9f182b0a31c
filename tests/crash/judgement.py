"""What a run of hauld left behind, read without hauld: what is wrong is told in sentences, none of them is good news.

Words as in the fault cases: *lost* is what the server has and nobody stored, *twice* what is stored more than once, *torn* a
row whose bytes are not there or not the server's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hauld.stores import manifest

Truth = Mapping[tuple[bytes, str], str]
"""SHA-256 of every message that the server has, by the folder's raw name and ``uidvalidity.uid``."""

OWN_FILES = re.compile(
    r"mail(/\.haul/(lock|format|aside/.*)|/[^/]+/\.haul-account|/.*/\.haul-folder|)"
    r"|state/haul\.db(-wal|-shm|\.lock|\.copies/[\d-]+\.db(\.new(-journal)?)?|)"
    r"|run/(\.haul\.sock\.\w+|haul\.sock)"
)
"""What may lie in a tree beside messages. A socket whose process died before it had its name stays: it is in a directory that
goes with the machine's next start. A copy of the ledger that was not finished stays until the next one is made."""

MESSAGE = re.compile(r"mail/(?P<directory>.+)/(?:cur|new)/(?P<unique>[^/:]+)(?::2,\w*)?")


@dataclass(frozen=True)
class Row:
    """A row of the ledger that says that an item is stored."""

    folder: bytes
    key: str
    epoch_is_current: bool
    size: int
    sha256: str
    path: str


@dataclass(frozen=True)
class Ledger:
    """What a copy of the database says. ``complaint`` is what SQLite has to say of its soundness."""

    rows: tuple[Row, ...] = ()
    has_jobs: bool = False
    complaint: str | None = None


def read_ledger(tree: Path, scratch: Path) -> Ledger:
    """From a copy, so that nothing is repaired by looking; empty where there is no database, or none with tables yet."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for suffix in ("", "-wal"):
        if (tree / f"state/haul.db{suffix}").is_file():
            shutil.copyfile(tree / f"state/haul.db{suffix}", scratch / f"haul.db{suffix}")
    database = sqlite3.connect(scratch / "haul.db")
    try:
        [finding] = database.execute("PRAGMA integrity_check(1)").fetchone()
        if finding != "ok":
            return Ledger(complaint=finding)
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'items'").fetchone() is None:
            return Ledger()
        found = database.execute(
            "SELECT raw, key, items.epoch = folders.epoch, size, sha256, local_path"
            " FROM items JOIN folders ON folders.number = items.folder WHERE items.status = 'completed'"
        )
        rows = tuple(Row(raw, key, bool(current), *rest) for raw, key, current, *rest in found)
        return Ledger(rows, has_jobs=database.execute("SELECT 1 FROM jobs").fetchone() is not None)
    except sqlite3.DatabaseError as error:
        return Ledger(complaint=str(error))
    finally:
        database.close()


def torn(tree: Path, ledger: Ledger, truth: Truth) -> Iterator[str]:
    """Rows that claim what is not so, at any moment whatever."""
    if ledger.complaint is not None:
        yield f"the ledger is damaged: {ledger.complaint}"
    files = messages(tree)
    for row in ledger.rows:
        held = files.get(row.path, [])
        if not held:
            yield f"torn: {row.folder!r} {row.key} is completed, and there is no file {row.path}"
        for path in held:
            data = path.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            if len(data) != row.size or not sha256.startswith(row.sha256):
                yield f"torn: {row.folder!r} {row.key} is completed, and {path.name} has {len(data)} other bytes"
            if row.epoch_is_current and truth.get((row.folder, row.key), sha256) != sha256:
                yield f"torn: {row.folder!r} {row.key} is completed with bytes that are not the server's"


def whole(tree: Path) -> set[tuple[bytes, str]]:
    """What is durable and need not be fetched again, though it may have no row: items of a manifest of the stage whose bytes
    are all there, under their staged or their final name."""
    found = set()
    stage = tree / "mail/.haul/stage"
    for path in stage.glob("*.manifest"):
        for entry in manifest.decode(path.read_bytes()) or ():
            for held in (stage / entry.staged, tree / "mail" / entry.target):
                if held.is_file() and hashlib.sha256(held.read_bytes()).hexdigest() == entry.placed.sha256:
                    found.add((entry.placed.folder, entry.placed.key))
    return found


def in_place(tree: Path) -> set[tuple[bytes, str]]:
    """What is whole under its final name, as names and sidecars tell it."""
    found = set()
    for path, [held, *_] in messages(tree).items():
        directory, _, unique = path.rpartition("/")
        sidecar = json.loads((tree / "mail" / directory / ".haul-folder").read_bytes())
        name = re.search(r"\.U(\d+)V(\d+)H(\w+)", unique)
        assert name is not None, f"{path} is not a name of haul's"
        if hashlib.sha256(held.read_bytes()).hexdigest().startswith(name[3]):
            found.add((base64.b64decode(sidecar["raw"]), f"{name[2]}.{name[1]}"))
    return found


def unfinished(tree: Path, ledger: Ledger, truth: Truth, kept: Mapping[str, str]) -> Iterator[str]:
    """What is not as it has to be when an import is complete. ``kept`` are files that were there before and stay: SHA-256 by
    path."""
    yield from torn(tree, ledger, truth)
    stored = {(row.folder, row.key) for row in ledger.rows if row.epoch_is_current}
    for folder, key in sorted(truth.keys() - stored):
        yield f"lost: {folder!r} {key} is not stored"
    for folder, key in sorted(stored - truth.keys()):
        yield f"{folder!r} {key} is stored, and the server never had it"
    files = messages(tree)
    for path in sorted(files.keys() - {row.path for row in ledger.rows}):
        yield f"twice: the file of {path} belongs to no row"
    for path, held in files.items():
        if len(held) > 1:
            yield f"twice: {path} has {len(held)} files"
    for path, sha256 in kept.items():
        if not any(hashlib.sha256(held.read_bytes()).hexdigest() == sha256 for held in files.get(path, [])):
            yield f"lost: {path}, which was stored before"


def strange(tree: Path, *, rescued: bool) -> Iterator[str]:
    """Files that are nobody's. Only where the ledger was ``rescued`` may something have been set aside beside it."""
    for path in tree.rglob("*"):
        name = path.relative_to(tree).as_posix()
        if path.is_dir() or MESSAGE.fullmatch(name) or OWN_FILES.fullmatch(name):
            continue
        if not (rescued and name.startswith("state/haul.db")):
            yield f"left over: {name}"


def messages(tree: Path) -> dict[str, list[Path]]:
    """The files of messages, by directory and unique part."""
    found: dict[str, list[Path]] = {}
    for path in tree.glob("mail/**/*"):
        match = MESSAGE.fullmatch(path.relative_to(tree).as_posix())
        if match and not match["directory"].startswith(".haul") and path.is_file():
            found.setdefault(f"{match['directory']}/{match['unique']}", []).append(path)
    return found
