"""The IMAP source keeps what every source promises, with a real Dovecot, over TLS."""

from __future__ import annotations

import asyncio

import pytest

from contracts.source import LETTERS, Origin, SourceContract
from hauld.sources.imap import ImapOptions, ImapSource
from support.dovecot import Dovecot, User
from support.messages import messages

CONTENTS = {
    "INBOX": list(messages(250, size=2000)),
    "Grüße/a b": [b"Subject: no body\r\n", b"no header at all\r\n", b"\r\n", b"8-bit: \xff\xfe\r\n"],
    'odd "name" & more': list(messages(1, size=1_000_000)),
    "Letters": LETTERS,
}


class TestDovecot(SourceContract):
    @pytest.fixture
    def origin(self, dovecot: Dovecot, mail_user: User) -> Origin:
        for folder, bodies in CONTENTS.items():
            dovecot.fill(mail_user, folder, bodies)

        async def secret() -> str:
            return mail_user.password

        async def deliver(folder: str, body: bytes) -> None:
            await asyncio.to_thread(dovecot.append, mail_user, folder, body)

        options = ImapOptions("localhost", mail_user.name, dovecot.tls_port, ca_file=dovecot.certificate, window=100_000)
        return Origin(ImapSource(options, secret), CONTENTS, deliver)
