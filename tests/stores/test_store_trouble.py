"""Whatever call to the disk fails, once or for good: all of a group or nothing, an error in words, and work goes on after."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from contracts.store import IDENTITY, INBOX, items_in, staged, stored
from hauld.errors import HaulError, Transient
from hauld.model import Deposit, Placed, RemoteFolder
from hauld.stores.bodies import ended
from hauld.stores.eml import EmlStore
from hauld.stores.maildir import MaildirStore
from hauld.stores.manifest import decode
from support.disks import WatchedDisk

OTHER = RemoteFolder(b"Other", ("Other",))
LARGE = 5000
BODIES = {f"7.{uid}": b"%d" % uid * (LARGE if uid == 2 else 1) for uid in range(1, 7)}


class FailingDisk(WatchedDisk):
    """Fails at the step of a number, and at all later ones ``for_good``; reading and looking are no steps."""

    def __init__(self, error: int, *, for_good: bool, whole: bool) -> None:
        super().__init__(self._fail, whole=whole)
        self.error = error
        self.for_good = for_good
        self.at = 0
        self.failed = 0

    def arm(self, at: int) -> None:
        """Fail at the step of that number from now on; 0 is never."""
        self.steps.clear()
        self.at = at

    def _fail(self, number: int, _name: str, _arguments: tuple[Any, ...]) -> None:
        if self.at and (number >= self.at if self.for_good else number == self.at):
            self.failed += 1
            raise OSError(self.error, os.strerror(self.error))


EVERY_TROUBLE = pytest.mark.parametrize(
    ("error", "for_good"),
    [(errno.EROFS, True), (errno.EIO, False), (errno.EMFILE, False), (errno.EMFILE, True)],
    ids=["read-only for good", "EIO once", "EMFILE once", "EMFILE for good"],
)


async def deposits(store: MaildirStore) -> list[Deposit]:
    """Every item, in two folders and with a large one among them."""
    places = [await store.prepare(IDENTITY, "work", folder, None) for folder in (INBOX, OTHER)]
    return [staged(store, places[uid % 2], key, body) for uid, (key, body) in enumerate(BODIES.items())]


async def recovered(store: MaildirStore) -> Sequence[Placed]:
    placed = await store.recover()
    await store.settle()
    return placed


async def are_all_stored(store: MaildirStore) -> None:
    """Every item, once and with its bytes, and nothing that waits."""
    items = items_in(store)
    assert sorted(item.key for item in items) == sorted(BODIES)
    assert {item.key: await store.read(item.path) for item in items} == BODIES
    assert list(await store.recover()) == []
    assert os.listdir(f"{store._root}/.haul/stage") == []


async def worked(disk: FailingDisk, step: Awaitable[object]) -> bool:
    """Whether it did; else it said in words what was the matter. The disk is well afterwards."""
    try:
        await step
        return True
    except HaulError as raised:
        error = raised
    finally:
        disk.arm(0)
    assert error.kind in ("files" if disk.error == errno.EMFILE else "disk", "folder")
    assert os.strerror(disk.error) in error.message
    return False


@EVERY_TROUBLE
@pytest.mark.parametrize("ahead", [False, True], ids=["", "written ahead"])
async def test_L5_L6_L7_L8_a_commit_that_fails_at_any_step_is_whole_or_absent(
    tmp_path: Path, error: int, for_good: bool, ahead: bool
) -> None:
    for at in count(1):
        disk = FailingDisk(error, for_good=for_good, whole=at % 2 == 0)
        store = MaildirStore(tmp_path / str(at), memory_limit=1000, disk=disk)
        await store.start()
        group = await deposits(store)
        await ended([deposit.body for deposit in group])
        disk.arm(at)
        if ahead:
            await store.write(group)
        placed = items_in(store) if await worked(disk, stored(store, *group)) else await recovered(store)
        assert len(placed) in (0, len(BODIES))
        if not placed:
            await stored(store, *await deposits(store))
        await recovered(store)
        await are_all_stored(store)
        await store.close()
        if not disk.failed:
            break
    assert at > 15


@EVERY_TROUBLE
async def test_L4_L7_L8_a_recovery_that_fails_at_any_step_can_be_asked_again(
    tmp_path: Path, error: int, for_good: bool
) -> None:
    for at in count(1):
        disk = FailingDisk(error, for_good=for_good, whole=at % 2 == 0)
        store = MaildirStore(tmp_path / str(at), memory_limit=1000, disk=disk)
        await store.start()
        with pytest.raises(ZeroDivisionError):
            async with store.commit(await deposits(store)):
                raise ZeroDivisionError
        unland_half(tmp_path / str(at))
        disk.arm(at)
        await worked(disk, recovered(store))
        await recovered(store)
        await are_all_stored(store)
        await store.close()
        if not disk.failed:
            break
    assert at > 15


def unland_half(root: Path) -> None:
    """As if the daemon had died while the files got their final names."""
    stage = root / ".haul/stage"
    [manifest] = stage.glob("*.manifest")
    for entry in (decode(manifest.read_bytes()) or [])[::2]:
        (root / entry.target).rename(stage / entry.staged)


# --- low water ---


class SmallDisk(WatchedDisk):
    """Tells of as much room as it is given."""

    def __init__(self, free: int, files: int | None = None) -> None:
        super().__init__()
        self.room = free, files

    def free(self, path: str) -> tuple[int, int | None, int]:
        return *self.room, 4096


@pytest.mark.parametrize("size", [100, 300_000], ids=["in memory", "large"])
async def test_L5_what_would_leave_less_than_is_kept_free_is_not_stored(tmp_path: Path, size: int) -> None:
    disk = SmallDisk(65 << 20)
    store = MaildirStore(tmp_path / "mail", keep_free=64 << 20, disk=disk)
    await store.start()
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.room = (64 << 20, None)
    disk.steps.clear()
    deposit = staged(store, place, "7.1", b"x" * size)
    with pytest.raises(Transient, match=r"64\.0 MiB are free there, and 64\.0 MiB are kept free") as raised:
        await stored(store, deposit)
    assert raised.value.kind == "disk"
    assert "keep_free" in (raised.value.hint or "")
    assert not {"create", "append"} & set(disk.names())
    deposit.body.discard()
    disk.room = (65 << 20, None)
    await stored(store, staged(store, place, "7.1", b"x" * size))
    await store.close()


@pytest.mark.parametrize(("files", "stored_well"), [(66, True), (65, False), (0, False), (None, True)])
async def test_L5_some_inodes_are_kept_free_too(tmp_path: Path, files: int | None, stored_well: bool) -> None:
    disk = SmallDisk(1 << 30)
    store = MaildirStore(tmp_path / "mail", keep_free=1, disk=disk)
    await store.start()
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.room = (1 << 30, files)
    if stored_well:
        await stored(store, staged(store, place, "7.1", b"x"))
    else:
        with pytest.raises(Transient, match=rf"room for {files} more files"):
            await stored(store, staged(store, place, "7.1", b"x"))
    await store.close()


@pytest.mark.parametrize("kind", [MaildirStore, EmlStore])
async def test_L5_a_folder_is_not_made_from_what_is_kept_free(tmp_path: Path, kind: type[MaildirStore | EmlStore]) -> None:
    disk = SmallDisk(64 << 20)
    store = kind(tmp_path / "mail", keep_free=64 << 20, disk=disk)
    await store.start()
    disk.steps.clear()
    with pytest.raises(Transient, match="kept free"):
        await store.prepare(IDENTITY, "work", INBOX, None)
    assert not disk.steps
    disk.room = (65 << 20, None)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    disk.room = (64 << 20, None)
    assert await store.prepare(IDENTITY, "work", INBOX, place.directory) == place, "it is there"
    await store.close()


async def test_without_a_low_water_mark_the_disk_is_not_asked(tmp_path: Path) -> None:
    store = MaildirStore(tmp_path / "mail", disk=SmallDisk(0, 0))
    await store.start()
    await stored(store, staged(store, await store.prepare(IDENTITY, "work", INBOX, None), "7.1", b"x" * 300_000))
    await store.close()


async def test_a_group_refused_for_want_of_room_can_be_committed_later(tmp_path: Path) -> None:
    disk = SmallDisk(65 << 20)
    store = MaildirStore(tmp_path / "mail", keep_free=64 << 20, disk=disk)
    await store.start()
    group = [staged(store, await store.prepare(IDENTITY, "work", INBOX, None), "7.1", b"x" * 300_000)]
    await group[0].body.ended()
    disk.room = (0, None)
    with pytest.raises(Transient):
        await stored(store, *group)
    disk.room = (65 << 20, None)
    assert len(await stored(store, *group)) == 1
    await store.close()
