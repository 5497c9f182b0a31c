"""Which file is read, whether it can be trusted, and what is said of one that is no configuration (G1)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from haulapi.faults import Exit
from hauld.config import ConfigurationError, Problem, find, load
from hauld.errors import Fatal
from support.configs import ACCOUNT, write_config


def refusal(path: Path) -> str:
    """What is said of a file that cannot be used as a whole."""
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.account, problem.key) == (None, "")
    assert caught.value.message == f"{path}: {problem.message}"
    assert (caught.value.kind, caught.value.exit_code) == ("configuration", Exit.CONFIGURATION)
    return problem.message


def test_the_named_file_is_the_one_that_is_read():
    assert find(Path("/x/y.toml"), {"STATE_DIRECTORY": "/var/lib/haul"}, uid=0) == Path("/x/y.toml")


@pytest.mark.parametrize(("environment", "uid"), [({}, 0), ({"STATE_DIRECTORY": "/var/lib/haul"}, 1000)])
def test_root_and_system_services_have_the_system_wide_file(environment, uid):
    assert find(None, environment, uid) == Path("/etc/haul/haul.toml")


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"HOME": "/home/me"}, "/home/me/.config"),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": "/elsewhere"}, "/elsewhere"),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": "not/absolute"}, "/home/me/.config"),
    ],
)
def test_everybody_else_has_a_file_of_their_own(environment, directory):
    assert find(None, environment, uid=1000) == Path(directory, "haul", "haul.toml")


def test_without_home_in_the_environment_the_password_database_knows_it():
    assert find(None, {}, uid=1000).is_absolute()


def test_a_user_without_any_home_is_told_what_to_name(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with pytest.raises(Fatal, match="no home directory") as caught:
        find(None, {}, uid=1000)
    assert caught.value.exit_code == Exit.CONFIGURATION
    assert "--config" in caught.value.hint


def test_G1_broken_toml_is_told_with_its_line(tmp_path):
    assert "line 3, column 9" in refusal(write_config(tmp_path, "[daemon]\n\nstate = what\n"))


def test_G1_a_byte_order_mark_is_named(tmp_path):
    assert "byte order mark" in refusal(write_config(tmp_path, b"\xef\xbb\xbf[daemon]\n"))


def test_G1_latin_1_is_told_with_its_line(tmp_path):
    message = refusal(write_config(tmp_path, "[accounts.b]\nuser = 'müller'\n".encode("latin-1")))
    assert "not UTF-8 (at line 2, column 10)" in message


def test_G1_a_file_of_ten_megabytes_is_no_configuration(tmp_path):
    assert "larger than" in refusal(write_config(tmp_path, b"#" * 10_000_000))


def test_G1_a_file_at_the_limit_is_read(tmp_path):
    assert load(write_config(tmp_path, b"#" * 1024 * 1024)).accounts == {}


@pytest.mark.parametrize("content", ["a = " + "9" * 5000, "a = " + "[" * 100_000], ids=["number", "brackets"])
def test_G1_toml_that_is_made_to_hurt_is_refused_in_words(tmp_path, content):
    assert "is not TOML that can be read" in refusal(write_config(tmp_path, content))


def test_a_file_that_is_not_there_is_told_with_what_to_do(tmp_path):
    message = refusal(tmp_path / "haul.toml")
    assert "no such file" in message
    assert "--config" in message


def test_a_path_through_a_file_is_told_with_the_reason(tmp_path):
    path = write_config(tmp_path, "")
    assert "cannot be opened: Not a directory" in refusal(path / "haul.toml")


def test_a_directory_is_no_configuration(tmp_path):
    assert "cannot be opened: Is a directory" in refusal(tmp_path)


def test_a_pipe_that_nobody_writes_to_does_not_hold_anything_up(tmp_path):
    os.mkfifo(tmp_path / "haul.toml")
    assert "not a regular file" in refusal(tmp_path / "haul.toml")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(tmp_path, mode):
    message = refusal(write_config(tmp_path, ACCOUNT, mode))
    assert "may be written by others" in message
    assert "chmod go-w" in message


def test_a_file_that_others_may_only_read_is_used(tmp_path):
    assert load(write_config(tmp_path, ACCOUNT, 0o644)).accounts.keys() == {"work"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path):
    path = write_config(tmp_path, ACCOUNT)
    os.chown(path, 4321, -1)
    assert "belongs to another user (uid 4321)" in refusal(path)


@pytest.mark.parametrize("linked", [False, True], ids=["the file itself", "a link to it"])
def test_a_file_that_others_may_replace_is_refused(tmp_path, linked):
    opened, closed = tmp_path / "open", tmp_path / "closed"
    opened.mkdir()
    closed.mkdir()
    path = write_config(opened, ACCOUNT)
    if linked:
        path = closed / "haul.toml"
        path.symlink_to(opened / "haul.toml")
    opened.chmod(0o777)
    assert f"is below {opened}" in refusal(path)


def test_a_sticky_directory_protects_what_is_in_it(tmp_path):
    directory = tmp_path / "sticky"
    directory.mkdir()
    path = write_config(directory, ACCOUNT)
    directory.chmod(0o1777)
    assert load(path).accounts.keys() == {"work"}


def test_what_is_told_of_a_file_cannot_drive_a_terminal(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        load(write_config(tmp_path, '"\\u001b[2Jkey" = 1'))
    assert "\x1b" not in caught.value.message
    assert "\\x1b[2Jkey" in caught.value.message


def test_a_problem_without_account_and_key_is_a_plain_sentence():
    assert Problem(None, "", "is empty").line(Path("/x")) == "/x: is empty"
