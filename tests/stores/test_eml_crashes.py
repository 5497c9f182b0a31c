"""Whatever step it dies at, and whenever the power goes, a content-addressed store loses nothing that has a row."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.store import IDENTITY, INBOX, staged, stored
from hauld.stores.eml import Compression, EmlStore
from support.disks import UnsyncedDisk
from support.killed_store import ITEMS, fetched, known, recovered
from support.power_loss import ARCHIVE, BODIES, Model, RecordingDisk, group_of
from support.unmeasured import unmeasured


async def all_is_well(tree: Path, compression: Compression) -> None:
    """A new process finds every item once, with its bytes, after fetching only what has no row."""
    store = EmlStore(tree / "mail", compression=compression, disk=UnsyncedDisk())
    await store.start()
    await recovered(store, tree)
    rows = known(tree)
    await fetched(store, tree, sorted(ITEMS.keys() - rows.keys()))
    assert {key: await store.read(path) for key, path in known(tree).items()} == ITEMS
    found = [item for place in store.places() for item in store.look(place)]
    assert sorted(item.placed.key for item in found if item.placed) == sorted(ITEMS)
    assert {(item.date, item.flags) for item in found} == {(1_700_000_000_000, ("\\Seen",))}
    assert list(store.strays()) == []
    assert list(await store.recover()) == []
    assert os.listdir(tree / "mail/.haul/stage") == []
    await store.close()


@pytest.mark.parametrize("compression", ["none", "zstd"])
async def test_L1_L4_killed_at_every_step_nothing_is_lost_twice_or_torn(tmp_path: Path, compression: Compression) -> None:
    subprocess.run(
        [sys.executable, "-m", "support.killed_eml_store", tmp_path, compression],
        env=unmeasured(PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
        check=True,
        timeout=300,
    )
    trees = sorted(tmp_path.iterdir())
    assert len(trees) > 60
    for tree in trees:
        await all_is_well(tree, compression)


class UnsyncedRecordingDisk(RecordingDisk, UnsyncedDisk):
    """Writes down what was to be synced, and does not wait for it."""


@pytest.mark.parametrize(
    ("whole", "compression"), [(True, "zstd"), (False, "none")], ids=["syncfs, zstd", "file by file, plain"]
)
async def test_L17_after_a_power_cut_at_any_moment_every_row_has_its_bytes(
    tmp_path: Path, whole: bool, compression: Compression
) -> None:
    disk = UnsyncedRecordingDisk(whole)
    keys = list(BODIES)
    store = EmlStore(tmp_path / "mail", compression=compression, memory_limit=1000, disk=disk)
    await store.start()
    disk.done.clear()
    groups = [await group_of(store, keys[:5], keys[5:9]), await group_of(store, keys[9:10], keys[10:])]
    async with store.commit(groups[0]) as placed:
        await store.write(groups[1])
        disk.done.append(("commit", placed))
    async with store.commit(groups[1]) as placed:
        disk.done.append(("commit", placed))
    await store.close()

    model = Model(tmp_path / "mail")
    told = 0
    for number, (name, *arguments) in enumerate(disk.done):
        getattr(model, name)(*arguments)
        for most in (True, False):
            root = tmp_path / f"{number:03} {most}"
            model.after_power_loss(root, most=most)
            found = EmlStore(root, disk=UnsyncedDisk())
            await found.start()
            known = {item.key: item for item in (*model.rows, *await found.recover())}
            for key, item in known.items():
                assert await found.read(item.path) == BODIES[key]
            assert_the_tree_tells(found, known.keys())
            told += len(known)
            for folder, items in ((INBOX, keys[:5] + keys[9:10]), (ARCHIVE, keys[5:9] + keys[10:])):
                place = await found.prepare(IDENTITY, "work", folder, None)
                await stored(found, *(staged(found, place, key, BODIES[key]) for key in items if key not in known))
            assert_the_tree_tells(found, keys)
            await found.close()
    assert told > 0


def assert_the_tree_tells(store: EmlStore, keys: object) -> None:
    """Without a ledger, these items at least could be had back."""
    told = [item.placed.key for place in store.places() for item in store.look(place) if item.placed]
    assert len(told) == len(set(told))
    assert set(told) >= set(keys)  # type: ignore[call-overload]
