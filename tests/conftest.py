"""Fixtures that all tests may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("contracts", "support")

from support.dovecot import Dovecot, NoDovecot, User, private_dovecot  # noqa: E402 - after what it is to be rewritten by


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
