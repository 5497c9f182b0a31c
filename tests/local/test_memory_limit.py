"""Under the memory that the unit allows, nothing that a mailbox holds ends the daemon."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages

ALLOWED = 512 * 1024 * 1024
MANY = int(os.environ.get("HAUL_MANY", "2000"))
"""A release is tried with 20000."""


@pytest.fixture
def limited() -> Iterator[list[str]]:
    """What runs a command under the limit: in a control group of its own, else with little address space."""
    group = made_group()
    if group is None:
        yield ["prlimit", f"--as={ALLOWED}"]
    else:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        group.rmdir()


def made_group() -> Path | None:
    """A control group with the limit (cgroups(7), version 2 or 1); None where none may be made."""
    for above, limit in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        group = Path(above, f"haul-test-{os.getpid()}")
        with suppress(OSError):
            group.mkdir()
            if (group / limit).exists():
                (group / limit).write_text(str(ALLOWED))
                return group
            group.rmdir()
    return None


def test_L19_a_huge_message_and_thousands_of_small_ones_are_stored_within_512_megabytes(
    tmp_path: Path, dovecot: Dovecot, mail_user: User, limited: list[str]
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(1, size=100_000_000))
    dovecot.fill(mail_user, "Many", messages(MANY, size=5000))
    hauld = Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)})
    hauld.launcher = limited
    with hauld:
        done = hauld.haulctl("create", "a", "--once", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["progress"]["downloaded_items"] == 1 + MANY
        assert hauld.stored("a") == dovecot.read_all(mail_user)
        assert hauld.peak_memory() < ALLOWED
