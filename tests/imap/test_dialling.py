"""From a name to a connected socket: a lookup that hangs holds nobody else up, nor does an address that never answers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from hauld.errors import Transient
from hauld.sources.imap import ImapOptions, ImapSource, dialling
from support.scripted_imap import Honest, ScriptedServer


class NameServer:
    """What the system's lookups find: the addresses of ``names``, and for all other names nothing, once it ``answers``."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.answers = threading.Event()
        self.asked: list[str] = []
        self._real = socket.getaddrinfo

    def look_up(self, host: str, port: object, **options: Any) -> list[Any]:
        if host in self.names:
            return [found for address in self.names[host] for found in self._real(address, None, **options)]
        if not host.endswith(".example"):
            return self._real(host, None, **options)
        self.asked.append(host)
        self.answers.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.look_up)
    yield server
    server.answers.set()


async def secret() -> str:
    return "secret"


async def trouble(host: str, patience: float = 0.1) -> Transient:
    """Why nobody can sign in there."""
    with pytest.raises(Transient) as raised:
        async with ImapSource(ImapOptions(host=host, user="alice", connect_timeout=patience), secret).session():
            pass
    return raised.value


# --- lookups ---


async def test_N25_lookups_that_hang_take_no_thread_from_anybody_else(name_server: NameServer) -> None:
    trying = [asyncio.create_task(trouble(f"h{number}.example")) for number in range(40)]
    while len(name_server.asked) < len(trying):
        await asyncio.sleep(0.001)  # they are asked in threads
    async with asyncio.timeout(5):
        await asyncio.to_thread(lambda: None)
    assert {error.kind for error in await asyncio.gather(*trying)} == {"timeout"}
    assert not name_server.answers.is_set()


async def test_N25_a_host_is_looked_up_once_for_all_who_ask_at_the_same_time(name_server: NameServer) -> None:
    trying = [asyncio.create_task(trouble("h.example", 20.0)) for _ in range(5)]
    late = await trouble("h.example")
    assert late.kind == "timeout", "whoever leaves does not take the answer from the others"
    name_server.answers.set()
    told = await asyncio.gather(*trying)
    assert {error.kind for error in told} == {"network"}
    assert "Temporary failure in name resolution" in told[0].message
    assert name_server.asked == ["h.example"]
    await trouble("h.example")
    assert name_server.asked == ["h.example"] * 2, "the next who asks is told anew"


async def test_N25_a_lookup_that_never_comes_back_is_waited_for_no_longer(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trouble("h.example")
    await trouble("h.example")
    assert name_server.asked == ["h.example"]
    monkeypatch.setattr(dialling, "STUCK", 0.0)
    await trouble("h.example")
    assert name_server.asked == ["h.example"] * 2


async def test_N25_where_no_thread_can_be_started_the_host_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert (await trouble("h.example")).kind == "network"


async def test_an_address_needs_no_lookup(name_server: NameServer) -> None:
    before = threading.active_count()
    assert await dialling.addresses("127.0.0.1") == [(socket.AF_INET, ("127.0.0.1", 0))]
    assert (await dialling.addresses("::1"))[0][0] is socket.AF_INET6
    assert threading.active_count() == before


async def test_a_name_that_no_host_can_have_is_told_as_one_without_an_address() -> None:
    assert (await trouble("a" * 64 + ".example")).kind == "network"


# --- addresses ---


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer(Honest()) as server:
        yield server


@pytest.fixture
def silent(server: ScriptedServer) -> Iterator[str]:
    """An address where nothing that is sent to the server's port is answered: the queue of who listens there is full."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.3", server.port))
        listener.listen(0)
        first.connect(("127.0.0.3", server.port))
        with socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(("127.0.0.3", server.port))
            yield "127.0.0.3"


async def test_N25_an_address_that_swallows_everything_costs_a_moment(
    name_server: NameServer, server: ScriptedServer, silent: str
) -> None:
    name_server.names["mail.example"] = [silent, "127.0.0.1"]
    async with asyncio.timeout(5), server.source(host="mail.example", allow_plaintext=True).session() as session:
        assert session.alive


async def test_N25_an_address_that_refuses_costs_nothing(
    name_server: NameServer, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "NEXT_ADDRESS", 3600.0)
    name_server.names["mail.example"] = ["127.0.0.4", "127.0.0.1"]
    async with asyncio.timeout(5), server.source(host="mail.example", allow_plaintext=True).session() as session:
        assert session.alive


async def test_N25_the_error_is_the_hosts_where_this_machine_has_no_way_to_the_first_address(
    monkeypatch: pytest.MonkeyPatch, server: ScriptedServer
) -> None:
    async def addresses(_: str) -> list[dialling.Address]:
        return [(socket.AF_INET6, ("2001:db8::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.4", 0))]

    async def no_way(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
        raise OSError(errno.ENETUNREACH if family is socket.AF_INET6 else errno.ECONNREFUSED, "no")

    monkeypatch.setattr(dialling, "addresses", addresses)
    monkeypatch.setattr(dialling, "_connected", no_way)
    with pytest.raises(ConnectionRefusedError):
        await dialling.connected("mail.example", server.port)


async def test_a_connection_sends_small_things_at_once(server: ScriptedServer) -> None:
    async with server.source().session() as session:
        wire = session._connection._wire
        assert wire is not None
        assert wire.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_R5_who_is_cancelled_while_dialling_leaves_no_socket_open(server: ScriptedServer, silent: str) -> None:
    before = open_files()
    dialled = asyncio.create_task(dialling.connected(silent, server.port))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # once for each of the two tasks
    assert open_files() == before + 1
    dialled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialled
    assert open_files() == before


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_families_take_turns() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    found = [(six, ("a", 0)), (six, ("b", 0)), (six, ("c", 0)), (four, ("d", 0))]
    assert [address[0] for _, address in dialling._alternating(found)] == ["a", "d", "b", "c"]
