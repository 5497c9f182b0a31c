"""Bytes on their way: a writer for each item, small bodies in memory, large ones in files of the stage.

``Spool`` makes the writers. What becomes of the bodies is told by ``stage``; how a very large one outlives its writer, by
``parts``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

from hauld.errors import Transient
from hauld.model import Body, Buffer
from hauld.stores.durable import Disk, disk_trouble
from hauld.stores.room import Room

MARK_EVERY = 8 << 20
"""Bytes of a part after which what has come of it is made durable: each time costs two syncs, and a kill at most so many."""

BACKLOG = 1 << 20
"""Bytes of one large body that may wait for the disk before its writer asks for a pause."""


class Spool:
    """Where bodies are that no commit has taken yet. ``memory_limit`` is how many bytes of one are held in memory;
    ``keep_free`` is how many of the file system stay free, 0 for no care; ``mark_every`` is for ``parts``."""

    def __init__(
        self,
        directory: str,
        disk: Disk,
        pool: ThreadPoolExecutor,
        mode: int,
        memory_limit: int,
        keep_free: int = 0,
        mark_every: int = MARK_EVERY,
    ) -> None:
        self.disk = disk
        self.mode = mode
        self.memory_limit = memory_limit
        self.room = Room(directory, disk, keep_free)
        self.mark_every = mark_every
        self.directory = directory
        self.distrusted = 0  # grows with each sync that fails: bytes written before the last of them are not believed
        self._failures = count(1)
        self._pool = pool
        self._token = secrets.token_hex(4)
        self._numbers = count()
        self._large: set[SpilledBody] = set()
        self.written_ahead: set[str] = set()  # names of files that a commit is to take; from any thread

    def open(self) -> StageWriter:
        """A writer for one item."""
        return StageWriter(self)

    def name(self) -> str:
        """For a file of the stage: one that no file there has had, whichever process made it. From any thread."""
        return f"{self._token}-{next(self._numbers)}"

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def distrust(self) -> None:
        """A sync has failed: whatever was written before is not believed any more. From any thread."""
        self.distrusted = next(self._failures)

    def begin(self, step: Callable[[], None]) -> asyncio.Future[None]:
        """The step has been handed to a thread."""
        return asyncio.get_running_loop().run_in_executor(self._pool, step)

    def hold(self, body: SpilledBody) -> None:
        """Its file is in use until it is released."""
        self._large.add(body)

    def release(self, body: SpilledBody) -> None:
        self._large.discard(body)

    def held(self, name: str) -> SpilledBody | None:
        """The body whose file has that name, while it is in use."""
        return next((body for body in self._large.copy() if body.name == name), None)

    def in_use(self) -> set[str]:
        """The names of files that no sweep may take. From any thread."""
        return {name for body in self._large.copy() for name in body.names} | self.written_ahead.copy()

    async def give_up(self) -> None:
        """No body is being written any more, and none is wanted."""
        for body in self._large.copy():
            body.leave()
            await body.ended()
            self.release(body)
        self.written_ahead.clear()


async def ended(bodies: Collection[Body]) -> None:
    """Nothing is being done with these bodies any more: all bytes have been written, or it is known why not."""
    for body in bodies:
        if isinstance(body, SpilledBody):
            await body.ended()


class StageWriter:
    """Takes the bytes of one item: into memory, and when they are many, into a file of the stage."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._memory = bytearray()
        self._large: SpilledBody | None = None
        self._finished = False

    def write(self, data: Buffer) -> bool:
        if self._large is not None:
            return self._large.take(bytes(data))
        self._memory += data
        if len(self._memory) <= self._spool.memory_limit:
            return True
        self._large = SpilledBody(self._spool)
        memory, self._memory = self._memory, bytearray()
        return self._large.take(memory)

    def when_ready(self, resume: Callable[[], None]) -> None:
        if self._large is not None:
            self._large.when_ready(resume)
        else:
            asyncio.get_running_loop().call_soon(resume)

    def finish(self) -> Body:
        self._finished = True
        if self._large is None:
            return MemoryBody(self._memory, self._spool)
        self._large.check()
        self._large.end()
        return self._large

    def discard(self) -> None:
        if not self._finished and self._large is not None:
            self._large.drop()
        self._memory = bytearray()


class MemoryBody:
    """All bytes of a small item. They can be written to a file of the stage ahead of their commit (``write``, in a thread), and
    are in memory no longer then."""

    def __init__(self, data: bytearray, spool: Spool | None = None) -> None:
        self.data = data
        self._spool = spool
        self._name: str | None = None
        self._born = 0
        self._size = len(data)
        self._sha256: str | None = None

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str | None:
        """Of its file in the stage; None where it has none, or one whose bytes are not believed any more."""
        return self._name if self._spool is not None and self._born == self._spool.distrusted else None

    def sha256(self) -> str:
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self.data).hexdigest()
        return self._sha256

    def write(self, mtime: int | None) -> None:
        """It is a file of the stage, which no sweep takes before ``hand_over``. Nothing lasts by that."""
        spool = self._spool
        if spool is None or self._name is not None:
            return
        self.check()
        self.sha256()
        self._born, name = spool.distrusted, spool.name()
        spool.written_ahead.add(name)
        try:
            spool.disk.write(spool.path(name), self.data, spool.mode, mtime)
        except BaseException:
            spool.written_ahead.discard(name)
            with contextlib.suppress(OSError):
                spool.disk.unlink(spool.path(name))
            raise
        self._name, self.data = name, bytearray()

    def check(self) -> None:
        """Raise ``Transient`` when the bytes are gone, or cannot be believed any more."""
        if len(self.data) != self._size and self.name is None:
            raise Transient(
                "disk", "Cannot store an item: a sync failed while it waited in the stage, so its bytes are suspect."
            )

    def hand_over(self) -> None:
        """A commit took the file, or threw it away: there is nothing to commit a second time."""
        if self._name is not None and self._spool is not None:
            self._spool.written_ahead.discard(self._name)
        self._name = None

    def discard(self) -> None:
        """Its memory goes with it, and a file at the next sweep."""
        self.hand_over()
        self.data = bytearray()


class SpilledBody:
    """The bytes of a large item, on their way to a file of the stage or all there.

    It lives on the event loop and hands its file one step at a time to a thread; whatever came meanwhile is the next step.
    """

    def __init__(self, spool: Spool, file: StageFile | None = None) -> None:
        self._spool = spool
        self._file = file or StageFile(spool.name(), spool)
        self._born = spool.distrusted
        self._size = 0
        self._waiting: list[Buffer] = []
        self._backlog = 0
        self._busy = False
        self._last = False
        self._left = False
        self._dropped = False
        self._error: BaseException | None = None
        self._ended = asyncio.Event()
        self._resume: Callable[[], None] | None = None
        spool.hold(self)

    @property
    def size(self) -> int:
        return self._size

    @property
    def name(self) -> str:
        return self._file.name

    @property
    def names(self) -> Sequence[str]:
        """Of every file that belongs to it."""
        return self._file.names

    @property
    def is_going(self) -> bool:
        """Whether it has been left or dropped: soon nobody has its file."""
        return self._left or self._dropped

    def sha256(self) -> str:
        return self._file.seen.hexdigest()

    async def resume(self) -> None:
        """Go on behind what the file holds from before. Raises as ``check`` does."""
        self._busy = True
        running = self._spool.begin(self._file.resume)
        running.add_done_callback(partial(self._stepped, self._file.resume))
        with contextlib.suppress(OSError):
            await asyncio.shield(running)
        self.check()
        self._size = self._file.size

    def take(self, data: Buffer) -> bool:
        """Queue ``data``, which must not change any more; False when much is waiting."""
        self.check()
        self._waiting.append(data)
        self._backlog += len(data)
        self._size += len(data)
        self._pump()
        return self._backlog <= BACKLOG

    def when_ready(self, resume: Callable[[], None]) -> None:
        self._resume = resume
        self._call_back()

    def end(self) -> None:
        """No more bytes come."""
        self._last = True
        self._pump()

    def drop(self) -> None:
        """Nobody wants the bytes; what waits is not written any more."""
        self._dropped = True
        self._waiting.clear()
        self._pump()

    def leave(self) -> None:
        """Nobody goes on with it; what the file keeps of it stays, unless it is suspect."""
        if self._born != self._spool.distrusted:
            self.drop()
        self._left = True
        self._dropped |= self._ended.is_set()
        self._pump()

    def discard(self) -> None:
        if not self._dropped:
            self._ended.clear()  # its file may be closed, but is not gone yet
            self.drop()

    def hand_over(self) -> None:
        """A commit took the file, or threw it away: there is nothing to commit a second time."""
        self._dropped = True
        self._file.hand_over()
        self._spool.release(self)

    async def ended(self) -> None:
        """Its file is closed, or gone, and no thread works on it."""
        await self._ended.wait()

    def check(self) -> None:
        """Raise ``Transient`` when earlier bytes could not be written, or cannot be believed any more."""
        if isinstance(self._error, OSError):
            raise disk_trouble(self._error, "write a large item to the stage") from self._error
        if self._error is not None:
            raise self._error
        if self._dropped:
            raise Transient("disk", "Cannot store a large item: its bytes are no longer in the stage.")
        if self._born != self._spool.distrusted:
            raise Transient("disk", "Cannot store a large item: a sync failed while it was written, so its bytes are suspect.")

    def _pump(self) -> None:
        """Begin the next step, unless one is under way: it will come back here."""
        if self._busy or self._ended.is_set():
            return
        step: Callable[[], None]
        if self._dropped:
            step = self._file.remove
        elif self._error is not None:
            step = self._file.abandon
        elif self._waiting:
            batch, self._waiting = self._waiting, []
            step = partial(self._file.append, batch)
        elif self._left:
            step = self._file.leave
        elif self._last:
            step = self._file.close
        else:
            return
        self._busy = True
        self._spool.begin(step).add_done_callback(partial(self._stepped, step))

    def _stepped(self, step: Callable[[], None], done: asyncio.Future[None]) -> None:
        """A step is over."""
        self._busy = False
        self._error = self._error or done.exception()
        if self._error is not None:
            self._waiting.clear()
        self._backlog = sum(len(data) for data in self._waiting)
        if step in (self._file.remove, self._file.abandon, self._file.leave):
            self._dropped = True
            self._ended.set()
            self._spool.release(self)
        elif step == self._file.close and self._error is None and not self._dropped:
            self._dropped = self._left
            self._ended.set()
        self._pump()
        self._call_back()

    def _call_back(self) -> None:
        """Whoever waits may go on: there is room, or an error to be met."""
        if self._resume is not None and self._backlog <= BACKLOG // 2:
            resume, self._resume = self._resume, None
            asyncio.get_running_loop().call_soon(resume)


class StageFile:
    """The file of one large body: gone unless it is closed. Blocking; called in a thread, one call at a time."""

    def __init__(self, name: str, spool: Spool) -> None:
        self.name = name
        self.size = 0
        self.seen = hashlib.sha256()
        self._spool = spool
        self._path = spool.path(name)
        self._descriptor = -1

    @property
    def names(self) -> Sequence[str]:
        """Of the file, and of what belongs to it."""
        return (self.name,)

    def resume(self) -> None:
        """Go on behind what is there from before: nothing."""

    def append(self, batch: Sequence[Buffer]) -> None:
        with self._spool.room.held([sum(map(len, batch))]):
            if self._descriptor < 0:
                self._descriptor = self._spool.disk.create(self._path, self._spool.mode)
            for data in batch:
                self._spool.disk.append(self._descriptor, data)
                self.seen.update(data)
                self.size += len(data)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def remove(self) -> None:
        try:
            self.close()
        finally:
            self._spool.disk.unlink(self._path)

    def leave(self) -> None:
        """No more bytes come, but perhaps another time."""
        self.remove()

    def abandon(self) -> None:
        """Something went wrong with it, or its bytes are suspect."""
        self.remove()

    def hand_over(self) -> None:
        """A commit took the file."""
