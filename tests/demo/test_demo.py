"""The demo shows what it says it shows, and leaves nothing running."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from hauld.demo.children import daemon, mail_server, program
from hauld.demo.messages import FOLDERS, mailbox
from hauld.errors import Fatal

PATIENCE = 60


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that is importing."""
    command = [hauld(), "demo", "--messages", "600", "--directory", tmp_path / "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def hauld() -> Path:
    return Path(sys.executable).parent / "hauld"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([hauld(), "demo", *arguments], capture_output=True, text=True, timeout=PATIENCE)


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def port_in(output: str) -> int:
    found = re.search(r"port (\d+)", output)
    assert found is not None, output
    return int(found[1])


def test_every_message_is_imported_and_compared_and_nothing_stays_behind_but_files(tmp_path: Path):
    home = tmp_path / 'my "demo" \\ 日本'
    done = run("--messages", "150", "--directory", home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "150 messages on the server, 150 files here: byte for byte the same." in done.stdout
    for command in ("create demo --wait", "status", "folders job_", "items job_"):
        assert f"$ haulctl {command}" in done.stdout
    assert not answers(port_in(done.stdout))
    assert (home / "password").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_ends_all_that_it_started(demo: subprocess.Popen[str], how: signal.Signals):
    assert demo.stdout is not None
    seen = ""
    while "$ haulctl create" not in seen:
        line = demo.stdout.readline()
        assert line, seen
        seen += line
    demo.send_signal(how)
    rest, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 130, seen + rest
    assert "Nothing of it is running any more." in rest
    assert not answers(port_in(seen))


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    done = run("--directory", tmp_path)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_daemon_that_does_not_start_is_told_of_in_its_own_words(tmp_path: Path):
    config = tmp_path / "haul.toml"
    config.touch(mode=0o600)
    config.write_text("[daemon]\nsokcet = 1\n")
    with pytest.raises(Fatal, match=r"(?s)hauld did not start.*sokcet"), daemon(config, tmp_path / "socket", tmp_path / "log"):
        pass


def test_a_mail_server_that_does_not_start_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Fatal, match="mail server did not start"), mail_server(1, tmp_path / "log"):
        pass


def test_a_program_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Fatal, match="haulctl is neither beside"):
        program("haulctl")


def test_the_same_mail_is_made_every_time_whatever_its_number():
    assert list(mailbox(30)) == list(islice(mailbox(100), 30))


def test_every_folder_has_mail_even_in_a_small_demo():
    assert {message.folder for message in mailbox(len(FOLDERS))} == set(FOLDERS)


def test_the_mail_is_as_varied_as_it_claims():
    sizes = [len(message.content) for message in mailbox(3000)]
    assert min(sizes) < 1_000
    assert 250_000 < max(sizes) < 320_000
    assert 20_000_000 < sum(sizes) < 40_000_000
