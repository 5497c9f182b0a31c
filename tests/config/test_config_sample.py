"""The sample in ``config/`` names every key, and what it shows as defaults are the defaults."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hauld.config import Config, KeyringConfig, known_keys, load
from hauld.config.keys import SECRET_SOURCES
from hauld.model import Strategy
from support.configs import make_account, write_config

SAMPLE = (Path(__file__).parents[2] / "config" / "haul.toml").read_text()
MIRRORS = {"since": "date-range", "before": "date-range", "from": "search", "to": "search", "subject": "search"}
"""Keys of a mirror, and the kind that takes them."""
EXAMPLES = {*SECRET_SOURCES, *MIRRORS, "group", "ca_file", "client_cert", "client_key", "token_command", "mirror"}
"""Keys without a default: the sample shows what they look like."""
SURROUNDINGS = {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/1000"}


def switched_on(*, without: set[str]) -> str:
    """The sample with every line switched on but those keys."""
    lines = (re.sub(r"^#(?=[a-z\[])", "", line) for line in SAMPLE.splitlines())
    return "\n".join(line for line in lines if line.partition(" ")[0] not in without)


def read(tmp_path: Path, text: str) -> Config:
    return replace(load(write_config(tmp_path, text), SURROUNDINGS), path=Path("haul.toml"))


def test_the_sample_as_it_is_changes_nothing(tmp_path):
    assert read(tmp_path, SAMPLE) == read(tmp_path, "")


def test_the_defaults_the_sample_shows_are_the_real_ones(tmp_path):
    config = read(tmp_path, switched_on(without=EXAMPLES))
    assert replace(config, accounts={}) == read(tmp_path, "")
    # the table of a mirror declares one
    assert config.accounts == {"work": make_account(keyring=KeyringConfig(), mirror=Strategy())}


@pytest.mark.parametrize("key", sorted(EXAMPLES))
def test_the_examples_of_the_sample_can_be_used(tmp_path, key):
    needed = {"client_key": {"client_cert"}}.get(key, set())
    text = switched_on(without=EXAMPLES - {key} - needed)
    if key == "token_command":
        text = text.replace('auth = "password"', 'auth = "xoauth2"')
    if key == "mirror":
        text = text[: text.index("[accounts.work.mirror]")]
    text = text.replace('kind = "full"', f'kind = "{MIRRORS.get(key, "full")}"')
    config = read(tmp_path, text)
    account = config.accounts["work"]
    where = config.store if key == "group" else account.mirror if key in MIRRORS else account
    assert getattr(where, {"from": "sender"}.get(key, key))


def test_the_sample_names_every_key():
    shown = set()
    table = ""
    for line in switched_on(without=set()).splitlines():
        if line.startswith("["):
            table = line.strip("[]").replace("accounts.work", "accounts.*")
        elif match := re.match(r"(\w+) = (.*)", line):
            shown.add(f"{table}.{match[1]}")
            shown.update(
                f"{table}.{match[1]}.{inner}" for inner in re.findall(r"(\w+) =", match[2]) if match[2].startswith("{")
            )
    assert shown - {"accounts.*.keyring", "accounts.*.mirror"} == set(known_keys())
