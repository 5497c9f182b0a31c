"""A store whose process dies at every step in turn: ``python -m support.killed_store DIRECTORY LAYOUT``.

For each step of ``scenario`` a child of this process works in a tree of its own and is killed before that step; what is
left is for the test to look at. ``rows.jsonl`` beside the tree stands for the ledger.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterable
from itertools import count
from pathlib import Path
from typing import Any

from hauld.model import Deposit, FolderKind, Place, Placed, RemoteFolder
from hauld.stores.maildir import MaildirStore
from support.disks import UnsyncedDisk, WatchedDisk, killing


class KilledDisk(WatchedDisk, UnsyncedDisk):
    """One at whose steps a process dies."""


INBOX = RemoteFolder(b"INBOX", ("INBOX",), FolderKind.INBOX)
OTHER = RemoteFolder(b"Other", ("Other",))
MEMORY_LIMIT = 1000

ITEMS = {f"7.{uid}": b"Subject: %d\r\n\r\n" % uid + b"x" * (5000 if uid % 4 == 0 else uid) for uid in range(1, 11)}
"""Every item of the origin, large ones among them: the even ones are in ``INBOX``, the others in ``Other``."""


def known(tree: Path) -> dict[str, str]:
    """The rows of the ledger: keys and paths."""
    try:
        lines = (tree / "rows.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(json.loads(line) for line in lines)


def record(tree: Path, placed: Iterable[Placed]) -> None:
    """One transaction of the ledger."""
    with (tree / "rows.jsonl").open("a") as rows:
        rows.write("".join(json.dumps([item.key, item.path]) + "\n" for item in placed))


async def recovered(store: MaildirStore, tree: Path) -> None:
    record(tree, await store.recover())
    await store.settle()


async def fetched(store: MaildirStore, tree: Path, keys: Iterable[str]) -> None:
    """These items, in one group and with their rows."""
    async with store.commit(await group_of(store, keys)) as placed:
        record(tree, placed)


async def group_of(store: MaildirStore, keys: Iterable[str]) -> list[Deposit]:
    inbox = await store.prepare("id", "work", INBOX, None)
    other = await store.prepare("id", "work", OTHER, None)
    return [_staged(store, inbox if int(key[2:]) % 2 == 0 else other, key) for key in keys]


async def scenario(store: MaildirStore, tree: Path) -> None:
    """Recover, and fetch what is missing in a large group, an urgent one that has its rows sooner, and a small one, which is
    written meanwhile."""
    await store.start()
    await recovered(store, tree)
    missing = sorted(ITEMS.keys() - known(tree).keys())
    groups = missing[:7], missing[7:8], missing[8:]
    large, urgent, small = [await group_of(store, keys) for keys in groups]
    async with store.commit(large) as placed:
        await store.write(small)
        async with store.commit(urgent, urgent=True) as overtaking:
            record(tree, overtaking)
        record(tree, placed)
    async with store.commit(small) as placed:
        record(tree, placed)
    await store.close()


async def crashed_commit(store: MaildirStore, tree: Path) -> None:
    """All items are durable, none has its row, and half of them only have their names in the stage."""
    await store.start()
    inbox = await store.prepare("id", "work", INBOX, None)
    async with store.commit([_staged(store, inbox, key) for key in ITEMS]):
        stage = tree / "mail/.haul/stage"
        manifest = json.loads(next(stage.glob("*.manifest")).read_bytes().splitlines()[0])
        for entry in manifest["entries"][::2]:
            os.rename(tree / "mail" / entry["target"], stage / entry["staged"])
        os._exit(0)


async def only_recovery(store: MaildirStore, tree: Path) -> None:
    await store.start()
    await recovered(store, tree)
    await store.close()


def _staged(store: MaildirStore, place: Place, key: str) -> Deposit:
    writer = store.open(key, len(ITEMS[key]))
    writer.write(ITEMS[key][:500])
    writer.write(ITEMS[key][500:])
    return Deposit(place, "7", key, writer.finish(), ("\\Seen",), 1_700_000_000_000)


def store_in(tree: Path, layout: Any, disk: WatchedDisk) -> MaildirStore:
    return MaildirStore(tree / "mail", layout=layout, memory_limit=MEMORY_LIMIT, disk=disk)


def in_child(work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Whether the work ended in order; False when it was killed."""
    child = os.fork()
    if child == 0:
        asyncio.run(work())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status not in (0, 9):
        raise RuntimeError(f"the store ended with status {status}")
    return status == 0


def main(directory: Path, layout: str) -> None:
    for at in count(1):
        tree = directory / f"killed before step {at:03}"
        tree.mkdir()
        disk = KilledDisk(killing(at), whole=at % 2 == 0)
        if in_child(lambda: scenario(store_in(tree, layout, disk), tree)):  # noqa: B023
            shutil.rmtree(tree)
            break
    tree = directory / "killed again and again while it recovered"
    tree.mkdir()
    in_child(lambda: crashed_commit(store_in(tree, layout, KilledDisk()), tree))
    for at in count(1):
        disk = KilledDisk(killing(at))
        if in_child(lambda: only_recovery(store_in(tree, layout, disk), tree)):  # noqa: B023
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
