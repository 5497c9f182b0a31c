"""Folders that are asked for and not there: a misspelt glob is told wherever one looks at its job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from haulapi.calls import ErrorInfo, Progress, Strategy
from haulapi.faults import Exit
from haulctl.cli import run
from hauld.errors import Refused
from support.door import Answers, daemon, done, folder, job

NOPE = Strategy(kind="selected-folders", folders=["Projcts/*"])
TOLD = "haulctl: No folder of account work is like 'Projcts/*'.\n"
UNREADABLE = ErrorInfo(kind="folder", message="It cannot be opened.")


@pytest.fixture
def answers() -> Answers:
    names = ["INBOX", "Projects/One", "Sent"]
    return Answers(folders=[], items=[], folders_of_account=[folder(name=name) for name in names])


@pytest.fixture
def haulctl(tmp_path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    def command(*arguments: str) -> tuple[int, str]:
        return run(["--socket", str(tmp_path / "haul.sock"), *arguments]), capsys.readouterr().err

    with daemon(tmp_path / "haul.sock", answers):
        yield command


def empty(strategy: Strategy) -> Any:
    return done(strategy=strategy, progress=Progress(percent_complete=100.0))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "work", "--folder", "Projcts/*", "--wait"), Exit.NOT_FOUND),
        (("create", "work", "--folder", "Projcts/*", "--dry-run"), Exit.NOT_FOUND),
        (("create", "work", "--folder", "Projcts/*", "--dry-run", "--json"), Exit.NOT_FOUND),
        (("watch", "k3x9"), Exit.NOT_FOUND),
        (("show", "k3x9"), Exit.OK),
        (("folders", "k3x9"), Exit.OK),
    ],
)
def test_a_glob_that_no_folder_is_like_is_told(haulctl: Any, answers: Answers, arguments: Any, code: Exit) -> None:
    answers.jobs = [empty(NOPE)]
    ended, said = haulctl(*arguments)
    assert ended == code
    assert TOLD + "  Perhaps: Projects/One\n  See which there are: haulctl test work. Upper and lower case" in said


def test_a_job_without_items_has_no_folder_or_only_empty_ones(haulctl: Any, answers: Answers) -> None:
    answers.jobs = [empty(NOPE)]
    assert haulctl("items", "k3x9") == (Exit.OK, TOLD.removeprefix("haulctl: "))
    answers.jobs = [empty(Strategy())]
    assert "what was listed has none that the job wants" in haulctl("items", "k3x9")[1]


@pytest.mark.parametrize(
    ("glob", "perhaps"),
    [
        ("sent", "Sent"),
        ("Projects", "Projects/One"),
        ("projects/*", "Projects/One"),
        ("Snet", "Sent"),
        ("Nothing", None),
    ],
)
def test_what_was_perhaps_meant_is_named(haulctl: Any, answers: Answers, glob: str, perhaps: str | None) -> None:
    answers.jobs = [empty(Strategy(kind="selected-folders", folders=[glob]))]
    said = haulctl("show", "k3x9")[1]
    assert f"is like '{glob}'." in said
    assert ("Perhaps" in said) == (f"  Perhaps: {perhaps}\n" in said) == (perhaps is not None)


def test_one_glob_of_several_that_fits_nothing_is_told_and_fails_nothing(haulctl: Any, answers: Answers) -> None:
    answers.jobs = [done(strategy=Strategy(kind="selected-folders", folders=["inbox", "Projcts/*"]))]
    answers.folders = [folder()]
    ended, said = haulctl("create", "work", "--folder", "inbox", "--folder", "Projcts/*", "--wait")
    assert (ended, TOLD in said) == (Exit.OK, True)


def test_an_item_that_failed_counts_more_than_a_glob(haulctl: Any, answers: Answers) -> None:
    failed = Progress(total_items=3, downloaded_items=2, failed_items=1)
    answers.jobs = [done(strategy=Strategy(kind="selected-folders", folders=["INBOX", "Projcts/*"]), progress=failed)]
    answers.folders = [folder()]
    assert haulctl("watch", "k3x9")[0] == Exit.PARTLY_FAILED


def test_folders_that_are_there_and_left_out_are_told_so(haulctl: Any, answers: Answers) -> None:
    answers.jobs = [empty(Strategy(kind="selected-folders", folders=["Sent"], exclude=["S*"]))]
    ended, said = haulctl("watch", "k3x9")
    assert ended == Exit.NOT_FOUND
    assert "haulctl: No folder of account work is left: what was asked for is left out, too.\n" in said


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(job(status="pending", phase=None, strategy=NOPE, last_sync_at=None), id="nothing was listed yet"),
        pytest.param(empty(Strategy()), id="all folders are wanted"),
        pytest.param(empty(Strategy(exclude=["Trash"])), id="only some are left out"),
    ],
)
def test_where_nothing_is_amiss_nothing_is_said(haulctl: Any, answers: Answers, one: Any) -> None:
    answers.jobs = [one]
    answers.folders = [folder()] if one.strategy.exclude else []
    assert haulctl("show", "k3x9") == (Exit.OK, "")


def test_a_folder_that_cannot_be_read_is_not_said_to_be_left_out(haulctl: Any, answers: Answers) -> None:
    answers.folders_of_account = [folder(name="Sent", error=UNREADABLE)]
    assert haulctl("create", "work", "--folder", "Sent", "--dry-run") == (Exit.OK, "")


def test_a_job_whose_account_is_gone_is_shown_without_a_word_of_its_folders(haulctl: Any, answers: Answers) -> None:
    def refuse(method: str) -> None:
        if method == "folders.list":
            raise Refused("not_found", "No account is called 'work'.")

    answers.jobs, answers.before_answer = [empty(NOPE)], refuse
    assert haulctl("show", "k3x9") == (Exit.OK, "")


def test_folders_of_a_job_that_nobody_has_listed_are_not_known_yet(haulctl: Any, answers: Answers) -> None:
    answers.jobs = [job(status="pending", phase=None, strategy=NOPE, last_sync_at=None)]
    assert haulctl("folders", "k3x9") == (Exit.OK, "No folder is known yet: the origin has not been listed.\n")
    answers.jobs = [empty(Strategy())]
    assert haulctl("folders", "k3x9") == (Exit.OK, "There is no folder: the origin has none that can be copied.\n")
