"""Another process has the database: jobs wait for it, and lose nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages
from support.watching import is_done, until, waits

HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A process of its own has the database, until left."""
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate("")


def test_L9_a_database_that_another_process_has_makes_the_job_wait_and_go_on(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(4000, size=500))
    with Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}) as hauld:
        job = hauld.call("jobs.create", account="a", live=False)["id"]
        until(hauld, job, lambda seen: seen["progress"]["total_items"] > 0)
        with locked(hauld.state):
            waiting = until(hauld, job, waits)
            assert waiting["status"] == "running"
            assert waiting["error"]["kind"] == "locked"
            assert str(hauld.state) in waiting["error"]["message"]
            assert "fuser" in waiting["error"]["hint"]
        done = until(hauld, job, is_done)
        assert (done["progress"]["downloaded_items"], done["progress"]["failed_items"]) == (4000, 0)
        assert hauld.stored("a") == dovecot.read_all(mail_user)
        assert hauld.log().count("machine.failed") == 1, hauld.log()
