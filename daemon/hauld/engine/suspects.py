"""What an origin broke the connection at: it is asked for last from then on, items in ever smaller company, until it is known
which of them it is.

One broken connection says nothing of what was asked for on it. One that breaks at the same item each time, asked for alone,
while the origin gives others, does. To forget a suspect is always allowed: the next break finds it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hauld.errors import Throttled, Transient
from hauld.retry import LOCAL

TOGETHER = 8
"""Items that a connection broke at are asked for again in portions, so many of them."""

MOST = 10_000
"""Items that are remembered; of more, those that were suspected last."""

BREAKS = 10
"""Connections that may break in one pass, or one comparison, before there is a rest."""

FOLDER_BREAKS = 3
"""Comparisons in a row in which a folder broke its listing, until it is taken for unreadable."""

INNOCENT = LOCAL | {"too-many-connections", "closed", "abandoned"}
"""Kinds of trouble that have nothing to do with what was asked for."""


def is_break(error: Transient) -> bool:
    """Whether that, on a session that was open, may be due to what was asked for."""
    return not isinstance(error, Throttled) and error.kind not in INNOCENT


@dataclass
class _Item:
    """``company`` is with how many others at most it may be asked for, itself counted."""

    company: int
    furthest: int = 0


@dataclass
class _Folder:
    breaks: int = 0
    furthest: int = 0


class Suspects:
    """Those of one account, by number. False when no item is suspected."""

    def __init__(self) -> None:
        self._items: dict[int, _Item] = {}
        self._folders: dict[int, _Folder] = {}

    def __bool__(self) -> bool:
        return bool(self._items)

    # --- items ---

    def company(self, item: int) -> int | None:
        """How many items may be asked for together, where this one is among them; None when it is not suspected."""
        known = self._items.get(item)
        return None if known is None else known.company

    def add(self, items: Collection[int]) -> None:
        """A connection broke when these had been asked for on it and had not come."""
        company = max(1, len(items) // TOGETHER)
        for item in items:
            self._items.setdefault(item, _Item(company)).company = company
        while len(self._items) > MOST:
            del self._items[next(iter(self._items))]

    def clear(self, items: Iterable[int]) -> None:
        """The origin answered when it was asked for these."""
        for item in items:
            self._items.pop(item, None)

    def got_further(self, item: int, reached: int) -> bool:
        """Whether more bytes of a suspect came, this time, than ever before."""
        known = self._items[item]
        before, known.furthest = known.furthest, max(known.furthest, reached)
        return reached > before

    # --- folders ---

    def breaks(self, folder: int) -> int:
        """In how many comparisons in a row the folder broke its listing."""
        known = self._folders.get(folder)
        return 0 if known is None else known.breaks

    def broke(self, folder: int, reached: int) -> None:
        """It did so once more, when so many items had been listed. To get further than ever before is no break: a large folder
        on a bad line does."""
        known = self._folders.setdefault(folder, _Folder())
        known.breaks += reached <= known.furthest
        known.furthest = max(known.furthest, reached)

    def listed(self, folder: int) -> None:
        """The folder was listed, whole."""
        self._folders.pop(folder, None)
