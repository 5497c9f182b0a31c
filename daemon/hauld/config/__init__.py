"""The configuration: TOML files, checked whole, as frozen values.

``find`` says which file is the main one, ``load`` reads it and those beside it in ``accounts.d``. Everything that is wrong is
reported at once (``ConfigurationError.problems``), each problem with its file, account and key. ``missing_here`` tells what is
named and this machine lacks.

keys       every key, its default, and the value it becomes      forms     how values are written
reading    from tables to values, and what is wrong with them    files     which files, and whether they can be trusted
places     where things are when nothing else is said            missing   what this machine lacks
problems   what is wrong
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hauld.config.files import is_exposed, open_at_once
from hauld.config.keys import AccountConfig, Config, KeyringConfig, known_keys
from hauld.config.missing import missing_here
from hauld.config.places import find
from hauld.config.problems import ConfigurationError, Problem
from hauld.config.reading import Reading

__all__ = [
    "AccountConfig",
    "Config",
    "ConfigurationError",
    "KeyringConfig",
    "Problem",
    "find",
    "is_exposed",
    "known_keys",
    "load",
    "missing_here",
    "open_at_once",
]


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration in that file and beside it. Raises ``ConfigurationError`` with every problem found."""
    reading = Reading(path.absolute(), environment)
    config = reading.config()
    if config is None:
        raise ConfigurationError(reading.path, reading.problems)
    return config
