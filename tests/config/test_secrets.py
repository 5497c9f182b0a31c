"""Secrets: where they come from, what happens when they do not (G8), and that no error tells them (G7)."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import keyring
import pytest
from keyring.backends import fail, null

from hauld.config import KeyringConfig
from hauld.errors import HaulError, NeedsAttention, Refused, Transient
from hauld.secrets import LARGEST_SECRET, TokenCommand, read_secret, write_secret
from support import keyrings
from support.configs import make_account

CANARY = "canary-4e1c"
MEMORY = KeyringConfig(backend="support.keyrings.Memory")


@pytest.fixture(autouse=True)
def _nothing_kept_and_nothing_logged(caplog):
    """Each test begins with an empty keyring, and ends without a canary in any log."""
    keyrings.Memory.kept.clear()
    caplog.set_level(logging.DEBUG)
    yield
    assert CANARY not in caplog.text


def shell(script: str) -> dict[str, tuple[str, ...]]:
    return {"password_command": ("sh", "-c", script)}


async def refusal(*, patience: float = 10, **values) -> NeedsAttention:
    """Why there is no secret; nothing reachable from the error holds a canary."""
    with pytest.raises(NeedsAttention) as caught:
        await read_secret(make_account(**values), patience=patience)
    assert caught.value.kind == "secret"
    assert_silent(caught.value)
    return caught.value


def assert_silent(error: HaulError) -> None:
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args) + repr(vars(error))
    linked: BaseException | None = error
    while linked is not None:
        told += repr(linked) + repr(vars(linked))
        linked = linked.__cause__ or linked.__context__
    assert CANARY not in told


def private_file(directory: Path, content: bytes | str) -> Path:
    path = directory / "password"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return path


# --- commands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("printed", ["s3cret", "s3cret\n", "s3cret\r\n", "s3cret\nlogin: me\nurl: x\n"])
async def test_the_first_line_a_command_prints_is_the_secret(printed):
    assert await read_secret(make_account(password_command=("printf", "%s", printed))) == "s3cret"


async def test_a_secret_keeps_its_blanks_and_its_letters():
    secret = "  pass wörd\t\u00a0 "
    assert await read_secret(make_account(password_command=("printf", "%s", secret))) == secret


async def test_no_shell_stands_between():
    assert await read_secret(make_account(password_command=("printf", "%s", "$HOME; `id` *"))) == "$HOME; `id` *"


async def test_a_command_has_nothing_to_read_and_no_terminal():
    script = "cat; ps -o sid= -p $$ >/dev/null 2>&1; [ $(cut -d' ' -f6 /proc/self/stat) != %d ] && echo alone"
    assert await read_secret(make_account(**shell(script % os.getsid(0)))) == "alone"


@pytest.mark.parametrize("status", [1, 3])
async def test_G8_a_command_that_fails_is_told_with_its_status_and_without_its_words(status):
    error = await refusal(**shell(f"echo gpg: no secret key >&2; exit {status}"))
    assert error.message == f"The password command of account work, sh, failed with exit status {status}."
    assert "Run it by hand" in error.hint


async def test_G8_a_command_that_is_not_there_is_told_by_its_name_alone(tmp_path):
    program = str(tmp_path / "gone")
    error = await refusal(password_command=(program, CANARY))
    assert error.message == f"The password command of account work, {program}, could not be started: No such file or directory."


async def test_G8_a_command_that_kills_itself_is_told():
    assert "was ended by a signal" in (await refusal(**shell("kill -9 $$"))).message


@pytest.mark.parametrize("ending", ["", "; sleep 60"])
async def test_G8_a_command_that_prints_a_megabyte_is_ended(ending):
    error = await refusal(**shell(f"head -c 1000000 /dev/zero | tr '\\0' x{ending}"))
    assert f"printed more than {LARGEST_SECRET} bytes" in error.message


async def test_G8_a_command_that_hangs_is_killed_with_all_it_started(tmp_path):
    pids = tmp_path / "pids"
    error = await refusal(patience=0.3, **shell(f"sleep 600 & echo $$ $! > {pids}; echo {CANARY}; wait"))
    assert "did not finish within 0.3 seconds" in error.message
    for pid in map(int, pids.read_text().split()):
        assert is_gone(pid)


async def test_a_command_is_killed_when_nobody_waits_any_more(tmp_path):
    started = tmp_path / "started"
    os.mkfifo(started)
    reading = asyncio.create_task(read_secret(make_account(**shell(f"echo $$ > {started}; exec sleep 600"))))
    pid = int(await asyncio.to_thread(started.read_text))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert is_gone(pid)


def is_gone(pid: int) -> bool:
    """Whether the process ends, as it does soon after it was killed."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10)[0])
    finally:
        os.close(descriptor)


async def test_an_agent_that_a_command_leaves_behind_holds_nothing_up(tmp_path):
    pid = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {pid}; exec sleep 600' & while [ ! -s {pid} ]; do :; done; echo s3cret"
    try:
        assert await read_secret(make_account(**shell(script))) == "s3cret"
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


async def test_a_command_may_complain_at_length():
    assert await read_secret(make_account(**shell("head -c 1000000 /dev/zero >&2; echo s3cret"))) == "s3cret"


@pytest.mark.parametrize(
    "script",
    [
        f"echo {CANARY}; exit 1",
        f"echo {CANARY}; echo wrong: {CANARY} >&2; exit 1",
        f"echo {CANARY}; echo {CANARY} >&2; echo failed >&2; exit 1",
        f"echo refused: {CANARY} >&2; exit 1",
        f"echo refused: {CANARY} >&2; kill -9 $$",
        f"echo {CANARY}; kill -9 $$",
        f"printf '\\n{CANARY}'",
        f"printf '{CANARY}\\377'",
        f"printf '{CANARY}\\0'",
        f"printf '{CANARY}\\r\\r\\n'",
        f"yes {CANARY}",
    ],
)
async def test_G7_a_command_that_fails_in_any_way_tells_no_secret(script):
    await refusal(**shell(script))


# --- tokens --------------------------------------------------------------------------------------------------------


def tokens(script: str, **patience: float) -> TokenCommand:
    return TokenCommand("work", ("sh", "-c", script), **patience)


async def no_token(script: str, **patience: float) -> HaulError:
    with pytest.raises(HaulError) as caught:
        await tokens(script, **patience)()
    assert caught.value.kind == "secret"
    assert_silent(caught.value)
    return caught.value


async def test_G9_connections_that_ask_at_once_share_one_run_of_the_command(tmp_path):
    command = tokens(f"echo run >> {tmp_path}/runs; wc -l < {tmp_path}/runs | tr -d ' '")
    assert await asyncio.gather(*(command() for _ in range(5))) == ["1"] * 5
    assert await command() == "2"


async def test_one_who_waits_no_longer_takes_the_token_from_nobody(tmp_path):
    os.mkfifo(tmp_path / "go")
    command = tokens(f"read line < {tmp_path}/go; echo t0ken")
    first, second = asyncio.create_task(command()), asyncio.create_task(command())
    await asyncio.to_thread((tmp_path / "go").write_text, "go\n")
    first.cancel()
    assert await second == "t0ken"


async def test_a_token_command_is_killed_when_nobody_waits_any_more(tmp_path):
    os.mkfifo(tmp_path / "started")
    asking = asyncio.create_task(tokens(f"echo $$ > {tmp_path}/started; exec sleep 600")())
    pid = int(await asyncio.to_thread((tmp_path / "started").read_text))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert is_gone(pid)


async def test_G9_a_token_that_cannot_be_had_just_now_is_asked_for_again():
    error = await no_token(f"echo {CANARY} is for later >&2; exit 75")
    assert isinstance(error, Transient)
    assert "by exit status 75." in error.message
    error = await no_token(f"echo {CANARY}; sleep 600", patience=0.2)
    assert isinstance(error, Transient)
    assert "The token command of account work, sh, did not finish within 0.2 seconds." in error.message


@pytest.mark.parametrize(
    "script", [f"echo {CANARY}; echo invalid_grant >&2; exit 1", "true", f"echo Error: {CANARY}", f"printf '{CANARY}\\001'"]
)
async def test_G9_a_token_that_cannot_be_had_for_good_needs_a_person(script):
    assert isinstance(await no_token(script), NeedsAttention)


async def test_a_command_for_passwords_that_cannot_just_now_needs_a_person_all_the_same():
    assert "exit status 75" in (await refusal(**shell("exit 75"))).message


# --- files ---------------------------------------------------------------------------------------------------------


async def test_the_first_line_of_a_password_file_is_the_secret(tmp_path):
    assert await read_secret(make_account(password_file=private_file(tmp_path, "s3cret\nmore\n"))) == "s3cret"


@pytest.mark.parametrize("content", ["", "\n", f"\n{CANARY}", CANARY.encode() + b"\xff", CANARY * 1000])
async def test_G7_a_password_file_without_a_password_tells_nothing(tmp_path, content):
    error = await refusal(password_file=private_file(tmp_path, content))
    assert error.message.startswith(f"The password file of account work, {tmp_path / 'password'}, gave ")


async def test_G8_a_password_file_that_is_gone_is_told(tmp_path):
    error = await refusal(password_file=tmp_path / "gone")
    assert error.message.endswith("gone, cannot be read: No such file or directory.")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
async def test_G6_a_password_file_that_was_opened_to_others_is_refused(tmp_path, mode):
    path = private_file(tmp_path, CANARY)
    path.chmod(mode)
    error = await refusal(password_file=path)
    assert "may be read by others" in error.message
    assert "chmod 600" in error.hint


async def test_a_pipe_in_the_place_of_a_password_file_does_not_hold_anything_up(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "not a regular file" in (await refusal(password_file=tmp_path / "pipe")).message


# --- credentials ---------------------------------------------------------------------------------------------------


async def test_a_credential_of_systemd_is_read_from_its_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    private_file(tmp_path, "s3cret\n").chmod(0o440)
    assert await read_secret(make_account(credential="password")) == "s3cret"


async def test_G8_a_credential_that_is_gone_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    error = await refusal(credential="gone")
    assert error.message == "The credential gone of account work cannot be read: No such file or directory."


async def test_G8_a_credential_outside_of_systemd_is_told_with_what_to_do(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "LoadCredential" in (await refusal(credential="password")).hint


# --- keyrings ------------------------------------------------------------------------------------------------------


async def test_what_was_put_into_a_keyring_comes_out_of_it():
    account = make_account(keyring=MEMORY)
    await write_secret(account, "s3cret")
    assert keyrings.Memory.kept == {("haul", "work"): "s3cret"}
    assert await read_secret(account) == "s3cret"


async def test_a_keyring_without_a_backend_is_the_machines_own():
    before = keyring.get_keyring()
    keyring.set_keyring(keyrings.Memory())
    try:
        await write_secret(make_account(keyring=KeyringConfig(service="mail")), "s3cret")
    finally:
        keyring.set_keyring(before)
    assert keyrings.Memory.kept == {("mail", "work"): "s3cret"}


async def test_a_keyring_that_holds_nothing_is_told_with_what_to_do():
    error = await refusal(keyring=MEMORY)
    assert error.message == "The keyring of account work holds nothing for it."
    assert "hauld secret set work" in error.hint


@pytest.mark.parametrize("backend", [null.Keyring, fail.Keyring])
async def test_a_keyring_that_keeps_nothing_is_refused_for_reading_and_writing(backend):
    before = keyring.get_keyring()
    keyring.set_keyring(backend())
    account = make_account(keyring=KeyringConfig())
    try:
        assert "none that keeps anything" in (await refusal(keyring=account.keyring)).message
        with pytest.raises(NeedsAttention, match="none that keeps anything"):
            await write_secret(account, CANARY)
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize("backend", ["no.such.Keyring", "support.keyrings.Absent"])
async def test_G8_a_keyring_that_is_not_installed_is_told(backend):
    assert "cannot be used: " in (await refusal(keyring=KeyringConfig(backend=backend))).message


async def test_G7_a_keyring_that_fails_is_told_by_the_kind_of_its_error_alone():
    account = make_account(keyring=KeyringConfig(backend="support.keyrings.Locked"))
    assert (await refusal(keyring=account.keyring)).message == "The keyring of account work cannot be used: KeyringLocked."
    with pytest.raises(NeedsAttention, match="KeyringLocked") as caught:
        await write_secret(account, CANARY)
    assert_silent(caught.value)


async def test_L8_a_keyring_that_can_open_no_file_is_asked_again():
    with pytest.raises(Transient) as caught:
        await read_secret(make_account(keyring=KeyringConfig(backend="support.keyrings.Crowded")))
    assert caught.value.kind == "files"
    assert_silent(caught.value)


async def test_G8_a_keyring_that_hangs_is_given_up():
    try:
        error = await refusal(patience=0.1, keyring=KeyringConfig(backend="support.keyrings.Stuck"))
    finally:
        keyrings.Stuck.released.set()
    assert error.message == "The keyring of account work did not answer within 0.1 seconds."


async def test_a_keyring_that_forgets_is_found_out_when_it_is_told():
    with pytest.raises(NeedsAttention, match="does not give it back") as caught:
        await write_secret(make_account(keyring=KeyringConfig(backend="support.keyrings.Forgetful")), CANARY)
    assert_silent(caught.value)


@pytest.mark.parametrize("value", ["", "\n", f"{CANARY}\0", CANARY * 1000])
async def test_what_cannot_be_a_password_is_not_put_into_a_keyring(value):
    with pytest.raises(NeedsAttention) as caught:
        await write_secret(make_account(keyring=MEMORY), value)
    assert_silent(caught.value)
    assert keyrings.Memory.kept == {}


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"password_command": ("pass", CANARY)}, "password_command (pass)"),
        ({"password_file": Path("/etc/p")}, "password_file (/etc/p)"),
        ({"credential": "mail"}, "credential (mail)"),
        ({"auth": "xoauth2", "token_command": ("oama", CANARY)}, "token_command (oama)"),
    ],
)
async def test_a_secret_that_is_kept_elsewhere_is_changed_there(values, place):
    with pytest.raises(Refused) as caught:
        await write_secret(make_account(**values), CANARY)
    assert caught.value.kind == "wrong_state"
    assert place in caught.value.message
    assert_silent(caught.value)


# --- the process ---------------------------------------------------------------------------------------------------


def test_G7_a_process_with_secrets_leaves_no_core():
    script = "import resource, hauld.secrets as s; s.forbid_core_dumps(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert printed == "(0, 0)\n"


def test_keyring_is_imported_by_those_who_use_it_only():
    script = "import sys, hauld.secrets; print('keyring' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert printed == "False\n"
