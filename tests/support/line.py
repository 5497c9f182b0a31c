"""A line to a server, through a port of its own, that breaks as a test wants."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType


class Line:
    """Passes on all bytes, until told otherwise. ``port`` is where clients connect, ``opened`` counts them."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.opened = 0
        self._to = (host, port)
        self._silent = False
        self._refusing = False
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """FIN to both sides of every connection."""
        for end in self._ends:
            end.close()

    def reset(self) -> None:
        """RST to both sides of every connection."""
        for end in self._ends:
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()

    def swallow(self) -> None:
        """Nothing passes any more on the connections of now, and no end is told."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def refuse(self) -> None:
        """New connections are reset at once, until ``accept``."""
        self._refusing = True

    def accept(self) -> None:
        self._refusing = False

    async def _connect(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        self.opened += 1
        if self._refusing:
            to_near.transport.abort()
            return
        far, to_far = await asyncio.open_connection(*self._to)
        self._ends |= {to_near, to_far}
        for reader, writer in ((near, to_far), (far, to_near)):
            task = asyncio.create_task(self._carry(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        self._ends.discard(writer)
        writer.close()
