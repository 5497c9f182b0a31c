"""A server in a thread of its own, for a test that speaks to it as another program would."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def beside(make: Callable[[], AbstractAsyncContextManager[T]], name: str) -> Iterator[T]:
    """What is made is entered and left in a loop of its own; what goes wrong there is raised here."""
    loop = asyncio.new_event_loop()
    ready, leave = threading.Event(), asyncio.Event()
    entered: list[T] = []
    trouble: list[BaseException] = []

    async def live() -> None:
        async with make() as server:
            entered.append(server)
            ready.set()
            await leave.wait()

    def run() -> None:
        try:
            loop.run_until_complete(live())
        except BaseException as error:
            trouble.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, name=name)
    thread.start()
    ready.wait()
    try:
        if not trouble:
            yield entered[0]
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(leave.set)
        thread.join()
        if trouble:
            raise trouble[0]
