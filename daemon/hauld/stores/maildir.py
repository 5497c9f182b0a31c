"""The Maildir store: one Maildir for each folder, readable by mutt, notmuch or Dovecot while the daemon runs.

``MaildirStore`` is what the engine sees. ``bodies`` takes the bytes as they come; ``stage`` makes them last, and tells in what
order; ``places`` finds each folder its directory, ``names`` gives each item its name, ``durable`` is the disk.

    root/.haul/lock             held while a daemon has the tree
    root/.haul/stage/           bytes that wait, and manifests
    root/mine/                  an account                                    (.haul-account)
    root/mine/INBOX/cur/        a folder, layout ``nested``                   (.haul-folder)
    root/mine/cur/, .Sent/cur/  INBOX and another folder, layout ``maildir++``

Messages go to ``cur``, bytes exactly as they came. Other programs may move them between ``new`` and ``cur`` and change
their flags: a file is found by its unique part, which is everything before ``:2,``. Directory names are UTF-8; Dovecot reads
them with ``UTF-8`` in its mail_location (and ``LAYOUT=fs`` where they are nested).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from haulapi.faults import Exit
from hauld.errors import Fatal, ItemRejected, Transient
from hauld.model import Deposit, Place, Placed, RemoteFolder
from hauld.stores import names
from hauld.stores.base import Store
from hauld.stores.bodies import MemoryBody, SpilledBody, Spool, StageWriter, ended
from hauld.stores.durable import Disk, disk_trouble
from hauld.stores.places import Layout, Modes, Places
from hauld.stores.stage import Move, Stage, uncut

THREADS = 3
"""One for the commit, and some so that large bodies and readers need not wait for it."""

LOOKS = 3
"""How often a file is looked for while other programs keep renaming it."""

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class MaildirStore(Store):
    """Maildirs below ``root``.

    ``mode`` is that of files; directories get it with the search bits. ``group`` is a name, for whoever may read along.
    A body is held in memory up to ``memory_limit`` bytes, then it goes to the stage as it comes.
    """

    def __init__(
        self,
        root: Path,
        *,
        layout: Layout = "nested",
        group: str | None = None,
        mode: int = 0o640,
        memory_limit: int = 256 * 1024,
        disk: Disk | None = None,
    ) -> None:
        self._root = os.fspath(root)
        self._own = f"{self._root}/.haul"
        self._disk = disk or Disk()
        self._modes = Modes(mode, group)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._spool = Spool(f"{self._own}/stage", self._disk, self._pool, mode, memory_limit)
        self._stage = Stage(self._root, f"{self._own}/stage", self._disk, self._spool, mode)
        self._places = Places(self._root, layout, self._disk, self._modes)
        self._known: dict[tuple[str, bytes], Place] = {}
        self._committing = asyncio.Lock()
        self._preparing = asyncio.Lock()
        self._lock = -1

    async def start(self) -> None:
        await self._run(self._open, doing=f"open the store in {self._root}")

    async def close(self) -> None:
        """Idempotent. What cannot be tidied now is swept by the next ``recover``."""
        async with self._committing:
            await self._spool.give_up()
            await asyncio.to_thread(self._pool.shutdown)
            await asyncio.to_thread(self._stage.close)
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    # --- the way of an item ---

    async def prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        async with self._preparing:
            known = self._known.get((identity, folder.raw))
            if known and (known.account, known.folder) == (account, folder) and directory in (None, known.directory):
                return known
            place = await self._run(
                self._places.prepare, identity, account, folder, directory, doing=f"make a Maildir for folder {folder.name!r}"
            )
            self._known[identity, folder.raw] = place
            return place

    def open(self, key: str, size: int) -> StageWriter:
        return self._spool.open()

    @asynccontextmanager
    async def commit(self, group: Sequence[Deposit]) -> AsyncIterator[Sequence[Placed]]:
        if not group:
            yield ()
            return
        async with self._committing:
            await ended([deposit.body for deposit in group])
            manifest, placed = await self._run(self._commit, group, doing=f"store {len(group)} items in {self._root}")
            yield placed
            with contextlib.suppress(Transient):  # the rows are there; a manifest that stays is reported once more, no harm
                await self._run(self._stage.forget, manifest, doing=f"tidy the stage in {self._own}")

    async def recover(self) -> Sequence[Placed]:
        async with self._committing:
            return await self._run(self._stage.recover, self._locate, doing=f"recover the stage in {self._own}")

    async def settle(self) -> None:
        async with self._committing:
            await self._run(self._stage.settle, doing=f"tidy the stage in {self._own}")

    def _commit(self, group: Sequence[Deposit]) -> tuple[str, list[Placed]]:
        """In a thread: name each item after what it is, and commit all."""
        for place in {deposit.place.directory: deposit.place for deposit in group}.values():
            self._places.restore(place)
        moves = [self._move(deposit) for deposit in group]
        return self._stage.commit(moves), [move.placed for move in moves]

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
            mtime=None if deposit.date is None else names.seconds(deposit.date),
        )

    # --- what is stored ---

    async def read(self, path: str) -> bytes:
        return await self._run(self._at_rest, path, _contents, doing=f"read {path}")

    async def relabel(self, path: str, flags: Sequence[str]) -> None:
        """Flags are not synced: the origin tells them again. A file that is gone stays so."""
        with contextlib.suppress(ItemRejected):
            await self._run(self._at_rest, path, partial(self._show, flags), doing=f"change the flags of {path}")

    async def remove(self, path: str) -> None:
        with contextlib.suppress(ItemRejected):
            await self._run(self._at_rest, path, os.unlink, doing=f"delete {path}")

    def scan(self) -> Iterator[Placed]:
        try:
            for directory, owner in self._places.all():
                for unique in map(_unique, self._shown(directory)):
                    if item := names.read_unique_part(unique):
                        yield Placed(
                            identity=owner.identity,
                            folder=owner.raw,
                            epoch=item.epoch,
                            key=item.key,
                            size=item.size,
                            sha256=item.sha256,
                            path=f"{directory}/{unique}",
                        )
        except OSError as error:
            raise disk_trouble(error, f"look through the store in {self._root}") from error

    def _at_rest(self, path: str, use: Callable[[str], R]) -> R:
        """What ``use`` makes of the file; looked for again when another program renames it in between."""
        for _ in range(LOOKS):
            if found := self._find(path):
                with contextlib.suppress(FileNotFoundError):
                    return use(f"{self._root}/{found}")
        raise ItemRejected(
            "missing",
            f"The file of {path} is not in its folder any more.",
            hint="Another program has deleted or moved it.",
        )

    def _find(self, path: str) -> str | None:
        """Where the file is now, below the root: under a likely name, or wherever its folder has it."""
        directory, _, unique = path.rpartition("/")
        if not directory or any(part in ("", ".", "..") for part in path.split("/")):
            return None
        for likely in (f"cur/{unique}:2,S", f"cur/{unique}:2,", f"new/{unique}"):
            if os.path.lexists(f"{self._root}/{directory}/{likely}"):
                return f"{directory}/{likely}"
        return self._locate({path}).get(path)

    def _locate(self, paths: Collection[str]) -> dict[str, str]:
        """Where the files are now, those that are anywhere: one look at each folder, however many it is asked for."""
        found = {}
        for directory in {path.rpartition("/")[0] for path in paths}:
            for shown in self._shown(directory):
                path = f"{directory}/{_unique(shown)}"
                if path in paths:
                    found[path] = f"{directory}/{shown}"
        return found

    def _shown(self, directory: str) -> Iterator[str]:
        """The files of a folder as other programs show them, below it: ``cur/NAME:2,FLAGS`` or ``new/NAME``."""
        for part in ("cur", "new"):
            with contextlib.suppress(FileNotFoundError), os.scandir(f"{self._root}/{directory}/{part}") as entries:
                for entry in entries:
                    yield f"{part}/{entry.name}"

    def _show(self, flags: Sequence[str], path: str) -> None:
        """Rename the file at ``path`` so that its name shows these flags."""
        part, shown = os.path.split(path)
        unique, _, information = shown.partition(":2,")
        target = f"{os.path.dirname(part)}/cur/{unique}:2,{names.relabelled(information, flags)}"
        if target != path:
            self._disk.rename(path, target)

    # --- opening ---

    def _open(self) -> None:
        """In a thread: what is the daemon's own in the tree, and the lock."""
        above = os.path.dirname(os.path.abspath(self._root))
        os.makedirs(above, exist_ok=True)
        if not os.path.isdir(self._root):
            self._disk.make_directory(self._root, self._modes.directory, self._modes.group)
            self._disk.sync_directory(above)
        for directory in (self._own, f"{self._own}/stage"):
            self._disk.make_directory(directory, self._modes.directory, self._modes.group)
            self._disk.sync_directory(os.path.dirname(directory))
        self._lock = os.open(f"{self._own}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = -1
            raise Fatal(
                "locked",
                f"Another process has the store in {self._root}.",
                hint="Only one daemon may write there: stop the other one, or give this one another path in [store].",
                exit_code=Exit.TRY_AGAIN,
            ) from None
        self._stage.open()

    async def _run(self, step: Callable[[*Ts], R], *args: *Ts, doing: str) -> R:
        """The step in a thread, never cut in half; trouble with the disk in words."""
        try:
            return await uncut(self._pool, step, *args)
        except OSError as error:
            raise disk_trouble(error, doing) from error


def _contents(path: str) -> bytes:
    with open(path, "rb") as reader:
        return reader.read()


def _unique(shown: str) -> str:
    """The unique part of a file's name, wherever the file is."""
    return shown.rpartition("/")[2].partition(":")[0]
