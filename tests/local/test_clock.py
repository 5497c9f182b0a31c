"""The wall clock jumps: what is measured and scheduled does not, and nothing is forgotten in masses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from hauld.clock import SystemClock
from hauld.engine.events import EventLog
from hauld.engine.machine import Machine
from hauld.engine.progress import Meter
from hauld.errors import Transient
from hauld.sources.base import Session, Source
from hauld.state.sqlite import SqliteState
from support.engine import running
from support.scripted_imap import Honest, Mailbox, ScriptedServer

DAY_MS = 24 * 3600 * 1000
JUMPS = {"back two days": -2 * DAY_MS, "forward one day": DAY_MS, "to 1970": None}
"""Milliseconds; None is to the beginning of all times."""


class WrongClock(SystemClock):
    """The machine's clock, of which the wall clock can be set wrong."""

    def __init__(self) -> None:
        self.ahead = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead

    def jump(self, by: int | None) -> None:
        self.ahead = -super().now_ms() if by is None else by


@pytest.fixture
def clock() -> WrongClock:
    return WrongClock()


jumping = pytest.mark.parametrize("by", JUMPS.values(), ids=JUMPS.keys())


def box(*numbers: int) -> Mailbox:
    return Mailbox({number: b"Subject: %d\r\n\r\nbody\r\n" % number for number in numbers})


@jumping
async def test_L12_N23_comparisons_go_on_at_their_interval_whatever_the_wall_clock_does(
    tmp_path: Path, clock: WrongClock, by: int | None
) -> None:
    honest = Honest({b"INBOX": box(1)})
    async with ScriptedServer(honest) as server, running(tmp_path, server.source(), interval=0.05, clock=clock) as engine:
        job = await engine.create(live=True)
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 1)
        clock.jump(by)
        listed = len(server.asked("UID SEARCH")) + len(server.asked("UID FETCH"))
        honest.mailboxes[b"INBOX"] = box(1, 2)
        seen = await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 2)
        assert len(server.asked("UID SEARCH")) + len(server.asked("UID FETCH")) > listed
        assert seen.progress.estimated_completion_secs is None or seen.progress.estimated_completion_secs >= 0
        clock.jump(0)
        honest.mailboxes[b"INBOX"] = box(1, 2, 3)
        await engine.until(job.id, lambda seen: seen.progress.downloaded_items == 3)


@jumping
async def test_L12_N24_the_wait_after_a_failure_is_as_long_as_it_was_to_be(
    tmp_path: Path, clock: WrongClock, by: int | None
) -> None:
    async with ScriptedServer(Honest({b"INBOX": box(1)})) as server:
        source = FailsOnce(server.source(), lambda: clock.jump(by))
        async with running(tmp_path, source, clock=clock) as engine:  # type: ignore[arg-type]
            began = time.monotonic()
            assert (await engine.finish()).progress.downloaded_items == 1
            assert time.monotonic() - began >= FailsOnce.WAIT


class FailsOnce:
    """An origin that cannot be reached the first time."""

    WAIT = 0.2

    def __init__(self, origin: Source, meanwhile: Callable[[], None]) -> None:
        self._origin = origin
        self._meanwhile: Callable[[], None] | None = meanwhile

    def session(self) -> AbstractAsyncContextManager[Session]:
        if self._meanwhile is None:
            return self._origin.session()
        meanwhile, self._meanwhile = self._meanwhile, None
        asyncio.get_running_loop().call_later(self.WAIT / 2, meanwhile)
        raise Transient("network", "The origin cannot be reached.", at_least=self.WAIT)


@jumping
def test_L12_rates_and_the_time_left_are_never_negative(clock: WrongClock, by: int | None) -> None:
    meter = Meter(clock)
    meter.begin()
    meter.add(10, 1000)
    clock.jump(by)
    meter.add(10, 1000)
    items, size = meter.rates()
    assert items > 0
    assert size > 0
    left = meter.seconds_left(5)
    assert left is not None
    assert left > 0


@jumping
def test_L12_how_long_trouble_lasted_is_measured_and_not_read_from_the_wall(
    clock: WrongClock, by: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    machine = Machine(clock)
    machine.failed(Transient("disk", "full"))
    clock.jump(by)
    machine.probed()
    machine.works()
    assert "after 1 failures in 0 s" in caplog.text


@jumping
async def test_L12_no_event_is_forgotten_because_the_clock_jumped(tmp_path: Path, clock: WrongClock, by: int | None) -> None:
    """Even a jump of years: of the newest million, none is forgotten."""
    server = ScriptedServer(Honest({b"INBOX": box(*range(1, 20))}))
    async with server, running(tmp_path, server.source(), clock=clock) as engine:
        await engine.finish()
        before = await engine.state.event_span()
        for jump in (by, 365 * DAY_MS, 0):
            clock.jump(jump)
            assert await EventLog(engine.state, clock).prune_now() == 0
        assert await engine.state.event_span() == before


@jumping
async def test_L12_copies_of_the_ledger_do_not_vanish_when_the_clock_jumped(
    tmp_path: Path, clock: WrongClock, by: int | None
) -> None:
    state = SqliteState(tmp_path / "haul.db", clock)
    await state.start()
    first = await state.save_copy()
    assert first is not None
    clock.jump(by)
    await state.account("imap:example.org:bob", "bob", "imap")
    second = await state.save_copy()
    await state.close()
    assert first.exists()
    assert second is None or second.exists()
