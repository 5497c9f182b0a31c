"""A database that is deleted, cut or overwritten: the ledger comes back from copy and files, and no body is fetched (L10)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages

FOLDERS = {"INBOX": 60, "Sent": 25, "Projects/a b": 15}
EVERYTHING = sum(FOLDERS.values())


def delete(state: Path) -> None:
    for path in state.parent.glob(state.name + "*"):
        if path.is_file():
            path.unlink()


def cut(state: Path) -> None:
    os.truncate(state, state.stat().st_size // 2)


def overwrite(state: Path) -> None:
    state.write_bytes(os.urandom(state.stat().st_size))


@pytest.mark.parametrize("harm", [delete, cut, overwrite], ids=lambda harm: harm.__name__)
def test_L10_a_lost_ledger_comes_back_and_its_job_goes_on_without_fetching(
    harm: object, tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    for seed, (folder, count) in enumerate(FOLDERS.items()):
        dovecot.fill(mail_user, folder, messages(count, size=900, seed=seed))
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}).start()
    job = hauld.call("jobs.create", account="a", live=True)["id"]
    assert hauld.haulctl("watch", job).returncode == 0
    assert hauld.stop() == 0
    before = hauld.files()
    assert callable(harm)
    harm(hauld.state)

    with hauld:
        assert hauld.haulctl("watch", job).returncode == 0, "the job is known from a copy"
        assert hauld.haulctl("sync", job).returncode == 0
        seen = hauld.call("jobs.get", job=job)
        assert (seen["status"], seen["progress"]["remaining_items"]) == ("completed", 0)
        assert seen["progress"]["total_items"] == EVERYTHING
        assert hauld.haulctl("verify", "--origin").returncode == 0
    assert hauld.files() == before
    assert dovecot.bodies_fetched(mail_user) == EVERYTHING


def test_L10_without_any_copy_the_files_alone_are_enough(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> None:
    dovecot.fill(mail_user, "INBOX", messages(40, size=900))
    with Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}) as hauld:
        assert hauld.haulctl("create", "a", "--once", "--wait").returncode == 0
    delete(hauld.state)
    for copies in hauld.state.parent.glob("*copies"):
        shutil.rmtree(copies)
    with hauld:
        assert "rebuilt the ledger" in hauld.log()
        done = hauld.haulctl("create", "a", "--once", "--wait")
        assert done.returncode == 0, done.stderr
        assert "40 skipped" in done.stdout
    assert dovecot.bodies_fetched(mail_user) == 40
