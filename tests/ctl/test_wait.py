"""Waiting for a job: until it ends, through a restart of the daemon, and what it ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from haulapi.calls import Folder, Job, Progress, Strategy
from haulapi.faults import Exit
from haulctl.client import Client, connect
from haulctl.failure import Failure, Unreachable
from haulctl.wait import AWAY_FOR, outcome, until_ended, watch_all
from support.door import REFUSED_SIGN_IN, Answers, daemon, done, folder, job


class Seen:
    """A view that remembers."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.folders: list[Sequence[Folder]] = []
        self.said: list[str] = []
        self.all: list[list[str]] = []

    def show(self, job: Job, folders: Sequence[Folder]) -> None:
        self.jobs.append(job)
        self.folders.append(folders)

    def show_all(self, seen: Sequence[tuple[Job, Sequence[Folder]]]) -> None:
        self.all.append([job.id for job, _ in seen])

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


class Story:
    """What happens between one look and the next, in place of time that passes."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = iter(steps)
        self.time = 0.0

    def pause(self, seconds: float) -> None:
        self.time += seconds
        next(self.steps)()

    def clock(self) -> float:
        return self.time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haul.sock"


@pytest.fixture
def house() -> Iterator[ExitStack]:
    """Where the daemon lives: closing it stops the daemon."""
    with ExitStack() as stack:
        yield stack


def nothing() -> None:
    """Nothing happens."""


def wait(path: Path, view: Seen, story: Story) -> Job:
    return until_ended("k3x9", lambda: connect(str(path)), view, pause=story.pause, clock=story.clock)


def test_it_looks_until_the_job_has_ended_and_shows_what_it_sees(path: Path) -> None:
    answers, view = Answers(jobs=[job(status="pending", phase=None)]), Seen()

    def work() -> None:
        answers.jobs = [job()]

    def finish() -> None:
        answers.jobs = [done()]

    with daemon(path, answers):
        ended = wait(path, view, Story(nothing, work, finish))
    assert ended.status == "completed"
    assert [each.status for each in view.jobs] == ["pending", "pending", "running", "completed"]
    assert view.folders[0] == answers.folders
    assert view.said == []


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "paused"])
def test_each_status_in_which_nothing_goes_on_ends_it(path: Path, status: str) -> None:
    with daemon(path, Answers(jobs=[job(status=status, phase=None)])):
        assert wait(path, Seen(), Story()).status == status


def test_C14_a_restart_of_the_daemon_does_not_end_it(path: Path, house: ExitStack) -> None:
    answers, view = Answers(), Seen()
    house.enter_context(daemon(path, answers))

    def come_back() -> None:
        answers.jobs = [done()]
        house.enter_context(daemon(path, answers))

    ended = wait(path, view, Story(house.close, nothing, nothing, come_back))
    assert ended.status == "completed"
    assert len(view.said) == 2
    assert "Waiting for it to come back" in view.said[0]
    assert "back" in view.said[1]


def test_C14_a_daemon_that_stays_away_ends_it_with_what_is_known(path: Path, house: ExitStack) -> None:
    house.enter_context(daemon(path, Answers()))
    story = Story(house.close)

    def time_passes(seconds: float) -> None:
        story.time += AWAY_FOR / 3
        next(story.steps, nothing)()

    with pytest.raises(Unreachable, match="nothing answers"):
        until_ended("k3x9", lambda: connect(str(path)), Seen(), pause=time_passes, clock=story.clock)
    assert story.time > AWAY_FOR


def test_a_daemon_that_says_later_is_asked_later(path: Path) -> None:
    view = Seen()
    tries = iter([Failure(Exit.TRY_AGAIN, "The daemon has too many control connections open.", kind="too_many"), None])

    def reach() -> Client:
        if (failure := next(tries)) is not None:
            raise failure
        return connect(str(path))

    with daemon(path, Answers(jobs=[done()])):
        assert until_ended("k3x9", reach, view, pause=lambda _: None).status == "completed"
    assert view.said[0].startswith("The daemon has too many")


def test_a_job_that_is_gone_ends_it(path: Path) -> None:
    answers = Answers()
    with daemon(path, answers), pytest.raises(Failure) as failed:
        wait(path, Seen(), Story(answers.jobs.clear))
    assert failed.value.exit == Exit.NOT_FOUND


def test_folders_are_seen_over_all_their_pages(path: Path) -> None:
    view = Seen()
    with daemon(path, Answers(jobs=[done()], folders=[folder(name=f"F{number}") for number in range(2_500)])):
        assert wait(path, view, Story()).status == "completed"
    assert [each.name for each in view.folders[0]] == [f"F{number}" for number in range(2_500)]


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        pytest.param(done(), Exit.OK, id="everything is there"),
        pytest.param(done(progress=Progress(total_items=3, failed_items=1)), Exit.PARTLY_FAILED, id="something failed"),
        pytest.param(done(error=msgspec.structs.replace(REFUSED_SIGN_IN, kind="folder")), Exit.PARTLY_FAILED, id="unreadable"),
        pytest.param(job(status="failed", error=REFUSED_SIGN_IN), Exit.SIGN_IN_REFUSED, id="the sign-in was refused"),
        pytest.param(
            job(status="failed", error=msgspec.structs.replace(REFUSED_SIGN_IN, kind="folder")), Exit.FAILURE, id="it failed"
        ),
        pytest.param(job(status="cancelled"), Exit.FAILURE, id="somebody cancelled it"),
        pytest.param(job(status="paused"), Exit.FAILURE, id="somebody paused it"),
    ],
)
def test_how_a_job_ended_is_the_exit_code(ended: Job, code: Exit) -> None:
    assert outcome(ended) == code


def test_a_job_that_found_no_folder_is_not_let_go_without_a_word(path: Path, house: ExitStack) -> None:
    misspelt = Strategy(kind="selected-folders", folders=["Nope"])
    answers, view = Answers(jobs=[job(strategy=misspelt)], folders=[]), Seen()

    def end() -> None:
        answers.jobs = [done(strategy=misspelt, progress=Progress())]

    def interrupt() -> None:
        raise KeyboardInterrupt

    story = Story(end, interrupt)
    house.enter_context(daemon(path, answers))
    with pytest.raises(KeyboardInterrupt):
        watch_all(lambda: connect(str(path)), view, pause=story.pause, clock=story.clock)
    assert view.said == ["job_k3x9q2m4v8zt on work is completed: 0 downloaded. No folder of account work is like 'Nope'."]


def test_watching_all_shows_the_unfinished_ones_and_says_what_became_of_the_others(path: Path, house: ExitStack) -> None:
    other, third = job(id="job_aaaabbbbcccc", status="pending", phase=None), job(id="job_000011112222")
    answers, view = Answers(jobs=[job(), other, third]), Seen()

    def two_end() -> None:
        answers.jobs = [done(), other]

    def come_back() -> None:
        house.enter_context(daemon(path, answers))

    def interrupt() -> None:
        raise KeyboardInterrupt

    story = Story(two_end, house.close, lambda: setattr(story, "time", 10 * AWAY_FOR), come_back, interrupt)
    house.enter_context(daemon(path, answers))
    with pytest.raises(KeyboardInterrupt):
        watch_all(lambda: connect(str(path)), view, pause=story.pause, clock=story.clock)
    assert view.all == [
        ["job_k3x9q2m4v8zt", "job_000011112222", "job_aaaabbbbcccc"],
        ["job_aaaabbbbcccc"],
        ["job_aaaabbbbcccc"],
    ]
    assert view.said[:2] == [
        "job_000011112222 was deleted.",
        "job_k3x9q2m4v8zt on work is completed: 20,000 downloaded.",
    ]
    assert view.said[-1] == "hauld is back."
