"""Fixtures of the crash tests."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from crash.injector import NoCompiler
from crash.site import NAMES, Site, missing, site
from support.dovecot import Dovecot


@pytest.fixture(scope="session")
def crash_site(dovecot: Dovecot) -> Iterator[Site]:
    """Where hauld is killed. It skips where there is no compiler, which not everybody may install."""
    try:
        with site(dovecot) as prepared:
            yield prepared
    except NoCompiler as missing_one:
        pytest.skip(str(missing_one))


@pytest.fixture
def seed() -> int:
    """Another one in each run; ``HAUL_SEED`` repeats a run."""
    number = int(os.environ.get("HAUL_SEED", random.randrange(10**9)))
    print(f"HAUL_SEED={number}")  # noqa: T201 - what repeats this run
    return number


@pytest.fixture
def scenarios() -> list[str]:
    """Those that this version of the daemon can be tried with."""
    return [name for name in NAMES if missing(name) is None]
