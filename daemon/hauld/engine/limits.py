"""Bounds on what may be under way at once: bytes and jobs. First come, first served, so that nobody starves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol


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
    """So many at once, the most urgent first; among equals, who came first."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[Turn]:
        """Hold one slot; lower ``priority`` is sooner."""
        await self.acquire(priority)
        turn = SlotTurn(self, priority)
        try:
            yield turn
        finally:
            if turn.held:
                self.release()

    def wanted(self, priority: int) -> bool:
        """Whether somebody more urgent than that waits."""
        return any(other < priority and not turn.cancelled() for other, _, turn in self._waiting)

    async def acquire(self, priority: int) -> None:
        """Wait for a slot and take it."""
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

    def release(self) -> None:
        """Give a slot back."""
        self._free += 1
        self._admit()

    def _admit(self) -> None:
        while self._free and self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.cancelled():
                self._free -= 1
                turn.set_result(None)


class Turn(Protocol):
    """The right to work now."""

    @property
    def wanted(self) -> bool:
        """Whether somebody more urgent waits for it."""
        ...

    async def give_way(self) -> None:
        """Let whoever is more urgent go first; returns when it is our turn again."""
        ...


class FreeTurn:
    """Needs no slot, and gives way to nobody."""

    wanted = False

    async def give_way(self) -> None:
        return


class SlotTurn:
    """A slot that is held. ``held`` is False only while it is being waited for again."""

    def __init__(self, slots: Slots, priority: int) -> None:
        self.held = True
        self._slots = slots
        self._priority = priority

    @property
    def wanted(self) -> bool:
        return self._slots.wanted(self._priority)

    async def give_way(self) -> None:
        if not self.wanted:
            return
        self.held = False
        self._slots.release()
        await self._slots.acquire(self._priority)
        self.held = True
