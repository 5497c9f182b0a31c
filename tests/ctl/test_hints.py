"""What to do stands below every error that a person can meet, and each has its exit code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from haulapi.calls import ErrorInfo
from haulapi.faults import FAULTS, Exit, fault
from haulctl import show, words
from haulctl.cli import ALIASES, cli, run
from haulctl.failure import HINTS
from hauld.errors import Fatal, HaulError, ItemRejected, NeedsAttention, Refused, StaleCursor, Throttled, Transient
from support.door import Answers, daemon, job

DAEMON = Path(__file__).resolve().parents[2] / "daemon" / "hauld"
CTL = Path(show.__file__).parent
RAISED = {each.__name__: each for each in (Refused, NeedsAttention, Transient, Fatal, ItemRejected)}


def raised() -> Iterator[tuple[str, str, bool]]:
    """Every error that the daemon's code makes: class, kind, and whether it brings a hint. A kind that is not written out is
    that of another error."""
    for path in DAEMON.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in RAISED and call.args:
                hinted = any(keyword.arg == "hint" for keyword in call.keywords)
                if isinstance(kind := call.args[0], ast.Constant):
                    yield call.func.id, str(kind.value), hinted


KINDS = sorted({(name, kind) for name, kind, _ in raised()})
UNHINTED = sorted({kind for _, kind, hinted in raised() if not hinted})
ERRORS: list[HaulError] = [
    *(RAISED[name](kind, "It went wrong.") for name, kind in KINDS),
    Throttled("It went wrong.", wait=60),
    StaleCursor("It went wrong."),
]
"""One of each class and kind, as the door can meet it, without a hint of its own."""


def expected(error: HaulError) -> Exit:
    """The exit code, by what kind of next step the error is for."""
    if isinstance(error, Refused):
        return FAULTS[error.kind].exit
    if isinstance(error, Transient):
        return Exit.TRY_AGAIN
    if isinstance(error, NeedsAttention):
        return {"sign-in": Exit.SIGN_IN_REFUSED, "configuration": Exit.CONFIGURATION}.get(error.kind, Exit.FAILURE)
    return Exit.FAILURE


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__} {error.kind}")
def test_an_error_of_the_daemon_reaches_a_person_with_a_hint_and_an_exit_code(
    error: HaulError, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = Answers()

    def fail(_method: str) -> None:
        raise error

    answers.before_answer = fail
    with daemon(tmp_path / "haul.sock", answers):
        code = run(["--socket", str(tmp_path / "haul.sock"), "list"])
    first, *below = capsys.readouterr().err.splitlines()
    assert (code, first) == (expected(error), "haulctl: It went wrong.")
    assert below
    assert below[-1].removeprefix("  ") in HINTS.values()


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_of_the_contract_has_a_hint(kind: str) -> None:
    assert HINTS[kind]
    assert fault(kind).kind == kind


@pytest.mark.parametrize("kind", [*UNHINTED, "throttled"])
def test_what_an_account_or_a_job_waits_for_or_fails_with_is_shown_with_a_hint(kind: str) -> None:
    troubled = job(status="failed", phase=None, error=ErrorInfo(kind=kind, message="It went wrong."))
    shown = "\n".join(show.job(troubled, 80, words.now()))
    assert "\n  -> " in shown


def test_a_hint_names_commands_that_exist() -> None:
    known = set(cli.commands) | set(ALIASES)
    spoken = [text for path in (*DAEMON.rglob("*.py"), *CTL.rglob("*.py")) for text in texts(path)]
    named = {name for text in spoken for name in re.findall(r"(?:^|: |, |`)haulctl ([a-z]+)", text)}
    assert "show" in named
    assert named <= known


def texts(path: Path) -> Iterator[str]:
    """What a program says, line by line."""
    for each in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield from map(str.strip, each.value.splitlines())


def test_what_only_the_client_knows_has_a_hint_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "none.sock", tmp_path):
        assert run(["--socket", str(path), "list"]) == Exit.UNREACHABLE
        assert len(capsys.readouterr().err.splitlines()) == 2
