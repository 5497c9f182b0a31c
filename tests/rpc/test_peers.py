"""Who may come in."""

from __future__ import annotations

import os
import socket

import pytest

from hauld.rpc.peers import NOBODY, Peer, may_enter, peer_of

HAUL = 990


@pytest.mark.parametrize(
    ("uid", "groups", "welcome"),
    [
        pytest.param(0, {0}, True, id="root"),
        pytest.param(500, {500}, True, id="the daemon's own user"),
        pytest.param(1000, {1000, HAUL}, True, id="a member of the group"),
        pytest.param(1000, {HAUL}, True, id="one whose primary group it is"),
        pytest.param(1000, {1000, 500}, False, id="one who shares the daemon's primary group only"),
        pytest.param(1000, {1000, 0}, False, id="one in root's group"),
        pytest.param(1000, set(), False, id="one without groups"),
        pytest.param(NOBODY, {HAUL}, False, id="nobody, even as a member"),
    ],
)
def test_C8_root_the_own_user_and_the_group_may_enter(uid: int, groups: set[int], welcome: bool) -> None:
    assert may_enter(Peer(1, uid, frozenset(groups)), own_uid=500, group=HAUL) is welcome


def test_C8_nobody_may_not_enter_even_a_daemon_that_runs_as_nobody() -> None:
    assert not may_enter(Peer(1, NOBODY, frozenset()), own_uid=NOBODY, group=None)


def test_C8_where_there_is_no_group_no_membership_helps() -> None:
    assert not may_enter(Peer(1, 1000, frozenset({1000, HAUL})), own_uid=500, group=None)


def test_the_kernel_names_the_peer_and_all_its_groups() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert peer == Peer(os.getpid(), os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))
