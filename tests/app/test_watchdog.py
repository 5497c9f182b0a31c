"""The watchdog is told that all is well for as long as it is, and not one moment longer (R6)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hauld.engine.waking import instant
from hauld.systemd import Notifier, watchdog_seconds
from hauld.watchdog import BEATS, Watchdog
from support.blocked_daemon import block_loop, start_to_be_blocked
from support.daemon import Hauld
from support.engine import running

PATIENCE = 60.0


class Still:
    """A clock that nobody asks for the time."""

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


class Parts:
    """What the watchdog looks at."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.reason: str | None = None

    def writing_for(self) -> float | None:
        return self.seconds

    def pulse(self) -> str | None:
        return self.reason


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def watchdog(systemd: socket.socket, parts: Parts) -> Iterator[Watchdog]:
    notifier = Notifier()
    yield Watchdog(notifier, Still(), PATIENCE, writing_for=parts.writing_for, pulse=parts.pulse)
    notifier.close()


def told(systemd: socket.socket) -> bool:
    """Whether systemd was told that all is well since it was last asked."""
    try:
        return systemd.recv(4096) == b"WATCHDOG=1"
    except BlockingIOError:
        return False


def test_while_all_is_well_systemd_is_told_so(systemd: socket.socket, parts: Parts, watchdog: Watchdog) -> None:
    watchdog.beat()
    assert told(systemd)
    parts.seconds = PATIENCE - 1
    watchdog.beat()
    assert told(systemd), "a disk may be slow"


@pytest.mark.parametrize("part", ["ledger", "supervisor"])
def test_R6_a_part_that_is_stuck_is_named_once_and_systemd_is_told_nothing_until_it_gets_on(
    systemd: socket.socket, parts: Parts, watchdog: Watchdog, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    if part == "ledger":
        parts.seconds = PATIENCE + 1
    else:
        parts.reason = "the supervisor's tasks have had no turn for 70 s"
    for _ in range(3):
        watchdog.beat()
    assert not told(systemd)
    [line] = caplog.messages
    assert part in line
    parts.seconds = parts.reason = None
    watchdog.beat()
    assert told(systemd)
    assert caplog.messages[1:] == ["the watchdog is told again that all is well"]


def test_the_time_is_that_of_the_unit_if_it_is_meant_for_us() -> None:
    own = str(os.getpid())
    assert watchdog_seconds({"WATCHDOG_USEC": "1500000"}) == 1.5
    assert watchdog_seconds({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": own}) == 1.5
    assert watchdog_seconds({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}) is None
    for nothing in ("", "0", "-1", "soon"):
        assert watchdog_seconds({"WATCHDOG_USEC": nothing, "WATCHDOG_PID": own}) is None
    assert watchdog_seconds({}) is None


def test_R6_a_daemon_tells_it_again_and_again_and_no_more_once_its_loop_is_blocked(
    tmp_path: Path, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    hauld = start_to_be_blocked(Hauld(tmp_path / "haul", {}))
    systemd.settimeout(30)
    for _ in range(2 * BEATS):
        while systemd.recv(4096) != b"WATCHDOG=1":
            pass
    block_loop(hauld)
    drain(systemd)
    systemd.settimeout(0.6)
    with pytest.raises(TimeoutError):
        systemd.recv(4096)
    os.kill(hauld.pid, signal.SIGABRT)  # as systemd does then
    assert hauld.wait() == -signal.SIGABRT
    assert 'blocked_daemon.py", line' in hauld.log(), "it says where it was"


def drain(systemd: socket.socket) -> None:
    """All that was told so far is heard."""
    systemd.setblocking(False)
    try:
        while True:
            systemd.recv(4096)
    except BlockingIOError:
        systemd.setblocking(True)


async def test_R6_a_supervisor_whose_tasks_get_no_turn_says_so_and_one_that_stops_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, {}) as engine:
        pulse = engine.supervisor.pulse
        assert pulse() is None
        engine.supervisor.do_chores()
        await asyncio.sleep(0.01)  # its first turn
        assert pulse() is None
        later = instant().monotonic + 600
        monkeypatch.setattr("hauld.engine.supervisor.instant", lambda: instant()._replace(monotonic=later))
        assert "600 s" in str(pulse())
    assert pulse() is None
