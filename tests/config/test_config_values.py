"""What the keys mean: forms of values, defaults, places."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauld.config import ConfigurationError, KeyringConfig, load, missing_here
from hauld.config.forms import parse_duration, parse_size
from hauld.config.keys import Schedule
from support.configs import ACCOUNT, make_account, write_config

HOME = {"HOME": "/home/me"}


def messages(path: Path, environment: dict[str, str] = HOME) -> dict[tuple[str | None, str], str]:
    """What is wrong with the file, by account and key."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, environment)
    return {(problem.account, problem.key): problem.message for problem in caught.value.problems}


# --- forms ---------------------------------------------------------------------------------------------------------


@given(
    days=st.none() | st.integers(0, 300),
    hours=st.none() | st.integers(0, 99),
    minutes=st.none() | st.integers(0, 999),
    milliseconds=st.none() | st.integers(0, 10**6),
)
def test_a_duration_means_the_sum_of_its_parts(days, hours, minutes, milliseconds):
    seconds = None if milliseconds is None else f"{milliseconds / 1000:.3f}"
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    text = "".join(f"{amount}{unit}" for amount, unit in parts if amount is not None)
    total = (days or 0) * 86400 + (hours or 0) * 3600 + (minutes or 0) * 60 + (milliseconds or 0) / 1000
    if total:
        assert parse_duration(text) == pytest.approx(total)
    else:
        with pytest.raises(ValueError, match=r"^$"):
            parse_duration(text)


@given(amount=st.integers(1, 10**6), unit=st.sampled_from(["", "k", "M", "G", "T"]), binary=st.booleans(), space=st.booleans())
def test_a_size_means_its_number_times_its_unit(amount, unit, binary, space):
    text = f"{amount}{' ' if space else ''}{unit}{'i' if binary and unit else ''}B"
    factor = 1024 if binary else 1000
    assert parse_size(text) == amount * factor ** ["", "k", "M", "G", "T"].index(unit)
    assert parse_size(text.lower()) == parse_size(text.upper()) == parse_size(text)


@given(st.text(max_size=12))
def test_any_other_text_is_no_duration_and_no_size(text):
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) > 0
        except ValueError:
            continue


@pytest.mark.parametrize("text", ["", "5", "m", "1s2m", "1m1m", "-1s", "1e3s", "0s", "0d", "367d", "1 m", "١s", "1.5h", "1s\n"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"^$"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "5", "MiB", "0 B", "0.0001 kB", "-1 B", "1  B", "1 XB", "1 iB", "9999999999 TiB", "1 B\n"]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"^$"):
        parse_size(text)


def test_sizes_of_both_kinds_and_with_fractions():
    assert [parse_size(text) for text in ("16 MiB", "25 MB", "1.5GiB", "512 B")] == [16 * 2**20, 25 * 10**6, 3 * 2**29, 512]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[daemon]\nlog_level = 'loud'", '"debug" or "info" or "warning" or "error"'),
        ("[daemon]\nmax_running_jobs = '3'", "a whole number from 1 to 1000, without quotes"),
        ("[daemon]\nmax_running_jobs = true", "a whole number"),
        ("[daemon]\nmax_running_jobs = 0", "a whole number"),
        ("[daemon]\nmemory_budget = 16", 'a size such as "16 MiB"'),
        ("[daemon]\nstate = 1979-05-27", "a path in quotes"),
        ("[daemon]\nstate = ''", "a path in quotes"),
        ("[daemon]\nstate = '~root/haul.db'", "write the home directory of another user in full"),
        ("[store]\nmode = 0o640", 'a file mode in quotes such as "0640"'),
        ("[store]\nmode = '9999'", "a file mode"),
        ("[store]\nmode = '0755'", "nobody execute"),
        ("[store]\nmode = '0646'", "others not write"),
        ("[store]\nmode = '0440'", "the owner read and write"),
        ("[store]\nformat = 'mbox'", '"maildir" or "eml"'),
        ("[store]\ncompression = 'gzip'", '"none" or "zstd"'),
        ("[store]\nkeep_free = 64", 'a size such as "64 MiB"'),
        ("[retry]\ninitial = '2'", 'a duration such as "90s"'),
    ],
)
def test_a_wrong_value_is_answered_with_what_to_write(tmp_path, line, words):
    section, key = line.split("\n")[0][1:-1], line.split("\n")[1].split(" ")[0]
    assert words in messages(write_config(tmp_path, line))[None, f"{section}.{key}"]


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("host = 'imap.example.org:993'", "host", "port has a key of its own"),
        ("host = 'imaps://imap.example.org'", "host", "without user, port or path"),
        ("port = 65536", "port", "from 1 to 65535"),
        ("allow_plaintext = 'yes'", "allow_plaintext", "true or false"),
        ("folders = []", "folders", "at least one folder"),
        ("folders = 'INBOX'", "folders", "a list of at least one"),
        ("exclude = [1]", "exclude", "a list of folder names"),
        ("password_command = 'pass show x'", "password_command", "a list with the program"),
        ("password_command = []", "password_command", "a list with the program"),
        ("credential = '../x'", "credential", "the name of a systemd credential"),
        ("keyring = 'SecretService'", "keyring.backend", "the Python class"),
        ("keyring = 'keyring.backends.null.Keyring'", "keyring.backend", "keeps nothing"),
        ("keyring = 3", "keyring", "must be a table"),
        ("keyring = { sevrice = 'x' }", "keyring.sevrice", "did you mean 'service'?"),
        ("schedule = '5m'", "schedule", "must be a table"),
        ("schedule.inbox = 5", "schedule.inbox", "a duration"),
        ("timeout = '0s'", "timeout", "a duration"),
    ],
)
def test_a_wrong_value_of_an_account_is_answered_with_what_to_write(tmp_path, line, key, words):
    text = ACCOUNT if not line.startswith("host") else ACCOUNT.replace('host = "imap.example.org"\n', "")
    assert words in messages(write_config(tmp_path, text + line))["work", key]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("source = 'http'", "source"),
        ("on_remote_delete = 'delete'", "on_remote_delete"),
    ],
)
def test_what_a_later_version_can_do_is_never_silently_ignored(tmp_path, line, key):
    assert "is not available in this version" in messages(write_config(tmp_path, ACCOUNT + line))["work", key]


@pytest.mark.parametrize(
    ("lines", "key", "words"),
    [
        ("compression = 'zstd'", "compression", 'is for format = "eml"'),
        ("format = 'eml'\nlayout = 'maildir++'", "layout", 'is for format = "maildir"'),
    ],
)
def test_what_only_one_format_of_the_store_has_is_not_asked_of_the_other(tmp_path, lines, key, words):
    assert messages(write_config(tmp_path, f"[store]\n{lines}")) == {(None, f"store.{key}"): words}


def test_the_store_keeps_each_message_once_and_compressed_where_asked_to(tmp_path):
    store = load(write_config(tmp_path, "[store]\nformat = 'eml'\ncompression = 'zstd'\nkeep_free = 'none'"), HOME).store
    assert (store.format, store.compression, store.keep_free) == ("eml", "zstd", 0)


# --- defaults ------------------------------------------------------------------------------------------------------


def test_an_empty_file_is_a_configuration_without_accounts(tmp_path):
    config = load(write_config(tmp_path, ""), HOME)
    assert config.accounts == {}
    assert (config.daemon.log_level, config.daemon.max_running_jobs, config.daemon.memory_budget) == ("info", 3, 16 * 2**20)
    assert (config.store.format, config.store.layout, config.store.group, config.store.mode) == (
        "maildir",
        "nested",
        None,
        0o640,
    )
    assert (config.retry.initial, config.retry.max, config.retry.attempts) == (2, 900, 5)


def test_an_account_needs_no_more_than_a_host_and_a_user(tmp_path):
    account = load(write_config(tmp_path, ACCOUNT), HOME).accounts["work"]
    assert account == make_account(keyring=KeyringConfig())
    assert (account.port, account.tls, account.auth, account.timeout, account.connections) == (
        993,
        "implicit",
        "password",
        60,
        3,
    )
    assert (account.folders, account.exclude, account.max_message_size) == (("*",), (), None)
    assert account.schedule == Schedule(inbox=300, sent=900, other=1800, archive=86400)


@pytest.mark.parametrize(
    ("environment", "state", "socket"),
    [
        ({}, "/home/me/.local/state/haul/haul.db", "/home/me/.local/state/haul/haul.sock"),
        ({"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/run/user/1"}, "/s/haul/haul.db", "/run/user/1/haul/haul.sock"),
        (
            {"XDG_STATE_HOME": "s", "XDG_RUNTIME_DIR": "r"},
            "/home/me/.local/state/haul/haul.db",
            "/home/me/.local/state/haul/haul.sock",
        ),
        (
            {"STATE_DIRECTORY": "/var/lib/haul:/var/lib/more", "RUNTIME_DIRECTORY": "/run/haul", "XDG_RUNTIME_DIR": "/r"},
            "/var/lib/haul/haul.db",
            "/run/haul/haul.sock",
        ),
    ],
)
def test_state_and_socket_have_places_by_the_surroundings(tmp_path, environment, state, socket):
    config = load(write_config(tmp_path, ""), HOME | environment)
    assert config.daemon.state == Path(state)
    assert config.daemon.socket == Path(socket)
    assert config.store.path == Path(state).parent / "mail"


def test_socket_and_store_are_beside_a_state_that_was_named(tmp_path):
    config = load(write_config(tmp_path, "[daemon]\nstate = '/srv/haul/known.db'"), HOME)
    assert config.daemon.socket == Path("/srv/haul/haul.sock")
    assert config.store.path == Path("/srv/haul/mail")


def test_paths_begin_at_the_file_or_at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config(
        tmp_path, "[daemon]\nstate = 'here/haul.db'\n[store]\npath = '~/Mail'" + ACCOUNT + "ca_file = '.'\npassword_file = '~'"
    )
    config = load(Path("haul.toml"), HOME)
    assert config.path == tmp_path / "haul.toml"
    assert config.daemon.state == tmp_path / "here/haul.db"
    assert config.store.path == Path("/home/me/Mail")
    assert config.accounts["work"].ca_file == tmp_path
    assert config.accounts["work"].password_file == Path("/home/me")


def test_everything_that_can_be_said_of_an_account_is_kept(tmp_path):
    text = (
        ACCOUNT
        + """
        tls = "none"
        allow_plaintext = true
        password_command = ["pass", "show", "mail/work"]
        connections = 8
        batch_items = 20
        batch_size = "1 MiB"
        folders = ["INBOX", "Projects/*"]
        exclude = ["Trash"]
        max_message_size = "25 MB"
        timeout = "1m30s"
        schedule = { inbox = "1m" }
    """
    )
    account = load(write_config(tmp_path, text), HOME).accounts["work"]
    assert (account.tls, account.allow_plaintext, account.port) == ("none", True, 143)
    assert (account.password_command, account.keyring) == (("pass", "show", "mail/work"), None)
    assert (account.connections, account.max_message_size, account.timeout) == (8, 25_000_000, 90)
    assert (account.batch_items, account.batch_size) == (20, 1 << 20)
    assert (account.folders, account.exclude) == (("INBOX", "Projects/*"), ("Trash",))
    assert account.schedule == Schedule(inbox=60)


def test_a_port_that_was_given_is_kept_without_tls(tmp_path):
    text = ACCOUNT.replace("imap.example.org", "127.0.0.1") + "tls = 'none'\nport = 1143"
    assert load(write_config(tmp_path, text), HOME).accounts["work"].port == 1143


def test_a_keyring_is_named_by_its_class_alone_or_with_its_service(tmp_path):
    alone = load(write_config(tmp_path, ACCOUNT + "keyring = 'some.Keyring'"), HOME).accounts["work"].keyring
    assert alone == KeyringConfig(backend="some.Keyring", service="haul")
    both = load(write_config(tmp_path, ACCOUNT + "keyring = { service = 'mail' }"), HOME).accounts["work"].keyring
    assert both == KeyringConfig(backend=None, service="mail")


def test_a_configuration_is_never_changed(tmp_path):
    config = load(write_config(tmp_path, ACCOUNT), HOME)
    with pytest.raises(FrozenInstanceError):
        config.accounts["work"].user = "other"
    with pytest.raises(TypeError):
        config.accounts["other"] = config.accounts["work"]


# --- rules between keys --------------------------------------------------------------------------------------------


def test_backoff_does_not_begin_above_its_end(tmp_path):
    assert (None, "retry.initial") in messages(write_config(tmp_path, "[retry]\ninitial = '1h'"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[daemon]\nstate = '/srv/mail/haul.db'\nsocket = '/run/s'\n[store]\npath = '/srv/mail'", "daemon.state"),
        ("[daemon]\nstate = '/srv/haul.db'\nsocket = '/srv/mail/deep/s'\n[store]\npath = '/srv/mail/../mail'", "daemon.socket"),
        ("[daemon]\nstate = '/srv/haul.db'\n[store]\npath = '.'", "this file"),
    ],
)
def test_G5_the_store_shares_its_directory_with_nothing_else(tmp_path, text, what):
    assert what in messages(write_config(tmp_path, text))[None, "store.path"]


def test_G5_state_and_socket_are_two_places(tmp_path):
    text = "[daemon]\nstate = '/srv/haul'\nsocket = '/srv/./haul'"
    assert "same path as daemon.state" in messages(write_config(tmp_path, text))[None, "daemon.socket"]


def test_a_socket_path_that_no_socket_can_have_is_refused(tmp_path):
    longest, longer = "/" + "s" * 98, "/" + "s" * 99
    load(write_config(tmp_path, f"[daemon]\nsocket = '{longest}'"), HOME)
    assert "99 bytes" in messages(write_config(tmp_path, f"[daemon]\nsocket = '{longer}'"))[None, "daemon.socket"]


# --- what this machine lacks ---------------------------------------------------------------------------------------


def test_what_the_machine_lacks_is_told_and_no_error(tmp_path):
    text = "[store]\ngroup = 'no-such-group'" + ACCOUNT + "ca_file = 'ca.pem'\npassword_command = ['no-such-program', 'x']"
    found = missing_here(load(write_config(tmp_path, text), HOME))
    assert [(problem.account, problem.key) for problem in found] == [
        (None, "store.group"),
        ("work", "ca_file"),
        ("work", "password_command"),
    ]
    assert "no-such-program" in found[2].message


def test_a_machine_that_has_everything_lacks_nothing(tmp_path):
    (tmp_path / "ca.pem").touch()
    text = "[store]\ngroup = 'root'" + ACCOUNT + "ca_file = 'ca.pem'\npassword_command = ['sh', '-c', 'x']"
    assert missing_here(load(write_config(tmp_path, text), HOME)) == []
