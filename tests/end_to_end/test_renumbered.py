"""A real server gives all messages new keys, and later the old ones again: no body is fetched twice (P11, P14)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages

FOLDERS = {"INBOX": 200, "Sent/2026": 100}
EVERYTHING = sum(FOLDERS.values())
SIZE = 10_000
HEAD = 4096
"""Bytes of a message that are asked for, to see whether it is one that is stored."""


def bytes_fetched(dovecot: Dovecot, user: User) -> int:
    """How many bytes of bodies the user's sessions have had, once all have ended."""
    dovecot.bodies_fetched(user)
    return sum(map(int, re.findall(rf"imap\({re.escape(user.name)}\).*\bbody_bytes=(\d+)", dovecot.log())))


def renumber(dovecot: Dovecot, user: User, uidvalidity: int) -> None:
    for folder in FOLDERS:
        dovecot.admin("mailbox", "update", "-u", user.name, "--uid-validity", str(uidvalidity), folder)


def validity(dovecot: Dovecot, user: User, folder: str) -> int:
    with dovecot.client(user) as client:
        client.select(f'"{folder}"', readonly=True)
        return int(client.response("UIDVALIDITY")[1][0])  # type: ignore[arg-type]


def files(hauld: Hauld) -> dict[Path, tuple[int, str]]:
    """Every file that holds a message: its inode and its hash, by its name."""
    found = hauld.files() or sorted(hauld.mail.glob("??/??/*"))
    return {path: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest()) for path in found}


def synced(hauld: Hauld, job: str) -> None:
    """Compared with the server, and complete. A server that renumbers a folder ends each session that has it open: then again,
    with another one."""
    for _ in range(4):
        done = hauld.haulctl("sync", job)
        if "relogin" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    assert hauld.haulctl("watch", job).returncode == 0


def there(hauld: Hauld, job: str) -> dict[str, set[str]]:
    """The hashes of what is stored and still at the origin, by epoch."""
    stored: dict[str, set[str]] = {}
    after = None
    while True:
        page = hauld.call("items.list", job=job, status="completed", limit=1000, **({} if after is None else {"after": after}))
        for item in page["items"]:
            if item["removed_at"] is None:
                stored.setdefault(item["key"].partition(".")[0], set()).add(item["sha256"])
        after = page.get("next")
        if after is None:
            return stored


@pytest.mark.parametrize("form", ["maildir", "eml"])
def test_P11_P14_after_a_renumbering_only_new_messages_are_fetched(
    form: str, tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    for seed, (folder, count) in enumerate(FOLDERS.items()):
        dovecot.fill(mail_user, folder, messages(count, size=SIZE, seed=seed))
    first = {folder: validity(dovecot, mail_user, folder) for folder in FOLDERS}
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}, store={"format": form})

    with hauld:
        job = hauld.call("jobs.create", account="a", live=True)["id"]
        assert hauld.haulctl("watch", job).returncode == 0
    before = files(hauld)
    assert len(before) == EVERYTHING
    fetched = bytes_fetched(dovecot, mail_user)
    hashes = {sha256 for _, sha256 in before.values()}

    renumber(dovecot, mail_user, 70_001)  # while the daemon is down
    with hauld:
        synced(hauld, job)
        assert there(hauld, job) == {"70001": hashes}
        renumber(dovecot, mail_user, 70_002)  # while it runs
        synced(hauld, job)
        assert there(hauld, job) == {"70002": hashes}
    assert files(hauld) == before
    assert bytes_fetched(dovecot, mail_user) == fetched + 2 * EVERYTHING * HEAD
    said = "INBOX': 200 of 200 items were there under other keys"
    assert hauld.log().count(said) == 2, hauld.log()[-2000:]

    new = list(messages(5, size=SIZE, seed=9))
    dovecot.fill(mail_user, "INBOX", new)
    for folder, uidvalidity in first.items():
        dovecot.admin("mailbox", "update", "-u", mail_user.name, "--uid-validity", str(uidvalidity), folder)
    with hauld:
        synced(hauld, job)
        stored = there(hauld, job)
        assert set.union(*stored.values()) == hashes | {hashlib.sha256(message).hexdigest() for message in new}
        assert hauld.haulctl("verify", "--origin").returncode == 0
    after = files(hauld)
    assert before.items() < after.items()
    assert len(after) == EVERYTHING + 5
    most = sum(map(len, new)) + (EVERYTHING + 5) * HEAD
    assert bytes_fetched(dovecot, mail_user) - fetched - 2 * EVERYTHING * HEAD <= most
