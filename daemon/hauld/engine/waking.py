"""Noticing that time has passed of which nobody here knew: the machine slept, the process was stopped, the clock was set.

Connections that were idle meanwhile may be dead without anybody having said so.
"""

from __future__ import annotations

import time
from typing import NamedTuple

STOPPED = 20.0
"""Seconds that a chore may come late before the process was stopped, or as good as that."""

SLEPT = 5.0
"""Seconds more by the clock that counts sleep than by the one that does not."""

SET = 60.0
"""Seconds by which somebody has to set the wall clock for it to count."""


class Instant(NamedTuple):
    """One moment by three clocks, in seconds: ``monotonic`` stands still while the machine sleeps, ``boot`` does not, and
    ``wall`` is set by people."""

    monotonic: float
    boot: float
    wall: float


def instant() -> Instant:
    """Now."""
    return Instant(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


def unnoticed(before: Instant, now: Instant, expected: float) -> str | None:
    """What happened between two moments that were to be ``expected`` seconds apart; None for nothing out of the ordinary."""
    awake, passed = now.monotonic - before.monotonic, now.boot - before.boot
    if passed - awake > SLEPT:
        return f"the machine slept for {passed - awake:.0f} s"
    if awake - expected > STOPPED:
        return f"the process was stopped for {awake - expected:.0f} s"
    leap = now.wall - before.wall - passed
    if abs(leap) > SET:
        return f"the wall clock was set by {leap:+.0f} s"
    return None
