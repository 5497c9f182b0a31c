"""The client: where it finds the daemon, and what it says when that goes wrong."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from haulapi.calls import AccountParams, ItemListParams, JobParams
from haulapi.faults import Exit
from haulapi.frames import MAX_LINE
from haulctl import client as client_module
from haulctl.client import all_elements, connect, usual_places
from haulctl.failure import Failure, Unreachable
from support.door import Answers, daemon, item
from support.unmeasured import unmeasured


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haul.sock"


@contextmanager
def stranger(path: Path, *replies: bytes) -> Iterator[None]:
    """Something that listens, answers one line with each of these, and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for reply in replies:
                    lines.readline()
                    connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            thread.join()


HELLO = b'{"jsonrpc":"2.0","id":1,"result":{"name":"hauld","version":"9","api":"1.9","extra":true}}\n'


def test_a_result_has_the_type_of_the_contract(path: Path) -> None:
    with daemon(path, Answers()), connect(str(path)) as client:
        assert client.call("jobs.get", JobParams(job="k3x9")).account == "work"


def test_an_error_has_the_exit_code_of_its_kind_and_all_that_is_known(path: Path) -> None:
    with daemon(path, Answers()), connect(str(path)) as client, pytest.raises(Failure) as failed:
        client.call("accounts.get", AccountParams(account="nope"))
    assert (failed.value.exit, failed.value.kind) == (Exit.NOT_FOUND, "not_found")
    assert "nope" in failed.value.message
    assert failed.value.hint is not None


def test_pages_are_read_to_the_end(path: Path) -> None:
    answers = Answers(items=[item(n) for n in range(7)])
    with daemon(path, answers), connect(str(path)) as client:
        found = list(all_elements(client, "items.list", ItemListParams(job="k3x9", limit=3), "items"))
    assert len(found) == 7
    assert len(answers.asked) == 3


def test_C14_a_list_that_is_none_is_not_believed(path: Path) -> None:
    for number, page in enumerate((b"{}", b'{"items":7,"next":null}', b'{"items":[]}')):
        place = path.with_name(str(number))
        reply = b'{"jsonrpc":"2.0","id":2,"result":' + page + b"}\n"
        with stranger(place, HELLO, reply), connect(str(place)) as client, pytest.raises(Failure, match="does not understand"):
            list(all_elements(client, "items.list", ItemListParams(job="k3x9"), "items"))


def test_C14_a_daemon_of_another_version_is_understood_where_it_only_says_more(path: Path) -> None:
    with stranger(path, HELLO), connect(str(path)):
        pass


def test_C14_a_daemon_of_another_major_version_is_refused_in_its_own_words(path: Path) -> None:
    refusal = (
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-32009,"message":"This daemon speaks 2.0.","data":{"kind":"version"}}}\n'
    )
    with stranger(path, refusal), pytest.raises(Failure, match=r"This daemon speaks 2\.0\.") as failed:
        connect(str(path))
    assert (failed.value.kind, failed.value.exit) == ("version", Exit.FAILURE)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"220 mail.example.org ESMTP\n", id="no JSON"),
        pytest.param(b"\xff\xfe\n", id="no text"),
        pytest.param(b'{"hello": "world"}\n', id="no reply"),
        pytest.param(b'{"jsonrpc":"2.0","id":99,"result":{}}\n', id="an answer to another request"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{"name":7}}\n', id="a result of another type"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"error":"no"}\n', id="an error of another type"),
    ],
)
def test_C14_what_is_not_hauld_is_not_believed(path: Path, reply: bytes) -> None:
    with stranger(path, reply), pytest.raises(Failure, match="does not understand") as failed:
        connect(str(path))
    assert failed.value.exit == Exit.FAILURE


@pytest.mark.parametrize("reply", [b"", b'{"jsonrpc":"2.0","id":1', b"x" * MAX_LINE + b"x\n"])
def test_C14_a_connection_that_breaks_off_is_told_as_such(path: Path, reply: bytes) -> None:
    with stranger(path, reply), pytest.raises(Unreachable) as failed:
        connect(str(path))
    assert failed.value.exit == Exit.UNREACHABLE


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        with client_module.Client(connection) as client, pytest.raises(Unreachable, match="did not answer within"):
            client.ask("daemon.status", patience=0.01)


def test_where_nobody_listens_it_is_said_where_and_how_to_start(path: Path) -> None:
    with pytest.raises(Unreachable) as failed:
        connect(str(path))
    assert str(path) in failed.value.message
    assert failed.value.hint is not None
    assert "hauld run" in failed.value.hint


def test_a_dead_socket_of_ones_own_does_not_hide_the_systems_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = tmp_path / "haul" / "haul.sock", tmp_path / "system.sock"
    own.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(own))
    monkeypatch.delenv("HAUL_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(client_module, "SYSTEM_SOCKET", str(system))
    with daemon(system, Answers()), connect() as client:
        assert client.call("accounts.list").accounts


def test_the_socket_is_looked_for_where_the_daemon_puts_it_ones_own_first(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/s"}
    assert list(map(str, usual_places(environ, 7))) == [
        "/run/user/7/haul/haul.sock",
        "/s/haul/haul.sock",
        "/run/haul/haul.sock",
    ]
    monkeypatch.setenv("HOME", "/home/me")
    assert list(map(str, usual_places({"XDG_RUNTIME_DIR": "relative"}, 7)))[:2] == [
        "/run/user/7/haul/haul.sock",
        "/home/me/.local/state/haul/haul.sock",
    ]
    assert list(map(str, usual_places(environ | {"HAUL_SOCKET": "/x"}, 7))) == ["/x"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_C8_who_may_not_open_the_socket_is_told_of_the_group(tmp_path: Path) -> None:
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = Path(directory) / "haul.sock"
        with daemon(path, Answers()):
            # once as root first: another user may not be able to read the modules that are imported late
            script = (
                "import os, sys; sys.path[:0] = sys.argv[2:]; from haulctl.cli import run\n"
                "run(['--socket', sys.argv[1], 'status'])\n"
                "os.setgroups([]); os.setgid(4711); os.setuid(4711); sys.exit(run(['--socket', sys.argv[1], 'status']))"
            )
            # coverage would want to write here, which another user may not
            environment = unmeasured()
            asked = subprocess.run(
                [sys.executable, "-c", script, path, *sys.path], capture_output=True, text=True, cwd="/", env=environment
            )
    assert asked.returncode == Exit.UNREACHABLE, asked.stderr
    assert "You may not use" in asked.stderr
    assert "usermod -aG haul" in asked.stderr


def test_what_cannot_be_sent_is_refused_in_words(path: Path) -> None:
    with daemon(path, Answers()), connect(str(path)) as client:
        for name in ("\udcff", "x" * MAX_LINE):
            with pytest.raises(Failure) as failed:
                client.call("accounts.get", AccountParams(account=name))
            assert failed.value.exit == Exit.USAGE
        assert client.call("accounts.list").accounts
