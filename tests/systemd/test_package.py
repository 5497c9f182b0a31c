"""The Debian package on a machine where haul has never been. ``make deb-test`` builds it and runs this."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import stored_below
from support.dovecot import Dovecot, User
from support.messages import messages
from systemd.machine import UNITS, Machine, NoMachine, booted, bridge

DIST = Path(__file__).parents[2] / "dist"
VERSION = os.environ.get("HAUL_PACKAGE", "")
pytestmark = pytest.mark.skipif(not VERSION, reason="`make deb-test` builds the packages and tries them")


@pytest.fixture
def bare_machine() -> Iterator[Machine]:
    try:
        with booted(haul="nothing") as machine:
            yield machine
    except NoMachine as reason:
        pytest.skip(str(reason))


def dpkg(machine: Machine, action: str, what: str) -> str:
    """What it says, but for what it always says."""
    done = machine.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", action, what)
    assert "warning" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    return done.stdout


def package(machine: Machine, version: str) -> str:
    """The path of a package there."""
    architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    name = f"haul_{version}_{architecture}.deb"
    shutil.copy(DIST / name, machine.path("/srv"))
    return f"/srv/{name}"


def test_a_package_is_installed_upgraded_removed_and_purged_and_the_mail_stays(
    bare_machine: Machine, dovecot: Dovecot, mail_user: User
) -> None:
    machine = bare_machine
    dovecot.fill(mail_user, "INBOX", messages(20))
    truth = {folder: kept for folder, kept in dovecot.read_all(mail_user).items() if kept}

    dpkg(machine, "--install", package(machine, VERSION))
    for unit in UNITS:
        assert machine.show(unit, "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}
    assert machine.run("systemctl", "--failed", "--quiet").stdout == ""
    assert json.loads(machine.run("haulctl", "status", "--json").stdout)

    with bridge(machine, dovecot.host, dovecot.tls_port) as way:
        machine.write("/etc/haul/password", mail_user.password)
        machine.write("/etc/haul/ca.pem", dovecot.certificate.read_text())
        machine.write(
            "/etc/haul/haul.toml",
            f"""\
[accounts.work]
host = "127.0.0.1"
port = {way.port}
user = {json.dumps(mail_user.name)}
ca_file = "ca.pem"
credential = "work"
""",
        )
        machine.drop_in("hauld.service", LoadCredential="work:/etc/haul/password")
        machine.run("systemctl", "restart", "hauld")
        machine.run("haulctl", "create", "work", "--once", "--wait")

        # what was changed by hand stays, and hauld runs on
        before = machine.show("hauld", "MainPID")
        dpkg(machine, "--install", package(machine, f"{VERSION}+next"))
        assert machine.show("hauld", "ActiveState") == {"ActiveState": "active"}
        assert machine.show("hauld", "MainPID") != before
        assert "[accounts.work]" in machine.path("/etc/haul/haul.toml").read_text()
        assert [job["status"] for job in json.loads(machine.run("haulctl", "list", "--json").stdout)["jobs"]] == ["completed"]

    dpkg(machine, "--remove", "haul")
    assert machine.run("pgrep", "-f", "hauld", check=False).stdout == ""
    assert not machine.path("/usr/lib/haul").exists()
    assert machine.path("/etc/haul/haul.toml").exists()

    assert "/var/lib/haul" in dpkg(machine, "--purge", "haul")
    assert not machine.path("/etc/haul").exists()
    assert not list(machine.path("/etc/systemd/system").rglob("*.wants/hauld*"))
    kept = stored_below(machine.path("/var/lib/haul/mail/work"))
    assert {folder: found for folder, found in kept.items() if found} == truth
