"""How values are written: for each kind a ``Form``, with words for people, the type that TOML has, and what it means to us."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec


@dataclass(frozen=True)
class Form:
    """How one kind of value is written: ``words`` for people, ``wire`` for TOML, ``meaning`` from the one to ours.
    ``meaning`` raises ``ValueError``, without text when ``words`` say enough. ``choices`` are all the values there are, or none
    when they are not a few."""

    words: str
    wire: Any
    meaning: Callable[[Any], Any] = lambda value: value
    choices: tuple[str, ...] = ()

    def value(self, written: Any) -> Any:
        """What was written means, or ``ValueError`` with what to write instead."""
        try:
            return self.meaning(msgspec.convert(written, self.wire))
        except msgspec.ValidationError:
            reason = ""
        except ValueError as error:
            reason = str(error)
        raise ValueError(reason or f"must be {self.words}")


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``15m``, ``1h30m``, ``1d``, ``0.5s``: days, hours, minutes, seconds, each at most once. Raises
    ``ValueError`` for anything else, for nothing and for more than a year."""
    match = re.fullmatch(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,3})?)s)?", text, re.ASCII)
    if match is None:
        raise ValueError
    seconds = sum(float(amount or 0) * unit for amount, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
    if not 0 < seconds <= 366 * 86400:
        raise ValueError
    return seconds


def parse_size(text: str) -> int:
    """Bytes of ``16 MiB``, ``25 MB``, ``1.5GiB``, ``512 B``; powers of 1024 with an i, of 1000 without. Raises
    ``ValueError`` for anything else and for nothing."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?) ?(?:([kmgt])(i?))?b", text.lower(), re.ASCII)
    if match is None:
        raise ValueError
    amount, prefix, binary = match.groups()
    size = int(Decimal(amount) * (1024 if binary else 1000) ** (" kmgt".index(prefix or " ")))
    if not 0 < size < 2**63:
        raise ValueError
    return size


def _size_or_none(text: str) -> int | None:
    return None if text == "none" else parse_size(text)


def _size_or_nothing(text: str) -> int:
    return 0 if text == "none" else parse_size(text)


def _mode(text: str) -> int:
    mode = int(text, 8)
    if mode & 0o600 != 0o600 or mode & 0o113:
        raise ValueError("must let the owner read and write, nobody execute, and others not write")
    return mode


def _location(text: str) -> Path:
    if re.match("~[^/]", text):
        raise ValueError("write the home directory of another user in full")
    return Path(text)


def _host(text: str) -> str:
    if ":" in text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError("must be the name alone; the port has a key of its own, 'port'") from None
    return text


def _backend(text: str) -> str:
    if text.startswith(("keyring.backends.null.", "keyring.backends.fail.")):
        raise ValueError("this backend keeps nothing; name one that does")
    return text


def number(least: int, most: int) -> Form:
    """Whole numbers in a range, its ends included."""
    return Form(f"a whole number from {least} to {most}, without quotes", Annotated[int, msgspec.Meta(ge=least, le=most)])


def one_of(*choices: str, later: Sequence[str] = ()) -> Form:
    """One of these words. Those for later versions are known, so that nobody takes them for typing errors."""
    words = " or ".join(f'"{choice}"' for choice in choices)

    def meaning(text: str) -> str:
        if text in later:
            raise ValueError(f'"{text}" {NOT_YET}; use {words}')
        if text not in choices:
            raise ValueError
        return text

    return Form(words, str, meaning, choices)


def _day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError from None
    return text


def forms(made_of: type) -> dict[str, Form]:
    """The keys of a table: its annotated fields, without the underscore behind a word that Python keeps for itself."""
    hints = get_type_hints(made_of, include_extras=True)
    return {name.rstrip("_"): get_args(hint)[1] for name, hint in hints.items() if get_origin(hint) is Annotated}


NOT_YET = "is not available in this version"
ACCOUNT_NAME = r"[A-Za-z0-9_@+][A-Za-z0-9._@+-]{0,63}"

_LINE = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]+\Z", max_length=1024)]
_ARGUMENT = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*\Z")]

TEXT = Form("a text in quotes", _LINE)
SWITCH = Form("true or false, without quotes", bool)
DAY = Form('a day such as "2026-01-31"', Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\d\Z")], _day)
DURATION = Form('a duration such as "90s", "15m", "1h30m" or "1d"', str, parse_duration)
SIZE = Form('a size such as "16 MiB" or "25 MB"', str, parse_size)
SIZE_OR_NONE = Form('a size such as "16 MiB" or "25 MB", or "none"', str, _size_or_none)
SIZE_OR_NOTHING = Form('a size such as "64 MiB" or "1 GB", or "none"', str, _size_or_nothing)
MODE = Form('a file mode in quotes such as "0640"', Annotated[str, msgspec.Meta(pattern=r"^0?[0-7]{3}\Z")], _mode)
LOCATION = Form("a path in quotes", _LINE, _location)
HOST = Form(
    'the name or address of a server such as "imap.example.org", without user, port or path',
    Annotated[str, msgspec.Meta(pattern=r"^[\w.:-]+\Z", max_length=253)],
    _host,
)
COMMAND = Form(
    'a list with the program and its arguments such as ["pass", "show", "mail/work"]',
    Annotated[list[_ARGUMENT], msgspec.Meta(min_length=1)],
    tuple,
)
CREDENTIAL = Form(
    "the name of a systemd credential: letters, digits and . _ - (not . at its beginning)",
    Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}\Z")],
)
BACKEND = Form(
    'the Python class of a keyring backend such as "keyring.backends.SecretService.Keyring"',
    Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+\Z")],
    _backend,
)
GLOBS = Form('a list of folder names or globs such as ["Trash", "Lists/*"]', list[_LINE], tuple)
SOME_GLOBS = Form(
    'a list of at least one folder name or glob such as ["INBOX", "Projects/*"]',
    Annotated[list[_LINE], msgspec.Meta(min_length=1)],
    tuple,
)
