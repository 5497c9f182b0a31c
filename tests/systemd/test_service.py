"""hauld as systemd runs it: the shipped units on a real systemd, and what an administrator does with them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.daemon import stored_below
from support.dovecot import Dovecot, User
from support.messages import messages
from systemd.machine import Bridge, Machine, bridge

MESSAGES = 300
SOON = {"RestartSec": "100ms"}
"""The unit gives trouble ten seconds to pass, for which no test needs to wait."""


@contextmanager
def configured(machine: Machine, dovecot: Dovecot, user: User, *, room: float = float("inf")) -> Iterator[Bridge]:
    """The account ``work``, with an encrypted credential; at first so many bytes pass from its server."""
    with bridge(machine, dovecot.host, dovecot.tls_port, room) as way:
        machine.write("/etc/haul/ca.pem", dovecot.certificate.read_text())
        machine.write(
            "/etc/haul/haul.toml",
            f"""\
[retry]
initial = "0.1s"
[accounts.work]
host = "127.0.0.1"
port = {way.port}
user = {json.dumps(user.name)}
ca_file = "ca.pem"
credential = "work"
""",
        )
        machine.run(
            "systemd-creds", "encrypt", "--with-key=host", "--name=work", "-", "/etc/haul/work.cred", said=user.password
        )
        machine.drop_in("hauld.service", LoadCredentialEncrypted="work:/etc/haul/work.cred", **SOON)
        yield way


def truth(dovecot: Dovecot, user: User) -> dict[str, dict[int, str]]:
    return {folder: kept for folder, kept in dovecot.read_all(user).items() if kept}


def stored(machine: Machine, account: str = "work") -> dict[str, dict[int, str]]:
    found = stored_below(machine.path(f"/var/lib/haul/mail/{account}"))
    return {folder: kept for folder, kept in found.items() if kept}


def create(machine: Machine) -> str:
    job: str = json.loads(machine.run("haulctl", "create", "work", "--once", "--json").stdout)["id"]
    return job


@contextmanager
def blockable(machine: Machine) -> Iterator[None]:
    """A hauld that starts now stands still at SIGUSR1: its loop, and nothing else of it."""
    hook = "/usr/lib/haul/daemon/sitecustomize.py"
    machine.write(hook, "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: time.sleep(600))\n")
    try:
        yield
    finally:
        machine.path(hook).unlink()


def said(machine: Machine, invocation: str) -> str:
    """What systemd and hauld wrote to the journal of one start and end of the service."""
    entries = machine.journal(f"INVOCATION_ID={invocation}", "+", f"_SYSTEMD_INVOCATION_ID={invocation}")
    return "\n".join(str(entry["MESSAGE"]) for entry in entries)


def test_a_mailbox_is_mirrored_with_a_password_that_only_the_machine_can_read(
    machine: Machine, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(MESSAGES * 2 // 3))
    dovecot.fill(mail_user, "Projects/a b", messages(MESSAGES // 3, seed=2))
    with configured(machine, dovecot, mail_user):
        machine.run("systemctl", "start", "hauld")
        machine.run("haulctl", "create", "work", "--once", "--wait")
        assert stored(machine) == truth(dovecot, mail_user)
        assert sum(map(len, stored(machine).values())) == MESSAGES
        assert mail_user.password not in machine.path("/etc/haul/work.cred").read_text()
        assert not any(mail_user.password in str(entry) for entry in machine.journal())


def test_L2_a_daemon_that_is_killed_is_started_again_and_its_job_ends_exactly(
    machine: Machine, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(MESSAGES))
    with configured(machine, dovecot, mail_user, room=1_000_000) as way:
        machine.run("systemctl", "start", "hauld")
        job = create(machine)
        assert way.full.wait(20)
        machine.run("systemctl", "kill", "--signal=KILL", "hauld")
        machine.wait_until("hauld", lambda now: now["NRestarts"] != "0" and now["ActiveState"] == "active")
        assert json.loads(machine.run("haulctl", "show", job, "--json").stdout)["status"] == "running"
        way.open()
        machine.run("haulctl", "watch", job)
        assert stored(machine) == truth(dovecot, mail_user)


def test_a_stop_in_the_middle_of_an_import_is_clean_and_takes_less_than_ten_seconds(
    machine: Machine, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(MESSAGES))
    with configured(machine, dovecot, mail_user, room=1_000_000) as way:
        machine.run("systemctl", "start", "hauld")
        create(machine)
        assert way.full.wait(20)
        invocation = machine.show("hauld", "InvocationID")["InvocationID"]
        begun = time.monotonic()
        machine.run("systemctl", "stop", "hauld")
        assert time.monotonic() - begun < 10
        assert machine.show("hauld", "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
        assert "Deactivated successfully" in said(machine, invocation)
        assert "kill" not in said(machine, invocation).lower()


def test_G1_a_wrong_configuration_is_told_and_not_tried_again(machine: Machine) -> None:
    machine.write("/etc/haul/haul.toml", '[accounts.work]\nhost = "imap.example.org"\nport = 70000\n')
    machine.drop_in("hauld.service", **SOON)
    assert machine.run("systemctl", "start", "hauld", check=False).returncode != 0
    now = machine.show("hauld", "ActiveState", "Result", "ExecMainStatus", "NRestarts", "InvocationID")
    invocation = now.pop("InvocationID")
    assert now == {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "78", "NRestarts": "0"}
    assert "port" in said(machine, invocation)
    assert "user" in said(machine, invocation)


def test_a_reload_adds_an_account_and_with_a_wrong_file_it_fails_and_changes_nothing(
    machine: Machine, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(10))
    with configured(machine, dovecot, mail_user) as way:
        machine.run("systemctl", "start", "hauld")
        before = machine.show("hauld", "MainPID")
        other = dovecot.add_user()
        dovecot.fill(other, "INBOX", messages(10, seed=2))
        machine.write("/etc/haul/home.password", other.password, 0o600, "haul")
        good = f"""\
[accounts.home]
host = "127.0.0.1"
port = {way.port}
user = {json.dumps(other.name)}
ca_file = "../ca.pem"
password_file = "../home.password"
"""
        machine.write("/etc/haul/accounts.d/home.toml", good)
        machine.run("systemctl", "reload", "hauld")
        machine.run("haulctl", "create", "home", "--once", "--wait")
        assert stored(machine, "home") == truth(dovecot, other)

        machine.write("/etc/haul/accounts.d/home.toml", good.replace("port =", "prot ="))
        assert machine.run("systemctl", "reload", "hauld", check=False).returncode != 0
        status = json.loads(machine.run("haulctl", "status", "--json").stdout)
        assert "prot" in json.dumps(status)
        machine.run("haulctl", "create", "home", "--once", "--wait")

        machine.write("/etc/haul/accounts.d/home.toml", good)
        machine.run("systemctl", "reload", "hauld")
        assert "prot" not in machine.run("haulctl", "status", "--json").stdout
        assert machine.show("hauld", "ActiveState", "MainPID") == {"ActiveState": "active", **before}


def test_R6_a_loop_that_is_blocked_is_ended_by_the_watchdog_and_the_job_goes_on(
    machine: Machine, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(MESSAGES))
    with configured(machine, dovecot, mail_user, room=1_000_000) as way, blockable(machine):
        machine.drop_in("hauld.service", name="watchdog", WatchdogSec="3s")
        machine.run("systemctl", "start", "hauld")
        create(machine)
        assert way.full.wait(20)
        invocation = machine.show("hauld", "InvocationID")["InvocationID"]
        machine.run("systemctl", "kill", "--kill-whom=main", "--signal=USR1", "hauld")
        machine.wait_until("hauld", lambda now: now["NRestarts"] != "0" and now["ActiveState"] == "active")
        assert "Watchdog timeout" in said(machine, invocation)
        way.open()
        machine.run("haulctl", "create", "work", "--once", "--wait")
        assert stored(machine) == truth(dovecot, mail_user)


def test_whoever_runs_haulctl_starts_the_service_by_its_socket(machine: Machine) -> None:
    anna, eve = machine.person("anna", "haul"), machine.person("eve")
    machine.write("/etc/haul/haul.toml", "")
    machine.run("systemctl", "start", "hauld.socket")
    assert machine.show("hauld", "ActiveState") == {"ActiveState": "inactive"}
    assert eve.run("haulctl", "status", check=False).returncode != 0
    assert machine.show("hauld", "ActiveState") == {"ActiveState": "inactive"}
    for _ in range(2):
        anna.run("haulctl", "status")
        assert machine.show("hauld", "ActiveState") == {"ActiveState": "active"}
        # the socket outlives the service, and starts it again
        machine.run("systemctl", "stop", "hauld.service")
        assert machine.show("hauld.socket", "ActiveState") == {"ActiveState": "active"}


def test_without_the_socket_unit_the_service_makes_its_socket(machine: Machine) -> None:
    machine.write("/etc/haul/haul.toml", "")
    machine.run("systemctl", "start", "hauld.service")
    machine.run("haulctl", "status")
    assert machine.show("hauld.socket", "ActiveState") == {"ActiveState": "inactive"}


def test_the_journal_has_what_hauld_says_in_fields(machine: Machine, dovecot: Dovecot, mail_user: User) -> None:
    with configured(machine, dovecot, mail_user):
        machine.run("systemctl", "start", "hauld")
        invocation = machine.show("hauld", "InvocationID")["InvocationID"]
        job = create(machine)
        machine.run("haulctl", "watch", job)
        entries = machine.journal(f"_SYSTEMD_INVOCATION_ID={invocation}")
        assert {entry["HAUL_EVENT"] for entry in entries} >= {"daemon.ready", "job.completed"}
        assert {entry["_SYSTEMD_UNIT"] for entry in entries} == {"hauld.service"}
        assert not any(str(entry["MESSAGE"]).startswith("{") for entry in entries)
        assert machine.journal(f"_SYSTEMD_INVOCATION_ID={invocation}", f"HAUL_JOB={job}")


def test_a_user_who_lingers_has_a_hauld_of_her_own(machine: Machine, dovecot: Dovecot, mail_user: User) -> None:
    dovecot.fill(mail_user, "INBOX", messages(10))
    berta = machine.person("berta")
    berta.linger()
    with bridge(machine, dovecot.host, dovecot.tls_port) as way:
        berta.write("password", mail_user.password)
        berta.write(".config/haul/ca.pem", dovecot.certificate.read_text())
        berta.write(
            ".config/haul/haul.toml",
            f"""\
[accounts.work]
host = "127.0.0.1"
port = {way.port}
user = {json.dumps(mail_user.name)}
ca_file = "ca.pem"
password_file = "~/password"
""",
        )
        berta.run("systemctl", "--user", "start", "hauld.socket")
        berta.run("haulctl", "create", "work", "--once", "--wait")
        kept = stored_below(berta.home / ".local/state/haul/mail/work")
        assert {folder: found for folder, found in kept.items() if found} == truth(dovecot, mail_user)
        berta.run("systemctl", "--user", "stop", "hauld")
        assert berta.run("systemctl", "--user", "show", "hauld", "--property=Result").stdout == "Result=success\n"
