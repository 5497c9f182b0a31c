"""The IMAP source keeps what every source promises, with a server that sends its answers whole and in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contracts.source import LETTERS, Origin, SourceContract
from support.scripted_imap import Cutter, Honest, Mailbox, ScriptedServer, at_random, fetched, whole

BODIES = [b"Subject: %d\r\n\r\n" % n + b"text\r\n" * n * 100 for n in range(5)]
CONTENTS = {"INBOX": BODIES, "Sent": [b"sent\r\n"], "Grüße/a b": [b"", b"\x00\n\r"], "Empty": [], "Letters": LETTERS}


def mailbox(bodies: list[bytes]) -> Mailbox:
    return Mailbox(dict(enumerate(bodies, 7)))


@pytest.mark.parametrize("cutter", [None, at_random(1, 300)], ids=["whole", "in pieces"])
class TestImap(SourceContract):
    @pytest.fixture
    async def origin(self, cutter) -> AsyncIterator[Origin]:
        async with ScriptedServer(honest(Honest, cutter)) as server:
            yield Origin(server.source(window=300), CONTENTS)

    @pytest.fixture
    async def doubling(self, cutter) -> AsyncIterator[Origin]:
        async with ScriptedServer(honest(SaysItTwice, cutter)) as server:
            yield Origin(server.source(), CONTENTS)


class SaysItTwice(Honest):
    """Gives each body, and then another under the same UID."""

    def body(self, mailbox: Mailbox, number: int, uid: int) -> bytes:
        return super().body(mailbox, number, uid) + fetched(number, uid, b"other bytes for %d" % uid)


def honest(kind: type[Honest], cutter: Cutter | None) -> Honest:
    raw_names = {"Grüße/a b": b"Gr&APwA3w-e/a b"}
    mailboxes = {raw_names.get(name, name.encode()): mailbox(bodies) for name, bodies in CONTENTS.items()}
    return kind(mailboxes, cutter=cutter or whole)
