"""The control socket: connections, who may open them, and how much each may ask for at once.

``serve`` opens the door and closes it. Each connection reads lines, has them answered side by side by ``dispatch``, and
writes each answer as soon as it is there; between them come the events that it follows (``follow``). Nothing a client does or
leaves undone holds up another (``turns``), or grows without bound: the limits are in ``Limits``.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haulapi.frames import MAX_BATCH, FrameError, Lines, LineTooLong
from hauld.clock import Clock, SystemClock
from hauld.rpc.dispatch import Dispatcher, refusal
from hauld.rpc.follow import Follower
from hauld.rpc.peers import Peer, may_enter, own_uid, peer_of
from hauld.rpc.routes import Commands, Events, Route, routes
from hauld.rpc.socketfile import BACKLOG, group_number, listening, taken_over
from hauld.rpc.turns import IN_HAND, Allowance, Crumbs, Rate, Turns

log = logging.getLogger("hauld.rpc")

CHUNK = 1 << 16
"""Bytes read at once."""

if sys.version_info >= (3, 13):  # there it would remove the name of a socket that it is given, and cannot know whose that is
    start_unix_server = functools.partial(asyncio.start_unix_server, cleanup_socket=False)
else:
    start_unix_server = asyncio.start_unix_server

CRUMBS_EVERY = 0.5
"""Seconds; who has the habit of sending crumbs is read no more often."""

TOO_LONG = 100
"""How many requests a line costs that is too long to be read at all."""

OWN = Rate(at_once=20, a_second=3.0)
TOGETHER = Rate(at_once=3000, a_second=15.0)
"""Requests: what a client may ask without waiting for any other, and what all clients of a user may ask beyond that."""

NO_DESCRIPTOR = refusal(
    "too_many",
    "The daemon has too many files and connections open to take another one.",
    hint="Try again in a moment; if it stays so, raise its limit (LimitNOFILE= in the unit, or ulimit -n).",
)
"""What a client is told for whom the process has no descriptor left."""


@dataclass(frozen=True)
class Limits:
    """What a client, a user and all together may take. Times are seconds.

    ``reserved`` of the ``connections`` are kept for root and the daemon's own user. Beyond ``requests`` in flight, nothing
    more is read from a connection. ``half_sent`` is how long a line that has begun may take to end, ``untaken`` how long a
    client may leave an answer or an event unread; one that is silent between lines may stay, whether it follows or not.
    """

    connections: int = 256
    reserved: int = 64
    connections_per_user: int = 64
    requests: int = 32
    half_sent: float = 30.0
    untaken: float = 30.0
    own: Rate = OWN
    together: Rate = TOGETHER


@asynccontextmanager
async def serve(
    path: Path,
    commands: Commands,
    events: Events,
    *,
    group: str = "haul",
    passed: int | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Server]:
    """Answer at ``path`` until left; then every connection is closed and the name removed. Raises ``Fatal`` when the socket
    cannot be made there, kind ``locked`` when another daemon answers at it. ``passed`` is the descriptor of a socket that
    somebody made there for us; its name stays."""
    number = group_number(group)
    limits = limits or Limits()
    desk = Desk(routes(commands, events), events, limits, clock or SystemClock(), Turns(limits.together))
    server = Server(desk, group=number, group_name=group)
    made = listening(path, number, NO_DESCRIPTOR) if passed is None else taken_over(passed, path, NO_DESCRIPTOR)
    with made as listener:
        listener.setblocking(False)
        accepting = await start_unix_server(server.welcome, sock=listener, limit=CHUNK, backlog=BACKLOG)
        try:
            yield server
        finally:
            accepting.close()
            await server.close()
            await accepting.wait_closed()


@dataclass(frozen=True)
class Desk:
    """What every connection is served from."""

    routes: Mapping[str, Route]
    events: Events
    limits: Limits
    clock: Clock
    turns: Turns


class Server:
    """The open connections."""

    def __init__(self, desk: Desk, *, group: int | None, group_name: str) -> None:
        self._desk = desk
        self._group = group
        self._group_name = group_name
        self._own_uid = own_uid()
        self._guests: Counter[int] = Counter()
        self._refused: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def clients(self) -> int:
        """How many are connected."""
        return self._guests.total()

    def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody has connected."""
        if self._closing:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer), name="control connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End every connection, and what is being done for it."""
        self._closing = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its first moment to its last."""
        connection = Connection(reader, writer, self._desk)
        try:
            peer = peer_of(writer.get_extra_info("socket"))
            if (no := self._reason_to_refuse(peer)) is not None:
                await connection.send(no)
                await connection.close()
            else:
                self._guests[peer.uid] += 1
                try:
                    await connection.run(peer.uid)
                    await connection.close()
                finally:
                    self._guests[peer.uid] -= 1
        except Exception:
            log.exception("unexpected error on a control connection")
        finally:
            writer.transport.abort()

    def _reason_to_refuse(self, peer: Peer) -> bytes | None:
        """The line to send to a peer who cannot come in, or None."""
        if not may_enter(peer, own_uid=self._own_uid, group=self._group):
            if peer.uid not in self._refused:  # said once, so that nobody can fill the log by knocking
                self._refused.add(peer.uid)
                log.warning("refused a control connection of uid %d", peer.uid)
            return refusal(
                "forbidden",
                f"User {peer.uid} may not control this daemon: only root, its own user and the group {self._group_name} may.",
                hint=f"An administrator can let you in: usermod -aG {self._group_name} YOU, then log in again.",
            )
        if not self._has_room(peer.uid):
            return refusal(
                "too_many", "The daemon has too many control connections open.", hint="Close some, or try again in a moment."
            )
        return None

    def _has_room(self, uid: int) -> bool:
        limits = self._desk.limits
        room = limits.connections if uid in (0, self._own_uid) else limits.connections - limits.reserved
        return self.clients < room and self._guests[uid] < limits.connections_per_user


class Connection:
    """One client: reads its lines, and answers each as soon as its answer is there, in any order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, desk: Desk) -> None:
        self._reader = reader
        self._writer = writer
        self._limits = desk.limits
        self._turns = desk.turns
        self._own = Allowance(desk.limits.own)
        self._follower = Follower(desk.events, desk.clock, self.send, writer.close)
        self._dispatcher = Dispatcher({**desk.routes, **self._follower.routes}, desk.clock)
        self._room = asyncio.Semaphore(desk.limits.requests)
        self._in_hand = 0

    async def run(self, user: int) -> None:
        """Answer until the client has said all, which ends its following; what it asked before is still done and answered."""
        lines = Lines()
        deadline: float | None = None
        crumbs = Crumbs()
        async with self._follower, asyncio.TaskGroup() as requests:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        if crumbs.are_a_habit:
                            await self._let_crumbs_gather()
                        data = await self._reader.read(CHUNK)
                    begun = lines.begun
                    ended = lines.feed(data)
                except TimeoutError:
                    await self.send(
                        refusal("parse_error", f"A line was begun and not ended within {self._limits.half_sent:g} s.")
                    )
                    return
                except LineTooLong as error:
                    await self.send(refusal("parse_error", str(error)))
                    await self._turns.pay(user, self._own, TOO_LONG)
                    return
                except ConnectionError:
                    return
                if not data:
                    return
                for line in ended:
                    if not await self._take(line, user, requests):
                        return
                if not lines.begun:
                    deadline = None
                elif ended or deadline is None:  # counted from when there was room to read on, not from when it was sent
                    deadline = asyncio.get_running_loop().time() + self._limits.half_sent
                crumbs.took(data, whole=not begun and bool(ended))

    async def _let_crumbs_gather(self) -> None:
        """Look away for a moment: to take each byte as it comes costs more than all of them together."""
        wire = self._writer.transport
        assert isinstance(wire, asyncio.Transport)
        wire.pause_reading()
        try:
            await asyncio.sleep(CRUMBS_EVERY)
        finally:
            wire.resume_reading()

    async def _take(self, line: bytes, user: int, requests: asyncio.TaskGroup) -> bool:
        """Have the line answered, and wait for as long as it costs; whether the client is still there."""
        cost = 1
        try:
            message = await self._turns.read(line, self._own)
        except FrameError as error:
            await self.send(refusal("parse_error", str(error)))
        else:
            await self._room.acquire()
            answering = requests.create_task(self._answer(message), name="control request")
            self._in_hand += 1
            if self._in_hand > IN_HAND:
                await self._turns.serve(answering)
            cost = min(len(message), MAX_BATCH) if isinstance(message, list) else 1
        await self._turns.pay(user, self._own, cost)
        return not self._writer.is_closing()

    async def send(self, line: bytes) -> bool:
        """Write a line, and say whether the client is still there. One that does not take it in time is cut off."""
        self._writer.write(line)
        try:
            async with asyncio.timeout(self._limits.untaken):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()
        except ConnectionError:
            pass  # the client left; what it asked is done
        return not self._writer.is_closing()

    async def close(self) -> None:
        """Close, once the client has taken what was written."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._limits.untaken):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            pass

    async def _answer(self, message: Any) -> None:
        try:
            answer = await self._dispatcher.reply(message)
            if answer is not None:
                await self.send(answer)
        finally:
            self._in_hand -= 1
            self._room.release()
