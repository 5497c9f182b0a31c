"""The door on a real socket: conversations, limits, and what a client can do to it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from haulapi.frames import MAX_LINE, FrameError, decode
from hauld.rpc.server import Limits, Server
from hauld.rpc.turns import Rate
from support.door import Answers, item, serving

REQUEST = b'{"jsonrpc": "2.0", "method": "jobs.list", "id": 1}\n'


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haul.sock"


class Guest:
    """A client that writes bytes and reads lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> Any:
        line = await self.reader.readline()
        return json.loads(line) if line else None

    async def ask(self, method: str, params: Any = None, id: Any = 1) -> Any:
        self.write(method, params, id)
        return await self.read()

    def write(self, method: str, params: Any = None, id: Any = 1) -> None:
        self.writer.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}, "id": id}).encode() + b"\n")


@asynccontextmanager
async def guest(path: Path) -> AsyncIterator[Guest]:
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
    try:
        yield Guest(reader, writer)
    finally:
        writer.transport.abort()


class Gate:
    """Holds the answers to one method until it is opened."""

    def __init__(self, answers: Answers, method: str) -> None:
        self.waiting = 0
        self.arrived = asyncio.Condition()
        self.opened = asyncio.Event()
        self.method = method
        answers.before_answer = self._hold

    def _hold(self, method: str) -> Any:
        return self._wait() if method == self.method else None

    async def _wait(self) -> None:
        async with self.arrived:
            self.waiting += 1
            self.arrived.notify_all()
        await self.opened.wait()

    async def reached_by(self, number: int) -> None:
        async with self.arrived:
            await self.arrived.wait_for(lambda: self.waiting >= number)


async def emptied(server: Server) -> None:
    """Until nobody is connected any more."""
    while server.clients:
        await asyncio.sleep(0)


async def test_requests_of_one_connection_run_side_by_side_and_are_answered_as_they_are_done(
    path: Path, answers: Answers
) -> None:
    gate = Gate(answers, "accounts.test")
    async with serving(path, answers), guest(path) as client:
        client.write("accounts.test", {"account": "work"}, id="slow")
        await gate.reached_by(1)
        assert (await client.ask("jobs.list", id="quick"))["id"] == "quick"
        gate.opened.set()
        assert (await client.read())["id"] == "slow"


async def test_C1_the_daemon_is_unharmed_by_a_line_that_is_no_json(path: Path, answers: Answers) -> None:
    async with serving(path, answers), guest(path) as client:
        for line in (b"\n", b"{\n", b"\xff\xfe\n", b"\x00\n", b"GET / HTTP/1.1\r\n", b"NaN\n", b'{"a": 1, "a": 1}\n'):
            client.writer.write(line)
            answer = await client.read()
            assert (answer["error"]["code"], answer["error"]["data"]["kind"], answer["id"]) == (-32700, "parse_error", None)
        assert "result" in await client.ask("jobs.list")


async def test_C2_a_wrong_request_costs_nobody_the_connection(path: Path, answers: Answers) -> None:
    async with serving(path, answers), guest(path) as client:
        assert (await client.ask("no.such"))["error"]["code"] == -32601
        assert (await client.ask("jobs.get"))["error"]["code"] == -32602
        client.writer.write(b"7\n")
        assert (await client.read())["error"]["code"] == -32600
        assert "result" in await client.ask("jobs.list")


async def test_what_a_client_asked_before_it_stopped_writing_is_answered(path: Path, answers: Answers) -> None:
    gate = Gate(answers, "jobs.list")
    async with serving(path, answers) as server, guest(path) as client:
        client.write("jobs.list")
        client.writer.write_eof()
        await gate.reached_by(1)
        gate.opened.set()
        assert "result" in await client.read()
        assert await client.read() is None
        await emptied(server)


async def test_C10_a_client_that_dies_before_its_reply_harms_nobody(path: Path, answers: Answers) -> None:
    gate = Gate(answers, "jobs.sync")
    async with serving(path, answers) as server:
        async with guest(path) as client:
            client.write("jobs.sync", {"job": "k3x9"})
            await gate.reached_by(1)
        gate.opened.set()
        await emptied(server)
        async with guest(path) as another:
            assert "result" in await another.ask("jobs.list")
    assert [method for method, _ in answers.asked] == ["jobs.sync", "jobs.list"]


async def test_C10_a_half_written_request_is_ignored(path: Path, answers: Answers) -> None:
    async with serving(path, answers) as server, guest(path) as client:
        client.writer.write(REQUEST.rstrip(b"\n"))
        client.writer.write_eof()
        assert await client.read() is None
        await emptied(server)
    assert answers.asked == []


async def test_C3_a_line_that_never_ends_is_given_up_at_a_mebibyte(path: Path, answers: Answers) -> None:
    async with serving(path, answers) as server, guest(path) as client:
        client.writer.write(b'"' + b"x" * MAX_LINE)
        answer = await client.read()
        assert answer["error"]["code"] == -32700
        assert "1,048,576" in answer["error"]["message"]
        await emptied(server)


async def test_C3_a_line_half_sent_for_too_long_ends_the_connection(path: Path, answers: Answers) -> None:
    async with serving(path, answers, limits=Limits(half_sent=0.05)) as server, guest(path) as client:
        client.writer.write(REQUEST + b'{"jsonrpc"')
        assert "result" in await client.read()
        assert "0.05 s" in (await client.read())["error"]["message"]
        assert await client.read() is None
        await emptied(server)


async def test_C3_a_byte_now_and_then_does_not_make_a_line_younger(path: Path, answers: Answers) -> None:
    async with serving(path, answers, limits=Limits(half_sent=0.05)), guest(path) as client:

        async def drip() -> None:
            while True:
                client.writer.write(b" ")
                await asyncio.sleep(0.005)  # this is the pace of the client, nothing is waited for

        async with asyncio.timeout(10):
            dripping = asyncio.create_task(drip())
            try:
                assert "not ended" in (await client.read())["error"]["message"]
            finally:
                dripping.cancel()


async def test_C3_a_client_that_is_silent_between_lines_may_stay(path: Path, answers: Answers) -> None:
    async with serving(path, answers, limits=Limits(half_sent=0.01)), guest(path) as client, guest(path) as other:
        assert "result" in await client.ask("jobs.list")
        other.writer.write(b"{")
        assert await other.read() is not None  # the limit has passed for the other
        assert "result" in await client.ask("jobs.list")


async def test_beyond_the_requests_in_flight_nothing_more_is_read(path: Path, answers: Answers) -> None:
    gate = Gate(answers, "accounts.test")
    async with serving(path, answers, limits=Limits(requests=2)), guest(path) as client:
        for number in range(2):
            client.write("accounts.test", {"account": "work"}, id=number)
        await gate.reached_by(2)
        client.write("jobs.list", id="third")
        async with guest(path) as other:
            assert "result" in await other.ask("jobs.get", {"job": "k3x9"})
        assert "jobs.list" not in [method for method, _ in answers.asked]
        gate.opened.set()
        assert {(await client.read())["id"] for _ in range(3)} == {0, 1, "third"}


async def test_C5_a_client_that_does_not_take_its_answers_is_cut_off(path: Path, answers: Answers) -> None:
    answers.items = [item(n, folder="x" * 5_000) for n in range(100)]
    async with serving(path, answers, limits=Limits(untaken=0.05)) as server, guest(path) as client:
        for number in range(20):
            client.write("items.list", {"job": "k3x9"}, id=number)
        await client.writer.drain()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(10):
            await emptied(server)
        async with guest(path) as other:
            assert "result" in await other.ask("jobs.list")


async def test_C6_one_user_cannot_open_more_than_a_share_of_the_connections(path: Path, answers: Answers) -> None:
    async with serving(path, answers, limits=Limits(connections_per_user=2)) as server:
        async with guest(path) as one, guest(path) as two:
            assert "result" in await one.ask("jobs.list")
            assert "result" in await two.ask("jobs.list")
            async with guest(path) as three:
                assert (await three.read())["error"]["data"]["kind"] == "too_many"
                assert await three.read() is None
            assert server.clients == 2
        await emptied(server)
        async with guest(path) as again:
            assert "result" in await again.ask("jobs.list")


async def test_C6_a_thousand_connections_at_once_leave_the_daemon_answering(path: Path, answers: Answers) -> None:
    async with serving(path, answers) as server:

        async def come_and_go(number: int) -> None:
            async with guest(path) as client:
                if number % 3:
                    client.writer.write(REQUEST)
                    if number % 2:
                        await client.reader.readline()

        for start in range(0, 1000, 100):
            await asyncio.gather(*(come_and_go(number) for number in range(start, start + 100)), return_exceptions=True)
        await emptied(server)
        async with guest(path) as client:
            assert "result" in await client.ask("jobs.list")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
class TestAnotherUser:
    """C8 with the kernel's own answer: the file mode is opened here, so that the peer check alone decides."""

    ASK = """
import contextlib, os, socket, sys
os.setgroups([int(each) for each in sys.argv[3].split(",") if each])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
with contextlib.suppress(BrokenPipeError):
    client.sendall(b'{"jsonrpc": "2.0", "method": "jobs.list", "id": 1}\\n')
print(client.makefile().readline())
"""

    async def ask_as(self, path: Path, uid: int, *groups: int) -> Any:
        path.chmod(0o666)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", self.ASK, path, str(uid), ",".join(map(str, groups)), stdout=subprocess.PIPE, cwd="/"
        )
        said, _ = await child.communicate()
        return json.loads(said)

    @pytest.fixture
    def open_path(self) -> Any:
        import tempfile

        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            yield Path(directory) / "haul.sock"

    async def test_C8_another_user_is_refused_in_words_and_nothing_is_done_for_it(
        self, open_path: Path, answers: Answers, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving(open_path, answers):
            for _ in range(2):
                answer = await self.ask_as(open_path, 4711)
        assert (answer["error"]["code"], answer["error"]["data"]["kind"]) == (-32007, "forbidden")
        assert "4711" in answer["error"]["message"]
        assert answers.asked == []
        assert len([record for record in caplog.records if "4711" in record.getMessage()]) == 1

    async def test_C8_a_member_of_the_group_is_answered(self, open_path: Path, answers: Answers) -> None:
        async with serving(open_path, answers, group="daemon"):
            answer = await self.ask_as(open_path, 4711, 4712, 1)  # 1 is the group daemon, everywhere
        assert "result" in answer

    async def test_C8_nobody_is_refused_even_as_a_member(self, open_path: Path, answers: Answers) -> None:
        async with serving(open_path, answers, group="daemon"):
            answer = await self.ask_as(open_path, 65534, 1)
        assert answer["error"]["data"]["kind"] == "forbidden"

    async def test_C6_the_reserve_is_kept_for_root_and_the_own_user(self, open_path: Path, answers: Answers) -> None:
        limits = Limits(connections=3, reserved=1)
        async with serving(open_path, answers, group="daemon", limits=limits), guest(open_path) as one, guest(open_path) as two:
            await one.ask("jobs.list")
            await two.ask("jobs.list")
            answer = await self.ask_as(open_path, 4711, 1)
            assert answer["error"]["data"]["kind"] == "too_many"
            async with guest(open_path) as three:
                assert "result" in await three.ask("jobs.list")


async def test_leaving_closes_every_connection_and_what_is_done_for_it(path: Path, answers: Answers) -> None:
    gate = Gate(answers, "accounts.test")
    async with guest_after(path, answers, gate) as client:
        assert await client.read() is None
    assert not path.exists()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("control")] == []


@asynccontextmanager
async def guest_after(path: Path, answers: Answers, gate: Gate) -> AsyncIterator[Guest]:
    """A client whose request was under way when the door closed."""
    async with serving(path, answers) as server:
        reader, writer = await asyncio.open_unix_connection(path)
        client = Guest(reader, writer)
        client.write("accounts.test", {"account": "work"})
        await gate.reached_by(1)
        assert server.clients == 1
    yield client
    writer.transport.abort()


async def test_a_plain_blocking_client_is_served_as_well(path: Path, answers: Answers) -> None:
    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(REQUEST)
            return client.makefile("rb").readline()

    async with serving(path, answers):
        assert b'"result"' in await asyncio.to_thread(ask)


# --- turns ---------------------------------------------------------------------------------------------------------

HURRIED = Limits(own=Rate(3, 0.001), together=Rate(2, 0.001))
"""A user's clients may ask three times each, and twice beyond that, and then hardly ever."""


async def test_a_client_that_asks_too_much_waits_and_another_of_the_same_user_does_not(path: Path, answers: Answers) -> None:
    async with serving(path, answers, limits=HURRIED), guest(path) as greedy, guest(path) as modest:
        greedy.writer.write(REQUEST * 50)
        for _ in range(3 + 2 + 1):  # what it asks beyond that is answered, too, and then waited for
            assert "result" in await greedy.read()
        for _ in range(3):
            assert "result" in await modest.ask("jobs.list")
        assert len(answers.asked) == 9


async def test_a_batch_costs_as_much_as_the_requests_in_it(path: Path, answers: Answers) -> None:
    async with serving(path, answers, limits=HURRIED), guest(path) as greedy:
        greedy.writer.write(b"[" + b",".join([REQUEST.strip()] * 10) + b"]\n" + REQUEST)
        assert len(await greedy.read()) == 10
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await greedy.read()


async def test_a_thousand_lines_in_one_write_let_others_be_answered_in_between(path: Path, answers: Answers) -> None:
    async with serving(path, answers, limits=Limits(together=Rate(1e9, 1e9))), guest(path) as greedy, guest(path) as modest:
        greedy.writer.write(b"{}\n" * 1000)
        await greedy.read()
        assert "result" in await modest.ask("jobs.list")
        assert len(greedy.reader._buffer) < 1000 * 100  # type: ignore[attr-defined]  # not all of them were answered first


async def test_C4_a_line_that_is_dear_to_read_is_refused_before_it_is_read() -> None:
    for dear in (b"[" + b"1e300," * 150_000 + b"1]", b"[" + b"[]," * 300_000 + b"1]", b"[" + b"9" * 5000 + b"]"):
        began = time.perf_counter()
        with pytest.raises(FrameError):
            decode(dear)
        assert time.perf_counter() - began < 0.05


async def test_long_lines_are_read_one_at_a_time_and_short_ones_meanwhile(path: Path, answers: Answers) -> None:
    long = b'{"jsonrpc": "2.0", "method": "jobs.list", "id": "' + b"x" * (MAX_LINE - 100) + b'"}\n'
    async with serving(path, answers), guest(path) as one, guest(path) as other, guest(path) as modest:
        for client in (one, other):
            client.writer.write(long)
        waiting = [asyncio.create_task(client.read()) for client in (one, other)]
        assert "result" in await modest.ask("jobs.list")
        assert [(await each)["error"]["code"] for each in waiting] == [-32600, -32600]


async def test_a_line_that_comes_in_crumbs_is_answered_all_the_same(path: Path, answers: Answers) -> None:
    async with serving(path, answers), guest(path) as client:
        for byte in REQUEST[:20]:
            client.writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        client.writer.write(REQUEST[20:])
        assert "result" in await client.read()
