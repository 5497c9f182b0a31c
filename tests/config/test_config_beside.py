"""Accounts in files of their own, ``accounts.d/*.toml`` beside the main one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hauld.config import ConfigurationError, load, missing_here
from support.configs import ACCOUNT, write_config

HOME = ACCOUNT.replace("work", "home").replace("me@", "you@")


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    directory = tmp_path / "accounts.d"
    directory.mkdir(mode=0o755)
    return directory


def write(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def lines_of(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    return caught.value.message.splitlines()


def test_accounts_come_from_the_main_file_first_and_then_from_the_others_by_name(tmp_path, beside):
    write(beside / "20-b.toml", "[accounts.b]\nhost = 'h'\nuser = 'b'")
    write(beside / "10-c.toml", "[accounts.c]\nhost = 'h'\nuser = 'c'\n[accounts.c.schedule]\ninbox = '1m'")
    config = load(write_config(tmp_path, ACCOUNT))
    assert list(config.accounts) == ["work", "c", "b"]
    assert config.accounts["c"].schedule.inbox == 60


def test_without_the_directory_there_is_the_main_file_alone(tmp_path):
    assert list(load(write_config(tmp_path, ACCOUNT)).accounts) == ["work"]


@pytest.mark.parametrize("name", [".work.toml", ".#work.toml", "work.toml~", "work.toml.bak", "work.toml.dpkg-new", "README"])
def test_what_editors_and_packages_leave_behind_is_passed_over(tmp_path, beside, name):
    write(beside / name, "this is = no configuration")
    assert list(load(write_config(tmp_path, ACCOUNT)).accounts) == ["work"]


def test_paths_begin_at_the_file_that_names_them(tmp_path, beside):
    write(beside / "home.toml", f"{HOME}password_file = 'home.password'")
    account = load(write_config(tmp_path, "")).accounts["home"]
    assert account.password_file == beside / "home.password"


def test_an_account_that_moves_to_another_file_is_the_same(tmp_path, beside):
    before = load(write_config(tmp_path, HOME))
    write(beside / "home.toml", HOME)
    assert load(write_config(tmp_path, "")).accounts == before.accounts


def test_what_this_machine_lacks_is_told_with_the_file_that_names_it(tmp_path, beside):
    path = write(beside / "home.toml", f"{HOME}password_command = ['no-such-program']")
    (problem,) = missing_here(load(write_config(tmp_path, "")))
    assert problem.line(tmp_path / "haul.toml").startswith(f"{path}: account home: password_command: ")


def test_an_account_of_one_name_in_two_files_is_refused_with_both_files(tmp_path, beside):
    first, second = write(beside / "a.toml", HOME), write(beside / "b.toml", HOME.replace("you", "she"))
    assert lines_of(write_config(tmp_path, "")) == [
        f"{second}: account home: is in {first}, too; one of the two needs another name"
    ]
    first.unlink()
    main = write_config(tmp_path, HOME)
    assert lines_of(main) == [f"{second}: account home: is in {main}, too; one of the two needs another name"]


def test_G5_one_identity_in_two_files_is_refused(tmp_path, beside):
    second = write(beside / "again.toml", ACCOUNT.replace("work", "again"))
    (line,) = lines_of(write_config(tmp_path, ACCOUNT))
    assert line.startswith(f"{second}: account again: user: is the same user on the same host as account work")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[daemon]\nlog_level = 'info'", "daemon: belongs in haul.toml: "),
        (
            "[work]\nhost = 'imap.example.org'",
            "work: a file in accounts.d holds accounts and nothing else, each as [accounts.NAME]",
        ),
    ],
)
def test_a_file_of_accounts_holds_nothing_else(tmp_path, beside, content, said):
    path = write(beside / "a.toml", content)
    (line,) = lines_of(write_config(tmp_path, ""))
    assert line.startswith(f"{path}: {said}")


def test_G2_everything_that_is_wrong_with_any_file_is_told_at_once(tmp_path, beside):
    broken = write(beside / "a.toml", "accounts = [")
    wrong = write(beside / "b.toml", f"{HOME}prot = 1")
    main = write_config(tmp_path, f"[deamon]\n{ACCOUNT}timeout = 5")
    lines = lines_of(main)
    assert sorted(str(line).partition(": ")[0] for line in lines) == sorted(map(str, [broken, wrong, main, main]))


def test_G1_a_main_file_that_is_no_toml_hides_no_mistake_of_another(tmp_path, beside):
    wrong = write(beside / "b.toml", f"{HOME}prot = 1")
    main = write_config(tmp_path, "[daemon")
    lines = lines_of(main)
    assert [line.partition(": ")[0] for line in lines] == [str(main), str(wrong)]


def test_G6_a_password_in_any_of_the_files_is_refused_whoever_may_read_it(tmp_path, beside):
    write(beside / "home.toml", f"{HOME}password = 'canary-7f3a'", 0o644)
    (line,) = lines_of(write_config(tmp_path, ""))
    assert "a secret does not belong in this file" in line
    assert "canary" not in line


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_of_accounts_that_others_may_write_is_refused(tmp_path, beside, mode):
    path = write(beside / "home.toml", HOME, mode)
    (line,) = lines_of(write_config(tmp_path, ""))
    assert line.startswith(f"{path}: may be written by others")


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_directory_that_others_may_put_files_into_is_refused(tmp_path, beside, mode):
    beside.chmod(mode)
    (line,) = lines_of(write_config(tmp_path, ""))
    assert line.startswith(f"{beside}: is where others may put files")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path, beside):
    os.chown(beside, 4321, -1)
    (line,) = lines_of(write_config(tmp_path, ""))
    assert "belongs to another user (uid 4321)" in line


def test_a_file_in_the_place_of_the_directory_is_told(tmp_path):
    write(tmp_path / "accounts.d", "")
    (line,) = lines_of(write_config(tmp_path, ""))
    assert line.endswith("accounts.d: cannot be opened: Not a directory")


def test_G5_the_store_is_kept_out_of_the_directory(tmp_path, beside):
    (line,) = lines_of(write_config(tmp_path, "[store]\npath = 'accounts.d'"))
    assert "holds accounts.d as well" in line
