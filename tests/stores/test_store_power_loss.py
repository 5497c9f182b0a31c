"""Whenever the power goes, every row has its exact bytes.

For each moment a tree is built as a power cut could have left it: with only what was synced, or with every name but half of
the bytes that were not; and another store starts there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.store import IDENTITY, INBOX, items_in, staged, stored
from hauld.stores.maildir import MaildirStore
from support.disks import UnsyncedDisk
from support.power_loss import ARCHIVE, BODIES, RecordingDisk, group_of, moments


@pytest.mark.parametrize("whole", [True, False], ids=["syncfs", "file by file"])
async def test_L17_after_a_power_cut_at_any_moment_every_row_has_its_bytes(tmp_path: Path, whole: bool) -> None:
    disk = RecordingDisk(whole)
    keys = list(BODIES)
    store = MaildirStore(tmp_path / "mail", memory_limit=1000, disk=disk)
    await store.start()
    disk.done.clear()
    groups = [await group_of(store, keys[:5], keys[5:9]), await group_of(store, keys[9:10], keys[10:])]
    async with store.commit(groups[0]) as placed:
        await store.write(groups[1])
        disk.done.append(("commit", placed))
    async with store.commit(groups[1]) as placed:
        disk.done.append(("commit", placed))
    await store.close()
    assert sum(step[0] == "rename" for step in disk.done) >= len(keys)

    for number, model in moments(disk.done, tmp_path / "mail"):
        for most in (True, False):
            root = tmp_path / f"{number:03} {most}"
            model.after_power_loss(root, most=most)
            found = MaildirStore(root, disk=UnsyncedDisk())
            await found.start()
            known = {item.path: item for item in (*model.rows, *await found.recover())}
            for path, item in known.items():
                assert await found.read(path) == BODIES[item.key]
            for place, items in ((INBOX, keys[:5] + keys[9:10]), (ARCHIVE, keys[5:9] + keys[10:])):
                prepared = await found.prepare(IDENTITY, "work", place, None)
                missing = [key for key in items if key not in {item.key for item in known.values()}]
                await stored(found, *(staged(found, prepared, key, BODIES[key]) for key in missing))
            assert sorted(item.key for item in items_in(found)) == sorted(keys)
            await found.close()
