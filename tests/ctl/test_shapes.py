"""What every command gives as JSON has the shape that the OpenRPC document promises for its call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from haulapi.calls import Conflict
from haulapi.schema import document
from haulctl.cli import cli, run
from support.door import REFUSED_SIGN_IN, Answers, account, daemon, done, folder, item, job

SCHEMAS = document()["components"]["schemas"]
KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}

SHAPES: dict[tuple[str, ...], tuple[str, str | None]] = {
    ("status",): ("DaemonStatus", None),
    ("accounts",): ("AccountList", "Account"),
    ("account", "work"): ("Account", None),
    ("test", "work"): ("AccountTest", None),
    ("create", "work"): ("Job", None),
    ("create", "work", "--dry-run"): ("Preview", None),
    ("create", "work", "--wait"): ("Job", None),
    ("list",): ("JobList", "Job"),
    ("show", "k3x9"): ("Job", None),
    ("folders", "k3x9"): ("FolderList", "Folder"),
    ("items", "k3x9"): ("ItemList", "Item"),
    ("start", "k3x9"): ("Job", None),
    ("pause", "k3x9"): ("Job", None),
    ("cancel", "k3x9"): ("Job", None),
    ("retry", "k3x9"): ("Job", None),
    ("sync", "k3x9"): ("Job", None),
    ("delete", "k3x9"): ("Job", None),
    ("watch", "k3x9"): ("Job", None),
    ("events", "--since", "0"): ("EventList", "Event"),
    ("verify",): ("Verification", None),
    ("reload",): ("Reload", None),
    ("doctor",): ("Diagnosis", "Check"),
}
"""What a command gives with ``-o json``, and what each line is with ``-o jsonl`` where that is another."""

SHAPELESS = {"completion"}
"""Commands that give no result of a call."""


def wrong(value: Any, schema: dict[str, Any], where: str = "$") -> Iterator[str]:
    """Where the value is not as the schema says. Fields that a schema does not name are wrong here: the document is to tell
    of everything that is there."""
    if "$ref" in schema:
        yield from wrong(value, SCHEMAS[schema["$ref"].rpartition("/")[2]], where)
    elif "anyOf" in schema:
        if all(list(wrong(value, each, where)) for each in schema["anyOf"]):
            yield f"{where} is none of what it may be"
    elif not isinstance(value, KINDS[schema.get("type", "object")]) and schema.get("type"):
        yield f"{where} is no {schema['type']}"
    elif isinstance(value, dict) and "properties" in schema:
        missing = set(schema["required"]) - set(value)
        yield from (f"{where} lacks {name}" for name in sorted(missing))
        yield from (f"{where} has {name}, which nobody was told of" for name in sorted(set(value) - set(schema["properties"])))
        for name in set(value) & set(schema["properties"]):
            yield from wrong(value[name], schema["properties"][name], f"{where}.{name}")
    elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        for name, each in value.items():
            yield from wrong(each, schema["additionalProperties"], f"{where}.{name}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from wrong(each, schema.get("items", {}), f"{where}[{number}]")


def shaped(text: str, kind: str) -> bool:
    assert list(wrong(json.loads(text), SCHEMAS[kind])) == []
    return True


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A daemon with something in every field."""
    ended = done(error=REFUSED_SIGN_IN, requester="cron", attempts=3)
    conflict = Conflict(sha256="cd" * 32, size=7, local_path="work/INBOX/x", seen_at="2026-01-31T11:58:00.000Z")
    failed = item(7, status="failed", error=REFUSED_SIGN_IN, retry_count=3, conflicts=[conflict], removed_at=ended.created_at)
    answers = Answers(
        accounts=[account(), account(name="home", state="attention", error=REFUSED_SIGN_IN)],
        jobs=[ended, job(id="job_aaaabbbbcccc")],
        folders=[folder(), folder(name="Sent", error=REFUSED_SIGN_IN)],
        items=[item(1), failed],
    )
    answers.told.tell("item.stored", job=ended.id, folder="INBOX", items=2)
    with daemon(tmp_path / "haul.sock", answers):
        yield tmp_path / "haul.sock"


COMMANDS = set(cli.commands)


@pytest.mark.parametrize("arguments", [each for each in SHAPES if each[0] in COMMANDS], ids=" ".join)
def test_json_has_the_shape_that_is_promised(
    arguments: tuple[str, ...], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = SHAPES[arguments]
    run(["--socket", str(path), *arguments, "-o", "json"])
    assert shaped(capsys.readouterr().out, whole)


@pytest.mark.parametrize("arguments", [each for each in SHAPES if each[0] in COMMANDS], ids=" ".join)
def test_each_line_of_jsonl_has_the_shape_that_is_promised(
    arguments: tuple[str, ...], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, each = SHAPES[arguments]
    run(["--socket", str(path), *arguments, "-o", "jsonl"])
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(shaped(line, each or whole) for line in lines)


def test_every_command_has_a_promised_shape_and_every_shape_is_a_calls() -> None:
    assert {arguments[0] for arguments in SHAPES} >= COMMANDS - SHAPELESS
    results = {link.rpartition("/")[2] for call in document()["methods"] for link in links(call["result"])}
    assert {whole for whole, _ in SHAPES.values()} <= results


def links(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (schema[name] for name in schema if name == "$ref")
        for each in schema.values():
            yield from links(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from links(each)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "lacks name"),
        ({"name": 7, "kind": "inbox", "selectable": True}, "$.name is no string"),
        ({"name": "x", "kind": "inbox", "selectable": True, "more": 1}, "has more, which nobody was told of"),
    ],
    ids=["a field is missing", "a field has another type", "a field is not told of"],
)
def test_what_has_another_shape_is_noticed(value: Any, words: str) -> None:
    assert words in " ".join(wrong(value, SCHEMAS["TestedFolder"]))
