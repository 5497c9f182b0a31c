"""Whatever step it dies at, a store loses nothing that has a row, keeps nothing twice, and needs nobody's help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.store import items_in
from hauld.stores.maildir import MaildirStore
from support.disks import UnsyncedDisk
from support.killed_store import ITEMS, fetched, known, recovered
from support.unmeasured import unmeasured


async def all_is_well(tree: Path, layout: str) -> None:
    """A new process finds every item once, with its bytes, after fetching only what has no row."""
    store = MaildirStore(tree / "mail", layout=layout, disk=UnsyncedDisk())  # type: ignore[arg-type]
    await store.start()
    await recovered(store, tree)
    rows = known(tree)
    assert {item.path for item in items_in(store)} == set(rows.values())
    await fetched(store, tree, sorted(ITEMS.keys() - rows.keys()))
    assert {key: await store.read(path) for key, path in known(tree).items()} == ITEMS
    assert sorted(item.key for item in items_in(store)) == sorted(ITEMS)
    assert list(await store.recover()) == []
    assert os.listdir(tree / "mail/.haul/stage") == []
    await store.close()


@pytest.mark.parametrize("layout", ["nested", "maildir++"])
async def test_L1_L4_killed_at_every_step_nothing_is_lost_twice_or_torn(tmp_path: Path, layout: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "support.killed_store", tmp_path, layout],
        env=unmeasured(PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
        check=True,
        timeout=300,
    )
    trees = sorted(tmp_path.iterdir())
    assert len(trees) > 60
    for tree in trees:
        await all_is_well(tree, layout)
