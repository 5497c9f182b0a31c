"""A ledger like that of a mailbox with a million messages, made in a minute: ``python tests/bench/large_ledger.py FILE``.

The state makes the file and its tables. The rows are then written past it, in one transaction, because what is to be measured
is how it works with them and not how they came; the triggers count them as always. The files that the rows tell of are not
there, and nobody needs them before something is verified or removed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from hauld.clock import SystemClock
from hauld.model import FolderKind, RemoteFolder, Strategy
from hauld.state.sqlite import SqliteState

EPOCH = "7"
PAGE = 1000
"""Items of one folder that came in one page of its listing, and so have numbers in a row."""
DAY_MS = 24 * 3600 * 1000

Row = tuple[object, ...]

ADD_ITEM = """
INSERT INTO items (
    number, folder, epoch, key, ordinal, status, size, flags, date, sha256, local_path,
    error_kind, error_text, error_since, retry_count, created_at, updated_at, downloaded_at
) VALUES (?, ?, ?, ?, ?, ?, ?, '["\\\\Seen"]', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_WANTS = """
INSERT INTO wants (item, job, folder, outcome)
SELECT number, ?1, folder, iif(status = 'completed', ?2, status) FROM items ORDER BY number
"""
ADD_EVENT = "INSERT INTO events (time, kind, job, folder, data) VALUES (?, 'item.stored', ?, ?, ?)"


def make(
    path: Path,
    identity: str,
    account: str,
    *,
    items: int = 1_000_000,
    folders: int = 20,
    events: int = 300_000,
    page: int = PAGE,
) -> tuple[str, str]:
    """A ledger in a file that is not there yet, closed in order; the ids of its jobs.

    The first folder has half of the items, every second ``page`` of them. Of each page one has failed, 49 are pending and the
    rest is stored. The first job, paused, has downloaded them; the second, completed and not live, wants them all, too. Every
    second event is one of the first job.
    """
    jobs = asyncio.run(_begin(path, identity, account, folders))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = -262144")
        database.execute("BEGIN")
        now = int(time.time() * 1000)
        database.executemany(ADD_ITEM, _items(items, folders, page, now))
        for number, outcome in ((1, "downloaded"), (2, "completed")):
            database.execute(ADD_WANTS, (number, outcome))
        database.executemany(ADD_EVENT, _events(events, items, jobs[0], now))
        database.execute("UPDATE folders SET epoch = ?, cursor = x'01', last_sync_at = ?", (EPOCH, now))
        database.execute(
            "UPDATE jobs SET status = iif(number = 1, 'paused', 'completed'), queued = 0, last_sync_at = ?", (now,)
        )
        database.execute("COMMIT")
    return jobs


async def _begin(path: Path, identity: str, account: str, folders: int) -> tuple[str, str]:
    """Everything but the rows that there are many of."""
    state = SqliteState(path, SystemClock())
    await state.start()
    number = await state.account(identity, account, "imap")
    listed = [RemoteFolder(b"INBOX", ("INBOX",), FolderKind.INBOX)]
    listed += [RemoteFolder(f"Folder {n}".encode(), (f"Folder {n}",)) for n in range(1, folders)]
    for folder in await state.record_folders(number, listed):
        await state.set_directory(folder.number, f"{account}/{folder.name}")
    made = [
        await state.create_job(number, Strategy(), live=live, priority=2, requester=None, start=False, idempotency_key=None)
        for live in (True, False)
    ]
    await state.set_reconciled()
    await state.close()
    return made[0][0].id, made[1][0].id


def _items(items: int, folders: int, size: int, now: int) -> Iterator[Row]:
    """Page by page, every second one of the first folder."""
    for number in range(1, items + 1):
        page, place = divmod(number - 1, size)
        folder = 1 if page % 2 == 0 or folders == 1 else 2 + page // 2 % (folders - 1)
        status = "failed" if place == 0 else "pending" if place < 50 else "completed"
        stored, failed = status == "completed", status == "failed"
        yield (
            number,
            folder,
            EPOCH,
            f"{EPOCH}.{number}",
            number,
            status,
            2000 + number % 20_000,
            now - (items - number) * 60_000,
            f"{number * 0x9E3779B97F4A7C15 % 2**256:064x}" if stored else None,
            f"directory/{folder}/cur/{now // 1000}.U{number}V{EPOCH}H{number:032x}.haul,S=4000" if stored else None,
            "rejected" if failed else None,
            "The server refused to give it: NO [SERVERBUG] Internal error occurred." if failed else None,
            now if failed else None,
            3 if failed else 0,
            now - DAY_MS,
            now,
            now if stored else None,
        )


def _events(events: int, items: int, job: str, now: int) -> Iterator[Row]:
    for number in range(1, events + 1):
        first = number * 20 % items
        data = json.dumps({"count": 200, "bytes": 2_000_000, "items": list(range(first, first + 20))}, separators=(",", ":"))
        yield now - (events - number) * 1000, job if number % 2 else None, "INBOX", data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--identity", default="imap://nobody@127.0.0.1", help="of the account (default %(default)s)")
    parser.add_argument("--account", default="a", help="its name in the configuration (default %(default)s)")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--folders", type=int, default=20)
    parser.add_argument("--events", type=int, default=300_000)
    options = parser.parse_args()
    began = time.monotonic()
    jobs = make(
        options.file,
        options.identity,
        options.account,
        items=options.items,
        folders=options.folders,
        events=options.events,
    )
    print(f"{options.file.stat().st_size / 1e6:.0f} MB in {time.monotonic() - began:.1f} s; jobs {' and '.join(jobs)}")


if __name__ == "__main__":
    main()
