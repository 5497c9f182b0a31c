"""Which store wrote a tree: each has a layout of its own, and none may write into another's."""

from __future__ import annotations

import os

from haulapi.faults import Exit
from hauld.errors import Fatal
from hauld.stores.durable import Disk

MARK = ".haul/format"
"""Below the root: one line, the format's name in [store]."""

LONGEST_MARK = 64

_ACCOUNT_SIDECAR = ".haul-account"  # what trees have that were written before there was a mark: those of Maildirs


def claim(root: str, name: str, disk: Disk, mode: int) -> None:
    """The tree is one of that format from now on. Raises ``Fatal`` when it is another's."""
    found = format_of(root)
    if found not in (None, name):
        raise Fatal(
            "configuration",
            f"The store in {root} was written with format = {found!r}, and [store] says {name!r}.",
            hint="Write the old format there again, or give the new one a path that is empty (and a state of its own).",
            exit_code=Exit.CONFIGURATION,
        )
    path = f"{root}/{MARK}"
    if os.path.lexists(path):
        return
    disk.unlink(f"{path}.new")
    disk.write(f"{path}.new", name.encode("ascii") + b"\n", mode)
    disk.sync_file(f"{path}.new")
    disk.rename(f"{path}.new", path)
    disk.sync_directory(os.path.dirname(path))


def format_of(root: str) -> str | None:
    """The format of the tree; None where there is none yet."""
    try:
        with open(f"{root}/{MARK}", "rb") as mark:
            return mark.read(LONGEST_MARK).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return "maildir" if _has_accounts(root) else None


def _has_accounts(root: str) -> bool:
    with os.scandir(root) as entries:
        return any(os.path.lexists(f"{entry.path}/{_ACCOUNT_SIDECAR}") for entry in entries if entry.is_dir())
