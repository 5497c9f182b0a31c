"""The socket's name: taken only when it is free or a dead socket of ours, and open to whom it is meant for."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from haulapi.faults import Exit
from hauld.errors import Fatal
from hauld.rpc.socketfile import group_number, listening, taken_over

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def leave_a_dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def test_the_socket_answers_while_it_is_open_and_its_name_is_gone_after(tmp_path: Path) -> None:
    path = tmp_path / "haul.sock"
    with listening(path, None), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert names(tmp_path) == ["haul.sock"]
    assert names(tmp_path) == []


def test_without_a_group_socket_and_directory_are_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "run" / "haul" / "haul.sock"
    with listening(path, None):
        assert mode(path) == 0o600
        assert mode(path.parent) == 0o700


@as_root
def test_C8_with_a_group_socket_and_directory_are_open_to_it_and_to_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "haul" / "haul.sock"
    with listening(path, 4711):
        assert (mode(path), path.stat().st_gid) == (0o660, 4711)
        assert (mode(path.parent), path.parent.stat().st_gid) == (0o750, 4711)


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o755)
    with listening(directory / "haul.sock", None):
        assert mode(directory) == 0o755


def test_L16_a_dead_socket_of_ours_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "haul.sock"
    leave_a_dead_socket(path)
    with listening(path, None), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_C9_a_socket_that_answers_is_another_daemons_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "haul.sock"
    with listening(path, None):
        with pytest.raises(Fatal) as refused, listening(path, None):
            pass
        assert (refused.value.kind, refused.value.exit_code) == ("locked", Exit.TRY_AGAIN)
        assert str(path) in refused.value.message
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_C9_a_socket_too_busy_to_take_a_connection_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "haul.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(Fatal) as refused, listening(path, None):
            pass
    assert refused.value.kind == "locked"


@pytest.mark.parametrize("what", ["file", "directory", "link to a dead socket", "link to nothing"])
def test_C9_what_is_no_socket_is_left_alone(tmp_path: Path, what: str) -> None:
    path = tmp_path / "haul.sock"
    if what == "file":
        path.write_text("precious")
    elif what == "directory":
        path.mkdir()
    else:
        target = tmp_path / "target"
        if what == "link to a dead socket":
            leave_a_dead_socket(target)
        path.symlink_to(target)
    before = (names(tmp_path), path.lstat())

    with pytest.raises(Fatal) as refused, listening(path, None):
        pass

    assert refused.value.exit_code == Exit.CONFIGURATION
    assert str(path) in refused.value.message
    assert (names(tmp_path), path.lstat()) == before


@as_root
def test_C9_a_dead_socket_of_another_user_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "haul.sock"
    leave_a_dead_socket(path)
    os.chown(path, 4711, 4711)
    with pytest.raises(Fatal, match="another user"), listening(path, None):
        pass
    assert path.is_socket()


def test_C9_a_directory_in_which_anybody_can_replace_the_socket_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(Fatal, match="anybody may write there"), listening(directory / "haul.sock", None):
        pass
    directory.chmod(0o1777)
    with listening(directory / "haul.sock", None):
        pass


def test_a_directory_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "haul.sock", tmp_path / "file" / "below" / "haul.sock"):
        with pytest.raises(Fatal) as refused, listening(path, None):
            pass
        assert refused.value.exit_code == Exit.CONFIGURATION


def test_a_name_too_long_for_a_socket_is_said_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="too long"), listening(tmp_path / ("x" * 120), None):
        pass
    assert names(tmp_path) == []


def test_a_name_that_another_has_taken_meanwhile_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "haul.sock"
    with listening(path, None):
        path.unlink()
        leave_a_dead_socket(path)
    assert path.is_socket()


# --- a socket that somebody else made ------------------------------------------------------------------------------


def descriptor_of(made: socket.socket) -> int:
    """As it is passed: whoever takes it over closes it."""
    return os.dup(made.fileno())


def test_a_socket_that_was_made_for_us_is_taken_as_it_is_and_listens_on_without_us(tmp_path: Path) -> None:
    path = tmp_path / "haul.sock"
    with socket.socket(socket.AF_UNIX) as made, socket.socket(socket.AF_UNIX) as client:
        made.bind(str(path))
        path.chmod(0o606)
        made.listen()
        with taken_over(descriptor_of(made), path) as ours:
            client.connect(str(path))
            ours.accept()[0].close()
        assert mode(path) == 0o606
        assert names(tmp_path) == ["haul.sock"]
        with socket.socket(socket.AF_UNIX) as late:
            late.connect(str(path))


def test_a_socket_that_was_made_for_us_is_known_by_its_place_and_not_by_its_words(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to("run")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "run" / "haul.sock"))
        made.listen()
        with taken_over(descriptor_of(made), tmp_path / "var" / "haul.sock"):
            pass


def other_kinds(directory: Path) -> dict[str, tuple[socket.socket, str]]:
    """Sockets that are no control socket, each with what is said of it."""
    made = {
        "tcp": (socket.socket(socket.AF_INET), "no Unix socket"),
        "datagrams": (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), "no stream"),
        "not listening": (socket.socket(socket.AF_UNIX), "does not listen"),
        "elsewhere": (socket.socket(socket.AF_UNIX), "elsewhere.sock"),
        "nameless": (socket.socket(socket.AF_UNIX), "has the name"),
    }
    made["not listening"][0].bind(str(directory / "haul.sock"))
    made["elsewhere"][0].bind(str(directory / "elsewhere.sock"))
    made["elsewhere"][0].listen()
    made["nameless"][0].bind(b"\0haul.test.%d" % os.getpid())
    made["nameless"][0].listen()
    return made


@pytest.mark.parametrize("kind", ["tcp", "datagrams", "not listening", "elsewhere", "nameless"])
def test_a_socket_that_was_made_for_us_and_is_another_is_refused_in_words(tmp_path: Path, kind: str) -> None:
    kinds = other_kinds(tmp_path)
    try:
        made, words = kinds[kind]
        with pytest.raises(Fatal, match=words) as refused, taken_over(descriptor_of(made), tmp_path / "haul.sock"):
            pass
        assert refused.value.exit_code == Exit.CONFIGURATION
        assert "hauld.socket" in (refused.value.hint or "")
    finally:
        for made, _ in kinds.values():
            made.close()


def test_what_was_passed_and_is_no_socket_is_refused_in_words(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(Fatal, match="is no socket"), taken_over(reading, tmp_path / "haul.sock"):
            pass
    finally:
        os.close(reading)
        os.close(writing)


def test_a_group_that_does_not_exist_has_no_number() -> None:
    assert group_number("no such group here") is None
    assert group_number("root") == 0
