"""A content-addressed store whose process dies at every step in turn: ``python -m support.killed_eml_store DIRECTORY HOW``.

The scenario, and what is left for the test to look at, are those of ``killed_store``.
"""

from __future__ import annotations

import shutil
import sys
from itertools import count
from pathlib import Path
from typing import Any

from hauld.stores.eml import EmlStore
from support.disks import UnsyncedDisk, WatchedDisk, killing
from support.killed_store import MEMORY_LIMIT, crashed_commit, in_child, only_recovery, scenario


class WatchedUnsyncedDisk(WatchedDisk, UnsyncedDisk):
    """Watched, and never waiting."""


def store_in(tree: Path, compression: Any, disk: WatchedUnsyncedDisk) -> EmlStore:
    return EmlStore(tree / "mail", compression=compression, memory_limit=MEMORY_LIMIT, disk=disk)


def main(directory: Path, compression: str) -> None:
    for at in count(1):
        tree = directory / f"killed before step {at:03}"
        tree.mkdir()
        disk = WatchedUnsyncedDisk(killing(at), whole=at % 2 == 0)
        if in_child(lambda: scenario(store_in(tree, compression, disk), tree)):  # noqa: B023
            shutil.rmtree(tree)
            break
    tree = directory / "killed again and again while it recovered"
    tree.mkdir()
    in_child(lambda: crashed_commit(store_in(tree, compression, WatchedUnsyncedDisk()), tree))
    for at in count(1):
        disk = WatchedUnsyncedDisk(killing(at))
        if in_child(lambda: only_recovery(store_in(tree, compression, disk), tree)):  # noqa: B023
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
