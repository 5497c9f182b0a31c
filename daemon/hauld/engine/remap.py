"""A new epoch downloads nothing twice: what a listing names under new keys is looked for among what is stored under others.

An item is taken for a stored one when size, date and the first ``HEAD`` bytes are the same (docs/decisions/0005). Its row takes
the file over; no file is touched. Broken off anywhere, this goes on with the next listing of the folder.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from hauld.engine.account import Account
from hauld.engine.workshop import Workshop
from hauld.errors import Transient
from hauld.model import Alike, Folder
from hauld.sources.base import Session

log = logging.getLogger(__name__)

HEAD = 4096
"""Bytes at the beginning of an item that are compared."""

ITEMS = 500
"""Items compared at a time: their beginnings are in memory, from the origin and from the store."""


class Remapper:
    """Finds the stored items among those that an account's folders list under new keys."""

    def __init__(self, account: Account, workshop: Workshop) -> None:
        self._account = account
        self._state = workshop.state
        self._store = workshop.store

    async def run(self, session: Session, folder: Folder, epoch: str) -> int:
        """After a listing of the folder, in that epoch: the number of items that were there under other keys."""
        mapped = 0
        below: int | None = None
        while self._account.gives_heads:
            waiting = await self._state.alike(folder.number, below=below, limit=ITEMS)
            if not waiting:
                break
            below = waiting[-1].item.ordinal
            mapped += await self._map(session, folder, epoch, waiting)
        if mapped:
            await self._say_mapped(folder, mapped)
        return mapped

    async def _map(self, session: Session, folder: Folder, epoch: str, waiting: Sequence[Alike]) -> int:
        """Map those that are the same. Meanwhile nobody fetches them."""
        numbers = self._account.claims.take(alike.item.number for alike in waiting)
        free = [alike for alike in waiting if alike.item.number in numbers]
        try:
            stored = await self._stored_heads(free)
            remote = await self._remote_heads(session, folder, epoch, free) if stored else {}
            pairs = list(same(free, remote, stored))
            return await self._state.remap(folder.number, pairs) if pairs else 0
        finally:
            self._account.claims.release(numbers)

    async def _stored_heads(self, waiting: Sequence[Alike]) -> Mapping[int, bytes]:
        """By number, the beginnings of what is stored, where it can be read."""
        stored = {each.number: each.path for alike in waiting for each in alike.stored}
        heads = await self._store.heads(list(stored.values()), HEAD)
        return {number: head for number, head in zip(stored, heads, strict=True) if head is not None}

    async def _remote_heads(
        self, session: Session, folder: Folder, epoch: str, waiting: Sequence[Alike]
    ) -> Mapping[str, bytes]:
        """By key, the beginnings of what waits. An origin whose answer makes no sense is not asked again."""
        try:
            return await session.heads(folder.remote, epoch, [alike.item.key for alike in waiting], HEAD)
        except Transient as error:
            if error.kind == "protocol":
                self._account.gives_heads = False
                log.warning(
                    "account %s: the beginnings of items are not asked for any more, and those with new keys are fetched: %s",
                    self._account.settings.name,
                    error,
                    extra={"event": "account.no_heads"},
                )
            raise

    async def _say_mapped(self, folder: Folder, mapped: int) -> None:
        waiting = (await self._state.preview(folder.number)).items
        log.info(
            "%s %r: %s of %s items were there under other keys",
            self._account.settings.name,
            folder.name,
            f"{mapped:,}",
            f"{mapped + waiting:,}",
            extra={"event": "folder.mapped"},
        )


def same(waiting: Sequence[Alike], remote: Mapping[str, bytes], stored: Mapping[int, bytes]) -> Iterator[tuple[int, int]]:
    """The numbers of items that wait with those of the stored ones that they are, each once: of several, the first. A beginning
    that is shorter than it should be says nothing."""
    used: set[int] = set()
    for alike in waiting:
        head = remote.get(alike.item.key)
        for each in alike.stored:
            if (
                each.number not in used
                and head is not None
                and len(head) >= min(HEAD, each.size)
                and stored.get(each.number) == head
            ):
                used.add(each.number)
                yield alike.item.number, each.number
                break
