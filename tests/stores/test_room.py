"""What a store takes of its file system, so that ``keep_free`` stays free whoever writes at once."""

from __future__ import annotations

import pytest

from hauld.errors import Transient
from hauld.stores.durable import Disk
from hauld.stores.room import DIRECTORIES, NAME, Room

BLOCK = 4096
KEPT = 1 << 20


class Counting(Disk):
    """So many blocks are free beside those that are kept, and so many files."""

    def __init__(self, blocks: int, files: int | None = None) -> None:
        super().__init__()
        self.blocks = blocks
        self.files = files

    def free(self, path: str) -> tuple[int, int | None, int]:
        return KEPT + self.blocks * BLOCK, self.files, BLOCK


def room(disk: Disk) -> Room:
    return Room("/srv/mail", disk, KEPT)


def is_refused(room: Room, *sizes: int) -> bool:
    try:
        room.check(sizes)
    except Transient:
        return True
    return False


def test_L5_files_are_reckoned_in_whole_blocks_and_directories_grow_by_their_names() -> None:
    one = 1 + DIRECTORIES + 1  # its block, one in each directory, and what its name takes
    assert not is_refused(room(Counting(one)), 1)
    assert is_refused(room(Counting(one - 1)), 1)
    assert is_refused(room(Counting(one)), BLOCK + 1)
    many = 100 * 3 + DIRECTORIES + -(-100 * NAME // BLOCK)
    assert not is_refused(room(Counting(many)), *[10_000] * 100)
    assert is_refused(room(Counting(many - 1)), *[10_000] * 100)


def test_L5_what_one_is_about_to_write_is_no_room_for_another() -> None:
    shared = room(Counting(10, files=100))
    with shared.held([5 * BLOCK]):
        assert is_refused(shared, BLOCK)
    assert not is_refused(shared, BLOCK)
    with pytest.raises(ZeroDivisionError), shared.held([5 * BLOCK]):
        raise ZeroDivisionError
    assert not is_refused(shared, BLOCK)


def test_L5_what_has_been_written_is_not_reckoned_twice() -> None:
    disk = Counting(20)
    shared = room(disk)
    with shared.held([5 * BLOCK, 5 * BLOCK]) as held:
        for _ in range(2):
            disk.blocks -= 5
            held.written(5 * BLOCK)
        assert not is_refused(shared, BLOCK)
    assert not is_refused(shared, BLOCK)


def test_L5_inodes_are_held_like_bytes() -> None:
    disk = Counting(1 << 20, files=70)
    shared = room(disk)
    with shared.held([1] * 4):
        assert is_refused(shared, 1, 1, 1)
        assert not is_refused(shared, 1, 1)
    assert not is_refused(shared, *[1] * 6)


def test_where_nothing_is_kept_free_everything_is_held() -> None:
    with Room("/srv/mail", Counting(-9999), 0).held([1 << 40]) as held:
        held.written(1 << 40)
