"""What the Maildir store leaves on disk, and how it lives with other programs there."""

from __future__ import annotations

import errno
import grp
import hashlib
import json
import mailbox
import os
import resource
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.store import IDENTITY, INBOX, items_in, staged, stored
from hauld.errors import Fatal, ItemRejected, Transient
from hauld.model import Body, Deposit, Found, RemoteFolder
from hauld.stores.durable import Disk
from hauld.stores.maildir import MaildirStore
from hauld.stores.names import likeness
from hauld.stores.places import Layout
from support.disks import WatchedDisk, failing

DATE = 1_700_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest_asyncio.fixture
async def started() -> AsyncIterator[Callable[..., MaildirStore]]:
    """Makes and starts stores, and closes them in the end."""
    stores = []

    async def start(root: Path, **options: object) -> MaildirStore:
        store = MaildirStore(root, **options)  # type: ignore[arg-type]
        stores.append(store)
        await store.start()
        return store

    yield start
    for store in stores:
        await store.close()


# --- files and directories ---


async def test_a_message_is_in_cur_under_a_name_that_tells_what_it_is(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.42", b"bytes", flags=["\\Seen", "\\Flagged"], date=DATE))
    [file] = (root / "work/INBOX/cur").iterdir()
    assert file.name == f"1700000000.U42V7H{placed.sha256[:32]}.haul,S=5:2,FS"
    assert placed.path == f"work/INBOX/{file.name.partition(':')[0]}"
    assert file.stat().st_mtime == 1_700_000_000


@pytest.mark.parametrize(
    ("layout", "directories"),
    [("nested", ["INBOX", "Archive/2024", "Archive"]), ("maildir++", ["", ".Archive.2024", ".Archive"])],
)
async def test_folders_are_where_the_layout_has_them(
    root: Path, started: Callable, layout: Layout, directories: list[str]
) -> None:
    store = await started(root, layout=layout)
    for folder, directory in zip(
        (INBOX, RemoteFolder(b"1", ("Archive", "2024")), RemoteFolder(b"2", ("Archive",))), directories, strict=True
    ):
        place = await store.prepare(IDENTITY, "work", folder, None)
        assert place.directory == f"work/{directory}".rstrip("/")
        assert {"cur", "new", "tmp", ".haul-folder"} <= set(os.listdir(root / place.directory))


async def test_the_sidecar_tells_whose_the_folder_is(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", RemoteFolder(b"a\xff", ("a\udcff",)), None)
    facts = json.loads((root / place.directory / ".haul-folder").read_bytes())
    assert facts == {
        "version": 1,
        "identity": IDENTITY,
        "account": "work",
        "raw": "Yf8=",
        "path": ["a\udcff"],
        "kind": "other",
    }


@pytest.mark.parametrize(("mode", "directory_mode"), [(0o640, 0o750), (0o600, 0o700), (0o660, 0o770)])
async def test_modes_hold_whatever_the_umask(root: Path, started: Callable, mode: int, directory_mode: int) -> None:
    before = os.umask(0o077)
    try:
        store = await started(root, mode=mode, memory_limit=10)
        place = await store.prepare(IDENTITY, "work", RemoteFolder(b"1", ("a", "b")), None)
        await stored(store, staged(store, place, "7.1", b"small"), staged(store, place, "7.2", b"larger", b"than ten"))
    finally:
        os.umask(before)
    for path in (root, root / "work", root / "work/a", root / "work/a/b", root / "work/a/b/cur"):
        assert path.stat().st_mode & 0o7777 == directory_mode
    for path in [*(root / "work/a/b/cur").iterdir(), root / "work/a/b/.haul-folder"]:
        assert path.stat().st_mode & 0o7777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to any group")
async def test_files_belong_to_the_group_that_was_named(root: Path, started: Callable) -> None:
    group = next(entry for entry in grp.getgrall() if entry.gr_gid != os.getegid())
    store = await started(root, group=group.gr_name, memory_limit=10)
    place = await store.prepare(IDENTITY, "work", RemoteFolder(b"1", ("a", "b")), None)
    await stored(store, staged(store, place, "7.1", b"small"), staged(store, place, "7.2", b"larger", b"than ten"))
    for path in (root, root / "work", root / "work/a/b/cur", *(root / "work/a/b/cur").iterdir()):
        assert path.stat().st_gid == group.gr_gid


async def test_a_group_that_does_not_exist_is_a_configuration_error(root: Path, started: Callable) -> None:
    with pytest.raises(Fatal, match="group 'no-such-group' does not exist") as raised:
        await started(root, group="no-such-group")
    assert raised.value.exit_code == 78


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    folders=st.lists(
        st.tuples(
            st.binary(max_size=8),
            st.lists(st.one_of(st.text(st.characters(codec=None), max_size=40), st.sampled_from(["a", "A", "..", "INBOX"]))),
        ),
        unique_by=lambda folder: folder[0],
        max_size=6,
    ),
    layout=st.sampled_from(["nested", "maildir++"]),
)
async def test_P29_P30_P32_any_folders_have_directories_of_their_own_below_the_root(
    tmp_path: Path, started: Callable, folders: list[tuple[bytes, list[str]]], layout: Layout
) -> None:
    root = tmp_path / os.urandom(8).hex()
    store = await started(root, layout=layout)
    remote = [RemoteFolder(raw, tuple(path)) for raw, path in folders]
    places = [await store.prepare(IDENTITY, "../work", folder, None) for folder in remote]
    assert len({likeness(place.directory) for place in places}) == len(places)
    for place in places:
        assert (root / place.directory).resolve().is_relative_to(root / "%2E.%2Fwork")
    assert {place.folder.raw: place for place in store.places()} == {place.folder.raw: place for place in places}
    await store.close()
    again = await started(root, layout=layout)
    assert [await again.prepare(IDENTITY, "../work", folder, None) for folder in remote] == places


async def test_P29_a_folder_with_a_name_of_4_KB_and_one_of_a_thousand_levels_work(root: Path, started: Callable) -> None:
    for layout in ("nested", "maildir++"):
        store = await started(root / layout, layout=layout)
        for folder in (RemoteFolder(b"1", ("ü" * 2000,)), RemoteFolder(b"2", ("deep",) * 1000)):
            place = await store.prepare(IDENTITY, "work", folder, None)
            [placed] = await stored(store, staged(store, place, "7.1", b"x"))
            assert await store.read(placed.path) == b"x"


async def test_an_account_keeps_its_directory_when_its_label_changes(root: Path, started: Callable) -> None:
    store = await started(root)
    await store.prepare(IDENTITY, "work", INBOX, None)
    await store.close()
    again = await started(root)
    place = await again.prepare(IDENTITY, "office", RemoteFolder(b"1", ("a",)), None)
    assert place.directory == "work/a"


async def test_a_directory_that_is_another_folders_by_now_is_left_to_it(root: Path, started: Callable) -> None:
    store = await started(root)
    first = await store.prepare(IDENTITY, "work", RemoteFolder(b"1", ("a",)), None)
    second = await store.prepare(IDENTITY, "work", RemoteFolder(b"2", ("b",)), first.directory)
    assert second.directory == "work/b"
    third = await store.prepare(IDENTITY, "work", RemoteFolder(b"3", ("c",)), "../outside")
    assert third.directory == "work/c"


async def test_a_file_in_the_way_of_a_folder_is_left_alone(root: Path, started: Callable) -> None:
    store = await started(root)
    await store.prepare(IDENTITY, "work", INBOX, None)
    (root / "work/a").write_bytes(b"someone's")
    place = await store.prepare(IDENTITY, "work", RemoteFolder(b"1", ("a",)), None)
    assert place.directory.startswith("work/a%~")
    assert (root / "work/a").read_bytes() == b"someone's"


async def test_a_sidecar_that_cannot_be_read_is_nobodys_to_take_but_the_folders_own(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", RemoteFolder(b"1", ("a",)), None)
    sidecar = root / place.directory / ".haul-folder"
    for damage in (b"{", b"[]", b'{"version": 1}', b'{"identity": "x", "raw": "?"}'):
        await store.close()
        sidecar.write_bytes(damage)
        store = await started(root)
        other = await store.prepare(IDENTITY, "work", RemoteFolder(b"2", ("a",)), None)
        assert other.directory != place.directory
        assert await store.prepare(IDENTITY, "work", place.folder, place.directory) == place
        assert json.loads(sidecar.read_bytes())["raw"] == "MQ=="


async def test_a_folder_deleted_by_hand_is_made_again_by_the_next_commit(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", RemoteFolder(b"1", ("a", "b")), None)
    shutil.rmtree(root / "work/a")
    [placed] = await stored(store, staged(store, place, "7.1", b"x"))
    assert await store.read(placed.path) == b"x"
    assert [item.path for item in items_in(store)] == [placed.path]


# --- other programs ---


@pytest.mark.parametrize("elsewhere", ["cur/{}:2,FS", "new/{}", "new/{}:2,", "cur/{}:2,Sab", "cur/{}"])
async def test_a_file_is_found_wherever_another_program_has_it(root: Path, started: Callable, elsewhere: str) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    placed, other = await stored(store, staged(store, place, "7.1", b"one"), staged(store, place, "7.11", b"other"))
    [file] = (root / "work/INBOX/cur").glob("*.U1V*")
    file.rename(root / "work/INBOX" / elsewhere.format(placed.path.rpartition("/")[2]))
    assert await store.read(placed.path) == b"one"
    assert {item.path for item in items_in(store)} == {placed.path, other.path}
    await store.relabel(placed.path, ["\\Answered"])
    [file] = (root / "work/INBOX/cur").glob("*.U1V*")
    assert file.name.endswith(":2,Rab" if "ab" in elsewhere else ":2,R")
    await store.remove(placed.path)
    assert {item.path for item in items_in(store)} == {other.path}


async def test_a_file_that_is_renamed_while_it_is_read_is_found_again(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    seen = []

    def renamed_at_first(path: str) -> str:
        seen.append(path)
        if len(seen) == 1:
            os.rename(path, f"{path}T")
        if not os.path.exists(path):
            raise FileNotFoundError(path)
        return path

    assert store._use(placed.path, renamed_at_first).endswith(":2,T")
    assert len(seen) == 2


async def test_a_crashed_group_is_found_though_another_program_has_renamed_it(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    with pytest.raises(ZeroDivisionError):
        async with store.commit([staged(store, place, "7.1", b"one")]) as placed:
            raise ZeroDivisionError
    [file] = (root / "work/INBOX/cur").iterdir()
    file.rename(f"{file}S")
    assert list(await store.recover()) == list(placed)
    assert [shown.name for shown in (root / "work/INBOX/cur").iterdir()] == [f"{file.name}S"]


async def test_a_crashed_group_that_a_person_has_deleted_stays_deleted(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    with pytest.raises(ZeroDivisionError):
        async with store.commit([staged(store, place, "7.1", b"one")]):
            raise ZeroDivisionError
    shutil.rmtree(root / "work")
    assert list(await store.recover()) == []
    await store.settle()
    assert os.listdir(root / ".haul/stage") == []


async def test_messages_of_other_programs_are_told_without_an_item(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    (root / "work/INBOX/new/1700000000.M1P1.host").write_bytes(b"local")
    (root / "work/INBOX/cur/.hidden").write_bytes(b"readers pass over it")
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    assert items_in(store) == [msgspec.structs.replace(placed, sha256=placed.sha256[:32])]
    assert [found for found in store.look(place) if not found.placed] == [
        Found("work/INBOX/new/1700000000.M1P1.host", len(b"local"))
    ]


async def test_L11_a_file_that_was_cut_short_is_told_without_an_item(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    [file] = (root / "work/INBOX/cur").iterdir()
    file.write_bytes(b"o")
    assert list(store.look(place)) == [Found(placed.path, 1)]
    assert list(await store.digest([placed.path])) == [(1, hashlib.sha256(b"o").hexdigest())]


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "one cut short"])
async def test_of_two_files_of_an_item_one_is_the_item_and_the_other_nobodys(
    root: Path, started: Callable, damaged: bool
) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    [file] = (root / "work/INBOX/cur").iterdir()
    shutil.copy(file, f"{file}S")
    if damaged:
        file.write_bytes(b"o")
    first, second = store.look(place)
    assert first.path == placed.path
    assert first.placed == msgspec.structs.replace(placed, sha256=placed.sha256[:32])
    assert second.placed is None
    assert (root / second.path).is_file()
    if damaged:
        assert second == Found(f"work/INBOX/cur/{file.name}", 1)


async def test_what_is_set_aside_is_where_its_folder_says(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "mine", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    [file] = (root / "mine/INBOX/cur").iterdir()
    assert await store.set_aside(placed.path) == f".haul/aside/mine/INBOX/cur/{file.name}"
    assert (root / f".haul/aside/mine/INBOX/cur/{file.name}").read_bytes() == b"one"


async def test_L18_what_is_on_another_device_is_set_aside_by_a_copy(root: Path, started: Callable) -> None:
    store = await started(root, disk=WatchedDisk(failing("rename", errno.EXDEV, within="/cur/")))
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    aside = await store.set_aside(placed.path)
    assert (root / aside).read_bytes() == b"one"
    assert os.listdir(root / "work/INBOX/cur") == []


class WornDisk(Disk):
    """The bytes of some files cannot be read any more."""

    def sha256_of(self, path: str) -> tuple[int, str]:
        if ".U1V" in path:
            raise OSError(errno.EIO, "Input/output error", path)
        return super().sha256_of(path)


async def test_L7_bytes_that_the_disk_cannot_read_have_no_hash(root: Path, started: Callable) -> None:
    store = await started(root, disk=WornDisk())
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    bad, good = await stored(store, staged(store, place, "7.1", b"one"), staged(store, place, "7.2", b"two"))
    assert list(await store.digest([bad.path, good.path])) == [(3, ""), (3, good.sha256)]


async def test_a_directory_in_the_place_of_an_item_has_no_hash(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    [file] = (root / "work/INBOX/cur").iterdir()
    file.unlink()
    file.mkdir()
    [(_, sha256)] = await store.digest([placed.path])
    assert sha256 == ""


@pytest.mark.parametrize("elsewhere", ["cur/{}:2,FS", "new/{}", "cur/{}:2,Sab", "cur/{}"])
@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "restarted"])
async def test_an_item_stored_again_takes_the_place_of_its_file_wherever_that_is(
    root: Path, started: Callable, elsewhere: str, restarted: bool
) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    [file] = (root / "work/INBOX/cur").iterdir()
    file.rename(root / "work/INBOX" / elsewhere.format(placed.path.rpartition("/")[2]))
    if restarted:
        await store.close()
        store = await started(root)
    again, _ = await stored(
        store, staged(store, place, "7.1", b"one", flags=["\\Answered"]), staged(store, place, "7.2", b"two")
    )
    assert again == placed
    [file] = (root / "work/INBOX").glob("*/*.U1V*")
    letters = elsewhere.partition(":2,")[2]
    assert file.parent.name == "cur"
    assert file.name.endswith(":2," + "".join(sorted(f"R{letters}")))
    assert await store.read(placed.path) == b"one"


async def test_an_item_stored_again_leaves_other_bytes_under_its_name_aside(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    [file] = (root / "work/INBOX/cur").iterdir()
    file.write_bytes(b"eno")
    file.rename(f"{file}S")
    await stored(store, staged(store, place, "7.1", b"one", flags=["\\Answered"]))
    assert await store.read(placed.path) == b"one"
    assert [found.placed is not None for found in store.look(place)] == [True]
    [aside] = (file for file in (root / ".haul/aside").rglob("*") if file.is_file())
    assert aside.read_bytes() == b"eno"


async def test_L1_an_item_that_was_stored_again_when_the_daemon_died_is_one_file_after_recovery(
    root: Path, started: Callable
) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    with pytest.raises(ZeroDivisionError):
        async with store.commit([staged(store, place, "7.1", b"one")]) as placed:
            raise ZeroDivisionError
    [file] = (root / "work/INBOX/cur").iterdir()
    shutil.copy(file, f"{file}S")
    assert list(await store.recover()) == list(placed)
    assert len(os.listdir(root / "work/INBOX/cur")) == 1
    assert await store.read(placed[0].path) == b"one"


async def test_a_bulk_import_looks_through_a_folder_once(
    root: Path, started: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "mine", INBOX, None)
    looks = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looks.append(path) or scandir(path))
    for group in range(5):
        await stored(store, *(staged(store, place, f"7.{group * 10 + n}", b"x") for n in range(10)))
    assert sorted(looks) == [f"{root}/mine/INBOX/cur", f"{root}/mine/INBOX/new"]


async def test_L14_a_sidecar_that_was_being_written_is_swept(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    unfinished = root / place.directory / ".haul-folder.new"
    await store.close()
    unfinished.write_bytes(b"{")
    again = await started(root)
    await again.prepare(IDENTITY, "work", INBOX, place.directory)
    assert not unfinished.exists()


async def test_L14_a_file_beside_its_target_is_swept(root: Path, started: Callable) -> None:
    disk = WatchedDisk()
    store = await started(root, disk=disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    renames = []

    def crash(_number: int, name: str, arguments: tuple[str, ...]) -> None:
        if name == "rename" and "/stage/" in arguments[0]:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        if name == "rename":
            renames.append(arguments)
            raise OSError(errno.EIO, "Input/output error")

    disk.before = crash
    with pytest.raises(Transient):
        await stored(store, staged(store, place, "7.1", b"one"))
    [(beside, _)] = renames
    assert os.path.exists(beside)
    disk.before = None
    await store.close()
    again = await started(root)
    assert [item.key for item in await again.recover()] == ["7.1"]
    await again.settle()
    assert [name[0] for name in os.listdir(root / "work/INBOX/cur")] == ["0"]
    assert os.listdir(root / ".haul/stage") == []


async def test_a_look_follows_links_and_ends_in_a_circle_of_them(root: Path, tmp_path: Path, started: Callable) -> None:
    (tmp_path / "other disk").mkdir()
    root.mkdir()
    (root / "work").symlink_to(tmp_path / "other disk")
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    [placed] = await stored(store, staged(store, place, "7.1", b"one"))
    (root / "work/circle").symlink_to(root)
    assert [item.path for item in items_in(store)] == [placed.path]


@pytest.mark.parametrize(("layout", "folder"), [("nested", "work/a"), ("maildir++", "work/.a")])
async def test_another_reader_of_maildirs_sees_messages_and_flags(
    root: Path, started: Callable, layout: Layout, folder: str
) -> None:
    store = await started(root, layout=layout)
    place = await store.prepare(IDENTITY, "work", RemoteFolder(b"1", ("a",)), None)
    await stored(store, *(staged(store, place, f"7.{n}", b"Subject: %d\r\n\r\n" % n, flags=["\\Seen"]) for n in range(3)))
    reader = mailbox.Maildir(root / folder, create=False)
    assert sorted(message["Subject"] for message in reader) == ["0", "1", "2"]
    assert {message.get_flags() for message in reader} == {"S"}
    if layout == "maildir++":
        assert mailbox.Maildir(root / "work", create=False).list_folders() == ["a"]


# --- trouble with the disk ---


@pytest.mark.parametrize(
    ("error", "kind", "hint"),
    [
        (errno.ENOSPC, "disk", "Free some space"),
        (errno.EDQUOT, "disk", "quota"),
        (errno.EROFS, "disk", "read-only"),
        (errno.EIO, "disk", "kernel log"),
        (errno.EMFILE, "files", "LimitNOFILE"),
        (errno.ENFILE, "files", "fs.file-max"),
        (errno.EACCES, "disk", "owner and mode"),
    ],
)
async def test_L5_L6_L7_L8_L13_trouble_is_told_in_words_and_passes(
    root: Path, started: Callable, error: int, kind: str, hint: str
) -> None:
    disk = WatchedDisk(failing("create", error, within="/stage/"))
    store = await started(root, disk=disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    with pytest.raises(Transient, match=os.strerror(error)) as raised:
        await stored(store, *(staged(store, place, f"7.{n}", b"x") for n in range(9)))
    assert raised.value.kind == kind
    assert hint in (raised.value.hint or "")
    assert os.listdir(root / ".haul/stage") == []
    assert len(await stored(store, *(staged(store, place, f"7.{n}", b"x") for n in range(9)))) == 9
    assert len(items_in(store)) == 9


async def test_L5_a_real_limit_of_the_kernel_leaves_no_half_file(root: Path, started: Callable) -> None:
    store = await started(root, memory_limit=1000)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        for body in (b"x" * 200_000, b"x" * 999):
            good = len(body) < 1000
            deposit = staged(store, place, "7.1", body)
            if good:
                await stored(store, deposit)
                continue
            with pytest.raises(Transient, match="File too large"):
                await stored(store, deposit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(root / ".haul/stage") == []
    assert [item.size for item in items_in(store)] == [999]


async def test_L18_a_folder_on_another_device_is_reached_through_a_file_beside_the_target(
    root: Path, started: Callable
) -> None:
    disk = WatchedDisk(failing("rename", errno.EXDEV, within="/stage/", times=9))
    store = await started(root, disk=disk)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    group = [staged(store, place, f"7.{n}", b"%d" % n, date=DATE) for n in range(9)]
    disk.steps.clear()
    placed = await stored(store, *group)
    assert [await store.read(item.path) for item in placed] == [b"%d" % n for n in range(9)]
    assert {file.stat().st_mtime for file in (root / "work/INBOX/cur").iterdir()} == {1_700_000_000}
    assert os.listdir(root / ".haul/stage") == []
    assert disk.names().count("sync_file") == 9
    assert len(os.listdir(root / "work/INBOX/cur")) == 9


async def test_a_missing_item_says_what_to_do(root: Path, started: Callable) -> None:
    store = await started(root)
    with pytest.raises(ItemRejected, match=r"not in its folder any more") as raised:
        await store.read("work/INBOX/1.U1V1H.haul")
    assert "Another program" in (raised.value.hint or "")


async def test_a_store_takes_no_bodies_of_others(root: Path, started: Callable) -> None:
    store = await started(root)
    place = await store.prepare(IDENTITY, "work", INBOX, None)
    deposit = Deposit(place, "7", "7.1", cast(Body, b"x"))
    with pytest.raises(TypeError, match="not a body that this store staged"):
        await stored(store, deposit)
