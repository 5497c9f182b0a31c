"""What a configuration names and this machine lacks."""

from __future__ import annotations

import grp
import importlib.util
import os
import shutil

from hauld.config.keys import Config
from hauld.config.problems import Problem


def missing_here(config: Config) -> list[Problem]:
    """What the configuration names and this machine lacks, as far as that shows without a network. None of it is an error of
    the configuration: a service may have another ``PATH``, and a disk may be mounted later."""
    found: list[Problem] = []
    if config.store.group is not None and not _group_exists(config.store.group):
        found.append(Problem(None, "store.group", "there is no such group on this machine"))
    if config.store.compression == "zstd" and importlib.util.find_spec("zstandard") is None:
        found.append(Problem(None, "store.compression", "needs the Python package zstandard: pip install 'hauld[zstd]'"))
    for account in config.accounts.values():
        for key in ("ca_file", "client_cert", "client_key", "password_file"):
            file = getattr(account, key)
            if file is not None and not os.access(file, os.R_OK):
                found.append(Problem(account.name, key, f"{file} is not there or cannot be read", account.file))
        for key in ("password_command", "token_command"):
            command = getattr(account, key)
            if command is not None and shutil.which(command[0]) is None:
                found.append(Problem(account.name, key, f"there is no program {command[0]!r} on the PATH", account.file))
    return found


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
