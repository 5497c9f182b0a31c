"""The files of a configuration: which there are, whether they can be trusted, and the tables in each."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from hauld.config.problems import ConfigurationError, Problem

ACCOUNTS_DIRECTORY = "accounts.d"
"""Beside the main file; what is in it and ends in ``.toml`` holds accounts."""

LARGEST_FILE = 1024 * 1024
"""Bytes; a larger file is something else under that name."""


def tables(path: Path) -> dict[str, Any]:
    """What the file says. Raises ``ConfigurationError`` where it cannot be trusted or is not TOML."""
    return _parse(path, _read(path))


def account_files(directory: Path) -> list[Path]:
    """The files of accounts in the order of their names, none where the directory is not there. Hidden files and what editors
    and packages leave behind (``work.toml~``, ``work.toml.bak``) are passed over. Raises ``ConfigurationError`` for a
    directory that others may put files into."""
    try:
        if not directory.exists():
            return []
        status = directory.stat()
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise _unusable(directory, f"cannot be opened: {error.strerror}") from error
    if status.st_uid not in {0, os.geteuid()}:
        raise _unusable(directory, f"belongs to another user (uid {status.st_uid}); give it to root or yourself")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _unusable(directory, "is where others may put files, which could run commands; use 'chmod go-w' on it")
    return [directory / name for name in names if name.endswith(".toml") and not name.startswith(".")]


def _read(path: Path) -> bytes:
    """The bytes of the file, once it is certain that nobody else wrote them: it can run commands."""
    try:
        with open(path, "rb", opener=open_at_once) as file:
            objection = _objection_to(path, os.fstat(file.fileno()))
            content = b"" if objection else file.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        advice = "there is no such file; write one (config/haul.toml is a sample) or name another with --config"
        raise _unusable(path, advice) from error
    except OSError as error:
        raise _unusable(path, f"cannot be opened: {error.strerror}") from error
    if len(content) > LARGEST_FILE:
        objection = f"is larger than {LARGEST_FILE} bytes, so it is no configuration"
    if objection is not None:
        raise _unusable(path, objection)
    return content


def _objection_to(path: Path, status: os.stat_result) -> str | None:
    """Why the file cannot be trusted, or None. A symbolic link is judged where it is and where it leads."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid not in {0, os.geteuid()}:
        return f"belongs to another user (uid {status.st_uid}), who could make it run commands; give it to root or yourself"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "may be written by others, who could make it run commands; use 'chmod go-w' on it"
    for directory in {*path.parents, *path.resolve().parents}:
        mode = directory.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"is below {directory}, where everybody may put another file in its place; use 'chmod o-w' on that"
    return None


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    """The tables of the file."""
    if content.startswith(b"\xef\xbb\xbf"):
        raise _unusable(path, "begins with a byte order mark; save it as UTF-8 without one")
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise _unusable(path, f"is not UTF-8 (at line {line}, column {column}); save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise _unusable(path, f"is not TOML: {error}") from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, "is not TOML that can be read: a number is too long or brackets are too deep") from error


def _unusable(path: Path, message: str) -> ConfigurationError:
    return ConfigurationError(path, [Problem(None, "", message, path)])


def open_at_once(path: str, flags: int) -> int:
    """An opener that does not wait for somebody to write into a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def is_exposed(status: os.stat_result) -> bool:
    """Whether somebody besides its owner may read or write the file."""
    return bool(status.st_mode & (stat.S_IRWXG | stat.S_IRWXO))
