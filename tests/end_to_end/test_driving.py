"""Jobs that people drive, through the socket of a running daemon, against a real server."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.daemon import SCRIPTS, Hauld
from support.dovecot import Dovecot, User
from support.messages import messages


@pytest.fixture
def hauld(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> Iterator[Hauld]:
    account = dovecot.account(mail_user)
    accounts = {"a": account, "refused": {**account, "user": "nobody here"}}
    with Hauld(tmp_path / "haul", accounts, daemon={"max_running_jobs": 1}) as daemon:
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
    (pending, "jobs.retry", "has no failed items"),
]


def name(value: object) -> str:
    """How a case is called: the status it begins in, the method, what is expected."""
    if isinstance(value, tuple):
        return " or ".join(value)
    return value if isinstance(value, str) else value.__name__  # type: ignore[attr-defined]


@pytest.mark.parametrize(("status", "method", "after"), ALLOWED, ids=name)
def test_a_move_of_the_table_is_made_and_told(
    hauld: Hauld, status: Callable[[Hauld], str], method: str, after: tuple[str, ...]
) -> None:
    job = status(hauld)
    before = hauld.call("jobs.get", job=job)["status"]
    last = hauld.call("events.list", limit=1)["last"]
    assert hauld.call(method, job=job)["status"] in after
    stream = hauld.call("events.list", limit=1)["stream"]
    told = hauld.call("events.list", since={"stream": stream, "number": last}, job=job)["events"]
    moves = [event["data"] for event in told if event["kind"] == "job.status"]
    assert before == "pending" or moves[0]["from"] == before


@pytest.mark.parametrize(("status", "method", "words"), REFUSED, ids=name)
def test_a_move_that_is_not_in_the_table_is_refused_in_words(
    hauld: Hauld, status: Callable[[Hauld], str], method: str, words: str
) -> None:
    job = status(hauld)
    before = hauld.call("jobs.get", job=job)
    with pytest.raises(RuntimeError, match=words) as refused:
        hauld.call(method, job=job)
    assert refused.value.args[0]["data"]["kind"] == "wrong_state"
    assert hauld.call("jobs.get", job=job)["status"] == before["status"]


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
