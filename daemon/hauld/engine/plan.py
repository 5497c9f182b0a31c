"""What to fetch next: folders in their order, newest blocks first, and singly what an answer left out.

A plan covers one pass over what a job still wants. It never remembers where it stood from one pass to the next: what is
missing is always asked of the ledger, so nothing that failed once can stay behind a high-water mark.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

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


class Plan:
    """Hands out batches, each item that was pending once; safe to ask from several workers at once."""

    def __init__(self, state: State, job: int, folders: Sequence[Folder], *, batch_items: int, batch_bytes: int) -> None:
        self._state = state
        self._job = job
        self._folders = deque(folders)
        self._batch_items = batch_items
        self._batch_bytes = batch_bytes
        self._rows: deque[PendingItem] = deque()
        self._below: int | None = None
        self._singles: deque[Batch] = deque()
        self._turn = asyncio.Lock()

    async def next(self) -> Batch | None:
        """The next batch, or None when this pass has nothing more to hand out."""
        async with self._turn:
            while self._folders:
                if self._rows:
                    return Batch(self._folders[0], self._cut())
                await self._read()
            return self._singles.popleft() if self._singles else None

    def again(self, folder: Folder, item: PendingItem) -> None:
        """Ask for that item once more in this pass, alone."""
        self._singles.append(Batch(folder, (item,)))

    def drop(self, folder: Folder) -> None:
        """Hand out nothing more of that folder in this pass."""
        if self._folders and self._folders[0].number == folder.number:
            self._next_folder()
        else:
            self._folders = deque(other for other in self._folders if other.number != folder.number)
        self._singles = deque(batch for batch in self._singles if batch.folder.number != folder.number)

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
            self._rows.extend(rows)
            self._below = rows[-1].ordinal
        else:
            self._next_folder()

    def _cut(self) -> tuple[PendingItem, ...]:
        items: list[PendingItem] = []
        size = 0
        while self._rows and len(items) < self._batch_items:
            size += reckoned(self._rows[0])
            if items and size > self._batch_bytes:
                break
            items.append(self._rows.popleft())
        return tuple(reversed(items))
