"""The doctor: each failure told once, by its real cause, with what to do; and nothing tried twice."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from haulapi.calls import Check, Diagnosis
from haulapi.faults import Exit
from hauld.app import source_of
from hauld.config import AccountConfig, Config, ConfigurationError, load
from hauld.config.keys import DaemonConfig, RetryConfig, StoreConfig
from hauld.doctor import Doctor, exit_of, lines_of, machine
from hauld.model import Trouble
from support.configs import make_account, write_config
from support.dovecot import Dovecot, User
from support.scripted_imap import Client, Honest, Mailbox, ScriptedServer
from support.tls import certificate_for, server_context

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)


def config(directory: Path, *accounts: AccountConfig, **store: Any) -> Config:
    """An installation below that directory."""
    (directory / "mail").mkdir(exist_ok=True)
    return Config(
        path=write_config(directory, ""),
        daemon=DaemonConfig(state=directory / "haul.db", socket=directory / "haul.sock"),
        store=StoreConfig(path=directory / "mail", **{"keep_free": 0, **store}),
        retry=RetryConfig(),
        accounts=MappingProxyType({account.name: account for account in accounts}),
    )


async def diagnosed(directory: Path, *accounts: AccountConfig, **more: Any) -> dict[str, Check]:
    """What is found of these accounts, by its name."""
    found = await Doctor(lambda: config(directory, *accounts), source_of, **more).diagnose()
    return {check.name: check for check in found.checks if check.account}


def account(directory: Path, **values: Any) -> AccountConfig:
    """An account on this machine, with a password file."""
    secret = directory / "password"
    secret.write_text("secret\n", "utf-8")
    secret.chmod(0o600)
    return make_account(**{"host": "127.0.0.1", "user": "alice", "tls": "none", "password_file": secret, **values})


def statuses(found: dict[str, Check]) -> dict[str, str]:
    return {name: check.status for name, check in found.items()}


WELL = dict.fromkeys(("secret", "address", "connection", "sign-in", "folders", "new mail"), "ok")

# --- accounts ------------------------------------------------------------------------------------------------------


async def test_an_account_in_order_is_told_step_by_step(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> None:
    dovecot.fill(mail_user, "INBOX", [])
    keys = {**dovecot.account(mail_user)}
    secret = tmp_path / "secret"
    secret.write_text(str(keys.pop("password")))
    secret.chmod(0o600)
    keys["ca_file"] = dovecot.certificate
    found = await diagnosed(tmp_path, make_account(**keys, password_file=secret))
    assert statuses(found) == {**WELL, "encryption": found["encryption"].status}
    assert str(secret) in found["secret"].message
    assert "TLS 1.3; the certificate of" in found["encryption"].message
    assert "tells of it by itself" in found["new mail"].message
    assert "INBOX among them" in found["folders"].message


async def test_what_cannot_be_looked_at_is_said_to_be_not_checked(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    found = await diagnosed(tmp_path, account(tmp_path, port=port))
    assert found["connection"].status == "failed"
    assert "cannot be reached" in found["connection"].message
    assert statuses(found) == {
        "secret": "ok",
        "address": "ok",
        "connection": "failed",
        **dict.fromkeys(("encryption", "sign-in", "folders", "new mail"), "skipped"),
    }


async def test_a_host_without_an_address_is_told(tmp_path: Path) -> None:
    found = await diagnosed(tmp_path, account(tmp_path, host="host.invalid"))
    assert found["address"].status == "failed"
    assert "host.invalid has no address" in found["address"].message
    assert found["address"].hint


async def test_a_secret_that_is_gone_is_told_and_nobody_is_asked(tmp_path: Path) -> None:
    async with ScriptedServer(Honest()) as server:
        found = await diagnosed(tmp_path, account(tmp_path, port=server.port, password_file=tmp_path / "gone"))
        assert (found["secret"].status, found["secret"].kind) == ("failed", "secret")
        assert server.connections == 0


async def test_a_refused_password_is_tried_once_and_shown_never(tmp_path: Path) -> None:
    async with ScriptedServer(Honest(password=b"another")) as server:
        found = await diagnosed(tmp_path, account(tmp_path, port=server.port))
        assert (found["sign-in"].status, found["sign-in"].kind) == ("failed", "sign-in")
        assert "[AUTHENTICATIONFAILED]" in found["sign-in"].message
        assert found["sign-in"].hint
        assert len(server.asked("AUTHENTICATE")) == 1
    assert not any("secret\n" in check.message for check in found.values())


async def test_a_refused_token_is_tried_once(tmp_path: Path) -> None:
    honest = Honest(capabilities=b"IMAP4rev1 AUTH=XOAUTH2 SASL-IR", password=b"another")
    async with ScriptedServer(honest) as server:
        command = {"password_file": None, "auth": "xoauth2", "token_command": ("sh", "-c", "date +%N")}
        found = await diagnosed(tmp_path, account(tmp_path, port=server.port, **command))
        assert (found["sign-in"].status, found["sign-in"].kind) == ("failed", "sign-in")
        assert "sh gives" in found["secret"].message
        assert len(server.asked("AUTHENTICATE")) == 1


async def test_an_account_that_is_known_to_be_refused_is_not_tried_again(tmp_path: Path) -> None:
    refused = Trouble("sign-in", "the server refused alice", "Change the password.", 0, None)
    async with ScriptedServer(Honest()) as server:
        found = await diagnosed(tmp_path, account(tmp_path, port=server.port), trouble={"work": refused}.get)
        assert found["sign-in"].status == "failed"
        assert "not tried, because hauld was refused before: the server refused alice" in found["sign-in"].message
        assert "Change the password." in str(found["sign-in"].hint)
        assert found["encryption"].status == "ok"
        assert server.asked("AUTHENTICATE") == []


async def test_a_step_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    async def says_nothing(client: Client) -> None:
        await client.gone()

    async with ScriptedServer(says_nothing) as server:
        found = await diagnosed(tmp_path, account(tmp_path, port=server.port), step=0.2)
        assert (found["connection"].status, found["connection"].kind) == ("failed", "timeout")
        assert found["sign-in"].status == "skipped"


async def test_a_server_without_an_inbox_without_push_and_with_limits_is_told(tmp_path: Path) -> None:
    honest = Honest({b"Other": Mailbox()}, capabilities=b"IMAP4rev1 AUTH=PLAIN SASL-IR MESSAGELIMIT=1000")
    async with ScriptedServer(honest) as server:
        found = await diagnosed(tmp_path, account(tmp_path, port=server.port))
        assert found["folders"].status == "warning"
        assert "no INBOX" in found["folders"].message
        assert "asked by the schedule" in found["new mail"].message
        assert "MESSAGELIMIT=1000" in found["limits"].message


async def test_a_connection_that_would_be_readable_is_not_made(tmp_path: Path) -> None:
    found = await diagnosed(tmp_path, account(tmp_path, host="192.0.2.1"))
    assert (found["connection"].status, found["connection"].kind) == ("failed", "configuration")


# --- encryption ----------------------------------------------------------------------------------------------------


async def test_a_certificate_that_nobody_trusts_is_a_matter_of_encryption(tmp_path: Path) -> None:
    async with ScriptedServer(Honest(), tls=server_context(certificate_for(tmp_path, days=2))) as server:
        found = await diagnosed(tmp_path, account(tmp_path, host="localhost", port=server.port, tls="implicit"))
        assert found["connection"].status == "ok"
        assert (found["encryption"].status, found["encryption"].kind) == ("failed", "certificate")
        assert "ca_file" in str(found["encryption"].hint)


async def test_a_certificate_that_ends_soon_is_warned_of(tmp_path: Path) -> None:
    certificate = certificate_for(tmp_path, days=2)
    async with ScriptedServer(Honest(), tls=server_context(certificate)) as server:
        mine = account(tmp_path, host="localhost", port=server.port, tls="implicit", ca_file=certificate)
        found = await diagnosed(tmp_path, mine)
        assert found["encryption"].status == "warning"
        assert "the certificate of localhost is good for 2 more days" in found["encryption"].message
        assert found["sign-in"].status == "ok"


async def test_a_certificate_of_tomorrow_is_a_matter_of_the_clock(tmp_path: Path) -> None:
    certificate = certificate_for(tmp_path, days=2, begins="20990101000000Z", ends="20990201000000Z")
    async with ScriptedServer(Honest(), tls=server_context(certificate)) as server:
        mine = account(tmp_path, host="localhost", port=server.port, tls="implicit", ca_file=certificate)
        found = await diagnosed(tmp_path, mine)
        assert found["encryption"].status == "failed"
        assert "Check the clock of this machine" in str(found["encryption"].hint)


# --- the configuration ---------------------------------------------------------------------------------------------


async def test_a_wrong_configuration_is_told_and_the_rest_not_checked(tmp_path: Path) -> None:
    path = write_config(tmp_path, "[accounts.work]\nhost = 1\n")
    found = await Doctor(lambda: load(path), source_of).diagnose()
    failed = [check for check in found.checks if check.status == "failed"]
    assert {check.name for check in failed} == {"configuration"}
    assert any("account work: host" in check.message for check in failed)
    assert {check.name for check in found.checks if check.status == "skipped"} >= {"store", "clock", "accounts"}
    assert exit_of(found) == Exit.CONFIGURATION


async def test_a_configuration_that_others_may_write_is_told(tmp_path: Path) -> None:
    path = write_config(tmp_path, "", mode=0o666)
    found = await Doctor(lambda: load(path), source_of).diagnose()
    assert "may be written by others" in found.checks[0].message


async def test_what_the_configuration_names_and_is_not_here_is_a_warning(tmp_path: Path) -> None:
    mine = make_account(password_command=("no-such-program-here",), host="host.invalid")
    found = await Doctor(lambda: config(tmp_path, mine), source_of).diagnose()
    warning = next(check for check in found.checks if check.status == "warning" and check.name == "configuration")
    assert (warning.account, "no-such-program-here" in warning.message) == ("work", True)


async def test_a_running_daemon_is_judged_by_what_it_works_by(tmp_path: Path) -> None:
    def unusable() -> Config:
        raise ConfigurationError(tmp_path / "haul.toml", [])

    before = config(tmp_path)
    found = await Doctor(unusable, source_of, in_force=lambda: before).diagnose()
    assert {check.name for check in found.checks} >= {"store", "clock"}


@pytest.mark.parametrize(("refused", "told"), [("host: wrong", "mended now"), (None, "something else than hauld works by")])
async def test_files_that_are_not_in_force_are_told(tmp_path: Path, refused: str | None, told: str) -> None:
    before = config(tmp_path)
    after = replace(before, retry=RetryConfig(attempts=3))
    found = await Doctor(lambda: after, source_of, in_force=lambda: before, refused=lambda: refused).diagnose()
    warning = next(check for check in found.checks if check.status == "warning" and check.name == "configuration")
    assert told in warning.message
    assert "haulctl reload" in str(warning.hint)


async def test_an_account_that_is_not_configured_is_told(tmp_path: Path) -> None:
    found = await Doctor(lambda: config(tmp_path, make_account()), source_of).diagnose("other")
    assert found.checks[-1].status == "failed"
    assert found.checks[-1].hint == "The accounts are: work."


# --- the machine ---------------------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """For this test nobody may ignore modes: root looks as another user would."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def of(checks: Iterator[Check], status: str) -> list[Check]:
    return [check for check in checks if check.status == status]


@pytest.mark.usefixtures("unprivileged")
def test_a_store_that_may_not_be_written_is_told_with_whom_to_give_it_to() -> None:
    with tempfile.TemporaryDirectory() as directory:
        here = config(Path(directory))
        here.store.path.chmod(0o555)
        (told,) = [check for check in of(machine.directories(here, []), "failed") if check.name == "store"]
        assert "may not be written" in told.message
        assert "chown" in str(told.hint)


def test_a_store_that_everybody_may_write_to_is_told(tmp_path: Path) -> None:
    here = config(tmp_path)
    here.store.path.chmod(0o777)
    assert "everybody may write" in of(machine.directories(here, []), "failed")[0].message


def test_a_disk_with_less_room_than_is_kept_free_is_told(tmp_path: Path) -> None:
    told = of(machine.directories(config(tmp_path, keep_free=2**62), []), "failed")
    assert [check.name for check in told] == ["store"]
    assert "are to stay free" in told[0].message


@pytest.mark.parametrize(
    ("mebibytes", "keep_free", "told"),
    [
        (10, 0, "only 10 MiB are free on the file system of /mail, and an import may need more"),
        (10, 5, "only 10 MiB are free on the file system of /mail, and an import may need more"),
        (10, 20, "10 MiB are free on the file system of /mail, and 20 MiB are to stay free"),
        (900, 1024, "900 MiB are free on the file system of /mail, and 1.0 GiB are to stay free"),
    ],
)
def test_room_that_is_to_stay_free_is_told_only_where_it_is(mebibytes: int, keep_free: int, told: str) -> None:
    free = os.statvfs_result((4096, 1024**2, 9999, mebibytes, mebibytes, 0, 0, 0, 0, 255))
    check = machine.room("store", Path("/mail"), free, keep_free * 1024**2)
    assert (check.status, check.message) == ("failed", told)


def test_a_file_system_that_is_read_only_is_told_and_not_taken_for_a_matter_of_owners() -> None:
    told = machine.read_only("store", Path("/mail"), os.statvfs_result((4096, 4096, 9, 9, 9, 9, 9, 9, os.ST_RDONLY, 255)))
    assert told is not None
    assert (told.status, told.message) == ("failed", "the file system of /mail is read-only")
    assert "The file system is read-only: look for disk errors" in str(told.hint)
    assert machine.read_only("store", Path("/mail"), os.statvfs_result((4096, 4096, 9, 9, 9, 9, 9, 9, 0, 255))) is None


def test_a_store_that_is_not_there_yet_is_in_order_where_it_can_be_made(tmp_path: Path) -> None:
    here = config(tmp_path)
    here.store.path.rmdir()
    told = list(machine.directories(here, []))
    assert not [check for check in told if check.status == "failed"]
    assert any("which will be made in" in check.message for check in told)


@pytest.mark.parametrize(("kind", "why"), [("nfs4", "locks"), ("vfat", "owners"), ("tmpfs", "restart")])
def test_a_file_system_that_is_not_to_be_relied_on_is_a_warning(tmp_path: Path, kind: str, why: str) -> None:
    mounted = machine.mounts(f"22 1 0:21 / / rw - ext4 /dev/sda rw\n36 22 0:33 / {tmp_path}/mail rw shared:5 - {kind} x rw\n")
    told = of(machine.directories(config(tmp_path), mounted), "warning")
    assert [check.name for check in told] == ["store"]
    assert kind in told[0].message
    assert why in told[0].message


def test_a_mount_with_a_blank_in_its_name_is_found() -> None:
    assert machine.mounts(r"36 22 0:33 / /my\040disk rw - nfs x rw") == [machine.Mount(Path("/my disk"), "nfs")]


def test_a_mount_whose_name_is_no_text_is_found_too() -> None:
    told = os.fsdecode(b"36 22 0:33 / /Platte\\040\xe4 rw - nfs x rw")
    assert machine.mounts(told) == [machine.Mount(Path(os.fsdecode(b"/Platte \xe4")), "nfs")]


def test_a_socket_that_is_open_to_everybody_is_told(tmp_path: Path) -> None:
    path = tmp_path / "haul.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        assert machine.socket_file(path).status == "failed"
        path.chmod(0o660)
        assert machine.socket_file(path).status == "ok"
    path.unlink()
    path.write_text("")
    assert "is no socket" in machine.socket_file(path).message


def test_a_clock_that_cannot_be_right_is_told(tmp_path: Path) -> None:
    here = config(tmp_path)
    os.utime(here.path, (NOW.timestamp(), NOW.timestamp()))
    assert machine.clock(here, NOW).status == "ok"
    assert machine.clock(here, NOW.replace(year=1970)).status == "failed"
    assert machine.clock(here, NOW.replace(day=1, hour=9)).status == "warning"


def test_too_few_open_files_for_the_accounts_are_a_warning(tmp_path: Path) -> None:
    here = config(tmp_path, *(make_account(f"a{number}", user=f"u{number}", connections=10) for number in range(100)))
    assert machine.open_files(here, 1024).status == "warning"
    assert machine.open_files(here, 4096).status == "ok"


# --- in words ------------------------------------------------------------------------------------------------------


def test_each_check_is_a_line_and_what_to_do_is_below_it() -> None:
    found = Diagnosis(
        checks=[
            Check(name="clock", message="it says noon"),
            Check(name="sign-in", account="work", status="failed", message="no\x1b", hint="Ask.", kind="sign-in"),
        ]
    )
    assert list(lines_of(found)) == ["ok       clock: it says noon", "failed   work: sign-in: no\\x1b", "           Ask."]
    assert exit_of(found) == Exit.SIGN_IN_REFUSED
