"""Compressed files: one zstd frame (RFC 8878) that tells the size of what is in it and ends with a checksum of that.

The library is imported only by whoever is to write or read such a file; without it there is an error that says what to
install. Nothing here holds more than a few megabytes of a file, whatever a frame promises.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from haulapi.faults import Exit
from hauld.errors import Fatal
from hauld.model import Buffer
from hauld.stores.durable import COPY_BYTES, Disk

LEVEL = 3

LARGEST_WINDOW = 8 << 20
"""Bytes of a frame that its reader has to remember: every reader is asked to manage so many (RFC 8878, 3.1.1.1.2), and a frame
that wants more is not one of ours."""

LONGEST_HEADER = 18
"""Bytes of a frame's header (RFC 8878, 3.1.1), its magic number included."""


class Damaged(Exception):
    """What is there is no frame, or not a whole one, or holds other bytes than were put in."""


class Packer:
    """Called from any thread. Raises ``Fatal`` when it is made without the library."""

    def __init__(self) -> None:
        self._compressor = _compressor()
        self._packing = threading.Lock()  # a compressor does one thing at a time

    def pack(self, data: Buffer) -> bytes | None:
        """The frame; None when it would not be smaller."""
        with self._packing:
            frame: bytes = self._compressor.compress(data)
        return frame if len(frame) < len(data) else None

    def pack_file(self, source: str, target: str, size: int, disk: Disk, mode: int) -> tuple[int, str]:
        """A new file with the frame of another one, which has ``size`` bytes; size and SHA-256 of the frame."""
        packed = _compressor().compressobj(size=size)
        seen = hashlib.sha256()
        length = 0
        with open(source, "rb", buffering=0) as reader:
            descriptor = disk.create(target, mode)
            try:
                while data := reader.read(COPY_BYTES):
                    length += _appended(packed.compress(data), descriptor, disk, seen)
                length += _appended(packed.flush(), descriptor, disk, seen)
            finally:
                os.close(descriptor)
        return length, seen.hexdigest()


def unpacked(path: str) -> Iterator[bytes]:
    """What is in the frame, piece by piece. Raises ``Damaged``, at the latest at its end."""
    zstandard = _zstandard()
    promised = left = unpacked_size(path)
    with open(path, "rb", buffering=0) as file:
        try:
            frame = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).stream_reader(file)
            while data := frame.read(COPY_BYTES):
                left -= len(data)
                if left < 0:
                    break
                yield data
        except zstandard.ZstdError as error:
            raise Damaged(f"{path} cannot be decompressed") from error
    if left != 0:
        raise Damaged(f"{path} does not hold the {promised} bytes that it promises")


def unpacked_size(path: str) -> int:
    """How many bytes the frame says are in it. Raises ``Damaged`` when it does not."""
    zstandard = _zstandard()
    with open(path, "rb", buffering=0) as file:
        header = file.read(LONGEST_HEADER)
    try:
        size: int = zstandard.frame_content_size(header)
    except zstandard.ZstdError as error:
        raise Damaged(f"{path} is not a zstd frame") from error
    if size < 0:
        raise Damaged(f"{path} does not say how many bytes it holds")
    return size


def _appended(data: bytes, descriptor: int, disk: Disk, seen: hashlib._Hash) -> int:
    """The length of what has been written and hashed."""
    if data:
        disk.append(descriptor, data)
        seen.update(data)
    return len(data)


def _compressor() -> Any:
    return _zstandard().ZstdCompressor(level=LEVEL, write_checksum=True)


def _zstandard() -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise Fatal(
            "configuration",
            "The store holds, or is to hold, compressed items, and the Python package zstandard is not installed.",
            hint="Install haul with its extra: pip install 'hauld[zstd]'.",
            exit_code=Exit.CONFIGURATION,
        ) from None
    return zstandard
