"""The IMAP source keeps what every source promises, with a server that sends its answers whole and in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from contracts.source import LETTERS, Origin, SourceContract
from support.scripted_imap import Cutter, Honest, Mailbox, ScriptedServer, at_random, fetched, whole

BODIES = [b"Subject: %d\r\n\r\n" % n + b"text\r\n" * n * 100 for n in range(5)]
CONTENTS = {"INBOX": BODIES, "Sent": [b"sent\r\n"], "Grüße/a b": [b"", b"\x00\n\r"], "Empty": [], "Letters": LETTERS}


RAW_NAMES = {"Grüße/a b": b"Gr&APwA3w-e/a b"}


def mailbox(bodies: list[bytes]) -> Mailbox:
    return Mailbox(dict(enumerate(bodies, 7)))


@pytest.mark.parametrize("cutter", [None, at_random(1, 300)], ids=["whole", "in pieces"])
class TestImap(SourceContract):
    @pytest.fixture
    async def origin(self, cutter) -> AsyncIterator[Origin]:
        script = honest(Honest, cutter)
        async with ScriptedServer(script) as server:
            yield Origin(server.source(window=300), CONTENTS, delivery(script))

    @pytest.fixture
    async def doubling(self, cutter) -> AsyncIterator[Origin]:
        script = honest(SaysItTwice, cutter)
        async with ScriptedServer(script) as server:
            yield Origin(server.source(), CONTENTS, delivery(script))


class TestWithoutIdle(SourceContract):
    pushes = False

    @pytest.fixture
    async def origin(self) -> AsyncIterator[Origin]:
        script = honest(Honest, None)
        script.capabilities = b"IMAP4rev1 AUTH=PLAIN SASL-IR CONDSTORE"
        async with ScriptedServer(script) as server:
            yield Origin(server.source(), CONTENTS, delivery(script))


class SaysItTwice(Honest):
    """Gives each body, and then another under the same UID."""

    def body(self, mailbox: Mailbox, number: int, uid: int) -> bytes:
        return super().body(mailbox, number, uid) + fetched(number, uid, b"other bytes for %d" % uid)


def honest(kind: type[Honest], cutter: Cutter | None) -> Honest:
    mailboxes = {RAW_NAMES.get(name, name.encode()): mailbox(bodies) for name, bodies in CONTENTS.items()}
    return kind(mailboxes, cutter=cutter or whole)


def delivery(script: Honest) -> Callable[[str, bytes], Awaitable[None]]:
    """What puts a message into a mailbox, and tells those who listen."""

    async def deliver(folder: str, body: bytes) -> None:
        mailbox = script.mailboxes[RAW_NAMES.get(folder, folder.encode())]
        mailbox.add(max(mailbox.uids, default=0) + 1, body)
        await script.announce()

    return deliver
