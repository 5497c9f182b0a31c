"""The library's client with our connection: how a conversation begins, and how it is left."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from aioimaplib import aioimaplib as library

from hauld.errors import HaulError, Transient
from hauld.sources.imap import dialling
from hauld.sources.imap.grammar import Status
from hauld.sources.imap.protocol import Connection


class Client(library.IMAP4):
    """The library's client with our connection. Must be made inside a running loop, and ``open`` awaited next."""

    def __init__(self, host: str, port: int, *, where: str, timeout: float, tls: ssl.SSLContext | None) -> None:
        self._where = where
        self._tls = tls
        self._dialled = False
        super().__init__(host, port, asyncio.get_running_loop(), timeout)

    def create_client(
        self,
        host: str,
        port: int,
        loop: asyncio.AbstractEventLoop,
        conn_lost_cb: Callable[[Exception | None], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """The library's constructor calls this to begin connecting."""
        self.connection = Connection(loop, self._where, self.timeout)
        self.protocol = self.connection  # type: ignore[assignment] # the library says None and then sets its own
        self._client_task = loop.create_task(self._connect(host, port), name=f"connect {host}:{port}")

    async def _connect(self, host: str, port: int) -> None:
        """The connection has its transport, encrypted where it is to be from the beginning."""
        dialled = await dialling.connected(host, port)
        self._dialled = True
        server = host if self._tls else None
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.connection, sock=dialled, ssl=self._tls, server_hostname=server)

    async def open(self) -> Status:
        """Connected and greeted. Errors of the connection come as they are, for ``source`` to translate."""
        await asyncio.shield(self._client_task)
        return self.connection.answered(await self.connection.greeting)

    async def leave(self, patience: float) -> None:
        """Say goodbye when no answer is due, then be gone in any case."""
        if self.connection.at_rest:
            with contextlib.suppress(HaulError, TimeoutError):
                async with asyncio.timeout(patience):
                    await self.logout()
        await self.abort(patience)

    async def abort(self, patience: float) -> None:
        """Be gone, without a word."""
        self.connection.end(Transient("closed", f"{self._where}: the conversation is over."))
        if not self._client_task.done():
            if self._dialled:
                # let it connect, to be closed at once: cut short, asyncio of Python 3.11 can leave the socket open
                await asyncio.wait((self._client_task,), timeout=patience)
            self._client_task.cancel()
            await asyncio.wait((self._client_task,), timeout=patience)
        if self.connection.connected:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.connection.closed.wait(), patience)
