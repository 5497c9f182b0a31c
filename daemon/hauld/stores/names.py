"""Names on disk, as pure functions: folder names made harmless, and file names that carry what a rebuild needs.

**Directories.** ``escape`` turns any text into one harmless directory name and different texts into different names.
Whether a name is taken, or too like another for some file systems, is for ``places`` to find out.

**Files.** ``<date>.U<uid>V<uidvalidity>H<32 hex of sha256>.haul,S=<size>`` is the unique part; ``:2,FLAGS`` follows, and
belongs to whoever shows the message. Nothing of the unique part depends on when or how often an item was fetched, so
storing the same item again gives the same file. Keys of another form stand as ``K<key>.E<epoch>.H<32 hex>``, escaped.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONGEST_NAME = 120
"""Bytes of a directory name before its hash; with it 138, so that it fits where names end at 143 (eCryptfs)."""

LONGEST_PATH = 1000
"""Bytes of a folder's path; a longer one becomes a single name, so that no path nears the system's 4,096."""

HASH_MARK = "%~"  # no escape looks like this, since a percent sign is followed by two hex digits

_NOTHING = HASH_MARK  # the name of a component without a character
_HOSTILE = frozenset('%/\\:<>"|?*')
_HOSTILE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MAILDIR = frozenset({"cur", "new", "tmp"})
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


# --- directories ---------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """One directory name for one component of a folder's name: readable where that is harmless, else percent-escaped."""
    return _fit(_escaped(text), text)


def escape_flat(path: Sequence[str]) -> str:
    """One Maildir++ directory name for a whole path: ``.A.B``, dots inside a component escaped."""
    pieces: list[str] = []
    for component in path:
        pieces += [".", *("%2E" if piece == "." else piece for piece in _escaped(component) or [_NOTHING])]
    return _fit(pieces, "/".join(path))


def escape_path(path: Sequence[str]) -> list[str]:
    """One directory name for each component; a single one where together they would be too long."""
    names = [escape(component) for component in path]
    if sum(len(name.encode()) + 1 for name in names) > LONGEST_PATH:
        return [escape("/".join(path))]
    return names


def hashed(name: str, origin: bytes) -> str:
    """The name told apart by what it stands for: another one for another ``origin``."""
    return f"{name.partition(HASH_MARK)[0]}{HASH_MARK}{hashlib.sha256(origin).hexdigest()[:16]}"


def is_text(name: str) -> bool:
    """Whether it can be written in UTF-8. A name on disk that is other bytes cannot (PEP 383)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def likeness(name: str) -> str:
    """Equal for names that some file systems take for the same: those that differ in case or Unicode form only."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _escaped(text: str) -> list[str]:
    """A piece for each character."""
    pieces = [
        _percent(char) if char in _HOSTILE or unicodedata.category(char) in _HOSTILE_CATEGORIES else char for char in text
    ]
    if text and (text[0] in ".~ " or text.casefold() in _MAILDIR or _DEVICE.match(text)):
        pieces[0] = _percent(text[0])
    if text and text[-1] in ". ":
        pieces[-1] = _percent(text[-1])
    return pieces


def _fit(pieces: list[str], text: str) -> str:
    """The pieces as one name; one that is too long is cut between two pieces and ends in a hash of the whole text."""
    room = LONGEST_NAME
    for count, piece in enumerate(pieces):
        room -= len(piece.encode())
        if room < 0:
            return hashed("".join(pieces[:count]), _octets(text))
    return "".join(pieces) or _NOTHING


def _percent(char: str) -> str:
    return "".join(f"%{octet:02X}" for octet in _octets(char))


def _octets(text: str) -> bytes:
    """UTF-8; a lone surrogate, which UTF-8 does not have, gets bytes that no other text has."""
    return text.encode("utf-8", "surrogatepass")


# --- files ---------------------------------------------------------------------------------------------------------

_IMAP_KEY = re.compile(r"(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})")
_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_UNIQUE = re.compile(
    r"(?P<date>[0-9]+)\."
    r"(?:U(?P<uid>[0-9]+)V(?P<validity>[0-9]+)|K(?P<key>[A-Za-z0-9_%-]*)\.E(?P<epoch>[A-Za-z0-9_%-]*)\.)"
    r"H(?P<hash>[0-9a-f]{32})\.haul,S=(?P<size>[0-9]+)"
)
_LONGEST_KEY = 40
_LONGEST_EPOCH = 26  # with all the rest, and a dot before it, a name fits where names end at 143
_LAST_SECOND = 253402300799  # the end of the year 9999

_FLAGS = {"D": "\\Draft", "F": "\\Flagged", "P": "$Forwarded", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}
_LETTERS = {flag.lower(): letter for letter, flag in _FLAGS.items()}


@dataclass(frozen=True)
class ItemName:
    """What a file's name tells of the item in it; ``sha256`` is the first half of it, ``date`` Unix milliseconds or None."""

    epoch: str
    key: str
    size: int
    sha256: str
    date: int | None = None


def seconds(date: int | None) -> int:
    """A date in Unix milliseconds as the seconds of a file name; 0 where there is none."""
    return min(max(date // 1000, 0), _LAST_SECOND) if date is not None else 0


def unique_part(date: int | None, epoch: str, key: str, sha256: str, size: int) -> str:
    """A file's name up to its flags: the same for the same item, whenever and however often it is stored."""
    imap = _IMAP_KEY.fullmatch(key)
    if imap and imap[1] == epoch:
        origin = f"U{imap[2]}V{imap[1]}"
    else:
        origin = f"K{_fit_key(key, _LONGEST_KEY)}.E{_fit_key(epoch, _LONGEST_EPOCH)}."
    return f"{seconds(date)}.{origin}H{sha256[:32]}.haul,S={size}"


def read_unique_part(unique: str) -> ItemName | None:
    """What the name tells; None for a file of another program, or one whose key was too long for its name."""
    found = _UNIQUE.fullmatch(unique)
    if not found or int(found["date"]) > _LAST_SECOND:
        return None
    if found["uid"] is not None:
        epoch, key = found["validity"], f"{found['validity']}.{found['uid']}"
    else:
        try:
            epoch, key = _unescape_key(found["epoch"]), _unescape_key(found["key"])
        except UnicodeDecodeError:
            return None
    return ItemName(epoch, key, int(found["size"]), found["hash"], int(found["date"]) * 1000 or None)


def letters(flags: Iterable[str]) -> str:
    """IMAP flags as the letters of a Maildir name, in ASCII order; flags without a letter are left out."""
    return "".join(sorted({_LETTERS[flag.lower()] for flag in flags if flag.lower() in _LETTERS}))


def flags(shown: str) -> tuple[str, ...]:
    """The IMAP flags for the letters of a Maildir name, as RFC 3501 and RFC 5788 write them; letters of others are left out."""
    return tuple(_FLAGS[letter] for letter in shown if letter in _FLAGS)


def both(shown: str, other: str) -> str:
    """The letters of two names of one message."""
    return "".join(sorted({letter for letter in shown + other if letter.isascii() and letter.isalpha()}))


def relabelled(shown: str, flags: Iterable[str]) -> str:
    """The letters for ``flags``, and those in ``shown`` that mean something to other programs only (keywords)."""
    foreign = {letter for letter in shown if letter not in _LETTERS.values()}
    return "".join(sorted({*letters(flags), *foreign}))


def _fit_key(text: str, longest: int) -> str:
    """An escaped key. A hash stands for what is too long: such a file is kept like any other, but tells a rebuild nothing."""
    escaped = "".join(char if _PLAIN.fullmatch(char) else _percent(char) for char in text)
    return (
        escaped
        if len(escaped) <= longest
        else f"{HASH_MARK}{hashlib.sha256(_octets(text)).hexdigest()[: min(32, longest - len(HASH_MARK))]}"
    )


def _unescape_key(escaped: str) -> str:
    octets = re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), escaped.encode())
    return octets.decode("utf-8", "surrogatepass")
