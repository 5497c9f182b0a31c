"""A TCP proxy that makes a server far away: ``python tests/bench/proxy.py --to HOST:PORT --round-trip 50``.

It listens on a free port of loopback, prints it, and delays what passes by half a round trip each way; a new connection waits
for one whole, as its handshake would. It is a process of its own, so that its work is no program's that is measured. It passes
about 40 MB/s a connection: who compares two programs through it says how many connections each has.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READ = 256 * 1024
"""Bytes at once."""
ON_THE_WAY = 8 * 1024 * 1024
"""Bytes that may be under way in one direction; more than any connection here has in a round trip."""


@contextmanager
def proxied(host: str, port: int, milliseconds: float) -> Iterator[int]:
    """The port of a proxy, running in a process of its own, that is so many milliseconds of round trip from that server."""
    command = [sys.executable, __file__, "--to", f"{host}:{port}", "--round-trip", str(milliseconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--round-trip", type=float, default=50.0, metavar="MS", help="milliseconds (default 50)")
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(host, int(port), options.round_trip / 1000))


async def serve(host: str, port: int, round_trip: float) -> None:
    """Serve until the process is ended."""

    async def connect(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        await asyncio.sleep(round_trip)
        far, to_far = await asyncio.open_connection(host, port, limit=READ)
        for writer in (to_near, to_far):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(Lane(near, to_far, round_trip / 2).carry(), Lane(far, to_near, round_trip / 2).carry())

    server = await asyncio.start_server(connect, "127.0.0.1", 0, limit=READ)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Lane:
    """One direction of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        self._reader = reader
        self._writer = writer
        self._delay = delay
        self._under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._bytes = 0
        self._fewer = asyncio.Event()

    async def carry(self) -> None:
        """Pass everything on, each part after the delay, until one side closes."""
        delivering = asyncio.create_task(self._deliver())
        with suppress(ConnectionError):
            while data := await self._reader.read(READ):
                await self._send_off(data)
        await self._send_off(b"")
        await delivering

    async def _send_off(self, data: bytes) -> None:
        self._bytes += len(data)
        self._under_way.put_nowait((asyncio.get_running_loop().time() + self._delay, data))
        while self._bytes > ON_THE_WAY:
            self._fewer.clear()
            await self._fewer.wait()

    async def _deliver(self) -> None:
        """Nothing under way is the end."""
        with suppress(ConnectionError):
            while True:
                due, data = await self._under_way.get()
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
                self._bytes -= len(data)
                self._fewer.set()
                if not data:
                    break
                self._writer.write(data)
                await self._writer.drain()
        self._writer.close()


if __name__ == "__main__":
    main()
