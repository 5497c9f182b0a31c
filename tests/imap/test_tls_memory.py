"""TLS for many accounts: what all trust is in memory once, and a connection that waits holds little."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

from contracts.source import ARRIVING, arrived, fetched, items_of, listing
from hauld.model import RemoteFolder
from hauld.sources.imap import ImapOptions, ImapSource, tls
from support.dovecot import Dovecot, User

INBOX = RemoteFolder(b"INBOX", ("INBOX",))
PATIENCE = 20.0


def options(**keys: object) -> ImapOptions:
    return ImapOptions("localhost", "alice", **keys)  # type: ignore[arg-type]


def test_accounts_that_trust_the_same_share_what_they_trust(dovecot: Dovecot, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(dovecot.certificate.read_bytes())
    context = tls.context_of(options(ca_file=dovecot.certificate))
    assert tls.context_of(options(ca_file=dovecot.certificate, port=1)) is context
    assert tls.context_of(options(ca_file=other)) is not context
    assert tls.context_of(options()) is not context


def test_a_certificate_that_was_replaced_is_read_again(dovecot: Dovecot, tmp_path: Path) -> None:
    trusted, renewed = tmp_path / "trusted.pem", tmp_path / "renewed.pem"
    for path in (trusted, renewed):
        path.write_bytes(dovecot.certificate.read_bytes())
    before = tls.context_of(options(ca_file=trusted))
    assert tls.context_of(options(ca_file=trusted)) is before
    os.replace(renewed, trusted)
    assert tls.context_of(options(ca_file=trusted)) is not before


def test_what_nobody_trusts_any_more_is_forgotten(dovecot: Dovecot, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(dovecot.certificate.read_bytes())
    context = tls.context_of(options(ca_file=trusted))
    assert context in tls._contexts.values()
    del context
    gc.collect()
    assert not any(trusted in key for key in tls._contexts)


async def test_a_connection_that_waits_holds_little_and_reads_as_fast_as_any_when_it_is_asked(
    dovecot: Dovecot, mail_user: User
) -> None:
    async def secret() -> str:
        return mail_user.password

    large = b"Subject: large\r\n\r\n" + b"x" * 998 + b"\r\n" + b"y\r\n" * 300_000
    dovecot.fill(mail_user, "INBOX", [large])
    place = ImapOptions("localhost", mail_user.name, dovecot.tls_port, ca_file=dovecot.certificate)
    async with ImapSource(place, secret).session() as session:
        wire = session._connection.transport._ssl_protocol
        usual = wire.max_size
        epoch, (item,) = await items_of(session, INBOX)
        watching = asyncio.create_task(session.watch(INBOX, PATIENCE))
        while len(wire._ssl_buffer) != tls.IDLE_BUFFER:
            await asyncio.sleep(0)
        await asyncio.to_thread(dovecot.append, mail_user, "INBOX", ARRIVING)
        assert await watching
        assert wire.max_size == usual
        assert len(await arrived(session, INBOX, epoch, item.ordinal)) == 1
        (outcome,) = await fetched(session, INBOX, epoch, [item.key])
        assert outcome.body.data == large
        assert len(wire._ssl_buffer) == usual
        await listing(session, INBOX)
