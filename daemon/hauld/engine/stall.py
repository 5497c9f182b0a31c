"""A session that does not let itself be kept waiting: a listing or a fetch that goes on without getting on is ended.

A source sees to it that a silent connection ends. Here it is one that talks, but not of what it was asked for: no outcome, no
page and no byte of a body for so long is the end of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

from hauld.errors import Transient
from hauld.model import Body, Buffer, Criteria, Notice, Outcome, Page, PartWriter, RemoteFolder, Sink, Twin, Want, Writer
from hauld.sources.base import Session

T = TypeVar("T")


class ImpatientSession:
    """The same session (``sources.base.Session``). What makes no progress for ``patience`` seconds raises ``Transient`` (kind
    ``stalled``). The time that we ourselves take, for writing say, does not count."""

    def __init__(self, session: Session, patience: float) -> None:
        self._session = session
        self._patience = patience

    @property
    def greeting(self) -> str:
        return self._session.greeting

    @property
    def capabilities(self) -> Sequence[str]:
        return self._session.capabilities

    @property
    def alive(self) -> bool:
        return self._session.alive

    def folders(self, *, cursors: bool = False) -> AsyncGenerator[RemoteFolder, None]:
        return Watch("the list of folders", self._patience).over(self._session.folders(cursors=cursors))

    def list(self, folder: RemoteFolder, since: bytes | None) -> AsyncGenerator[Page, None]:
        return Watch(f"the listing of {folder.name!r}", self._patience).over(self._session.list(folder, since))

    def search(self, folder: RemoteFolder, epoch: str, criteria: Criteria) -> AsyncGenerator[Sequence[str], None]:
        return Watch(f"the search in {folder.name!r}", self._patience).over(self._session.search(folder, epoch, criteria))

    def arrivals(self, folder: RemoteFolder, epoch: str, after: int) -> AsyncGenerator[Page, None]:
        return Watch(f"what is new in {folder.name!r}", self._patience).over(self._session.arrivals(folder, epoch, after))

    def fetch(
        self, folder: RemoteFolder, epoch: str, wants: Sequence[Want], sink: Sink
    ) -> AsyncGenerator[Sequence[Outcome | Twin], None]:
        watch = Watch(f"a fetch of {len(wants)} items of {folder.name!r}", self._patience)
        return watch.over(self._session.fetch(folder, epoch, wants, _WatchedSink(sink, watch)))

    async def watch(self, folder: RemoteFolder, patience: float) -> Notice | None:
        return await self._session.watch(folder, patience)

    async def heads(self, folder: RemoteFolder, epoch: str, keys: Sequence[str], size: int = 4096) -> Mapping[str, bytes]:
        return await self._session.heads(folder, epoch, keys, size)


class Watch:
    """Whether something gets on. ``progress`` says that it does; ``held`` is true while it waits for us."""

    def __init__(self, what: str, patience: float) -> None:
        self.held = False
        self._what = what
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._waiting: asyncio.Task[object] | None = None
        self._fired = False

    def progress(self) -> None:
        self._last = self._loop.time()

    async def over(self, steps: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The steps as they come."""
        self._timer = self._loop.call_later(self._patience, self._look)
        try:
            async with aclosing(steps):
                while True:
                    try:
                        step = await self._next(steps)
                    except StopAsyncIteration:
                        return
                    yield step
        finally:
            self._timer.cancel()

    async def _next(self, steps: AsyncGenerator[T, None]) -> T:
        self._waiting = waiting = asyncio.current_task()
        assert waiting is not None
        cancelled = waiting.cancelling()
        self.progress()
        try:
            return await anext(steps)
        except asyncio.CancelledError:
            if not self._fired or waiting.uncancel() > cancelled:
                raise
            sentence = f"The connection is alive, but {self._what} did not get on for {self._patience:g} s."
            raise Transient("stalled", sentence) from None
        finally:
            self._waiting = None

    def _look(self) -> None:
        """End what is waited for if it is time to, else look again when it may be."""
        if self._waiting is None or self.held:
            self.progress()
        left = self._last + self._patience - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif self._waiting is not None:
            self._fired = True
            self._waiting.cancel()


class _WatchedSink:
    """Tells of every byte that comes."""

    def __init__(self, sink: Sink, watch: Watch) -> None:
        self._sink = sink
        self._watch = watch

    def open(self, key: str, size: int) -> Writer:
        return _WatchedWriter(self._sink.open(key, size), self._watch)

    async def resume(self, key: str, size: int) -> PartWriter | None:
        writer = await self._sink.resume(key, size)
        return None if writer is None else _WatchedPartWriter(writer, self._watch)


class _WatchedWriter:
    __slots__ = ("_watch", "_writer")

    def __init__(self, writer: Writer, watch: Watch) -> None:
        self._writer = writer
        self._watch = watch

    def write(self, data: Buffer) -> bool:
        self._watch.progress()
        may_go_on = self._writer.write(data)
        if not may_go_on:
            self._watch.held = True
        return may_go_on

    def when_ready(self, resume: Callable[[], None]) -> None:
        def ready() -> None:
            self._watch.held = False
            self._watch.progress()
            resume()

        self._writer.when_ready(ready)

    def finish(self) -> Body:
        self._watch.held = False
        return self._writer.finish()

    def discard(self) -> None:
        self._watch.held = False
        self._writer.discard()


class PassingPart:
    """What the writer of a part can tell beside what any writer can: as ``_part`` tells it."""

    __slots__ = ()
    _part: PartWriter

    @property
    def offset(self) -> int:
        return self._part.offset

    @property
    def tail(self) -> bytes:
        return self._part.tail

    def leave(self) -> None:
        self._part.leave()


class _WatchedPartWriter(PassingPart, _WatchedWriter):
    __slots__ = ("_part",)

    def __init__(self, part: PartWriter, watch: Watch) -> None:
        super().__init__(part, watch)
        self._part = part
