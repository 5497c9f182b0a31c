"""Bytes on their way: a writer for each item, small bodies in memory, large ones in files of the stage.

``Spool`` makes the writers. What becomes of the bodies is told by ``stage``.
"""

from __future__ import annotations

import asyncio
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

FILES_KEPT_FREE = 64
"""Inodes that stay free where bytes are kept free: the ledger and other programs need some, too."""

BACKLOG = 1 << 20
"""Bytes of one large body that may wait for the disk before its writer asks for a pause."""


class Spool:
    """Where bodies are that no commit has taken yet. ``memory_limit`` is how many bytes of one are held in memory;
    ``keep_free`` is how many of the file system stay free, 0 for no care."""

    def __init__(
        self,
        directory: str,
        disk: Disk,
        pool: ThreadPoolExecutor,
        mode: int,
        memory_limit: int,
        keep_free: int = 0,
    ) -> None:
        self.disk = disk
        self.mode = mode
        self.memory_limit = memory_limit
        self.keep_free = keep_free
        self.distrusted = 0  # how many syncs have failed: bytes written before the last of them are not believed
        self._directory = directory
        self._pool = pool
        self._token = secrets.token_hex(4)
        self._numbers = count()
        self._large: set[SpilledBody] = set()

    def open(self) -> StageWriter:
        """A writer for one item."""
        return StageWriter(self)

    def name(self) -> str:
        """For a file of the stage: one that no file there has had, whichever process made it. From any thread."""
        return f"{self._token}-{next(self._numbers)}"

    def path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def check_room(self, size: int, files: int) -> None:
        """Raise ``Transient`` (kind ``disk``) when so many bytes and files more would leave less room than is kept free. From
        any thread."""
        if not self.keep_free:
            return
        free, free_files = self.disk.free(self._directory)
        if free - size < self.keep_free:
            room = f"{_mebibytes(free)} are free there, and {_mebibytes(self.keep_free)} are kept free"
        elif free_files is not None and free_files - files < FILES_KEPT_FREE:
            room = f"there is room for {free_files} more files there, and for {FILES_KEPT_FREE} it is kept"
        else:
            return
        raise Transient(
            "disk",
            f"Cannot store {_mebibytes(size)} more on the file system of {self._directory}: {room}.",
            hint="Free some space on that file system, or lower keep_free in [store]; work goes on by itself.",
        )

    def begin(self, step: Callable[[], None]) -> asyncio.Future[None]:
        """The step has been handed to a thread."""
        return asyncio.get_running_loop().run_in_executor(self._pool, step)

    def hold(self, body: SpilledBody) -> None:
        """Its file is in use until it is released."""
        self._large.add(body)

    def release(self, body: SpilledBody) -> None:
        self._large.discard(body)

    def in_use(self) -> set[str]:
        """The names of files that no sweep may take. From any thread."""
        return {body.name for body in self._large.copy()}

    async def give_up(self) -> None:
        """No body is being written any more, and none is wanted."""
        for body in self._large.copy():
            body.drop()
            await body.ended()
            self.release(body)


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
            return MemoryBody(self._memory)
        self._large.check()
        self._large.end()
        return self._large

    def discard(self) -> None:
        if not self._finished and self._large is not None:
            self._large.drop()
        self._memory = bytearray()


class MemoryBody:
    """All bytes of a small item."""

    def __init__(self, data: bytearray) -> None:
        self.data = data

    @property
    def size(self) -> int:
        return len(self.data)

    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def discard(self) -> None:
        """Its memory goes with it."""


class SpilledBody:
    """The bytes of a large item, on their way to a file of the stage or all there.

    It lives on the event loop and hands its file one step at a time to a thread; whatever came meanwhile is the next step.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._file = StageFile(spool.name(), spool)
        self._born = spool.distrusted
        self._size = 0
        self._waiting: list[Buffer] = []
        self._backlog = 0
        self._busy = False
        self._last = False
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

    def sha256(self) -> str:
        return self._file.seen.hexdigest()

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

    def discard(self) -> None:
        if not self._dropped:
            self._ended.clear()  # its file may be closed, but is not gone yet
            self.drop()

    def hand_over(self) -> None:
        """A commit took the file, or threw it away: there is nothing to commit a second time."""
        self._dropped = True
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
        if self._dropped or self._error is not None:
            step = self._file.remove
        elif self._waiting:
            batch, self._waiting = self._waiting, []
            step = partial(self._file.append, batch)
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
        if step == self._file.remove:
            self._dropped = True
            self._ended.set()
            self._spool.release(self)
        elif step == self._file.close and self._error is None:
            self._ended.set()
        self._pump()
        self._call_back()

    def _call_back(self) -> None:
        """Whoever waits may go on: there is room, or an error to be met."""
        if self._resume is not None and self._backlog <= BACKLOG // 2:
            resume, self._resume = self._resume, None
            asyncio.get_running_loop().call_soon(resume)


class StageFile:
    """The file of one large body. Blocking; called in a thread, one call at a time."""

    def __init__(self, name: str, spool: Spool) -> None:
        self.name = name
        self.seen = hashlib.sha256()
        self._spool = spool
        self._path = spool.path(name)
        self._descriptor = -1

    def append(self, batch: Sequence[Buffer]) -> None:
        self._spool.check_room(sum(map(len, batch)), files=1)
        if self._descriptor < 0:
            self._descriptor = self._spool.disk.create(self._path, self._spool.mode)
        for data in batch:
            self._spool.disk.append(self._descriptor, data)
            self.seen.update(data)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def remove(self) -> None:
        try:
            self.close()
        finally:
            self._spool.disk.unlink(self._path)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"
