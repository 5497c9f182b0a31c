"""What systemd is told."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from haulapi.faults import Exit
from hauld.systemd import LONGEST_STATUS, Notifier, passed_socket
from support import passing
from support.daemon import Hauld


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_systemd_hears_that_the_daemon_is_ready_when_its_socket_answers_and_that_it_stops(
    tmp_path: Path, systemd: socket.socket
) -> None:
    with Hauld(tmp_path / "haul", {}) as hauld:
        assert systemd.recv(4096) == b"READY=1"
        assert hauld.call("daemon.status")["pid"] == hauld.pid
    assert systemd.recv(4096).startswith(b"STATUS=")
    assert systemd.recv(4096) == b"STOPPING=1"


def test_a_name_that_systemd_could_not_take_is_replaced_and_not_lost(systemd: socket.socket) -> None:
    notifier = Notifier()
    notifier.status("importing Grö ße 📬\nREADY=1")
    assert systemd.recv(4096) == b"STATUS=importing Gr? ?e ??READY=1"
    notifier.close()


def test_a_systemd_that_does_not_read_holds_nobody_up(systemd: socket.socket) -> None:
    notifier = Notifier()
    for _ in range(10_000):
        notifier.watchdog()
    assert systemd.recv(4096) == b"WATCHDOG=1"
    notifier.close()


def test_what_systemd_had_no_room_for_is_told_before_the_next_thing_and_in_its_order(systemd: socket.socket) -> None:
    notifier = Notifier()
    for number in range(10_000):
        notifier.status(str(number))
    for tell in (notifier.watchdog, notifier.reloading, notifier.ready, notifier.watchdog, notifier.stopping):
        tell()
    told = heard(systemd)
    assert len(told) < 10_000
    assert {fact.partition(b"=")[0] for fact in told} == {b"STATUS"}
    notifier.watchdog()
    told = [fact.partition(b"=")[0] for fact in heard(systemd)]
    assert told == [b"STATUS", b"RELOADING", b"READY", b"STOPPING", b"WATCHDOG"]
    notifier.close()


def heard(systemd: socket.socket) -> list[bytes]:
    """All that systemd was told so far."""
    told = []
    systemd.setblocking(False)
    while True:
        try:
            told.append(systemd.recv(4096))
        except BlockingIOError:
            return told


def test_a_reload_begins_with_its_time_in_the_same_datagram(systemd: socket.socket) -> None:
    notifier = Notifier()
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, _, second = systemd.recv(4096).partition(b"\n")
    assert first == b"RELOADING=1"
    assert before <= int(second.removeprefix(b"MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    notifier.close()


def test_a_status_that_systemd_would_refuse_for_its_length_is_cut(systemd: socket.socket) -> None:
    notifier = Notifier()
    notifier.status("x" * 1_000_000)
    assert systemd.recv(4096) == b"STATUS=" + b"x" * LONGEST_STATUS
    notifier.close()


def test_a_systemd_that_is_gone_holds_nobody_up(systemd: socket.socket) -> None:
    notifier = Notifier()
    systemd.close()
    notifier.watchdog()
    notifier.stopping()
    notifier.close()


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.ready()
    notifier.stopping()
    notifier.status("nobody listens")
    notifier.close()


# --- the socket that systemd made ----------------------------------------------------------------------------------


def test_a_socket_is_taken_if_it_is_meant_for_us_and_nobody_we_start_is_told_of_it() -> None:
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "control", "OTHER": "stays"}
    with socket.socket(socket.AF_UNIX) as passed:
        passed.set_inheritable(True)
        assert passed_socket(environment, passed.fileno()) == passed.fileno()
        assert not passed.get_inheritable()
    assert environment == {"OTHER": "stays"}


@pytest.mark.parametrize("told", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "own"}])
def test_no_socket_is_taken_that_is_not_meant_for_us(told: dict[str, str]) -> None:
    environment = {name: str(os.getpid()) if value == "own" else value for name, value in told.items()}
    assert passed_socket(environment) is None
    assert environment == {}


def activated(hauld: Hauld, *sockets: Path) -> Hauld:
    """The daemon is to be started with sockets that listen at those places."""
    hauld.launcher = [sys.executable, str(Path(passing.__file__)), *map(str, sockets), "--"]
    return hauld


def test_a_daemon_answers_on_the_socket_that_systemd_made_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    hauld = Hauld(tmp_path / "haul", {})
    hauld.socket.parent.mkdir()
    with activated(hauld, hauld.socket):
        before = hauld.socket.stat()
        assert hauld.call("daemon.status")["pid"] == hauld.pid
        assert [path.name for path in hauld.socket.parent.iterdir()] == ["haul.sock"]
    after = hauld.socket.stat()
    assert (after.st_ino, after.st_mode, after.st_gid) == (before.st_ino, before.st_mode, before.st_gid)


@pytest.mark.parametrize("sockets", [("other.sock",), ("haul.sock", "other.sock")])
def test_G1_a_daemon_that_is_given_other_sockets_says_so_and_does_not_start(tmp_path: Path, sockets: tuple[str, ...]) -> None:
    hauld = Hauld(tmp_path / "haul", {})
    hauld.socket.parent.mkdir()
    activated(hauld, *(hauld.socket.with_name(name) for name in sockets)).start(ready=False)
    assert hauld.wait() == Exit.CONFIGURATION
    assert "hauld.socket" in hauld.log()
