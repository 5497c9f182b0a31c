"""Which items a folder has already, so that storing one again gives one file and not two.

Another program may have given the file of an item other flags, so its name cannot be told from the item. Looking through the
folder for each group would make a bulk import slow; so it is looked through once, before the first group, and what is
committed later is remembered: as hashes, eight bytes for each item.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable

LENGTH = 1024
"""Hashes that an array has on average, at most: to find one takes ten steps, to put one between the others moves some KiB."""


class Repeats:
    """What folders hold. ``list_folder`` tells the paths (as ``Placed.path``) of one directory. Called from one thread at a
    time, but for ``forget``."""

    def __init__(self, list_folder: Callable[[str], Iterable[str]]) -> None:
        self._list_folder = list_folder
        self._held: dict[str, _Hashes] = {}

    def among(self, directory: str, paths: Collection[str]) -> set[str]:
        """Those of the paths that the directory has, and now and then one that it has not."""
        held = self._held.get(directory)
        if held is None:
            held = self._held[directory] = _Hashes(map(hash, self._list_folder(directory)))
        return {path for path in paths if hash(path) in held}

    def add(self, directory: str, paths: Iterable[str]) -> None:
        """They are there now, after ``among`` was asked about them."""
        if held := self._held.get(directory):
            held.add(map(hash, paths))

    def forget(self, directory: str | None = None) -> None:
        """What is remembered of a directory, or of all, may be wrong: look again before the next group."""
        if directory is None:
            self._held.clear()
        else:
            self._held.pop(directory, None)


class _Hashes:
    """A set of hashes in sorted arrays, chosen by their last bits. Only the eight bytes of each are held, where a set would
    hold 60, and adding one moves no more than an array. When they get long there are twice as many."""

    def __init__(self, hashes: Iterable[int]) -> None:
        self._arrays = [array("q")]
        self._count = 0
        self.add(hashes)

    def __contains__(self, hashed: int) -> bool:
        found = self._arrays[hashed & (len(self._arrays) - 1)]
        place = bisect_left(found, hashed)
        return place < len(found) and found[place] == hashed

    def add(self, hashes: Iterable[int]) -> None:
        for hashed in hashes:
            found = self._arrays[hashed & (len(self._arrays) - 1)]
            place = bisect_left(found, hashed)
            if place < len(found) and found[place] == hashed:
                continue
            found.insert(place, hashed)
            self._count += 1
            if self._count > LENGTH * len(self._arrays):
                self._spread()

    def _spread(self) -> None:
        """Each array becomes two, by one bit more."""
        bit = len(self._arrays)
        self._arrays = [
            array("q", [hashed for hashed in found if bool(hashed & bit) is upper])
            for upper in (False, True)
            for found in self._arrays
        ]
