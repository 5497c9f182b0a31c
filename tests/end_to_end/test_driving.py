"""Jobs that people drive, through the socket of a running daemon, against a real server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import PATIENCE, SCRIPTS, Hauld
from support.dovecot import Dovecot, User
from support.held_imap import Held, account, served
from support.messages import messages
from support.scripted_imap import Mailbox
from support.unmeasured import unmeasured
from support.watching import listens


@pytest.fixture
def hauld(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> Iterator[Hauld]:
    with Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}, daemon={"max_running_jobs": 1}) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot) -> Iterator[Hauld]:
    """One daemon for all rows of the table: each test has a job of its own."""
    account = dovecot.account(dovecot.add_user())
    accounts = {"a": account, "refused": {**account, "user": "nobody here"}}
    with Hauld(tmp_path_factory.mktemp("table") / "haul", accounts) as daemon:
        yield daemon


def completed(hauld: Hauld) -> str:
    hauld.haulctl("create", "a", "--once", "--wait")
    return str(hauld.call("jobs.list", limit=1)["jobs"][0]["id"])


def pending(hauld: Hauld) -> str:
    return str(hauld.call("jobs.create", account="a", start=False)["id"])


def paused(hauld: Hauld) -> str:
    job = pending(hauld)
    hauld.call("jobs.pause", job=job)
    return job


def cancelled(hauld: Hauld) -> str:
    job = pending(hauld)
    hauld.call("jobs.cancel", job=job)
    return job


def failed(hauld: Hauld) -> str:
    hauld.haulctl("create", "refused", "--once", "--wait")
    return str(hauld.call("jobs.list", limit=1)["jobs"][0]["id"])


ALLOWED: list[tuple[Callable[[Hauld], str], str, tuple[str, ...]]] = [
    (pending, "jobs.start", ("pending", "running", "completed")),
    (paused, "jobs.start", ("pending", "running", "completed")),
    (failed, "jobs.start", ("pending", "running", "failed")),
    (completed, "jobs.start", ("pending", "running", "completed")),
    (cancelled, "jobs.start", ("pending", "running", "completed")),
    (pending, "jobs.pause", ("paused",)),
    (completed, "jobs.pause", ("paused",)),
    (pending, "jobs.cancel", ("cancelled",)),
    (paused, "jobs.cancel", ("cancelled",)),
    (failed, "jobs.cancel", ("cancelled",)),
    (completed, "jobs.cancel", ("cancelled",)),
]
REFUSED: list[tuple[Callable[[Hauld], str], str, str]] = [
    (paused, "jobs.pause", "is paused and cannot become paused"),
    (failed, "jobs.pause", "is failed and cannot become paused"),
    (cancelled, "jobs.pause", "is cancelled and cannot become paused"),
    (cancelled, "jobs.cancel", "is cancelled and cannot become cancelled"),
    (paused, "jobs.sync", "is paused and watches nothing"),
    (cancelled, "jobs.sync", "is cancelled and watches nothing"),
    (failed, "jobs.sync", "is failed and watches nothing"),
    (pending, "jobs.sync", "is pending and watches nothing"),
    (completed, "jobs.sync", "is completed and watches nothing"),
    (pending, "jobs.retry", "has no failed items"),
    (paused, "jobs.retry", "has no failed items"),
    (completed, "jobs.retry", "has no failed items"),
    (failed, "jobs.retry", "has no failed items"),
    (cancelled, "jobs.retry", "has no failed items"),
]


def name(value: object) -> str:
    """How a case is called: the status it begins in, the method, what is expected."""
    if isinstance(value, tuple):
        return " or ".join(value)
    return value if isinstance(value, str) else value.__name__  # type: ignore[attr-defined]


@pytest.mark.parametrize(("status", "method", "after"), ALLOWED, ids=name)
def test_a_move_of_the_table_is_made_and_told(
    table: Hauld, status: Callable[[Hauld], str], method: str, after: tuple[str, ...]
) -> None:
    job = status(table)
    before = table.call("jobs.get", job=job)["status"]
    last = table.call("events.list", limit=1)["last"]
    assert table.call(method, job=job)["status"] in after
    stream = table.call("events.list", limit=1)["stream"]
    told = table.call("events.list", since={"stream": stream, "number": last}, job=job)["events"]
    moves = [event["data"] for event in told if event["kind"] == "job.status"]
    assert before == "pending" or moves[0]["from"] == before


@pytest.mark.parametrize(("status", "method", "words"), REFUSED, ids=name)
def test_a_move_that_is_not_in_the_table_is_refused_in_words(
    table: Hauld, status: Callable[[Hauld], str], method: str, words: str
) -> None:
    job = status(table)
    before = table.call("jobs.get", job=job)
    with pytest.raises(RuntimeError, match=words) as refused:
        table.call(method, job=job)
    assert refused.value.args[0]["data"]["kind"] == "wrong_state"
    assert table.call("jobs.get", job=job)["status"] == before["status"]


# --- a job that runs, and holds still ---


@pytest.fixture
def held() -> Held:
    """The server of the account ``held``: it gives three messages of eight and keeps the client waiting for the rest."""
    return Held({b"INBOX": Mailbox({uid: b"Subject: %d\r\n\r\nbody\r\n" % uid for uid in range(1, 9)})}, free=3)


@pytest.fixture
def slow(tmp_path: Path, held: Held) -> Iterator[Hauld]:
    """A daemon with one job slot and the account ``held``."""
    with (
        served(held) as server,
        Hauld(tmp_path / "slow", {"held": account(held, server)}, daemon={"max_running_jobs": 1}) as daemon,
    ):
        yield daemon


def running(slow: Hauld, held: Held) -> str:
    """A job that has stored three messages and waits for the next."""
    job = str(slow.call("jobs.create", account="held", live=False)["id"])
    held.wait_until_asked()
    seen = until(slow, job, lambda seen: seen["progress"]["downloaded_items"] == 3)
    assert (seen["status"], seen["phase"]) == ("running", "downloading")
    return job


def until(hauld: Hauld, job: str, true: Callable[[Any], bool]) -> Any:
    """The job as soon as it is so; each look waits for an event."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(hauld.socket))
        connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "events.follow", "params": {"job": job}}).encode())
        connection.sendall(b"\n")
        with connection.makefile("rb") as events:
            while events.readline():
                if true(seen := hauld.call("jobs.get", job=job)):
                    return seen
    raise AssertionError("the daemon hung up")


def moves(hauld: Hauld, job: str) -> list[tuple[str, str, str | None]]:
    """Every change of the job's status that the events tell: from, to, why."""
    stream = hauld.call("events.list", limit=1)["stream"]
    told = hauld.call("events.list", since={"stream": stream, "number": 0}, job=job, limit=1000)["events"]
    return [
        (event["data"]["from"], event["data"]["to"], event["data"]["reason"]) for event in told if event["kind"] == "job.status"
    ]


START = [(None, "pending", None), ("pending", "running", None)]


@pytest.mark.parametrize(("command", "status"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_running_job_is_stopped_and_goes_on_where_it_was(slow: Hauld, held: Held, command: str, status: str) -> None:
    job = running(slow, held)
    stopped = json.loads(slow.haulctl(command, job, "--json").stdout)
    assert (stopped["status"], stopped["phase"], stopped["progress"]["in_progress_items"]) == (status, None, 0)
    assert stopped["progress"]["downloaded_items"] == len(slow.files()) == 3
    again = slow.haulctl(command, job)
    assert (again.returncode, f"is {status} and cannot become {status}" in again.stderr) == (6, True)
    held.let_go()
    assert slow.haulctl("start", job).returncode == 0
    assert slow.haulctl("watch", job).returncode == 0
    assert moves(slow, job) == [
        *START,
        ("running", status, None),
        (status, "pending", None),
        ("pending", "running", None),
        ("running", "completed", None),
    ]
    assert len(slow.files()) == 8


def test_a_running_job_is_not_started_again(slow: Hauld, held: Held) -> None:
    job = running(slow, held)
    refused = slow.haulctl("start", job)
    assert refused.returncode == 6
    assert "is already running" in refused.stderr
    assert "haulctl show" in refused.stderr
    assert moves(slow, job) == START


def test_a_job_that_waits_for_a_slot_is_not_started_again_but_paused_and_cancelled(slow: Hauld, held: Held) -> None:
    running(slow, held)
    waiting = slow.call("jobs.create", account="held", live=False)["id"]
    assert slow.call("jobs.get", job=waiting)["status"] == "pending"
    refused = slow.haulctl("start", waiting)
    assert (refused.returncode, "waiting for a free slot" in refused.stderr) == (6, True)
    assert slow.haulctl("pause", waiting).returncode == slow.haulctl("cancel", waiting).returncode == 0
    assert moves(slow, waiting) == [(None, "pending", None), ("pending", "paused", None), ("paused", "cancelled", None)]


def test_a_running_job_is_deleted_and_its_files_stay_or_go_too(slow: Hauld, held: Held) -> None:
    for purged in ((), ("--purge",)):
        job = running(slow, held) if not purged else str(slow.call("jobs.create", account="held", live=False)["id"])
        if purged:
            until(slow, job, lambda seen: seen["progress"]["skipped_items"] == 3)
        assert slow.haulctl("delete", job, *purged).returncode == 0
        gone = slow.haulctl("show", job)
        assert (gone.returncode, "haulctl list" in gone.stderr) == (4, True)
        stream = slow.call("events.list", limit=1)["stream"]
        told = slow.call("events.list", since={"stream": stream, "number": 0}, job=job)["events"]
        assert (told[-1]["kind"], told[-1]["data"]) == ("job.deleted", {"status": "running", "purged": 3 if purged else 0})
        assert len(slow.files()) == (0 if purged else 3)


def test_a_running_job_is_compared_when_it_is_through_and_has_nothing_to_retry_yet(slow: Hauld, held: Held) -> None:
    job = running(slow, held)
    refused = slow.haulctl("retry", job)
    assert (refused.returncode, "has no failed items" in refused.stderr) == (6, True)
    synced = json.loads(slow.haulctl("sync", job, "--json").stdout)
    assert (synced["status"], synced["phase"]) == ("running", "downloading")
    assert moves(slow, job) == START


def test_a_live_job_runs_again_when_the_origin_has_more(slow: Hauld, held: Held) -> None:
    held.mailboxes[b"INBOX"].messages = {1: b"one\r\n"}
    held.mailboxes[b"Work"] = Mailbox({})
    job = slow.call("jobs.create", account="held")["id"]
    until(slow, job, lambda _: listens(slow, "held"))
    held.mailboxes[b"Work"].add(1, b"two\r\n")  # where nobody listens
    assert slow.haulctl("sync", job).returncode == 0
    until(slow, job, lambda seen: seen["status"] == "completed" and seen["progress"]["downloaded_items"] == 2)
    assert moves(slow, job) == [
        *START,
        ("running", "completed", None),
        ("completed", "running", None),
        ("running", "completed", None),
    ]


def test_a_running_job_that_needs_a_person_fails_with_the_reason_in_its_event(table: Hauld) -> None:
    job = failed(table)
    assert table.call("jobs.get", job=job)["error"]["kind"] == "sign-in"
    *begun, (before, after, reason) = moves(table, job)
    assert begun == START
    assert (before, after) == ("running", "failed")
    assert reason == table.call("jobs.get", job=job)["error"]["message"]


@pytest.mark.parametrize("status", [pending, paused, completed, failed, cancelled], ids=name)
def test_a_job_of_any_status_is_deleted_and_told_of(table: Hauld, status: Callable[[Hauld], str]) -> None:
    job = status(table)
    before = table.call("jobs.get", job=job)["status"]
    assert table.haulctl("delete", job).returncode == 0
    stream = table.call("events.list", limit=1)["stream"]
    told = table.call("events.list", since={"stream": stream, "number": 0}, job=job)["events"]
    assert (told[-1]["kind"], told[-1]["data"]["status"]) == ("job.deleted", before)


def test_overlapping_jobs_and_one_made_again_fetch_each_message_once(hauld: Hauld, dovecot: Dovecot, mail_user: User) -> None:
    dovecot.fill(mail_user, "INBOX", messages(300, size=2000))
    dovecot.fill(mail_user, "Sent", messages(100, size=2000, seed=2))
    everything = hauld.call("jobs.create", account="a", live=False)["id"]
    inbox = hauld.call("jobs.create", account="a", live=False, strategy={"kind": "inbox-only"})["id"]
    assert hauld.haulctl("watch", everything).returncode == hauld.haulctl("watch", inbox).returncode == 0
    assert hauld.call("jobs.delete", job=everything)["id"] == everything
    again = json.loads(hauld.haulctl("create", "a", "--once", "--wait", "--json").stdout)
    assert (again["progress"]["downloaded_items"], again["progress"]["skipped_items"]) == (0, 400)
    hauld.stop()
    assert dovecot.bodies_fetched(mail_user) == 400


def test_C5_a_follower_killed_fifty_times_during_an_import_sees_each_event_once(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(6000, size=1200))
    account = dovecot.account(mail_user, tls="none")
    # a budget so small that there are many groups, and so many events
    with Hauld(tmp_path / "haul", {"a": account}, daemon={"memory_budget": "24 KiB"}) as hauld:
        began = hauld.call("events.list", limit=1)["last"]
        seen: list[int] = []
        kills = 0
        job = hauld.call("jobs.create", account="a", live=False)["id"]
        while kills < 50 or hauld.call("jobs.get", job=job)["status"] != "completed":
            if (seen or [began])[-1] < last_event(hauld):
                seen += follow_a_little(hauld, str((seen or [began])[-1]))
                kills += 1
            elif hauld.call("jobs.get", job=job)["status"] == "completed":
                job = hauld.call("jobs.create", account="a", live=False)["id"]  # a machine so fast has to do it again
        while (seen or [began])[-1] < last_event(hauld):
            seen += follow_a_little(hauld, str((seen or [began])[-1]))
        assert seen == list(range(began + 1, last_event(hauld) + 1))


def last_event(hauld: Hauld) -> int:
    """The number of the newest event."""
    return int(hauld.call("events.list", limit=1)["last"])


def follow_a_little(hauld: Hauld, since: str) -> list[int]:
    """The numbers that a follower gets before it is killed, at its first line."""
    follower = subprocess.Popen(
        [SCRIPTS / "haulctl", "--socket", hauld.socket, "events", "--follow", "--since", since, "-o", "jsonl"],
        stdout=subprocess.PIPE,
        text=True,
        env=unmeasured(),
    )
    assert follower.stdout is not None
    numbers = [json.loads(follower.stdout.readline())["number"]]
    follower.send_signal(signal.SIGKILL)
    rest = [line for line in follower.stdout if line.endswith("\n")]
    follower.stdout.close()
    follower.wait()
    return numbers + [json.loads(line)["number"] for line in rest]


def test_G4_another_user_under_the_same_name_is_another_account(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> None:
    other = dovecot.add_user()
    dovecot.fill(mail_user, "INBOX", messages(10, size=500))
    dovecot.fill(other, "INBOX", messages(10, size=500))

    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)})
    with hauld:
        old = json.loads(hauld.haulctl("create", "a", "--wait", "--json").stdout)["id"]
    hauld.configure({"a": dovecot.account(other)})
    with hauld:
        before = hauld.call("jobs.get", job=old)
        assert (before["status"], before["error"]["kind"]) == ("failed", "configuration")
        assert hauld.call("accounts.get", account="a")["items"] == 0
        new = json.loads(hauld.haulctl("create", "a", "--wait", "--json").stdout)
        assert (new["progress"]["downloaded_items"], new["progress"]["skipped_items"]) == (10, 0)
        assert len(hauld.files()) == 20
        assert len({path.parents[2] for path in hauld.files()}) == 2
