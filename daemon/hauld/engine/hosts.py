"""The machines at the other end. Accounts of one host share what is known of it: whether it answers, and how many connections
to it are being opened.

A host that did not answer three times in a row is taken for dead: its accounts are told so at once, and only one of them at a
time tries again, later each time, until one gets through. What goes wrong after a host has answered, a refused password say,
is the account's and not the host's.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hauld.clock import Clock
from hauld.engine.limits import Slots
from hauld.errors import HaulError, Transient
from hauld.retry import LOCAL, RetryPolicy, decide

log = logging.getLogger(__name__)

SILENCES = frozenset({"network", "timeout", "tls"})
"""Kinds of trouble in which the host did not answer, as far as one knows."""

ENOUGH = 3
"""Failures in a row that make a host dead."""

AT_ONCE = 5
"""Connections to one host that are being opened at the same time, at most."""

A_SECOND = 10
"""Connections that are begun within a second, to all hosts together, at most."""


class HostDown(Transient):
    """The host is known to be dead: nobody tried to connect. Kind and words are those of what the last one met who did."""


class Pace:
    """No more than ``most`` within any second; the most urgent first, then who came first."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._times: deque[float] = deque(maxlen=most)
        self._turns = Slots(1)

    async def turn(self, priority: int) -> None:
        """Returns when it is one's turn."""
        async with self._turns.slot(priority):
            if len(self._times) == self._times.maxlen:
                await self._clock.sleep(max(0.0, self._times[0] + 1.0 - self._clock.monotonic()))
            self._times.append(self._clock.monotonic())


class Hosts:
    """All hosts, by name (``mail.example.org:993``), and the pace at which they are called on."""

    def __init__(self, clock: Clock, policy: RetryPolicy, a_second: int = A_SECOND) -> None:
        self._clock = clock
        self._policy = policy
        self._pace = Pace(clock, a_second)
        self._hosts: dict[str, Host] = {}

    def of(self, name: str) -> Host:
        """The host of that name, one for all who ask."""
        if name not in self._hosts:
            self._hosts[name] = Host(name, self._pace, self._clock, self._policy)
        return self._hosts[name]


class Host:
    """One host. ``proven`` is whether the last who tried got an answer."""

    def __init__(self, name: str, pace: Pace, clock: Clock, policy: RetryPolicy) -> None:
        self.name = name
        self.proven = False
        self.accounts: set[str] = set()
        self._pace = pace
        self._clock = clock
        self._policy = policy
        self._turns = Slots(AT_ONCE)
        self._silent: deque[str] = deque(maxlen=ENOUGH)  # whose tries failed in a row
        self._dead: Transient | None = None
        self._died = 0.0
        self._next_try = 0.0
        self._tries = 0
        self._trying = False

    @asynccontextmanager
    async def connecting(self, account: str, priority: int) -> AsyncIterator[None]:
        """Held while a connection is opened for that account, from the first packet to the sign-in. Raises ``HostDown`` at once
        where the host is dead, and it is not time to try again."""
        self._check()
        async with self._turns.slot(priority):
            await self._pace.turn(priority)
            self._check()  # meanwhile others may have found it dead
            probing = self._trying = self._dead is not None
            try:
                yield
            except Transient as error:
                self._failed(account, error, probing)
                raise
            except HaulError:
                self._answered()
                raise
            else:
                self._answered()
            finally:
                if probing:
                    self._trying = False

    def forgive(self) -> None:
        """A person asked to try again: the next one may, at once."""
        self._next_try = self._clock.monotonic()

    def _check(self) -> None:
        """Raise where nobody may try now."""
        if self._dead is None:
            return
        left = self._next_try - self._clock.monotonic()
        if left > 0 or self._trying:
            raise HostDown(self._dead.kind, self._dead.message, hint=self._dead.hint, at_least=max(left, self._policy.initial))

    def _failed(self, account: str, error: Transient, probing: bool) -> None:
        if error.kind in LOCAL:
            return  # it says nothing of the host
        if error.kind not in SILENCES:
            self._answered()
            return
        self.proven = False
        self._silent.append(account)
        if self._dead is None:
            if not self._is_enough():
                return
            self._died = self._clock.monotonic()
            log.warning(
                "%s is taken for dead: %s One connection at a time tries again.",
                self.name,
                error,
                extra={"event": "host.dead", "kind": error.kind},
            )
        elif not probing:
            return  # it was under way when the host died
        self._dead = error
        self._tries += 1
        self._next_try = self._clock.monotonic() + (decide(error, self._tries, self._policy, random.random) or 0.0)

    def _is_enough(self) -> bool:
        """One account that is treated badly does not speak for the others."""
        return len(self._silent) == ENOUGH and (len(set(self._silent)) > 1 or len(self.accounts) <= 1)

    def _answered(self) -> None:
        self.proven = True
        self._silent.clear()
        self._tries = 0
        if self._dead is not None:
            seconds = self._clock.monotonic() - self._died
            log.info("%s answers again, after %.0f s", self.name, seconds, extra={"event": "host.alive"})
        self._dead = None
