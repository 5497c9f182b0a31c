"""``haulctl doctor``: what was looked at, in lines and as an exit code; and what it does without a daemon."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from haulapi.calls import Check, Diagnosis, DoctorParams
from haulapi.faults import Exit
from haulctl.cli import run
from haulctl.commands.doctor import marks
from support.door import Answers, daemon

WELL = Check(name="clock", message="it says noon")
WARNED = Check(name="store", status="warning", message="it is small", hint="Make it larger.")
REFUSED = Check(name="sign-in", account="work", status="failed", message="refused\x1b[2J", hint="Mend it.", kind="sign-in")
SKIPPED = Check(name="folders", account="work", status="skipped", message="not checked")
MISTAKEN = Check(name="configuration", status="failed", message="wrong", kind="configuration")
BROKEN = Check(name="store", status="failed", message="it is full")


@pytest.fixture
def answers() -> Answers:
    return Answers(diagnosis=Diagnosis(checks=[WELL, WARNED, REFUSED, SKIPPED]))


@pytest.fixture
def door(tmp_path: Path, answers: Answers) -> Iterator[list[str]]:
    with daemon(tmp_path / "haul.sock", answers):
        yield ["--socket", str(tmp_path / "haul.sock")]


def test_each_check_is_a_line_with_what_to_do_below_it(door: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*door, "doctor"]) == Exit.SIGN_IN_REFUSED
    assert capsys.readouterr().out.splitlines() == [
        "ok      clock: it says noon",
        "warning store: it is small",
        "          Make it larger.",
        "failed  work: sign-in: refused\\x1b[2J",
        "          Mend it.",
        "skipped work: folders: not checked",
    ]


def test_one_account_is_asked_for_by_its_name(door: list[str], answers: Answers) -> None:
    run([*door, "doctor", "work"])
    assert ("daemon.doctor", DoctorParams(account="work")) in answers.asked


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ([WELL], Exit.OK),
        ([WELL, WARNED, SKIPPED], Exit.OK),
        ([BROKEN], Exit.FAILURE),
        ([BROKEN, REFUSED], Exit.SIGN_IN_REFUSED),
        ([BROKEN, REFUSED, MISTAKEN], Exit.CONFIGURATION),
    ],
)
def test_the_exit_code_is_that_of_the_first_thing_to_mend(
    door: list[str], answers: Answers, checks: list[Check], code: int
) -> None:
    answers.diagnosis = Diagnosis(checks=checks)
    assert run([*door, "doctor"]) == code


def test_JSON_is_what_the_daemon_found_and_JSON_lines_are_its_checks(
    door: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run([*door, "doctor", "-o", "json"])
    assert [check["status"] for check in json.loads(capsys.readouterr().out)["checks"]] == [
        "ok",
        "warning",
        "failed",
        "skipped",
    ]
    run([*door, "doctor", "-o", "jsonl"])
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == [
        "clock",
        "store",
        "sign-in",
        "folders",
    ]


@pytest.mark.parametrize(
    ("terminal", "encoding", "shown"),
    [(False, "utf-8", "ok"), (True, "utf-8", "✓"), (True, "ANSI_X3.4-1968", "+"), (True, None, "+")],
)
def test_marks_are_what_the_terminal_can_show(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, encoding: str | None, shown: str
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert marks(terminal, encoding)["ok"] == shown


def test_without_colours_there_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert marks(True, "utf-8")["failed"] == "failed"


# --- without a daemon ----------------------------------------------------------------------------------------------


@pytest.fixture
def no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing answers, and no program is beside this one or on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "haulctl")])
    return ["--socket", str(tmp_path / "nobody.sock"), "doctor"]


def install(directory: Path, script: str) -> None:
    program = directory / "hauld"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_without_a_daemon_its_program_is_asked_instead(
    tmp_path: Path, no_daemon: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, """printf '{"checks": [{"name": "clock", "message": "%s"}]}' "$*"; exit 78""")
    assert run([*no_daemon, "work"]) == Exit.UNREACHABLE
    first, hint, last = capsys.readouterr().out.splitlines()
    assert first.startswith("failed  daemon: hauld does not seem to be running")
    assert "hauld run" in hint
    assert last == "ok      clock: doctor --json work"


@pytest.mark.parametrize(("script", "told"), [(None, "is not installed"), ("echo Traceback", "nothing that can be understood")])
def test_a_program_that_is_not_there_or_breaks_is_told(
    tmp_path: Path, no_daemon: list[str], capsys: pytest.CaptureFixture[str], script: str | None, told: str
) -> None:
    if script is not None:
        install(tmp_path, script)
    assert run(no_daemon) == Exit.UNREACHABLE
    assert told in capsys.readouterr().out
