"""A model of what a power cut leaves, for stores in the test's own process.

A store works on ``RecordingDisk``, which writes down what it did; ``moments`` gives what is sure to last after each step, and
``Model.after_power_loss`` builds the tree that is found then. What a whole daemon does is tried in ``crash/power.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.store import IDENTITY, INBOX, staged
from hauld.model import Buffer, Deposit, Placed, RemoteFolder
from hauld.stores.base import Store
from hauld.stores.durable import Disk

ARCHIVE = RemoteFolder(b"Archive", ("Archive", "2024"))
BODIES = {f"7.{uid}": b"Subject: %d\r\n\r\n" % uid * (400 if uid == 3 else uid) for uid in range(1, 12)}

Step = tuple[Any, ...]


class RecordingDisk(Disk):
    """A real disk that writes down what was done to it."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.done: list[Step] = []
        self._whole = whole

    def can_sync_file_system(self, path: str) -> bool:
        return self._whole

    def create(self, path: str, mode: int) -> int:
        descriptor = super().create(path, mode)
        self.done.append(("create", path, descriptor))
        return descriptor

    def reopen(self, path: str, length: int) -> int:
        descriptor = super().reopen(path, length)
        self.done.append(("reopen", path, length, descriptor))
        return descriptor

    def append(self, descriptor: int, data: Buffer) -> None:
        super().append(descriptor, data)
        self.done.append(("append", descriptor, bytes(data)))

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self.done.append(("rename", source, target))

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self.done.append(("unlink", path))

    def make_directory(self, path: str, mode: int, group: int | None) -> None:
        super().make_directory(path, mode, group)
        self.done.append(("make_directory", path))

    def sync_file(self, path: str, descriptor: int | None = None) -> None:
        super().sync_file(path, descriptor)
        self.done.append(("sync_file", path))

    def sync_directory(self, path: str) -> None:
        super().sync_directory(path)
        self.done.append(("sync_directory", path))

    def sync_file_system(self, descriptor: int) -> None:
        super().sync_file_system(descriptor)
        self.done.append(("sync_file_system",))


@dataclass(eq=False)
class Thing:
    """A file or a directory: what was written, and what of it is sure to last."""

    written: bytes = b""
    lasting: bytes = b""
    is_directory: bool = False


class Model:
    """A file system as strict as POSIX allows: nothing lasts but what was synced, bytes and names each on their own."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        made = (self._root, f"{self._root}/.haul", f"{self._root}/.haul/stage")
        self.names = {path: Thing(is_directory=True) for path in made}
        self.lasting = dict(self.names)
        self.open: dict[int, Thing] = {}
        self.rows: list[Placed] = []

    def create(self, path: str, descriptor: int) -> None:
        self.names[path] = self.open[descriptor] = Thing()

    def reopen(self, path: str, length: int, descriptor: int) -> None:
        self.open[descriptor] = self.names[path]
        self.names[path].written = self.names[path].written[:length]

    def append(self, descriptor: int, data: bytes) -> None:
        self.open[descriptor].written += data

    def rename(self, source: str, target: str) -> None:
        self.names[target] = self.names.pop(source)

    def unlink(self, path: str) -> None:
        self.names.pop(path, None)

    def make_directory(self, path: str) -> None:
        self.names.setdefault(path, Thing(is_directory=True))

    def sync_file(self, path: str) -> None:
        self.names[path].lasting = self.names[path].written

    def sync_directory(self, path: str) -> None:
        self.lasting = {name: thing for name, thing in self.lasting.items() if os.path.dirname(name) != path}
        self.lasting |= {name: thing for name, thing in self.names.items() if os.path.dirname(name) == path}

    def sync_file_system(self) -> None:
        self.lasting = dict(self.names)
        for thing in self.names.values():
            thing.lasting = thing.written

    def commit(self, placed: Iterable[Placed]) -> None:
        self.rows += placed

    def after_power_loss(self, root: Path, *, most: bool) -> None:
        """Build the tree that is found: ``most`` has every name, and half of what was not synced."""
        found = self.names if most else self.lasting
        for name, thing in sorted(found.items()):
            path = root / os.path.relpath(name, self._root)
            if path.parent.is_dir() and thing.is_directory:
                path.mkdir()
            elif path.parent.is_dir():
                half = thing.written[len(thing.lasting) :][: (len(thing.written) - len(thing.lasting)) // 2]
                path.write_bytes(thing.lasting + half if most else thing.lasting)


def moments(steps: list[Step], root: Path) -> Iterator[tuple[int, Model]]:
    """The model after each step."""
    model = Model(root)
    for number, (name, *arguments) in enumerate(steps):
        getattr(model, name)(*arguments)
        yield number, model


async def group_of(store: Store, inbox_keys: list[str], archive_keys: list[str]) -> list[Deposit]:
    inbox = await store.prepare(IDENTITY, "work", INBOX, None)
    archive = await store.prepare(IDENTITY, "work", ARCHIVE, None)
    return [
        staged(store, place, key, BODIES[key]) for place, keys in ((inbox, inbox_keys), (archive, archive_keys)) for key in keys
    ]
