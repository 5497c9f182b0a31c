"""Work in a thread of its own: what may hang, for as long as the machine likes.

The threads of asyncio's executor are few, and waited for when the program ends: a handful of lookups or keyrings that hang
would hold up everything else that is done in threads, and the end as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def begin(work: Callable[[], T], name: str) -> Future[T]:
    """What ``work`` returns or raises, in time. Wait for it with ``asyncio.wrap_future``: whoever is cancelled leaves, the
    thread goes on, and at the end of the program nobody minds it. Raises ``RuntimeError`` where no thread can be started."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # from here on nobody who waits can cancel it for the others

    def run() -> None:
        try:
            value = work()
        except Exception as error:
            result.set_exception(error)
        else:
            result.set_result(value)

    threading.Thread(target=run, name=name, daemon=True).start()
    return result
