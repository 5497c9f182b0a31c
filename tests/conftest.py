"""Fixtures that all tests may ask for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("contracts", "support")

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of the many processes that tests start would compile all it imports
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it, and hands that on

from support.dovecot import Dovecot, NoDovecot, User, private_dovecot  # noqa: E402 - after what it is to be rewritten by

LONGEST = {
    "test_screens",
    "test_kills",
    "test_sequences",
    "test_driving",
    "test_crash_points",
    "test_disk_errors",
    "test_power_loss",
    "test_fuzzers",
    "test_floods",
    "test_lock",
    "test_service",
    "test_listening",
    "test_reload",
}
"""Modules with tests that take many seconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: one that began last would be waited for by every other process."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    """A real IMAP server, shared by the tests of one process: each works as a user of its own. It never skips."""
    try:
        with private_dovecot() as server:
            yield server
    except NoDovecot as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture
def mail_user(dovecot: Dovecot) -> User:
    """A user of that server that no other test has, with nothing in its INBOX."""
    return dovecot.add_user()
