"""What a power cut may leave, from the records of what was done to the disk and what was synced.

The model is as strict as the file systems that the daemon is used on allow (ext4, xfs, btrfs):

- bytes are sure to last once their file, or the whole file system, was synced. What came after may be there, not be there,
  or be there in sectors of 512 bytes, in any order; where bytes are lost and the size is not, there are zeros;
- names are sure to last once their directory, or the whole file system, was synced: a sync of the file is not enough. Those
  that came after are kept up to some moment, for each directory one of its own, and nothing that came later in it;
- a rename is there in both directories or in neither, and never waits for the bytes of its file;
- what was overwritten or deleted is there again where that was not synced.

A file that is shared memory between processes (``-shm``) is made by no call and never built.
"""

from __future__ import annotations

import random
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crash.injector import Change, Kind

SECTOR = 512


@dataclass(eq=False)
class File:
    """Bytes that are sure to last, and what was done to them since: bytes written at an offset, or None for a cut to it."""

    lasting: bytes = b""
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def settle(self) -> None:
        self.lasting = bytes(_applied(self.lasting, self.since))
        self.since = []


@dataclass(eq=False)
class Directory:
    """Names as a process sees them, those that are sure to last, and the steps between."""

    now: dict[str, Node] = field(default_factory=dict)
    lasting: dict[str, Node] = field(default_factory=dict)
    since: list[Step] = field(default_factory=list)


@dataclass(eq=False)
class Special:
    """What holds no bytes: a socket."""


Node = File | Directory | Special


@dataclass(eq=False)
class Step:
    """Names that change together: in which directory, which, and what they stand for now (None: nothing)."""

    names: list[tuple[Directory, str, Node | None]]


@dataclass(frozen=True)
class Inodes:
    """What was there before anything was written down: path below the root and bytes (None: a directory) by inode."""

    found: dict[int, tuple[str, bytes | None]]

    @classmethod
    def of(cls, root: Path) -> Inodes:
        found: dict[int, tuple[str, bytes | None]] = {}
        for path in (root, *sorted(root.rglob("*"))):
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                found[status.st_ino] = (path.relative_to(root).as_posix(), None)
            elif stat.S_ISREG(status.st_mode):
                found[status.st_ino] = (path.relative_to(root).as_posix(), path.read_bytes())
        return cls(found)


@dataclass(frozen=True)
class Recording:
    """All that a run did to the disk below ``root``."""

    root: Path
    before: Inodes
    changes: Sequence[Change]

    def cut(self, at: int, dice: random.Random) -> Image:
        """One of the images that a power cut after that many changes may leave."""
        disk = _Disk(self.root, self.before)
        marks = [change.path for change in self.changes[:at] if not disk.apply(change)]
        return Image(at, frozenset(marks), _left(disk.root, dice))


@dataclass(frozen=True)
class Image:
    """A tree as it is found when the power is back: bytes by path, None for a directory. ``marks`` are what the client had been
    told before the power went."""

    at: int
    marks: frozenset[str]
    content: dict[str, bytes | None]

    def build(self, tree: Path) -> None:
        tree.mkdir()
        for path, data in self.content.items():
            if data is None:
                (tree / path).mkdir()
            else:
                (tree / path).write_bytes(data)


class _Disk:
    """The state of everything while the records are gone through."""

    def __init__(self, root: Path, before: Inodes) -> None:
        self._root = f"{root}/"
        self._nodes: dict[int, Node] = {}
        self.root = Directory()
        for inode, (path, data) in before.found.items():
            node: Node = self.root if path == "." else Directory() if data is None else File(data)
            self._nodes[inode] = node
            if path != ".":
                directory, name = self._parent(f"{root}/{path}")
                directory.now[name] = directory.lasting[name] = node

    def apply(self, change: Change) -> bool:
        """False where it is only a mark."""
        if change.kind is Kind.MARK:
            return False
        if change.kind in (Kind.CREATE, Kind.MKDIR, Kind.BIND):
            node: Node = {Kind.CREATE: File, Kind.MKDIR: Directory, Kind.BIND: Special}[change.kind]()
            self._nodes[change.inode] = node
            self._name(change.path, node)
        elif change.kind in (Kind.UNLINK, Kind.RMDIR):
            self._name(change.path, None)
        elif change.kind is Kind.LINK:
            self._name(change.other, self._at(change.path))
        elif change.kind is Kind.RENAME:
            moved = self._at(change.path)
            self._step([(*self._parent(change.path), None), (*self._parent(change.other), moved)])
        elif change.kind in (Kind.WRITE, Kind.TRUNCATE):
            file = self._nodes[change.inode]
            assert isinstance(file, File)
            file.since.append((change.offset, change.data if change.kind is Kind.WRITE else None))
        elif change.kind in (Kind.SYNC_FILE, Kind.SYNC_DIRECTORY, Kind.SYNC_ALL):
            for node in [self._nodes[change.inode]] if change.kind is not Kind.SYNC_ALL else list(self._nodes.values()):
                if isinstance(node, File):
                    node.settle()
                elif isinstance(node, Directory):
                    _keep(_reached(list(node.since)))
        return True

    def _name(self, path: str, node: Node | None) -> None:
        self._step([(*self._parent(path), node)])

    def _step(self, names: list[tuple[Directory, str, Node | None]]) -> None:
        step = Step(names)
        for directory in {id(directory): directory for directory, _, _ in names}.values():
            directory.since.append(step)
        for directory, name, node in names:
            _set(directory.now, name, node)

    def _at(self, path: str) -> Node:
        directory, name = self._parent(path)
        return directory.now[name]

    def _parent(self, path: str) -> tuple[Directory, str]:
        *parents, name = path.removeprefix(self._root).split("/")
        directory = self.root
        for parent in parents:
            below = directory.now[parent]
            assert isinstance(below, Directory)
            directory = below
        return directory, name


# --- what is left --------------------------------------------------------------------------------------------------


def _left(root: Directory, dice: random.Random) -> dict[str, bytes | None]:
    """Decide about everything that is not sure to last; the tree."""
    luck = dice.choice(("none", "all", "some", "some", "some"))
    directories = list(_directories(root))
    for directory in directories:
        kept = {"none": 0, "all": len(directory.since)}.get(luck)
        if kept is None:
            kept = dice.choice((0, len(directory.since), dice.randint(0, len(directory.since))))
        _keep(_reached(directory.since[:kept]))
    return dict(_contents(root, "", luck, dice))


def _directories(directory: Directory) -> Iterator[Directory]:
    """All that may still be found from here, by the names of any moment."""
    seen: set[int] = set()
    waiting = [directory]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            named = [*each.lasting.values(), *(node for step in each.since for _, _, node in step.names)]
            waiting += [node for node in named if isinstance(node, Directory)]


def _reached(steps: list[Step]) -> list[Step]:
    """These steps, and all that must have been taken before them in each of their directories."""
    reached: dict[int, Step] = {}
    waiting = list(steps)
    while waiting:
        step = waiting.pop()
        if id(step) not in reached:
            reached[id(step)] = step
            for directory, _, _ in step.names:
                waiting += directory.since[: directory.since.index(step)]
    return list(reached.values())


def _keep(steps: list[Step]) -> None:
    """The steps are sure to last."""
    chosen = {id(step) for step in steps}
    for directory in {id(directory): directory for step in steps for directory, _, _ in step.names}.values():
        for step in directory.since:
            if id(step) in chosen:
                for changed, name, node in step.names:
                    if changed is directory:
                        _set(directory.lasting, name, node)
        directory.since = [step for step in directory.since if id(step) not in chosen]


def _set(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _contents(directory: Directory, above: str, luck: str, dice: random.Random) -> Iterator[tuple[str, bytes | None]]:
    for name, node in directory.lasting.items():
        path = above + name
        if isinstance(node, Directory):
            yield path, None
            yield from _contents(node, f"{path}/", luck, dice)
        elif isinstance(node, File) and not name.endswith("-shm"):
            yield path, _bytes_left(node, luck, dice)


def _bytes_left(file: File, luck: str, dice: random.Random) -> bytes:
    fate = luck if luck != "some" else dice.choice(("none", "all", "beginning", "sectors"))
    if fate == "none" or not file.since:
        return file.lasting
    if fate == "all":
        return bytes(_applied(file.lasting, file.since))
    if fate == "beginning":
        kept = dice.randrange(len(file.since))
        begun = [(offset, data) for offset, data in _sectors(*file.since[kept])]
        return bytes(_applied(file.lasting, [*file.since[:kept], *begun[: dice.randint(0, len(begun))]]))
    sectors = [sector for written in file.since for sector in _sectors(*written)]
    left = _applied(file.lasting, [sector for sector in sectors if dice.random() < 0.5])
    size = len(_applied(file.lasting, file.since))
    if dice.random() < 0.5 and len(left) < size:
        left.extend(bytes(size - len(left)))
    return bytes(left)


def _sectors(offset: int, data: bytes | None) -> Iterator[tuple[int, bytes | None]]:
    """What was written in one call, sector by sector of the file."""
    if data is None:
        yield offset, None
        return
    position = 0
    while position < len(data):
        size = SECTOR - (offset + position) % SECTOR
        yield offset + position, data[position : position + size]
        position += size


def _applied(lasting: bytes, changes: Sequence[tuple[int, bytes | None]]) -> bytearray:
    content = bytearray(lasting)
    for offset, data in changes:
        end = offset + len(data or b"")
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        if data is None:
            del content[offset:]
        else:
            content[offset:end] = data
    return content
