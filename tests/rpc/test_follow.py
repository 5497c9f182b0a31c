"""Following events through the door, over a real ledger: from where, in which order, and what followers cost each other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from haulapi.frames import MAX_LINE
from hauld.clock import SystemClock
from hauld.engine.events import PAGE, EventLog
from hauld.errors import Transient
from hauld.model import Event, Job, JobStatus, Strategy, Trouble
from hauld.rpc.server import Limits, Server, serve
from hauld.state.sqlite import SqliteState
from support.door import Answers

PATIENCE = 20.0


class Ledger(SqliteState):
    """The ledger, with the reading of events counted, and troubled when the test says so."""

    pages_read = 0
    trouble: Exception | None = None

    async def events(self, after: int, limit: int = 1000, job: str | None = None) -> Sequence[Event]:
        self.pages_read += 1
        if self.trouble is not None:
            raise self.trouble
        return await super().events(after, limit, job)

    async def last(self) -> int:
        return (await self.event_span())[1]


class Told:
    """A ledger with two jobs, and what makes it tell."""

    def __init__(self, ledger: Ledger, jobs: Sequence[Job], path: Path) -> None:
        self.ledger = ledger
        self.jobs = jobs
        self.path = path
        self.answers = Answers()

    async def tell(self, times: int, *, job: int = 0, words: str = "as asked") -> None:
        """So many events of a job that is paused and started in turn."""
        number = self.jobs[job].number
        for _ in range(times):
            paused = (await self.ledger.job(self.jobs[job].id)).status is JobStatus.PAUSED
            await self.ledger.move_job(
                number, JobStatus.PENDING if paused else JobStatus.PAUSED, error=None if paused else Trouble("test", words)
            )

    async def tell_much(self, size: int) -> None:
        """Events of that many bytes in all, and more."""
        while size > 0:
            await self.tell(2, words="x" * 200_000)
            size -= 200_000

    def open(self, **limits: Any) -> AbstractAsyncContextManager[Server]:
        clock = SystemClock()
        return serve(self.path, self.answers, EventLog(self.ledger, clock), limits=Limits(**limits), clock=clock)


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    ledger = Ledger(tmp_path / "haul.db", SystemClock())
    async with opened(ledger):
        account = await ledger.account("test:example.org:ann", "ann", "test")
        jobs = [
            (
                await ledger.create_job(
                    account, Strategy(), live=True, priority=2, requester=None, start=True, idempotency_key=None
                )
            )[0]
            for _ in range(2)
        ]
        yield Told(ledger, jobs, tmp_path / "haul.sock")


@asynccontextmanager
async def opened(ledger: Ledger) -> AsyncIterator[None]:
    await ledger.start()
    try:
        yield
    finally:
        await ledger.close()


class Guest:
    """A client that follows: it remembers the last number it saw."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    def write(self, method: str, id: Any = 1, **params: Any) -> None:
        self.writer.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": id}).encode() + b"\n")

    async def ask(self, method: str, **params: Any) -> Any:
        """The reply, whatever events come before it."""
        self.write(method, **params)
        while "id" not in (line := await self.read()):
            assert line["method"] == "event"
        return line

    async def follow(self, since: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        """From where it follows: the first line of all that come."""
        self.write("events.follow", since=since, **params)
        line: dict[str, Any] = await self.read()
        return line["result"]

    async def event(self) -> Any:
        line = await self.read()
        assert line["method"] == "event", line
        assert "id" not in line
        return line["params"]

    async def numbers(self, count: int) -> list[int]:
        return [(await self.event())["number"] for _ in range(count)]

    def stop_reading(self) -> None:
        self.reader._transport.pause_reading()  # type: ignore[attr-defined]

    def go_on_reading(self) -> None:
        self.reader._transport.resume_reading()  # type: ignore[attr-defined]


@asynccontextmanager
async def guest(told: Told) -> AsyncIterator[Guest]:
    reader, writer = await asyncio.open_unix_connection(told.path, limit=MAX_LINE)
    try:
        yield Guest(reader, writer)
    finally:
        writer.transport.abort()


async def emptied(server: Server) -> None:
    async with asyncio.timeout(PATIENCE):
        while server.clients:
            await asyncio.sleep(0)


# --- from where ----------------------------------------------------------------------------------------------------


async def test_a_follower_is_told_where_it_begins_and_then_everything_that_comes_after(told: Told) -> None:
    await told.tell(3)
    async with told.open(), guest(told) as client:
        place = await client.follow()
        assert place == {"stream": await told.ledger.stream(), "number": await told.ledger.last()}
        await told.tell(3)
        assert await client.numbers(3) == [place["number"] + n for n in (1, 2, 3)]


async def test_an_event_comes_as_it_is_listed(told: Told) -> None:
    async with told.open(), guest(told) as client:
        await client.follow()
        await told.tell(1)
        event = await client.event()
        assert event["kind"] == "job.status"
        assert event["job"] == told.jobs[0].id
        assert event["time"].endswith("Z")
        listed = (await client.ask("events.list", limit=1000))["result"]
        assert listed["events"][-1] == event
        assert listed["last"] == event["number"]


async def test_what_was_told_since_a_number_comes_first_and_the_reply_before_it(told: Told) -> None:
    await told.tell(5)
    async with told.open(), guest(told) as client:
        since = {"stream": await told.ledger.stream(), "number": 2}
        assert await client.follow(since) == since
        last = await told.ledger.last()
        assert await client.numbers(last - 2) == list(range(3, last + 1))


async def test_the_reply_comes_first_in_a_batch_too(told: Told) -> None:
    await told.tell(3)
    async with told.open(), guest(told) as client:
        since = {"stream": await told.ledger.stream(), "number": 0}
        batch = [
            {"jsonrpc": "2.0", "method": "events.follow", "params": {"since": since}, "id": 1},
            {"jsonrpc": "2.0", "method": "jobs.list", "id": 2},
        ]
        reached, opened = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            reached.set()
            await opened.wait()

        told.answers.before_answer = lambda _method: hold()
        client.writer.write(json.dumps(batch).encode() + b"\n")
        await reached.wait()
        for _ in range(20):
            await told.ledger.event_span()  # the follower could have read by then
        assert told.ledger.pages_read == 0
        opened.set()
        assert [each["id"] for each in await client.read()] == [1, 2]
        assert (await client.event())["number"] == 1


async def test_more_than_one_page_comes_in_order_each_once(told: Told) -> None:
    await told.tell(PAGE + 20)
    async with told.open(), guest(told) as client:
        await client.follow({"stream": await told.ledger.stream(), "number": 0})
        last = await told.ledger.last()
        assert await client.numbers(last) == list(range(1, last + 1))


async def test_more_than_one_page_of_a_jobs_events_comes_whole(told: Told) -> None:
    await told.tell(PAGE + 20, job=1)
    async with told.open(), guest(told) as client:
        await client.follow({"stream": await told.ledger.stream(), "number": 0}, job=told.jobs[1].id)
        last = await told.ledger.last()
        assert await client.numbers(PAGE + 21) == list(range(last - PAGE - 20, last + 1))  # its creation is the first


async def test_only_one_jobs_events_are_followed_where_it_is_named(told: Told) -> None:
    async with told.open(), guest(told) as client:
        await client.follow(job=told.jobs[1].id[:9])
        await told.tell(3, job=0)
        await told.tell(2, job=1)
        await told.tell(1, job=0)
        await told.tell(1, job=1)
        seen = [await client.event() for _ in range(3)]
        assert {event["job"] for event in seen} == {told.jobs[1].id}
        numbers = [event["number"] for event in seen]
        assert numbers == sorted(set(numbers))


async def test_a_job_that_does_not_exist_cannot_be_followed(told: Told) -> None:
    async with told.open(), guest(told) as client:
        assert (await client.ask("events.follow", job="nope"))["error"]["data"]["kind"] == "not_found"


@pytest.mark.parametrize("method", ["events.follow", "events.list"])
async def test_C5_a_place_of_another_stream_is_gone_and_the_hint_says_where_the_stream_is(told: Told, method: str) -> None:
    async with told.open(), guest(told) as client:
        error = (await client.ask(method, since={"stream": "another", "number": 1}))["error"]
        assert (error["code"], error["data"]["kind"]) == (-32010, "events_gone")
        assert await told.ledger.stream() in error["data"]["hint"]
        assert str(await told.ledger.last()) in error["data"]["hint"]


async def test_C5_a_place_that_was_forgotten_is_gone_and_the_next_one_is_not(told: Told) -> None:
    await told.tell(5)
    await told.ledger.prune_events(2**50, 3)
    oldest, _ = await told.ledger.event_span()
    stream = await told.ledger.stream()
    async with told.open(), guest(told) as client:
        error = (await client.ask("events.follow", since={"stream": stream, "number": oldest - 2}))["error"]
        assert error["data"]["kind"] == "events_gone"
        await client.follow({"stream": stream, "number": oldest - 1})
        assert await client.numbers(3) == [oldest, oldest + 1, oldest + 2]


async def test_a_place_in_a_future_that_a_restored_ledger_never_had_is_gone(told: Told) -> None:
    async with told.open(), guest(told) as client:
        error = (await client.ask("events.follow", since={"stream": await told.ledger.stream(), "number": 10_000}))["error"]
        assert error["data"]["kind"] == "events_gone"


# --- how it ends ---------------------------------------------------------------------------------------------------


async def test_after_unfollow_nothing_comes(told: Told) -> None:
    async with told.open(), guest(told) as client:
        await client.follow()
        await told.tell(1)
        await client.event()
        assert (await client.ask("events.unfollow"))["result"] == {}
        await told.tell(3)
        client.write("jobs.list", id="next")
        assert (await client.read())["id"] == "next"


async def test_unfollow_without_following_is_answered(told: Told) -> None:
    async with told.open(), guest(told) as client:
        assert (await client.ask("events.unfollow"))["result"] == {}


async def test_a_second_follow_replaces_the_first(told: Told) -> None:
    async with told.open(), guest(told) as client:
        await client.follow()
        place = await client.follow(job=told.jobs[1].id)
        await told.tell(2, job=0)
        await told.tell(1, job=1)
        assert (await client.event())["number"] == place["number"] + 3


async def test_a_second_follow_that_is_refused_leaves_the_first(told: Told) -> None:
    async with told.open(), guest(told) as client:
        place = await client.follow()
        assert "error" in await client.ask("events.follow", since={"stream": "another", "number": 1})
        await told.tell(1)
        assert (await client.event())["number"] == place["number"] + 1


async def test_calls_are_answered_between_events(told: Told) -> None:
    async with told.open(), guest(told) as client:
        await client.follow()
        for _ in range(3):
            await told.tell(1)
            await client.event()
            assert "result" in await client.ask("jobs.list")


async def test_following_ends_when_the_client_has_said_all(told: Told) -> None:
    async with told.open() as server, guest(told) as client:
        await client.follow()
        client.writer.write_eof()
        assert await client.read() is None
        await emptied(server)


async def test_the_door_closes_over_its_followers(told: Told) -> None:
    async with told.open():
        reader, writer = await asyncio.open_unix_connection(told.path)
        client = Guest(reader, writer)
        await client.follow()
    assert await client.read() is None
    writer.transport.abort()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("control")] == []


async def test_C3_a_follower_that_says_nothing_may_stay(told: Told) -> None:
    async with told.open(half_sent=0.01, untaken=0.01), guest(told) as client, guest(told) as other:
        await client.follow()
        other.writer.write(b"{")
        assert await other.read() is not None  # the limit has passed for the other
        await told.tell(1)
        await client.event()


async def test_trouble_in_the_ledger_is_told_and_ends_the_connection(told: Told) -> None:
    async with told.open() as server, guest(told) as client:
        await client.follow()
        told.ledger.trouble = Transient("disk", "The ledger cannot be read.")
        await told.tell(1)
        said = await client.read()
        assert (said["id"], said["error"]["data"]["kind"]) == (None, "try_again")
        assert await client.read() is None
        await emptied(server)


async def test_a_bug_in_following_is_told_and_logged(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    async with told.open() as server, guest(told) as client:
        await client.follow()
        told.ledger.trouble = RuntimeError("a bug")
        await told.tell(1)
        assert (await client.read())["error"]["data"]["kind"] == "internal"
        assert await client.read() is None
        await emptied(server)
    assert "a bug" in caplog.text


async def test_an_event_that_no_line_can_hold_comes_without_its_data(told: Told) -> None:
    async with told.open(), guest(told) as client:
        await client.follow()
        await told.tell(1, words="x" * MAX_LINE)
        assert (await client.event())["data"] == {}
        await told.tell(1)
        assert (await client.event())["data"] != {}


# --- what followers cost -------------------------------------------------------------------------------------------


async def test_C5_a_follower_that_does_not_read_is_cut_off_and_comes_back_without_loss(told: Told) -> None:
    async with told.open(untaken=0.05) as server:
        async with guest(told) as client:
            place = await client.follow()
            client.stop_reading()
            await told.tell_much(3_000_000)
            await emptied(server)
            client.go_on_reading()
            seen = []
            while (line := await client.reader.readline()).endswith(b"\n"):
                seen.append(json.loads(line)["params"]["number"])
        last = await told.ledger.last()
        async with guest(told) as client:
            number = seen[-1] if seen else place["number"]
            await client.follow({"stream": place["stream"], "number": number})
            seen += await client.numbers(last - number)
        assert seen == list(range(place["number"] + 1, last + 1))


async def test_C5_twenty_stuck_followers_cost_a_real_one_nothing(told: Told) -> None:
    stream = await told.ledger.stream()
    await told.tell_much(2_000_000)
    async with told.open() as server:
        async with AsyncExitStack() as guests:
            for _ in range(20):
                stuck = await guests.enter_async_context(guest(told))
                await stuck.follow({"stream": stream, "number": 0})
                stuck.stop_reading()
            client = await guests.enter_async_context(guest(told))
            place = await client.follow()
            before = told.ledger.pages_read
            await told.tell(100)
            assert await client.numbers(100) == list(range(place["number"] + 1, place["number"] + 101))
            assert server.clients == 21
            # the stuck ones read one page each, at most, when they began; from then on nothing is read for them
            assert told.ledger.pages_read - before <= 101 + 20
        await emptied(server)


async def test_C5_a_follower_killed_fifty_times_over_a_changing_table_sees_each_number_once(told: Told) -> None:
    async with told.open():
        place = {"stream": await told.ledger.stream(), "number": await told.ledger.last()}
        first, seen = place["number"], []
        changing = asyncio.create_task(told.tell(400))
        for life in range(50):
            async with guest(told) as client:
                await client.follow(place)
                seen += await client.numbers(life % 7 + 1)
            place["number"] = seen[-1]
        await changing
        async with guest(told) as client:
            await client.follow(place)
            seen += await client.numbers(await told.ledger.last() - place["number"])
        assert seen == list(range(first + 1, first + 401))


async def test_C5_several_followers_each_see_everything_in_order(told: Told) -> None:
    async with told.open(), asyncio.TaskGroup() as group:

        async def follow() -> list[int]:
            async with guest(told) as client:
                place = await client.follow()
                following.append(place["number"])
                ready.release()
                return await client.numbers(60)

        following: list[int] = []
        ready = asyncio.Semaphore(0)
        followers = [group.create_task(follow()) for _ in range(8)]
        for _ in followers:
            await ready.acquire()
        await told.tell(60)
        for follower in followers:
            assert await follower == list(range(following[0] + 1, following[0] + 61))


async def test_a_stream_of_events_forgotten_under_a_slow_follower_ends_in_words(told: Told) -> None:
    async with told.open() as server, guest(told) as client:
        await client.follow(job=told.jobs[0].id)
        client.stop_reading()
        await told.tell_much(3_000_000)
        await told.tell(PAGE, job=1)
        await told.ledger.prune_events(2**50, 1)
        client.go_on_reading()
        while "params" in (line := await client.read()):
            pass
        assert (line["id"], line["error"]["data"]["kind"]) == (None, "events_gone")
        await emptied(server)
