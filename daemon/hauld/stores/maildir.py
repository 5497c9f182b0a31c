"""The Maildir store: one Maildir for each folder, readable by mutt, notmuch or Dovecot while the daemon runs.

``MaildirStore`` is what the engine sees. ``bodies`` takes the bytes as they come; ``stage`` makes them last, and tells in what
order; ``places`` finds each folder its directory, ``names`` gives each item its name, ``shelves`` finds files again wherever
other programs have them, ``repeats`` knows what is there already, and ``tree`` is what any store has.

    root/.haul/lock             held while a daemon has the tree
    root/.haul/stage/           bytes that wait, and manifests
    root/.haul/aside/           what was taken out of its folder, below the same directories
    root/mine/                  an account                                    (.haul-account)
    root/mine/INBOX/cur/        a folder, layout ``nested``                   (.haul-folder)
    root/mine/cur/, .Sent/cur/  INBOX and another folder, layout ``maildir++``

Messages go to ``cur``, bytes exactly as they came. Other programs may move them between ``new`` and ``cur`` and change
their flags: a file is found by its unique part, which is everything before ``:2,``. An item that is stored again takes the
place of the file it has, with the flags of both. Where another program has copied a file, so that two have one unique part,
``look`` tells the first as the item and the other as a file of nobody's. Directory names are UTF-8; Dovecot reads them with
``UTF-8`` in its mail_location (and ``LAYOUT=fs`` where they are nested).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from hauld.errors import ItemRejected
from hauld.model import Deposit, Found, Place, Placed, RemoteFolder
from hauld.stores import names
from hauld.stores.bodies import MemoryBody, SpilledBody
from hauld.stores.durable import Disk, FolderTrouble, disk_trouble
from hauld.stores.places import Layout, Modes, Places
from hauld.stores.repeats import Repeats
from hauld.stores.shelves import LOOKS, Shelves, contents
from hauld.stores.stage import Move
from hauld.stores.tree import Tree, TreeStore

HASHED_AT_ONCE = 16
"""So many files are read in one step, which is never cut in half."""

T = TypeVar("T")


class MaildirStore(TreeStore):
    """Maildirs below ``root``.

    ``mode`` is that of files; directories get it with the search bits. ``group`` is a name, for whoever may read along.
    A body is held in memory up to ``memory_limit`` bytes, then it goes to the stage as it comes. Nothing is stored that
    would leave less than ``keep_free`` bytes of the file system; 0 is for no such care.
    """

    def __init__(
        self,
        root: Path,
        *,
        layout: Layout = "nested",
        group: str | None = None,
        mode: int = 0o640,
        memory_limit: int = 256 * 1024,
        keep_free: int = 0,
        disk: Disk | None = None,
    ) -> None:
        disk = disk or Disk()
        modes = Modes(mode, group)
        super().__init__(Tree(root, "maildir", disk, modes, memory_limit, keep_free))
        self._stage = self._tree.stage
        self._places = Places(self._root, layout, disk, modes, self._tree.spool.room)
        self._shelves = Shelves(self._root, self._stage, disk, modes)
        self._repeats = Repeats(self._shelves.paths_in)
        self._known: dict[tuple[str, bytes], Place] = {}
        self._preparing = asyncio.Lock()

    # --- the way of an item ---

    async def prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        async with self._preparing:
            known = self._known.get((identity, folder.raw))
            if known and (known.account, known.folder) == (account, folder) and directory in (None, known.directory):
                return known
            doing = f"make a Maildir for folder {folder.name!r}"
            place = await self._tree.run(self._prepare, identity, account, folder, directory, doing=doing)
            self._known[identity, folder.raw] = place
            return place

    def _prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        with self._stage.of_folder(self._root):
            place = self._places.prepare(identity, account, folder, directory)
            self._tree.disk.check_writable(self._shelves.full(f"{place.directory}/cur"))
        return place

    def _write(self, group: Sequence[Deposit]) -> bool:
        return self._stage.write_ahead((deposit.body, _mtime(deposit)) for deposit in group)

    def _commit(self, group: Sequence[Deposit], urgent: bool) -> tuple[str, list[Placed]]:
        places = {deposit.place.directory: deposit.place for deposit in group}
        try:
            for directory, place in places.items():
                with self._stage.of_folder(self._shelves.full(directory)):
                    self._places.restore(place)
            return self._place(group, urgent)
        except FolderTrouble as error:
            if len(places) == 1:
                raise
            raise OSError(error.errno, error.strerror, error.filename) from error
        except BaseException:
            self._repeats.forget()
            raise

    def _place(self, group: Sequence[Deposit], urgent: bool) -> tuple[str, list[Placed]]:
        """Name each item after what it is, and commit all; whoever has a file already has one afterwards."""
        moves = [self._move(deposit) for deposit in group]
        by_directory: dict[str, set[str]] = {}
        for deposit, move in zip(group, moves, strict=True):
            by_directory.setdefault(deposit.place.directory, set()).add(move.placed.path)
        repeated: set[str] = set()
        for directory, paths in by_directory.items():
            with self._stage.of_folder(self._shelves.full(directory)):
                repeated |= self._repeats.among(directory, paths)
        if repeated:
            there = self._shelves.every_file(repeated)
            moves = [_with_letters_of(there.get(move.placed.path, ()), move) for move in moves]
        manifest = self._stage.commit(moves, urgent)
        for directory, paths in by_directory.items():
            repeated |= self._repeats.add(directory, paths)
        if repeated:
            self._shelves.keep_one(
                [move.placed for move in moves if move.placed.path in repeated],
                {move.placed.path: move.target for move in moves},
            )
        return manifest, [move.placed for move in moves]

    def _move(self, deposit: Deposit) -> Move:
        body, place = deposit.body, deposit.place
        if not isinstance(body, MemoryBody | SpilledBody):
            raise TypeError(f"{type(body).__name__} is not a body that this store staged")
        sha256 = body.sha256()
        unique = names.unique_part(deposit.date, deposit.epoch, deposit.key, sha256, body.size)
        return Move(
            body=body,
            target=f"{place.directory}/cur/{unique}:2,{names.letters(deposit.flags)}",
            placed=Placed(
                identity=place.identity,
                folder=place.folder.raw,
                epoch=deposit.epoch,
                key=deposit.key,
                size=body.size,
                sha256=sha256,
                path=f"{place.directory}/{unique}",
            ),
            mtime=_mtime(deposit),
        )

    def _recover(self) -> list[Placed]:
        self._repeats.forget()
        placed = self._stage.recover(self._shelves.locate)
        self._shelves.keep_one(placed)
        return placed

    # --- what is stored ---

    async def read(self, path: str) -> bytes:
        return await self._tree.run(self._use, path, contents, doing=f"read {path}")

    async def relabel(self, path: str, flags: Sequence[str]) -> None:
        """Flags are not synced: the origin tells them again. A file that is gone stays so."""
        step = partial(self._shelves.relabel, flags)
        with _gone_is_well():
            await self._tree.run(self._use, path, step, doing=f"change the flags of {path}")

    async def remove(self, path: str) -> None:
        with _gone_is_well():
            await self._tree.run(self._use, path, os.unlink, doing=f"delete {path}")

    async def digest(self, paths: Sequence[str]) -> Sequence[tuple[int, str] | None]:
        digests: dict[str, tuple[int, str]] = {}
        missing = list(dict.fromkeys(paths))
        doing = f"read {len(missing)} items in {self._root}"
        for _ in range(LOOKS):
            found = await self._tree.run(self._shelves.find, missing, doing=doing)
            for some in _in_parts(list(found.items()), HASHED_AT_ONCE):
                told = await self._tree.run(self._shelves.digest, [file for _, file in some], doing=doing)
                digests |= {path: digest for (path, _), digest in zip(some, told, strict=True) if digest is not None}
            missing = [path for path in missing if path not in digests]
            if not missing:
                break
        for path in missing:
            self._repeats.forget(os.path.dirname(path))
        return [digests.get(path) for path in paths]

    async def heads(self, paths: Sequence[str], size: int) -> Sequence[bytes | None]:
        heads: dict[str, bytes] = {}
        missing = list(dict.fromkeys(paths))
        doing = f"read the beginnings of {len(missing)} items in {self._root}"
        for _ in range(LOOKS):
            found = await self._tree.run(self._shelves.find, missing, doing=doing)
            told = await self._tree.run(self._shelves.heads, list(found.values()), size, doing=doing)
            heads |= {path: head for path, head in zip(found, told, strict=True) if head is not None}
            missing = [path for path in missing if path not in heads]
            if not missing:
                break
        return [heads.get(path) for path in paths]

    async def set_aside(self, path: str) -> str | None:
        async with self._alone():
            with _gone_is_well():
                return await self._tree.run(self._use, path, self._shelves.set_aside, doing=f"set {path} aside")
            return None

    def _use(self, path: str, step: Callable[[str], T]) -> T:
        """What the step makes of the file. One that was not where it was looked for may come back under another name."""
        try:
            return self._shelves.use(path, step)
        except ItemRejected:
            self._repeats.forget(os.path.dirname(path))
            raise

    # --- what the tree tells ---

    def places(self) -> Iterator[Place]:
        """A folder that cannot be looked into is an error (``ItemRejected``, kind ``folder``) after all others were told."""
        return self._told(self._places.all(), f"look for folders in {self._root}")

    def look(self, place: Place) -> Iterator[Found]:
        return self._told(self._shelves.look(place), f"look through folder {place.folder.name!r}")

    def strays(self) -> Iterator[str]:
        """As for ``places``, what cannot be looked into comes last, as an error."""
        return self._told(self._places.strays(), f"look for strange files in {self._root}")

    def _told(self, things: Iterator[T], doing: str) -> Iterator[T]:
        """The same, trouble with the disk in words."""
        try:
            with self._stage.of_folder(self._root):
                yield from things
        except OSError as error:
            raise disk_trouble(error, doing) from error


def _mtime(deposit: Deposit) -> int | None:
    """The time of the item's file, Unix seconds."""
    return None if deposit.date is None else names.seconds(deposit.date)


def _with_letters_of(files: Sequence[str], move: Move) -> Move:
    """The item's new file shows the flags that its files have by now, too."""
    unique, _, letters = move.target.partition(":2,")
    for file in files:
        letters = names.both(letters, file.partition(":2,")[2])
    return msgspec.structs.replace(move, target=f"{unique}:2,{letters}")


def _in_parts(things: Sequence[T], size: int) -> Iterator[list[T]]:
    remaining = iter(things)
    while part := list(islice(remaining, size)):
        yield part


@contextlib.contextmanager
def _gone_is_well() -> Iterator[None]:
    """An item that is missing needs nothing done to it."""
    try:
        yield
    except ItemRejected as error:
        if error.kind != "missing":
            raise
