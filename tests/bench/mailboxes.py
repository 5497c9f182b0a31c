"""The mailboxes that are imported: from a seed, the same every time, filled once and used by every scenario that asks."""

from __future__ import annotations

import itertools
import math
import random
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.dovecot import Dovecot, User, private_dovecot
from support.messages import messages

SEED = 1
MEDIAN = 8192
SPREAD = 1.5
SMALLEST, LARGEST = 512, 25_000_000
"""Bytes; ``mixed`` is log-normal: half of the messages are smaller than the median, one of 1,600 is larger than 1 MB."""


@dataclass(frozen=True)
class Shape:
    """How many messages in how many folders, of how many bytes: a number, or ``mixed``."""

    count: int
    sizes: str = "10240"
    folders: int = 1

    def __str__(self) -> str:
        noun = "message" if self.count == 1 else "messages"
        sizes = "mixed sizes" if self.sizes == "mixed" else f"{int(self.sizes):,} bytes"
        return f"{self.count:,} {noun} of {sizes}" + (f" in {self.folders:,} folders" if self.folders > 1 else "")


@dataclass(frozen=True)
class Mailbox:
    """One that is on the server: its user, how many messages it has, and how many bytes these are."""

    user: User
    items: int
    bytes: int
    folders: tuple[str, ...]


class Bench:
    """A private Dovecot with mailboxes, and a directory for what comes from them. Nothing is deleted before the end: ext4
    passes over the inodes of files that were deleted minutes ago, one by one, and after the deletion of ten thousand files
    each new one takes many times as long to create."""

    def __init__(self, server: Dovecot, directory: Path, tell: Callable[[str], None] = print) -> None:
        self.server = server
        self.directory = directory
        self.tell = tell
        self._mailboxes: dict[tuple[Shape, int], Mailbox] = {}
        self._numbers = itertools.count(1)

    def mailbox(self, shape: Shape, number: int = 1) -> Mailbox:
        """A mailbox of that shape, made when it is first asked for; ``number`` tells several of one shape apart."""
        key = (shape, number)
        if key not in self._mailboxes:
            self.tell(f"  filling a mailbox: {shape}")
            self._mailboxes[key] = self._fill(shape)
        return self._mailboxes[key]

    def fresh(self, name: str) -> Path:
        """A directory that does not exist yet."""
        return self.directory / f"{next(self._numbers):04}-{name}"

    def add_user(self) -> User:
        """A new user, with a name and a password that no program has to quote."""
        return self.server.add_user(f"bench-{secrets.token_hex(4)}", "open-sesame")

    def _fill(self, shape: Shape) -> Mailbox:
        user = self.add_user()
        folders = ("INBOX", *(f"Folder-{number:04}" for number in range(2, shape.folders + 1)))
        whole, total = content(shape), 0

        def weighed(share: int) -> Iterator[bytes]:
            nonlocal total
            for message in itertools.islice(whole, share):
                total += len(message)
                yield message

        for place, folder in enumerate(folders):
            self.server.fill(user, folder, weighed(shape.count // len(folders) + (place < shape.count % len(folders))))
        return Mailbox(user, shape.count, total, folders)


@contextmanager
def bench(directory: Path | None = None, tell: Callable[[str], None] = print) -> Iterator[Bench]:
    """One with nothing in it yet; what it stores is below ``directory``, and removed at the end."""
    with private_dovecot() as server, tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as place:
        yield Bench(server, Path(place), tell)
        tell("removing what was stored")


def content(shape: Shape) -> Iterator[bytes]:
    """The messages of a mailbox of that shape: all different, the same every time."""
    if shape.sizes == "mixed":
        dice = random.Random(SEED)
        for number in range(shape.count):
            size = int(dice.lognormvariate(math.log(MEDIAN), SPREAD))
            yield from messages(1, size=min(max(size, SMALLEST), LARGEST), seed=number)
    elif int(shape.sizes) > LARGEST:
        yield from (_huge(int(shape.sizes), number) for number in range(shape.count))
    else:
        yield from messages(shape.count, size=int(shape.sizes), seed=SEED)


def _huge(size: int, number: int) -> bytes:
    """A message that is made of one block, again and again: quick to make, and the block is too long to be compressed away."""
    (block,) = messages(1, size=LARGEST, seed=number)
    _, _, body = block.partition(b"\r\n\r\n")
    return (block + body * (size // len(body)))[: size - 2] + b"\r\n"
