"""Configuration files and accounts for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hauld.config import AccountConfig

ACCOUNT = """
[accounts.work]
host = "imap.example.org"
user = "me@example.org"
"""


def write_config(directory: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """A configuration file in that directory."""
    path = directory / "haul.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def make_account(name: str = "work", **values: Any) -> AccountConfig:
    """An account that differs from the default in these values only."""
    return AccountConfig(**{"name": name, "host": "imap.example.org", "user": "me@example.org", **values})
