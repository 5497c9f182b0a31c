"""How fast a job is, and when it will be done: figures for people, kept in memory only."""

from __future__ import annotations

from collections import deque

from hauld.clock import Clock

WINDOW = 15.0
"""Seconds of the past that a rate looks at: long enough not to jump, short enough to be true."""

STEP = 0.1
"""Seconds; what is stored within one is counted as one, so that a rate looks at few figures however fast it goes."""


class Meter:
    """Items and bytes over the recent past."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: deque[tuple[float, int, int]] = deque()
        self._began: float | None = None

    def begin(self) -> None:
        """Downloading starts now: rates count from here."""
        self._began = self._clock.monotonic()
        self._steps.clear()

    def end(self) -> None:
        """Nothing is being downloaded any more: rates are zero."""
        self._began = None
        self._steps.clear()

    def add(self, items: int, size: int) -> None:
        """So many items of so many bytes together were stored just now."""
        now = self._clock.monotonic()
        if self._steps and now - self._steps[-1][0] < STEP:
            now, earlier_items, earlier_size = self._steps.pop()
            items, size = items + earlier_items, size + earlier_size
        self._steps.append((now, items, size))

    def rates(self) -> tuple[float, float]:
        """Items and bytes a second over the last ``WINDOW``, or since the beginning where that is shorter."""
        if self._began is None:
            return 0.0, 0.0
        now = self._clock.monotonic()
        while self._steps and self._steps[0][0] < now - WINDOW:
            self._steps.popleft()
        span = max(min(WINDOW, now - self._began), 0.1)
        return sum(step[1] for step in self._steps) / span, sum(step[2] for step in self._steps) / span

    def seconds_left(self, remaining: int) -> float | None:
        """When the remaining items will have come at this rate; None while nothing moves."""
        if remaining == 0:
            return 0.0
        rate, _ = self.rates()
        return remaining / rate if rate > 0 else None
