"""Bounds on what may be under way at once: bytes and jobs. Who has to wait is served in an order in which nobody starves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

NEWS = 16
"""A part of so many of the budget is for urgent news alone."""

ENTRY = 8
"""A part of so many of the rest is for owners who hold nothing yet."""


class ByteBudget:
    """Bytes between the origins and the ledger, all accounts together, each under its own name as ``owner``.

    Memory is bounded by this figure and not by the size of a mailbox or a message: what is larger than nearly all of it takes
    nearly all and goes alone. Who holds least is served first, then who came first; and ``share`` bytes are kept for those who
    hold nothing yet, so that one whose origin is slow, or who wants much, keeps nobody out. Urgent news have bytes of their
    own, under the same rules.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._news = _Pool(limit // NEWS)
        self._bulk = _Pool(limit - limit // NEWS)

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._news.free + self._bulk.free

    @property
    def share(self) -> int:
        """So many an owner who holds nothing is granted whatever others hold, unless these hold nothing else."""
        return self._bulk.entry

    async def acquire(self, size: int, owner: Hashable, *, urgent: bool = False) -> int:
        """Wait until ``size`` bytes may be had, take them, and say how many were taken: fewer where it is too large."""
        return await self._pool(urgent).acquire(size, owner)

    def release(self, weight: int, owner: Hashable, *, urgent: bool = False) -> None:
        """Give back what ``acquire`` returned, at once or in parts."""
        self._pool(urgent).release(weight, owner)

    def _pool(self, urgent: bool) -> _Pool:
        return self._news if urgent else self._bulk


class _Pool:
    """Bytes in two parts: the ``entry`` is granted to who holds nothing, the rest to anybody, and each in its order: who is the
    next in a part is not overtaken there."""

    def __init__(self, size: int) -> None:
        self.entry = size // ENTRY
        self._largest = max(1, size - self.entry)
        self._free = _Parts(self._largest, self.entry)
        self._held: dict[Hashable, _Parts] = {}
        self._waiting: list[_Waiting] = []

    @property
    def free(self) -> int:
        return self._free.all

    async def acquire(self, size: int, owner: Hashable) -> int:
        asked = _Waiting(owner, min(max(size, 1), self._largest), asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._admit()
        try:
            await asked.turn
        except asyncio.CancelledError:
            if asked in self._waiting:
                self._waiting.remove(asked)
                self._admit()
            else:
                self.release(asked.weight, owner)
            raise
        return asked.weight

    def release(self, weight: int, owner: Hashable) -> None:
        held = self._held[owner]
        entry = min(weight, held.entry)
        held.give(self._free, weight - entry, entry)
        if not held.all:
            del self._held[owner]
        self._admit()

    def _admit(self) -> None:
        """Grant what can be granted."""
        while waiting := [asked for asked in self._waiting if not asked.turn.cancelled()]:
            first = min(waiting, key=lambda asked: self._holds(asked.owner))  # of several the one who came first
            entering = next((asked for asked in waiting if asked.weight <= self.entry and not self._holds(asked.owner)), None)
            if first.weight <= self._free.common:
                self._grant(first, first.weight, 0)
            elif entering is not None and entering.weight <= self._free.entry:
                self._grant(entering, 0, entering.weight)
            else:
                return

    def _grant(self, asked: _Waiting, common: int, entry: int) -> None:
        self._free.give(self._held.setdefault(asked.owner, _Parts()), common, entry)
        self._waiting.remove(asked)
        asked.turn.set_result(None)

    def _holds(self, owner: Hashable) -> int:
        held = self._held.get(owner)
        return 0 if held is None else held.all


@dataclass
class _Parts:
    """Bytes of both parts of a pool."""

    common: int = 0
    entry: int = 0

    @property
    def all(self) -> int:
        return self.common + self.entry

    def give(self, other: _Parts, common: int, entry: int) -> None:
        """They are the other's now."""
        self.common, self.entry = self.common - common, self.entry - entry
        other.common, other.entry = other.common + common, other.entry + entry


@dataclass(eq=False)
class _Waiting:
    """Somebody who waits for so many bytes."""

    owner: Hashable
    weight: int
    turn: asyncio.Future[None]


class Slots:
    """So many at once, the most urgent first; among equals, who came first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = count
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[SlotTurn]:
        """Hold one slot; lower ``priority`` is sooner."""
        await self.acquire(priority)
        turn = SlotTurn(self, priority)
        try:
            yield turn
        finally:
            turn.leave()

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

    @property
    def free(self) -> bool:
        """Whether one could be had at once."""
        return self._free > 0

    def resize(self, count: int) -> None:
        """So many from now on. Who holds one keeps it, even where that is one too many."""
        self._free += count - self._count
        self._count = count
        self._admit()

    def _admit(self) -> None:
        while self._free > 0 and self._waiting:
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
    must_wait = False

    async def give_way(self) -> None:
        return

    def leave(self) -> None:
        return

    async def take(self) -> None:
        return


class SlotTurn:
    """A slot that is held. ``held`` is False only from leaving it until it is taken again: others work meanwhile."""

    def __init__(self, slots: Slots, priority: int) -> None:
        self.held = True
        self._slots = slots
        self._priority = priority

    @property
    def wanted(self) -> bool:
        return self._slots.wanted(self._priority)

    async def give_way(self) -> None:
        if self.wanted:
            self.leave()
            await self.take()

    @property
    def must_wait(self) -> bool:
        """Whether taking it again would take a while."""
        return not self.held and not self._slots.free

    def leave(self) -> None:
        if self.held:
            self.held = False
            self._slots.release()

    async def take(self) -> None:
        if not self.held:
            await self._slots.acquire(self._priority)
            self.held = True
