"""What a daemon that runs for years must not gather, and what must not hold it up."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hauld.clock import SystemClock
from hauld.sources.imap import ImapOptions, ImapSource
from support.dovecot import Dovecot, User
from support.engine import running
from support.messages import messages
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

HURRY = 100
"""How much faster than real time passes for an engine that waits often, and long."""

RECONNECTS = 200
POOLS = ("asyncio_", "store", "express")
"""How the names of threads begin of which there are so many at most, as many as there was work for at once."""

PATIENCE = 20.0

LOOK = 0.01
"""Seconds between two looks at the loop."""

LONGEST_LAG = 1.0
"""Seconds that the loop may be held up on a machine that others use, too."""


class HurriedClock(SystemClock):
    """Time that passes fast: whoever is to wait for a second waits for ten milliseconds."""

    def monotonic(self) -> float:
        return super().monotonic() * HURRY

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / HURRY)


class Held(NamedTuple):
    """What this process has at the moment."""

    tasks: Counter[str]
    threads: Counter[str]
    sockets: int
    files: Counter[str]


def held() -> Held:
    opened = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            opened.append(os.readlink(f"/proc/self/fd/{number}"))
    return Held(
        tasks=Counter(task.get_name().rstrip("0123456789") for task in asyncio.all_tasks()),
        threads=Counter(thread.name for thread in threading.enumerate() if not thread.name.startswith(POOLS)),
        sockets=sum(name.startswith("socket:") for name in opened),
        files=Counter(name for name in opened if not name.startswith("socket:")),
    )


class HangsUp(Honest):
    """A server that hangs up on so many connections, at one place after the other, and on the last of them within a body."""

    places = ("", "AUTHENTICATE", "LIST", "EXAMINE", "UID FETCH")
    left = 0

    async def __call__(self, client: Client) -> None:
        self.left = max(0, self.left - 1)
        if self.place(client) == "":
            await client.reset()
        else:
            await super().__call__(client)

    async def answer(self, client: Client, command: Command) -> None:
        if self.place(client) == command.verb or (0 < self.left < 20 and b"BODY" in command.line):
            await client.send(b"* 1 FETCH (UID 1 BODY[] {100}\r\nhalf")
            await client.reset()
        else:
            await super().answer(client, command)

    def place(self, client: Client) -> str | None:
        return self.places[client.number % len(self.places)] if self.left >= 20 else None


async def at_rest(idle: Held) -> Held:
    """What is held when there are no more tasks and sockets than then; or after a while, whatever there is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while (now := held()).tasks != idle.tasks or now.sockets != idle.sockets:
                await asyncio.sleep(0.01)  # nothing tells when an unused session has been closed
    return held()


async def test_R5_two_hundred_reconnects_leave_no_file_task_or_thread_behind(tmp_path: Path) -> None:
    mailbox = Mailbox({1: b"Subject: one\r\n\r\n"})
    honest = HangsUp({b"INBOX": mailbox})
    async with (
        ScriptedServer(honest) as server,
        running(tmp_path, server.source(), clock=HurriedClock(), idle_limit=0.05) as engine,
    ):
        idle = held()
        await engine.finish()
        before = await at_rest(idle)
        mailbox.messages[2] = b"Subject: two\r\n\r\n"
        honest.left = RECONNECTS
        job = await engine.finish()
        assert (job.status, job.progress.downloaded_items, honest.left) == ("completed", 1, 0)
        assert server.connections > RECONNECTS
        assert await at_rest(idle) == before


# --- the loop ---


@asynccontextmanager
async def lags() -> AsyncIterator[list[float]]:
    """How late the loop came each time, in seconds, until left."""
    late: list[float] = []

    async def look() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK
            await asyncio.sleep(LOOK)
            late.append(loop.time() - due)

    looking = asyncio.create_task(look())
    try:
        yield late
    finally:
        looking.cancel()


async def test_R4_the_loop_is_not_held_up_while_thousands_of_messages_are_imported(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    dovecot.fill(mail_user, "INBOX", messages(5000, size=1000))

    async def secret() -> str:
        return mail_user.password

    source = ImapSource(ImapOptions(dovecot.host, mail_user.name, dovecot.port, tls="none"), secret)
    async with running(tmp_path, source, budget=64 << 20) as engine, lags() as late:
        job = await engine.finish()
    assert job.progress.downloaded_items == 5000
    assert max(late) < LONGEST_LAG, sorted(late)[-10:]
