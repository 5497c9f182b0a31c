"""A daemon that may open no more files: it says so, waits, and goes on when it may."""

from __future__ import annotations

import json
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from haulapi.faults import Exit
from support.daemon import PATIENCE, Hauld
from support.dovecot import Dovecot, User
from support.messages import messages
from support.watching import is_done, waits


@contextmanager
def no_more_files(pid: int, *, left: int = 0) -> Iterator[None]:
    """The process may have this many files open beside those that it has."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    numbers = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
    free = [number for number in range(numbers[-1]) if number not in numbers]
    assert len(free) <= left, "descriptors are given out from the lowest on"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (numbers[-1] + 1 + left - len(free), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


class Line:
    """A connection to the daemon that was made in better times."""

    def __init__(self, hauld: Hauld) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(hauld.socket))
        self._replies = self._socket.makefile("rb")
        self.call("daemon.status")

    def call(self, method: str, **params: Any) -> Any:
        self._socket.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
        return json.loads(self._replies.readline())["result"]

    def until(self, job: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The job, as soon as it is so. Asked again and again, because following events would take a second connection."""
        deadline = time.monotonic() + PATIENCE
        while not true(seen := self.call("jobs.get", job=job)):
            assert seen["status"] in ("pending", "running"), seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.01)
        return seen

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self._socket.close()


def processor_seconds(pid: int) -> float:
    """User and system time of the process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_L8_a_client_for_whom_no_descriptor_is_left_is_told_so_in_words(tmp_path: Path) -> None:
    with Hauld(tmp_path / "haul", {}) as hauld:
        spent = processor_seconds(hauld.pid)
        with Line(hauld) as old, no_more_files(hauld.pid):
            for _ in range(3):
                refused = hauld.haulctl("status")
                assert refused.returncode == Exit.TRY_AGAIN
                assert "too many files and connections open" in refused.stderr
                assert "LimitNOFILE=" in refused.stderr
            assert old.call("daemon.status")["pid"] == hauld.pid
        assert hauld.haulctl("status").returncode == 0
        assert processor_seconds(hauld.pid) - spent < 1.0, "nothing spins"
        assert "Too many open files" not in hauld.log()


def test_L8_a_crowd_that_knocks_at_once_is_turned_away_one_by_one(tmp_path: Path) -> None:
    with Hauld(tmp_path / "haul", {}) as hauld:
        with no_more_files(hauld.pid, left=2):
            crowd = []
            for _ in range(30):
                knocking = socket.socket(socket.AF_UNIX)
                knocking.settimeout(PATIENCE)
                knocking.connect(str(hauld.socket))
                crowd.append(knocking)
            told = [json.loads(each.recv(4096))["error"]["data"]["kind"] for each in crowd[5:]]
            assert set(told) == {"too_many"}
            for knocking in crowd:
                knocking.close()
        assert hauld.haulctl("status").returncode == 0


def test_L8_a_job_that_cannot_connect_for_want_of_descriptors_waits_and_goes_on(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(20, size=2000))
    with Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}) as hauld, Line(hauld) as line:
        with no_more_files(hauld.pid):
            job = line.call("jobs.create", account="a", live=False)["id"]
            seen = line.until(job, waits)
            assert seen["error"]["kind"] == "files"
            assert "LimitNOFILE=" in seen["error"]["hint"]
            assert seen["error"]["retry_at"]
            assert line.call("accounts.get", account="a")["state"] == "idle", "no account is blamed"
        line.until(job, is_done)
        assert hauld.stored("a") == dovecot.read_all(mail_user)


def test_L8_a_store_that_may_open_no_file_makes_the_job_wait_and_goes_on(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    """The connection to the origin is there from an earlier job; only the store wants descriptors."""
    dovecot.fill(mail_user, "INBOX", messages(1, size=2000))
    account = dovecot.account(mail_user, connections=1)
    with Hauld(tmp_path / "haul", {"a": account}) as hauld, Line(hauld) as line:
        line.until(line.call("jobs.create", account="a", live=False)["id"], is_done)
        dovecot.fill(mail_user, "INBOX", messages(20, size=2000, seed=2))
        with no_more_files(hauld.pid):
            job = line.call("jobs.create", account="a", live=False)["id"]
            seen = line.until(job, waits)
            assert seen["error"]["kind"] == "files"
            assert "Too many open files" in seen["error"]["message"]
            assert "LimitNOFILE=" in seen["error"]["hint"]
        done = line.until(job, is_done)
        assert (done["progress"]["downloaded_items"], done["progress"]["failed_items"]) == (20, 0)
        assert hauld.stored("a") == dovecot.read_all(mail_user)
        assert "defect of hauld" not in hauld.log()
