"""Turns at the door: what some clients send must keep neither other clients waiting, nor the work that the daemon is there for.

After each line everybody else has a turn. Long lines are read one at a time, whoever sent them, with a rest after each. A
client that asks now and then never waits; what it asks beyond that comes out of what its user's clients have together, and
when that is spent, they wait for each other. Of clients that ask more before they are answered, a few are served at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

from haulapi.frames import decode

LONG = 4096
"""Bytes; a longer line is a long one. Nobody types one, and programs seldom send one."""

REST, REST_A_BYTE, LONGEST_REST = 100.0, 5e-7, 1.0
"""How many times as long as it took to decode a long line the next one has to wait, and how many seconds for each of its bytes,
which had to be taken from the socket; but never for more seconds than that."""

IN_HAND = 2
"""Requests of one client that are in work before it has to wait in a crowd."""

SERVED, LONGEST_SERVICE = 4, 0.1
"""How many of a crowd are served at a time, and for how many seconds at most the others wait for one of them."""

CRUMB, FEW = 512, 8
"""Bytes, and times: who sends less than so much of a line, more than so many times in a row, has the habit."""

SLOWER, MEMORY = 3, 30.0
"""How many times as slowly a client's own allowance grows back when it has asked for more, and for how many seconds."""


@dataclass(frozen=True)
class Rate:
    """So much at once, and then so much a second."""

    at_once: float
    a_second: float


class Allowance:
    """What may be spent at a rate. Where more was wanted, it grows back more slowly for a while."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._spent_until = float("-inf")
        self._greedy_until = float("-inf")

    def covers(self, cost: float, now: float) -> bool:
        """Whether nobody has to wait for that to be spent."""
        return self._after(cost, now) <= now

    def spend(self, cost: float, now: float) -> float:
        """Spend that; the seconds until it has grown back."""
        self._spent_until = self._after(cost, now)
        return max(0.0, self._spent_until - now)

    def exceed(self, now: float) -> None:
        """More was wanted than it covers."""
        self._greedy_until = now + MEMORY

    def _after(self, cost: float, now: float) -> float:
        a_second = self._rate.a_second / (SLOWER if now < self._greedy_until else 1)
        return max(self._spent_until, now - self._rate.at_once / a_second) + cost / a_second


class Crumbs:
    """Whether a client has the habit of sending its lines in crumbs, each of which costs as much to take as a line. That one of
    its lines has ended does not cure it."""

    def __init__(self) -> None:
        self._in_a_row = 0

    @property
    def are_a_habit(self) -> bool:
        return self._in_a_row > FEW

    def took(self, data: bytes, *, whole: bool) -> None:
        """So much was read at once; ``whole`` when a line began with it and ended in it."""
        self._in_a_row = self._in_a_row + 1 if len(data) < CRUMB and not whole else 0


class Turns:
    """Shared by all connections; ``rate`` is what the connections of one user have together beyond what each has."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._long = asyncio.Lock()
        self._crowd = asyncio.Semaphore(SERVED)
        self._users: dict[int, Allowance] = {}

    async def read(self, line: bytes, own: Allowance) -> Any:
        """What the line says, when its turn has come. Raises ``FrameError``."""
        if len(line) <= LONG:
            async with contextlib.nullcontext() if own.covers(1, asyncio.get_running_loop().time()) else self._crowd:
                await asyncio.sleep(0)
            return decode(line)
        async with self._long:
            began = time.thread_time()
            try:
                return decode(line)
            finally:
                rest = REST * (time.thread_time() - began) + REST_A_BYTE * len(line)
                await asyncio.sleep(min(rest, LONGEST_REST))

    async def serve(self, answering: asyncio.Task[None]) -> None:
        """Wait among the crowd until one has been answered, or for long enough."""
        async with self._crowd:
            await asyncio.wait((answering,), timeout=LONGEST_SERVICE)

    async def pay(self, user: int, own: Allowance, cost: float) -> None:
        """Spend that of a connection's own, or else of what the user's connections have together, waiting for it."""
        now = asyncio.get_running_loop().time()
        if own.covers(cost, now):
            own.spend(cost, now)
            return
        own.exceed(now)
        together = self._users.setdefault(user, Allowance(self._rate))
        if wait := together.spend(cost, now):
            await asyncio.sleep(wait)
