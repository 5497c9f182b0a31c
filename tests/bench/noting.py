"""A TCP proxy that notes when a server says that there is new mail: ``noting.py --to HOST:PORT``.

It listens on so many free ports of loopback, prints them, and then a line for each notice: which of the ports, how many
messages there are, and when that passed (Unix time in nanoseconds). It is a process of its own, so that it looks at once.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

READ = 256 * 1024
"""Bytes at once."""
EXISTS = re.compile(rb"^\* (\d+) EXISTS\r\n", re.MULTILINE)


@dataclass
class Noted:
    """The ports, and of each the notices so far: how many messages, and when."""

    ports: list[int]
    notices: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def when(self, place: int, messages: int) -> int:
        """When the client at that port was told that there are so many messages, or more."""
        return min(at for count, at in self.notices[place] if count >= messages)


@contextmanager
def noted(host: str, port: int, ports: int) -> Iterator[Noted]:
    """So many ports of a proxy, in a process of its own, and what it notes."""
    command = [sys.executable, __file__, "--to", f"{host}:{port}", "--ports", str(ports)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout
        seen = Noted([int(word) for word in line.readline().split()])

        def read() -> None:
            for place, count, at in (map(int, noticed.split()) for noticed in line):
                seen.notices.setdefault(place, []).append((count, at))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield seen
        finally:
            process.terminate()
            reader.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--ports", type=int, default=1, metavar="N", help="how many ports (default 1)")
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(host, int(port), options.ports))


async def serve(host: str, port: int, ports: int) -> None:
    """Serve until the process is ended."""
    servers = [await asyncio.start_server(Place(number, host, port).connect, "127.0.0.1", 0) for number in range(ports)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


class Place:
    """One of the ports."""

    def __init__(self, number: int, host: str, port: int) -> None:
        self._number = number
        self._to = (host, port)

    async def connect(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection(*self._to, limit=READ)
        for writer in (to_near, to_far):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(self._carry(near, to_far, False), self._carry(far, to_near, True))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, down: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(READ):
                for exists in EXISTS.findall(data) if down else ():
                    print(self._number, int(exists), time.time_ns(), flush=True)
                writer.write(data)
                await writer.drain()
        writer.close()


if __name__ == "__main__":
    main()
