"""``haulctl reload``: what has changed, in words; and every mistake where nothing has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from haulapi.calls import ErrorInfo, Reload
from haulapi.faults import Exit
from haulctl.cli import run
from support.door import Answers, daemon, job

NOTHING = Reload(added=[], removed=[], changed=[], unchanged=[], applied=[], restart_needed=[])


@dataclass
class Asked:
    """A daemon with these answers, and what a command shows of them."""

    answers: Answers
    path: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = run(["--socket", str(self.path), *arguments])
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err


@pytest.fixture
def asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    monkeypatch.delenv("COLUMNS", raising=False)
    answers = Answers()
    with daemon(tmp_path / "haul.sock", answers):
        yield Asked(answers, tmp_path / "haul.sock", capsys)


def test_what_has_changed_is_told_by_what_was_done_with_it(asked: Asked) -> None:
    code, out, _ = asked.run("reload")
    assert code == 0
    assert out.splitlines() == [
        "Added        home",
        "Removed      old",
        "Changed      work",
        "Applied      daemon.log_level",
        "As they were 1 account",
        "Not yet in force, because hauld has to be restarted for it: store.path",
    ]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, ["As they were 0 accounts"]),
        (
            {"added": ["a", "b"], "removed": ["a"]},
            [
                "Added        b",
                "Replaced     a",
                "As they were 0 accounts",
                "Replaced: another host or user is another account. What the old ones have stored stays.",
            ],
        ),
    ],
)
def test_an_account_with_another_host_or_user_is_told_to_be_another_one(asked: Asked, changes: Any, shown: list[str]) -> None:
    asked.answers.reload = Reload(**{name: changes.get(name, getattr(NOTHING, name)) for name in NOTHING.__struct_fields__})
    assert asked.run("reload")[1].splitlines() == shown


def test_each_mistake_is_told_on_a_line_of_its_own_and_the_exit_code_is_that_of_a_wrong_configuration(asked: Asked) -> None:
    asked.answers.configuration_error = "haul.toml: prot: there is no such key\na.toml: \x1b[2J is not TOML"
    code, out, err = asked.run("reload")
    assert (code, out) == (Exit.CONFIGURATION, "")
    assert err.splitlines() == [
        "haulctl: The configuration cannot be used, so nothing has changed.",
        "  haul.toml: prot: there is no such key",
        "  a.toml: \\x1b[2J is not TOML",
        "  Mend that, then: haulctl reload",
    ]


def test_status_tells_each_mistake_on_a_line_of_its_own_and_ends_well(asked: Asked) -> None:
    asked.answers.configuration_error = "haul.toml: prot: there is no such key\na.toml: is not TOML"
    code, out, _ = asked.run("status")
    assert code == 0
    lines = out.splitlines()
    start = lines.index("  configuration: until somebody acts")
    assert lines[start + 1 : start + 3] == ["    haul.toml: prot: there is no such key", "    a.toml: is not TOML"]


def test_a_job_that_the_configuration_has_paused_is_nothing_that_is_wrong(asked: Asked) -> None:
    reason = ErrorInfo(kind="configuration", message="The configuration no longer declares this job.", hint="None.")
    asked.answers.jobs = [job(status="paused", phase=None, error=reason)]
    assert "Nothing is wrong." in asked.run("status")[1]
    assert "no longer declares this job" in asked.run("show", "k3x9")[1]
