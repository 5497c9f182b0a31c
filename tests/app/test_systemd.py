"""What systemd is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hauld.systemd import Notifier
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
        notifier.ready()
    assert systemd.recv(4096) == b"READY=1"
    notifier.close()


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.ready()
    notifier.stopping()
    notifier.status("nobody listens")
    notifier.close()
