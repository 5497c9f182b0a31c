"""What to fetch next: folders in their order, newest blocks first, then singly what an answer left out, and last of all what
connections broke at.

A plan covers one pass over what a job still wants. It never remembers where it stood from one pass to the next: what is
missing is always asked of the ledger, so nothing that failed once can stay behind a high-water mark.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hauld.engine.suspects import Suspects
from hauld.model import Folder, PendingItem
from hauld.state.base import State

ROWS = 2000
"""Rows read from the ledger at a time."""

UNKNOWN_SIZE = 64 * 1024
"""Bytes reckoned for an item whose size the origin did not say."""


@dataclass(frozen=True)
class Batch:
    """Items of one folder to fetch together, by ordinal ascending. They were read when so many claims had been released
    (``Claims``), where that is known."""

    folder: Folder
    items: tuple[PendingItem, ...]
    releases: int | None = None


def reckoned(item: PendingItem) -> int:
    """Bytes to expect of an item, at least one."""
    return max(1, UNKNOWN_SIZE if item.size is None else item.size)


class _Doubted(NamedTuple):
    """A suspect that waits. Those in the largest company go first, and of those that are asked for alone the ones that were
    asked for least: what can be had is not kept waiting by what cannot."""

    others: int
    asked: int
    place: int
    folder: Folder
    item: PendingItem


class Plan:
    """Hands out batches, each item that was pending once; safe to ask from several workers at once. The ``suspects`` among them
    are held back until nothing else is to be handed out."""

    def __init__(
        self,
        state: State,
        job: int,
        folders: Sequence[Folder],
        suspects: Suspects,
        *,
        batch_items: int,
        batch_bytes: int,
    ) -> None:
        self._suspects = suspects
        self._state = state
        self._job = job
        self._folders = deque(folders)
        self._batch_items = batch_items
        self._batch_bytes = batch_bytes
        self._rows: deque[PendingItem] = deque()
        self._below: int | None = None
        self._singles: deque[Batch] = deque()
        self._doubted: list[_Doubted] = []
        self._places = itertools.count()
        self._turn = asyncio.Lock()

    async def next(self) -> Batch | None:
        """The next batch, or None when this pass has nothing more to hand out."""
        async with self._turn:
            while self._folders:
                if self._rows:
                    return Batch(self._folders[0], self._cut())
                await self._read()
            if self._singles:
                return self._singles.popleft()
            return self._cut_doubted() if self._doubted else None

    def again(self, folder: Folder, item: PendingItem) -> None:
        """Ask for that item once more in this pass, alone."""
        self._singles.append(Batch(folder, (item,)))

    def again_last(self, folder: Folder, items: Iterable[PendingItem]) -> None:
        """Ask for these suspects when nothing else is left, in the company that they may have."""
        for item in items:
            company = self._suspects.company(item.number) or 1
            heapq.heappush(self._doubted, _Doubted(-company, item.retry_count, next(self._places), folder, item))

    def drop(self, folder: Folder) -> None:
        """Hand out nothing more of that folder in this pass."""
        if self._folders and self._folders[0].number == folder.number:
            self._next_folder()
        else:
            self._folders = deque(other for other in self._folders if other.number != folder.number)
        self._singles = deque(batch for batch in self._singles if batch.folder.number != folder.number)
        self._doubted = [each for each in self._doubted if each.folder.number != folder.number]
        heapq.heapify(self._doubted)

    def _next_folder(self) -> None:
        self._folders.popleft()
        self._rows.clear()
        self._below = None

    async def _read(self) -> None:
        """More rows of the folder at hand; where it has no more, the next one is at hand."""
        folder = self._folders[0]
        rows = await self._state.pending(self._job, folder.number, below=self._below, limit=ROWS)
        if not self._folders or self._folders[0] is not folder:
            return  # it was dropped meanwhile
        if rows:
            self._rows.extend(self._hold_back(folder, rows) if self._suspects else rows)
            self._below = rows[-1].ordinal
        else:
            self._next_folder()

    def _hold_back(self, folder: Folder, rows: Sequence[PendingItem]) -> list[PendingItem]:
        """The rows without the suspects."""
        suspected = [item for item in rows if self._suspects.company(item.number) is not None]
        self.again_last(folder, suspected)
        return [item for item in rows if self._suspects.company(item.number) is None]

    def _cut_doubted(self) -> Batch:
        first = heapq.heappop(self._doubted)
        items = [first.item]
        size = reckoned(first.item)
        while self._doubted and len(items) < -first.others:
            following = self._doubted[0]
            size += reckoned(following.item)
            if following.others != first.others or following.folder.number != first.folder.number or size > self._batch_bytes:
                break
            items.append(heapq.heappop(self._doubted).item)
        return Batch(first.folder, tuple(sorted(items, key=lambda item: item.ordinal)))

    def _cut(self) -> tuple[PendingItem, ...]:
        items: list[PendingItem] = []
        size = 0
        while self._rows and len(items) < self._batch_items:
            size += reckoned(self._rows[0])
            if items and size > self._batch_bytes:
                break
            items.append(self._rows.popleft())
        return tuple(reversed(items))
