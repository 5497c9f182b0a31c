"""The page for man: it is the commands', whole, and man can read it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from haulapi.faults import Exit
from haulctl.cli import ALIASES, cli
from haulctl.manpage import MEANINGS, text

KEPT = Path(__file__).resolve().parents[2] / "docs" / "man" / "haulctl.1"


def test_the_page_that_is_kept_is_the_one_that_is_made() -> None:
    assert KEPT.read_text("utf-8") == text(), "python -m haulctl.manpage > docs/man/haulctl.1"


def test_the_program_writes_the_page() -> None:
    made = subprocess.run([sys.executable, "-m", "haulctl.manpage"], capture_output=True, text=True, check=True)
    assert made.stdout == text()


@pytest.mark.parametrize("command", cli.commands.values(), ids=lambda each: str(each.name))
def test_every_command_and_option_is_in_it(command: click.Command) -> None:
    section = text().partition(f"\n.SS {command.name}\n")[2].partition("\n.S")[0]
    assert f"haulctl {command.name}" in section
    for parameter in command.params:
        for name in parameter.opts if isinstance(parameter, click.Option) else ():
            assert name.replace("-", r"\-") in text()
            assert parameter.expose_value is False or name.replace("-", r"\-") in section


def test_aliases_and_exit_codes_are_in_it() -> None:
    assert set(MEANINGS) == set(Exit)
    for alias in ALIASES:
        assert f"Also called {alias}." in text()


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_warn_of() -> None:
    read = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", KEPT], capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_has_nothing_to_complain_of() -> None:
    read = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", KEPT], capture_output=True, text=True)
    assert (read.returncode, read.stdout) == (0, "")
