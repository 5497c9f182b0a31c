"""The clients that ``docs/clients.md`` shows, run as they stand there against the real door."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from support.door import Answers, daemon, job

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
PATIENCE = 20

needs_shell_tools = pytest.mark.skipif(
    not (shutil.which("socat") and shutil.which("jq")), reason="socat and jq are not both installed"
)


def shown(language: str) -> list[str]:
    """The programs that the page shows."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def answers() -> Answers:
    return Answers(jobs=[job(), job(id="job_a1b2c3d4e5f6", status="completed")])


@contextmanager
def running(*command: str | Path) -> Iterator[IO[str]]:
    """What a program says, line by line; it is ended, with what it began, when the test has read enough."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True
    ) as program:
        assert program.stdout is not None
        try:
            yield program.stdout
        finally:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGTERM)


def test_the_client_in_python_has_ten_lines_and_says_jobs_and_events(tmp_path: Path, answers: Answers) -> None:
    (program,) = shown("python")
    assert len([line for line in program.splitlines() if line]) == 10
    with daemon(tmp_path / "sock", answers), running(sys.executable, "-c", program, tmp_path / "sock") as lines:
        said = [json.loads(lines.readline()) for _ in range(2)]
        following = next(each for each in said if "stream" in each)
        listed = next(each for each in said if "jobs" in each)
        assert [each["id"] for each in listed["jobs"]] == [each.id for each in answers.jobs]
        answers.told.tell("job.status", job=answers.jobs[0].id, to="paused")
        event = json.loads(lines.readline())
        assert (event["number"], event["kind"]) == (following["number"] + 1, "job.status")


def test_the_client_in_python_says_why_it_cannot(tmp_path: Path, answers: Answers) -> None:
    (program,) = shown("python")
    program = program.replace("jobs.list", "jobs.lost")
    with daemon(tmp_path / "sock", answers):
        done = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "sock"], capture_output=True, text=True, timeout=PATIENCE
        )
    assert done.returncode == 1
    assert "jobs.lost" in done.stderr


@needs_shell_tools
def test_the_client_in_a_shell_says_the_jobs(tmp_path: Path, answers: Answers) -> None:
    program, _ = shown("sh")
    with daemon(tmp_path / "sock", answers):
        done = subprocess.run(
            ["sh", "-c", program, "sh", tmp_path / "sock"], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
    assert done.stdout.splitlines() == [
        "job_k3x9q2m4v8zt running 42.06",
        "job_a1b2c3d4e5f6 completed 42.06",
    ]


@needs_shell_tools
def test_the_client_in_a_shell_says_what_happens(tmp_path: Path, answers: Answers) -> None:
    _, program = shown("sh")
    with daemon(tmp_path / "sock", answers):
        following = program.replace(
            '"events.follow"', '"events.follow", "params": {"since": {"stream": "5eed5eed5eed5eed", "number": 0}}'
        )
        first = answers.told.tell("job.status", job=answers.jobs[0].id)
        with running("sh", "-c", following, "sh", tmp_path / "sock") as lines:
            assert lines.readline().split() == [str(first), "job.status", answers.jobs[0].id]
            second = answers.told.tell("folder.listed")
            assert lines.readline().split() == [str(second), "folder.listed", "null"]
