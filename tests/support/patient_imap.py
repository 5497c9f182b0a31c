"""An IMAP connection without a network, in an event loop whose clock is moved by hand: hours pass in no time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine

from hauld.sources.imap.protocol import Connection

TIMEOUT = 60.0
"""Seconds of silence that the connection bears while an answer is due."""


class HandMovedLoop(asyncio.SelectorEventLoop):
    """Real time, and whatever was skipped."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


class Wire(asyncio.Transport):
    """Takes what is sent, and remembers it and how it ended."""

    def __init__(self) -> None:
        super().__init__({"socket": socket.socket()})
        self.aborted = False
        self.paused = False
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.get_extra_info("socket").close()


class Line:
    """A connection that is signed in, and its other end."""

    def __init__(self, loop: HandMovedLoop) -> None:
        self.loop = loop
        self.wire = Wire()
        self.connection = Connection(loop, "here", TIMEOUT)
        self.connection.connection_made(self.wire)
        self.say(b"* PREAUTH ready\r\n")
        self.connection.state = "SELECTED"

    def say(self, data: bytes) -> None:
        self.connection.data_received(data)

    def answer(self, condition: bytes = b"OK done") -> None:
        """The tagged answer to all commands that wait for one."""
        for tag in list(self.connection._pending):
            self.say(tag + b" " + condition + b"\r\n")

    def sent(self) -> list[bytes]:
        """The commands that were sent since the last call, without their tags."""
        lines, self.wire.sent = self.wire.sent.splitlines(), b""
        return [line if line == b"DONE" else line.partition(b" ")[2] for line in lines]

    async def seconds(self, count: float, every: float = 1.0, saying: bytes = b"") -> float:
        """Let time pass, something being said at the end of each step; how much had passed when the connection ended."""
        passed = 0.0
        while passed < count and self.connection.failure is None:
            self.loop.skipped += every
            passed += every
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # a timer that is due runs in the next turn
            if saying:
                self.say(saying)
        return passed


def patiently(conversation: Callable[[Line], Coroutine[None, None, None]]) -> Callable[[], None]:
    """The test, run in a loop whose time it moves."""

    def test() -> None:
        async def run() -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, HandMovedLoop)
            line = Line(loop)
            try:
                await conversation(line)
            finally:
                line.wire.close()

        with asyncio.Runner(loop_factory=HandMovedLoop) as runner:
            runner.run(run())

    test.__name__ = conversation.__name__
    return test
