"""Rates and times left, as people see them."""

from __future__ import annotations

from hauld.engine.progress import WINDOW, Meter


class HandClock:
    """Time that stands until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_a_rate_is_what_came_since_the_beginning_while_that_is_recent() -> None:
    clock = HandClock()
    meter = Meter(clock)
    meter.begin()
    clock.seconds += 2
    meter.add(10, 1000)
    assert meter.rates() == (5.0, 500.0)


def test_what_is_long_past_does_not_count() -> None:
    clock = HandClock()
    meter = Meter(clock)
    meter.begin()
    meter.add(1000, 10**6)
    clock.seconds += WINDOW + 1
    meter.add(15, 150)
    assert meter.rates() == (15 / WINDOW, 150 / WINDOW)


def test_the_time_left_is_unknown_while_nothing_moves_and_nothing_when_nothing_remains() -> None:
    clock = HandClock()
    meter = Meter(clock)
    assert meter.seconds_left(5) is None
    meter.begin()
    assert meter.seconds_left(5) is None
    clock.seconds += 1
    meter.add(5, 50)
    assert meter.seconds_left(10) == 2.0
    assert meter.seconds_left(0) == 0.0


def test_a_job_that_downloads_nothing_any_more_has_no_rate() -> None:
    clock = HandClock()
    meter = Meter(clock)
    meter.begin()
    clock.seconds += 1
    meter.add(5, 50)
    meter.end()
    assert meter.rates() == (0.0, 0.0)
