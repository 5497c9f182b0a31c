"""Which items a folder has already, so that storing one again gives one file and not two.

Another program may have given the file of an item other flags, so its name cannot be told from the item. Looking through the
folder for each group would make a bulk import slow; so it is looked through once, before the first group, and what is
committed later is remembered: as hashes, eight bytes for each item.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable

LENGTH = 1024
"""Hashes that an array has on average, at most: to find one takes ten steps, to put one between the others moves some KiB."""


class Repeats:
    """What folders hold. ``list_folder`` tells the paths (as ``Placed.path``) of one directory. Called from any thread.

    What is in a directory is seen by every look at it that begins later, and added to what is remembered of it by then: so
    nothing is missed, whoever else is storing there.
    """

    def __init__(self, list_folder: Callable[[str], Iterable[str]]) -> None:
        self._list_folder = list_folder
        self._held: dict[str, _Folder] = {}

    def among(self, directory: str, paths: Collection[str]) -> set[str]:
        """Those of the paths that the directory has, and now and then one that it has not."""
        folder = self._held.setdefault(directory, _Folder())
        with folder.turn:
            if folder.hashes is None:
                folder.hashes = _Hashes(map(hash, self._list_folder(directory)))
            return {path for path in paths if hash(path) in folder.hashes}

    def add(self, directory: str, paths: Iterable[str]) -> set[str]:
        """They are there now, after ``among`` was asked about them. Those that were there already: another group may have
        brought them meanwhile."""
        folder = self._held.setdefault(directory, _Folder())
        with folder.turn:
            if folder.hashes is None:
                return set()
            return {path for path in paths if not folder.hashes.add(hash(path))}

    def forget(self, directory: str | None = None) -> None:
        """What is remembered of a directory, or of all, may be wrong: look again before the next group."""
        if directory is None:
            self._held.clear()
        else:
            self._held.pop(directory, None)


class _Folder:
    """What is remembered of one directory; None before it was looked through."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.hashes: _Hashes | None = None


class _Hashes:
    """A set of hashes in sorted arrays, chosen by their last bits. Only the eight bytes of each are held, where a set would
    hold 60, and adding one moves no more than an array. When they get long there are twice as many."""

    def __init__(self, hashes: Iterable[int]) -> None:
        self._arrays = [array("q")]
        self._count = 0
        for hashed in hashes:
            self.add(hashed)

    def __contains__(self, hashed: int) -> bool:
        found = self._arrays[hashed & (len(self._arrays) - 1)]
        place = bisect_left(found, hashed)
        return place < len(found) and found[place] == hashed

    def add(self, hashed: int) -> bool:
        """Whether it is new."""
        found = self._arrays[hashed & (len(self._arrays) - 1)]
        place = bisect_left(found, hashed)
        if place < len(found) and found[place] == hashed:
            return False
        found.insert(place, hashed)
        self._count += 1
        if self._count > LENGTH * len(self._arrays):
            self._spread()
        return True

    def _spread(self) -> None:
        """Each array becomes two, by one bit more."""
        bit = len(self._arrays)
        self._arrays = [
            array("q", [hashed for hashed in found if bool(hashed & bit) is upper])
            for upper in (False, True)
            for found in self._arrays
        ]
