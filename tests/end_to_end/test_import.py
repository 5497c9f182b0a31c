"""The first line of the product: from a real server to files, ledger and haulctl."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages

FOLDERS = {"INBOX": 900, "Sent": 400, "Projects/a b": 300, "Grö ße (x) * y": 200}


@pytest.fixture
def hauld(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> Iterator[Hauld]:
    with Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}) as daemon:
        yield daemon


def test_a_mailbox_is_imported_whole_and_equal_byte_for_byte(hauld: Hauld, dovecot: Dovecot, mail_user: User) -> None:
    for seed, (folder, count) in enumerate(FOLDERS.items()):
        dovecot.fill(mail_user, folder, messages(count, size=2000, seed=seed))

    created = hauld.haulctl("create", "a", "--wait", "--json")

    assert created.returncode == 0, created.stderr
    progress = json.loads(created.stdout)["progress"]
    assert (progress["total_items"], progress["downloaded_items"], progress["percent_complete"]) == (1800, 1800, 100.0)
    stored = hauld.stored("a")
    assert {folder: len(stored[folder]) for folder in FOLDERS} == FOLDERS
    assert {folder: kept for folder, kept in stored.items() if kept} == {
        f: m for f, m in dovecot.read_all(mail_user).items() if m
    }
    assert len(hauld.files()) == 1800


def test_haulctl_shows_what_was_imported(hauld: Hauld, dovecot: Dovecot, mail_user: User) -> None:
    dovecot.fill(mail_user, "INBOX", messages(30, size=1000))
    dovecot.fill(mail_user, "Projects/a b", messages(20, size=1000, seed=2))
    job = json.loads(hauld.haulctl("create", "a", "--wait", "--json").stdout)

    assert job["status"] == "completed"
    listed = json.loads(hauld.haulctl("list", "--json").stdout)["jobs"]
    assert [one["id"] for one in listed] == [job["id"]]
    folders = {f["name"]: f for f in json.loads(hauld.haulctl("folders", job["id"], "--json").stdout)["folders"]}
    assert folders["INBOX"]["downloaded_items"] == 30
    assert folders["Projects/a b"]["downloaded_items"] == 20
    assert all(folder["is_complete"] for folder in folders.values())
    items = [json.loads(line) for line in hauld.haulctl("items", job["id"], "-o", "jsonl").stdout.splitlines()]
    assert len(items) == 50
    assert {item["status"] for item in items} == {"completed"}
    for item in items:
        assert (hauld.mail / item["local_path"]).parent.is_dir()
    status = hauld.haulctl("status")
    assert status.returncode == 0, status.stderr
    assert "a" in status.stdout


def test_new_mail_comes_with_the_next_comparison_and_nothing_stored_is_fetched_again(
    hauld: Hauld, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(40, size=1000))
    job = json.loads(hauld.haulctl("create", "a", "--wait", "--json").stdout)
    dovecot.append(mail_user, "INBOX", next(iter(messages(1, size=500, seed=9))))

    synced = hauld.haulctl("sync", job["id"], "--json")

    assert synced.returncode == 0, synced.stderr
    waited = hauld.haulctl("create", "a", "--once", "--wait", "--json")
    assert json.loads(waited.stdout)["progress"]["total_items"] == 41
    assert hauld.stored("a")["INBOX"] == dovecot.read_all(mail_user)["INBOX"]
    hauld.stop()
    assert dovecot.bodies_fetched(mail_user) == 41 + 41, "40 and 1 by hauld, 41 by the client that compares"


def test_P16_an_unchanged_mailbox_gets_no_second_copy_of_its_last_message(
    hauld: Hauld, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(3, size=500))
    job = json.loads(hauld.haulctl("create", "a", "--wait", "--json").stdout)
    for _ in range(3):
        assert hauld.haulctl("sync", job["id"]).returncode == 0
    assert len(hauld.files()) == 3
    assert hauld.call("jobs.get", job=job["id"])["progress"]["total_items"] == 3


def test_the_same_job_made_again_finds_everything_stored(hauld: Hauld, dovecot: Dovecot, mail_user: User) -> None:
    dovecot.fill(mail_user, "INBOX", messages(25, size=500))
    hauld.haulctl("create", "a", "--once", "--wait")
    again = json.loads(hauld.haulctl("create", "a", "--once", "--wait", "--json").stdout)
    assert (again["progress"]["downloaded_items"], again["progress"]["skipped_items"]) == (0, 25)
    assert again["progress"]["percent_complete"] == 100.0
    assert len(hauld.files()) == 25


def test_a_stopped_daemon_goes_on_where_it_was(hauld: Hauld, dovecot: Dovecot, mail_user: User) -> None:
    dovecot.fill(mail_user, "INBOX", messages(2000, size=4000))
    hauld.haulctl("create", "a")
    assert hauld.stop() == 0
    hauld.start()
    done = hauld.haulctl("create", "a", "--once", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert hauld.stored("a")["INBOX"] == dovecot.read_all(mail_user)["INBOX"]


def test_N12_a_wrong_password_is_tried_three_times_and_then_needs_a_person(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    wrong = {"a": dovecot.account(mail_user, password="open sesame")}
    with Hauld(tmp_path / "haul", wrong) as hauld:
        created = hauld.haulctl("create", "a", "--wait")
        assert created.returncode == 7
        assert "refused to sign in" in created.stderr, "why it failed, and what to do, are said where one looks"
        assert "haulctl start" in created.stderr or "password" in created.stderr
        assert "open sesame" not in created.stderr + hauld.log()
        account = hauld.call("accounts.get", account="a")
        assert account["state"] == "attention"
        assert account["error"]["kind"] == "sign-in"
        hauld.configure({"a": dovecot.account(mail_user)})
        job = hauld.call("jobs.list")["jobs"][0]["id"]
        assert hauld.haulctl("start", job).returncode == 0
        assert hauld.haulctl("create", "a", "--once", "--wait").returncode == 0
        assert hauld.call("accounts.get", account="a")["state"] == "connected"


def test_L15_a_second_daemon_on_the_same_state_is_refused(hauld: Hauld, tmp_path: Path) -> None:
    second = Hauld(tmp_path / "second", {}, daemon={"state": str(hauld.state)}, store={"path": str(tmp_path / "other")})
    second.start(ready=False)
    assert second.wait() == 5
    assert str(hauld.state.parent) in second.log()
    assert hauld.call("daemon.status")["pid"] == hauld.pid


def test_two_accounts_are_imported_side_by_side_and_one_that_fails_keeps_nobody(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(20, size=500))
    accounts = {
        "good": dovecot.account(mail_user),
        "dead": dovecot.account(mail_user, host="127.0.0.2", port=9, user="nobody here"),
    }
    with Hauld(tmp_path / "haul", accounts) as hauld:
        dead = json.loads(hauld.haulctl("create", "dead", "--json").stdout)["id"]
        assert hauld.haulctl("create", "good", "--wait").returncode == 0
        assert hauld.call("jobs.get", job=dead)["status"] == "running"
        assert len(hauld.files()) == 20


def test_another_dovecot_reads_the_maildirs_as_its_own(hauld: Hauld, dovecot: Dovecot, mail_user: User) -> None:
    for folder, count in FOLDERS.items():
        dovecot.fill(mail_user, folder, messages(count // 10, size=1500, seed=count), flags="RS")
    hauld.haulctl("create", "a", "--once", "--wait")
    reader = dovecot.add_user()

    home = dovecot.maildir(reader).parent
    shutil.copytree(hauld.mail / "a", home)
    for path in (home.parent, home, *home.rglob("*")):
        os.chown(path, dovecot.owner.pw_uid, dovecot.owner.pw_gid)

    there = {folder: sorted(kept.values()) for folder, kept in dovecot.read_all(reader).items() if kept}
    truth = {folder.replace("*", "%2A"): sorted(kept.values()) for folder, kept in dovecot.read_all(mail_user).items() if kept}
    assert there == truth
    with dovecot.client(reader) as client:
        client.select("INBOX")
        assert len(client.search(None, "SEEN", "ANSWERED")[1][0].split()) == FOLDERS["INBOX"] // 10
