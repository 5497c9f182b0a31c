"""How much of its file system a store may take: ``keep_free`` is a promise to all others who write there.

Whoever is about to write holds the room for it first, and lets it go when what was written is counted by the file system. So
two who look at the same moment do not both take what there is for one.

What is reckoned is what files take, not what they hold: whole blocks, and their names in directories that grow. Not reckoned is
what recovery writes anew, because as much as that goes soon after.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hauld.errors import Transient
from hauld.stores.durable import Disk

FILES_KEPT_FREE = 64
"""Inodes that stay free where bytes are kept free: the ledger and other programs need some, too."""

NAME = 512
"""Bytes that the names of a file take, that in the stage and the final one: an entry of ext4 has up to 263, and its directories
are half full after they were split."""

DIRECTORIES = 2
"""So many directories grow by a block for a single name: the stage, and that of the final names."""


class Room:
    """The file system of ``directory``, of which ``keep_free`` bytes stay free; 0 is for no care. From any thread."""

    def __init__(self, directory: str, disk: Disk, keep_free: int) -> None:
        self._directory = directory
        self._disk = disk
        self._keep_free = keep_free
        self._block = 1
        self._held = 0
        self._held_files = 0
        self._looking = threading.Lock()

    @contextmanager
    def held(self, sizes: Sequence[int]) -> Iterator[Held]:
        """There is room for files of so many bytes each while they are written; a directory counts as a file of one. Raises
        ``Transient`` (kind ``disk``) when less than is kept free would be left."""
        held = Held(self)
        if not self._keep_free:
            yield held
            return
        with self._looking:
            size = self._check(sizes)
            self._add(held, size, len(sizes))
        try:
            yield held
        finally:
            with self._looking:
                self._add(held, -held.size, -held.files)

    def check(self, sizes: Sequence[int]) -> None:
        """Raise as ``held`` would."""
        with self.held(sizes):
            pass

    def written(self, held: Held, size: int) -> None:
        """One of the files is there, with so many bytes."""
        if self._keep_free:
            with self._looking:
                self._add(held, -min(_whole(size, self._block), held.size), -1)

    def _add(self, held: Held, size: int, files: int) -> None:
        held.size += size
        held.files += files
        self._held += size
        self._held_files += files

    def _check(self, sizes: Sequence[int]) -> int:
        """How many bytes the files will take."""
        free, free_files, self._block = self._disk.free(self._directory)
        names = _whole(len(sizes) * NAME, self._block) + DIRECTORIES * self._block
        size = sum(_whole(size, self._block) for size in sizes) + names
        if free - self._held - size < self._keep_free:
            room = f"{_mebibytes(free)} are free there, and {_mebibytes(self._keep_free)} are kept free"
        elif free_files is not None and free_files - self._held_files - len(sizes) < FILES_KEPT_FREE:
            room = f"there is room for {free_files} more files there, and for {FILES_KEPT_FREE} it is kept"
        else:
            return size
        raise Transient(
            "disk",
            f"Cannot store {_mebibytes(sum(sizes))} more on the file system of {self._directory}: {room}.",
            hint="Free some space on that file system, or lower keep_free in [store]; work goes on by itself.",
        )


class Held:
    """Room that somebody has for what is not written yet: ``size`` bytes, ``files`` files."""

    def __init__(self, room: Room) -> None:
        self.size = 0
        self.files = 0
        self._room = room

    def written(self, size: int) -> None:
        """One of the files is there, with so many bytes: the file system counts it now."""
        self._room.written(self, size)


def _whole(size: int, block: int) -> int:
    """Bytes in whole blocks, one at least."""
    return max(1, -(-size // block)) * block


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"
