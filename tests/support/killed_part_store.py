"""A store whose process dies at every step while it takes one large item: ``python -m support.killed_part_store DIRECTORY``.

For each step a child of this process works in a tree of its own and is killed before that step; in every third, another one
goes on and is killed before its tenth step. ``rows.jsonl`` beside the tree stands for the ledger, as in ``killed_store``.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from itertools import count
from pathlib import Path

from hauld.model import Deposit, PartWriter
from hauld.stores.durable import Disk
from hauld.stores.maildir import MaildirStore
from support.disks import killing
from support.killed_store import INBOX, KilledDisk, in_child, record, recovered

ITEM = b"".join(b"line %d\r\n" % number for number in range(400))
PIECE = 500
MARK_EVERY = 1000


def store_in(tree: Path, disk: Disk | None = None) -> MaildirStore:
    store = MaildirStore(tree / "mail", disk=disk)
    store._tree.spool.mark_every = MARK_EVERY
    return store


def on_disk(tree: Path) -> int:
    """Bytes of the part, marked or not."""
    parts = (tree / "mail/.haul/stage").glob("part-*")
    return sum(path.stat().st_size for path in parts if path.suffix != ".mark")


async def resumed(store: MaildirStore) -> tuple[PartWriter, Deposit]:
    """The writer, and what its body is to be deposited as."""
    place = await store.prepare("id", "work", INBOX, None)
    writer = await store.sink(place, "7").resume("7.1", len(ITEM))
    assert writer is not None
    return writer, Deposit(place, "7", "7.1", None)  # type: ignore[arg-type]


async def write(writer: PartWriter, tree: Path) -> None:
    """The rest of the item, a piece at a time: each is on the disk before the next comes."""
    for start in range(writer.offset, len(ITEM), PIECE):
        writer.write(ITEM[start : start + PIECE])
        while on_disk(tree) < min(start + PIECE, len(ITEM)):
            await asyncio.sleep(0)


async def scenario(store: MaildirStore, tree: Path) -> None:
    """Recover, and take the item if it is missing."""
    await store.start()
    await recovered(store, tree)
    if not (tree / "rows.jsonl").exists() or not (tree / "rows.jsonl").read_bytes():
        writer, deposit = await resumed(store)
        await write(writer, tree)
        async with store.commit([Deposit(deposit.place, "7", "7.1", writer.finish())]) as placed:
            record(tree, placed)
    await store.close()


def main(directory: Path) -> None:
    for at in count(1):
        tree = directory / f"killed before step {at:03}"
        tree.mkdir()
        if in_child(lambda: scenario(store_in(tree, KilledDisk(killing(at))), tree)):  # noqa: B023
            shutil.rmtree(tree)
            break
        if at % 3 == 0:
            in_child(lambda: scenario(store_in(tree, KilledDisk(killing(10))), tree))  # noqa: B023


if __name__ == "__main__":
    main(Path(sys.argv[1]))
