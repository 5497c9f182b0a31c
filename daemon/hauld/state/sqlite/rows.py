"""Rows made values of ``hauld.model``, and values made columns.

Text comes from all over the world and not all of it is Unicode: in JSON columns everything survives, in text columns what
cannot be written in UTF-8 is escaped, so that no name or reason ever stops a group.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import msgspec

from hauld.model import (
    FOLDER_ORDER,
    Conflict,
    Counters,
    Event,
    Folder,
    FolderKind,
    FolderProgress,
    Item,
    ItemStatus,
    Job,
    JobStatus,
    PendingItem,
    Phase,
    RemoteFolder,
    StoredItem,
    Strategy,
    Trouble,
)


def job_of(row: sqlite3.Row) -> Job:
    return Job(
        number=row["number"],
        id=row["id"],
        account=row["account"],
        account_name=row["account_name"],
        source=row["source"],
        strategy=strategy_of(row),
        status=JobStatus(row["status"]),
        queued=bool(row["queued"]),
        phase=Phase(row["phase"]) if row["phase"] else None,
        live=bool(row["live"]),
        priority=row["priority"],
        requester=row["requester"],
        error=trouble_of(row["error"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        updated_at=row["updated_at"],
        completed_at=row["completed_at"],
        last_sync_at=row["last_sync_at"],
        attempts=row["attempts"],
    )


def strategy_of(row: sqlite3.Row) -> Strategy:
    return msgspec.convert(json.loads(row["strategy"]), Strategy)


def folder_of(row: sqlite3.Row) -> Folder:
    return Folder(
        number=row["number"],
        account=row["account"],
        remote=RemoteFolder(
            raw=row["raw"],
            path=tuple(json.loads(row["path"])),
            kind=FolderKind(row["kind"]),
            selectable=bool(row["selectable"]),
        ),
        epoch=row["epoch"],
        cursor=row["cursor"],
        directory=row["directory"],
        gone_at=row["gone_at"],
        last_sync_at=row["last_sync_at"],
        error=trouble_of(row["error"]),
        newest=row["newest"],
    )


def fetching_order(folder: Folder) -> tuple[int, str]:
    """The key to sort folders by."""
    return FOLDER_ORDER.index(folder.remote.kind), folder.name


def progress_of(row: sqlite3.Row) -> FolderProgress:
    return FolderProgress(folder_of(row), counters_of(row))


def counters_of(row: sqlite3.Row) -> Counters:
    """Where nothing was ever counted, the columns are null."""
    return Counters(*(row[name] or 0 for name in ("total", "downloaded", "failed", "skipped", "bytes")))


def pending_of(row: sqlite3.Row) -> PendingItem:
    return PendingItem(
        number=row["number"],
        key=row["key"],
        ordinal=row["ordinal"],
        size=row["size"],
        flags=flags_of(row["flags"]),
        date=row["date"],
        retry_count=row["retry_count"],
    )


def item_of(row: sqlite3.Row) -> Item:
    error = None
    if row["error_kind"] is not None:
        error = Trouble(row["error_kind"], row["error_text"] or "", since=row["error_since"], retry_at=row["next_retry_at"])
    return Item(
        number=row["number"],
        folder=row["folder_name"],
        key=row["key"],
        status=ItemStatus(row["status"]),
        size=row["size"],
        sha256=row["sha256"],
        local_path=row["local_path"],
        flags=flags_of(row["flags"]),
        error=error,
        retry_count=row["retry_count"],
        downloaded_at=row["downloaded_at"],
        removed_at=row["removed_at"],
        conflicts=tuple(Conflict(**conflict) for conflict in json.loads(row["conflicts"])),
    )


def stored_of(row: sqlite3.Row) -> StoredItem:
    return StoredItem(
        number=row["number"],
        key=row["key"],
        epoch=row["epoch"],
        size=row["size"],
        sha256=row["sha256"],
        path=row["local_path"],
        there=bool(row["there"]),
    )


def event_of(row: sqlite3.Row) -> Event:
    return Event(row["number"], row["time"], row["kind"], row["job"], row["folder"], json.loads(row["data"]))


def trouble_of(column: str | None) -> Trouble | None:
    return None if column is None else Trouble(**json.loads(column))


def reason_of(error: Trouble | None) -> dict[str, object]:
    """Why, as an event tells it."""
    return {"kind": None, "reason": None} if error is None else {"kind": error.kind, "reason": error.message}


def pack(value: Any) -> str:
    """A JSON column. Characters beyond ASCII are escaped, which keeps even those that UTF-8 does not have."""
    return json.dumps(value, separators=(",", ":"))


@lru_cache(maxsize=1024)
def pack_flags(flags: tuple[str, ...]) -> str:
    """``pack``, for what a few combinations of are on a million items."""
    return pack(flags)


@lru_cache(maxsize=1024)
def flags_of(packed: str) -> tuple[str, ...]:
    return tuple(json.loads(packed))


def pack_strategy(strategy: Strategy) -> str:
    return pack(asdict(strategy))


def pack_trouble(trouble: Trouble | None) -> str | None:
    return None if trouble is None else pack(asdict(trouble))


def text(value: str) -> str:
    """A text column."""
    return value.encode("utf-8", "backslashreplace").decode()
