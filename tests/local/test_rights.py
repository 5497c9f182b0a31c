"""One folder's directory may not be written: its job waits and says why, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages
from support.watching import is_done, until, waits

WITHOUT_ROOTS_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""For root, whom no mode of a file stops."""


def test_L13_a_folder_that_may_not_be_written_waits_in_sight_and_everything_else_is_complete(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    other = dovecot.add_user()
    for name, count in (("INBOX", 30), ("Closed", 1), ("Open", 20)):
        dovecot.fill(mail_user, name, messages(count, size=2000, seed=count))
    dovecot.fill(other, "INBOX", messages(10, size=2000, seed=4))
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user), "b": dovecot.account(other)})
    hauld.launcher = WITHOUT_ROOTS_RIGHTS if os.geteuid() == 0 else []
    with hauld:
        until(hauld, hauld.call("jobs.create", account="a", live=False)["id"], is_done)
        for name, count in (("INBOX", 5), ("Closed", 6), ("Open", 7)):
            dovecot.fill(mail_user, name, messages(count, size=2000, seed=40 + count))
        closed = hauld.mail / "a" / "Closed" / "cur"
        closed.chmod(0)
        try:
            job = hauld.call("jobs.create", account="a", live=False)["id"]
            waiting = until(hauld, job, lambda seen: waits(seen) and seen["progress"]["remaining_items"] == 6)
            assert "Closed" in waiting["error"]["message"]
            assert "Permission denied" in waiting["error"]["message"]
            assert waiting["progress"]["failed_items"] == 0
            # each try looks at the folder afresh, so its error comes and goes
            until(hauld, job, lambda _: "owner and mode" in str(folders(hauld, job)["Closed"]["error"]))
            seen = folders(hauld, job)
            assert {name: folder["is_complete"] for name, folder in seen.items()} == {
                "INBOX": True,
                "Closed": False,
                "Open": True,
            }
            until(hauld, hauld.call("jobs.create", account="b", live=False)["id"], is_done)
            assert hauld.stored("b") == dovecot.read_all(other)
        finally:
            closed.chmod(0o755)
        done = until(hauld, job, is_done)
        assert done["progress"]["failed_items"] == 0
        assert hauld.stored("a") == dovecot.read_all(mail_user)


def folders(hauld: Hauld, job: str) -> dict[str, dict[str, Any]]:
    return {folder["name"]: folder for folder in hauld.call("folders.list", job=job)["folders"]}
