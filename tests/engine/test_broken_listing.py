"""A listing that breaks off is begun again in the same run, whoever is left to do it: no folder is ever passed over."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.engine import running
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer


async def sessions_at_work(count: int) -> None:
    """Wait until no more than so many sessions of the job are at work."""
    async with asyncio.timeout(10):
        while sum(" session " in task.get_name() for task in asyncio.all_tasks()) > count:
            await asyncio.sleep(0.005)  # the end of a session is told by no event


async def test_a_listing_that_breaks_when_all_other_sessions_have_ended_is_begun_again(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": Mailbox({1: b"Subject: 1\r\n\r\n"}), b"Sent": Mailbox({1: b"Subject: 2\r\n\r\n"})})
    broken: list[bytes] = []

    @honest.instead_of("EXAMINE")
    async def breaks_off_last(client: Client, command: Command) -> None:
        if b"Sent" in command.arguments and not broken:
            broken.append(command.arguments)
            await sessions_at_work(1)
            await client.reset()
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, running(tmp_path, server.source()) as engine:
        job = await engine.finish()
        assert broken
        assert (job.status, job.progress.total_items, job.progress.downloaded_items) == ("completed", 2, 2)
