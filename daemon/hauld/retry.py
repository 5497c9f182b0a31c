"""The one place that decides whether something is tried again, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hauld.errors import HaulError, NeedsAttention, StaleCursor, Throttled, Transient

LONGEST_THROTTLE = 3600.0
"""Seconds; an origin that asks for more patience than this is asked again after this."""

LOCAL = frozenset({"disk", "files", "locked"})
"""Kinds of trouble that are this machine's and no origin's."""

LONGEST_LOCAL = 30.0
"""Seconds; looking whether this machine is well again costs nobody else anything."""


@dataclass
class RetryPolicy:
    """Backoff from ``initial`` seconds, doubling to ``longest``; ``attempts`` is how often one item is asked for. One for the
    whole daemon, so that a reload of the configuration reaches all who go by it."""

    initial: float = 2.0
    longest: float = 900.0
    attempts: int = 5

    def become(self, other: RetryPolicy) -> None:
        """Say the same as the other one from now on."""
        self.initial, self.longest, self.attempts = other.initial, other.longest, other.attempts


def decide(error: HaulError, failures: int, policy: RetryPolicy, dice: Callable[[], float]) -> float | None:
    """Seconds until the next try after the ``failures``-th failure in a row (1 is the first), or None: do not try again.

    Full jitter: anything between nothing and the step, so that a thousand clients do not come back together; ``dice``
    gives a number in [0, 1). What the origin named is kept to, up to ``LONGEST_THROTTLE``. Trouble of kinds ``LOCAL`` waits
    ``LONGEST_LOCAL`` at most, whatever the policy's longest is.
    """
    if isinstance(error, Throttled):
        return min(error.wait, LONGEST_THROTTLE)
    longest = min(policy.longest, LONGEST_LOCAL) if error.kind in LOCAL else policy.longest
    step = min(longest, policy.initial * 2.0 ** min(failures - 1, 32))
    if isinstance(error, Transient):
        return max(error.at_least, dice() * step)
    if isinstance(error, StaleCursor) or (isinstance(error, NeedsAttention) and failures < error.tries):
        return dice() * step
    return None
