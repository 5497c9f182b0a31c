"""A start that this machine's trouble holds up: waited for, but not for ever."""

from __future__ import annotations

import asyncio

import pytest

from hauld.app import START_PATIENCE, CalledOff, PatientStart
from hauld.errors import Fatal, HaulError, Transient
from hauld.retry import RetryPolicy
from hauld.systemd import Notifier
from support.clocks import LeapingClock


class Step:
    """A step of the start that fails so often."""

    def __init__(self, failures: int, error: HaulError) -> None:
        self.begun = 0
        self._failures = failures
        self._error = error

    async def begin(self) -> str:
        self.begun += 1
        if self.begun <= self._failures:
            raise self._error
        return "started"


FULL = Transient("disk", "The disk is full.")


@pytest.fixture
def clock() -> LeapingClock:
    return LeapingClock()


@pytest.fixture
def stopping() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def start(clock: LeapingClock, stopping: asyncio.Event) -> PatientStart:
    return PatientStart(RetryPolicy(initial=2, longest=900), clock, Notifier(), stopping)


async def test_L5_a_step_is_begun_again_until_it_succeeds_and_logged_twice(
    start: PatientStart, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert await start.step(Step(9, FULL).begin) == "started"
    assert [record.event for record in caplog.records] == ["start.waits", "start.recovered"]  # type: ignore[attr-defined]


async def test_L5_a_step_that_fails_for_minutes_is_given_up_with_the_reason(start: PatientStart, clock: LeapingClock) -> None:
    began = clock.now
    step = Step(10**9, FULL)
    with pytest.raises(Transient, match="The disk is full"):
        await start.step(step.begin)
    assert START_PATIENCE - 30 <= clock.now - began <= START_PATIENCE
    assert step.begun < 100


async def test_what_no_waiting_mends_is_raised_at_once(start: PatientStart) -> None:
    step = Step(1, Fatal("locked", "Another daemon has it."))
    with pytest.raises(Fatal):
        await start.step(step.begin)
    assert step.begun == 1


async def test_a_start_that_waits_is_called_off_when_the_daemon_is_to_stop(
    start: PatientStart, stopping: asyncio.Event
) -> None:
    stopping.set()
    with pytest.raises(CalledOff):
        await start.step(Step(1, FULL).begin)
