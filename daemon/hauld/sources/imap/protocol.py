"""One IMAP connection: commands out, events in, every wait bounded. Built on aioimaplib, whose reader it replaces.

From aioimaplib come the table of commands with the states they are allowed in, the states, the tags, and the plain verbs
(LOGOUT and the like), which end in ``execute``; its client, which connects, is in ``client``. What is ours:
``data_received`` runs the iterative parser of ``grammar``; there is one table of pending tags, so several commands may be
in flight; every untagged response reaches every listener; and when the connection goes, everything pending ends at once.

A connection fails closed: an answer to a command nobody sent, a line without sense, silence for longer than the timeout
while an answer is due, far more bytes than any answer has, or hardly any for half an hour, and ``failure`` is set, the
transport aborted, and no byte more is read. Only who was asked to IDLE may be silent, until told DONE. Signing in is in
``signin``; what is said on a signed-in connection, in ``session``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from aioimaplib import aioimaplib as library

from hauld.errors import HaulError, Transient
from hauld.model import Writer
from hauld.sources.imap import answers, tls
from hauld.sources.imap.arguments import Literal, lines
from hauld.sources.imap.concealing import Concealment
from hauld.sources.imap.deflate import Deflate
from hauld.sources.imap.grammar import Continuation, Data, Event, Parser, ProtocolError, Status, Value

Listener: TypeAlias = Callable[[Event], None]
"""Takes an untagged response, a part of one, or a continuation. A ``HaulError`` it raises ends the connection with it."""

MOST_BESIDE_BODIES = 64 * 1024 * 1024
"""Bytes a server may send between two tagged answers, bodies that are wanted not counted. As many results as ``Found`` takes
fit in, and so do 600,000 folders: what goes on beyond has no end."""

LONGEST_ANSWER = 1800.0
"""Seconds an answer may take, however little comes of it: a large folder is searched for minutes."""

SLOWEST = 128
"""Bytes that buy an answer one second more. What comes slower than this for longer than ``LONGEST_ANSWER`` has no end."""

PIECES_AT_ONCE = 16
"""Pieces of ``deflate.PIECE`` bytes that are read before everything else gets its turn: a few bytes may become many."""

MOST_COLLECTED = 100 * 1024 * 1024
"""Bytes of memory, about, for the responses that ``collect`` keeps: more folders than any server has."""

MEMORY_OF_A_VALUE = 80
"""Bytes of memory, about, that a value takes beside its own bytes."""

# The library formats what it receives and sends for debug, bodies and passwords included.
library.log.setLevel(max(library.log.level, logging.INFO))


class Connection(library.IMAP4ClientProtocol):
    """The conversation on one transport. ``where`` names the other end in errors; ``timeout`` is how long no byte may come
    while an answer is due. ``answered_at`` is when, by the loop's clock, a command other than IDLE was last answered. The
    ``concealment`` keeps secrets out of what is passed on of the server's words."""

    def __init__(self, loop: asyncio.AbstractEventLoop, where: str, timeout: float) -> None:
        super().__init__(loop)
        self.where = where
        self.failure: HaulError | None = None
        self.greeting: asyncio.Future[Status | None] = loop.create_future()
        self.closed = asyncio.Event()
        self.concealment = Concealment()
        self._loop = loop
        self._timeout = timeout
        self._parser = Parser()
        self._pending: dict[bytes, _Pending] = {}
        self._listeners: list[Listener] = []
        self._go_ahead: asyncio.Future[None] | None = None
        self._idling = False
        self._wire: asyncio.Transport | None = None
        self._awaited: dict[int, Writer] = {}
        self._last_byte = loop.time()
        self.answered_at = self._last_byte
        self._paused_at = 0.0
        self._answer_began = 0.0
        self._answer_bytes = 0
        self._beside_bodies = 0
        self._watch: asyncio.TimerHandle | None = None
        self._deflate: Deflate | None = None
        self._inflating: asyncio.Handle | None = None

    # --- asking ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Hand every untagged response to ``listener`` meanwhile."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    async def ask(self, verb: str, *arguments: bytes | Literal) -> Status:
        """Send a command and wait for its tagged answer, which may be NO or BAD. Being cancelled ends the connection."""
        first, *more = lines(arguments)
        answer = self.begin(verb, first)
        try:
            for line in more:
                if not await self._may_continue(answer):
                    break
                self._write(line)
            return self.answered(await answer)
        except asyncio.CancelledError:
            self.end(Transient("abandoned", f"{self.where}: the conversation was left in the middle of {verb}."))
            raise

    async def collect(self, names: Collection[str], verb: str, *arguments: bytes | Literal) -> tuple[Status, Sequence[Data]]:
        """``ask``, with the untagged responses of those names."""
        found: list[Data] = []
        memory = 0

        def listener(event: Event) -> None:
            nonlocal memory
            if type(event) is Data and event.name in names:
                memory += _memory_of(event.values)
                if memory > MOST_COLLECTED:
                    raise ProtocolError(f"its answer to {verb} would take more than {MOST_COLLECTED} bytes of memory")
                found.append(event)

        with self.listening(listener):
            return await self.ask(verb, *arguments), found

    def begin(self, verb: str, arguments: bytes) -> asyncio.Future[Status | None]:
        """Send a command of one line; its answer comes in the future: None when the connection ended instead.

        Several may be in flight, but none may be begun while an ``ask`` is sending literals.
        """
        if self.failure is not None:
            raise self.failure
        name = verb.split()[0]
        if self.state not in library.Commands[name].valid_states:
            raise library.Abort(f"{verb} is not allowed in state {self.state}")
        tag = self.new_tag().encode("ascii")
        answer: asyncio.Future[Status | None] = self._loop.create_future()
        if not self._pending:
            self._last_byte = self._loop.time()
            self._beside_bodies = 0
            self._begin_answer()
        self._pending[tag] = _Pending(verb, answer)
        self._keep_watch(self._timeout)
        self._write(b" ".join(filter(None, (tag, verb.encode("ascii"), arguments))))
        return answer

    async def idle_until(self, heard: asyncio.Future[None], seconds: float) -> Status:
        """IDLE (RFC 2177) until ``heard`` is done or so many seconds have passed; the tagged answer, which comes sooner where
        the server refuses, or ends it by itself. Being cancelled ends the connection."""
        answer = self.begin("IDLE", b"")
        try:
            if await self._may_continue(answer):
                self._begin_idling()
                await asyncio.wait((answer, heard), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    self._say_done()
            return self.answered(await answer)
        except asyncio.CancelledError:
            self.end(Transient("abandoned", f"{self.where}: the conversation was left while it idled."))
            raise
        finally:
            self._stop_idling()

    def _begin_idling(self) -> None:
        """The server may be silent from here on."""
        self._idling = True
        if self._wire is not None:
            tls.hold_little(self._wire)

    def _stop_idling(self) -> None:
        self._idling = False
        if self._wire is not None:
            tls.hold_as_usual(self._wire)

    def _say_done(self) -> None:
        """Have the server end IDLE; from here on its answer is due."""
        self._stop_idling()
        self._last_byte = self._loop.time()
        self._begin_answer()
        self._keep_watch(self._timeout)
        self._write(b"DONE")

    def answered(self, status: Status | None) -> Status:
        """The answer, or the reason why there is none, raised."""
        if status is not None:
            return status
        assert self.failure is not None
        raise self.failure

    async def execute(self, command: library.Command, scrub: str | None = None) -> library.Response:
        """The library's way of asking, for the verbs we inherit."""
        words = [command.prefix or "", *map(str, command.args)]
        status = await self.ask(command.name, " ".join(filter(None, words)).encode())
        return library.Response(status.condition, [status.text.encode()])

    async def capability(self) -> None:
        """Ask what the server can do; ``capabilities`` are upper case."""
        _, told = await self.collect(("CAPABILITY",), "CAPABILITY")
        words = [word for data in told for word in data.values if isinstance(word, bytes)]
        self.capabilities = {word.decode("latin-1").upper() for word in words}

    async def starttls(self, context: ssl.SSLContext, host: str) -> Status:
        """Ask for TLS. Where the answer is OK, the connection is encrypted from here on, and all that was said on it before is
        forgotten. A byte in the clear behind that answer ends the connection: somebody on the way put it there. Errors of the
        handshake come as they are."""
        status = await self.ask("STARTTLS")
        if self.failure is not None:
            raise self.failure
        if status.condition != "OK":
            return status
        assert self._wire is not None
        try:
            wire = await self._loop.start_tls(self._wire, self, context, server_hostname=host)
        except BaseException:
            self._wire.abort()
            self.closed.set()  # nobody tells us: the transport's protocol is no longer ours
            raise
        assert isinstance(wire, asyncio.Transport)
        self._wire = wire
        self.transport = wire  # type: ignore[assignment] # the library says None and then sets its own
        self._parser = Parser()
        self.capabilities = set()
        return status

    async def compress(self) -> Status:
        """Ask for compression. Where the answer is OK, both sides compress from here on (RFC 4978)."""
        return await self.ask("COMPRESS", b"DEFLATE")

    @property
    def encryption(self) -> ssl.SSLObject | None:
        """How the connection is encrypted; None when it is not."""
        spoken = self._wire.get_extra_info("ssl_object") if self._wire is not None else None
        return spoken if isinstance(spoken, ssl.SSLObject) else None

    @property
    def at_rest(self) -> bool:
        """Whether the connection is open and no answer is due."""
        return self._wire is not None and self.failure is None and not self._pending

    @property
    def connected(self) -> bool:
        """Whether there ever was a transport; ``closed`` is set when it has gone."""
        return self._wire is not None

    # --- being told ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        if self.failure is not None:
            transport.abort()
            return
        _notice_a_dead_peer(transport.get_extra_info("socket"), self._timeout)

    def data_received(self, d: bytes) -> None:
        if self.failure is not None:
            return
        with self._ending_at_nonsense():
            if self._deflate is None:
                self._read(d)
            else:
                self._deflate.put(d)
                self._inflate(self._deflate)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.closed.set()
        reason = f"was lost: {exc}" if exc else "was closed by the server"
        self.end(Transient("network", f"{self.where}: the connection {reason}."), exc)

    def end(self, error: HaulError, cause: BaseException | None = None) -> None:
        """End the connection for this reason, unless it has ended: whoever waits is told at once."""
        if self.failure is not None:
            return
        error.__cause__ = cause or error.__cause__
        self.failure = error
        if self._watch is not None:
            self._watch.cancel()
        for waiting in (self.greeting, *(pending.answer for pending in self._pending.values())):
            if not waiting.done():
                waiting.set_result(None)
        self._pending.clear()
        if self._wire is not None:
            self._wire.abort()

    def _read(self, data: bytes) -> None:
        """Take what the server said, in its own words."""
        in_the_clear = self._deflate is None
        self._last_byte = self._loop.time()
        self._beside_bodies += len(data)
        self._answer_bytes += len(data)
        for event in self._parser.feed(data):
            self._take(event)
            if self.failure is not None:
                return
            if in_the_clear and self._deflate is not None:
                self._deflate.put(data[len(data) - self._parser.unread :])
                self._parser = Parser()
                self._inflate(self._deflate)
                return
        self._check_amount()

    def _inflate(self, deflate: Deflate) -> None:
        """Read what was sent compressed, until whoever takes it needs a pause, or everything else has waited long enough."""
        for _ in range(PIECES_AT_ONCE):
            if self.failure is not None or self._awaited or not deflate.waiting:
                break
            self._read(deflate.take())
        if deflate.waiting and self._wire is not None:
            self._wire.pause_reading()
            self._resume()

    def _inflate_more(self, deflate: Deflate) -> None:
        self._inflating = None
        if self.failure is None and not self._awaited:
            with self._ending_at_nonsense():
                self._inflate(deflate)
            self._resume()

    def _resume(self) -> None:
        """Read on, unless there is a reason not to: first what has come and waits, then the wire."""
        if self.failure is not None or self._awaited or self._wire is None:
            return
        if self._deflate is None or not self._deflate.waiting:
            self._wire.resume_reading()
        elif self._inflating is None:
            self._inflating = self._loop.call_soon(self._inflate_more, self._deflate)

    @contextlib.contextmanager
    def _ending_at_nonsense(self) -> Iterator[None]:
        """What is wrong with what came ends the connection."""
        try:
            yield
        except ProtocolError as error:
            self._break_off(str(error), error)
        except HaulError as error:
            self.end(error)

    def _take(self, event: Event) -> None:
        if type(event) is Status:
            self._take_status(event)
        elif type(event) is Continuation:
            if self._go_ahead is not None and not self._go_ahead.done():
                self._go_ahead.set_result(None)
            self._tell(event)
        else:
            self._tell(event)

    def _take_status(self, status: Status) -> None:
        status = self.concealment.status(status)
        if status.tag != b"*":
            pending = self._pending.pop(status.tag, None)
            if pending is None:
                self._break_off(f"it answered {status.tag[:40]!r}, which is no command that was sent")
                return
            if pending.verb == "STARTTLS" and status.condition == "OK":
                self._expect_a_handshake()
            elif pending.verb == "COMPRESS" and status.condition == "OK":
                self._deflate = Deflate()
            self._beside_bodies = self._parser.unread
            self._begin_answer()
            if pending.verb != "IDLE":
                self.answered_at = self._loop.time()
            if not pending.answer.done():
                pending.answer.set_result(status)
        elif status.condition == "BYE":
            if not self._leaving():
                self.end(answers.farewell(self.where, status))
        elif not self.greeting.done() and status.condition in ("OK", "PREAUTH"):
            self.state = library.AUTH if status.condition == "PREAUTH" else library.NONAUTH
            self.greeting.set_result(status)
        else:
            self._tell(status)

    def _tell(self, event: Event) -> None:
        if not self.greeting.done():
            self._break_off("it did not begin with a greeting")
            return
        for listener in self._listeners:
            listener(event)

    def _expect_a_handshake(self) -> None:
        """Nothing is read in the clear from here on; what has come already was never the server's (CVE-2011-0411)."""
        assert self._wire is not None
        self._wire.pause_reading()
        if self._parser.unread:
            self._break_off("there were more bytes in the clear behind its answer to STARTTLS")

    def _leaving(self) -> bool:
        return any(pending.verb == "LOGOUT" for pending in self._pending.values())

    def _break_off(self, reason: str, cause: Exception | None = None) -> None:
        if self.concealment.is_strict:
            reason, cause = "what it said while a secret was on its way is not quoted", None
        elif (shown := self.concealment.text(reason)) != reason:
            reason, cause = shown, None
        self.end(Transient("protocol", f"{self.where} broke the IMAP protocol: {reason}."), cause)

    # --- sending ---------------------------------------------------------------------------------------------------

    def _write(self, line: bytes) -> None:
        assert self._wire is not None
        self._wire.write(line + b"\r\n" if self._deflate is None else self._deflate.deflated(line + b"\r\n"))

    async def _may_continue(self, answer: asyncio.Future[Status | None]) -> bool:
        """Wait for the server's ``+``; False when it answered the command instead, or the connection ended."""
        self._go_ahead = self._loop.create_future()
        waiting = (self._go_ahead, answer)
        said, _ = await asyncio.wait(waiting, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        if not said:
            late = f"{self.where} did not let {self._asked()} go on within {self._timeout:g} s."
            self.end(Transient("timeout", late))
        return not answer.done()

    # --- pace ------------------------------------------------------------------------------------------------------

    def pause_until_ready(self, writer: Writer) -> None:
        """Read nothing more until ``writer`` takes more, or is released."""
        assert self._wire is not None
        if id(writer) in self._awaited:
            return
        if not self._awaited:
            self._wire.pause_reading()
            self._paused_at = self._loop.time()
        self._awaited[id(writer)] = writer
        writer.when_ready(functools.partial(self.release, writer))

    def release(self, writer: Writer) -> None:
        """Wait for that writer no longer."""
        if self._awaited.pop(id(writer), None) is None or self._awaited:
            return
        self._last_byte = self._loop.time()
        self._answer_began += self._last_byte - self._paused_at
        self._resume()

    def expect_body(self, size: int) -> None:
        """So many bytes of what comes are a wanted body; or are none after all, when negative."""
        self._beside_bodies -= size

    def _check_amount(self) -> None:
        """End the connection when it says too much without coming to the end of an answer."""
        if self._beside_bodies > MOST_BESIDE_BODIES:
            owed = f" while it owed an answer to {self._asked()}" if self._pending else " unasked"
            self._break_off(f"it sent more than {MOST_BESIDE_BODIES} bytes{owed}, bodies not counted")

    def _asked(self) -> str:
        return ", ".join(sorted({pending.verb for pending in self._pending.values()}))

    def _keep_watch(self, seconds: float) -> None:
        if self._watch is None:
            self._watch = self._loop.call_later(seconds, self._check_progress)

    def _begin_answer(self) -> None:
        """From here on counts how long the next tagged answer takes."""
        self._answer_began = self._loop.time()
        self._answer_bytes = 0

    def _check_progress(self) -> None:
        """End the connection when no byte has come for too long, or too few. Our own pause is not the server's silence."""
        self._watch = None
        if not self._pending or self._idling:
            return
        if self._awaited:
            self._keep_watch(self._timeout)
            return
        now = self._loop.time()
        silence = now - self._last_byte
        taken = now - self._answer_began
        allowed = LONGEST_ANSWER + self._answer_bytes / SLOWEST
        if silence >= self._timeout:
            silent = f"{self.where} sent nothing for {self._timeout:g} s while it owed an answer to {self._asked()}."
            self.end(Transient("timeout", silent))
        elif taken >= allowed:
            pace = f"for {taken / 60:.0f} min at {self._answer_bytes / taken:.0f} bytes/s"
            self.end(Transient("timeout", f"{self.where} has been answering {self._asked()} {pace}, without an end."))
        else:
            self._keep_watch(min(self._timeout - silence, allowed - taken))


@dataclass(frozen=True)
class _Pending:
    """A command that waits for its tagged answer."""

    verb: str
    answer: asyncio.Future[Status | None]


def _memory_of(values: Sequence[Value]) -> int:
    """Bytes of memory that the values take, about."""
    return sum(
        MEMORY_OF_A_VALUE + (_memory_of(value) if isinstance(value, list) else len(value) if isinstance(value, bytes) else 0)
        for value in values
    )


def _notice_a_dead_peer(connection: Any, timeout: float) -> None:
    """Have the kernel probe an idle connection, and give up one whose data nobody acknowledges."""
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout * 1000)),
    ):
        connection.setsockopt(level, option, value)
