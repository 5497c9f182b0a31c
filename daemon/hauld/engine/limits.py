"""Bounds on what may be under way at once: bytes and jobs. First come, first served, so that nobody starves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """Bytes between the origins and the ledger, all accounts together.

    Memory is bounded by this figure and not by the size of a mailbox or a message: what is larger than the whole budget
    takes all of it and goes alone.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.free = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> int:
        """Wait until ``size`` bytes are free, take them, and say how many were taken (never more than the limit)."""
        weight = min(max(size, 1), self.limit)
        if not self._waiting and weight <= self.free:
            self.free -= weight
            return weight
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((weight, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(weight)
            self._admit()
            raise
        return weight

    def release(self, weight: int) -> None:
        """Give back what ``acquire`` returned, at once or in parts."""
        self.free += weight
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            weight, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
            elif weight <= self.free:
                self._waiting.popleft()
                self.free -= weight
                turn.set_result(None)
            else:
                return


class Slots:
    """How many imports run at once; the most urgent waits least."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[None]:
        """Hold one slot; lower ``priority`` is sooner."""
        await self._acquire(priority)
        try:
            yield
        finally:
            self._free += 1
            self._admit()

    async def _acquire(self, priority: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += 1
            self._admit()
            raise

    def _admit(self) -> None:
        while self._free and self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.cancelled():
                self._free -= 1
                turn.set_result(None)
