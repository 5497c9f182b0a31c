"""The content-addressed store: each message once, under the hash of its bytes, however many folders have it.

``EmlStore`` is what the engine sees. ``index`` tells which folder holds what, ``objects`` is where the messages are,
``packing`` compresses them, ``tree`` is what any store has; ``bodies`` takes the bytes as they come, and ``stage`` makes them
last.

    root/.haul/                          the lock, the stage, what was set aside
    root/index/mine/INBOX.json           what a folder holds: the place of the folder
    root/9f/86/9f86d081...0a08.eml       a message, bytes exactly as they came
    root/9f/86/9f86d081...0a08.eml.zst   or compressed

**The order of a commit.** First the lines in the indexes and the directories of the messages are made durable, then the
messages themselves, as ``stage`` tells. A line without its bytes says nothing, so a crash in between costs a line; and when
the bytes are reported after a crash, what the folder has to say of them is there already.

**One copy.** The same bytes are the same file: storing them again puts what was just received in its place, so a damaged one
is mended, and whether compression was switched on or off meanwhile, one form of it stays. A path does not say which form it
is; either is found. Removing a path takes the file from everybody, so the ledger asks for it only when no item is left that
has it. The line stays, and means something again only if the same bytes come again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

from msgspec import structs

from hauld.errors import ItemRejected
from hauld.model import Body, Deposit, Found, Place, Placed, RemoteFolder
from hauld.stores.bodies import MemoryBody, SpilledBody
from hauld.stores.durable import Disk, FolderTrouble, disk_trouble
from hauld.stores.index import INDEX, Indexes, Line
from hauld.stores.objects import PACKED, Objects, object_path
from hauld.stores.packing import Damaged, Packer
from hauld.stores.places import Modes
from hauld.stores.stage import Move
from hauld.stores.tree import Tree, TreeStore

StagedBody: TypeAlias = MemoryBody | SpilledBody
Compression: TypeAlias = Literal["none", "zstd"]

DIRECTORIES_AN_ITEM = 2
"""How many new ones an item may need."""

LINE = 512
"""Bytes of an item in an index, as a rule: some 200, and its flags."""


class EmlStore(TreeStore):
    """Messages below ``root`` by the SHA-256 of their bytes; with ``compression`` those stored from now on are compressed.

    ``mode`` is that of files; directories get it with the search bits. ``group`` is a name, for whoever may read along.
    A body is held in memory up to ``memory_limit`` bytes, then it goes to the stage as it comes. Of the file system
    ``keep_free`` bytes stay free; 0 for no care.
    """

    def __init__(
        self,
        root: Path,
        *,
        compression: Compression = "none",
        group: str | None = None,
        mode: int = 0o640,
        memory_limit: int = 256 * 1024,
        keep_free: int = 0,
        disk: Disk | None = None,
    ) -> None:
        self._disk = disk or Disk()
        modes = Modes(mode, group)
        super().__init__(Tree(root, "eml", self._disk, modes, memory_limit, keep_free))
        self._indexes = Indexes(self._root, self._disk, modes, self._tree.spool.room, self._tree.spool.distrust)
        self._objects = Objects(self._tree)
        self._compression = compression
        self._packer: Packer | None = None
        self._frames: WeakKeyDictionary[MemoryBody, MemoryBody | None] = WeakKeyDictionary()
        self._packed_files: WeakKeyDictionary[SpilledBody, tuple[str, int, str]] = WeakKeyDictionary()

    async def start(self) -> None:
        if self._compression == "zstd":
            self._packer = Packer()
        await super().start()

    # --- the way of an item ---

    async def prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        return await self._tree.run(self._prepare, identity, account, folder, directory, doing=f"index folder {folder.name!r}")

    def _prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        with self._tree.stage.of_folder(directory or INDEX):
            return self._indexes.prepare(identity, account, folder, directory)

    def _write(self, group: Sequence[Deposit]) -> bool:
        """Hash it, and write it to the stage. What is to be compressed is compressed, and written by its commit."""
        if self._packer is None:
            return self._tree.stage.write_ahead((deposit.body, None) for deposit in group)
        for deposit in group:
            if isinstance(deposit.body, MemoryBody):
                deposit.body.sha256()  # which is remembered
                self._frame(self._packer, deposit.body)
        return False

    def _commit(self, group: Sequence[Deposit], urgent: bool) -> tuple[str, list[Placed]]:
        """In a thread: lines first, then the bytes that they tell of. Until the stage has them, the bodies can be committed
        again."""
        placed = [_placed(deposit) for deposit in group]
        bodies = [deposit.body for deposit in group if isinstance(deposit.body, MemoryBody)]
        unwritten = [body.size for body in bodies if body.name is None]
        beside = [1] * (DIRECTORIES_AN_ITEM * len(group)) + [LINE * len(group)]
        self._tree.spool.room.check([*unwritten, *beside])
        with self._tree.spool.room.held(beside):
            self._announce(group, placed, urgent)
        forms = [self._form(_staged(deposit.body)) for deposit in group]
        moves = [form.move(item) for form, item in zip(forms, placed, strict=True)]
        try:
            manifest = self._tree.stage.commit(moves, urgent)
        except OSError as error:
            self._objects.forget_room()  # perhaps somebody has deleted what was empty
            raise _of_all(error) from error
        for move in moves:
            self._objects.keep_only(move.target)
        for directory in {deposit.place.directory for deposit in group}:
            self._indexes.used(directory)
        return manifest, placed

    def _announce(self, group: Sequence[Deposit], placed: Sequence[Placed], urgent: bool) -> None:
        """The lines of the group, and the directories that its bytes go to, are durable."""
        lines: dict[str, list[Line]] = {}
        for deposit, item in zip(group, placed, strict=True):
            line = Line(item.epoch, item.key, item.sha256, item.size, deposit.date, deposit.flags)
            lines.setdefault(deposit.place.directory, []).append(line)
        places = {deposit.place.directory: deposit.place for deposit in group}
        paths = [item.path for item in placed]
        try:
            changed = self._objects.make_room(paths)
            whole = self._tree.syncs_whole(len(lines) + len(changed), urgent)
            for directory in lines:
                self._grow(places[directory], lines[directory], lasting=not whole)
            self._tree.sync(changed, whole)
        except BaseException as error:
            self._objects.forget_room()
            for directory in lines:
                self._indexes.distrust(directory)
            if isinstance(error, FolderTrouble) and len(lines) > 1:
                raise _of_all(error) from error
            raise
        self._objects.has_room(paths)

    def _grow(self, place: Place, lines: Sequence[Line], *, lasting: bool) -> None:
        """The folder's index has these lines."""
        with self._tree.stage.of_folder(place.directory):
            self._indexes.restore(place)
            self._indexes.add(place.directory, lines, lasting=lasting)

    def _recover(self) -> list[Placed]:
        """In a thread: the manifests tell of files, the ledger wants items."""
        return [self._item(told) for told in self._tree.stage.recover(self._locate)]

    def _locate(self, paths: Collection[str]) -> Mapping[str, str]:
        """Files of this store stay where they are."""
        return {path: path for path in paths if os.path.lexists(f"{self._root}/{path}")}

    def _item(self, told: Placed) -> Placed:
        """The item in a file that a manifest tells of: ``_Form.move`` the other way round."""
        path = told.path.removesuffix(PACKED)
        return structs.replace(told, path=path, sha256=Path(path).stem, size=self._objects.size(told.path))

    # --- compressing ---

    def _form(self, body: StagedBody) -> _Form:
        """What of a body goes to its file."""
        if self._packer is None:
            return _Form(body)
        if isinstance(body, MemoryBody):
            frame = self._frame(self._packer, body)
            return _Form(body) if frame is None else _Form(frame, PACKED, frame.size, frame.sha256())
        if body not in self._packed_files:
            self._packed_files[body] = self._pack_file(self._packer, body)
        suffix, size, sha256 = self._packed_files[body]
        return _Form(body, suffix, size, sha256)

    def _frame(self, packer: Packer, body: MemoryBody) -> MemoryBody | None:
        """The compressed bytes, made once; None where they are not fewer."""
        if body not in self._frames:
            frame = packer.pack(body.data)
            self._frames[body] = None if frame is None else MemoryBody(bytearray(frame))
        return self._frames[body]

    def _pack_file(self, packer: Packer, body: SpilledBody) -> tuple[str, int, str]:
        """The file of a large body holds the compressed bytes from now on, where they are fewer. What it is now: the suffix
        of its form, its size and its SHA-256."""
        body.check()
        spool = self._tree.spool
        staged, packed = spool.path(body.name), spool.path(spool.name())
        try:
            with spool.room.held([body.size]):
                size, sha256 = packer.pack_file(staged, packed, body.size, self._disk, spool.mode)
            if size >= body.size:
                self._disk.unlink(packed)
                return "", 0, ""
            self._disk.rename(packed, staged)
        except BaseException:
            with contextlib.suppress(OSError):
                self._disk.unlink(packed)
            raise
        return PACKED, size, sha256

    # --- what is stored ---

    async def read(self, path: str) -> bytes:
        try:
            return await self._tree.run(self._objects.read, path, doing=f"read {path}")
        except Damaged as error:
            raise ItemRejected(
                "damaged",
                f"The file of {path} is damaged: it cannot be decompressed.",
                hint="'haulctl verify' fetches it again, if the origin still has it.",
            ) from error

    async def relabel(self, path: str, flags: Sequence[str]) -> None:
        """Nothing: the ledger has the flags, and the file is not one folder's alone."""

    async def remove(self, path: str) -> None:
        await self._tree.run(self._objects.remove, path, doing=f"delete {path}")

    async def digest(self, paths: Sequence[str]) -> Sequence[tuple[int, str] | None]:
        return [await self._tree.run(self._objects.digest, path, doing=f"read {path}") for path in paths]

    async def heads(self, paths: Sequence[str], size: int) -> Sequence[bytes | None]:
        doing = f"read the beginnings of {len(paths)} items in {self._root}"
        return await self._tree.run(self._objects.heads, paths, size, doing=doing)

    async def set_aside(self, path: str) -> str | None:
        async with self._alone():
            return await self._tree.run(self._objects.set_aside, path, doing=f"set {path} aside")

    # --- what the tree itself tells ---

    def places(self) -> Iterator[Place]:
        with self._looking():
            yield from self._indexes.places()

    def look(self, place: Place) -> Iterator[Found]:
        """Of a compressed file only its bytes tell whether it is whole, so it is taken at its word."""
        with self._looking():
            for line in self._indexes.items(place):
                path = object_path(line.sha256)
                size = self._objects.stored_size(path, packed=line.size)
                if size is None:
                    continue
                placed = Placed(place.identity, place.folder.raw, line.epoch, line.key, line.size, line.sha256, path)
                yield Found(path, size, placed if size == line.size else None, line.flags, line.date)

    def strays(self) -> Iterator[str]:
        """A message that no index tells of is one; so is any file that is neither message nor index."""
        with self._looking():
            told = {bytes.fromhex(line.sha256) for place in self._indexes.places() for line in self._indexes.items(place)}
            yield from self._objects.all_but(told)

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_trouble(error, f"look through the store in {self._root}") from error


@dataclass(frozen=True)
class _Form:
    """What goes to a file. ``size`` and ``sha256`` are those of the file, where it is not the item as it came."""

    body: StagedBody
    suffix: str = ""
    size: int = 0
    sha256: str = ""

    def move(self, item: Placed) -> Move:
        """The item's way. Manifests vouch for files, so what they are told is what the file holds."""
        told = (
            structs.replace(item, path=f"{item.path}{self.suffix}", size=self.size, sha256=self.sha256) if self.suffix else item
        )
        return Move(self.body, told.path, told)


def _placed(deposit: Deposit) -> Placed:
    body, place = _staged(deposit.body), deposit.place
    sha256 = body.sha256()
    return Placed(
        identity=place.identity,
        folder=place.folder.raw,
        epoch=deposit.epoch,
        key=deposit.key,
        size=body.size,
        sha256=sha256,
        path=object_path(sha256),
    )


def _staged(body: Body) -> StagedBody:
    if not isinstance(body, MemoryBody | SpilledBody):
        raise TypeError(f"{type(body).__name__} is not a body that this store staged")
    return body


def _of_all(error: OSError) -> OSError:
    """Trouble that may be no more than one folder's, but is not of one folder's group."""
    return OSError(error.errno, error.strerror, error.filename)
