"""Where bytes wait until they last: what any store needs between the socket and its final names.

The writers of ``bodies`` take the bytes of each item. ``Stage.commit`` makes a group of them durable under their final
names, and ``Stage.recover`` finishes what a crash or an error cut off.

**The order of a commit, and why.**

0. *look*: there is room, and every directory can be written. What is known to fail fails here, and the bodies stay as they
   are: they can be committed again, folder by folder.
1. *write*: every body is a file of the stage. Nothing can be seen of it yet, so this may be done ahead (``write_ahead``), while
   another group is at the steps below.
2. *manifest*: one file that says which staged bytes are which item and where they go. It ends with its own hash, so that a
   torn one is known for what it is.
3. *sync*: bytes, staged names and manifest are durable. Only after this may a final name appear, because a name without
   its bytes looks like a stored item.
4. *rename*: each file gets its final name. The stage is on the same device, so a name appears with all its bytes or not at
   all, and takes the place of nothing but the same item.
5. *sync directories*: the names are durable. Only after this may the caller commit rows.
6. *forget*: rows are committed, the manifest goes.

A crash before 3 is over leaves a manifest that is torn, or that names bytes that are not whole: swept, and fetched again.
A crash after it leaves a manifest whose every item is whole, under its staged or its final name: ``recover`` completes the
renames and reports the group, until ``settle`` says that the rows are there.

**A directory that cannot be written** while the stage can is ``FolderTrouble``, and harms no other: ``recover`` passes it
over, and what is meant for it stays in the stage with its manifest until a later ``recover`` finds it mended.

**A file that cannot be read** (a bad sector) is never reported. Staged or under its final name, it stays where it is, its entry
stays in the manifest, the log names it, and all else is recovered: the item is still ``pending``, and fetched again. While a
manifest cannot be read nothing is swept, for nobody knows what it vouches for.

**When a sync fails**, the kernel may have dropped the bytes and called the pages clean, and asking again would be answered
with success. So nothing that was staged before is believed: the group is thrown away, and so are large bodies that were
being written meanwhile, those that would have been kept to be resumed among them (``parts``). For the same reason ``recover``
writes staged bytes anew before it syncs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar, TypeVarTuple

import msgspec

from hauld.errors import Transient, tellable
from hauld.model import Body, Placed
from hauld.stores import manifest as manifests
from hauld.stores import parts
from hauld.stores.bodies import MemoryBody, SpilledBody, Spool
from hauld.stores.durable import OF_ONE_FILE, OF_ONE_FOLDER, Disk, FolderTrouble
from hauld.stores.manifest import Entry

log = logging.getLogger(__name__)

FEW = 4
"""So many files (a manifest is one of them), or directories, are synced one by one: a sync of the whole file system also
waits for what others write there."""

PROBE = bytes(16 * 1024)
"""What is written to see whether anything can be: more than any file system keeps beside a file's name."""

ROOM_TO_GO_ON = 1 << 20
"""Bytes for which there has to be room, beside what is kept free, before work that stopped for want of it goes on: else every
small file that fits would have a whole batch fetched again."""

ItemId: TypeAlias = tuple[str, bytes, str, str, str]
"""Identity, folder, epoch, key and path: two items may share a path."""

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Move(msgspec.Struct, frozen=True):
    """One staged body on its way: ``target`` is its final path below the root, ``mtime`` Unix seconds or None for now."""

    body: Body
    target: str
    placed: Placed
    mtime: int | None = None


class Stage:
    """A directory of bytes that wait, on the same device as ``root``, where their final names are.

    Its bodies come from ``spool``. All methods block and are called in a thread: ``recover``, ``settle`` and ``sweep`` while
    nothing else is under way, ``commit`` while at most an urgent one is beside one that is not.
    """

    def __init__(self, root: str, directory: str, disk: Disk, spool: Spool, mode: int) -> None:
        self._root = root
        self._directory = directory
        self._disk = disk
        self._spool = spool
        self._mode = mode
        self._descriptor = -1
        self._whole = False
        self._recovered: dict[str, list[Entry]] = {}  # manifests that were reported, with the entries that were passed over
        self._unread: set[str] = set()  # manifests that could not be read when they were looked at last
        self._told: set[str] = set()  # of these files the log has said that they cannot be read

    def open(self) -> None:
        """The directory is there; errors of its file system are noticed from now on."""
        self._descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._whole = self._disk.can_sync_file_system(self._directory)

    def close(self) -> None:
        """Nothing is left but what a manifest names, as far as the disk still lets us."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self.sweep()
            os.close(self._descriptor)
            self._descriptor = -1

    @contextlib.contextmanager
    def of_folder(self, directory: str) -> Iterator[None]:
        """What fails in here for the sake of ``directory`` alone, while the stage can be written, is ``FolderTrouble``."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FolderTrouble) or error.errno not in OF_ONE_FOLDER or not self._is_writable():
                raise
            raise FolderTrouble(error.errno, error.strerror, error.filename or directory) from error

    def probe(self) -> None:
        """Raise what a commit would meet now."""
        name = self._spool.name()
        with self._spool.room.held([ROOM_TO_GO_ON, len(PROBE)]):
            try:
                self._disk.write(self._path(name), PROBE, self._mode)
                self._sync([name])
            finally:
                self._throw_away([name])

    # --- commit: the order is told above ---

    def write_ahead(self, bodies: Iterable[tuple[Body, int | None]]) -> bool:
        """Step 1, for bodies in memory, each with its time (as in ``Move``), of a group that will be committed. What fails here
        fails there again, so nobody is told why; whether none is in memory any more."""
        unwritten = [(body, mtime) for body, mtime in bodies if isinstance(body, MemoryBody) and body.name is None]
        with (
            contextlib.suppress(OSError, Transient),
            self._spool.room.held([body.size for body, _ in unwritten]) as held,
        ):
            for body, mtime in unwritten:
                body.write(mtime)
                held.written(body.size)
            return True
        return False

    def commit(self, moves: Sequence[Move], urgent: bool = False) -> str:
        """Steps 0 to 5, for bodies that have ended. The name of the manifest, to be forgotten when the rows are there. What is
        urgent is synced file by file: it does not wait for what others have written.

        When this raises in step 0, the bodies are untouched; when it raises before the first rename, nothing of the group is
        left. When it raises later, the group is what it would be after a crash: durable, and reported by ``recover``.
        """
        self._look(moves)
        entries = [Entry(self._name_for(move.body), move.target, move.placed) for move in moves]
        manifest = f"{self._spool.name()}{manifests.SUFFIX}"
        told = manifests.encode(entries)
        with self._spool.room.held([*_unwritten(moves), len(told)]):
            try:
                for move, entry in zip(moves, entries, strict=True):
                    self._put(move, self._path(entry.staged))
                self._disk.write(self._path(manifest), told, self._mode)
                self._sync([entry.staged for entry in entries] + [manifest], urgent)
            except BaseException:
                # the manifest first: it vouches for the rest
                self._throw_away([manifest, *(entry.staged for entry in entries)])
                raise
            finally:
                for move in moves:
                    if isinstance(move.body, MemoryBody | SpilledBody):
                        move.body.hand_over()
        self._land(entries, urgent)
        return manifest

    def forget(self, manifest: str) -> None:
        """Step 6."""
        self._disk.unlink(self._path(manifest))

    def _look(self, moves: Sequence[Move]) -> None:
        """Step 0, but for the room."""
        for directory in dict.fromkeys(os.path.dirname(move.target) for move in moves):
            with self.of_folder(self._target(directory)):
                self._disk.check_writable(self._target(directory))

    def _put(self, move: Move, path: str) -> None:
        """The body is a file of the stage, with its time."""
        if isinstance(move.body, MemoryBody):
            move.body.check()
            if move.body.name is None:
                self._disk.write(path, move.body.data, self._mode, move.mtime)
        elif isinstance(move.body, SpilledBody):
            move.body.check()
            if move.mtime is not None:
                self._disk.stamp(path, move.mtime)

    def _sync(self, names: Sequence[str], urgent: bool = False) -> None:
        """These files of the stage are durable, names and bytes."""
        try:
            if self._whole and len(names) > FEW and not urgent:
                self._disk.sync_file_system(self._descriptor)
            else:
                for name in names:
                    self._disk.sync_file(self._path(name))
                self._disk.sync_directory(self._directory)
        except OSError:
            self._spool.distrust()
            raise

    def _land(self, entries: Sequence[Entry], urgent: bool = False) -> None:
        """Everything staged has its final name, durably."""
        groups = _by_directory(entries)
        crossed = False
        for directory, group in groups.items():
            with self.of_folder(self._target(directory)):
                for entry in group:
                    crossed |= self._rename(entry)
        if self._whole and len(groups) > FEW and not (crossed or urgent):
            self._disk.sync_file_system(self._descriptor)
        else:
            for directory in groups:
                with self.of_folder(self._target(directory)):
                    self._disk.sync_directory(self._target(directory))

    def _rename(self, entry: Entry) -> bool:
        """Whether it had to cross to another device (a folder that is a mount of its own): then through a file beside the
        target, as durable as the staged one before it gets the name."""
        staged, target = self._path(entry.staged), self._target(entry.target)
        try:
            self._disk.rename(staged, target)
            return False
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        beside = self._beside(entry)
        self._disk.unlink(beside)
        self._disk.copy(staged, beside, self._mode)
        self._disk.sync_file(beside)
        self._disk.rename(beside, target)
        self._disk.unlink(staged)
        return True

    def _throw_away(self, names: Sequence[str]) -> None:
        """As far as the disk still lets us; what stays is swept later."""
        for name in names:
            with contextlib.suppress(OSError):
                self._disk.unlink(self._path(name))

    # --- recovery ---

    def recover(self, locate: Callable[[Collection[str]], Mapping[str, str]]) -> list[Placed]:
        """Finish what manifests name: what is whole under its final name (``locate`` tells where files are now, other
        programs may have renamed them) or in the stage is reported; all else in the stage is swept, but what belongs to a
        directory that cannot be written now. Can be cut off and asked again."""
        waiting = self._manifests()
        entries = [entry for named in waiting.values() for entry in named]
        for entry in filter(lambda entry: parts.is_part(entry.staged), entries):
            self._disk.unlink(self._path(parts.mark_of(entry.staged)))  # the manifest vouches for it from now on
        finished: set[ItemId] = set()
        again: list[Entry] = []
        passed_over: set[str] = set()
        unreadable: set[str] = set()
        for directory, group in _by_directory(entries).items():
            with self._or_pass_over(directory, passed_over):
                landed, copied = self._look_after(group, locate, unreadable)
                finished |= landed
                again += copied
        if again:
            self._sync([entry.staged for entry in again])
        for directory, group in _by_directory(again).items():
            with self._or_pass_over(directory, passed_over):
                self._land(group)
                finished |= {_item(entry.placed) for entry in group}
        reported = {
            _item(entry.placed): entry.placed
            for entry in entries
            if _item(entry.placed) in finished and _directory(entry) not in passed_over
        }
        stays = {
            entry.staged
            for entry in entries
            if _directory(entry) in passed_over or (entry.staged in unreadable and _item(entry.placed) not in finished)
        }
        self._recovered = {name: [entry for entry in named if entry.staged in stays] for name, named in waiting.items()}
        self.sweep()
        return list(reported.values())

    def settle(self) -> None:
        """What ``recover`` reported is in the ledger. A manifest goes, and where some of it was passed over, a shorter one
        takes its place."""
        waiting = self._manifests()
        for name, left in self._recovered.items():
            if left == waiting.get(name):
                continue
            if left:
                self._write_manifest(left)
            self.forget(name)
        self._recovered = {}
        self.sweep()

    def sweep(self) -> None:
        """Delete what nothing names: no manifest that is whole, no writer, and no mark of a part. Nothing at all while there is
        a manifest that cannot be read."""
        names = os.listdir(self._directory)  # first: what others begin while this looks is not there yet
        waiting = self._manifests()
        if self._unread:
            return
        kept = self._spool.in_use() | {entry.staged for named in waiting.values() for entry in named} | set(waiting)
        kept |= parts.resumable(self._directory)
        for name in names:
            if name not in kept:
                self._disk.unlink(self._path(name))

    def _look_after(
        self, group: Sequence[Entry], locate: Callable[[Collection[str]], Mapping[str, str]], unreadable: set[str]
    ) -> tuple[set[ItemId], list[Entry]]:
        """Of the entries of one directory: the items that have their final names, durably, and those that are to get them.
        Where the disk cannot tell, the staged name becomes one of the ``unreadable``."""
        located = locate({entry.placed.path for entry in group})
        directories: set[str] = set()
        landed: set[ItemId] = set()
        again: dict[ItemId, Entry] = {}
        for entry in group:
            self._disk.unlink(self._beside(entry))
            item, target = _item(entry.placed), located.get(entry.placed.path)
            if item in landed or item in again:
                continue
            whole = target is not None and self._is_whole(self._target(target), entry.placed)
            if target is not None and whole:
                landed.add(item)
                directories.add(os.path.dirname(target))
            elif copied := self._written_again(entry, unreadable):
                again[item] = copied
            elif whole is None:
                unreadable.add(entry.staged)
        for directory in sorted(directories):
            self._disk.sync_directory(self._target(directory))
        return landed, list(again.values())

    @contextlib.contextmanager
    def _or_pass_over(self, directory: str, passed_over: set[str]) -> Iterator[None]:
        try:
            with self.of_folder(self._target(directory)):
                yield
        except FolderTrouble:
            passed_over.add(directory)

    def _write_manifest(self, entries: Sequence[Entry]) -> None:
        """A manifest of bytes that are durable already, as durable as they are."""
        manifest = f"{self._spool.name()}{manifests.SUFFIX}"
        try:
            self._disk.write(self._path(manifest), manifests.encode(entries), self._mode)
            self._sync([manifest])
        except BaseException:
            self._throw_away([manifest])
            raise

    def _written_again(self, entry: Entry, unreadable: set[str]) -> Entry | None:
        """The same bytes in a new file, so that a sync of it proves something; None unless they are whole and their folder
        is still there. Where they cannot be read, the staged name becomes one of the ``unreadable``."""
        copied = msgspec.structs.replace(entry, staged=self._spool.name())
        try:
            self._disk.check_writable(self._target(_directory(entry)))
            size, sha256 = self._disk.copy(self._path(entry.staged), self._path(copied.staged), self._mode)
        except FileNotFoundError:
            return None
        except OSError as error:
            whole = self._is_whole(self._path(entry.staged), entry.placed) if error.errno in OF_ONE_FILE else True
            if whole:  # then it was the new file that could not be written
                raise
            self._throw_away([copied.staged])
            if whole is None:
                unreadable.add(entry.staged)
            return None
        return copied if (size, sha256) == (entry.placed.size, entry.placed.sha256) else None

    def _is_whole(self, path: str, placed: Placed) -> bool | None:
        """Whether the file holds exactly these bytes; None where they cannot be read."""
        try:
            return os.stat(path).st_size == placed.size and self._disk.sha256_of(path) == (placed.size, placed.sha256)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in OF_ONE_FILE:
                raise
            self._tell_unreadable(path, error)
            return None

    def _tell_unreadable(self, path: str, error: OSError) -> None:
        """Once for each file."""
        if path in self._told:
            return
        self._told.add(path)
        log.error(
            "cannot read %s: %s; it stays where it is, and what it held is fetched again: look into the kernel log, check the "
            "drive, and move the file away where it cannot be mended",
            tellable(path),
            error.strerror,
            extra={"event": "stage.unreadable"},
        )

    def _manifests(self) -> dict[str, list[Entry]]:
        """The manifests that are whole, by name."""
        found = {}
        self._unread = set()
        for name in sorted(os.listdir(self._directory)):
            if name.endswith(manifests.SUFFIX):
                try:
                    entries = manifests.decode(self._disk.read(self._path(name)))
                except OSError as error:
                    if error.errno not in OF_ONE_FILE:
                        raise
                    self._unread.add(name)
                    self._tell_unreadable(self._path(name), error)
                    continue
                if entries is not None:
                    found[name] = entries
        return found

    def _is_writable(self) -> bool:
        try:
            self._disk.check_writable(self._directory)
        except OSError:
            return False
        return True

    # --- names ---

    def _name_for(self, body: Body) -> str:
        """In the stage: a large body is there already, and so is one that was written ahead."""
        there = body.name if isinstance(body, MemoryBody | SpilledBody) else None
        return there or self._spool.name()

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _target(self, target: str) -> str:
        return f"{self._root}/{target}"

    def _beside(self, entry: Entry) -> str:
        """A name that readers of the folder pass over, in the directory of the target."""
        directory, _, name = entry.target.rpartition("/")
        return self._target(f"{directory}/.{name}")


async def uncut(pool: ThreadPoolExecutor, step: Callable[[*Ts], R], *args: *Ts) -> R:
    """What the step returns, run in a thread. A caller that is cancelled leaves when the step has ended, not in its midst."""
    running = asyncio.get_running_loop().run_in_executor(pool, step, *args)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()
        raise cancelled
    return running.result()


def _unwritten(moves: Iterable[Move]) -> list[int]:
    """The sizes of bodies that are in no file yet."""
    return [move.body.size for move in moves if isinstance(move.body, MemoryBody) and move.body.name is None]


def _directory(entry: Entry) -> str:
    """Where it goes, below the root."""
    return os.path.dirname(entry.target)


def _by_directory(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """In the order of the directories' names."""
    groups: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=_directory):
        groups.setdefault(_directory(entry), []).append(entry)
    return groups


def _item(placed: Placed) -> ItemId:
    return placed.identity, placed.folder, placed.epoch, placed.key, placed.path
