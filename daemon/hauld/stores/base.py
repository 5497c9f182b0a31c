"""What every store promises. The contract suite (``tests/contracts/store.py``) holds each implementation to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from hauld.model import Deposit, Found, Place, Placed, RemoteFolder, Sink, Writer


class Store(Protocol):
    """One tree of stored items. ``open`` and ``sink`` stage bytes; ``commit`` makes them last.

    Trouble with the disk is ``Transient`` of kind ``disk`` (full, read-only, errors) or ``files`` (no more can be opened),
    never a half-written item. Trouble with one folder alone (no right to write there, not a directory) is ``ItemRejected`` of
    kind ``folder``, and the others go on.
    """

    async def start(self) -> None:
        """Create what is missing, take the tree's lock. Raises ``Fatal`` when another process has it."""
        ...

    async def close(self) -> None:
        """Let go of everything; nothing staged survives but what a manifest names, and the parts of items to be resumed."""
        ...

    def open(self, key: str, size: int) -> Writer:
        """A writer for one item of ``size`` bytes as announced, which comes in one fetch."""
        ...

    def sink(self, place: Place, epoch: str) -> Sink:
        """Where to put what is fetched of one folder in that epoch. What ``resume`` of it keeps of an item is believed only for
        the same item with the same size; it goes when the item is stored, when its folder is in another epoch as soon as
        something is resumed there, and when nobody has asked for it for a week."""
        ...

    async def prepare(self, identity: str, account: str, folder: RemoteFolder, directory: str | None) -> Place:
        """The place of a folder, durable with its sidecar. ``directory`` is what an earlier call chose, or None;
        two folders never share one, whatever their names. Cheap when it is there already."""
        ...

    async def probe(self) -> None:
        """Raise what a commit would meet now: no room, read-only, errors. Writes a small file where bytes wait, syncs and
        removes it."""
        ...

    async def write(self, group: Sequence[Deposit]) -> bool:
        """Do beforehand what can be done for the group while another one is being committed. Nothing lasts by it, and it need
        not be called; what fails is tried again by ``commit``, which tells of it. Whether the group takes memory no longer."""
        ...

    def commit(self, group: Sequence[Deposit], *, urgent: bool = False) -> AbstractAsyncContextManager[Sequence[Placed]]:
        """Entering makes the group durable under its final names (in the group's order), all or error; the caller commits
        its rows inside; leaving without an error forgets the manifest. After an error inside, ``recover`` reports the
        group again. ``ItemRejected`` only where the whole group is of one folder that cannot be written: where it is of
        several, ``Transient`` (kind ``disk``), and committing folder by folder tells which. One group at a time is made
        durable; callers queue. The rows of one may be committed meanwhile.

        Small ``urgent`` groups have a queue of their own: one of them at a time is made durable beside one that is not, and
        waits neither for it nor for what others have written. Where both have the same item, it is stored once all the same."""
        ...

    async def recover(self) -> Sequence[Placed]:
        """What is durable here though ``commit`` was never left in order: after a crash, or an error inside. What is
        whole is given its final name and reported, the rest of the stage is swept, but for parts to be resumed; what
        belongs to a folder that cannot be written now stays for a later ``recover``. Idempotent until ``settle``. Waits until
        no group is being made durable; one that is durable and has no rows yet is reported, so let there be none."""
        ...

    async def settle(self) -> None:
        """What ``recover`` reported is in the ledger: forget its manifests."""
        ...

    async def read(self, path: str) -> bytes:
        """The exact bytes stored at ``path`` (as ``Placed.path``), wherever other programs have moved them within their
        folder. Raises ``ItemRejected`` (kind ``missing``) when they are gone."""
        ...

    async def relabel(self, path: str, flags: Sequence[str]) -> None:
        """Show these flags; the path stays valid. Nothing happens when the item is gone."""
        ...

    async def remove(self, path: str) -> None:
        """Delete the item; nothing happens when it is gone already."""
        ...

    async def digest(self, paths: Sequence[str]) -> Sequence[tuple[int, str] | None]:
        """Size and SHA-256 of what is stored at each of these paths, read now; None where nothing is, ``(size, "")`` where
        the bytes cannot be read (the disk reports errors, or what is there is no longer what the store wrote)."""
        ...

    async def heads(self, paths: Sequence[str], size: int) -> Sequence[bytes | None]:
        """The first ``size`` bytes of what is stored at each of these paths, all where it has fewer; None where nothing is, or
        where the bytes cannot be read."""
        ...

    async def set_aside(self, path: str) -> str | None:
        """Move the item's file out of its folder, to where no reader of it looks and no sweep comes; where it is now, below
        the root. None when it is gone already."""
        ...

    # --- what the tree itself tells; these block: call them in a thread ---

    def places(self) -> Iterator[Place]:
        """Every folder that has a place here, as the store's own records tell it."""
        ...

    def look(self, place: Place) -> Iterator[Found]:
        """Every file in the folder, from names, sizes and records alone: nothing is read."""
        ...

    def strays(self) -> Iterator[str]:
        """Files below the root that are in no folder ``places`` tells of and are none of the store's own records."""
        ...
