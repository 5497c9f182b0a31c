"""Where things are when nothing else is said: the configuration itself, the state, the socket."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from haulapi.faults import Exit
from hauld.errors import Fatal


def find(explicit: Path | None, environment: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """The file to read: the one that was named; else the system's for root and for a system service (which has
    ``$STATE_DIRECTORY``); else the user's own. It need not exist."""
    if explicit is not None:
        return explicit
    if (os.getuid() if uid is None else uid) == 0 or environment.get("STATE_DIRECTORY"):
        return Path("/etc/haul/haul.toml")
    return _base_directory("XDG_CONFIG_HOME", ".config", environment) / "haul" / "haul.toml"


def default_state(environment: Mapping[str, str]) -> Path:
    """The file of the ledger."""
    service = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    directory = Path(service) if service else _base_directory("XDG_STATE_HOME", ".local/state", environment) / "haul"
    return directory / "haul.db"


def default_socket(state: Path, environment: Mapping[str, str]) -> Path:
    """The control socket; ``state`` is the file of the ledger."""
    service = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if service:
        return Path(service) / "haul.sock"
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    directory = Path(runtime) / "haul" if runtime.startswith("/") else state.parent
    return directory / "haul.sock"


def _base_directory(variable: str, below_home: str, environment: Mapping[str, str]) -> Path:
    """A directory of the XDG Base Directory Specification; it asks that relative ones be ignored."""
    named = environment.get(variable, "")
    return Path(named) if named.startswith("/") else home(environment) / below_home


def home(environment: Mapping[str, str]) -> Path:
    """The home directory. ``Fatal`` where there is none."""
    if environment.get("HOME", "").startswith("/"):
        return Path(environment["HOME"])
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError as error:
        raise Fatal(
            "configuration",
            "There is no home directory to look in: $HOME is not set, and this user has no entry in the password database.",
            hint="Set HOME, or name the file with --config and give daemon.state in it.",
            exit_code=Exit.CONFIGURATION,
        ) from error
