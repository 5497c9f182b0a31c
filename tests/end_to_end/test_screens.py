"""What people see: a session of haulctl on a terminal of 80 and one of 200 columns, screen by screen.

The screens are kept in ``screens/80`` and ``screens/200``, compared to the letter; ``HAUL_RENEW_SCREENS=1`` writes them anew,
to be read before they are committed. What differs from run to run is made the same first: see ``settled``. The clock of
haulctl runs two hours ahead, so that what was moments ago in one run and seconds ago in another is ``2 h ago`` in all.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.daemon import Hauld
from support.dovecot import Dovecot
from support.held_imap import Held, account, served
from support.messages import messages
from support.scripted_imap import Honest, Mailbox
from support.terminal import Running

KEPT = Path(__file__).parent / "screens"
RENEW = os.environ.get("HAUL_RENEW_SCREENS") == "1"

AHEAD = """
import datetime
import haulctl.words as words
now = words.now
words.now = lambda: now() + datetime.timedelta(hours=2)
from haulctl.cli import main
main()
"""


IN_THE_MIDDLE = re.compile(r" 40/120\s+running, downloading(, [\d.,]+ items/s, [\d.,]+ \w*B/s)?$").search
"""A whole picture of the bars."""


@pytest.mark.parametrize("columns", [80, 200])
def test_a_session_looks_as_it_did(columns: int, dovecot: Dovecot) -> None:
    with session(columns, dovecot) as person:
        person.looks_around()
        person.imports()
        person.drives()
        person.meets_a_wrong_password()
        person.retries_what_failed()
        person.gives_up()
        assert person.different == []
    kept = {path.stem for path in (KEPT / str(columns)).iterdir()}
    assert kept == set(person.seen)


class Odd(Honest):
    """A server that has one message which it does not give, until it is mended."""

    mended = False

    def body(self, mailbox: Mailbox, number: int, uid: int) -> bytes:
        return b"" if uid == 2 and not self.mended else super().body(mailbox, number, uid)


class Person:
    """Somebody at a terminal. Each screen is compared with the one that is kept."""

    def __init__(self, columns: int, hauld: Hauld, held: Held, odd: Odd) -> None:
        self.columns = columns
        self.hauld = hauld
        self.held = held
        self.odd = odd
        self.seen: list[str] = []
        self.different: list[str] = []
        self._ids: dict[str, str] = {}

    # --- the session ---

    def looks_around(self) -> None:
        self.runs("status of a new daemon", "status")
        self.runs("accounts of a new daemon", "accounts")
        self.runs("no job yet", "list")
        self.runs("test", "test", "slow")
        self.runs("test of an account that is not there", "test", "mali")

    def imports(self) -> None:
        self.runs("dry run", "create", "mail", "--dry-run")
        self.runs("create and wait", "create", "mail", "--once", "--wait")
        mail = self.newest()
        self.runs("show a completed job", "show", mail)
        self.runs("folders of a completed job", "folders", mail)
        self.runs("items of a completed job", "items", mail, "--limit", "5")

    def drives(self) -> None:
        self.runs("create", "create", "slow", "--requester", "anna")
        slow = self.newest()
        self.held.wait_until_asked()
        with self.running("watch", slow) as watching:
            watching.until(IN_THE_MIDDLE)
            self.sees("watch in the middle", f"watch {slow}", watching)
            self.runs("start a running job", "start", slow)
            self.runs("retry where nothing failed", "retry", slow)
            with self.running("watch") as all_of_them:
                all_of_them.until(IN_THE_MIDDLE)
                self.sees("watch all in the middle", "watch", all_of_them)
                self.runs("pause", "pause", slow)
                all_of_them.until(lambda text: "is paused" in text and "Nothing runs" in text)
                self.sees("watch all when nothing runs", "watch", all_of_them)
                all_of_them.type("\x03")
                self.ends("watch all interrupted", "watch", all_of_them)
            watching.until(lambda text: " paused after " in text)
            self.ends("watch until it is paused", f"watch {slow}", watching)
        self.runs("show a paused job", "show", slow)
        self.runs("folders of a paused job", "folders", slow)
        self.held.let_go()
        self.runs("resume", "resume", slow)
        with self.running("watch", slow) as watching:
            watching.until(lambda text: " completed after " in text)
            self.ends("watch until it is complete", f"watch {slow}", watching)

    def meets_a_wrong_password(self) -> None:
        self.runs("create and wait with a wrong password", "create", "wrong", "--once", "--wait")
        self.runs("show a failed job", "show", self.newest())
        self.runs("account with a wrong password", "account", "wrong")
        self.runs("status when something is wrong", "status")

    def retries_what_failed(self) -> None:
        self.runs("create and wait with a failed item", "create", "odd", "--once", "--attempts", "3", "--wait")
        odd = self.newest()
        self.runs("show a job with a failed item", "show", odd)
        self.runs("folders with a failed item", "folders", odd)
        self.runs("items that failed", "items", odd, "--status", "failed")
        self.runs("list", "list")
        self.odd.mended = True
        self.runs("retry", "retry", odd)
        with self.running("watch", odd) as watching:
            watching.until(lambda text: " completed after " in text)
            self.ends("watch after the retry", f"watch {odd}", watching)

    def gives_up(self) -> None:
        odd = self.newest()
        self.runs("cancel", "cancel", odd)
        self.runs("cancel again", "cancel", odd)
        self.runs("sync a cancelled job", "sync", odd)
        with self.running("delete", odd, "--purge") as asking:
            asking.until(lambda text: "[y/N]" in text)
            asking.type("n\n")
            self.ends("delete and purge, after all not", f"delete {odd} --purge", asking)
        with self.running("delete", odd, "--purge") as asking:
            asking.until(lambda text: "[y/N]" in text)
            asking.type("y\n")
            self.ends("delete and purge", f"delete {odd} --purge", asking)
        self.runs("show a deleted job", "show", odd)
        self.runs("list what is left", "list")
        self.runs("status at the end", "status")
        self.hauld.stop()
        self.runs("no daemon", "status")

    # --- the terminal ---

    def newest(self) -> str:
        return str(self.hauld.call("jobs.list", limit=1)["jobs"][0]["id"])

    def running(self, *arguments: str) -> Running:
        return Running([sys.executable, "-c", AHEAD, "--socket", str(self.hauld.socket), *arguments], self.columns)

    def runs(self, name: str, *arguments: str) -> None:
        """Run a command to its end, and compare what is to be seen then."""
        with self.running(*arguments) as program:
            self.ends(name, " ".join(arguments), program)

    def ends(self, name: str, command: str, program: Running) -> None:
        """Compare what is to be seen when the program has ended."""
        code = program.end()
        self.compare(name, command, program, f"(exit code {code})")

    def sees(self, name: str, command: str, program: Running) -> None:
        """Compare what is to be seen while the program goes on."""
        self.compare(name, command, program, "(goes on)")

    def compare(self, name: str, command: str, program: Running, ending: str) -> None:
        """Compare a screen with the one that is kept, or renew that."""
        shown = program.display.text
        assert "Traceback" not in shown
        assert program.display.wrapped == 0, f"{name}: a line is longer than the terminal is wide:\n{shown}"
        screen = self.settled(f"$ haulctl {command}\n{shown}\n{ending}\n")
        self.seen.append(name.replace(" ", "-").replace(",", ""))
        path = KEPT / str(self.columns) / f"{self.seen[-1]}.txt"
        if RENEW:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(screen, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != screen:
            self.different.append(f"{path.relative_to(KEPT)} is not what was shown now:\n{screen}")

    def settled(self, screen: str) -> str:
        """The screen with what differs from run to run made the same, as long as it was wherever columns depend on it."""
        for found in re.findall(r"job_[a-z0-9]{12}", screen):
            self._ids.setdefault(found, f"job_{'abcdefgh'[len(self._ids)] * 12}")
        for found, same in self._ids.items():
            screen = screen.replace(found, same)
        screen = screen.replace(str(self.hauld.directory), "/home/me/haul-123456")
        for pattern, same in SAME:
            screen = re.sub(pattern, same, screen)
        return screen


SAME = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-01-31 12:00:00"),
    (r"127\.0\.0\.1:\d{5}", "127.0.0.1:54321"),
    (r"(after|in) [\d.]+ s\b", r"\1 1 s"),
    (r"(?m)^running, downloading.*$", "running, downloading, 20 items/s, 3.0 kB/s"),
    (r"[\d.]+ MB of memory", "30.0 MB of memory"),
    (r"(started|failed): (pending|running)[ ,a-z]*\.", r"\1: pending."),
    (r"\d+ connections?, \d+ clients?", "2 connections, 1 client"),
    (r"(Connections +)\d+", r"\g<1>1"),
    (r"\b1\d{9}\.(\d+)\b", r"1700000000.\1"),
    (r"V1\d{9}", "V1700000000"),
    (r"up \d+ \w+, pid \d+", "up 1 s, pid 812"),
    (r"At the rate of this account so far, that takes .*\.", "At the rate of this account so far, that takes 1 s."),
]


@contextmanager
def session(columns: int, dovecot: Dovecot) -> Iterator[Person]:
    """A daemon with accounts of all kinds, and a person at a terminal so many columns wide."""
    user = dovecot.add_user(f"anna.{columns:03}", "open sesame")
    for folder, count in {"INBOX": 12, "Sent": 5, "Projekte/Grüße": 3}.items():
        dovecot.fill(user, folder, messages(count, size=2000, seed=count))
    held = Held({b"INBOX": mailbox(100), b"Sent": mailbox(20)}, free=40)
    odd = Odd({b"INBOX": mailbox(3)}, user=b"bob")
    for honest in (held, odd):  # whether it is listened to yet differs from run to run
        honest.capabilities = honest.capabilities.replace(b"IDLE ", b"")
    directory = Path(tempfile.mkdtemp(prefix="haul-", dir="/tmp"))  # a name as long in every run
    try:
        with served(held) as slow, served(odd) as strange:
            accounts = {
                "mail": dovecot.account(user, connections=1),
                "wrong": dovecot.account(dovecot.add_user(f"bert.{columns:03}"), password="open barley"),
                "slow": account(held, slow),
                "odd": account(odd, strange),
            }
            with Hauld(directory, accounts) as hauld:
                yield Person(columns, hauld, held, odd)
    finally:
        shutil.rmtree(directory)


def mailbox(count: int) -> Mailbox:
    return Mailbox({uid: b"Subject: %d\r\n\r\n" % uid + b"x" * 100 + b"\r\n" for uid in range(1, count + 1)})
