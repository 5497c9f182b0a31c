"""How a verification is told: its screens, its sentences, its exit codes."""

from __future__ import annotations

from typing import Any

import pytest

from haulapi.calls import ErrorInfo, Verification, VerifiedFolder
from haulapi.faults import Exit
from haulctl import verifying
from haulctl.words import parse

WHOLE = VerifiedFolder(account="work", name="INBOX", checked=20, bytes=60_000, is_complete=True)
BROKEN = VerifiedFolder(account="work", name="Sent", checked=9, bytes=900, damaged=1, problems=["work/Sent/1 is \x1b[31mred."])


def verification(**changes: Any) -> Verification:
    values: dict[str, Any] = {
        "status": "completed",
        "started_at": "2026-01-31T12:00:00.000Z",
        "finished_at": "2026-01-31T12:00:42.000Z",
        "total_items": 20,
        "checked_items": 20,
        "total_bytes": 60_000,
        "checked_bytes": 60_000,
        "folders": [WHOLE],
    }
    return Verification(**values | changes)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        pytest.param(verification(), Exit.OK, id="all sound"),
        pytest.param(verification(unknown_files=3), Exit.OK, id="unknown files alone"),
        pytest.param(verification(damaged_items=1, folders=[WHOLE, BROKEN]), Exit.PARTLY_FAILED, id="damaged"),
        pytest.param(verification(missing_items=2, repaired_items=2), Exit.OK, id="repaired"),
        pytest.param(verification(missing_items=2, repaired_items=1), Exit.PARTLY_FAILED, id="partly repaired"),
        pytest.param(
            verification(status="failed", error=ErrorInfo(kind="disk", message="The disk is gone.")), Exit.FAILURE, id="failed"
        ),
    ],
)
def test_the_exit_code_says_how_it_stands(found: Verification, code: Exit) -> None:
    assert verifying.outcome(found) == code


def test_a_sound_copy_is_told_in_one_sentence() -> None:
    assert (
        list(verifying.screen(verification(), 80))[-1] == "20 items (60.0 kB) read in 42 s: all sound, every folder complete."
    )


def test_what_is_wrong_is_told_by_folder_and_with_what_to_do_and_cannot_harm_a_terminal() -> None:
    told = "\n".join(verifying.screen(verification(damaged_items=1, folders=[WHOLE, BROKEN], account="work"), 100))
    assert "work, Sent:\n  work/Sent/1 is \\x1b[31mred." in told
    assert "1 damaged. 1 folder not complete." in told
    assert "haulctl verify work --repair" in told


@pytest.mark.parametrize("width", [80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = verifying.screen(verification(damaged_items=1, folders=[WHOLE, BROKEN], unknown_files=2, strays=["x"]), width)
    assert max(len(line) for line in lines if "\x1b" not in line) <= width


def test_the_one_screen_speaks_of_a_verification_only_where_there_is_something_to_say() -> None:
    now = parse("2026-01-31T14:00:42.000Z")
    assert verifying.mention(Verification(status="never"), now) is None
    assert verifying.mention(verification(), now) is None
    assert "2 h ago" in str(verifying.mention(verification(damaged_items=1), now))
    broken = verification(status="failed", account="work", origin=True, error=ErrorInfo(kind="network", message="Unreachable."))
    assert str(verifying.mention(broken, now)).endswith("(2 h ago): Unreachable.  -> haulctl verify work --origin")
    running = verification(status="running", phase="reading", finished_at=None, checked_items=5, checked_bytes=15_000)
    assert verifying.mention(running, now) == "Verifying: reading, 5 of 20 items, 25 %"
