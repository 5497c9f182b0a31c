"""The comments of ``config/haul.toml``, by the keys that they are about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hauld.config import known_keys


@dataclass(frozen=True)
class Key:
    """One key of a table: how the sample writes its value, and whether that is the default or an example."""

    name: str
    written: str
    is_default: bool


@dataclass(frozen=True)
class Topic:
    """What is said of some keys at once, in paragraphs. Without keys it is said of the table, or of the file where ``table`` is
    empty. ``table`` is named as in ``hauld.config.TABLES``."""

    table: str
    keys: tuple[Key, ...]
    paragraphs: tuple[str, ...]


def topics(sample: str) -> Iterator[Topic]:
    """All that the sample says, in its order."""
    table = ""
    lines: list[str] = []
    keys: list[Key] = []

    def said() -> Iterator[Topic]:
        paragraphs = tuple(" ".join(each.split()) for each in "\n".join(lines).split("\n\n") if each.strip())
        if keys or paragraphs:
            yield Topic(table, tuple(keys), paragraphs)
        lines.clear()
        keys.clear()

    for line in sample.splitlines():
        if heading := re.fullmatch(r"#\[(.+)\]", line):
            table = re.sub(r"^accounts\.\w+", "accounts.*", heading[1])
            yield from said()
        elif entry := re.fullmatch(r"#(\w+) = (.+)", line):
            keys.append(_key(table, entry[1], entry[2]))
        else:
            if keys or not line:
                yield from said()
            lines.append(line.removeprefix("#").removeprefix(" "))
    yield from said()


def _key(table: str, name: str, written: str) -> Key:
    """Where a key has no default of its own, what the sample shows is an example; but "none" is what being left out means."""
    default = known_keys().get(f"{table}.{name}")
    return Key(name, written, default is not None or written == '"none"')
