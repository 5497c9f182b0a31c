"""A whole account in the content-addressed store: every message once, and the daemon starts there again."""

from __future__ import annotations

from pathlib import Path

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages


def test_P43_an_account_with_everything_twice_is_stored_once(dovecot: Dovecot, mail_user: User, tmp_path: Path) -> None:
    dovecot.fill(mail_user, "INBOX", messages(20))
    dovecot.fill(mail_user, "Archive", messages(20))
    hauld = Hauld(tmp_path, {"a": dovecot.account(mail_user)}, store={"format": "eml", "compression": "zstd"})
    with hauld:
        assert hauld.haulctl("create", "a", "--wait").returncode == 0
    stored = sorted(hauld.mail.glob("??/??/*"))
    assert len(stored) == 20
    lines = [line for index in hauld.mail.glob("index/a/*.json") for line in index.read_text().splitlines()]
    assert sum('"key"' in line for line in lines) == 40
    with hauld:
        assert hauld.haulctl("list").returncode == 0
    assert sorted(hauld.mail.glob("??/??/*")) == stored
