"""A command starts fast: what it does not need, it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.door import Answers, daemon

HEAVY = ("asyncio", "rich", "hauld", "aioimaplib", "keyring", "importlib.metadata")
SCRIPT = f"""
import sys
from haulctl.cli import run
code = run(sys.argv[1:])
print("loaded:", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


def loaded(*arguments: str) -> str:
    ran = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr.rpartition("loaded:")[2].strip()


def test_help_loads_nothing_heavy() -> None:
    assert loaded("--help") == ""


@pytest.mark.parametrize("arguments", [("list",), ("status",), ("events",), ("items", "k3x9", "-o", "jsonl")])
def test_looking_loads_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "haul.sock"
    with daemon(path, Answers()):
        assert loaded("--socket", str(path), *arguments) == ""


def test_waiting_without_a_terminal_does_not_load_what_draws_bars(tmp_path: Path) -> None:
    from support.door import done

    path = tmp_path / "haul.sock"
    with daemon(path, Answers(jobs=[done()])):
        assert loaded("--socket", str(path), "create", "work", "--wait") == ""
