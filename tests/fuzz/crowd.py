"""Sixty-four bad clients at the door at once, and an honest one that must hardly notice: ``python tests/fuzz/crowd.py``.

Some send wrong frames, a thousand in one write; some lines as long as a line may be, or longer, that are dear to read; some a
byte at a time; some ask and never read an answer; some follow events and never read one. They are a process of their own, and
whoever is cut off comes back. The honest client asks what people ask, and its round trips are the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.door import frame_of, frames
from fuzz.mutation import a_seed, dice_of
from haulapi.frames import MAX_LINE
from support.daemon import Hauld

CLIENTS = 64
BURST = 1000
"""Frames in one write."""

BREATH = 0.01
"""Seconds between two bytes of a slow client, and before who was cut off comes back."""

CALM = 0.4
"""Seconds between two questions of an honest client."""

PATIENCE = 60.0
"""Seconds until an answer that does not come is a failure."""

GONE = (ConnectionError, asyncio.IncompleteReadError)

DEAR = (
    b"[" + b"1e300," * (MAX_LINE // 6 - 20) + b"1]",
    b"[" + b"[]," * (MAX_LINE // 3 - 20) + b"1]",
    b'{"params":[' + b'{"a":1},' * (MAX_LINE // 8 - 20) + b"1]}",
    b'"' + b"\\u0041" * (MAX_LINE // 6 - 20) + b'"',
    b'{"jsonrpc":"2.0","id":1,"method":"jobs.retry","params":{"job":"job_","items":[' + b"1," * (MAX_LINE // 2 - 100) + b"1]}}",
    b"x" * (2 * MAX_LINE),
)
"""Lines of a megabyte and more."""

WORK = re.compile(rb"jobs\.(?!list|get)|accounts\.test|daemon\.(reload|doctor)|verify\.start")
"""What a right frame has that asks for more than to be told something."""

FAIR = b'{"jsonrpc":"2.0","id":1,"method":"daemon.status"}\n'
FOLLOW = b'{"jsonrpc":"2.0","id":1,"method":"events.follow","params":{}}\n'

# --- the crowd, in a process of its own ----------------------------------------------------------------------------


@dataclass
class Crowd:
    """Clients at one socket, each coming back when it was cut off, until so many frames were answered, those of who never reads
    not counted; without a number, until it is killed."""

    path: Path
    seed: str
    wanted: int | None
    sent: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self, frames: int) -> None:
        self.sent += frames
        if self.wanted is not None and self.sent >= self.wanted:
            self.done.set()

    async def rage(self, clients: int) -> None:
        tasks = [asyncio.create_task(self._come_back(ROLES[number % len(ROLES)], number)) for number in range(clients)]
        await self.done.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _come_back(self, role: Role, number: int) -> None:
        dice = dice_of(self.seed, number)
        while True:
            with contextlib.suppress(OSError, *GONE):
                reader, writer = await asyncio.open_unix_connection(self.path, limit=4 * MAX_LINE)
                try:
                    await role(self, dice, reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(BREATH)


Role = Callable[[Crowd, random.Random, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def mistaken(crowd: Crowd, dice: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wrong frames, a burst of them in one write, and every answer read. Where something else is measured, those are left out
    that could by chance set the daemon to work, or have it stop."""
    known = [frame for frame in frames() if crowd.wanted is not None or not WORK.search(frame)]
    async with answers_taken(crowd, reader) as reading:
        while not reading.done():
            burst = [frame_of(dice, known).replace(b"\n", b" ")[:2000] for _ in range(BURST // 10)]
            for _ in range(10):
                writer.write(b"\n".join([*burst, b""]))
            await writer.drain()


async def empty(crowd: Crowd, dice: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hardly a line, a burst of them in one write."""
    async with answers_taken(crowd, reader) as reading:
        while not reading.done():
            writer.write(dice.choice((b"\n", b"{}\n", b"1\n", b'{"method":1}\n', FAIR)) * BURST)
            await writer.drain()


async def huge(crowd: Crowd, dice: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Lines that are as long as may be, or longer."""
    async with answers_taken(crowd, reader) as reading:
        while not reading.done():
            writer.write(dice.choice(DEAR) + b"\n")
            await writer.drain()


async def slow(crowd: Crowd, dice: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte at a time."""
    async with answers_taken(crowd, reader) as reading:
        while not reading.done():
            for byte in dice.choice((FAIR, b'{"method":\n')):
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(BREATH)


async def deaf(crowd: Crowd, dice: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks and never reads; asyncio reads a little by itself, until it is stopped."""
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    crowd.count(1)
    while not writer.is_closing():
        writer.write(FAIR * 10)
        await writer.drain()


async def deaf_follower(crowd: Crowd, dice: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Follows all that happens, and never reads."""
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(FOLLOW)
    await writer.drain()
    crowd.count(1)
    await asyncio.sleep(60)


ROLES: tuple[Role, ...] = (mistaken, huge, slow, deaf, deaf_follower, empty)


@asynccontextmanager
async def answers_taken(crowd: Crowd, reader: asyncio.StreamReader) -> AsyncIterator[asyncio.Task[None]]:
    """Somebody takes every answer meanwhile, and is done when the door is closed."""
    reading = asyncio.create_task(read_all(crowd, reader))
    try:
        yield reading
    finally:
        reading.cancel()


async def read_all(crowd: Crowd, reader: asyncio.StreamReader) -> None:
    """Take every answer, and count it as a frame, until the door is closed."""
    with contextlib.suppress(*GONE):
        while data := await reader.read(MAX_LINE):
            crowd.count(data.count(b"\n"))


# --- the honest one ------------------------------------------------------------------------------------------------

QUESTIONS = ("daemon.status", "jobs.list", "accounts.list")


@dataclass
class Figures:
    """Seconds that answers took, and how it went otherwise."""

    took: list[float]
    sent: int = 0
    growth: int = 0

    @property
    def p99(self) -> float:
        return sorted(self.took)[int(0.99 * (len(self.took) - 1))]

    def __str__(self) -> str:
        median, most = statistics.median(self.took), max(self.took)
        among = f" among {self.sent:,} frames of the crowd, memory grew by {self.growth >> 20} MiB" if self.sent else ""
        return (
            f"{len(self.took):,} answers{among}: median {1000 * median:.1f} ms, p99 {1000 * self.p99:.1f} ms,"
            f" longest {1000 * most:.1f} ms"
        )


class Honest:
    """A client on a connection that it had before the crowd came: one user may have so many, and these are one user's."""

    def __init__(self, path: Path) -> None:
        self.took: list[float] = []
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(PATIENCE)
        self._connection.connect(str(path))
        self._answers = self._connection.makefile("rb")

    def ask(self, go_on: Callable[[], bool]) -> None:
        """Ask one thing after the other while it is to go on."""
        while go_on():
            method = QUESTIONS[len(self.took) % len(QUESTIONS)]
            request = {"jsonrpc": "2.0", "id": len(self.took), "method": method}
            began = time.perf_counter()
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(self._answers.readline())
            self.took.append(time.perf_counter() - began)
            assert "result" in answer, answer
            time.sleep(CALM)

    def __enter__(self) -> Honest:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._connection.close()


@contextmanager
def crowded(path: Path, clients: int = CLIENTS, frames: int | None = None, seed: str = "") -> Iterator[subprocess.Popen[str]]:
    """The crowd at that door, until it has sent so many frames or this is left."""
    program = [sys.executable, __file__, "--at", str(path), "--clients", str(clients), "--seed", seed or a_seed()]
    program += ["--count", str(frames)] if frames is not None else ["--forever"]
    crowd = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        yield crowd
    finally:
        crowd.kill()
        crowd.wait()
        assert crowd.stdout is not None
        crowd.stdout.close()


def resident(pid: int) -> int:
    """Bytes that the process has in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


UNHURRIED = """
import functools, runpy, sys
from hauld.rpc import server, turns
server.Limits = functools.partial(server.Limits, together=turns.Rate(1e9, 1e9))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs hauld without the rate that a user may ask at."""


def siege(frames: int, clients: int, seed: str, *, unhurried: bool = False) -> Figures:
    """A real daemon under such a crowd; ``unhurried`` one that takes turns but does not slow the crowd down. Raises
    ``AssertionError`` where it breaks, or says that it did."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        hauld = Hauld(Path(directory), {}, daemon={"log_level": "info"})
        if unhurried:
            hauld.launcher = [sys.executable, "-c", UNHURRIED]
        stack.enter_context(hauld)
        before = resident(hauld.pid)
        with Honest(hauld.socket) as honest, crowded(hauld.socket, clients, frames, seed) as crowd:
            honest.ask(lambda: crowd.poll() is None)
            assert crowd.stdout is not None
            sent = int(crowd.stdout.read())
        figures = Figures(honest.took, sent, resident(hauld.pid) - before)
        assert hauld.is_running, hauld.log()
        assert '"error"' not in hauld.log(), hauld.log()
        assert hauld.stop() == 0, hauld.log()
    return figures


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=100_000, help="how many frames in all (default: %(default)s)")
    options.add_argument("--clients", type=int, default=CLIENTS, help="how many bad clients (default: %(default)s)")
    options.add_argument("--seed", default=a_seed())
    options.add_argument("--unhurried", action="store_true", help="without the rate that a user may ask at")
    options.add_argument("--at", type=Path, help="be the crowd at that socket, and nothing else")
    options.add_argument("--forever", action="store_true", help="as long as it lives, with --at")
    chosen = options.parse_args()
    if chosen.at is not None:
        crowd = Crowd(chosen.at, chosen.seed, None if chosen.forever else chosen.count)
        asyncio.run(crowd.rage(chosen.clients))
        sys.stdout.write(f"{crowd.sent}\n")
    else:
        sys.stdout.write(
            f"seed {chosen.seed}: {siege(chosen.count, chosen.clients, chosen.seed, unhurried=chosen.unhurried)}\n"
        )


if __name__ == "__main__":
    main()
