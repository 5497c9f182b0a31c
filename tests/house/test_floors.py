"""Imports point downwards: the floors of the house, and the reason for each rule beside it.

    roof  app, cli, config, secrets, systemd, watchdog, statusline, logs, journal, demo, doctor: picks the adapters, starts all
    4     rpc: the door
    3     engine: the work itself
    2     sources, stores, state: where things come from, where bytes go, what is known
    1     model, errors, clock, retry: values and allowed moves; memory: giving it back; threads: for what hangs
    0     haulapi: the wire contract

Imports inside functions and for the type checker alone count like any other: a module that names another knows it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = ("daemon", "ctl")

GROUND, ROOF = 1, 5
FLOORS = {
    "haulapi": 0,
    "hauld": GROUND,  # the package itself: its version
    "hauld.model": GROUND,
    "hauld.errors": GROUND,
    "hauld.clock": GROUND,
    "hauld.retry": GROUND,
    "hauld.memory": GROUND,
    "hauld.threads": GROUND,
    "hauld.sources": 2,
    "hauld.stores": 2,
    "hauld.state": 2,
    "hauld.engine": 3,
    "hauld.rpc": 4,
    "hauld.app": ROOF,
    "hauld.cli": ROOF,
    "hauld.config": ROOF,
    "hauld.secrets": ROOF,
    "hauld.logs": ROOF,
    "hauld.systemd": ROOF,
    "hauld.reload": ROOF,
    "hauld.journal": ROOF,
    "hauld.watchdog": ROOF,
    "hauld.statusline": ROOF,
    "hauld.demo": ROOF,
    "hauld.doctor": ROOF,
    "hauld.reference": ROOF,
}
"""The floor of each part of the daemon."""

OURS = ("hauld", "haulapi", "haulctl")

FORBIDDEN = {
    # the contract is for clients that have nothing else of the daemon
    "haulapi": ("hauld", "haulctl"),
    # it starts in a tenth of a second, and runs against a daemon of another version
    "haulctl": ("hauld",),
    # nobody needs the client to run the daemon; the demo runs it as a program, as a person would
    "hauld": ("haulctl",),
    # a new source must not need a change in a store or in the ledger, nor the other way round; what two of them need of
    # each other is in the model
    "hauld.sources": ("hauld.stores", "hauld.state"),
    "hauld.stores": ("hauld.sources", "hauld.state"),
    "hauld.state": ("hauld.sources", "hauld.stores"),
    # the engine works with what the ports promise; app.py does the introductions
    "hauld.engine": ("hauld.sources.imap", "hauld.stores.maildir", "hauld.stores.eml", "hauld.state.sqlite"),
    # the door knows commands by their contract and by a protocol of its own, not the engine behind them
    "hauld.rpc": ("hauld.engine", "hauld.sources", "hauld.stores", "hauld.state"),
}
"""What a part may not import though it is not above it."""

HOMES = {
    # each foreign library has one home, so that it can be replaced there, and its exceptions are translated there
    "aioimaplib": ("hauld.sources.imap",),
    "imaplib": (),
    "ssl": ("hauld.sources",),
    "aiosqlite": ("hauld.state.sqlite",),
    "sqlite3": ("hauld.state.sqlite",),
    "ctypes": ("hauld.stores", "hauld.memory"),
    "keyring": ("hauld.secrets",),
    "tomllib": ("hauld.config",),
    "pymap": ("hauld.demo.server",),
    "zstandard": ("hauld.stores.packing",),
    "click": ("hauld.cli", "hauld.demo", "hauld.reference", "haulctl"),
    "rich": ("haulctl",),
}
"""Where a library may be imported; nowhere, where there is nothing."""

UNSPOKEN = {
    # the engine never says what it works with: a second source or store must find nothing that is the first one's
    "hauld.engine": ("imap", "maildir", "sqlite", "uidvalidity"),
    # nor does the door
    "hauld.rpc": ("imap", "maildir", "sqlite", "uidvalidity"),
}
"""Words that do not occur in a part, comments included."""


def broken_rules(module: str, source: str) -> list[str]:
    """What the source of a module does that its floor does not allow."""
    said = []
    for imported in imports(module, source):
        if belongs(imported, "hauld", "haulapi") and floor(imported) > floor(module):
            said.append(f"{module} imports {imported}, which is above it")
        for part, others in FORBIDDEN.items():
            if belongs(module, part) and belongs(imported, *others):
                said.append(f"{module} imports {imported}, which {part} must not know")
        homes = next((homes for library, homes in HOMES.items() if belongs(imported, library)), None)
        if homes is not None and not belongs(module, *homes):
            said.append(f"{module} imports {imported}, whose home is {' or '.join(homes) or 'nowhere here'}")
    for part, words in UNSPOKEN.items():
        if belongs(module, part):
            said += [f"{module} says {word!r}" for word in words if re.search(word, source, re.IGNORECASE)]
    return said


def imports(module: str, source: str) -> Iterator[str]:
    """The full name of everything that a module imports; of ``from a import b``, ``a.b``, since b may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively, which nobody here does"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def belongs(name: str, *parts: str) -> bool:
    """Whether a name is one of the parts, or within it."""
    return any(name == part or name.startswith(part + ".") for part in parts)


def floor(name: str) -> int:
    """The floor of a module, or of a name in it: that of the longest part it belongs to. Clients are above all of it."""
    if belongs(name, "haulctl"):
        return ROOF + 1
    return FLOORS[max((part for part in FLOORS if belongs(name, part)), key=len)]


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the daemon and of the client, with its file."""
    for root in ROOTS:
        for path in sorted((REPOSITORY / root).rglob("*.py")):
            parts = path.relative_to(REPOSITORY / root).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), path


@pytest.mark.parametrize(("module", "path"), [pytest.param(*each, id=each[0]) for each in modules()])
def test_a_module_keeps_to_its_floor(module: str, path: Path):
    assert broken_rules(module, path.read_text("utf-8")) == []


def test_every_part_of_the_daemon_has_its_floor():
    parts = {".".join(module.split(".")[:2]) for module, _ in modules() if belongs(module, "hauld")}
    assert parts <= set(FLOORS)


@pytest.mark.parametrize("root", ROOTS)
def test_the_roots_of_the_packages_are_no_packages_themselves(root: str):
    # `import daemon` has to remain the library of that name
    assert not (REPOSITORY / root / "__init__.py").exists()
    assert {path.name for path in (REPOSITORY / root).iterdir() if path.is_dir() and path.name != "__pycache__"} <= set(OURS)


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("hauld.model", "import hauld.engine.job", "above"),
        ("hauld.sources.imap.session", "from hauld.state import base", "must not know"),
        ("hauld.stores.maildir", "def late():\n    from hauld.sources.base import Source", "must not know"),
        ("hauld.engine.job", "from hauld.stores.maildir import MaildirStore", "must not know"),
        ("hauld.engine.job", "cursor = 'SQLite'", "says 'sqlite'"),
        ("hauld.engine.job", "from hauld import app", "above"),
        ("hauld.rpc.routes", "from hauld.engine.commands import Commands", "must not know"),
        ("haulctl.show", "from hauld import __version__", "must not know"),
        ("haulapi.calls", "from hauld.model import Job", "above"),
        ("hauld.engine.job", "import aiosqlite", "whose home"),
        ("hauld.app", "import imaplib", "nowhere"),
    ],
)
def test_a_module_that_leaves_its_floor_is_found(module: str, source: str, complaint: str):
    assert complaint in "; ".join(broken_rules(module, source))


def test_what_lies_below_may_be_imported():
    assert broken_rules("hauld.engine.job", "from hauld.stores.base import Store\nfrom hauld.model import Job") == []
    assert broken_rules("hauld.app", "from hauld.stores.maildir import MaildirStore") == []
