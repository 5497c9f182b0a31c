"""How the daemon ends, and what it finds where another one ended without a word."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from support.blocked_daemon import block_loop, start_to_be_blocked
from support.daemon import PATIENCE, SCRIPTS, Hauld
from support.dovecot import Dovecot, User
from support.messages import messages
from support.watching import is_done, until

MESSAGES = 2000
LONGEST_STOP = 10.0
"""Seconds."""


def begun(hauld: Hauld, dovecot: Dovecot, mail_user: User) -> str:
    """An import that is under way: something is stored, and something is not."""
    dovecot.fill(mail_user, "INBOX", messages(MESSAGES, size=2000))
    hauld.start()
    job = str(hauld.call("jobs.create", account="a", live=False)["id"])
    until(hauld, job, lambda seen: seen["progress"]["downloaded_items"] > 0)
    return job


def test_L3_SIGTERM_in_a_batch_ends_the_daemon_within_ten_seconds_and_what_was_stored_stays_so(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)})
    job = begun(hauld, dovecot, mail_user)
    asked = time.monotonic()
    assert hauld.stop() == 0
    assert time.monotonic() - asked < LONGEST_STOP
    kept = len(hauld.files())
    assert kept > 0
    hauld.start()
    assert hauld.call("jobs.get", job=job)["progress"]["downloaded_items"] >= kept
    done = until(hauld, job, is_done)
    assert done["progress"]["downloaded_items"] == MESSAGES
    assert hauld.stored("a") == dovecot.read_all(mail_user)
    assert "adopted" not in hauld.log(), "an end in order leaves nothing to adopt"
    assert hauld.stop() == 0


def test_L3_a_second_SIGTERM_ends_the_daemon_at_once(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> None:
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)})
    job = begun(hauld, dovecot, mail_user)
    os.kill(hauld.pid, signal.SIGSTOP)  # so that the second comes before the first is done with
    os.kill(hauld.pid, signal.SIGTERM)
    os.kill(hauld.pid, signal.SIGINT)
    os.kill(hauld.pid, signal.SIGCONT)
    assert hauld.wait() in (-signal.SIGTERM, -signal.SIGINT)
    hauld.start()
    until(hauld, job, is_done)
    assert hauld.stored("a") == dovecot.read_all(mail_user)
    assert hauld.stop() == 0


def test_L3_a_second_signal_ends_a_daemon_at_once_whose_loop_is_blocked(tmp_path: Path) -> None:
    hauld = start_to_be_blocked(Hauld(tmp_path / "haul", {}))
    block_loop(hauld)
    asked = time.monotonic()
    while (
        hauld.is_running
    ):  # the kernel may give a signal that follows another within microseconds to a thread that does not wake
        os.kill(hauld.pid, signal.SIGTERM)
        time.sleep(0.05)
    assert hauld.wait() == -signal.SIGTERM
    assert time.monotonic() - asked < LONGEST_STOP
    with hauld:
        assert hauld.call("daemon.status")["pid"] == hauld.pid


def test_L3_SIGTERM_in_a_storm_of_SIGHUP_ends_the_daemon_in_order(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> None:
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)})
    job = begun(hauld, dovecot, mail_user)
    asked = time.monotonic()
    for number in [*[signal.SIGHUP] * 100, signal.SIGTERM, *[signal.SIGHUP] * 100]:
        os.kill(hauld.pid, number)
    assert hauld.wait() == 0
    assert time.monotonic() - asked < LONGEST_STOP
    hauld.start()
    until(hauld, job, is_done)
    assert hauld.stored("a") == dovecot.read_all(mail_user)
    assert "adopted" not in hauld.log(), "an end in order leaves nothing to adopt"
    assert hauld.stop() == 0


def test_L3_a_storm_of_SIGHUP_ends_nothing(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> None:
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)})
    job = begun(hauld, dovecot, mail_user)
    for _ in range(200):
        os.kill(hauld.pid, signal.SIGHUP)
    until(hauld, job, is_done)
    assert hauld.stop() == 0


def test_L16_what_a_power_cut_left_behind_is_taken_over(tmp_path: Path) -> None:
    """Socket, lock files and the number of a process that has become somebody else's."""
    hauld = Hauld(tmp_path / "haul", {})
    hauld.start()
    hauld.kill()
    assert hauld.socket.is_socket(), "it had no time to tidy up"
    lock = hauld.state.with_name(hauld.state.name + ".lock")
    lock.write_text(f"{os.getpid()}\n")
    hauld.start()
    assert hauld.call("daemon.status")["pid"] == hauld.pid
    assert lock.read_text() == f"{hauld.pid}\n"
    assert hauld.stop() == 0


@pytest.mark.parametrize("stuck", [False, True], ids=["closed", "full"])
def test_L20_a_daemon_whose_log_nobody_takes_does_its_work(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, stuck: bool
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(300, size=2000))
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)})
    reading, writing = os.pipe()
    if stuck:
        os.set_blocking(writing, False)
        while True:
            try:
                os.write(writing, bytes(4096))
            except BlockingIOError:
                break
        os.set_blocking(writing, True)
    process = subprocess.Popen([SCRIPTS / "hauld", "run", "--config", hauld.config], stdin=subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    if not stuck:
        os.close(reading)
    try:
        wait_for_answer(hauld.socket)
        done = hauld.haulctl("create", "a", "--once", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        assert hauld.stored("a") == dovecot.read_all(mail_user)
        process.terminate()
        assert process.wait(LONGEST_STOP) == 0
    finally:
        process.kill()
        process.wait()
        if stuck:
            os.close(reading)


def wait_for_answer(path: Path) -> None:
    """Until somebody listens; there is no log to read that from."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as knocking:
            if knocking.connect_ex(str(path)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens at {path}")
