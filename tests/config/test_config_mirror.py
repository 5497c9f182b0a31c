"""``mirror``: the job that an account has without anybody making it."""

from __future__ import annotations

import pytest

from hauld.config import ConfigurationError, load
from hauld.model import Strategy
from support.configs import ACCOUNT, write_config


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('mirror = "full"', Strategy("full")),
        ('mirror = "full-sync"', Strategy("full")),
        ('mirror = "inbox-only"', Strategy("inbox-only", ("INBOX",))),
        ('mirror = "new-only"', Strategy("unseen")),
        ('mirror = { exclude = ["Trash"] }', Strategy("full", exclude=("Trash",))),
        ('mirror = { kind = "selected-folders", folders = ["Lists/*"] }', Strategy("selected-folders", ("Lists/*",))),
        ('mirror = { kind = "search", from = "a", to = "b" }', Strategy("search", sender="a", to="b")),
        (
            '[accounts.work.mirror]\nkind = "date-range"\nsince = "2026-01-01"\nbefore = "2026-02-01"',
            Strategy("date-range", since="2026-01-01", before="2026-02-01"),
        ),
    ],
)
def test_a_mirror_is_any_strategy(tmp_path, written, meant):
    assert load(write_config(tmp_path, f"{ACCOUNT}{written}")).accounts["work"].mirror == meant


def test_an_account_has_no_mirror_of_its_own_accord(tmp_path):
    assert load(write_config(tmp_path, ACCOUNT)).accounts["work"].mirror is None


@pytest.mark.parametrize(
    ("written", "key", "said"),
    [
        ('mirror = "all"', "mirror.kind", 'must be "full" or '),
        ("mirror = true", "mirror", "must be a table"),
        ('mirror = "date-range"', "mirror", "needs before or since"),
        ('mirror = { since = "2026-01-01" }', "mirror", "takes no since"),
        ('mirror = { kind = "date-range", since = "2026-02-30" }', "mirror.since", "must be a day"),
        ('mirror = { kind = "date-range", since = "2026-02-01", before = "2026-01-01" }', "mirror", "No day is from"),
        ('mirror = { folder = ["INBOX"] }', "mirror.folder", "did you mean 'folders'?"),
    ],
)
def test_a_mirror_that_makes_no_sense_is_told_with_account_and_key(tmp_path, written, key, said):
    with pytest.raises(ConfigurationError) as caught:
        load(write_config(tmp_path, f"{ACCOUNT}{written}"))
    (problem,) = caught.value.problems
    assert (problem.account, problem.key) == ("work", key)
    assert said in problem.message
