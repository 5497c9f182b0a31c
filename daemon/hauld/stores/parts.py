"""Parts: bytes of large items that outlive a cut connection, a kill and a loss of power, so that a fetch goes on at the byte.

    stage/part-9f86d081...          the bytes, as far as they have come
    stage/part-9f86d081....mark     which item they are of, and how far they are believed

A mark is a line that says which item, and one more for each time that the bytes so far were made durable: how many, and their
SHA-256. Each line ends with a hash of its own, so that one that is torn is known, and those before it hold. The bytes are
synced before their line is written, and the line before the next; so a kill or a loss of power costs what came after the last
line, and what the last line says is believed only when the bytes, read again, have that hash.

A commit takes the file of a part like that of any large body, and its mark goes. The part of an item that is never stored goes
when it is older than ``LONGEST_WAIT``, or sooner when something is resumed in the same folder in another epoch. After a sync
that failed, a part that was being written is thrown away.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from hauld.model import OVERLAP, Body, Buffer, Place
from hauld.stores.bodies import SpilledBody, Spool, StageFile, StageWriter
from hauld.stores.durable import COPY_BYTES, OF_ONE_FILE

LONGEST_WAIT = 7 * 24 * 3600
"""Seconds after which a part that nobody has gone on with is swept, when the stage is."""

PREFIX = "part-"
SUFFIX = ".mark"

S = TypeVar("S", bound=msgspec.Struct)


class PartOf(msgspec.Struct, frozen=True):
    """Which item the bytes are of. Bytes of anything else than exactly this are never taken for it."""

    identity: str
    folder: bytes
    epoch: str
    key: str
    size: int

    @property
    def name(self) -> str:
        """Of its file in the stage."""
        return f"{PREFIX}{hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]}"

    def gives_way_to(self, other: PartOf) -> bool:
        """Whether nobody will ask for it any more, once ``other`` is asked for."""
        if (self.identity, self.folder) != (other.identity, other.folder):
            return False
        return self.epoch != other.epoch or (self.key == other.key and self.size != other.size)


class Reached(msgspec.Struct, frozen=True):
    """So many bytes are durable, and this is their SHA-256."""

    size: int
    sha256: str


class Mark(NamedTuple):
    """What a mark says: ``length`` is how many bytes of it are whole lines."""

    part: PartOf
    reached: Reached
    length: int


# --- for the engine ------------------------------------------------------------------------------------------------


class FolderSink:
    """See ``model.Sink``, for the items of one folder in one epoch."""

    def __init__(self, spool: Spool, place: Place, epoch: str) -> None:
        self._spool = spool
        self._place = place
        self._epoch = epoch

    def open(self, key: str, size: int) -> StageWriter:
        return self._spool.open()

    async def resume(self, key: str, size: int) -> PartialWriter | None:
        part = PartOf(self._place.identity, self._place.folder.raw, self._epoch, key, size)
        if (body := self._spool.held(part.name)) is not None and body.is_going:
            await body.ended()
        if self._spool.held(part.name) is not None:
            return None  # somebody else is at it
        file = PartFile(part, self._spool)
        body = SpilledBody(self._spool, file)
        try:
            await body.resume()
        except BaseException:
            body.leave()
            raise
        return PartialWriter(body, file.size, file.tail)


class PartialWriter:
    """See ``model.PartWriter``."""

    def __init__(self, body: SpilledBody, offset: int, tail: bytes) -> None:
        self.offset = offset
        self.tail = tail
        self._body = body
        self._over = False

    def write(self, data: Buffer) -> bool:
        return self._body.take(bytes(data))

    def when_ready(self, resume: Callable[[], None]) -> None:
        self._body.when_ready(resume)

    def finish(self) -> Body:
        self._body.check()
        self._over = True
        self._body.end()
        return self._body

    def discard(self) -> None:
        if not self._over:
            self._over = True
            self._body.drop()

    def leave(self) -> None:
        if not self._over:
            self._over = True
            self._body.leave()


# --- in a thread ---------------------------------------------------------------------------------------------------


class PartFile(StageFile):
    """The file of a part, and its mark: both stay when they are left. Blocking, as any file of the stage."""

    def __init__(self, part: PartOf, spool: Spool) -> None:
        super().__init__(part.name, spool)
        self.tail = b""
        self._part = part
        self._born = spool.distrusted
        self._mark_path = spool.path(mark_of(part.name))
        self._mark = -1
        self._marked = 0

    @property
    def names(self) -> Sequence[str]:
        return (self.name, mark_of(self.name))

    def resume(self) -> None:
        """Take up what is there and believed; the rest of it goes, and so do parts that nobody will ask for any more."""
        for other in _marks(self._spool.directory):
            if other.part.gives_way_to(self._part) and other.part.name not in self._spool.in_use():
                self._spool.disk.unlink(self._spool.path(mark_of(other.part.name)))
                self._spool.disk.unlink(self._spool.path(other.part.name))
        mark = _mark(self._mark_path)
        if mark is None or mark.part != self._part or not self._holds(mark.reached):
            self.remove()
            return
        self._descriptor = self._spool.disk.reopen(self._path, mark.reached.size)
        self._mark = self._spool.disk.reopen(self._mark_path, mark.length)
        self.size = self._marked = mark.reached.size

    def append(self, batch: Sequence[Buffer]) -> None:
        more = sum(len(data) for data in batch)
        if self.size > self._marked and self.size + more - self._marked > self._spool.mark_every:
            self._set_mark()
        super().append(batch)

    def leave(self) -> None:
        try:
            if self.size > self._marked:
                self._set_mark()
        except BaseException:
            self.abandon()
            raise
        self.close()

    def abandon(self) -> None:
        """What was marked before stays, unless a sync has failed."""
        if self._marked and self._born == self._spool.distrusted:
            self.close()
        else:
            self.remove()

    def close(self) -> None:
        descriptor, self._mark = self._mark, -1
        try:
            if descriptor >= 0:
                os.close(descriptor)
        finally:
            super().close()

    def remove(self) -> None:
        """The mark first: it vouches for the bytes."""
        try:
            self._spool.disk.unlink(self._mark_path)
        finally:
            super().remove()

    def hand_over(self) -> None:
        """The manifest vouches for the bytes. A mark that stays is swept."""
        with contextlib.suppress(OSError):
            self._spool.disk.unlink(self._mark_path)

    def _holds(self, reached: Reached) -> bool:
        """Whether the file begins with these bytes. From now on they are ``seen``, and the last of them are the ``tail``."""
        seen, left, tail = hashlib.sha256(), reached.size, b""
        try:
            with open(self._path, "rb", buffering=0) as reader:
                while left and (data := reader.read(min(COPY_BYTES, left))):
                    seen.update(data)
                    left -= len(data)
                    tail = (tail + data[-OVERLAP:])[-OVERLAP:]
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in OF_ONE_FILE:
                raise
            return False
        if left or seen.hexdigest() != reached.sha256:
            return False
        self.seen, self.tail = seen, tail
        return True

    def _set_mark(self) -> None:
        """The bytes so far last, and then the mark says so."""
        disk = self._spool.disk
        reached = _line(Reached(self.size, self.seen.hexdigest()))
        new = self._mark < 0
        self._sync(self._path)
        if new:
            reached = _line(self._part) + reached
        with self._spool.room.held([len(reached)]):
            if new:
                self._mark = disk.create(self._mark_path, self._spool.mode)
            disk.append(self._mark, reached)
        self._sync(self._mark_path)
        if new:
            self._sync_names()
        self._marked = self.size

    def _sync(self, path: str) -> None:
        with self._distrusting():
            self._spool.disk.sync_file(path)

    def _sync_names(self) -> None:
        with self._distrusting():
            self._spool.disk.sync_directory(self._spool.directory)

    @contextlib.contextmanager
    def _distrusting(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._spool.distrust()  # whatever the sync was about
            raise


def is_part(name: str) -> bool:
    """Whether that is the name of a part's file."""
    return name.startswith(PREFIX) and not name.endswith(SUFFIX)


def mark_of(name: str) -> str:
    """The name of the mark of the part with that name."""
    return f"{name}{SUFFIX}"


def resumable(directory: str) -> set[str]:
    """The names of what may still be gone on with in a stage: parts and their marks. Blocking."""
    found: set[str] = set()
    for mark in _marks(directory):
        path = f"{directory}/{mark_of(mark.part.name)}"
        with contextlib.suppress(FileNotFoundError):
            recent = time.time() - os.stat(path).st_mtime < LONGEST_WAIT
            if recent and os.stat(f"{directory}/{mark.part.name}").st_size >= mark.reached.size:
                found |= {mark.part.name, mark_of(mark.part.name)}
    return found


# --- marks ---------------------------------------------------------------------------------------------------------


def _marks(directory: str) -> Iterator[Mark]:
    """Those in a stage that say something, each under its own name."""
    for name in os.listdir(directory):
        if name.startswith(PREFIX) and name.endswith(SUFFIX):
            mark = _mark(f"{directory}/{name}")
            if mark is not None and mark_of(mark.part.name) == name:
                yield mark


def _mark(path: str) -> Mark | None:
    """What the mark says; None where it says nothing, or cannot be read."""
    try:
        with open(path, "rb") as reader:
            first, *lines = reader.read().splitlines(keepends=True) or [b""]
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in OF_ONE_FILE:
            raise
        return None
    part = _told(first, PartOf)
    if part is None:
        return None
    reached, length = None, len(first)
    for line in lines:
        if (more := _told(line, Reached)) is None:
            break
        reached, length = more, length + len(line)
    return None if reached is None else Mark(part, reached, length)


def _line(told: msgspec.Struct) -> bytes:
    """A line of a mark."""
    text = msgspec.json.encode(told)
    return text + b" " + hashlib.sha256(text).hexdigest().encode() + b"\n"


def _told(line: bytes, kind: type[S]) -> S | None:
    """What a line of a mark says; None for one that is torn, or says something else."""
    text, _, seal = line.rpartition(b" ")
    if seal != hashlib.sha256(text).hexdigest().encode() + b"\n":
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:
        return None
