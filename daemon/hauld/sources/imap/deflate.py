"""COMPRESS=DEFLATE (RFC 4978): what goes over the wire is one raw DEFLATE stream each way, flushed after every command.

How far something was compressed proves nothing: a message that is one letter over and over shrinks to a thousandth. Instead
nothing is inflated before it is read, a piece at a time, and the limits for what is read count every byte.
"""

from __future__ import annotations

import zlib

from hauld.sources.imap.grammar import ProtocolError

PIECE = 64 * 1024
"""Bytes inflated at a time, at most."""

_RAW = -zlib.MAX_WBITS


class Deflate:
    """Both streams of one connection."""

    def __init__(self) -> None:
        self._outgoing = zlib.compressobj(wbits=_RAW)
        self._incoming = zlib.decompressobj(wbits=_RAW)
        self._received = b""
        self._more = False

    def deflated(self, data: bytes) -> bytes:
        """What to send for these bytes, all of it."""
        return self._outgoing.compress(data) + self._outgoing.flush(zlib.Z_SYNC_FLUSH)

    def put(self, data: bytes) -> None:
        """These bytes have come; they wait."""
        self._received += data
        self._more = True

    @property
    def waiting(self) -> bool:
        """Whether ``take`` may have something."""
        return self._more

    def take(self) -> bytes:
        """The next of what was sent, at most ``PIECE`` bytes; nothing when all is taken. Raises ``ProtocolError``."""
        try:
            piece = self._incoming.decompress(self._received, PIECE)
        except zlib.error as error:
            raise ProtocolError("what it sends is not compressed as it promised") from error
        self._received = self._incoming.unconsumed_tail
        self._more = len(piece) == PIECE or bool(self._received)
        if self._incoming.eof:
            self._more = False
            if self._incoming.unused_data:
                raise ProtocolError("it ended the compression and went on")
        return piece
