"""Which items of an account are somebody's to fetch just now, so that two never fetch one.

A claim alone does not say that an item is still to be had: what was read of the ledger before the claim may be out of date.
Whoever has claimed asks again, unless nothing was released since he read; what is pending then stays so until he lets go of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Set


class Claims:
    """The claims of one account, by item number. ``releases`` is how often some were released."""

    def __init__(self) -> None:
        self.releases = 0
        self._held: set[int] = set()
        self._released = asyncio.Event()

    def take(self, items: Iterable[int]) -> set[int]:
        """Those of the items that were nobody's. They are the caller's until he releases them."""
        free = set(items) - self._held
        self._held |= free
        return free

    def release(self, items: Set[int]) -> None:
        """These are nobody's again."""
        if items:
            self.releases += 1
            self._held -= items
            self._released.set()

    async def until_free(self, items: Set[int]) -> None:
        """Wait until one of these, at least, is nobody's."""
        while self._held >= items:
            self._released.clear()
            await self._released.wait()
