"""What systemd and an administrator find: units that say what is true, and files that go where they are expected."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from haulapi.faults import Exit
from haulctl.cli import cli as haulctl
from haulctl.client import SYSTEM_SOCKET
from hauld.app import START_PATIENCE
from hauld.config import find, load
from hauld.engine.copies import LAST_COPY
from hauld.engine.supervisor import BEAT, LAST_COMMIT
from support.configs import write_config

REPOSITORY = Path(__file__).parents[2]
SYSTEM = REPOSITORY / "systemd" / "hauld.service"
USER = REPOSITORY / "systemd" / "hauld-user.service"
SYSTEM_SOCKET_UNIT = SYSTEM.with_suffix(".socket")
USER_SOCKET_UNIT = USER.with_suffix(".socket")
UNITS = pytest.mark.parametrize("unit", [SYSTEM, USER], ids=lambda unit: unit.stem)
HAULD = Path(sys.executable).with_name("hauld")
HAULCTL = HAULD.with_name("haulctl")
WORST_EXPOSURE = 15
"""Tenths, as ``systemd-analyze security --threshold`` takes it."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
analysed = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def entries(unit: Path) -> Iterator[tuple[str, str]]:
    """Each key of a unit with its value, in order."""
    for line in unit.read_text().splitlines():
        if re.match(r"[A-Z]\w*=", line):
            key, _, value = line.partition("=")
            yield key, value


def seconds(span: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|min)", span).groups()
    return int(number) * {"s": 1, "min": 60}[unit]


# --- the units -----------------------------------------------------------------------------------------------------


@analysed
@UNITS
def test_systemd_has_nothing_to_complain_of(unit, tmp_path):
    # it looks for the programs, too, which are elsewhere in this test, and for the pages
    installed = [tmp_path / "hauld.service", tmp_path / "hauld.socket"]
    installed[0].write_text(unit.read_text().replace("/usr/bin/hauld", str(HAULD)).replace("/usr/bin/haulctl", str(HAULCTL)))
    installed[1].write_text(unit.with_suffix(".socket").read_text())
    command = ["systemd-analyze", "verify", "--man=no", *(["--user"] if unit is USER else []), *installed]
    done = subprocess.run(command, env={"XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@analysed
def test_a_system_service_is_hardly_exposed():
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={WORST_EXPOSURE}", SYSTEM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout


@UNITS
def test_every_line_about_what_it_cannot_do_has_its_reason(unit):
    _, _, hardening = unit.read_text().partition("# --- what it cannot do")
    blocks = re.findall(r"((?:^#.*\n)*)((?:^[A-Z]\w*=.*\n)+)", hardening, re.MULTILINE)
    assert sum(len(keys.splitlines()) for _, keys in blocks) >= 5
    assert [keys for reason, keys in blocks if not reason and "WantedBy" not in keys] == []


@UNITS
def test_a_unit_promises_nothing_that_hauld_does_not_do(unit):
    said = dict(entries(unit))
    assert {"BusName", "FileDescriptorStoreMax"}.isdisjoint(said)
    assert said["Type"] == "notify"
    # systemd gives this to the service's own process and believes nobody else
    assert said["NotifyAccess"] == "main"
    # a reload ends when the daemon has answered, and fails when it could not take the configuration
    assert said["ExecReload"] == "/usr/bin/haulctl reload"
    assert "reload" in haulctl.list_commands(click.Context(haulctl))


@UNITS
def test_R6_the_watchdog_is_more_patient_than_anything_that_is_not_stuck(unit):
    patience = seconds(dict(entries(unit))["WatchdogSec"])
    assert patience >= 10 * BEAT


@UNITS
def test_systemd_waits_as_long_as_hauld_takes(unit):
    said = dict(entries(unit))
    assert seconds(said["TimeoutStartSec"]) >= START_PATIENCE
    assert seconds(said["TimeoutStopSec"]) >= 2 * (LAST_COMMIT + LAST_COPY)


@UNITS
def test_G1_a_wrong_configuration_is_not_tried_again_and_trouble_of_the_machine_is(unit):
    said = dict(entries(unit))
    assert said["Restart"] == "on-failure"
    assert said["RestartPreventExitStatus"].split() == [str(Exit.USAGE.value), str(Exit.CONFIGURATION.value)]


def test_the_places_of_the_system_service_are_those_that_hauld_and_haulctl_look_in(tmp_path):
    said = dict(entries(SYSTEM))
    places = {"STATE_DIRECTORY": "/var/lib", "RUNTIME_DIRECTORY": "/run"}
    names = {"STATE_DIRECTORY": said["StateDirectory"], "RUNTIME_DIRECTORY": said["RuntimeDirectory"]}
    environment = {variable: f"{place}/{names[variable]}" for variable, place in places.items()}
    config = load(write_config(tmp_path, ""), environment)
    assert config.daemon.state == Path("/var/lib/haul/haul.db")
    assert config.store.path == Path("/var/lib/haul/mail")
    assert str(config.daemon.socket) == SYSTEM_SOCKET
    assert find(None, environment, uid=1000) == Path("/etc", said["ConfigurationDirectory"], "haul.toml")


def test_systemd_listens_where_hauld_does_and_lets_the_same_people_in(tmp_path):
    said = dict(entries(SYSTEM_SOCKET_UNIT))
    assert said["ListenStream"] == SYSTEM_SOCKET
    assert (said["SocketUser"], said["SocketGroup"], said["SocketMode"]) == ("haul", "haul", "0660")
    environment = {"XDG_RUNTIME_DIR": "/run/user/1000", "HOME": str(tmp_path)}
    own = load(write_config(tmp_path, ""), environment).daemon.socket
    said = dict(entries(USER_SOCKET_UNIT))
    assert said["ListenStream"].replace("%t", environment["XDG_RUNTIME_DIR"]) == str(own)
    assert (said["SocketMode"], said["DirectoryMode"]) == ("0600", "0700")


@pytest.mark.parametrize("unit", [SYSTEM_SOCKET_UNIT, USER_SOCKET_UNIT], ids=lambda unit: unit.stem)
def test_G1_who_waits_for_a_hauld_that_cannot_start_does_not_have_it_started_again_and_again(unit):
    assert dict(entries(unit))["FlushPending"] == "yes"


def test_the_sockets_directory_stays_while_systemd_listens_there():
    service = dict(entries(SYSTEM))
    assert service["RuntimeDirectoryPreserve"] == "yes"
    made = (REPOSITORY / "systemd" / "tmpfiles.d" / "haul.conf").read_text().splitlines()[-1].split()
    directory = str(Path("/run", service["RuntimeDirectory"]))
    assert made[:5] == ["d", directory, service["RuntimeDirectoryMode"], service["User"], service["Group"]]
    assert str(Path(SYSTEM_SOCKET).parent) == directory


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd-tmpfiles is not installed")
@as_root
def test_systemd_makes_that_directory(tmp_path):
    line = (REPOSITORY / "systemd" / "tmpfiles.d" / "haul.conf").read_text().splitlines()[-1]
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("haul:x:4711:4712::/:/bin/false\n")
    (root / "etc" / "group").write_text("haul:x:4712:\n")
    rule = tmp_path / "haul.conf"
    rule.write_text(line + "\n")
    command = ["systemd-tmpfiles", f"--root={root}", "--create", rule]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    found = (root / "run" / "haul").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (4711, 4712, 0o750)


def test_a_users_service_leaves_the_places_to_hauld():
    assert {"StateDirectory", "RuntimeDirectory", "ConfigurationDirectory", "User"}.isdisjoint(dict(entries(USER)))


def test_what_hauld_needs_is_not_taken_from_the_system_service():
    said = dict(entries(SYSTEM))
    # the peers of the socket are told by uid and groups; a store's group needs setgid directories; and both need chown
    assert (said["PrivateUsers"], said["RestrictSUIDSGID"]) == ("no", "no")
    assert [value for key, value in entries(SYSTEM) if key == "SystemCallFilter"][-1] == "@chown"
    # nor are files of mail closed to the group in the moment in which they are made
    assert int(said["UMask"], 8) & 0o050 == 0


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_user_of_the_service_is_made_with_its_group(tmp_path):
    said = dict(entries(SYSTEM))
    made = REPOSITORY / "systemd" / "sysusers.d" / "haul.conf"
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    command = ["systemd-sysusers", f"--root={root}", "--inline", made.read_text().splitlines()[-1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert f"{said['User']}:" in (root / "etc" / "passwd").read_text()
    assert f"{said['Group']}:" in (root / "etc" / "group").read_text()


# --- what make installs --------------------------------------------------------------------------------------------


def make(target: str, root: Path, prefix: str = "/usr") -> None:
    given = {"DESTDIR": root, "PREFIX": prefix, "SYSCONFDIR": "/etc", "HAUL_PYTHON": sys.executable}
    command = ["make", "-s", "-C", REPOSITORY, *target.split(), *(f"{name}={value}" for name, value in given.items())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, umask=0o077)
    assert done.returncode == 0, done.stderr


def put(root: Path) -> dict[str, Path]:
    """Every file below a directory, by its path there."""
    return {str(path.relative_to(root)): path for path in root.rglob("*") if not path.is_dir()}


EXPECTED = {
    "etc/haul/haul.toml",
    "usr/lib/systemd/system/hauld.service",
    "usr/lib/systemd/system/hauld.socket",
    "usr/lib/systemd/user/hauld.service",
    "usr/lib/systemd/user/hauld.socket",
    "usr/lib/sysusers.d/haul.conf",
    "usr/lib/tmpfiles.d/haul.conf",
    "usr/share/bash-completion/completions/haulctl",
    "usr/share/doc/haul/CHANGELOG.md",
    "usr/share/doc/haul/LICENSE",
    "usr/share/doc/haul/README.md",
    "usr/share/doc/haul/examples/accounts.d/dovecot.toml",
    "usr/share/doc/haul/examples/accounts.d/fastmail.toml",
    "usr/share/doc/haul/examples/accounts.d/gmail.toml",
    "usr/share/doc/haul/examples/accounts.d/outlook.toml",
    "usr/share/doc/haul/examples/haul.toml",
    "usr/share/fish/vendor_completions.d/haulctl.fish",
    "usr/share/haul/haul.schema.json",
    "usr/share/haul/openrpc.json",
    "usr/share/man/man1/haulctl.1",
    "usr/share/man/man5/haul.toml.5",
    "usr/share/man/man8/hauld.8",
    "usr/share/zsh/site-functions/_haulctl",
}


def test_what_is_installed_is_where_a_distribution_has_it_and_is_taken_away_but_for_the_configuration(tmp_path):
    make("install-data install-completions", tmp_path)
    files = put(tmp_path)
    assert set(files) == EXPECTED
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_dir()} == {0o755}
    assert "haulctl" in files["usr/share/bash-completion/completions/haulctl"].read_text()
    assert json.loads(files["usr/share/haul/haul.schema.json"].read_bytes())

    mine = tmp_path / "var/lib/haul/mail/message"
    mine.parent.mkdir(parents=True)
    mine.touch()
    make("uninstall", tmp_path)
    assert set(put(tmp_path)) == {"etc/haul/haul.toml", "var/lib/haul/mail/message"}


def test_units_start_the_program_that_was_installed_with_them(tmp_path):
    make("install-data", tmp_path, "/usr/local")
    for kind in ("system", "user"):
        unit = tmp_path / "usr/local/lib/systemd" / kind / "hauld.service"
        assert dict(entries(unit))["ExecStart"] == "/usr/local/bin/hauld run"
        assert dict(entries(unit))["ExecReload"] == "/usr/local/bin/haulctl reload"


def test_a_configuration_that_is_there_stays_as_it_is(tmp_path):
    mine = tmp_path / "etc/haul/haul.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# mine")
    make("install-data", tmp_path)
    assert mine.read_text() == "# mine"
