"""The real disk, call by call."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hauld.stores.durable import Disk, disk_trouble, sha256_of


def test_a_short_write_is_followed_by_the_rest() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    body = os.urandom(100_000)  # more than a pipe takes at once
    received = bytearray()
    with pytest.raises(BlockingIOError):
        Disk().append(writer, body)
    received += os.read(reader, 200_000)
    assert body.startswith(bytes(received))
    assert len(received) == 65_536
    os.close(reader)
    os.close(writer)


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    with pytest.raises(FileExistsError):
        Disk().write(str(path), b"second", 0o640)
    assert path.read_bytes() == b"first"


def test_H9_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        Disk().write(str(tmp_path / "link"), b"x", 0o640)
    assert not (tmp_path / "elsewhere").exists()


def test_a_copy_has_bytes_and_time_and_tells_its_hash(tmp_path: Path) -> None:
    disk = Disk()
    disk.write(str(tmp_path / "one"), b"x" * 3_000_000, 0o640, mtime=1_000)
    assert disk.copy(str(tmp_path / "one"), str(tmp_path / "two"), 0o600) == sha256_of(str(tmp_path / "one"))
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()
    assert (tmp_path / "two").stat().st_mtime == 1_000


def test_every_sync_works_on_this_machine(tmp_path: Path) -> None:
    disk = Disk()
    disk.write(str(tmp_path / "file"), b"x", 0o640)
    disk.sync_file(str(tmp_path / "file"))
    disk.sync_directory(str(tmp_path))
    descriptor = os.open(tmp_path, os.O_RDONLY)
    disk.sync_file_system(descriptor)
    os.close(descriptor)
    assert disk.can_sync_file_system(str(tmp_path)) in (True, False)


def test_a_sync_that_fails_raises(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Disk().sync_file_system(descriptor)


@pytest.mark.parametrize("path", ["/proc", "/no/such/place"])
def test_a_file_system_that_is_not_known_to_sync_as_a_whole_is_not_trusted_to(path: str) -> None:
    assert not Disk().can_sync_file_system(path)


def test_trouble_names_what_failed_and_on_what_and_why() -> None:
    trouble = disk_trouble(OSError(errno.ENOSPC, "No space left on device", "/srv/mail/x"), "store 3 items")
    assert trouble.kind == "disk"
    assert trouble.message == "Cannot store 3 items: No space left on device (/srv/mail/x)."
    assert trouble.hint is not None
    assert disk_trouble(OSError(errno.EXDEV, "Invalid cross-device link"), "x").hint is None
