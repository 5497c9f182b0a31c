"""Allowed moves and folder globs."""

from __future__ import annotations

import pytest

from hauld.errors import Refused
from hauld.model import MOVES, Counters, FolderKind, JobStatus, RemoteFolder, Strategy, check_move, matches


@pytest.mark.parametrize("before", list(JobStatus))
@pytest.mark.parametrize("after", list(JobStatus))
def test_a_move_is_refused_in_words_unless_it_is_in_the_table(before: JobStatus, after: JobStatus) -> None:
    if after in MOVES[before]:
        check_move("job_x", before, after)
    else:
        with pytest.raises(Refused, match=f"Job job_x is {before} and cannot become {after}"):
            check_move("job_x", before, after)


def test_every_status_has_its_moves_and_none_leads_to_itself() -> None:
    assert set(MOVES) == set(JobStatus)
    assert all(status not in moves for status, moves in MOVES.items())


@pytest.mark.parametrize(
    ("name", "include", "exclude", "expected"),
    [
        ("INBOX", ["*"], [], True),
        ("inbox", ["INBOX"], [], True),
        ("INBOX", ["Inbox"], [], True),
        ("INBOX/inbox", ["INBOX"], [], False),
        ("Projects/a b", ["Projects/*"], [], True),
        ("projects/a b", ["Projects/*"], [], False),
        ("Trash", ["*"], ["Trash", "Spam"], False),
        ("a/b/c", ["a/*"], ["a/b/*"], False),
        ("Sent", [], [], False),
    ],
)
def test_globs_choose_folders_by_display_name(name: str, include: list[str], exclude: list[str], expected: bool) -> None:
    assert matches(name, include, exclude) is expected


def test_a_strategy_without_folders_selects_all_but_the_excluded() -> None:
    strategy = Strategy(exclude=("Spam",))
    assert strategy.selects("anything")
    assert not strategy.selects("Spam")


def test_remaining_is_what_is_neither_downloaded_nor_failed_nor_skipped() -> None:
    assert Counters(total=10, downloaded=4, failed=1, skipped=2).remaining == 3


def test_a_folder_is_shown_by_its_path() -> None:
    assert RemoteFolder(b"A.B", ("A", "B"), FolderKind.OTHER).name == "A/B"
