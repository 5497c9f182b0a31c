"""What any store has below its root before it holds anything: the lock, the mark of its format, the stage, the threads; and
what stores over such a tree have in common.

root/.haul/lock             held while a daemon has the tree
root/.haul/format           which store wrote it
root/.haul/stage/           bytes that wait, parts of large items, and manifests
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from haulapi.faults import Exit
from hauld.errors import Fatal, Transient
from hauld.model import Deposit, Place, Placed
from hauld.stores import formats
from hauld.stores.base import Store
from hauld.stores.bodies import Spool, StageWriter, ended
from hauld.stores.durable import Disk, disk_trouble
from hauld.stores.parts import FolderSink
from hauld.stores.places import Modes
from hauld.stores.stage import FEW, Stage, uncut

OWN = ".haul"
"""Below the root: what is the daemon's own."""

THREADS = 3
"""One for the commit, and some so that large bodies and readers need not wait for it. What is urgent has one of its own."""

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Tree:
    """The directory of a store of the format ``name``. A body is held in memory up to ``memory_limit`` bytes; ``keep_free``
    is how many stay free on its file system, 0 for no care."""

    def __init__(self, root: Path, name: str, disk: Disk, modes: Modes, memory_limit: int, keep_free: int) -> None:
        self.root = os.fspath(root)
        self.own = f"{self.root}/{OWN}"
        self.disk = disk
        self.modes = modes
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self.express = ThreadPoolExecutor(1, thread_name_prefix="express")
        self.spool = Spool(f"{self.own}/stage", disk, self.pool, modes.file, memory_limit, keep_free)
        self.stage = Stage(self.root, f"{self.own}/stage", disk, self.spool, modes.file)
        self._name = name
        self._lock = -1
        self._descriptor = -1
        self._whole = False

    def open(self) -> None:
        """In a thread: all of it is there, and ours. Raises ``Fatal`` when another process has it, or another format."""
        self._make_way(os.path.dirname(os.path.abspath(self.root)))
        if not os.path.isdir(self.root):
            self.make_directory(self.root)
        for directory in (self.own, f"{self.own}/stage"):
            self.make_directory(directory)
        self._lock = os.open(f"{self.own}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            formats.claim(self.root, self._name, self.disk, self.modes.file)
            self.stage.open()
            self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BlockingIOError:
            self._unlock()
            raise Fatal(
                "locked",
                f"Another process has the store in {self.root}.",
                hint="Only one daemon may write there: stop the other one, or give this one another path in [store].",
                exit_code=Exit.TRY_AGAIN,
            ) from None
        except BaseException:
            self._unlock()
            raise
        self._whole = self.disk.can_sync_file_system(self.root)

    async def close(self) -> None:
        """Idempotent. What cannot be tidied now is swept by the next recovery."""
        await self.spool.give_up()
        await asyncio.to_thread(self.pool.shutdown)
        await asyncio.to_thread(self.express.shutdown)
        await asyncio.to_thread(self.stage.close)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._unlock()

    def syncs_whole(self, things: int, urgent: bool) -> bool:
        """Whether so many files and directories are synced by a sync of all there is."""
        return self._whole and things > FEW and not urgent

    def sync(self, directories: Collection[str], whole: bool) -> None:
        """The names in these directories last, all below the root, which is ``""``; with ``whole``, everything does."""
        try:
            if whole:
                self.disk.sync_file_system(self._descriptor)
            else:
                for directory in directories:
                    self.disk.sync_directory(f"{self.root}/{directory}" if directory else self.root)
        except OSError:
            self.spool.distrust()  # whatever the sync was about
            raise

    def make_directory(self, path: str) -> None:
        """The directory is there, durable in the one above."""
        self.disk.make_directory(path, self.modes.directory, self.modes.group)
        self.disk.sync_directory(os.path.dirname(os.path.abspath(path)))

    def _make_way(self, path: str) -> None:
        """The directory is there, and each name that was missing on the way to it lasts: what is below goes with it."""
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        self._make_way(above)
        os.mkdir(path)
        self.disk.sync_directory(above)

    async def run(self, step: Callable[[*Ts], R], *args: *Ts, doing: str, urgent: bool = False) -> R:
        """The step in a thread, never cut in half; trouble with the disk in words."""
        try:
            return await uncut(self.express if urgent else self.pool, step, *args)
        except OSError as error:
            raise disk_trouble(error, doing) from error

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class TreeStore(Store):
    """What a store over a tree is, but for what it keeps there and how: ``_commit`` and ``_recover`` are its own."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._root = tree.root
        self._committing = asyncio.Lock()
        self._hurrying = asyncio.Lock()  # the same for what is urgent; who takes both takes it second

    async def start(self) -> None:
        await self._tree.run(self._tree.open, doing=f"open the store in {self._root}")

    async def close(self) -> None:
        """Idempotent. What cannot be tidied now is swept by the next ``recover``."""
        async with self._alone():
            await self._tree.close()

    def open(self, key: str, size: int) -> StageWriter:
        return self._tree.spool.open()

    def sink(self, place: Place, epoch: str) -> FolderSink:
        return FolderSink(self._tree.spool, place, epoch)

    async def write(self, group: Sequence[Deposit]) -> bool:
        await ended([deposit.body for deposit in group])
        return await uncut(self._tree.pool, self._write, group)

    @asynccontextmanager
    async def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AsyncIterator[Sequence[Placed]]:
        if not group:
            yield ()
            return
        async with self._hurrying if urgent else self._committing:
            await ended([deposit.body for deposit in group])
            doing = _storing(group, self._root)
            manifest, placed = await self._tree.run(self._commit, group, urgent, doing=doing, urgent=urgent)
        yield placed
        with contextlib.suppress(Transient):  # the rows are there; a manifest that stays is reported once more, no harm
            await self._tree.run(self._tree.stage.forget, manifest, doing=f"tidy the stage in {self._root}")

    async def probe(self) -> None:
        async with self._committing:
            await self._tree.run(self._tree.stage.probe, doing=f"store anything in {self._root}")

    async def recover(self) -> Sequence[Placed]:
        async with self._alone():
            return await self._tree.run(self._recover, doing=f"recover the stage in {self._root}")

    async def settle(self) -> None:
        async with self._alone():
            await self._tree.run(self._tree.stage.settle, doing=f"tidy the stage in {self._root}")

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """No group is on its way to its final names meanwhile, urgent or not."""
        async with self._committing, self._hurrying:
            yield

    def _write(self, group: Sequence[Deposit]) -> bool:
        """In a thread, perhaps beside a commit: see ``write``."""
        raise NotImplementedError

    def _commit(self, group: Sequence[Deposit], urgent: bool) -> tuple[str, Sequence[Placed]]:
        """In a thread, an urgent group perhaps beside one that is not: the group is durable. The name of its manifest, and
        where the items are."""
        raise NotImplementedError

    def _recover(self) -> Sequence[Placed]:
        """In a thread: what the stage's manifests name is where it belongs."""
        raise NotImplementedError


def _storing(group: Sequence[Deposit], root: str) -> str:
    """What is being done, in words."""
    folders = {deposit.place.directory: deposit.place.folder.name for deposit in group}
    where = f"folder {next(iter(folders.values()))!r}" if len(folders) == 1 else f"{len(folders)} folders"
    return f"store {len(group)} items of {where} in {root}"
