"""What a power cut may leave: everything that was synced, and anything of what was not."""

from __future__ import annotations

import random
from pathlib import Path

from crash.injector import Change, Kind
from crash.power import Inodes, Recording

ROOT = Path("/root-of-the-disk")
LARGE = bytes(range(256)) * 8


def change(kind: Kind, inode: int, path: str, other: str = "", data: bytes = b"", offset: int = 0) -> Change:
    return Change(kind, f"{ROOT}/{path}" if path else str(ROOT), f"{ROOT}/{other}" if other else "", offset, inode, data)


CREATE = change(Kind.CREATE, 2, "a")
WRITE = change(Kind.WRITE, 2, "a", data=LARGE)
SYNC_FILE = change(Kind.SYNC_FILE, 2, "a")
SYNC_ROOT = change(Kind.SYNC_DIRECTORY, 1, "")
SYNC_ALL = change(Kind.SYNC_ALL, 1, "")


def images(*changes: Change, before: dict[int, tuple[str, bytes | None]] | None = None) -> list[dict[str, bytes | None]]:
    """Many of the images that may be left after all of the changes."""
    recording = Recording(ROOT, Inodes({1: (".", None), **(before or {})}), changes)
    return [recording.cut(len(changes), random.Random(seed)).content for seed in range(300)]


def test_what_was_synced_with_its_directory_is_there_whole() -> None:
    assert all(image == {"a": LARGE} for image in images(CREATE, WRITE, SYNC_FILE, SYNC_ROOT))
    assert all(image == {"a": LARGE} for image in images(CREATE, WRITE, SYNC_ALL))


def test_a_sync_of_a_file_does_not_keep_its_name() -> None:
    found = images(CREATE, WRITE, SYNC_FILE)
    assert {} in found
    assert {"a": LARGE} in found


def test_a_name_does_not_wait_for_the_bytes() -> None:
    found = [image["a"] for image in images(CREATE, WRITE, SYNC_ROOT)]
    assert b"" in found
    assert LARGE in found
    torn = {each for each in found if each not in (b"", LARGE) and each is not None}
    assert any(len(each) < len(LARGE) for each in torn), "a beginning"
    assert any(len(each) == len(LARGE) for each in torn), "the size, with zeros for bytes that are lost"
    for each in torn:
        for start in range(0, len(each), 512):
            assert each[start : start + 512] in (LARGE[start : start + 512], bytes(512))


def test_a_rename_is_there_in_both_directories_or_in_neither() -> None:
    found = images(
        change(Kind.MKDIR, 3, "d"),
        CREATE,
        WRITE,
        SYNC_ALL,
        change(Kind.RENAME, 2, "a", "d/b"),
    )
    assert all(("a" in image) != ("d/b" in image) for image in found)
    assert any("d/b" in image for image in found)
    assert any("a" in image for image in found)


def test_a_sync_of_one_directory_keeps_a_rename_into_it() -> None:
    moved = change(Kind.RENAME, 2, "a", "d/b")
    found = images(change(Kind.MKDIR, 3, "d"), CREATE, WRITE, SYNC_ALL, moved, change(Kind.SYNC_DIRECTORY, 3, "d"))
    assert all(image == {"d": None, "d/b": LARGE} for image in found)


def test_in_one_directory_nothing_is_there_that_came_after_what_is_lost() -> None:
    found = images(CREATE, change(Kind.CREATE, 3, "b"), change(Kind.CREATE, 4, "c"))
    assert {tuple(sorted(image)) for image in found} == {(), ("a",), ("a", "b"), ("a", "b", "c")}


def test_what_is_in_a_directory_is_lost_with_its_name() -> None:
    inside = change(Kind.CREATE, 4, "d/a")
    found = images(change(Kind.MKDIR, 3, "d"), inside, change(Kind.SYNC_DIRECTORY, 3, "d"))
    assert {tuple(sorted(image)) for image in found} == {(), ("d", "d/a")}


def test_what_was_there_before_comes_back_where_its_end_was_not_synced() -> None:
    before: dict[int, tuple[str, bytes | None]] = {2: ("a", b"old"), 3: ("b", b"older")}
    found = images(change(Kind.RENAME, 2, "a", "b"), before=before)
    assert {"a": b"old", "b": b"older"} in found
    assert {"b": b"old"} in found
    found = images(change(Kind.UNLINK, 0, "a"), before=before)
    assert {"a": b"old", "b": b"older"} in found
    assert {"b": b"older"} in found


def test_bytes_outside_of_what_was_written_stay() -> None:
    before: dict[int, tuple[str, bytes | None]] = {2: ("a", LARGE)}
    for image in images(change(Kind.WRITE, 2, "a", data=b"new", offset=700), before=before):
        assert image["a"] in (LARGE, LARGE[:700] + b"new" + LARGE[703:])


def test_a_file_that_was_cut_is_short_or_not() -> None:
    before: dict[int, tuple[str, bytes | None]] = {2: ("a", LARGE)}
    found = [image["a"] for image in images(change(Kind.TRUNCATE, 2, "a", offset=10), before=before)]
    assert set(found) == {LARGE, LARGE[:10]}
