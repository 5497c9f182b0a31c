"""What is urgent is stored beside what is not, whatever step that is at, and whatever happens then."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from contracts.store import IDENTITY, INBOX, items_in, staged, stored
from hauld.errors import Transient
from hauld.model import Deposit, RemoteFolder
from hauld.stores.durable import Disk
from hauld.stores.eml import EmlStore
from hauld.stores.maildir import MaildirStore
from hauld.stores.tree import TreeStore
from support.disks import UnsyncedDisk, WatchedDisk, failing
from support.overtaking import OvertakenRecordingDisk, Overtaking
from support.power_loss import Model

WORK = RemoteFolder(b"Work", ("Work",))
BODIES = {f"7.{uid}": b"Subject: %d\r\n\r\n" % uid * (400 if uid == 3 else uid) for uid in range(1, 9)}
BULK, URGENT = list(BODIES)[:6], list(BODIES)[6:]

Make = Callable[[Path, Disk], TreeStore]
STORES: list[Make] = [
    lambda root, disk: MaildirStore(root, memory_limit=1000, disk=disk),
    lambda root, disk: EmlStore(root, memory_limit=1000, disk=disk),
]
both = pytest.mark.parametrize("make", STORES, ids=["maildir", "eml"])


class WatchedUnsyncedDisk(WatchedDisk, UnsyncedDisk):
    """Watched, and never waiting."""


class SyncingDisk(UnsyncedDisk):
    """One that takes long to sync a whole file system: until ``go_on`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.syncing = threading.Event()
        self.go_on = threading.Event()

    def can_sync_file_system(self, path: str) -> bool:
        return True

    def sync_file_system(self, descriptor: int) -> None:
        self.syncing.set()
        assert self.go_on.wait(30)


async def bulk_of(store: TreeStore) -> list[Deposit]:
    """Items of two folders, a large one among them."""
    inbox = await store.prepare(IDENTITY, "work", INBOX, None)
    work = await store.prepare(IDENTITY, "work", WORK, None)
    return [staged(store, work if number % 2 else inbox, key, BODIES[key]) for number, key in enumerate(BULK)]


async def news_of(store: TreeStore) -> list[Deposit]:
    inbox = await store.prepare(IDENTITY, "work", INBOX, None)
    return [staged(store, inbox, key, BODIES[key]) for key in URGENT]


@both
async def test_an_urgent_group_waits_neither_for_another_nor_for_what_that_has_written(tmp_path: Path, make: Make) -> None:
    disk = SyncingDisk()
    store = make(tmp_path / "mail", disk)
    await store.start()
    bulk = asyncio.create_task(stored(store, *await bulk_of(store)))
    assert await asyncio.to_thread(disk.syncing.wait, 30)
    async with asyncio.timeout(30), store.commit(await news_of(store), urgent=True) as placed:
        assert [item.key for item in placed] == URGENT
    assert not bulk.done()
    recovery = asyncio.create_task(store.recover())
    disk.go_on.set()
    assert [item.key for item in await bulk] == BULK
    found = [item.key for item in await recovery]
    assert found in ([], BULK), "a recovery waits until what is being made durable is, and may come before its rows"
    assert sorted(item.key for item in items_in(store)) == sorted(BODIES)
    await store.close()


@both
async def test_an_urgent_group_may_come_at_any_step_of_another(tmp_path: Path, make: Make) -> None:
    for at in count(1):
        disk = WatchedUnsyncedDisk()
        store = make(tmp_path / f"{at:03}", disk)
        await store.start()
        bulk, news = await bulk_of(store), await news_of(store)

        async def overtake(store: TreeStore = store, news: list[Deposit] = news) -> None:
            async with store.commit(news, urgent=True):
                pass

        disk.before = overtaking = Overtaking(at, overtake)
        placed = await stored(store, *bulk)
        if not overtaking.done:
            await store.close()
            break
        assert [await store.read(item.path) for item in placed] == [BODIES[key] for key in BULK]
        assert sorted(item.key for item in items_in(store)) == sorted(BODIES)
        assert list(await store.recover()) == []
        assert os.listdir(tmp_path / f"{at:03}/.haul/stage") == []
        await store.close()
    assert at > 15


@both
async def test_an_item_that_is_stored_by_both_is_stored_once(tmp_path: Path, make: Make) -> None:
    for at in count(1):
        disk = WatchedUnsyncedDisk()
        store = make(tmp_path / f"{at:03}", disk)
        await store.start()
        inbox = await store.prepare(IDENTITY, "work", INBOX, None)
        same = [staged(store, inbox, "7.1", b"one", flags=flags) for flags in ([], ["\\Seen"])]

        async def overtake(store: TreeStore = store, deposit: Deposit = same[1]) -> None:
            async with store.commit([deposit], urgent=True):
                pass

        disk.before = overtaking = Overtaking(at, overtake)
        [placed] = await stored(store, same[0])
        if not overtaking.done:
            await store.close()
            break
        assert await store.read(placed.path) == b"one"
        assert [item.path for item in items_in(store)] == [placed.path]
        await store.close()
    assert at > 5


@both
async def test_L7_an_urgent_group_that_cannot_be_synced_leaves_nothing_and_harms_no_other(tmp_path: Path, make: Make) -> None:
    disk = WatchedUnsyncedDisk()
    store = make(tmp_path / "mail", disk)
    await store.start()
    inbox = await store.prepare(IDENTITY, "work", INBOX, None)
    bulk, news = [staged(store, inbox, key, b"small") for key in BULK], await news_of(store)
    refused = []

    async def overtake() -> None:
        disk.before = failing("sync_file", 5, within="/stage/")
        try:
            async with store.commit(news, urgent=True):
                pass
        except Transient as error:
            refused.append(error.kind)

    disk.before = Overtaking(1, overtake)
    assert len(await stored(store, *bulk)) == len(BULK)
    assert refused == ["disk"]
    assert sorted(item.key for item in items_in(store)) == sorted(BULK)
    assert list(await store.recover()) == []
    assert len(await stored(store, *await news_of(store))) == len(URGENT)
    await store.close()


@pytest.mark.parametrize(
    ("make", "step", "at"),
    [(STORES[0], "rename", 3), (STORES[0], "sync_file", 2), (STORES[1], "rename", 3)],
    ids=["maildir", "maildir, file by file", "eml"],
)
async def test_L17_after_a_power_cut_amid_both_every_row_has_its_bytes(tmp_path: Path, make: Make, step: str, at: int) -> None:
    disk = OvertakenRecordingDisk(whole=step != "sync_file")
    store = make(tmp_path / "mail", disk)
    await store.start()
    disk.done.clear()
    bulk, news = await bulk_of(store), await news_of(store)

    async def overtake() -> None:
        async with store.commit(news, urgent=True) as placed:
            disk.done.append(("commit", placed))

    disk.before = overtaking = Overtaking(at, overtake, of=[step])
    async with store.commit(bulk) as placed:
        disk.done.append(("commit", placed))
    assert overtaking.done
    await store.close()

    model = Model(tmp_path / "mail")
    for number, (name, *arguments) in enumerate(disk.done):
        getattr(model, name)(*arguments)
        root = tmp_path / f"{number:03}"
        model.after_power_loss(root, most=number % 2 == 0)
        found = make(root, UnsyncedDisk())
        await found.start()
        known = {item.key: item for item in (*model.rows, *await found.recover())}
        for key, item in known.items():
            assert await found.read(item.path) == BODIES[key]
        await found.settle()
        assert os.listdir(root / ".haul/stage") == []
        await found.close()
    assert {item.key for item in model.rows} == BODIES.keys()
