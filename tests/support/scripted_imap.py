"""An IMAP server that says exactly what a test wants, on a loopback port of its own.

Two ways to use it. A whole conversation in plain sight, for what happens before or beside a mailbox::

    async def play(client: Client) -> None:
        await client.send(b"* OK ready\\r\\n")
        command = await client.command(b"CAPABILITY")
        await client.send(b"* CAPABILITY IMAP4rev1\\r\\n", command.ok())
        await client.reset()

    async with ScriptedServer(play) as server:
        ...  # server.port

Or an honest server, in which single answers are replaced by lies, for all the rest::

    honest = Honest({b"INBOX": Mailbox({1: b"one", 2: b"two"})})

    @honest.instead_of("UID FETCH")
    async def leaves_out_two(client: Client, command: Command) -> None:
        await client.send(fetched(1, 1, b"one"), command.ok())

    async with ScriptedServer(honest) as server:
        ...

A lie may call ``honest.answer(client, command)`` for the truth, now and then; ``honest.be_honest()`` ends all lies.
``client.cutter`` decides how what is sent is cut into writes (``whole``, ``byte_by_byte``, ``at_random(seed)``). A script
that ends leaves the connection open until the client goes, or the server; ``client.close()`` sends FIN, ``client.reset()``
RST. ``server.source()`` is an account on the server, ``server.commands`` are all commands so far, without tags, and
``server.connections`` counts. An error in a script (an assertion, say) is raised when the server is left.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.header
import email.message
import email.policy
import random
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

from hauld.sources.imap import ImapOptions, ImapSource

Script = Callable[["Client"], Awaitable[None]]
Answer = Callable[["Client", "Command"], Awaitable[None]]
Cutter = Callable[[bytes], Iterator[bytes]]

PATIENCE = 20.0
"""Seconds until silence ends a connection, where a test is not about that."""


# --- cutting -------------------------------------------------------------------------------------------------------


def whole(data: bytes) -> Iterator[bytes]:
    """All in one write."""
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    """One write a byte."""
    for position in range(len(data)):
        yield data[position : position + 1]


def at_random(seed: int, longest: int = 50) -> Cutter:
    """Pieces of random length."""
    dice = random.Random(seed)

    def cut(data: bytes) -> Iterator[bytes]:
        position = 0
        while position < len(data):
            length = dice.randint(1, longest)
            yield data[position : position + length]
            position += length

    return cut


# --- the server ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """What a client sent: ``line`` is everything after the tag, literals put in place of their announcement."""

    tag: bytes
    line: bytes

    @property
    def verb(self) -> str:
        """``LOGIN``, or two words for ``UID FETCH`` and the like."""
        words = self.line.upper().split()
        return b" ".join(words[: 2 if words[0] == b"UID" else 1]).decode()

    @property
    def arguments(self) -> bytes:
        return self.line[len(self.verb) :].strip()

    def ok(self, text: bytes = b"done") -> bytes:
        return self.tag + b" OK " + text + b"\r\n"

    def no(self, text: bytes) -> bytes:
        return self.tag + b" NO " + text + b"\r\n"

    def bad(self, text: bytes) -> bytes:
        return self.tag + b" BAD " + text + b"\r\n"


class Client:
    """One connection, from the server's side."""

    def __init__(self, server: ScriptedServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.number = server.connections
        self.cutter: Cutter = whole
        self._reader = reader
        self._writer = writer

    async def send(self, *data: bytes) -> None:
        for piece in self.cutter(b"".join(data)):
            self._writer.write(piece)
            await self._writer.drain()

    async def command(self, *verbs: bytes) -> Command:
        """The next command; where verbs are given it must be one of these. Asks for literals as they are announced."""
        tag, _, line = (await self.line()).partition(b" ")
        while announced := re.search(rb"\{(\d+)\}$", line):
            await self.send(b"+ go on\r\n")
            literal = await self._reader.readexactly(int(announced[1]))
            line = line[: announced.start()] + literal + await self.line()
        command = Command(tag, line)
        self.server.commands.append(line)
        assert not verbs or command.verb.encode() in verbs, f"{line!r} came where {verbs} were due"
        return command

    async def line(self) -> bytes:
        """The next line, without its end; raises ``ConnectionResetError`` when the client has gone."""
        line = await self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError
        return line[:-2]

    async def start_tls(self, context: ssl.SSLContext, *last: bytes) -> None:
        """Say ``last`` in the clear, and speak TLS from here on."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]
        await self.send(*last)
        await self._writer.start_tls(context)

    async def gone(self) -> None:
        """Wait until the client has closed the connection, whatever it still says."""
        while await self._reader.read(65536):
            pass

    async def close(self) -> None:
        """FIN, in both directions."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def reset(self) -> None:
        """RST, after what was sent has gone out."""
        await self._writer.drain()
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class ScriptedServer:
    """Plays one script to every client, or script after script, the last one for all later clients."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.scripts = scripts
        self.commands: list[bytes] = []
        self.connections = 0
        self.secrets_given = 0
        self.port = 0
        self._tls = tls
        self._playing: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._playing:
            task.cancel()
        await asyncio.gather(*self._playing, return_exceptions=True)
        if self._errors and error is None:
            raise self._errors[0]

    def source(
        self, *, user: str = "alice", password: str = "secret", tokens: Sequence[str] = (), **options: Any
    ) -> ImapSource:
        """An account on this server; ``options`` as ``ImapOptions`` has them. Where there are ``tokens``, these are the
        secrets, one after the other."""
        unused = iter(tokens)

        async def secret() -> str:
            self.secrets_given += 1
            return next(unused) if tokens else password

        defaults = {"host": "127.0.0.1", "port": self.port, "tls": "implicit" if self._tls else "none", "timeout": PATIENCE}
        return ImapSource(ImapOptions(user=user, **{**defaults, **options}), secret)

    @property
    def playing(self) -> int:
        """How many connections are open."""
        return len(self._playing)

    def asked(self, verb: str) -> list[bytes]:
        """The commands so far that begin with the verb."""
        return [command for command in self.commands if command.upper().startswith(verb.encode())]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._playing.add(task)
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        client = Client(self, reader, writer)
        try:
            await script(client)
            await client.gone()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass  # the client went, or the test is over
        except Exception as error:
            self._errors.append(error)
        finally:
            self._playing.discard(task)
            writer.transport.abort()


# --- answers in parts ----------------------------------------------------------------------------------------------


def literal(data: bytes) -> bytes:
    return b"{%d}\r\n" % len(data) + data


def fetched(number: int, uid: int, body: bytes, size: int | None = None) -> bytes:
    """One FETCH response with a body, as most servers write it."""
    listed = len(body) if size is None else size
    return b"* %d FETCH (UID %d RFC822.SIZE %d BODY[] " % (number, uid, listed) + literal(body) + b")\r\n"


# --- the honest server ---------------------------------------------------------------------------------------------


@dataclass
class Mailbox:
    """Messages by UID. ``attributes`` are for LIST; what is missing in ``flags`` and ``dates`` has no flags and ``DATE``."""

    messages: dict[int, bytes] = field(default_factory=dict)
    uidvalidity: int = 1
    highestmodseq: int | None = 1
    attributes: bytes = rb"\HasNoChildren"
    flags: dict[int, bytes] = field(default_factory=dict)
    dates: dict[int, bytes] = field(default_factory=dict)

    def add(self, uid: int, body: bytes) -> None:
        """A new message, seen by whoever compares mod-sequences."""
        self.messages[uid] = body
        self.touch()

    def touch(self) -> None:
        if self.highestmodseq is not None:
            self.highestmodseq += 1

    @property
    def uids(self) -> list[int]:
        return sorted(self.messages)


class _View(NamedTuple):
    """What a client has been told of a mailbox."""

    uids: list[int]
    flags: dict[int, bytes]

    @classmethod
    def of(cls, mailbox: Mailbox) -> _View:
        return cls(mailbox.uids, dict(mailbox.flags))


DATE = b"17-Jul-1996 02:44:25 -0700"
SEPARATOR = b"/"


class Honest:
    """A server without faults, one answer at a time replaceable by a lie. Mailboxes by raw name; change them at will."""

    def __init__(
        self,
        mailboxes: dict[bytes, Mailbox] | None = None,
        *,
        user: bytes = b"alice",
        password: bytes = b"secret",
        capabilities: bytes = b"IMAP4rev1 AUTH=PLAIN SASL-IR CONDSTORE IDLE SPECIAL-USE LIST-EXTENDED",
        cutter: Cutter = whole,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.mailboxes = {b"INBOX": Mailbox()} if mailboxes is None else mailboxes
        self.user = user
        self.password = password
        self.capabilities = capabilities
        self.cutter = cutter
        self.tls = tls
        self.greeting = b"* OK honest server ready\r\n"
        self.report = b'{"status":"401","schemes":"bearer","scope":"mail"}'
        self.farewells: list[bytes] = []
        self._lies: dict[str, Answer] = {}
        self._open: dict[Client, Mailbox] = {}
        self._told: dict[Client, _View] = {}
        self._idling: set[Client] = set()

    def instead_of(self, verb: str) -> Callable[[Answer], Answer]:
        """Answer this verb with the decorated function from now on."""

        def replace(lie: Answer) -> Answer:
            self._lies[verb] = lie
            return lie

        return replace

    def be_honest(self) -> None:
        """No more lies."""
        self._lies.clear()

    async def __call__(self, client: Client) -> None:
        client.cutter = self.cutter
        await client.send(self.greeting)
        while True:
            command = await client.command()
            await self._lies.get(command.verb, self.answer)(client, command)

    async def answer(self, client: Client, command: Command) -> None:
        """The truth."""
        handler = {
            "CAPABILITY": self._capability,
            "STARTTLS": self._starttls,
            "LOGIN": self._login,
            "AUTHENTICATE": self._authenticate,
            "LIST": self._list,
            "EXAMINE": self._examine,
            "UID SEARCH": self._uid_search,
            "UID FETCH": self._uid_fetch,
            "NOOP": self._noop,
            "IDLE": self._idle,
            "LOGOUT": self._logout,
        }.get(command.verb)
        if handler is None:
            await client.send(command.bad(b"unknown command"))
        else:
            await handler(client, command)

    async def _capability(self, client: Client, command: Command) -> None:
        await client.send(b"* CAPABILITY " + self.capabilities + b"\r\n", command.ok())

    async def _noop(self, client: Client, command: Command) -> None:
        await client.send(self.news(client), command.ok())

    async def _idle(self, client: Client, command: Command) -> None:
        await client.send(b"+ idling\r\n", self.news(client))
        self._idling.add(client)
        try:
            assert await client.line() == b"DONE"
        finally:
            self._idling.discard(client)
        await client.send(command.ok())

    async def announce(self) -> None:
        """Tell those who idle what has changed in their mailboxes; the others hear of it when they ask."""
        for client in list(self._idling):
            await client.send(self.news(client))

    def news(self, client: Client) -> bytes:
        """What has changed in the client's mailbox since it was last told."""
        if (mailbox := self._open.get(client)) is None:
            return b""
        before, now = self._told[client], _View.of(mailbox)
        self._told[client] = now
        lines = [
            b"* %d EXPUNGE\r\n" % number
            for number, uid in reversed(list(enumerate(before.uids, 1)))
            if uid not in mailbox.messages
        ]
        if any(uid not in before.uids for uid in now.uids):
            lines.append(b"* %d EXISTS\r\n" % len(now.uids))
        for number, uid in enumerate(now.uids, 1):
            if uid in before.uids and now.flags.get(uid) != before.flags.get(uid):
                lines.append(b"* %d FETCH (FLAGS (%s))\r\n" % (number, now.flags.get(uid, b"")))
        return b"".join(lines)

    async def _logout(self, client: Client, command: Command) -> None:
        await client.send(b"* BYE until then\r\n", command.ok())
        await client.close()

    async def _login(self, client: Client, command: Command) -> None:
        # As quoted strings, or as literals where they cannot be quoted.
        welcome = command.arguments in (
            quoted(self.user) + b" " + quoted(self.password),
            quoted(self.user) + b" " + self.password,
            self.user + b" " + self.password,
        )
        await client.send(command.ok() if welcome else command.no(b"[AUTHENTICATIONFAILED] wrong password"))

    async def _starttls(self, client: Client, command: Command) -> None:
        if self.tls is None:
            await client.send(command.no(b"there is no TLS here"))
        else:
            await client.start_tls(self.tls, command.ok(b"begin"))

    async def _authenticate(self, client: Client, command: Command) -> None:
        mechanism, _, answer = command.arguments.partition(b" ")
        if not answer:
            await client.send(b"+ \r\n")
            answer = await client.line()
        if mechanism != b"PLAIN":
            await self._check_token(client, command, base64.b64decode(answer))
            return
        welcome = base64.b64decode(answer) == b"\0" + self.user + b"\0" + self.password
        await client.send(command.ok() if welcome else command.no(b"[AUTHENTICATIONFAILED] wrong password"))

    async def _check_token(self, client: Client, command: Command, message: bytes) -> None:
        """The password is the token here. A refusal is reported, and the report has to be answered (RFC 7628, 3.2.3)."""
        if message.endswith(b"\1auth=Bearer " + self.password + b"\1\1"):
            await client.send(command.ok())
            return
        await client.send(b"+ " + base64.b64encode(self.report) + b"\r\n")
        self.farewells.append(await client.line())
        await client.send(command.no(b"[AUTHENTICATIONFAILED] invalid credentials"))

    async def _list(self, client: Client, command: Command) -> None:
        lines = [
            b"* LIST (%s) %s %s\r\n" % (mailbox.attributes, quoted(SEPARATOR), astring(name))
            for name, mailbox in self.mailboxes.items()
        ]
        await client.send(*lines, command.ok())

    async def _examine(self, client: Client, command: Command) -> None:
        mailbox = self.open(client, command)
        if mailbox is None:
            await client.send(command.no(b"[NONEXISTENT] no such mailbox"))
            return
        lines = [
            b"* %d EXISTS\r\n" % len(mailbox.messages),
            b"* OK [UIDVALIDITY %d] UIDs valid\r\n" % mailbox.uidvalidity,
            b"* OK [UIDNEXT %d] next\r\n" % (max(mailbox.uids, default=0) + 1),
        ]
        if mailbox.highestmodseq is not None:
            lines.append(b"* OK [HIGHESTMODSEQ %d] highest\r\n" % mailbox.highestmodseq)
        await client.send(*lines, command.ok(b"[READ-ONLY] done"))

    def open(self, client: Client, command: Command) -> Mailbox | None:
        """The mailbox that an EXAMINE names, open from now on; for lies that say something else of it."""
        self._open.pop(client, None)
        if mailbox := self.mailboxes.get(unquoted(command.arguments.removesuffix(b" (CONDSTORE)"))):
            self._open[client] = mailbox
            self._told[client] = _View.of(mailbox)
        return mailbox

    async def _uid_search(self, client: Client, command: Command) -> None:
        mailbox = self._open[client]
        if command.arguments.startswith(b"UID "):
            uids = mailbox.uids
            fitting = [uid for uid in uids if is_in(uid, command.arguments.removeprefix(b"UID "), uids)]
        else:
            fitting = [uid for uid in mailbox.uids if fits(mailbox, uid, command.arguments)]
        found = b"".join(b" %d" % uid for uid in fitting)
        await client.send(b"* SEARCH" + found + b"\r\n", command.ok())

    async def _uid_fetch(self, client: Client, command: Command) -> None:
        wanted, _, items = command.arguments.partition(b" ")
        mailbox = self._open[client]
        uids = mailbox.uids
        for number, uid in enumerate(uids, 1):
            if is_in(uid, wanted, uids):
                await client.send(self.asked_of(mailbox, number, uid, items))
        await client.send(command.ok())

    def asked_of(self, mailbox: Mailbox, number: int, uid: int, items: bytes) -> bytes:
        """UID, details, the beginning or the body of one message."""
        if items == b"(UID)":
            return b"* %d FETCH (UID %d)\r\n" % (number, uid)
        if b"FLAGS" in items:
            return self.details(mailbox, number, uid)
        if part := re.search(rb"BODY\.PEEK\[\]<(\d+)\.(\d+)>", items):
            return self.part(mailbox, number, uid, int(part[1]), int(part[2]))
        return self.body(mailbox, number, uid)

    def part(self, mailbox: Mailbox, number: int, uid: int, start: int, length: int) -> bytes:
        """Some bytes of one message."""
        body = mailbox.messages[uid]
        head = b"* %d FETCH (UID %d RFC822.SIZE %d BODY[]<%d> " % (number, uid, len(body), start)
        return head + literal(body[start : start + length]) + b")\r\n"

    def details(self, mailbox: Mailbox, number: int, uid: int) -> bytes:
        """What a listing is told of one message."""
        return b'* %d FETCH (UID %d FLAGS (%s) INTERNALDATE "%s" RFC822.SIZE %d)\r\n' % (
            number,
            uid,
            mailbox.flags.get(uid, b""),
            mailbox.dates.get(uid, DATE),
            len(mailbox.messages[uid]),
        )

    def body(self, mailbox: Mailbox, number: int, uid: int) -> bytes:
        """One message with its body."""
        return fetched(number, uid, mailbox.messages[uid])


def quoted(text: bytes) -> bytes:
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def unquoted(text: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", text[1:-1]) if text[:1] == b'"' else text


def astring(text: bytes) -> bytes:
    return quoted(text) if re.fullmatch(rb"[ -~]*", text) else literal(text)


def fits(mailbox: Mailbox, uid: int, terms: bytes) -> bool:
    """Whether a message has what UNSEEN, FROM, TO and SUBJECT ask for; encoded words in headers are read."""
    message = email.message_from_bytes(mailbox.messages[uid], policy=email.policy.compat32)
    texts = re.findall(rb'(FROM|TO|SUBJECT) ((?:"(?:[^"\\]|\\.)*")|[^ ]+)', terms.removeprefix(b"CHARSET UTF-8 "))
    if b"UNSEEN" in terms and rb"\Seen" in mailbox.flags.get(uid, b""):
        return False
    return all(unquoted(text).decode().lower() in header(message, name.decode()).lower() for name, text in texts)


def header(message: email.message.Message, name: str) -> str:
    return str(email.header.make_header(email.header.decode_header(str(message.get(name, "")))))


def is_in(uid: int, uid_set: bytes, uids: Sequence[int] = ()) -> bool:
    """Whether a set like ``1,5:7`` names the UID, one of ``uids``, which ascend; ``*`` stands for the last of these, so that
    ``n:*`` names it whatever n is (RFC 3501, 6.4.8)."""
    for run in uid_set.split(b","):
        first, _, last = run.partition(b":")
        if last == b"*" and (int(first) <= uid or uid in uids[-1:]):
            return True
        if last != b"*" and int(first) <= uid <= int(last or first):
            return True
    return False
