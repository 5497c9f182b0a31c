"""Which items a folder has already, so that storing one again gives one file and not two.

Another program may have given the file of an item other flags, so its name cannot be told from the item. Looking through the
folder for each group would make a bulk import slow; so it is looked through once, before the first group, and what is
committed later is remembered: as hashes, eight bytes for each item in the long run.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable
from itertools import chain

RECENT = 10_000
"""So many are remembered in a form that grows quickly, before they are merged with the rest."""


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
    """A set of hashes: many in a sorted array, and the recent ones."""

    def __init__(self, hashes: Iterable[int]) -> None:
        self._many = array("q", sorted(hashes))
        self._recent: set[int] = set()

    def __contains__(self, hashed: int) -> bool:
        place = bisect_left(self._many, hashed)
        return (place < len(self._many) and self._many[place] == hashed) or hashed in self._recent

    def add(self, hashes: Iterable[int]) -> None:
        self._recent.update(hashes)
        if len(self._recent) > max(RECENT, len(self._many) // 4):
            self._many = array("q", sorted(chain(self._many, self._recent)))
            self._recent = set()
