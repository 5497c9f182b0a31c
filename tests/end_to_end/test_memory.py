"""Memory is bounded by the configuration, not by what a server sends."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

MOST = 100_000_000


def test_P38_a_message_of_100_megabytes_is_stored_in_less_memory_than_its_size(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    (huge,) = messages(1, size=100_000_000)
    dovecot.fill(mail_user, "INBOX", [huge])
    dovecot.fill(mail_user, "INBOX", messages(20, size=10_000))
    account = dovecot.account(mail_user)
    with Hauld(tmp_path / "haul", {"a": account}) as hauld:
        done = hauld.haulctl("create", "a", "--once", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["progress"]["downloaded_items"] == 21
        assert hashlib.sha256(huge).hexdigest() in hauld.stored("a")["INBOX"].values()
        assert hauld.peak_memory() < MOST


async def test_20_000_short_lines_in_one_read_are_answered_in_little_memory(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": Mailbox(dict.fromkeys(range(1, 50), b"x\r\n"))})

    @honest.instead_of("UID SEARCH")
    async def chatters(client: Client, command: Command) -> None:
        await client.send(b"".join(b"* %d FETCH (FLAGS (\\Seen))\r\n" % number for number in range(1, 20_001)))
        await honest.answer(client, command)

    async with ScriptedServer(honest) as server:
        account = {"host": "127.0.0.1", "port": server.port, "tls": "none", "user": "alice", "password": "secret"}
        hauld = Hauld(tmp_path / "haul", {"a": account})
        try:
            await asyncio.to_thread(hauld.start)
            done = await asyncio.to_thread(hauld.haulctl, "create", "a", "--once", "--wait", "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["progress"]["downloaded_items"] == 49
            assert hauld.peak_memory() < MOST
        finally:
            await asyncio.to_thread(hauld.__exit__)
