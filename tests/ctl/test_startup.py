"""A command starts fast: what it does not need, it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.door import Answers, daemon
from support.unmeasured import unmeasured

HEAVY = {"asyncio", "rich", "hauld", "aioimaplib", "keyring", "importlib.metadata"}
OF_OTHERS = {
    *(f"haulctl.commands.{module}" for module in ("act", "follow", "shell", "verify")),
    *(f"haulctl.{module}" for module in ("bars", "follow", "verifying", "wait")),
}

SCRIPT = """
import sys
from haulctl.cli import run
code = run(sys.argv[1:])
print("loaded:", *sys.modules, file=sys.stderr)
sys.exit(code)
"""


def loaded(*arguments: str) -> set[str]:
    # what measures coverage loads much by itself
    environment = unmeasured()
    command = [sys.executable, "-c", SCRIPT, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stderr.rpartition("loaded:")[2].split())


def test_help_loads_nothing_heavy() -> None:
    assert not loaded("--help") & HEAVY


def test_a_command_that_looks_loads_nothing_of_those_that_act_and_follow(tmp_path: Path) -> None:
    path = tmp_path / "haul.sock"
    with daemon(path, Answers()):
        assert not loaded("--socket", str(path), "list") & (OF_OTHERS | {"pathlib"})


@pytest.mark.parametrize("arguments", [("list",), ("status",), ("events",), ("items", "k3x9", "-o", "jsonl")])
def test_looking_loads_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "haul.sock"
    with daemon(path, Answers()):
        assert not loaded("--socket", str(path), *arguments) & HEAVY


def test_waiting_without_a_terminal_does_not_load_what_draws_bars(tmp_path: Path) -> None:
    from support.door import done

    path = tmp_path / "haul.sock"
    with daemon(path, Answers(jobs=[done()])):
        assert not loaded("--socket", str(path), "create", "work", "--wait") & HEAVY
