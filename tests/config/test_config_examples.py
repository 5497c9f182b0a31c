"""The examples in ``config/accounts.d``: each can be taken as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hauld.config import load
from hauld.model import matches
from support.configs import write_config

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLES = sorted((CONFIG / "accounts.d").glob("*.toml"))
SURROUNDINGS = {"HOME": "/home/me"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each.stem)
def test_an_example_is_one_account_that_hauld_can_use(tmp_path, example):
    config = load(write_config(tmp_path, example.read_text()), SURROUNDINGS)
    (account,) = config.accounts.values()
    assert account.tls == "implicit"
    assert account.keyring is None, "the example says where the secret is"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each.stem)
def test_an_example_says_first_what_to_do_with_it(example):
    first = example.read_text().splitlines()[0]
    assert "Copy this into accounts.d/ beside haul.toml" in first
    assert first.endswith("haulctl reload")


def test_all_examples_go_beside_the_sample_and_into_it(tmp_path):
    texts = [path.read_text() for path in (CONFIG / "haul.toml", *EXAMPLES)]
    in_one = load(write_config(tmp_path, "\n".join(texts)), SURROUNDINGS).accounts
    assert len(in_one) == len(EXAMPLES) >= 4
    (tmp_path / "accounts.d").mkdir(mode=0o755)
    for example in EXAMPLES:
        (tmp_path / "accounts.d" / example.name).write_bytes(example.read_bytes())
    assert load(write_config(tmp_path, texts[0]), SURROUNDINGS).accounts == in_one


def offers(example: Path) -> list[str]:
    """Neighbouring lines that begin with '#' and no space: what the example offers besides."""
    return re.findall(r"(?:^#\w.*\n)+", example.read_text(), re.MULTILINE)


OFFERS = [
    pytest.param(example, offer, id=f"{example.stem}-{offer.split()[0]}") for example in EXAMPLES for offer in offers(example)
]


@pytest.mark.parametrize(("example", "offer"), OFFERS)
def test_what_an_example_offers_besides_can_be_switched_on(tmp_path, example, offer):
    wanted = offer.replace("#", "")
    replaced = {line.partition(" ")[0] for line in wanted.splitlines()}
    if "auth" in replaced:
        replaced.add("password_command")
    kept = [line for line in example.read_text().replace(offer, "").splitlines() if line.partition(" ")[0] not in replaced]
    (header,) = [line for line in kept if line.startswith("[") and "schedule" not in line]
    account = "\n".join(kept).replace(header, f"{header}\n{wanted}")
    assert load(write_config(tmp_path, account), SURROUNDINGS).accounts


def test_the_folders_of_gmail_are_met_by_their_names_with_brackets(tmp_path):
    config = load(write_config(tmp_path, (CONFIG / "accounts.d" / "gmail.toml").read_text()), SURROUNDINGS)
    account = config.accounts["gmail"]
    assert matches("[Gmail]/All Mail", account.folders, account.exclude)
    assert not matches("INBOX", account.folders, account.exclude)
    offered = next(line for line in (CONFIG / "accounts.d" / "gmail.toml").read_text().splitlines() if "#exclude" in line)
    exclude = json.loads(offered.partition(" = ")[2])
    assert not matches("[Gmail]/Starred", ["*"], exclude)
    assert matches("[Gmail]/All Mail", ["*"], exclude)
