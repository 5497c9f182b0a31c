"""Values in words for people: sizes, counts, times, and text that cannot harm a terminal."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60, 3600, 86400


def visible(text: str) -> str:
    """The text with everything escaped that a terminal would act on or hide: controls, escapes, line ends, marks that turn
    the direction of writing or have no width."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" else char for char in text)


def count(number: int) -> str:
    """``20,000``"""
    return f"{number:,}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 item``, ``20,000 items``"""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: int | None) -> str:
    """``812 B``, ``1.2 GB``; decimal, as disks are sold."""
    if number is None:
        return ""
    if number < 1000:
        return f"{number} B"
    value = float(number)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:,.1f} PB"


def percent(number: float) -> str:
    """``42 %``; rounded down, so that 100 % is not said before it is true."""
    return f"{math.floor(number)} %"


def duration(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h 12 min``, ``4 days``"""
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        minutes = whole % HOUR // MINUTE
        return f"{whole // HOUR} h {minutes} min" if minutes else f"{whole // HOUR} h"
    return counted(whole // DAY, "day")


def ago(moment: str | None, now: datetime) -> str:
    """``5 min ago``; after a month the day; nothing for no moment."""
    if moment is None:
        return ""
    seconds = (now - parse(moment)).total_seconds()
    if seconds < 1:
        return "now"
    if seconds > 30 * DAY:
        return parse(moment).astimezone().strftime("%Y-%m-%d")
    return _coarse(seconds) + " ago"


def until(moment: str, now: datetime) -> str:
    """``in 2 min``; ``now`` when it has come."""
    seconds = (parse(moment) - now).total_seconds()
    return f"in {duration(seconds)}" if seconds >= 1 else "now"


def date_and_time(moment: str | None, now: datetime) -> str:
    """``2026-01-31 12:00:00 (3 h ago)``, in local time."""
    if moment is None:
        return ""
    return f"{parse(moment).astimezone():%Y-%m-%d %H:%M:%S} ({ago(moment, now)})"


def parse(moment: str) -> datetime:
    """A moment of the wire (RFC 3339)."""
    return datetime.fromisoformat(moment)


def now() -> datetime:
    """The moment it is."""
    return datetime.now(UTC)


def _coarse(seconds: float) -> str:
    """A duration in its largest unit only."""
    return duration(seconds // HOUR * HOUR if HOUR <= seconds < DAY else seconds)


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
