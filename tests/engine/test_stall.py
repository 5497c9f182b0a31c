"""What goes on without getting on is ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from hauld.clock import SystemClock
from hauld.engine.account import Account
from hauld.engine.stall import ImpatientSession, Watch
from hauld.errors import Transient
from hauld.model import Body, Buffer, Fetched, FolderKind, Page, RemoteFolder, Want
from support.engine import running, settings
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer

PATIENCE = 0.2
INBOX = RemoteFolder(b"INBOX", ("INBOX",), FolderKind.INBOX)


class Kept:
    size = 0

    def discard(self) -> None: ...


class Writer:
    """Takes everything; where it is ``full``, it is ready again when the test says so."""

    def __init__(self, full: bool) -> None:
        self.full = full
        self.resume: Callable[[], None] = lambda: None

    def write(self, data: Buffer) -> bool:
        return not self.full

    def when_ready(self, resume: Callable[[], None]) -> None:
        self.resume = resume

    def finish(self) -> Body:
        return Kept()

    def discard(self) -> None: ...


class Sink:
    def __init__(self, full: bool = False) -> None:
        self.writer = Writer(full)

    def open(self, key: str, size: int) -> Writer:
        return self.writer

    async def resume(self, key: str, size: int) -> None:
        return None


class Slow:
    """A session that gives a body in so many pieces, one each step of patience; for None it never gives anything."""

    greeting, capabilities, alive = "hello", (), True

    def __init__(self, pieces: int | None, step: float = PATIENCE / 2) -> None:
        self.pieces = pieces
        self.step = step
        self.closed = False

    async def fetch(self, folder: object, epoch: str, wants: Sequence[Want], sink: Sink) -> AsyncGenerator[list[Fetched], None]:
        try:
            if self.pieces is None:
                await asyncio.Event().wait()
            writer = sink.open("1", 1)
            for _ in range(self.pieces or 0):
                if not writer.write(b"x"):
                    ready = asyncio.Event()
                    writer.when_ready(ready.set)
                    await ready.wait()
                await asyncio.sleep(self.step)
            yield [Fetched("1", writer.finish())]
        finally:
            self.closed = True

    async def list(self, folder: object, since: bytes | None) -> AsyncGenerator[Page, None]:
        await asyncio.Event().wait()
        yield Page("1", [])


async def fetched(slow: Slow, sink: Sink) -> int:
    session = ImpatientSession(slow, PATIENCE)  # type: ignore[arg-type]
    async with aclosing(session.fetch(INBOX, "1", [Want("1")], sink)) as answers:
        return sum([len(outcomes) async for outcomes in answers])


async def test_a_fetch_that_does_not_get_on_is_ended_and_says_so() -> None:
    slow = Slow(None)
    with pytest.raises(Transient, match="a fetch of 1 items of 'INBOX' did not get on") as stalled:
        await fetched(slow, Sink())
    assert (stalled.value.kind, slow.closed) == ("stalled", True)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_listing_that_does_not_get_on_is_ended_and_says_so() -> None:
    session = ImpatientSession(Slow(None), PATIENCE)  # type: ignore[arg-type]
    with pytest.raises(Transient, match="the listing of 'INBOX'"):
        async with aclosing(session.list(INBOX, None)) as pages:
            await anext(pages)


async def test_a_body_that_comes_a_byte_at_a_time_gets_on() -> None:
    assert await fetched(Slow(6), Sink()) == 1  # three times the patience


async def test_a_wait_for_our_own_disk_is_nobodys_stall() -> None:
    sink = Sink(full=True)
    fetching = asyncio.ensure_future(fetched(Slow(1, step=0.0), sink))
    done, _ = await asyncio.wait((fetching,), timeout=3 * PATIENCE)
    assert not done
    sink.writer.resume()
    assert await fetching == 1


async def test_the_time_that_we_take_between_two_outcomes_does_not_count() -> None:
    async def steps() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(PATIENCE / 4)
        yield 2

    seen = []
    async with aclosing(Watch("it", PATIENCE).over(steps())) as watched:
        async for step in watched:
            seen.append(step)
            await asyncio.sleep(2 * PATIENCE)
    assert seen == [1, 2]


async def test_who_is_cancelled_while_waiting_is_cancelled() -> None:
    fetching = asyncio.ensure_future(fetched(Slow(None), Sink()))
    await asyncio.wait((fetching,), timeout=PATIENCE / 10)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching


async def test_a_server_that_chats_instead_of_answering_loses_the_connection_and_the_job_says_so(tmp_path: Path) -> None:
    honest = Honest({b"INBOX": Mailbox({uid: b"Subject: %d\r\n\r\n" % uid for uid in range(1, 6)})})

    @honest.instead_of("UID FETCH")
    async def chats(client: Client, command: Command) -> None:
        if b"BODY" not in command.arguments:
            await Honest.answer(honest, client, command)
            return
        while True:
            await client.send(b"* OK still here\r\n")
            await asyncio.sleep(PATIENCE / 4)

    async with ScriptedServer(honest) as server, running(tmp_path, {}) as engine:
        talkative = replace(settings("a", connections=1, interval=3600.0), patience=PATIENCE)
        number = await engine.state.account(talkative.identity, "a", "imap")
        await engine.supervisor.add(Account(talkative, number, server.source(), SystemClock()))
        job = await engine.create(live=False)
        waiting = await engine.until(job.id, lambda seen: seen.phase == "waiting" and seen.error is not None)
        assert waiting.error is not None
        assert (waiting.error.kind, "did not get on" in waiting.error.message) == ("stalled", True)
        honest.be_honest()
        assert (await engine.ended(job.id)).progress.downloaded_items == 5
