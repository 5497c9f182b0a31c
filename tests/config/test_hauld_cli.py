"""The command ``hauld``: what it prints where, and its exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from haulapi.faults import Exit
from hauld import __version__
from hauld.cli import Sentences, carry_out, exit_code, main
from hauld.errors import Fatal, HaulError, ItemRejected, NeedsAttention, Refused, Throttled, Transient
from hauld.logs import PatientHandler, configure
from support import keyrings
from support.configs import ACCOUNT, write_config
from support.terminal import open_terminal

HAULD = Path(sys.executable).with_name("hauld")
TESTS = Path(__file__).parents[1]
CANARY = "canary-91bd"
ANOTHER = ACCOUNT.replace("work", "home").replace("me@", "you@")
KEYRING = ACCOUNT + "keyring = 'support.keyrings.Memory'"


@pytest.fixture(autouse=True)
def _logging_and_keyring_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    keyrings.Memory.kept.clear()
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, PatientHandler)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def hauld(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def real(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HAULD, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=60)


def in_shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", f"{HAULD} {line}"], check=False, capture_output=True, text=True, timeout=60)


@contextlib.contextmanager
def killed_when_stuck(process: subprocess.Popen[str]) -> Iterator[None]:
    """A process that does not end by itself fails its test, and nothing else."""
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        yield
        process.wait()
    finally:
        watchdog.cancel()
        process.kill()


def contained(directory: Path, more: str = "") -> Path:
    """A configuration that keeps everything below that directory."""
    text = f"[daemon]\nstate = '{directory}/haul.db'\nsocket = '{directory}/haul.sock'\n{more}"
    return write_config(directory, text)


# --- words and exit codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Fatal("schema", "x", exit_code=5), 5),
        (Refused("not_found", "x"), Exit.NOT_FOUND),
        (Refused("wrong_state", "x"), Exit.WRONG_STATE),
        (Transient("disk", "x"), Exit.TRY_AGAIN),
        (Throttled("x", wait=3), Exit.TRY_AGAIN),
        (NeedsAttention("sign-in", "x"), Exit.SIGN_IN_REFUSED),
        (NeedsAttention("secret", "x"), Exit.FAILURE),
        (ItemRejected("missing", "x"), Exit.FAILURE),
    ],
)
def test_a_script_is_told_by_the_exit_code(error, code):
    assert exit_code(error) == code


def failing(error: BaseException) -> Result:
    """What is seen of a command that raises that."""

    @click.group(cls=Sentences)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(group, ["fail"])


def test_an_error_is_a_sentence_and_a_hint_on_standard_error():
    result = failing(HaulError("kind", "It failed\x1b[2J.", hint="Do this."))
    assert (result.exit_code, result.stdout, result.stderr) == (Exit.FAILURE, "", "It failed\\x1b[2J.\nDo this.\n")


def test_an_error_without_a_hint_is_a_sentence():
    assert failing(HaulError("kind", "It failed.")).stderr == "It failed.\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupted_command_says_so_by_its_exit_code(error):
    result = failing(error)
    assert (result.exit_code, result.stdout + result.stderr) == (Exit.INTERRUPTED, "")


@pytest.mark.parametrize("error", [RuntimeError(CANARY), ExceptionGroup(CANARY, [ValueError(CANARY)])])
def test_a_mistake_of_ours_is_a_sentence_with_its_place_and_without_its_text(error):
    result = failing(error)
    assert result.exit_code == Exit.FAILURE
    assert f"hauld failed unexpectedly: {type(error).__name__} in {__file__}, line " in result.stderr
    assert "Traceback" not in result.stderr
    assert CANARY not in result.stderr


def test_usage_errors_are_clicks_own():
    assert hauld("run", "--no-such-option").exit_code == Exit.USAGE
    assert hauld("no-such-command").exit_code == Exit.USAGE


def test_the_version_is_told():
    assert hauld("--version").stdout == f"hauld {__version__}\n"


@pytest.mark.parametrize("command", ["run", "check-config", "migrate", "secret set", "demo"])
def test_every_command_shows_an_example(command):
    result = hauld(*command.split(), "--help")
    assert result.exit_code == Exit.OK
    assert f"hauld {command}" in result.stdout.split("Example:\n")[1]


@pytest.mark.parametrize("arguments", ["--help", "--version", "check-config", "check-config --help", "doctor", "doctor --json"])
@pytest.mark.parametrize(("into", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_output_that_cannot_be_written_is_told_in_a_sentence(tmp_path, arguments, into, why):
    if arguments.endswith("config") or "doctor" in arguments:
        arguments += f" --config {write_config(tmp_path, '')}"
    ended = in_shell(f"{arguments} {into}")
    assert (ended.returncode, ended.stderr) == (Exit.FAILURE, f"hauld: cannot write the output: {why}.\n")


@pytest.mark.parametrize("into", ["2>/dev/full", "2>&-", "<&- 2>&-"])
def test_words_that_cannot_be_said_change_neither_result_nor_exit_code(tmp_path, into):
    path = write_config(tmp_path, ACCOUNT + "ca_file = 'gone.pem'")
    ended = in_shell(f"check-config --config {path} {into}")
    assert (ended.returncode, ended.stdout, ended.stderr) == (Exit.OK, f"{path}: ok, 1 account\n", "")
    assert in_shell(f"check-config --config {tmp_path}/none.toml {into}").returncode == Exit.CONFIGURATION


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path):
    ended = in_shell(f"doctor --config {write_config(tmp_path, '')} | true")
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")


def test_the_command_line_itself_imports_little():
    script = "import sys, hauld.cli; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert {"hauld.app", "hauld.config", "hauld.secrets", "keyring", "rich"}.isdisjoint(printed.split())


# --- check-config --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", "0 accounts"),
        (ACCOUNT, "1 account"),
        (ACCOUNT + ACCOUNT.replace("work", "home").replace("me@", "you@"), "2 accounts"),
    ],
)
def test_a_good_file_is_ok(tmp_path, text, count):
    path = write_config(tmp_path, text)
    result = hauld("check-config", "--config", path)
    assert (result.exit_code, result.stdout, result.stderr) == (Exit.OK, f"{path}: ok, {count}\n", "")


def test_what_this_machine_lacks_is_a_warning(tmp_path):
    path = write_config(tmp_path, ACCOUNT + "ca_file = 'gone.pem'")
    result = hauld("check-config", "--config", path)
    assert result.exit_code == Exit.OK
    assert result.stdout.endswith("ok, 1 account\n")
    assert result.stderr == f"warning: {path}: account work: ca_file: {tmp_path / 'gone.pem'} is not there or cannot be read\n"


def test_G2_a_bad_file_is_told_line_by_line_with_exit_code_78(tmp_path):
    path = write_config(tmp_path, ACCOUNT + "tsl = 'none'\nport = 'x'")
    result = real("check-config", "--config", path)
    assert (result.returncode, result.stdout) == (Exit.CONFIGURATION, "")
    assert result.stderr.splitlines() == [
        f"{path}: account work: tsl: there is no such key; did you mean 'tls'?",
        f"{path}: account work: port: must be a whole number from 1 to 65535, without quotes",
        "Once that is mended, 'hauld check-config' tells whether all is well.",
    ]


def test_G1_a_real_check_of_a_good_file_ends_with_0(tmp_path):
    assert real("check-config", "--config", write_config(tmp_path, ACCOUNT)).returncode == Exit.OK


@pytest.mark.parametrize("command", [["run"], ["migrate"], ["check-config"], ["secret", "set", "work"]])
def test_G1_no_command_begins_with_a_bad_file(tmp_path, command):
    path = write_config(tmp_path, "[daemon\n")
    result = hauld(*command, "--config", path)
    assert result.exit_code == Exit.CONFIGURATION
    assert f"{path}: is not TOML: " in result.stderr
    assert "line 1" in result.stderr


# --- run and migrate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_runs_until_it_is_told_to_stop_and_tells_its_diary_on_standard_error(tmp_path, number):
    told = []
    command = [HAULD, "run", "--config", contained(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, killed_when_stuck(process):
        for line in process.stderr:
            told.append(json.loads(line)["event"])
            if told[-1] == "daemon.ready":
                process.send_signal(number)
    assert "daemon.ready" in told
    assert told[-1] == "daemon.stopping"
    assert process.returncode == Exit.OK


def test_a_mistake_of_ours_in_the_daemon_is_told_in_its_log_with_a_traceback():
    async def odd() -> None:
        raise LookupError("odd")

    stream = io.StringIO()
    handler = configure("info", stream)
    with pytest.raises(LookupError):
        carry_out(odd())
    handler.flush()
    entry = json.loads(stream.getvalue())
    assert (entry["level"], entry["event"]) == ("critical", "daemon.bug")
    assert "LookupError: odd" in entry["traceback"]


def test_R6_a_task_that_never_ends_does_not_keep_a_daemon_that_has_ended():
    program = """
import asyncio
from hauld.cli import carry_out

async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def daemon():
    daemon.deaf = asyncio.create_task(deaf())
    await asyncio.sleep(0)

carry_out(daemon())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert ended.returncode == Exit.FAILURE
    assert "Something does not end" in ended.stderr


def test_an_error_that_was_foreseen_is_left_to_be_told_as_a_sentence():
    async def full() -> None:
        raise Fatal("disk", "The disk is full.")

    stream = io.StringIO()
    handler = configure("info", stream)
    with pytest.raises(Fatal):
        carry_out(full())
    handler.flush()
    assert stream.getvalue() == ""


def test_the_state_is_brought_up_to_date_without_a_daemon(tmp_path):
    result = hauld("migrate", "--config", contained(tmp_path))
    assert (result.exit_code, result.stdout) == (Exit.OK, f"{tmp_path / 'haul.db'}: up to date\n")
    with sqlite3.connect(tmp_path / "haul.db") as database:
        assert database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] > 0
    database.close()


# --- demo ----------------------------------------------------------------------------------------------------------


def test_a_demo_without_its_mail_server_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymap", None)
    result = hauld("demo")
    assert result.exit_code == Exit.FAILURE
    assert "pip install 'hauld[demo]'" in result.stderr


def test_a_demo_puts_nothing_among_the_things_of_others(tmp_path):
    (tmp_path / "mine").touch()
    result = hauld("demo", "--directory", tmp_path)
    assert result.exit_code == Exit.USAGE
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# --- secret set ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", [CANARY, f"{CANARY}\n", f"{CANARY}\r\nmore\n"])
def test_G7_a_password_from_a_pipe_goes_into_the_keyring_and_nowhere_else(tmp_path, typed):
    result = hauld("secret", "set", "work", "--config", write_config(tmp_path, KEYRING), stdin=typed)
    assert result.exit_code == Exit.OK
    assert keyrings.Memory.kept == {("haul", "work"): CANARY}
    assert CANARY not in result.output


def test_an_account_that_is_not_there_is_told_with_those_that_are(tmp_path):
    result = hauld("secret", "set", "wrok", "--config", write_config(tmp_path, KEYRING), stdin=CANARY)
    assert result.exit_code == Exit.NOT_FOUND
    assert "The accounts are: work." in result.stderr
    assert "no accounts yet" in hauld("secret", "set", "work", "--config", write_config(tmp_path, "")).stderr


def test_a_password_that_is_kept_elsewhere_is_told_where(tmp_path):
    path = write_config(tmp_path, ACCOUNT + "credential = 'mail'")
    result = hauld("secret", "set", "work", "--config", path, stdin=CANARY)
    assert result.exit_code == Exit.WRONG_STATE
    assert "credential (mail)" in result.stderr


def test_no_password_is_no_password(tmp_path):
    result = hauld("secret", "set", "work", "--config", write_config(tmp_path, KEYRING), stdin="")
    assert result.exit_code == Exit.FAILURE
    assert keyrings.Memory.kept == {}


def test_G7_a_password_that_is_typed_is_asked_for_twice_and_never_shown(tmp_path):
    master, slave = open_terminal()
    command = [HAULD, "secret", "set", "work", "--config", write_config(tmp_path, KEYRING)]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    terminal = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
    with subprocess.Popen(command, env=environment, **terminal) as process, killed_when_stuck(process):
        os.close(slave)
        screen = b""
        for _ in range(2):
            while not screen.endswith(b": "):
                screen += os.read(master, 1024)
            os.write(master, f"{CANARY}\n".encode())
            screen += os.read(master, 1)
        screen += rest(master)
    os.close(master)
    assert process.returncode == Exit.OK, screen
    assert b"is in its keyring" in screen
    assert CANARY.encode() not in screen


def rest(master: int) -> bytes:
    """What a terminal shows until the program at its other end is gone."""
    screen = b""
    while True:
        try:
            screen += os.read(master, 1024)
        except OSError:
            return screen
