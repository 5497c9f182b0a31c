"""Commands as they are typed: what is asked of the daemon, what comes out where, and the exit code."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from haulapi.calls import (
    CreateParams,
    DeleteParams,
    ItemListParams,
    JobListParams,
    JobParams,
    Progress,
    RetryParams,
    Strategy,
    WantedStrategy,
)
from haulapi.faults import Exit
from haulctl.cli import ALIASES, cli, run
from haulctl.failure import Failure
from hauld.errors import Refused, Throttled
from support.door import REFUSED_SIGN_IN, Answers, account, daemon, done, folder, item, job
from support.terminal import Running, open_terminal

HAULCTL = [sys.executable, "-c", "from haulctl.cli import main; main()"]

LATE_INTERRUPT = """
import ctypes, operator, select, signal
from functools import partial
from haulctl.cli import main

def interrupted(reading, *rest, select=select.select):
    if {otherwise}:
        return select(reading, *rest)
    # what C calls in a row: Python does not look for signals in between
    steps = [partial(ctypes.CDLL(None)["raise"], int(signal.SIGINT)), partial(select, reading, *rest)]
    return list(map(operator.call, steps))[1]

select.select = interrupted
main()
"""


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def path(tmp_path: Path, answers: Answers) -> Iterator[Path]:
    with daemon(tmp_path / "haul.sock", answers):
        yield tmp_path / "haul.sock"


@pytest.fixture
def haulctl(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HAUL_SOCKET", str(path))
    monkeypatch.setenv("COLUMNS", "80")

    def command(*arguments: str) -> Outcome:
        code = run(arguments)
        return Outcome(code, *capsys.readouterr())

    return command


# --- looking -------------------------------------------------------------------------------------------------------


def test_status_fits_one_screen_and_says_that_nothing_is_wrong(haulctl: Any) -> None:
    shown = haulctl("status")
    assert shown.code == 0
    assert "Nothing is wrong." in shown.out
    assert "job_k3x9q2m4v8zt" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert shown.err == ""


def test_status_tells_what_is_wrong_before_all_else(haulctl: Any, answers: Answers) -> None:
    answers.accounts = [account(), account(name="home", state="attention", error=REFUSED_SIGN_IN)]
    shown = haulctl("status").out
    assert shown.index("Invalid credentials") < shown.index("Accounts: 2")
    assert "Check the password" in shown


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        (("status",), "daemon.status"),
        (("accounts",), "accounts.list"),
        (("account", "work"), "accounts.get"),
        (("test", "work"), "accounts.test"),
        (("list",), "jobs.list"),
        (("show", "k3x9"), "jobs.get"),
        (("folders", "k3x9"), "folders.list"),
        (("items", "k3x9"), "items.list"),
        (("create", "work"), "jobs.create"),
        (("sync", "k3x9"), "jobs.sync"),
        (("retry", "k3x9"), "jobs.retry"),
        (("reload",), "daemon.reload"),
    ],
)
def test_each_command_asks_its_method_and_gives_the_result_as_on_the_wire(
    haulctl: Any, answers: Answers, arguments: tuple[str, ...], method: str
) -> None:
    for form in (("--json",), ("-o", "json"), ("--output", "jsonl"), ("-o", "table")):
        answers.asked.clear()
        shown = haulctl(*arguments, *form)
        assert (shown.code, shown.err) == (0, "")
        assert answers.asked[0][0] == method
        assert shown.out.endswith("\n")
        if form[-1] == "jsonl":
            assert all(isinstance(json.loads(line), dict) for line in shown.out.splitlines())
        elif form[-1] != "table":
            assert isinstance(json.loads(shown.out), dict)


def test_json_is_what_the_wire_said_with_nothing_left_out(haulctl: Any, answers: Answers) -> None:
    told = json.loads(haulctl("show", "k3x9", "--json").out)
    assert set(told) == set(answers.jobs[0].__struct_encode_fields__)
    assert told["progress"]["percent_complete"] == 42.06
    assert set(json.loads(haulctl("list", "--json").out)) == {"jobs", "next"}


def test_common_options_are_taken_before_and_after_the_command_and_the_last_counts(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAUL_SOCKET", "/nowhere")
    for arguments in (
        ("--socket", str(path), "--json", "list"),
        ("list", "--socket", str(path), "--json"),
        ("--socket", "/nowhere", "-o", "table", "list", "-o", "json", "--socket", str(path)),
    ):
        assert run(arguments) == 0
        assert json.loads(capsys.readouterr().out)["jobs"]


def test_jsonl_streams_all_pages_one_object_a_line(haulctl: Any, answers: Answers) -> None:
    answers.items = [item(n) for n in range(1_200)]
    lines = haulctl("items", "k3x9", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(1_200))
    assert len(answers.asked) == 3


def test_folders_are_given_over_all_their_pages(haulctl: Any, answers: Answers) -> None:
    answers.folders = [folder(name=f"F{n}") for n in range(2_500)]
    names = [f"F{n}" for n in range(2_500)]
    assert [json.loads(line)["name"] for line in haulctl("folders", "k3x9", "-o", "jsonl").out.splitlines()] == names
    whole = json.loads(haulctl("folders", "k3x9", "--json").out)
    assert ([each["name"] for each in whole["folders"]], whole["next"]) == (names, None)
    assert [line.split()[0] for line in haulctl("folders", "k3x9").out.splitlines()] == ["FOLDER", *names]
    assert [asked.after for _, asked in answers.asked] == [None, "1000", "2000"] * 3


def test_jsonl_with_a_limit_stops_there(haulctl: Any, answers: Answers) -> None:
    answers.items = [item(n) for n in range(1_200)]
    for limit in (3, 501):
        assert len(haulctl("items", "k3x9", "-o", "jsonl", "--limit", str(limit)).out.splitlines()) == limit


def test_a_table_that_is_not_all_says_how_to_get_the_rest(haulctl: Any, answers: Answers) -> None:
    answers.items = [item(n) for n in range(5)]
    answers.jobs = [job(id=f"job_{n:012}") for n in range(101)]
    assert "first 2" in haulctl("items", "job_000000000000", "--limit", "2").err
    assert haulctl("items", "job_000000000000").err == ""
    assert "-o jsonl" in haulctl("list").err
    assert len(haulctl("list", "-o", "jsonl").out.splitlines()) == 101


def test_filters_go_to_the_daemon(haulctl: Any, answers: Answers) -> None:
    haulctl("list", "--status", "failed", "--account", "work")
    haulctl("items", "k3x9", "--status", "failed", "--folder", "Entwürfe", "--limit", "7")
    assert answers.asked == [
        ("jobs.list", JobListParams(status="failed", account="work", limit=100)),
        ("items.list", ItemListParams(job="k3x9", status="failed", folder="Entwürfe", limit=7)),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("accounts",), "No account is configured yet"),
        (("list",), "haulctl create"),
        (("list", "--status", "failed"), "No job is like that"),
    ],
)
def test_where_there_is_nothing_it_is_said_beside_the_result(
    haulctl: Any, answers: Answers, arguments: tuple[str, ...], words: str
) -> None:
    answers.accounts, answers.jobs = [], []
    shown = haulctl(*arguments)
    assert (shown.code, shown.out) == (0, "")
    assert words in shown.err


def test_a_job_without_folders_or_items_says_so(haulctl: Any, answers: Answers) -> None:
    answers.folders, answers.items, answers.jobs = [], [], [job(last_sync_at=None)]
    assert "No folder is known yet" in haulctl("folders", "k3x9").err
    assert "No item is known yet" in haulctl("items", "k3x9").err
    assert "No item is like that" in haulctl("items", "k3x9", "--status", "failed").err


def test_C12_a_name_from_outside_cannot_act_on_the_terminal(haulctl: Any, answers: Answers) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"
    answers.accounts = [account(name=evil, user=evil, host=evil)]
    answers.jobs = [job(account=evil, requester=evil, strategy=Strategy(kind=evil, folders=[evil]))]
    answers.folders = [folder(name=evil, kind=evil)]
    answers.items = [item(folder=evil, key=evil, local_path=evil, flags=[evil])]
    for arguments in (
        ("status",),
        ("accounts",),
        ("account", evil),
        ("test", evil),
        ("list",),
        ("show", "k3x9"),
        ("folders", "k3x9"),
        ("items", "k3x9"),
        ("create", evil),
        ("create", evil, "--dry-run"),
        ("retry", "k3x9"),
        ("pause", "k3x9"),
        ("delete", "k3x9"),
        ("events",),
        ("sync", "k3x9"),
        ("account", "no" + evil),
    ):
        shown = haulctl(*arguments)
        for char in "\x1b\x07\u202e":
            assert char not in shown.out + shown.err, arguments


def test_colours_are_for_terminals_and_not_for_those_who_want_none(path: Path) -> None:

    def on_a_terminal(**environment: str) -> bytes:
        ours, theirs = open_terminal()
        with open(ours, "rb", buffering=0) as screen:
            subprocess.run(
                [*HAULCTL, "--socket", path, "list"],
                stdout=theirs,
                check=True,
                env=os.environ | {"TERM": "xterm"} | environment,
            )
            os.close(theirs)
            return os.read(screen.fileno(), 65536)

    assert b"\x1b[36mrunning" in on_a_terminal()
    assert b"\x1b" not in on_a_terminal(NO_COLOR="1")
    piped = subprocess.run([*HAULCTL, "--socket", path, "list"], capture_output=True, check=True)
    assert b"\x1b" not in piped.stdout


# --- acting --------------------------------------------------------------------------------------------------------


def test_create_sends_what_was_asked_for(haulctl: Any, answers: Answers) -> None:
    shown = haulctl(
        *("create", "work", "--strategy", "date-range", "--folder", "INBOX", "--folder", "Projects/*", "--exclude", "*/Old"),
        *("--since", "2026-01-01", "--before", "2026-02-01", "--from", "a", "--to", "b", "--subject", "c"),
        *("--once", "--priority", "1", "--attempts", "9", "--requester", "cron", "--no-start"),
    )
    assert shown.code == 0
    assert answers.asked == [
        (
            "jobs.create",
            CreateParams(
                account="work",
                strategy=WantedStrategy(
                    kind="date-range",
                    folders=["INBOX", "Projects/*"],
                    exclude=["*/Old"],
                    since="2026-01-01",
                    before="2026-02-01",
                    sender="a",
                    to="b",
                    subject="c",
                ),
                live=False,
                priority=1,
                attempts=9,
                requester="cron",
                start=False,
            ),
        )
    ]


def test_create_tells_what_it_made(haulctl: Any) -> None:
    shown = haulctl("create", "work")
    assert shown.out == "job_k3x9q2m4v8zt on work is created and running. It wants full, and keeps\nwatching.\n"


def test_a_dry_run_tells_what_would_be(haulctl: Any, answers: Answers) -> None:
    shown = haulctl("create", "work", "--dry-run")
    assert "Nothing was created" in shown.out
    assert "3,588 items" in shown.out
    assert answers.asked[0][1].dry_run
    for form in ("json", "jsonl"):
        assert json.loads(haulctl("create", "work", "--dry-run", "-o", form).out)["stored_items"] == 8_412


@pytest.mark.parametrize(
    ("filters", "kind"),
    [
        ((), "full"),
        (("--exclude", "Trash"), "full"),
        (("--folder", "INBOX"), "selected-folders"),
        (("--since", "2026-01-01"), "date-range"),
        (("--before", "2026-01-01", "--folder", "INBOX"), "date-range"),
        (("--from", "a"), "search"),
        (("--to", "a", "--folder", "INBOX"), "search"),
        (("--subject", "a"), "search"),
        (("--subject", "a", "--strategy", "unseen"), "unseen"),
    ],
)
def test_filters_imply_the_strategy_unless_one_is_named(
    haulctl: Any, answers: Answers, filters: tuple[str, ...], kind: str
) -> None:
    haulctl("create", "work", *filters)
    assert answers.asked[0][1].strategy.kind == kind


def test_pausing_cancelling_and_deleting_tell_what_became_of_the_job(haulctl: Any, answers: Answers) -> None:
    assert haulctl("pause", "k3x9").out == "job_k3x9q2m4v8zt on work stopped: paused.\n"
    assert haulctl("cancel", "k3x9").out == "job_k3x9q2m4v8zt on work ended: cancelled.\n"
    again = haulctl("cancel", "k3x9")
    assert (again.code, again.out) == (Exit.WRONG_STATE, "")
    assert haulctl("delete", "k3x9").out == "job_k3x9q2m4v8zt on work is deleted. Its files stay.\n"
    assert haulctl("delete", "k3x9").code == Exit.NOT_FOUND
    answers.jobs = [job()]
    assert haulctl("delete", "k3x9", "--purge").out.endswith("is deleted. Files that no other job wants are removed.\n")
    assert answers.asked[-1] == ("jobs.delete", DeleteParams(job="k3x9", purge=True))


def test_purging_asks_first_where_there_is_somebody_to_ask(path: Path, answers: Answers) -> None:
    answers.jobs = [done()]
    purge = [*HAULCTL, "--socket", str(path), "delete", "k3x9", "--purge"]
    for answer in ("n", ""):
        with Running(purge, 80) as asking:
            asked = asking.until(lambda text: "[y/N]: " in text + " ")
            assert "job_k3x9q2m4v8zt" in asked
            assert "20,000 items" in asked
            asking.type(f"{answer}\n")
            assert "Nothing was deleted." in asking.until(lambda text: "Nothing was deleted." in text)
            assert asking.end() == Exit.FAILURE
    assert answers.jobs
    with Running(purge, 80) as asking:
        asking.until(lambda text: "[y/N]" in text)
        asking.type("\x03")
        assert asking.end() == Exit.INTERRUPTED
        assert asking.display.text.splitlines()[-1] == "Interrupted.", "on a line of its own"
    assert answers.jobs
    with Running(purge, 80) as asking:
        asking.until(lambda text: "[y/N]" in text)
        asking.type("perhaps\n")
        asking.until(lambda text: text.count("[y/N]") == 2)
        asking.type("Y\n")
        assert asking.end() == Exit.OK
    assert answers.asked[-1] == ("jobs.delete", DeleteParams(job="job_k3x9q2m4v8zt", purge=True))


def test_ctrl_c_typed_just_before_haulctl_waits_for_an_answer_ends_it(path: Path, answers: Answers) -> None:
    """The signal comes after Python has last looked for one, and before the wait has begun."""
    answers.jobs = [done()]
    asked = LATE_INTERRUPT.format(otherwise="0 not in reading")
    purge = [sys.executable, "-c", asked, "--socket", str(path), "delete", "k3x9", "--purge"]
    with Running(purge, 80) as asking:
        assert asking.end() == Exit.INTERRUPTED
    assert answers.jobs


def test_ctrl_c_typed_just_before_haulctl_waits_for_an_event_ends_it(path: Path, answers: Answers) -> None:
    followed = LATE_INTERRUPT.format(otherwise="len(sys.stdin.read(1)) > 0")
    follow = [sys.executable, "-c", f"import sys\n{followed}", "--socket", str(path), "events", "--follow", "-o", "jsonl"]
    replies = "12"  # to hello and to events.follow
    ended = subprocess.run(follow, input=replies, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (Exit.INTERRUPTED, "")


def test_an_answer_that_ends_before_it_began_is_none(path: Path, answers: Answers) -> None:
    answers.jobs = [done()]
    with Running([*HAULCTL, "--socket", str(path), "delete", "k3x9", "--purge"], 80) as asking:
        asking.until(lambda text: "[y/N]" in text)
        asking.type("\x04")
        assert asking.end() == Exit.INTERRUPTED
        assert asking.display.text.splitlines()[-1] == "Interrupted."
    assert answers.jobs


@pytest.mark.parametrize("options", [("--purge", "--yes"), ("--yes",), ()], ids=["purge, yes", "yes", "neither"])
def test_nobody_is_asked_who_said_yes_or_keeps_the_files(path: Path, answers: Answers, options: tuple[str, ...]) -> None:
    with Running([*HAULCTL, "--socket", str(path), "delete", "k3x9", *options], 80) as deleting:
        assert deleting.end() == Exit.OK
        assert "[y/N]" not in deleting.display.text
    assert answers.jobs == []


def test_a_script_that_purges_is_not_asked(path: Path, answers: Answers) -> None:
    purged = subprocess.run([*HAULCTL, "--socket", path, "delete", "k3x9", "--purge"], stdin=subprocess.DEVNULL)
    assert (purged.returncode, answers.jobs) == (Exit.OK, [])


def test_an_error_on_a_terminal_is_broken_between_words(path: Path, answers: Answers) -> None:
    def refuse(_method: str) -> None:
        raise Refused(
            "failed", "It went wrong in so many ways that a line of a terminal cannot hold all of them.", hint="Do " * 40
        )

    answers.before_answer = refuse
    with Running([*HAULCTL, "--socket", str(path), "list"], 60) as failing:
        assert failing.end() == Exit.FAILURE
    first, *below = failing.display.text.splitlines()
    assert first.startswith("haulctl: It went wrong")
    assert all(line.startswith("  ") for line in below)
    assert failing.display.wrapped == 0


def test_retrying_names_the_items_or_none(haulctl: Any, answers: Answers) -> None:
    shown = haulctl("retry", "k3x9")
    assert shown.out == "job_k3x9q2m4v8zt on work asks again for what failed: running, downloading.\n"
    assert "asks again for 2 items" in haulctl("retry", "k3x9", "--item", "7", "--item", "9").out
    assert answers.asked == [("jobs.retry", RetryParams(job="k3x9")), ("jobs.retry", RetryParams(job="k3x9", items=[7, 9]))]


@pytest.mark.parametrize("name", ["start", "resume"])
def test_start_and_resume_are_one(haulctl: Any, answers: Answers, name: str) -> None:
    answers.jobs = [job(status="paused", phase=None)]
    shown = haulctl(name, "k3x9")
    assert shown.out == "job_k3x9q2m4v8zt on work started: running, connecting.\n"
    assert answers.asked == [("jobs.start", JobParams(job="k3x9"))]


def test_starting_a_running_job_is_an_error_that_says_so(haulctl: Any) -> None:
    shown = haulctl("start", "k3x9")
    assert (shown.code, shown.out) == (Exit.WRONG_STATE, "")
    assert shown.err.startswith("haulctl: Job job_k3x9q2m4v8zt is running already.\n  ")


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (done(), Exit.OK),
        (done(progress=Progress(total_items=3, downloaded_items=2, failed_items=1)), Exit.PARTLY_FAILED),
        (job(status="failed", phase=None, error=REFUSED_SIGN_IN), Exit.SIGN_IN_REFUSED),
        (job(status="cancelled", phase=None), Exit.FAILURE),
    ],
)
def test_create_and_wait_ends_with_the_outcome_of_the_job(haulctl: Any, answers: Answers, ended: Any, code: Exit) -> None:
    answers.jobs = [ended]
    shown = haulctl("create", "work", "--wait")
    assert shown.code == code
    assert shown.out.startswith(f"job_k3x9q2m4v8zt on work {ended.status} after ")
    assert ("--status failed" in shown.out) == (ended.progress.failed_items > 0)
    assert "work: " in shown.err


def test_create_and_wait_gives_the_job_as_json_at_the_end(haulctl: Any, answers: Answers) -> None:
    answers.jobs = [done()]
    for form in ("json", "jsonl"):
        shown = haulctl("create", "work", "--wait", "-o", form)
        assert json.loads(shown.out)["status"] == "completed"
    assert len(shown.out.splitlines()) == 1


@pytest.mark.parametrize("option", ["--no-start", "--dry-run"])
def test_waiting_for_what_does_not_run_is_refused(haulctl: Any, answers: Answers, option: str) -> None:
    shown = haulctl("create", "work", "--wait", option)
    assert (shown.code, answers.asked) == (Exit.USAGE, [])
    assert "nothing to wait for" in shown.err


def test_interrupting_ends_the_waiting_and_says_that_the_job_goes_on(path: Path, answers: Answers) -> None:
    looked = threading.Event()

    def notice(method: str) -> None:
        if method == "folders.list":
            looked.set()

    answers.before_answer = notice
    with subprocess.Popen(
        [*HAULCTL, "--socket", path, "create", "work", "--wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        looked.wait()
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate()
    assert (waiting.returncode, out) == (Exit.INTERRUPTED, "")
    assert "job_k3x9q2m4v8zt goes on in the daemon" in err
    assert "Traceback" not in err


# --- failing -------------------------------------------------------------------------------------------------------


def test_where_no_daemon_is_the_exit_code_and_the_words_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--socket", str(tmp_path / "none.sock"), "status"]) == Exit.UNREACHABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("haulctl: hauld does not seem to be running: nothing answers at ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "zzz"), Exit.NOT_FOUND, "There is no job zzz."),
        (("account", "nope"), Exit.NOT_FOUND, "haulctl accounts"),
        (("show", "job_"), Exit.USAGE, "Perhaps: job_a1, job_a2"),
        (("sync",), Exit.USAGE, "Missing argument 'JOB'"),
        (("lsit",), Exit.USAGE, "No such command 'lsit'"),
        (("list", "--status", "done"), Exit.USAGE, "'done' is not one of"),
        (("items", "job_a1", "--limit", "0"), Exit.USAGE, "range"),
        (("create", "work", "--priority", "4"), Exit.USAGE, "range"),
        (("create", "work", "--attempts", "0"), Exit.USAGE, "range"),
    ],
)
def test_each_failure_has_its_exit_code_and_its_words_on_stderr(
    haulctl: Any, answers: Answers, arguments: tuple[str, ...], code: Exit, words: str
) -> None:
    answers.jobs = [job(id="job_a1"), job(id="job_a2")]
    shown = haulctl(*arguments)
    assert (shown.code, shown.out) == (code, "")
    assert words in shown.err


def test_when_it_is_tried_again_is_told(haulctl: Any, answers: Answers) -> None:
    def throttle(_method: str) -> None:
        raise Throttled("imap.example.org asks for patience.", wait=600)

    answers.before_answer = throttle
    shown = haulctl("test", "work")
    assert shown.code == Exit.TRY_AGAIN
    assert "asks for patience" in shown.err
    assert "Next try in 9 min" in shown.err or "Next try in 10 min" in shown.err


def test_a_kind_of_error_that_is_not_known_yet_is_a_plain_failure(haulctl: Any, answers: Answers) -> None:
    def refuse(_method: str) -> None:
        raise Refused("moon_phase", "Not while the moon is new.")

    answers.before_answer = refuse
    shown = haulctl("list")
    assert (shown.code, shown.err) == (Exit.FAILURE, "haulctl: Not while the moon is new.\n")


def test_a_reader_that_has_enough_ends_it_quietly(path: Path, answers: Answers) -> None:
    answers.items = [item(n) for n in range(5_000)]
    with subprocess.Popen(
        [*HAULCTL, "--socket", path, "items", "k3x9", "-o", "jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.readline()
        reading.stdout.close()
        assert reading.stderr.read() == b""
    assert reading.returncode == Exit.FAILURE


@pytest.mark.parametrize(
    "arguments",
    ["list", "items k3x9 -o jsonl", "show k3x9 --json", "completion zsh", "--help", "list --help", "--version"],
)
@pytest.mark.parametrize(("into", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_output_that_cannot_be_written_is_told_in_a_sentence(path: Path, arguments: str, into: str, why: str) -> None:
    ended = shell(f"{arguments} {into}", path)
    assert (ended.returncode, ended.stderr) == (Exit.FAILURE, f"haulctl: cannot write the output: {why}.\n")


@pytest.mark.parametrize("into", ["2>/dev/full", "2>&-", "<&- 2>&-"])
@pytest.mark.parametrize(("arguments", "code"), [("show k3x9", 0), ("show zzz", 4), ("watch k3x9", 0), ("no-such-command", 2)])
def test_words_that_cannot_be_said_change_neither_result_nor_exit_code(
    path: Path, answers: Answers, arguments: str, code: int, into: str
) -> None:
    answers.jobs = [done()]
    ended = shell(f"{arguments} {into}", path)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert bool(ended.stdout) == (code == 0)


def test_with_all_streams_closed_there_is_an_exit_code_at_least(path: Path, answers: Answers) -> None:
    assert shell("list <&- >&- 2>&-", path).returncode == Exit.FAILURE
    assert shell("delete k3x9 --purge <&- >&- 2>&-", path).returncode == Exit.FAILURE
    assert answers.asked[-1] == ("jobs.delete", DeleteParams(job="k3x9", purge=True))


def shell(line: str, path: Path) -> subprocess.CompletedProcess[str]:
    """What becomes of a command as a shell runs it."""
    program = " ".join(map(shlex.quote, HAULCTL))
    environment = os.environ | {"HAUL_SOCKET": str(path)}
    return subprocess.run(["sh", "-c", f"{program} {line}"], capture_output=True, text=True, env=environment, timeout=60)


def test_an_interrupt_elsewhere_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_path: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("haulctl.options.connect", interrupt)
    assert run(["status"]) == Exit.INTERRUPTED
    assert "Interrupted." in capsys.readouterr().err


def test_a_terminal_that_cannot_show_a_name_shows_what_it_can(path: Path, answers: Answers) -> None:
    answers.folders = [folder(name="日本語")]
    shown = subprocess.run(
        [*HAULCTL, "--socket", path, "folders", "k3x9"],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )
    assert b"???" in shown.stdout


# --- help and completion -------------------------------------------------------------------------------------------

COMMANDS = list(cli.commands.values())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.name))
def test_every_command_has_help_with_an_example_of_itself(command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(command.name), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"  haulctl {command.name}" in shown
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    assert max(map(len, shown.splitlines())) <= 80


def test_help_lists_every_command_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command.name}" in shown
    assert "..." not in shown.partition("Look:")[2]


def test_without_a_command_help_is_shown_and_it_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == Exit.USAGE
    assert "haulctl status" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"haulctl {version('hauld')}\n"


def test_aliases_lead_to_commands_that_exist() -> None:
    assert set(ALIASES.values()) <= set(cli.commands)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_HAULCTL_COMPLETE" in capsys.readouterr().out


def completed(path: Path, *words: str) -> list[str]:
    environment = {
        "_HAULCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["haulctl", *words]),
        "COMP_CWORD": str(len(words)),
        "HAUL_SOCKET": str(path),
    }
    offered = subprocess.run(HAULCTL, env=os.environ | environment, capture_output=True, text=True)
    assert offered.stderr == ""
    return [line.partition(",")[2] for line in offered.stdout.split()]


def test_a_shell_is_offered_commands_accounts_and_jobs(path: Path, answers: Answers) -> None:
    answers.accounts = [account(), account(name="home")]
    answers.jobs = [job(), job(id="job_zzzz00001111")]
    assert completed(path, "st") == ["status", "start"]
    assert completed(path, "create", "wo") == ["work"]
    assert completed(path, "create", "work", "--strategy", "in") == ["inbox-only"]
    assert completed(path, "show", "jo") == ["job_k3x9q2m4v8zt", "job_zzzz00001111"]
    assert completed(path, "show", "zz") == ["zzzz00001111"]
    assert completed(path, "list", "--account", "h") == ["home"]


def test_a_shell_is_offered_the_folders_of_the_job_and_jobs_of_later_pages(path: Path, answers: Answers) -> None:
    answers.jobs = [job(id=f"job_{n:012}") for n in range(150)]
    answers.folders = [folder(name=name) for name in ("INBOX", "Sent", "Spam", "S\x1b[2J")]
    assert completed(path, "show", "job_00000000014") == [f"job_{n:012}" for n in range(140, 150)]
    assert completed(path, "items", "job_000000000001", "--folder", "S") == ["Sent", "Spam"]


def test_a_shell_is_offered_nothing_where_no_daemon_answers(tmp_path: Path) -> None:
    assert completed(tmp_path / "none.sock", "show", "jo") == []
    assert completed(tmp_path / "none.sock", "account", "wo") == []


def test_failures_are_sentences() -> None:
    failure = Failure(Exit.FAILURE, "It failed.")
    assert str(failure) == failure.message
