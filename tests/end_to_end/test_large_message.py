"""A large message is gone on with where a kill has cut it off."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from hauld.sources.imap.options import WINDOW
from support.daemon import PATIENCE, Hauld
from support.dovecot import Dovecot, User
from support.messages import messages

SIZE = 40_000_000
MARGIN = 200_000
"""What the server says beside bodies, and the overlaps of windows."""


def test_L2_of_a_large_message_at_most_one_window_is_fetched_again_after_a_kill(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    (large,) = messages(1, size=SIZE)
    dovecot.fill(mail_user, "INBOX", [large])
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)})
    hauld.start()
    job = hauld.call("jobs.create", account="a", live=False)["id"]
    deadline = time.monotonic() + PATIENCE
    while hauld.bytes_staged < SIZE // 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)  # nothing tells of single bytes but the disk
    hauld.kill()
    there = hauld.bytes_staged
    assert there < SIZE, "it was killed too late"
    before = dovecot.bytes_sent(mail_user)
    with hauld:
        assert hauld.haulctl("watch", job).returncode == 0
        assert json.loads(hauld.haulctl("show", job, "--json").stdout)["progress"]["downloaded_items"] == 1
        assert list(hauld.stored("a")["INBOX"].values()) == [hashlib.sha256(large).hexdigest()]
        assert list((hauld.mail / ".haul" / "stage").iterdir()) == []
    again = dovecot.bytes_sent(mail_user) - before - (SIZE - there)
    assert again <= WINDOW + MARGIN
    print(f"{there} bytes were there, {again} were fetched again")  # noqa: T201 - the figure this test is run for
