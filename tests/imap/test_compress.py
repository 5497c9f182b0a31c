"""COMPRESS=DEFLATE: the same conversation in fewer bytes, and no way to make much out of few."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from collections.abc import Callable, Iterable

import pytest

from contracts.source import MemorySink, MemoryWriter, body_of
from hauld.errors import Transient
from hauld.model import RemoteFolder, Want
from hauld.sources.base import Session
from hauld.sources.imap import ImapOptions, ImapSource, protocol
from hauld.sources.imap.deflate import PIECE
from hauld.sources.imap.grammar import BodyChunk, Event
from hauld.sources.imap.protocol import PIECES_AT_ONCE, Connection
from support.dovecot import Dovecot, User
from support.messages import messages
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

INBOX = RemoteFolder(b"INBOX", ("INBOX",))
OFFERED = b"IMAP4rev1 AUTH=PLAIN SASL-IR CONDSTORE COMPRESS=DEFLATE"
BODIES = {uid: b"Subject: %d\r\n\r\n" % uid + b"the same again and again\r\n" * 500 for uid in range(1, 6)}


class Inflated:
    """What a client sends compressed, for the server to read."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._stream = zlib.decompressobj(-15)
        self._plain = b""
        self.received = 0

    async def readline(self) -> bytes:
        while b"\n" not in self._plain and (data := await self._reader.read(65536)):
            self.received += len(data)
            self._plain += self._stream.decompress(data)
        line, newline, self._plain = self._plain.partition(b"\n")
        return line + newline

    async def read(self, size: int) -> bytes:
        return await self._reader.read(size)


def deflated(data: bytes, *, whole: bool = False) -> bytes:
    """A stream of its own."""
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH if whole else zlib.Z_SYNC_FLUSH)


def deflating(cut: Callable[[bytes], Iterable[bytes]]) -> Callable[[bytes], Iterable[bytes]]:
    """What a server sends, compressed in one stream and then cut."""
    stream = zlib.compressobj(wbits=-15)
    return lambda data: cut(stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))


def compressing(*behind: bytes, cut: Callable[[bytes], Iterable[bytes]] = lambda data: [data]) -> Honest:
    """An honest server that compresses when it is asked to; ``behind`` is compressed and comes in one with the answer."""
    honest = Honest({b"INBOX": Mailbox(BODIES)}, capabilities=OFFERED)

    @honest.instead_of("COMPRESS")
    async def compresses(client: Client, command: Command) -> None:
        assert command.arguments == b"DEFLATE"
        cutter = deflating(cut)
        await client.send(b"".join([command.ok(), *(piece for said in behind for piece in cutter(said))]))
        client.cutter = cutter
        client._reader = Inflated(client._reader)  # type: ignore[assignment]

    return honest


async def bodies(session: Session, folder: RemoteFolder = INBOX) -> list[bytes]:
    """Everything, listed and fetched."""
    pages = [page async for page in session.list(folder, None)]
    assert pages[-1].whole
    wants = [Want(item.key, item.size) for page in pages for item in page.items]
    outcomes = [each async for some in session.fetch(folder, pages[0].epoch, wants, MemorySink()) for each in some]
    return sorted(map(body_of, outcomes))


# --- the same conversation ---


@pytest.mark.parametrize("cut", [lambda data: [data], lambda data: [data[i : i + 1] for i in range(len(data))]])
async def test_what_came_compressed_is_what_was_sent_however_it_is_cut(cut):
    async with ScriptedServer(compressing(cut=cut)) as server, server.source(compress=True).session() as session:
        assert await bodies(session) == sorted(BODIES.values())
        assert server.commands[1:5] == [
            b"AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==",
            b"CAPABILITY",
            b"COMPRESS DEFLATE",
            b'EXAMINE "INBOX" (CONDSTORE)',
        ]


async def test_what_comes_at_once_behind_the_answer_is_compressed_already():
    honest = compressing(b"* 7 EXISTS\r\n* OK ", b"still here\r\n")
    async with ScriptedServer(honest) as server, server.source(compress=True).session() as session:
        assert await bodies(session) == sorted(BODIES.values())


@pytest.mark.parametrize(("compress", "offered"), [(False, True), (True, False)])
async def test_nothing_is_compressed_unless_both_sides_want_it(compress, offered):
    honest = compressing()
    honest.capabilities = OFFERED if offered else OFFERED.removesuffix(b" COMPRESS=DEFLATE")
    async with ScriptedServer(honest) as server, server.source(compress=compress).session() as session:
        assert await bodies(session) == sorted(BODIES.values())
        assert not server.asked("COMPRESS")


@pytest.mark.parametrize("answer", [Command.no, Command.bad])
async def test_P41_a_server_that_offers_compression_and_refuses_it_is_spoken_to_without(answer):
    honest = compressing()

    @honest.instead_of("COMPRESS")
    async def refuses(client: Client, command: Command) -> None:
        await client.send(answer(command, b"[COMPRESSIONACTIVE] DEFLATE active via TLS"))

    async with ScriptedServer(honest) as server, server.source(compress=True).session() as session:
        assert await bodies(session) == sorted(BODIES.values())


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_over_tls_a_real_server_gives_every_byte_compressed(dovecot: Dovecot, mail_user: User, tls: str):
    zeros = b"Subject: zeros\r\n\r\n" + b"0" * 3_000_000 + b"\r\n"
    sent = [*messages(40, size=3000), *messages(1, size=2_000_000, seed=7), zeros]
    dovecot.fill(mail_user, "INBOX", sent)

    async def secret() -> str:
        return mail_user.password

    port = dovecot.tls_port if tls == "implicit" else dovecot.port
    options = ImapOptions("localhost", mail_user.name, port, tls=tls, ca_file=dovecot.certificate, compress=True)
    async with ImapSource(options, secret).session() as session:
        assert session._connection._deflate is not None  # type: ignore[attr-defined]
        assert await bodies(session) == sorted(sent)


# --- what no honest server sends ---


BROKEN = {
    "garbage": (b"\xff\xff\xff\xffthis is no stream", "not compressed as it promised"),
    "in the clear": (b"* 1 EXISTS\r\nA4 OK done\r\n", "not compressed as it promised"),
    "with an end": (deflated(b"* 1 EXISTS\r\n", whole=True) + deflated(b"* 2 EXISTS\r\n"), "ended the compression and went on"),
    "a line without an end": (deflated(b"* " + b"A" * 50_000_000), "a line is longer than"),
    "lines without an end": (
        deflated((b"* OK " + b"A" * 1000 + b"\r\n") * 4_000),
        "more than 3000000 bytes while it owed an answer to EXAMINE",
    ),
}


@pytest.mark.parametrize(("said", "reason"), BROKEN.values(), ids=BROKEN.keys())
async def test_P41_a_stream_that_is_broken_or_never_ends_ends_the_connection_and_takes_no_memory(said, reason, monkeypatch):
    monkeypatch.setattr(protocol, "MOST_BESIDE_BODIES", 3_000_000)
    honest = compressing()

    @honest.instead_of("EXAMINE")
    async def breaks(client: Client, command: Command) -> None:
        client.cutter = lambda data: [data]
        await client.send(said)

    async with ScriptedServer(honest) as server, server.source(compress=True).session() as session:
        tracemalloc.start()
        with pytest.raises(Transient, match=reason) as error:
            await bodies(session)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert error.value.kind == "protocol"
        assert not session.alive
        assert peak < 8_000_000


async def test_N2_a_stream_that_is_cut_off_is_a_connection_that_was_lost():
    honest = compressing()

    @honest.instead_of("EXAMINE")
    async def leaves(client: Client, command: Command) -> None:
        client.cutter = lambda data: [data]
        await client.send(deflated(b"* 5 EXISTS\r\n" * 100)[:-7])
        await client.close()

    async with ScriptedServer(honest) as server, server.source(compress=True).session() as session:
        with pytest.raises(Transient, match="closed by the server") as error:
            await bodies(session)
        assert error.value.kind == "network"


# --- much out of few ---


class Wire(asyncio.Transport):
    """Remembers whether it is being read."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self

    def setsockopt(self, *_: int) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        pass


class Told:
    """How many bytes of a body were told; after each piece a pause, where one is wanted."""

    def __init__(self, connection: Connection, writer: MemoryWriter | None = None) -> None:
        self.bytes = 0
        self._connection = connection
        self._writer = writer

    def __call__(self, event: Event) -> None:
        if type(event) is BodyChunk:
            self.bytes += len(event.data)
            if self._writer is not None:
                self._connection.pause_until_ready(self._writer)


async def compressed_line() -> tuple[Connection, Wire]:
    """A signed-in connection on which both sides compress."""
    wire = Wire()
    connection = Connection(asyncio.get_running_loop(), "here", 60.0)
    connection.connection_made(wire)
    connection.data_received(b"* PREAUTH ready\r\n")
    compression = asyncio.ensure_future(connection.compress())
    await asyncio.sleep(0)
    (tag,) = connection._pending
    connection.data_received(tag + b" OK go on\r\n")
    assert (await compression).condition == "OK"
    connection.state = "SELECTED"
    connection.begin("UID FETCH", b"1 (BODY.PEEK[])")
    return connection, wire


SIZE = 20_000_000
BODY = deflated(b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % SIZE + bytes(SIZE))


async def test_while_reading_is_paused_nothing_more_is_inflated_and_nothing_more_is_read():
    connection, wire = await compressed_line()
    writer = MemoryWriter(MemorySink(stuck=True), "1.1", SIZE)
    told = Told(connection, writer)
    with connection.listening(told):
        connection.data_received(BODY)
        for seen in range(1, 4):
            assert 0 < told.bytes <= seen * PIECE
            assert wire.paused
            connection.release(writer)
            await asyncio.sleep(0)
            assert told.bytes > (seen - 1) * PIECE
    assert len(BODY) < SIZE // 500


async def test_what_becomes_much_gives_everything_else_its_turn():
    connection, wire = await compressed_line()
    connection.expect_body(SIZE)
    told = Told(connection)
    turns = 0
    with connection.listening(told):
        connection.data_received(BODY)
        while told.bytes < SIZE:
            assert wire.paused
            assert told.bytes <= (turns + 1) * PIECES_AT_ONCE * PIECE
            await asyncio.sleep(0)
            turns += 1
        await asyncio.sleep(0)
    assert not wire.paused
    assert connection.failure is None
    assert turns >= SIZE // (PIECES_AT_ONCE * PIECE)
