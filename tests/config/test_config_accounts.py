"""Accounts: unknown keys (G2), twins (G5), secrets that do not belong here (G6, G7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hauld.config import ConfigurationError, known_keys, load
from support.configs import ACCOUNT, make_account, write_config

CANARY = "canary-7f3a"


def problems_of(path: Path) -> dict[tuple[str | None, str], str]:
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert CANARY not in caught.value.message + repr(caught.value.problems) + repr(caught.value.args)
    return {(problem.account, problem.key): problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("pasword_command", "password_command"),
        ("password-file", "password_file"),
        ("Host", "host"),
        ("conections", "connections"),
        ("schedul", "schedule"),
        ("keyrings", "keyring"),
    ],
)
def test_G2_a_misspelt_key_is_told_with_the_nearest_known_one(tmp_path, key, meant):
    found = problems_of(write_config(tmp_path, f"{ACCOUNT}{key} = '{CANARY}'"))
    assert found["work", key] == f"there is no such key; did you mean {meant!r}?"


def test_G2_a_misspelt_table_is_told_with_the_nearest_known_one(tmp_path):
    found = problems_of(write_config(tmp_path, "[acounts.work]\nhost = 'x'\n[deamon]"))
    assert "did you mean 'accounts'?" in found[None, "acounts"]
    assert "did you mean 'daemon'?" in found[None, "deamon"]


def test_G2_a_key_in_the_wrong_table_is_told_with_the_right_one(tmp_path):
    found = problems_of(
        write_config(tmp_path, f"memory_budget = '1 MiB'\n{ACCOUNT}[accounts.work.schedule]\nexclude = ['Trash']")
    )
    assert "it belongs in [daemon]" in found[None, "memory_budget"]
    assert "it belongs in [accounts.NAME]" in found["work", "schedule.exclude"]


def test_G2_a_key_like_no_other_is_unknown_and_no_more(tmp_path):
    assert problems_of(write_config(tmp_path, f"{ACCOUNT}zzz = 1"))["work", "zzz"] == "there is no such key"


def test_G2_everything_that_is_wrong_is_told_at_once_with_file_account_and_key(tmp_path):
    path = write_config(
        tmp_path,
        """
        [daemon]
        log_level = 3
        [store]
        layout = "flat"
        [accounts.work]
        user = "me"
        prot = 993
        timeout = 60
        [accounts.home]
        host = "imap.example.org"
        """,
    )
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    lines = caught.value.message.splitlines()
    assert len(lines) == len(caught.value.problems) == 6
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert f"{path}: account work: prot: there is no such key; did you mean 'port'?" in lines
    assert f"{path}: account home: user: is missing" in lines


@pytest.mark.parametrize("text", ["accounts = 3", "[[accounts]]\nhost = 'x'"])
def test_accounts_that_are_no_tables_are_told(tmp_path, text):
    assert "[accounts.NAME]" in problems_of(write_config(tmp_path, text))[None, "accounts"]


def test_an_account_that_is_no_table_is_told(tmp_path):
    assert "must be a table" in problems_of(write_config(tmp_path, "[accounts]\nwork = 'x'"))["work", ""]


def test_a_section_that_is_no_table_is_told(tmp_path):
    assert "must be a table" in problems_of(write_config(tmp_path, "daemon = 'x'"))[None, "daemon"]


@pytest.mark.parametrize("name", ["work", "me@example.org", "A", "a+b-c_d.e", "9", "n" * 64])
def test_a_name_of_ordinary_characters_is_an_accounts_name(tmp_path, name):
    text = ACCOUNT.replace("accounts.work", f'accounts."{name}"')
    assert load(write_config(tmp_path, text)).accounts[name].name == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", ".hidden", "-x", "ü", "n" * 65, "a\\u001b[2J", "a\\n"])
def test_any_other_name_is_refused(tmp_path, name):
    text = ACCOUNT.replace("accounts.work", f'accounts."{name}"')
    assert any("the name of an account" in message for message in problems_of(write_config(tmp_path, text)).values())


# --- identity ------------------------------------------------------------------------------------------------------


def test_an_account_is_the_same_whatever_its_name_port_and_spelling():
    account = make_account()
    assert account.identity == "imap://me%40example.org@imap.example.org"
    assert make_account("other", port=143, host="IMAP.example.org.").identity == account.identity


def test_another_user_or_host_is_another_account():
    identities = {
        make_account(**values).identity for values in ({}, {"user": "Me@example.org"}, {"host": "mx"}, {"user": "a@b@mx"})
    }
    assert len(identities) == 4


def test_an_address_of_ipv6_is_told_apart_in_an_identity():
    assert make_account(host="::1", user="me").identity == "imap://me@[::1]"


def test_G5_two_accounts_of_one_identity_are_refused(tmp_path):
    twin = ACCOUNT.replace("accounts.work", "accounts.again").replace("imap.example", "IMAP.example")
    found = problems_of(write_config(tmp_path, ACCOUNT + "port = 993" + twin + "port = 1993"))
    assert found == {("again", "user"): "is the same user on the same host as account work; one of the two is enough"}


def test_G5_two_users_of_one_host_are_two_accounts(tmp_path):
    other = ACCOUNT.replace("accounts.work", "accounts.home").replace("me@", "you@")
    assert load(write_config(tmp_path, ACCOUNT + other)).accounts.keys() == {"work", "home"}


# --- plaintext -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["imap.example.org", "192.0.2.1", "2001:db8::1", "localhost.example.org"])
def test_a_password_is_not_sent_in_the_clear_unless_that_is_asked_for(tmp_path, host):
    text = ACCOUNT.replace("imap.example.org", host) + "tls = 'none'\n"
    assert "in the clear" in problems_of(write_config(tmp_path, text))["work", "tls"]
    assert load(write_config(tmp_path, text + "allow_plaintext = true")).accounts["work"].tls == "none"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_on_this_machine_nobody_is_on_the_way(tmp_path, host):
    text = ACCOUNT.replace("imap.example.org", host) + "tls = 'none'"
    assert load(write_config(tmp_path, text)).accounts["work"].port == 143


def test_STARTTLS_begins_on_the_port_of_plain_IMAP(tmp_path):
    account = load(write_config(tmp_path, ACCOUNT + "tls = 'starttls'")).accounts["work"]
    assert (account.tls, account.port) == ("starttls", 143)


# --- tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["xoauth2", "oauthbearer"])
def test_a_token_comes_from_its_command_and_from_no_place_of_a_password(tmp_path, auth):
    text = f"{ACCOUNT}auth = '{auth}'\n"
    account = load(write_config(tmp_path, text + "token_command = ['oama', 'x']")).accounts["work"]
    assert (account.auth, account.token_command, account.keyring) == (auth, ("oama", "x"), None)
    assert "is missing" in problems_of(write_config(tmp_path, text))["work", "token_command"]
    both = problems_of(write_config(tmp_path, text + "token_command = ['x']\npassword_file = '/x'"))
    assert "there is token_command alone" in both["work", "password_file"]


def test_a_token_command_is_of_no_use_to_a_password(tmp_path):
    found = problems_of(write_config(tmp_path, f"{ACCOUNT}token_command = ['{CANARY}']"))
    assert 'is for auth = "xoauth2"' in found["work", "token_command"]


def test_G7_the_arguments_of_a_token_command_are_in_no_repr():
    assert CANARY not in repr(make_account(token_command=("echo", CANARY)))


def test_the_key_of_a_client_certificate_needs_the_certificate(tmp_path):
    assert "client_cert" in problems_of(write_config(tmp_path, f"{ACCOUNT}client_key = 'x'"))["work", "client_key"]
    text = f"{ACCOUNT}client_cert = 'c'\nclient_key = 'k'"
    account = load(write_config(tmp_path, text)).accounts["work"]
    assert (account.client_cert, account.client_key) == (tmp_path / "c", tmp_path / "k")


# --- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["password", "pass", "token", "client_secret"])
def test_G6_a_password_in_the_file_is_refused_and_told_where_it_belongs(tmp_path, key):
    message = problems_of(write_config(tmp_path, f"{ACCOUNT}{key} = '{CANARY}'"))["work", key]
    assert "password_command, password_file, credential, keyring" in message


@pytest.mark.parametrize("key", sorted({key.rpartition(".")[2] for key in known_keys()}))
def test_G7_a_secret_in_the_place_of_any_value_is_never_repeated(tmp_path, key):
    value = f"'{CANARY}\\n'" if key in {"user", "service", "group"} else f"[{{ '{CANARY}' = '{CANARY}' }}]"
    text = "".join(f"{line}\n" for line in ACCOUNT.splitlines() if not line.startswith(key))
    with pytest.raises(ConfigurationError) as caught:
        load(write_config(tmp_path, f"{text}{key} = {value}".replace("'", '"')))
    assert CANARY not in caught.value.message


def test_G7_a_url_with_userinfo_in_the_place_of_a_host_is_never_repeated(tmp_path):
    text = ACCOUNT.replace("imap.example.org", f"imaps://me:{CANARY}@imap.example.org")
    assert ("work", "host") in problems_of(write_config(tmp_path, text))


def test_G7_the_arguments_of_a_password_command_are_in_no_repr():
    assert CANARY not in repr(make_account(password_command=("echo", CANARY)))


@pytest.mark.parametrize(
    "pair",
    [
        ("password_command = ['x']", "password_file = '/x'"),
        ("credential = 'x'", "keyring = {}"),
        ("password_file = '/x'", "keyring = 'some.Keyring'"),
    ],
)
def test_a_secret_is_kept_in_one_place(tmp_path, pair):
    first, second = (line.split(" ")[0] for line in pair)
    found = problems_of(write_config(tmp_path, ACCOUNT + "\n".join(pair)))
    assert found["work", second] == f"only one place of the secret may be given, not {first} and {second}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_G6_a_password_file_that_others_can_read_is_refused(tmp_path, mode):
    (tmp_path / "password").write_text(CANARY)
    (tmp_path / "password").chmod(mode)
    message = problems_of(write_config(tmp_path, f"{ACCOUNT}password_file = 'password'"))["work", "password_file"]
    assert "chmod 600" in message


def test_a_password_file_of_its_owner_alone_is_taken(tmp_path):
    (tmp_path / "password").write_text(CANARY)
    (tmp_path / "password").chmod(0o600)
    account = load(write_config(tmp_path, f"{ACCOUNT}password_file = 'password'")).accounts["work"]
    assert account.password_file == tmp_path / "password"
    assert account.keyring is None


def test_a_password_file_that_comes_later_does_not_stop_the_other_accounts(tmp_path):
    assert load(write_config(tmp_path, f"{ACCOUNT}password_file = 'later'")).accounts.keys() == {"work"}
