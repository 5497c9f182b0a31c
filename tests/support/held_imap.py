"""A scripted IMAP server for programs outside the test's own loop, and one whose jobs hold still where a test wants them to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.beside import beside
from support.scripted_imap import Client, Command, Honest, Mailbox, Script, ScriptedServer, is_in

PATIENCE = 30.0
"""Seconds until something that does not happen is a failure."""


class Held(Honest):
    """An honest server that gives the bodies of so many messages, and the others only once it is let go. ``asked`` is set when
    somebody waits for one of the others."""

    def __init__(self, mailboxes: dict[bytes, Mailbox], *, free: int = 0) -> None:
        super().__init__(mailboxes)
        self.asked = threading.Event()
        self._free = free
        self._gate = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait_until_asked(self) -> None:
        """Return once a client waits for a body."""
        assert self.asked.wait(PATIENCE), "nobody asked for a body"

    def let_go(self) -> None:
        """Hold nobody any more. May be called in any thread."""
        assert self._loop is not None, "a client has connected"
        self._loop.call_soon_threadsafe(self._gate.set)

    async def __call__(self, client: Client) -> None:
        self._loop = asyncio.get_running_loop()
        await super().__call__(client)

    async def _uid_fetch(self, client: Client, command: Command) -> None:
        if b"BODY" not in command.arguments or self._gate.is_set():
            await super()._uid_fetch(client, command)
            return
        mailbox = self._open[client]
        for number, uid in enumerate(mailbox.uids, 1):
            if not is_in(uid, command.arguments.partition(b" ")[0]):
                continue
            if self._free == 0:
                self.asked.set()
                await self._gate.wait()
            else:
                self._free -= 1
            await client.send(self.body(mailbox, number, uid))
        await client.send(command.ok())


def account(honest: Honest, server: ScriptedServer) -> dict[str, object]:
    """An account on the server that plays ``honest``, as hauld's configuration has it. One connection, so that all comes in
    one order."""
    place = {"host": "127.0.0.1", "port": server.port, "tls": "none", "connections": 1}
    return {**place, "user": honest.user.decode(), "password": honest.password.decode()}


@contextmanager
def served(script: Script) -> Iterator[ScriptedServer]:
    """The server, playing the script in a thread of its own."""
    with beside(lambda: ScriptedServer(script), "scripted server") as server:
        yield server
