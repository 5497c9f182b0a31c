"""The log beside the database (https://www.sqlite.org/fileformat2.html, 4): up to where it was written.

SQLite reads it up to the first page that is not whole, and ignores the rest without a word. That is right where the power went
in the middle of a transaction, and where the log was harmed it loses what came after. So what was written is compared with what
SQLite reads.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

HEADER = struct.Struct(">8xI4xII8x")
"""The size of a page, and the two numbers that the pages of this log bear."""
FRAME = struct.Struct(">4xIII8x")
"""Of a page: the size of the database if it ends a transaction, else 0, and the two numbers."""
LONGEST_PAGE = 65536


def written(log: Path) -> int:
    """How many pages the log has up to the end of the last transaction that was written to it; 0 when there is no log."""
    if not log.is_file():
        return 0
    with log.open("rb", buffering=0) as file:
        header = file.read(HEADER.size)
        if len(header) < HEADER.size:
            return 0
        page, *numbers = HEADER.unpack(header)
        if not 512 <= page <= LONGEST_PAGE:
            return 0
        descriptor, last = file.fileno(), 0
        for number in range((os.fstat(descriptor).st_size - HEADER.size) // (FRAME.size + page)):
            end, *bears = FRAME.unpack(os.pread(descriptor, FRAME.size, HEADER.size + number * (FRAME.size + page)))
            if bears != numbers:
                break
            last = number + 1 if end else last
    return last
