"""Faults planted into a stored mailbox: all of them found, and all that the server still has mended (L11).

``HAUL_FAULTS`` says how many (default 120; a release is tried with 1,000), ``HAUL_SEED`` repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages

FAULTS = int(os.environ.get("HAUL_FAULTS", "120"))


@pytest.fixture
def hauld(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> Iterator[Hauld]:
    with Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}) as daemon:
        yield daemon


class Planted:
    """How many faults of each kind there are, and the planting of them."""

    def __init__(self, hauld: Hauld, dice: random.Random) -> None:
        self.damaged = self.missing = self.unknown = 0
        self._hauld = hauld
        self._dice = dice
        self._untouched = hauld.files()
        dice.shuffle(self._untouched)

    def plant(self, count: int) -> None:
        kinds = (self.flip, self.cut, self.delete, self.swap, self.add_a_stray, self.add_a_row)
        for number in range(count):
            kinds[number % len(kinds)]()

    def flip(self) -> None:
        path = self._untouched.pop()
        content = bytearray(path.read_bytes())
        bit = self._dice.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        self.damaged += 1

    def cut(self) -> None:
        path = self._untouched.pop()
        os.truncate(path, self._dice.randrange(path.stat().st_size))
        self.damaged += 1

    def delete(self) -> None:
        self._untouched.pop().unlink()
        self.missing += 1

    def swap(self) -> None:
        one, other = self._untouched.pop(), self._untouched.pop()
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
        self.damaged += 2

    def add_a_stray(self) -> None:
        self.unknown += 1
        folder = self._untouched[0].parent
        (folder / f"1700000000.M{self.unknown}P1.elsewhere:2,S").write_bytes(b"From: nobody\r\n\r\nstray\r\n")

    def add_a_row(self) -> None:
        """A row that tells of a file which there never was: its file goes, and the row tells of another one."""
        path = self._untouched.pop()
        path.unlink()
        unique = path.name.partition(":2,")[0]
        with sqlite3.connect(self._hauld.state) as ledger:
            changed = ledger.execute(
                "UPDATE items SET local_path = replace(local_path, ?, ?) WHERE local_path LIKE '%' || ?",
                (unique, "0" + unique, unique),
            )
            assert changed.rowcount == 1
        ledger.close()
        self.missing += 1


def test_L11_every_planted_fault_is_found_and_all_that_the_server_has_is_repaired(
    hauld: Hauld, dovecot: Dovecot, mail_user: User
) -> None:
    seed = int(os.environ.get("HAUL_SEED", random.randrange(10**9)))
    print(f"HAUL_SEED={seed}")  # noqa: T201 - what repeats this run
    count = FAULTS * 3 // 2
    dovecot.fill(mail_user, "INBOX", messages(count, size=600))
    dovecot.fill(mail_user, "Projects/a b", messages(count // 2, size=600, seed=2))
    assert hauld.haulctl("create", "a", "--wait").returncode == 0
    truth = {folder: kept for folder, kept in dovecot.read_all(mail_user).items() if kept}
    planted = Planted(hauld, random.Random(seed))
    planted.plant(FAULTS)

    looked = hauld.haulctl("verify", "--json")
    found = json.loads(looked.stdout)
    figures = (found["damaged_items"], found["missing_items"], found["unknown_files"])
    assert figures == (planted.damaged, planted.missing, planted.unknown)
    assert looked.returncode == 8
    assert not any(folder["is_complete"] for folder in found["folders"] if folder["damaged"])

    mended = hauld.haulctl("verify", "a", "--repair", "--json")
    found = json.loads(mended.stdout)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert found["repaired_items"] == planted.damaged + planted.missing

    again = json.loads(hauld.haulctl("verify", "--origin", "--json").stdout)
    assert (again["damaged_items"], again["missing_items"]) == (0, 0)
    assert again["unknown_files"] == planted.unknown
    assert all(folder["is_complete"] for folder in again["folders"])
    for stray in hauld.mail.rglob("*.elsewhere:2,S"):
        stray.unlink()
    assert {folder: kept for folder, kept in hauld.stored("a").items() if kept} == truth


def test_a_person_reads_which_folders_are_complete_and_what_is_wrong(hauld: Hauld, dovecot: Dovecot, mail_user: User) -> None:
    dovecot.fill(mail_user, "INBOX", messages(20, size=600))
    assert hauld.haulctl("create", "a", "--once", "--wait").returncode == 0
    sound = hauld.haulctl("verify")
    assert sound.returncode == 0, sound.stderr
    assert "complete" in sound.stdout
    assert "20 items" in sound.stdout
    hauld.files()[3].unlink()
    broken = hauld.haulctl("verify", "a")
    assert broken.returncode == 8
    assert "not complete" in broken.stdout
    assert "is gone" in broken.stdout
    assert "haulctl verify a --repair" in broken.stdout
    assert "1 missing" in hauld.haulctl("status").stdout
    assert hauld.haulctl("verify", "a", "--repair").returncode == 0
    assert hauld.haulctl("verify", "nobody").returncode == 4
    begun = hauld.haulctl("verify", "--no-wait", "-o", "jsonl")
    assert json.loads(begun.stdout)["status"] in ("running", "completed")
