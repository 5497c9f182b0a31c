"""Events and live progress as they are typed: over restarts, until interrupted, with nothing twice and nothing left out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from haulapi.calls import FollowParams, Progress, Since
from haulapi.faults import Exit
from haulctl.cli import run
from haulctl.client import Client, connect
from haulctl.follow import Doorbell, follow, number_of
from support.door import THROTTLED, Answers, daemon, done, job

HAULCTL = [sys.executable, "-c", "from haulctl.cli import main; main()"]


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haul.sock"


@pytest.fixture
def house() -> Iterator[ExitStack]:
    """Where the daemon lives: closing it stops the daemon."""
    with ExitStack() as stack:
        yield stack


def reach(path: Path) -> Callable[[], Client]:
    return lambda: connect(str(path))


def until(stream: IO[str], word: str) -> str:
    """What is read up to the line with that word."""
    read = ""
    for line in stream:
        read += line
        if word in line:
            return read
    raise AssertionError(f"{word!r} never came: {read}")


# --- events --------------------------------------------------------------------------------------------------------


def test_events_are_given_as_on_the_wire_the_oldest_first(
    path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1_200):
        answers.told.tell("item.stored", job="job_k3x9q2m4v8zt" if number % 2 else None, items=[number])
    with daemon(path, answers):
        assert run(["--socket", str(path), "events", "--since", "0", "-o", "jsonl"]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [each["number"] for each in events] == list(range(1, 1_201))
        assert set(events[0]) == {"number", "time", "kind", "job", "folder", "data"}
        assert run(["--socket", str(path), "events", "--job", "k3x9", "-o", "jsonl"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 600
        assert run(["--socket", str(path), "events"]) == 0
        table = capsys.readouterr().out.splitlines()
        assert len(table) == 100
        assert table[-1].split()[0] == "1200"
        assert run(["--socket", str(path), "events", "--since", "1198", "--json"]) == 0
        page = json.loads(capsys.readouterr().out)
        assert ([each["number"] for each in page["events"]], page["last"]) == ([1199, 1200], 1200)


def test_events_that_are_gone_are_an_error_that_says_so(
    path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(10):
        answers.told.tell("job.status")
    answers.told.forget(5)
    with daemon(path, answers):
        assert run(["--socket", str(path), "events", "--since", "2"]) == Exit.FAILURE
    assert "no longer kept" in capsys.readouterr().err


def test_C5_a_restart_of_the_daemon_leaves_no_gap_and_repeats_nothing(path: Path, answers: Answers, house: ExitStack) -> None:
    said: list[str] = []

    def come_back(_seconds: float) -> None:
        answers.told.tell("told.while.away")
        house.enter_context(daemon(path, answers))

    answers.told.tell("first")
    house.enter_context(daemon(path, answers))
    stream = follow(reach(path), Since(stream=answers.told.stream_id, number=0), None, said.append, pause=come_back)
    numbers = [number_of(next(stream))]
    for _ in range(5):
        answers.told.tell("before")
        numbers.append(number_of(next(stream)))
        house.close()
        numbers.append(number_of(next(stream)))
    stream.close()  # type: ignore[attr-defined]
    assert numbers == list(range(1, 12))
    assert [sentence for sentence in said if "back." in sentence[-6:]].count("hauld is back.") == 5


def test_events_that_are_gone_are_told_and_it_goes_on_from_now(path: Path, answers: Answers) -> None:
    said: list[str] = []
    for _ in range(10):
        answers.told.tell("old")
    answers.told.forget(5)

    def say(sentence: str) -> None:
        said.append(sentence)
        if sentence.startswith("Going on"):
            answers.told.tell("new")

    with daemon(path, answers):
        stream = follow(reach(path), Since(stream=answers.told.stream_id, number=2), None, say)
        assert number_of(next(stream)) == 11
        stream.close()  # type: ignore[attr-defined]
    assert "no longer kept" in said[0]
    assert said[1] == "Going on after event 10."


def test_a_job_that_is_not_there_cannot_be_followed(path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    with daemon(path, answers):
        assert run(["--socket", str(path), "events", "--follow", "--job", "zzz"]) == Exit.NOT_FOUND
    assert "There is no job zzz" in capsys.readouterr().err


def test_following_gives_each_event_when_it_happens_and_ends_by_interrupt(path: Path, answers: Answers) -> None:
    answers.told.tell("job.status", job="job_k3x9q2m4v8zt")
    command = [*HAULCTL, "--socket", path, "events", "--follow", "--since", "0", "-o", "jsonl"]
    with (
        daemon(path, answers),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following,
    ):
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["number"] == 1
        answers.told.tell("item.stored")
        assert json.loads(following.stdout.readline())["kind"] == "item.stored"
        following.send_signal(signal.SIGINT)
        out, err = following.communicate()
    assert (following.returncode, out, err) == (Exit.INTERRUPTED, "", "")


@pytest.mark.parametrize("arguments", [("events", "--follow", "--json"), ("watch", "--json"), ("events", "--since", "-1")])
def test_what_makes_no_sense_is_refused_with_what_does(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "jsonl" in err or "range" in err


# --- the doorbell --------------------------------------------------------------------------------------------------


def test_a_doorbell_rings_when_something_happens(path: Path, answers: Answers) -> None:
    with daemon(path, answers), Doorbell(reach(path), "k3x9") as bell:
        bell.wait(0)
        answers.told.tell("job.status", job="job_k3x9q2m4v8zt")
        answers.told.tell("job.status", job="job_k3x9q2m4v8zt")
        bell.wait(0)
    bell.wait(0)  # nobody is there: that is for the one who looks to find out


def test_C14_an_older_daemon_without_events_is_looked_at_now_and_then(path: Path) -> None:
    asked = []

    class Older:
        def call(self, method: str, params: FollowParams) -> Any:
            asked.append((method, params))
            from haulctl.failure import Failure

            raise Failure(Exit.FAILURE, "There is no method events.follow.", kind="method_not_found")

        def close(self) -> None:
            """Nothing is open."""

    with Doorbell(Older) as bell:  # type: ignore[arg-type]
        bell.wait(0)
        bell.wait(0)
    assert len(asked) == 1


# --- watch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (done(), Exit.OK),
        (done(progress=Progress(total_items=3, downloaded_items=2, failed_items=1)), Exit.PARTLY_FAILED),
        (job(status="cancelled", phase=None), Exit.FAILURE),
    ],
)
def test_watching_a_job_ends_with_its_outcome(
    path: Path, answers: Answers, capsys: pytest.CaptureFixture[str], ended: Any, code: Exit
) -> None:
    looked = 0

    def finish(method: str) -> None:
        nonlocal looked
        looked += method == "folders.list"
        if looked == 2:
            answers.jobs = [ended]
            answers.told.tell("job.status", job=ended.id)

    answers.before_answer = finish
    with daemon(path, answers):
        assert run(["--socket", str(path), "watch", "k3x9"]) == code
    out, err = capsys.readouterr()
    assert out.startswith(f"job_k3x9q2m4v8zt on work {ended.status} after ")
    assert err.splitlines()[0] == "work: running, downloading, 8,412 of 20,000 items (42 %), 950 items/s, 9.1 MB/s, 12 s left"


def test_watching_all_shows_what_waits_and_goes_on_until_interrupted(path: Path, answers: Answers) -> None:
    answers.jobs = [job(), job(id="job_aaaabbbbcccc", account="home", phase="waiting", error=THROTTLED)]
    answers.accounts = []
    with (
        daemon(path, answers),
        subprocess.Popen(
            [*HAULCTL, "--socket", path, "watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as seen,
    ):
        assert seen.stderr is not None
        shown = until(seen.stderr, "asks for patience")
        assert "work: running, downloading" in shown
        answers.jobs = [done()]
        answers.told.tell("job.deleted", job="job_aaaabbbbcccc")
        shown = until(seen.stderr, "Nothing runs")
        assert "job_aaaabbbbcccc was deleted." in shown
        assert "job_k3x9q2m4v8zt on work is completed: 20,000 downloaded." in shown
        seen.send_signal(signal.SIGINT)
        out, err = seen.communicate()
    assert (seen.returncode, out, err) == (Exit.INTERRUPTED, "", "The jobs go on in the daemon.\n")


@pytest.mark.parametrize("arguments", [("watch",), ("watch", "k3x9"), ("events", "--follow")])
def test_where_no_daemon_is_it_is_told_at_once(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(["--socket", str(path), *arguments]) == Exit.UNREACHABLE
    assert "does not seem to be running" in capsys.readouterr().err


def test_an_ambiguous_job_is_told_with_those_it_may_be(
    path: Path, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.jobs = [job(id="job_a1"), job(id="job_a2")]
    with daemon(path, answers):
        for command in ("watch", "pause", "cancel", "delete", "retry"):
            assert run(["--socket", str(path), command, "job_"]) == Exit.USAGE
            assert "Perhaps: job_a1, job_a2" in capsys.readouterr().err
