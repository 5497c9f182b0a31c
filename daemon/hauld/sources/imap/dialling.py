"""From the name of a host to a socket that is connected with it.

A lookup may hang for as long as name servers are away, and nothing can end it. So each has a thread of its own, beside those
that files are read and written in, and of each host there is one at a time: whoever asks meanwhile waits for the same.

Of several addresses the next is tried beside those that have not answered yet, so that one which swallows everything costs a
moment and no more (RFC 8305).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import itertools
import os
import socket
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias

from hauld import threads

NEXT_ADDRESS = 0.25
"""Seconds before the next address of a host is tried beside the first (RFC 8305, 5)."""

STUCK = 300.0
"""Seconds after which a lookup that has not come back is waited for no longer: system resolvers give up long before."""

NO_WAY = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Errors that tell of this machine, as where it has no IPv6, rather than of the host."""

Address: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family, and an address of it without the port: what ``connect`` takes has the port in the second place."""

_under_way: dict[str, tuple[float, Future[list[Address]]]] = {}
"""Lookups by host, and when they were begun."""


async def addresses(host: str) -> Sequence[Address]:
    """The addresses of the host, each once, in the order of preference. Raises ``OSError`` where it has none."""
    if _is_address(host):
        return _look_up(host)
    began, lookup = _under_way.get(host, (0.0, None))
    if lookup is None or lookup.done() or time.monotonic() - began > STUCK:
        try:
            lookup = threads.begin(lambda: _look_up(host), f"lookup of {host}")
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        _under_way[host] = time.monotonic(), lookup
    try:
        return await asyncio.wrap_future(lookup)
    finally:
        if lookup.done() and _under_way.get(host, (0.0, None))[1] is lookup:
            del _under_way[host]


async def connected(host: str, port: int) -> socket.socket:
    """A socket that is connected with the host, at whichever address answers first. Raises ``OSError`` where none does: the
    error of the first that there was a way to."""
    waiting = deque(_alternating(await addresses(host)))
    trying: list[asyncio.Task[socket.socket]] = []
    try:
        while True:
            if waiting:
                family, address = waiting.popleft()
                dialling = _connected(family, (address[0], port, *address[2:]))
                trying.append(asyncio.create_task(dialling, name=f"connect {address[0]}:{port}"))
            open_ = [task for task in trying if not task.done()]
            if open_:
                await asyncio.wait(open_, timeout=NEXT_ADDRESS if waiting else None, return_when=asyncio.FIRST_COMPLETED)
            answered = next((task for task in trying if task.done() and task.exception() is None), None)
            if answered is not None:
                trying.remove(answered)
                return answered.result()
            if not waiting and all(task.done() for task in trying):
                errors = [error for task in trying if (error := task.exception()) is not None]
                raise min(errors, key=lambda error: isinstance(error, OSError) and error.errno in NO_WAY)
    finally:
        for task in trying:
            task.cancel()
        for left in await asyncio.gather(*trying, return_exceptions=True):
            if isinstance(left, socket.socket):
                left.close()


async def _connected(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    with contextlib.ExitStack() as stack:
        # the protocol is named because asyncio sets TCP_NODELAY only where it is
        dialled = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        dialled.setblocking(False)
        await asyncio.get_running_loop().sock_connect(dialled, address)
        stack.pop_all()
        return dialled


def _look_up(host: str) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "no host can have that name") from error
    return list(dict.fromkeys((each[0], each[4]) for each in found))


def _is_address(host: str) -> bool:
    """Whether there is nothing to be looked up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _alternating(found: Sequence[Address]) -> list[Address]:
    """The families in turn, each in its own order (RFC 8305, 4)."""
    families = dict.fromkeys(family for family, _ in found)
    columns = [[each for each in found if each[0] is family] for family in families]
    return [each for row in itertools.zip_longest(*columns) for each in row if each is not None]
