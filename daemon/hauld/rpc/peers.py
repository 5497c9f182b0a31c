"""Who may come in: what the kernel says of the process at the other end, and the decision on it."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

NOBODY = 65534
"""What the kernel calls a user it has no number for here, so it can be anybody."""

SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)
"""Linux 4.13; the number of most architectures, for a Python that does not name it."""

LONGEST_GROUP_LIST = 1024
"""Bytes; the most that ``getsockopt`` reads, which is 256 groups."""


@dataclass(frozen=True)
class Peer:
    """A process that has connected: its user and all its groups at that moment."""

    pid: int
    uid: int
    groups: frozenset[int]


def may_enter(peer: Peer, *, own_uid: int, group: int | None) -> bool:
    """Root, the daemon's own user, and members of ``group``; never ``NOBODY``, whatever groups it brings."""
    if peer.uid == NOBODY:
        return False
    return peer.uid in (0, own_uid) or (group is not None and group in peer.groups)


def peer_of(connection: socket.socket) -> Peer:
    """The peer as the kernel recorded it when it connected (SO_PEERCRED, SO_PEERGROUPS)."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return Peer(pid, uid & 0xFFFFFFFF, frozenset({gid & 0xFFFFFFFF, *_supplementary_groups(connection)}))


def _supplementary_groups(connection: socket.socket) -> tuple[int, ...]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, LONGEST_GROUP_LIST)
    except OSError:
        return ()  # an old kernel, or a longer list than we can read: then only the primary group counts
    return struct.unpack(f"{len(packed) // 4}I", packed)


def own_uid() -> int:
    """The user this daemon acts as."""
    return os.geteuid()
