"""A folder that cannot be written harms no other folder (L13)."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from contracts.store import IDENTITY, INBOX, items_in, staged, stored
from hauld.errors import HaulError, ItemRejected, Transient
from hauld.model import Place, RemoteFolder
from hauld.stores.maildir import MaildirStore
from hauld.stores.manifest import decode
from support.disks import WatchedDisk, failing

BAD = RemoteFolder(b"Bad", ("Bad",))
NOBODY = 65534
LARGE = 300_000


@pytest.fixture
def root() -> Iterator[Path]:
    """A tree of an ordinary user, who this process is meanwhile: root may write everywhere."""
    directory = Path(tempfile.mkdtemp(prefix="folders-"))
    was_root = os.geteuid() == 0
    if was_root:
        os.chown(directory, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        yield directory / "mail"
    finally:
        if was_root:
            os.seteuid(0)
        shutil.rmtree(directory)


@pytest_asyncio.fixture
async def disk() -> WatchedDisk:
    return WatchedDisk()


@pytest_asyncio.fixture
async def store(root: Path, disk: WatchedDisk) -> AsyncIterator[MaildirStore]:
    store = MaildirStore(root, disk=disk)
    await store.start()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def good(store: MaildirStore) -> Place:
    return await store.prepare(IDENTITY, "work", INBOX, None)


@pytest_asyncio.fixture
async def bad(store: MaildirStore) -> Place:
    return await store.prepare(IDENTITY, "work", BAD, None)


def close_cur(root: Path) -> None:
    (root / "work/Bad/cur").chmod(0o500)


def open_cur(root: Path) -> None:
    (root / "work/Bad/cur").chmod(0o700)


def close_folder(root: Path) -> None:
    (root / "work/Bad").chmod(0)


def open_folder(root: Path) -> None:
    (root / "work/Bad").chmod(0o700)


def block_cur(root: Path) -> None:
    (root / "work/Bad/cur").rename(root / "cur away")
    (root / "work/Bad/cur").write_bytes(b"in the way")


def free_cur(root: Path) -> None:
    (root / "work/Bad/cur").unlink()
    (root / "cur away").rename(root / "work/Bad/cur")


WAYS = pytest.mark.parametrize(
    ("spoil", "mend"),
    [(close_cur, open_cur), (close_folder, open_folder), (block_cur, free_cur)],
    ids=["cur read-only", "folder closed", "a file for cur"],
)


@WAYS
async def test_L13_a_folder_that_cannot_be_written_is_told_and_others_are_stored(
    root: Path, store: MaildirStore, good: Place, bad: Place, spoil: Callable[[Path], None], mend: Callable[[Path], None]
) -> None:
    group = [
        staged(store, place, f"7.{uid}", b"x" * size)
        for uid, (place, size) in enumerate([(good, 1), (bad, 2), (good, LARGE), (bad, LARGE)], 1)
    ]
    spoil(root)
    with pytest.raises(Transient) as mixed:
        await stored(store, *group)
    assert mixed.value.kind == "disk"
    with pytest.raises(ItemRejected, match=r"^Cannot store 2 items of folder 'Bad' in .*work/Bad.*\)\.$") as alone:
        await stored(store, group[1], group[3])
    assert alone.value.kind == "folder"
    assert alone.value.hint
    assert [item.key for item in await stored(store, group[0], group[2])] == ["7.1", "7.3"]
    mend(root)
    await stored(store, group[1], group[3])
    assert sorted(item.key for item in items_in(store)) == ["7.1", "7.2", "7.3", "7.4"]
    assert list(await store.recover()) == []


def unland(root: Path) -> None:
    """As if the daemon had died before what is in ``Bad`` got its final name."""
    stage = root / ".haul/stage"
    [manifest] = stage.glob("*.manifest")
    for entry in decode(manifest.read_bytes()) or ():
        if "/Bad/" in entry.target:
            (root / entry.target).rename(stage / entry.staged)


@WAYS
async def test_L13_recovery_passes_over_a_folder_that_cannot_be_written_until_it_can(
    root: Path, store: MaildirStore, good: Place, bad: Place, spoil: Callable[[Path], None], mend: Callable[[Path], None]
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.commit([staged(store, good, "7.1", b"one"), staged(store, bad, "7.2", b"two")]):
            raise ZeroDivisionError
    unland(root)
    spoil(root)
    for _ in range(2):
        assert [item.key for item in await store.recover()] == ["7.1"]
    await store.settle()
    assert list(await store.recover()) == []
    await store.settle()
    await store.close()
    again = MaildirStore(root)
    await again.start()
    assert list(await again.recover()) == []
    await again.settle()
    mend(root)
    assert [item.key for item in await again.recover()] == ["7.2"]
    await again.settle()
    assert list(await again.recover()) == []
    assert os.listdir(root / ".haul/stage") == []
    assert sorted(item.key for item in items_in(again)) == ["7.1", "7.2"]
    await again.close()


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR])
async def test_L13_what_was_staged_for_a_folder_that_closed_meanwhile_is_kept_for_it(
    root: Path, store: MaildirStore, disk: WatchedDisk, good: Place, bad: Place, error: int
) -> None:
    def closed(_number: int, name: str, arguments: tuple[str, ...]) -> None:
        if name in ("rename", "sync_directory") and "/Bad/" in arguments[-1]:
            raise OSError(error, os.strerror(error), arguments[0])

    disk.before = closed
    with pytest.raises(Transient):
        await stored(store, staged(store, bad, "7.1", b"x" * LARGE), staged(store, good, "7.2", b"two"))
    with pytest.raises(ItemRejected) as raised:
        await stored(store, staged(store, bad, "7.3", b"three"))
    assert raised.value.kind == "folder"
    assert [item.key for item in await store.recover()] == ["7.2"]
    await store.settle()
    assert len(await stored(store, staged(store, good, "7.4", b"four"))) == 1
    disk.before = None
    assert sorted(item.key for item in await store.recover()) == ["7.1", "7.3"]
    await store.settle()
    assert os.listdir(root / ".haul/stage") == []
    assert sorted(item.key for item in items_in(store)) == ["7.1", "7.2", "7.3", "7.4"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errno.ENOSPC, "disk"),
        (errno.EDQUOT, "disk"),
        (errno.EIO, "disk"),
        (errno.EMFILE, "files"),
        (errno.ENFILE, "files"),
    ],
)
async def test_L5_L7_L8_trouble_of_all_is_not_blamed_on_one_folder(
    store: MaildirStore, disk: WatchedDisk, bad: Place, error: int, kind: str
) -> None:
    disk.before = failing("rename", error, times=99)
    with pytest.raises(Transient) as raised:
        await stored(store, staged(store, bad, "7.1", b"one"))
    assert raised.value.kind == kind
    with pytest.raises(Transient):
        await store.recover()


async def test_L6_a_store_that_cannot_be_written_at_all_is_not_blamed_on_one_folder(
    root: Path, store: MaildirStore, bad: Place
) -> None:
    for directory in ("work/Bad/cur", ".haul/stage"):
        (root / directory).chmod(0o500)
    with pytest.raises(Transient):
        await stored(store, staged(store, bad, "7.1", b"one"))
    (root / ".haul/stage").chmod(0o700)
    with pytest.raises(ItemRejected):
        await stored(store, staged(store, bad, "7.1", b"one"))


async def test_L13_a_place_in_a_directory_that_cannot_be_written_is_refused_and_others_are_made(
    root: Path, store: MaildirStore, good: Place
) -> None:
    await store.prepare(IDENTITY, "work", RemoteFolder(b"1", ("parent", "child")), None)
    (root / "work/parent").chmod(0o500)
    with pytest.raises(ItemRejected, match="Cannot make a Maildir for folder 'parent/other'") as raised:
        await store.prepare(IDENTITY, "work", RemoteFolder(b"2", ("parent", "other")), None)
    assert raised.value.kind == "folder"
    assert (await store.prepare(IDENTITY, "work", BAD, None)).directory == "work/Bad"
    (root / "work/parent").chmod(0o700)
    assert (await store.prepare(IDENTITY, "work", RemoteFolder(b"2", ("parent", "other")), None)).directory


async def test_L13_an_account_whose_directory_is_closed_harms_no_other_account(root: Path, store: MaildirStore) -> None:
    (root / "lost+found").mkdir(mode=0)
    await store.prepare("imap:a@example.org", "one", INBOX, None)
    await store.close()
    (root / "one").chmod(0)
    again = MaildirStore(root)
    await again.start()
    assert (await again.prepare("imap:b@example.org", "two", INBOX, None)).directory == "two/INBOX"
    for identity in ("imap:a@example.org", "imap:c@example.org"):
        with pytest.raises(ItemRejected):
            await again.prepare(identity, "one", INBOX, None)
    places = []
    with pytest.raises(ItemRejected, match=r"Permission denied .*/one"):
        places.extend(again.places())
    (root / "one").chmod(0o700)
    assert {place.directory for place in again.places()} == {"one/INBOX", "two/INBOX"}
    assert (await again.prepare("imap:a@example.org", "one", INBOX, None)).directory == "one/INBOX"
    await again.close()


async def told(store: MaildirStore, place: Place, path: str) -> list[str]:
    """The kinds of error of everything that looks into the folder."""
    kinds = []
    for call in (store.read(path), store.relabel(path, []), store.remove(path), store.digest([path]), store.set_aside(path)):
        with pytest.raises(HaulError) as raised:
            await call
        kinds.append(raised.value.kind)
    with pytest.raises(HaulError) as raised:
        list(store.look(place))
    return [*kinds, raised.value.kind]


async def test_L13_an_item_in_a_closed_folder_is_neither_missing_nor_damaged(
    root: Path, store: MaildirStore, good: Place, bad: Place
) -> None:
    [placed] = await stored(store, staged(store, bad, "7.1", b"one"))
    (root / "work/Bad/cur").chmod(0)
    assert await told(store, bad, placed.path) == ["folder"] * 6
    assert list(store.look(good)) == []
