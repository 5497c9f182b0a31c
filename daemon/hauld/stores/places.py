"""Which directory belongs to which folder: chosen once, written down beside the messages.

Each account has a directory below the root and tells whose it is in ``.haul-account``; each folder has a Maildir below
that, told by ``.haul-folder``. These sidecars, not names, say whose a directory is, so two accounts never share one, nor do
two folders, however alike their names are to people or to a file system. Names are made harmless by ``names``.

A directory that somebody has given a name which is no UTF-8 is a stranger's, whatever its sidecar says: neither ledger nor
manifest could tell of what is in it. Its folder gets another one, and nothing in it is touched.
"""

from __future__ import annotations

import base64
import contextlib
import grp
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from haulapi.faults import Exit
from hauld.errors import Fatal, tellable
from hauld.model import FOLDER_ORDER, FolderKind, Place, RemoteFolder
from hauld.stores import names
from hauld.stores.durable import OF_ONE_FOLDER, Disk
from hauld.stores.room import Room

log = logging.getLogger(__name__)

Layout: TypeAlias = Literal["nested", "maildir++"]

ACCOUNT_SIDECAR = ".haul-account"
FOLDER_SIDECAR = ".haul-folder"
UNFINISHED = ".new"
"""Follows the name of a sidecar that is being written."""
SIDECARS = 2
"""So many files there are for a moment where one sidecar is written: the one that was, and the one that takes its place."""
PARTS = ("cur", "new", "tmp")

_NOT_OURS = frozenset({".haul", "lost+found"})
"""Directories of the root in which nobody looks for folders: the store's own, and the one a file system is born with."""


@dataclass(frozen=True)
class Owner:
    """Whose a Maildir is, as its sidecar tells: the account's identity and the folder's name in the origin's bytes."""

    identity: str
    raw: bytes


@dataclass(frozen=True)
class Modes:
    """What files and directories may be to others; ``group_name`` is the group they belong to, or None for the process's."""

    file: int
    group_name: str | None = None

    @property
    def directory(self) -> int:
        """Whoever may read a file may enter its directory; what is made there keeps the group (setgid)."""
        return self.file | (self.file & 0o444) >> 2 | (0o2000 if self.group_name is not None else 0)

    @cached_property
    def group(self) -> int | None:
        """The number of the group; ``Fatal`` when there is no such group."""
        try:
            return None if self.group_name is None else grp.getgrnam(self.group_name).gr_gid
        except KeyError:
            raise Fatal(
                "configuration",
                f"The store's group {self.group_name!r} does not exist on this machine.",
                hint="Create it (groupadd), or name another one as group in [store].",
                exit_code=Exit.CONFIGURATION,
            ) from None


class Places:
    """The directories below ``root``. Blocking; called in a thread, one call at a time."""

    def __init__(self, root: str, layout: Layout, disk: Disk, modes: Modes, room: Room) -> None:
        self._root = root
        self._layout = layout
        self._disk = disk
        self._modes = modes
        self._room = room
        self._bases: dict[str, str] = {}
        self._told: set[str] = set()  # of these directories the log has said that they are passed over

    def prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        """The folder's Maildir, durable with its sidecar."""
        owner = Owner(identity, folder.raw)
        if directory is None or not self._may_be(directory, owner):
            directory = self._choose(self._base(identity, account), owner, folder)
        place = Place(identity, account, folder, directory)
        self.restore(place)
        return place

    def restore(self, place: Place) -> None:
        """Make what is missing of a Maildir; bring its sidecar up to date. The sidecar comes last: where it is, the
        directories have been made durable."""
        path = self._path(place.directory)
        sidecar = f"{path}/{FOLDER_SIDECAR}"
        if (
            all(os.path.isdir(f"{path}/{part}") for part in PARTS)
            and _read(sidecar) == _folder_facts(place)
            and not os.path.lexists(f"{sidecar}{UNFINISHED}")
        ):
            return
        directories = place.directory.count("/") + 1 + len(PARTS)
        with self._room.held([1] * (directories + SIDECARS)):
            self._make_parents(place.directory)
            for made in (path, *(f"{path}/{part}" for part in PARTS)):
                self._disk.make_directory(made, self._modes.directory, self._modes.group)
            self._disk.sync_directory(os.path.dirname(path))
            self._disk.sync_directory(path)
            self._write(path, FOLDER_SIDECAR, _folder_facts(place))

    def all(self) -> Iterator[Place]:
        """Every Maildir with a sidecar, by directory. A link is followed, but nothing is visited twice; what is deleted
        meanwhile is passed over. Where a directory cannot be looked into, all others come first, and then its error."""
        for directory, _ in self._walk():
            if self._can_be_told(directory) and (place := self._place(directory)):
                yield place

    def strays(self) -> Iterator[str]:
        """Files below the root, by directory, that are neither in a Maildir with a sidecar nor sidecars themselves; errors as
        ``all`` has them."""
        for directory, files in self._walk(everywhere=True):
            if self._owner(directory) is None:
                for name in files:
                    if name.removesuffix(UNFINISHED) not in (ACCOUNT_SIDECAR, FOLDER_SIDECAR):
                        yield _join(directory, name)

    def _walk(self, everywhere: bool = False) -> Iterator[tuple[str, list[str]]]:
        """Directories that may be or hold folders, with the names of the files in them. Those of a Maildir that has no
        sidecar, too, when ``everywhere``."""
        seen: set[tuple[int, int]] = set()
        waiting = [""]
        trouble: OSError | None = None
        while waiting:
            directory = waiting.pop()
            try:
                found = os.stat(self._path(directory))
                if (found.st_dev, found.st_ino) in seen:
                    continue
                seen.add((found.st_dev, found.st_ino))
                is_folder = self._owner(directory) is not None
                below, files = self._listed(directory)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in OF_ONE_FOLDER:
                    raise
                trouble = trouble or error
                continue
            yield directory, files
            passed_by = PARTS if is_folder or not everywhere else ()
            waiting += [_join(directory, name) for name in reversed(below) if name not in passed_by]
        if trouble is not None:
            raise trouble

    def _listed(self, directory: str) -> tuple[list[str], list[str]]:
        """The names of the directories in it, and of the files."""
        below: list[str] = []
        files: list[str] = []
        with os.scandir(self._path(directory)) as entries:
            for entry in entries:
                (below if entry.is_dir() else files).append(entry.name)
        if not directory:
            below = [name for name in below if name not in _NOT_OURS]
        return sorted(below), sorted(files)

    def _place(self, directory: str) -> Place | None:
        """The folder that the Maildir is, as its sidecar tells; None when it tells nothing, or is gone."""
        facts = _read(f"{self._path(directory)}/{FOLDER_SIDECAR}")
        owner = _owner_in(facts)
        if facts is None or owner is None:
            return None
        path, kind = facts.get("path"), facts.get("kind")
        folder = RemoteFolder(
            owner.raw,
            tuple(map(str, path)) if isinstance(path, list) else tuple(directory.split("/")[1:]),
            FolderKind(str(kind)) if kind in FOLDER_ORDER else FolderKind.OTHER,
        )
        return Place(owner.identity, tellable(str(facts.get("account", ""))), folder, directory)

    # --- choosing ---

    def _may_be(self, directory: str, owner: Owner) -> bool:
        """Whether the directory chosen earlier is the folder's, or nobody's by now."""
        inside = not any(part in ("", ".", "..") for part in directory.split("/"))
        return inside and self._owner(directory) in (owner, None)

    def _base(self, identity: str, account: str) -> str:
        """The account's directory; it keeps its name when the account's label changes."""
        if identity not in self._bases:
            self._bases[identity] = self._find_base(identity, account) or self._make_base(identity, account)
        return self._bases[identity]

    def _find_base(self, identity: str, account: str) -> str | None:
        """A directory that cannot be looked into is in nobody's way but that of the account whose name it has."""
        for name in filter(self._can_be_told, self._below("")):
            try:
                facts = _read(f"{self._root}/{name}/{ACCOUNT_SIDECAR}")
            except PermissionError:
                if name in _base_names(identity, account):
                    raise
                continue
            if facts and facts.get("identity") == identity:
                return name
        return None

    def _make_base(self, identity: str, account: str) -> str:
        name, with_hash = _base_names(identity, account)
        free = not os.path.exists(f"{self._root}/{name}/{ACCOUNT_SIDECAR}")
        if not (free and _is_apart(name, self._below(""))):
            name = with_hash
        with self._room.held([1] * (1 + SIDECARS)):
            self._disk.make_directory(self._path(name), self._modes.directory, self._modes.group)
            self._disk.sync_directory(self._root)
            self._write(self._path(name), ACCOUNT_SIDECAR, {"version": 1, "identity": identity, "account": account})
        return name

    def _choose(self, base: str, owner: Owner, folder: RemoteFolder) -> str:
        """A directory that is the folder's already, else one that is free."""
        path = _with_one_inbox(folder.path or ("",))
        if self._layout == "maildir++":
            if path == ("INBOX",) and self._owner(base) in (owner, None):
                return base
            return self._leaf(base, names.escape_flat(path), "/".join(path), owner)
        *parents, leaf = names.escape_path(path)
        *components, last = path if len(parents) + 1 == len(path) else ("/".join(path),)
        for name, component in zip(parents, components, strict=True):
            base = f"{base}/{self._parent(base, name, component)}"
        return self._leaf(base, leaf, last, owner)

    def _parent(self, base: str, name: str, component: str) -> str:
        """The directory that stands for one component on the way to a folder. Escapes differ where components do, so the
        name alone says which it is; one too like a neighbour's carries a hash."""
        below = self._below(base)
        usable = os.path.isdir(self._path(f"{base}/{name}")) if name in below else _is_apart(name, below)
        return name if usable else names.hashed(name, _octets(component))

    def _leaf(self, base: str, name: str, component: str, owner: Owner) -> str:
        below = self._below(base)
        by_raw = names.hashed(name, b"\0" + owner.raw)  # the NUL: never the hash of a component
        candidates = (name, names.hashed(name, _octets(component)), by_raw)
        for candidate in candidates:
            if self._owner(f"{base}/{candidate}") == owner:
                return f"{base}/{candidate}"
        for candidate in candidates:
            if not self._is_taken(f"{base}/{candidate}") and _is_apart(candidate, below):
                return f"{base}/{candidate}"
        return f"{base}/{by_raw}"

    def _is_taken(self, directory: str) -> bool:
        """Whether it is another folder's Maildir, even if its sidecar cannot be read, or not a directory at all."""
        path = self._path(directory)
        return os.path.lexists(f"{path}/{FOLDER_SIDECAR}") or (os.path.lexists(path) and not os.path.isdir(path))

    def _below(self, directory: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return os.listdir(self._path(directory))
        return []

    def _owner(self, directory: str) -> Owner | None:
        """Whose Maildir it is; None when nobody's, or a stranger's, or when its sidecar makes no sense."""
        if not names.is_text(directory):
            return None
        return _owner_in(_read(f"{self._path(directory)}/{FOLDER_SIDECAR}"))

    def _can_be_told(self, directory: str) -> bool:
        """Whether its name is UTF-8. One that is not is told to the log, once, where it was an account's or a folder's."""
        if names.is_text(directory):
            return True
        sidecars = (f"{self._path(directory)}/{name}" for name in (ACCOUNT_SIDECAR, FOLDER_SIDECAR))
        if not any(directory == told or directory.startswith(f"{told}/") for told in self._told) and any(
            map(os.path.lexists, sidecars)
        ):
            self._told.add(directory)
            log.warning(
                "passed over the directory %s, because its name is not UTF-8: what is stored there is kept, is not looked at, "
                "and is fetched again where the ledger does not have it; rename it back while hauld is stopped",
                tellable(self._path(directory)),
                extra={"event": "store.passed_over"},
            )
        return False

    # --- making ---

    def _make_parents(self, directory: str) -> None:
        """The directories on the way, each durable in the one above, whoever made it; one that is there keeps its mode."""
        above = self._root
        for name in directory.split("/")[:-1]:
            path = f"{above}/{name}"
            if not os.path.isdir(path):
                self._disk.make_directory(path, self._modes.directory, self._modes.group)
            self._disk.sync_directory(above)
            above = path

    def _write(self, path: str, name: str, facts: dict[str, object]) -> None:
        """A sidecar, whole or not at all, and durable."""
        temporary = f"{path}/{name}{UNFINISHED}"
        self._disk.unlink(temporary)
        self._disk.write(temporary, json.dumps(facts, indent=1).encode("ascii") + b"\n", self._modes.file)
        self._disk.sync_file(temporary)
        self._disk.rename(temporary, f"{path}/{name}")
        self._disk.sync_directory(path)

    def _path(self, directory: str) -> str:
        return f"{self._root}/{directory}" if directory else self._root


def _owner_in(facts: dict[str, object] | None) -> Owner | None:
    try:
        owner = Owner(str(facts["identity"]), base64.b64decode(str(facts["raw"]), validate=True)) if facts else None
    except (KeyError, ValueError):
        return None
    return owner if owner is not None and names.is_text(owner.identity) else None


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _base_names(identity: str, account: str) -> tuple[str, str]:
    """The names an account's directory may be given: the plain one, and one that no other account has."""
    name = names.escape(account)
    return name, names.hashed(name, _octets(identity))


def _folder_facts(place: Place) -> dict[str, object]:
    return {
        "version": 1,
        "identity": place.identity,
        "account": place.account,
        "raw": base64.b64encode(place.folder.raw).decode("ascii"),
        "path": list(place.folder.path),
        "kind": str(place.folder.kind),
    }


def _read(path: str) -> dict[str, object] | None:
    """A sidecar's facts; None when there is none that makes sense."""
    try:
        with open(path, "rb") as reader:
            facts = json.loads(reader.read(1 << 20))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def _is_apart(name: str, others: list[str]) -> bool:
    """Whether no other name could be taken for this one."""
    like = names.likeness(name)
    return all(other == name or names.likeness(other) != like for other in others)


def _with_one_inbox(path: tuple[str, ...]) -> tuple[str, ...]:
    """INBOX is the same in any case (RFC 3501, 5.1)."""
    return ("INBOX", *path[1:]) if path[0].upper() == "INBOX" else path


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
