"""What a reader finds in the repository is true: commands exist, links lead somewhere, versions are pinned, nobody is named."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DIRECTORIES = (".ci", "config", "ctl", "daemon", "docs", "packaging", "systemd", "tests")
DATA = {".eml", ".bin"}
MADE = ("__pycache__", ".venv", "build")

PLACES = re.compile(r"(?<![\w.~$}/])/(?:home/(?!me\b)\w|root/|Users/|work/|opt/|tmp/\w/)")
ADDRESSES = re.compile(r"[\w.+-]+@((?:[\w-]+\.)+[a-z]{2,})\b")
EXAMPLES = re.compile(r"(?:^|\.)(?:example\.(?:org|com|net)|example|test|invalid|localhost)$")


def files() -> Iterator[Path]:
    """Everything that is ours to read: not what was made, and not the licence, which is not."""
    yield from (path for path in REPOSITORY.glob("*") if path.suffix in {".md", ".toml", ".txt"} or path.name == "Makefile")
    for directory in DIRECTORIES:
        for path in sorted((REPOSITORY / directory).rglob("*")):
            if path.is_file() and not set(MADE) & set(path.parts):
                yield path


def text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


FILES = sorted(files())
PAGES = [path for path in FILES if path.suffix == ".md"]


# --- what is written for readers -----------------------------------------------------------------------------------


def commands_in(page: str) -> Iterator[list[str]]:
    """Every command that a page shows, in a block or in line, as words."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL))
    for line in [*(line for block in blocks for line in block.splitlines()), *spans]:
        command = line.split("#")[0].removeprefix("$ ")
        if re.match(r"(make|hauld|haulctl)( |$)", command):
            yield command.split()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_a_page_shows_exists(page: Path):
    targets = set(re.findall(r"^([a-z]+):", text(REPOSITORY / "Makefile"), re.MULTILINE))
    for program, *words in set(map(tuple, commands_in(text(page)))):
        if program == "make":
            assert set(words) <= targets
        else:
            # with --help it does nothing, but knows its commands and options all the same
            command = [Path(sys.executable).parent / program, *words, "--help"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text(page)):
        assert target.startswith(("https://", "http://")) or (page.parent / target).exists(), target


def test_the_first_release_note_is_of_this_version_or_of_the_next():
    version = tomllib.loads(text(REPOSITORY / "pyproject.toml"))["project"]["version"]
    headings = re.findall(r"^## \[?([^\]\s]+)", text(REPOSITORY / "CHANGELOG.md"), re.MULTILINE)
    assert headings[0] in {"Unreleased", version}


def test_decisions_are_numbered_without_a_gap():
    numbers = sorted(int(path.name[:4]) for path in (REPOSITORY / "docs" / "decisions").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_decision_tells_what_was_decided_and_why():
    for path in (REPOSITORY / "docs" / "decisions").glob("[0-9]*.md"):
        headings = re.findall(r"^## (.*)$", text(path), re.MULTILINE)
        assert headings[:3] == ["The question", "The decision", "Why"], path.name


def test_every_module_says_what_it_is_for():
    modules = [path for path in FILES if path.suffix == ".py"]
    assert [name(path) for path in modules if not ast.get_docstring(ast.parse(text(path)))] == []


# --- what it is built from -----------------------------------------------------------------------------------------


def pinned() -> dict[str, str]:
    lines = [line for line in text(REPOSITORY / "constraints.txt").splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def normal(requirement: str) -> str:
    """The name in a requirement, as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def test_constraints_are_names_and_versions_and_nothing_else():
    # no addresses, no hashes: where packages come from is the business of whoever installs them
    for line in text(REPOSITORY / "constraints.txt").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line


def test_every_requirement_is_pinned():
    project = tomllib.loads(text(REPOSITORY / "pyproject.toml"))
    extras = project["project"]["optional-dependencies"].values()
    required = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(r for extra in extras for r in extra),
    ]
    assert {normal(requirement) for requirement in required} <= {normal(each) for each in pinned()}


def test_the_licence_is_the_one_that_is_named():
    project = tomllib.loads(text(REPOSITORY / "pyproject.toml"))["project"]
    assert project["license"] == "GPL-3.0-or-later"
    licence = text(REPOSITORY / "LICENSE")
    assert "GNU GENERAL PUBLIC LICENSE" in licence
    assert "Version 3" in licence


@pytest.mark.parametrize("script", [path for path in FILES if text(path).startswith("#!")], ids=name)
def test_a_script_can_be_run_and_stops_at_the_first_failure(script: Path):
    assert os.access(script, os.X_OK)
    if "bash" in text(script).splitlines()[0]:
        assert "set -euo pipefail" in text(script)


# --- who and where -------------------------------------------------------------------------------------------------


def test_nothing_names_a_place_on_somebodys_machine():
    found = {name(path): PLACES.findall(text(path)) for path in FILES}
    assert {path: places for path, places in found.items() if places} == {}


def test_nobodys_address_is_in_it():
    found = {name(path): [host for host in ADDRESSES.findall(text(path)) if not EXAMPLES.search(host)] for path in FILES}
    assert {path: hosts for path, hosts in found.items() if hosts} == {}


def test_text_files_end_their_lines_plainly():
    endings = {name(path): path.read_bytes() for path in FILES if path.suffix not in DATA}
    assert [path for path, content in endings.items() if b"\r\n" in content or (content and not content.endswith(b"\n"))] == []
