"""What a content-addressed tree looks like, what an index survives, and what compression may and may not do."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from contracts.store import IDENTITY, INBOX, RowsFailed, staged, stored, write_all
from hauld.errors import Fatal, ItemRejected, Transient
from hauld.model import Deposit, Found, Place, RemoteFolder
from hauld.stores.eml import EmlStore
from hauld.stores.maildir import MaildirStore
from support.disks import failing
from support.killed_eml_store import WatchedUnsyncedDisk

zstandard = pytest.importorskip("zstandard")

ARCHIVE = RemoteFolder(b"Archive", ("Archive", "2024"))
TEXT = b"Subject: again and again\r\n\r\n" + b"again and again\r\n" * 100

Start = Callable[..., "EmlStore"]


@pytest_asyncio.fixture
async def started(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts stores on the tree ``mail``, one after the other; all are closed in the end."""
    stores: list[EmlStore] = []

    async def start(**options: object) -> EmlStore:
        for store in stores:
            await store.close()
        stores.append(EmlStore(tmp_path / "mail", **options))  # type: ignore[arg-type]
        await stores[-1].start()
        return stores[-1]

    yield start
    for store in stores:
        await store.close()


async def inbox_of(store: EmlStore) -> Place:
    return await store.prepare(IDENTITY, "work", INBOX, None)


def objects(tmp_path: Path) -> list[str]:
    mail = tmp_path / "mail"
    return sorted(str(path.relative_to(mail)) for path in mail.glob("??/??/*"))


def keys(store: EmlStore, place: Place) -> list[str]:
    return [found.placed.key for found in store.look(place) if found.placed]


# --- one copy ------------------------------------------------------------------------------------------------------


async def test_P43_the_same_message_in_five_folders_is_one_file_and_five_items(started: Start, tmp_path: Path) -> None:
    store = await started()
    places = [await store.prepare(IDENTITY, "work", RemoteFolder(b"%d" % n, (f"Label {n}",)), None) for n in range(5)]
    placed = await stored(store, *(staged(store, place, f"{n}.1", TEXT) for n, place in enumerate(places)))
    sha256 = hashlib.sha256(TEXT).hexdigest()
    assert objects(tmp_path) == [f"{sha256[:2]}/{sha256[2:4]}/{sha256}.eml"]
    assert {item.path for item in placed} == set(objects(tmp_path))
    assert [keys(store, place) for place in places] == [[f"{n}.1"] for n in range(5)]
    assert list(store.strays()) == []


async def test_P43_all_items_of_one_file_are_reported_after_an_error(started: Start) -> None:
    store = await started(compression="zstd")
    archive = await store.prepare(IDENTITY, "work", ARCHIVE, None)
    group = [staged(store, await inbox_of(store), "7.1", TEXT), staged(store, archive, "8.1", TEXT)]
    with pytest.raises(RowsFailed):
        async with store.commit(group) as placed:
            raise RowsFailed
    again = await started()
    assert sorted(await again.recover(), key=lambda item: item.key) == list(placed)


async def test_L11_storing_a_damaged_message_again_mends_it(started: Start, tmp_path: Path) -> None:
    store = await started()
    place = await inbox_of(store)
    [placed] = await stored(store, staged(store, place, "7.1", TEXT))
    (tmp_path / "mail" / placed.path).write_bytes(TEXT[:-1] + b"?")
    assert await store.digest([placed.path]) != [(len(TEXT), placed.sha256)]
    await stored(store, staged(store, place, "7.1", TEXT))
    assert await store.digest([placed.path]) == [(len(TEXT), placed.sha256)]


@pytest.mark.parametrize("other", [False, True], ids=["the same message", "one beside it"])
async def test_a_directory_of_messages_that_was_deleted_is_made_again(started: Start, tmp_path: Path, other: bool) -> None:
    store = await started()
    place = await inbox_of(store)
    [placed] = await stored(store, staged(store, place, "7.1", TEXT))
    shutil.rmtree(tmp_path / "mail" / placed.path[:2])
    text = like(placed.sha256) if other else TEXT
    with pytest.raises(Transient):
        await stored(store, staged(store, place, "7.2", text))
    [again] = await stored(store, staged(store, place, "7.2", text))
    assert await store.read(again.path) == text


def like(sha256: str) -> bytes:
    """Bytes whose hash begins with the same two digits, and goes on with others."""
    hashes = ((text, hashlib.sha256(text).hexdigest()) for text in map(b"%d".__mod__, count()))
    return next(text for text, other in hashes if other[:2] == sha256[:2] and other[2:4] != sha256[2:4])


async def test_H9_a_file_in_the_place_of_a_directory_of_messages_is_an_error_and_stays(started: Start, tmp_path: Path) -> None:
    store = await started()
    in_the_way = tmp_path / "mail" / hashlib.sha256(TEXT).hexdigest()[:2]
    in_the_way.write_bytes(b"mine")
    place = await inbox_of(store)
    with pytest.raises(Transient):
        await stored(store, staged(store, place, "7.1", TEXT))
    assert in_the_way.read_bytes() == b"mine"
    in_the_way.unlink()
    assert await stored(store, staged(store, place, "7.1", TEXT))


# --- beforehand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "zstd"])
async def test_groups_that_are_written_while_others_are_committed_are_stored_whole(started: Start, compression: str) -> None:
    store = await started(compression=compression)
    place = await inbox_of(store)
    texts = {f"7.{n}": b"%d " % n + TEXT * (n % 3 + 1) for n in range(40)}
    groups = [[staged(store, place, f"7.{n}", texts[f"7.{n}"]) for n in range(start, start + 10)] for start in range(0, 40, 10)]
    await store.write(groups[0])
    for group, following in zip(groups, [*groups[1:], []], strict=True):
        await asyncio.gather(stored(store, *group), store.write(following))
    found = [item.placed for item in store.look(place) if item.placed]
    assert {item.key: await store.read(item.path) for item in found} == texts
    assert os.listdir(store._tree.spool.directory) == []


async def test_what_is_written_and_then_not_wanted_goes_at_the_next_sweep(started: Start) -> None:
    store = await started()
    group = [staged(store, await inbox_of(store), "7.1", TEXT)]
    await store.write(group)
    stage = store._tree.spool.directory
    await store.recover()
    assert len(os.listdir(stage)) == 1
    group[0].body.discard()
    await store.recover()
    assert os.listdir(stage) == []


# --- indexes -------------------------------------------------------------------------------------------------------


async def test_an_index_tells_date_and_flags_and_its_last_line_counts(started: Start) -> None:
    store = await started()
    place = await inbox_of(store)
    [placed] = await stored(store, staged(store, place, "7.1", TEXT, flags=["\\Seen"], date=1000))
    await stored(store, staged(store, place, "7.1", TEXT, flags=["\\Flagged", "$Label"], date=1000))
    assert list(store.look(place)) == [Found(placed.path, len(TEXT), placed, ("\\Flagged", "$Label"), 1000)]


async def test_an_index_is_what_a_person_can_read(started: Start, tmp_path: Path) -> None:
    store = await started()
    place = await store.prepare(IDENTITY, "mine", ARCHIVE, None)
    await stored(store, staged(store, place, "7.1", TEXT, flags=["\\Seen"]))
    assert place.directory == "index/mine/Archive%2F2024.json"
    facts, item = map(json.loads, (tmp_path / "mail" / place.directory).read_text().splitlines())
    assert (facts["identity"], facts["path"]) == (IDENTITY, ["Archive", "2024"])
    assert (item["key"], item["size"], item["flags"]) == ("7.1", len(TEXT), ["\\Seen"])


@pytest.mark.parametrize(("key", "flag"), [("7.\x7f", '$\n"\\'), ("7.ü", "$😀"), ("7.1", "$\ud800")], ids=ascii)
async def test_a_line_is_ascii_whatever_the_key_and_the_flags_are(started: Start, tmp_path: Path, key: str, flag: str) -> None:
    store = await started()
    place = await inbox_of(store)
    [placed] = await stored(store, staged(store, place, key, TEXT, flags=[flag]))
    _, line = (tmp_path / "mail" / place.directory).read_text("ascii").splitlines()
    assert line.startswith(json.dumps({"epoch": placed.epoch, "key": placed.key}, separators=(",", ":"))[:-1])
    assert [(found.placed, found.flags) for found in store.look(place)] == [(placed, (flag,))]


@pytest.mark.parametrize("tail", [b'{"epoch":"7","key":"7.9"', b"\0" * 300, b"\n"], ids=["cut short", "zeros", "empty line"])
async def test_L17_a_torn_tail_is_cut_away_when_the_next_line_comes(started: Start, tmp_path: Path, tail: bytes) -> None:
    store = await started()
    place = await inbox_of(store)
    await stored(store, staged(store, place, "7.1", b"one"))
    index = tmp_path / "mail" / place.directory
    before = index.read_bytes()
    index.write_bytes(before + tail)
    again = await started()
    assert keys(again, place) == ["7.1"]
    await stored(again, staged(again, await inbox_of(again), "7.2", b"two"))
    assert index.read_bytes().startswith(before + b'{"epoch":"7","key":"7.2"')
    assert keys(again, place) == ["7.1", "7.2"]


async def test_L11_a_damaged_line_harms_no_other_and_its_message_is_a_stray(started: Start, tmp_path: Path) -> None:
    store = await started()
    place = await inbox_of(store)
    placed = await stored(store, *(staged(store, place, f"7.{n}", b"%d" % n) for n in (1, 2, 3)))
    index = tmp_path / "mail" / place.directory
    index.write_bytes(index.read_bytes().replace(b'"key":"7.2"', b'"key":"7.5"'))
    assert keys(store, place) == ["7.1", "7.3"]
    assert list(store.strays()) == [placed[1].path]


async def test_a_folder_whose_index_was_deleted_gets_a_new_one(started: Start, tmp_path: Path) -> None:
    store = await started()
    place = await inbox_of(store)
    await stored(store, staged(store, place, "7.1", b"one"))
    (tmp_path / "mail" / place.directory).unlink()
    assert list(store.look(place)) == []
    await stored(store, staged(store, place, "7.2", b"two"))
    assert list(store.places()) == [place]
    assert keys(store, place) == ["7.2"]


async def test_a_line_whose_message_is_gone_tells_of_nothing(started: Start) -> None:
    store = await started()
    place = await inbox_of(store)
    gone, stays = await stored(store, staged(store, place, "7.1", b"one"), staged(store, place, "7.2", b"two"))
    await store.remove(gone.path)
    assert [found.placed for found in store.look(place)] == [stays]


async def test_a_message_that_was_cut_short_is_no_item(started: Start, tmp_path: Path) -> None:
    store = await started()
    place = await inbox_of(store)
    [placed] = await stored(store, staged(store, place, "7.1", TEXT))
    (tmp_path / "mail" / placed.path).write_bytes(TEXT[:10])
    assert [(found.size, found.placed) for found in store.look(place)] == [(10, None)]


async def test_L7_when_an_index_cannot_be_synced_nothing_rests_on_it_and_the_next_commit_is_whole(
    started: Start, tmp_path: Path
) -> None:
    disk = WatchedUnsyncedDisk()
    store = await started(disk=disk)
    place = await inbox_of(store)
    disk.before = failing("sync_file", errno.EIO, within="index/")
    with pytest.raises(Transient) as raised:
        await stored(store, staged(store, place, "7.1", b"one"))
    assert raised.value.kind == "disk"
    assert objects(tmp_path) == []
    disk.steps.clear()
    await stored(store, staged(store, place, "7.1", b"one"))
    index = str(tmp_path / "mail" / place.directory)
    assert any(step == "sync_file" and arguments[0] == index for step, arguments in disk.steps)
    assert keys(store, place) == ["7.1"]


async def test_L5_a_commit_that_fails_again_and_again_does_not_fill_the_index(started: Start, tmp_path: Path) -> None:
    disk = WatchedUnsyncedDisk()
    store = await started(disk=disk)
    place = await inbox_of(store)
    disk.before = failing("create", errno.ENOSPC, within=".haul/stage", times=3)
    for _ in range(3):
        with pytest.raises(Transient):
            await stored(store, staged(store, place, "7.1", b"one"))
    await stored(store, staged(store, place, "7.1", b"one"))
    assert len((tmp_path / "mail" / place.directory).read_text().splitlines()) == 2


async def test_L13_an_index_that_cannot_be_written_harms_no_other_folder(started: Start, tmp_path: Path) -> None:
    store = await started(memory_limit=10, compression="zstd")
    inbox = await inbox_of(store)
    archive = await store.prepare(IDENTITY, "work", ARCHIVE, None)
    index = tmp_path / "mail" / inbox.directory
    index.unlink()
    index.mkdir()
    bad, good = staged(store, inbox, "7.1", TEXT), staged(store, archive, "8.1", TEXT + b"2")
    with pytest.raises(Transient):
        await stored(store, bad, good)
    with pytest.raises(ItemRejected) as raised:
        await stored(store, bad)
    assert raised.value.kind == "folder"
    [placed] = await stored(store, good)
    assert await store.read(placed.path) == TEXT + b"2"


# --- compression ---------------------------------------------------------------------------------------------------


async def test_a_compressed_message_is_smaller_and_its_path_says_nothing_of_it(started: Start, tmp_path: Path) -> None:
    store = await started(compression="zstd")
    place = await inbox_of(store)
    [placed] = await stored(store, staged(store, place, "7.1", TEXT))
    assert objects(tmp_path) == [f"{placed.path}.zst"]
    assert (tmp_path / "mail" / f"{placed.path}.zst").stat().st_size < len(TEXT) / 10
    assert await store.read(placed.path) == TEXT
    assert await store.digest([placed.path]) == [(len(TEXT), placed.sha256)]
    assert [(found.size, found.placed) for found in store.look(place)] == [(len(TEXT), placed)]


@pytest.mark.parametrize("memory_limit", [10, 10_000], ids=["large", "small"])
async def test_what_compression_would_make_larger_stays_as_it_is(started: Start, tmp_path: Path, memory_limit: int) -> None:
    store = await started(compression="zstd", memory_limit=memory_limit)
    body = hashlib.shake_256(b"noise").digest(2000)
    [placed] = await stored(store, staged(store, await inbox_of(store), "7.1", body))
    assert objects(tmp_path) == [placed.path]
    assert await store.read(placed.path) == body


@pytest.mark.parametrize("switched", [("none", "zstd"), ("zstd", "none")], ids=["on", "off"])
async def test_compression_may_be_switched_at_any_time_and_one_copy_stays(
    started: Start, tmp_path: Path, switched: tuple[str, str]
) -> None:
    before, after = switched
    store = await started(compression=before)
    place = await inbox_of(store)
    old, same = await stored(store, staged(store, place, "7.1", TEXT), staged(store, place, "7.2", TEXT * 2))
    store = await started(compression=after)
    assert await store.read(old.path) == TEXT
    assert await stored(store, staged(store, place, "7.2", TEXT * 2)) == [same]
    assert len(objects(tmp_path)) == 2
    assert await store.digest([old.path, same.path]) == [(item.size, item.sha256) for item in (old, same)]


async def test_P38_a_large_message_is_compressed_without_being_held(started: Start, tmp_path: Path) -> None:
    store = await started(compression="zstd")
    chunk = bytes(range(256)) * 4096
    writer = store.open("7.1", 32 * len(chunk))
    await write_all(writer, chunk, 32)
    [placed] = await stored(store, Deposit(await inbox_of(store), "7", "7.1", writer.finish()))
    assert objects(tmp_path) == [f"{placed.path}.zst"]
    assert await store.digest([placed.path]) == [(32 * len(chunk), hashlib.sha256(chunk * 32).hexdigest())]


def without_its_size() -> bytes:
    frame = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return frame.compress(bytes(1 << 24)) + frame.flush()


def of_a_large_window() -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(hashlib.shake_256(b"").digest(1 << 20) * 12)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda frame: frame[: len(frame) // 2],
    "a flipped byte": lambda frame: frame[:-10] + bytes([frame[-10] ^ 1]) + frame[-9:],
    "no frame": lambda _: b"Subject: plain\r\n",
    "a frame that does not say its size": lambda _: without_its_size(),
    "a frame that wants much memory": lambda _: of_a_large_window(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_L11_a_damaged_frame_is_found_and_never_taken_for_a_message(
    started: Start, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    store = await started(compression="zstd")
    [placed] = await stored(store, staged(store, await inbox_of(store), "7.1", TEXT))
    file = tmp_path / "mail" / f"{placed.path}.zst"
    file.write_bytes(damage(file.read_bytes()))
    assert await store.digest([placed.path]) == [(file.stat().st_size, "")]
    with pytest.raises(ItemRejected) as raised:
        await store.read(placed.path)
    assert raised.value.kind == "damaged"


async def test_without_the_library_it_is_said_what_to_install(started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await started(compression="zstd")
    [placed] = await stored(store, staged(store, await inbox_of(store), "7.1", TEXT))
    plain = await started()
    monkeypatch.setitem(sys.modules, "zstandard", None)
    await stored(plain, staged(plain, await inbox_of(plain), "7.2", b"plain"))
    for meets_it in (plain.read(placed.path), started(compression="zstd")):
        with pytest.raises(Fatal) as raised:
            await meets_it
        assert raised.value.kind == "configuration"
        assert "hauld[zstd]" in (raised.value.hint or "")


# --- whose tree ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "marked"),
    [(EmlStore, MaildirStore, True), (MaildirStore, EmlStore, True), (MaildirStore, EmlStore, False)],
    ids=["eml", "maildir", "maildir from before there was a mark"],
)
async def test_a_tree_of_another_format_is_refused_untouched(tmp_path: Path, first: type, second: type, marked: bool) -> None:
    store = first(tmp_path / "mail")
    await store.start()
    await store.prepare(IDENTITY, "work", INBOX, None)
    await store.close()
    if not marked:
        (tmp_path / "mail/.haul/format").unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Fatal) as raised:
        await second(tmp_path / "mail").start()
    assert raised.value.kind == "configuration"
    assert sorted(tmp_path.rglob("*")) == before
    again = first(tmp_path / "mail")
    await again.start()
    await again.close()
