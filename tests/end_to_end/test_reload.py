"""A daemon whose configuration is edited while it works: what is told, what goes on, and what does not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from haulapi.faults import Exit
from support.daemon import PATIENCE, Hauld
from support.dovecot import Dovecot, User
from support.held_imap import Held, account, served
from support.messages import messages
from support.scripted_imap import Mailbox

QUICKLY = 5.0
"""Seconds, at most, until an account that was removed does nothing more."""


@pytest.fixture
def held() -> Held:
    """A server that gives three bodies, and no more until it is let go."""
    return Held({b"INBOX": Mailbox({uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in range(1, 9)})}, free=3)


@pytest.fixture
def other(dovecot: Dovecot, mail_user: User) -> dict[str, Any]:
    """An account on a server that has ten messages and works."""
    dovecot.fill(mail_user, "INBOX", messages(10, size=500))
    return {**dovecot.account(mail_user), "mirror": "full"}


def until(hauld: Hauld, account: str, status: str) -> dict[str, Any]:
    """The account's newest job, once it is so."""
    end = time.monotonic() + PATIENCE
    while True:
        jobs = hauld.call("jobs.list", account=account)["jobs"]
        if jobs and jobs[0]["status"] == status:
            return dict(jobs[0])
        assert time.monotonic() < end, jobs
        time.sleep(0.02)  # what a person would look at, too


def reloads(hauld: Hauld, event: str = "reload.done") -> int:
    return sum(json.loads(line).get("event") == event for line in hauld.lines)


def test_an_account_in_a_file_of_its_own_is_there_after_a_reload_and_mirrored(tmp_path, other):
    hauld = Hauld(tmp_path / "haul", {})
    with hauld:
        assert hauld.call("accounts.list")["accounts"] == []
        keys = {**other, "password_command": ["printf", "%s", other["password"]]}
        del keys["password"]
        hauld.configure_beside("mine.toml", {"mine": keys})
        told = hauld.haulctl("reload", "-o", "json")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["added"] == ["mine"]
        job = until(hauld, "mine", "completed")
        assert (job["requester"], job["progress"]["downloaded_items"]) == ("configuration", 10)
        assert "nothing is different" not in hauld.log()
        assert hauld.haulctl("reload").stdout.split() == ["As", "they", "were", "1", "account"]


def test_a_wrong_file_changes_nothing_and_is_told_until_it_is_mended(tmp_path, other):
    hauld = Hauld(tmp_path / "haul", {"a": other})
    with hauld:
        until(hauld, "a", "completed")
        wrong = hauld.configure_beside("b.toml", {"b": {"host": "h", "user": "u", "prot": 1}}, "[daemon]")
        done = hauld.haulctl("reload")
        assert done.returncode == Exit.CONFIGURATION
        assert f"{wrong}: account b: prot: there is no such key; did you mean 'port'?" in done.stderr
        assert f"{wrong}: daemon: belongs in haul.toml" in done.stderr
        status = hauld.haulctl("status")
        assert status.returncode == 0
        assert "Wrong: 1" in status.stdout
        assert str(wrong) in status.stdout.replace("\n", "")
        assert [each["name"] for each in hauld.call("accounts.list")["accounts"]] == ["a"]
        assert reloads(hauld, "reload.failed") == 1
        wrong.unlink()
        assert hauld.haulctl("reload").returncode == 0
        assert hauld.call("daemon.status")["configuration_error"] is None
        assert "Nothing is wrong." in hauld.haulctl("status").stdout


def test_G3_an_account_that_is_removed_while_it_downloads_stops_soon_and_leaves_the_others_alone(tmp_path, held, other):
    with served(held) as server:
        hauld = Hauld(tmp_path / "haul", {"held": account(held, server), "a": other})
        with hauld:
            until(hauld, "a", "completed")
            job = hauld.call("jobs.create", account="held")["id"]
            held.wait_until_asked()
            connected = hauld.call("accounts.get", account="a")["connections"]
            hauld.configure({"a": other})
            began = time.monotonic()
            told = json.loads(hauld.haulctl("reload", "-o", "json").stdout)
            assert time.monotonic() - began < QUICKLY + 1  # haulctl itself takes some of that
            assert (told["removed"], told["unchanged"]) == (["held"], ["a"])
            failed = hauld.call("jobs.get", job=job)
            assert (failed["status"], failed["error"]["kind"]) == ("failed", "configuration")
            assert "no longer configured" in failed["error"]["message"]
            assert hauld.call("accounts.get", account="a")["connections"] == connected
            stored = len(hauld.files())

            # what it had stored is known when it comes back
            held.let_go()
            hauld.configure({"held": {**account(held, server), "mirror": "full"}, "a": other})
            assert hauld.haulctl("reload").returncode == 0
            again = until(hauld, "held", "completed")["progress"]
            assert (again["downloaded_items"] + again["skipped_items"], len(hauld.files())) == (8, 18)
            assert stored >= 10
    assert "task.broke" not in hauld.log()


def test_G4_another_user_after_a_reload_has_a_ledger_of_its_own(tmp_path, dovecot, mail_user, other):
    second = dovecot.add_user()
    dovecot.fill(second, "INBOX", messages(4, size=500))
    hauld = Hauld(tmp_path / "haul", {"a": other})
    with hauld:
        old = until(hauld, "a", "completed")["id"]
        hauld.configure({"a": {**dovecot.account(second), "mirror": "full"}})
        told = hauld.haulctl("reload")
        assert told.stdout.splitlines()[0].split() == ["Replaced", "a"]
        new = until(hauld, "a", "completed")
        assert (new["progress"]["downloaded_items"], new["progress"]["skipped_items"]) == (4, 0)
        assert hauld.call("jobs.get", job=old)["status"] == "failed"
        assert hauld.call("accounts.get", account="a")["items"] == 4
        assert len(hauld.files()) == 14


def test_L3_a_storm_of_SIGHUP_in_the_middle_of_an_import_costs_it_nothing(tmp_path, held):
    with served(held) as server:
        hauld = Hauld(tmp_path / "haul", {"held": {**account(held, server), "mirror": "full"}})
        with hauld:
            held.wait_until_asked()
            for _ in range(200):
                os.kill(hauld.pid, signal.SIGHUP)
            hauld.haulctl("reload")
            assert 1 <= reloads(hauld) <= 20, "two hundred requests were merged into a few"
            assert server.connections <= 2, "that of the import and that of the listener"
            held.let_go()
            assert until(hauld, "held", "completed")["progress"]["downloaded_items"] == 8


def test_what_can_be_changed_at_once_is_and_the_rest_is_told(tmp_path):
    hauld = Hauld(tmp_path / "haul", {})
    with hauld:
        hauld.configure({}, daemon={"log_level": "warning", "max_running_jobs": 7}, store={"path": str(tmp_path / "elsewhere")})
        told = hauld.haulctl("reload")
        assert "Applied      daemon.log_level, daemon.max_running_jobs" in told.stdout
        assert "hauld has to be restarted for it: store.path" in told.stdout
        assert hauld.call("daemon.status")["store_path"] == str(hauld.mail)
        hauld.haulctl("reload")
        assert reloads(hauld) == 0, "at that level, a reload that goes well says nothing"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE)
        yield listening


def heard(systemd: socket.socket) -> str:
    """The next fact about a reload or the start."""
    while True:
        fact = systemd.recv(4096).decode()
        if fact.startswith(("RELOADING=1", "READY=1")):
            return fact


@pytest.mark.parametrize("good", [True, False], ids=["taken", "wrong"])
@pytest.mark.parametrize("way", ["SIGHUP", "haulctl reload"])
def test_systemd_hears_when_a_reload_begins_and_that_it_is_over_whether_it_was_taken_or_not(tmp_path, systemd, way, good):
    hauld = Hauld(tmp_path / "haul", {})
    with contextlib.ExitStack() as stack:
        stack.callback(hauld.stop)
        hauld.start(environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert heard(systemd) == "READY=1"
        if not good:
            hauld.config.write_text("[deamon]\n")
        before = time.monotonic_ns() // 1000
        if way == "SIGHUP":
            os.kill(hauld.pid, signal.SIGHUP)
        else:
            assert hauld.haulctl("reload").returncode == (0 if good else Exit.CONFIGURATION)
        reloading, _, when = heard(systemd).partition("\nMONOTONIC_USEC=")
        assert reloading == "RELOADING=1"
        assert before <= int(when) <= time.monotonic_ns() // 1000
        assert heard(systemd) == "READY=1"
        assert (hauld.call("daemon.status")["configuration_error"] is None) == good
