"""Accounts whose password cannot be had: each says so, and the daemon and the others go on."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages

SOON = 10.0
"""Seconds until it is known that a password cannot be had."""

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "file-gone": ({"password_file": "no-such-file"}, "cannot be read: No such file"),
    "credential-gone": ({"credential": "nobody-gave-it"}, "credential"),
    "helper-fails": ({"password_command": ["false"]}, "failed with exit status 1"),
    "helper-prints-1-MB": ({"password_command": [sys.executable, "-c", "print('x' * 1_000_000)"]}, "more than"),
}


@pytest.fixture
def hauld(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> Hauld:
    """A good account, and others on the same server whose passwords cannot be had."""
    dovecot.fill(mail_user, "INBOX", messages(3, size=500))
    good = {**dovecot.account(mail_user), "mirror": "full"}
    hauld = Hauld(tmp_path / "haul", {"good": good})
    del good["password"]
    hauld.configure_beside("broken.toml", {name: {**good, "user": name, **keys} for name, (keys, _) in BROKEN.items()})
    return hauld


def test_G8_an_account_whose_password_cannot_be_had_needs_attention_and_the_others_work(hauld: Hauld) -> None:
    with hauld:
        began = time.monotonic()
        while True:
            seen = {each["name"]: each for each in hauld.call("accounts.list")["accounts"]}
            if all(seen[name]["state"] == "attention" for name in BROKEN) and seen["good"]["items"] == 3:
                break
            assert time.monotonic() < began + SOON, seen
            time.sleep(0.02)  # what a person would look at, too
        for name, (_, reason) in BROKEN.items():
            assert seen[name]["error"]["kind"] == "secret"
            assert reason in seen[name]["error"]["message"]
