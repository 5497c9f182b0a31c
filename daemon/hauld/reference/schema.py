"""A JSON Schema of ``haul.toml``, with which editors complete keys, show what they mean, and mark what is wrong.

``python -m hauld.reference.schema < config/haul.toml > config/haul.schema.json`` writes it anew; a test compares. It is of
draft 07, the newest one that editors for TOML read. What concerns several keys at once is left to ``hauld check-config``, but
for what is missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from hauld.config.forms import ACCOUNT_NAME, DURATION, SIZE, SIZE_OR_NONE, SIZE_OR_NOTHING, Form, forms
from hauld.config.keys import TABLES, TOKEN_AUTHS
from hauld.reference.sample import topics

DRAFT = "http://json-schema.org/draft-07/schema#"

SIZES = r"\d{1,15}(\.\d{1,3})? ?([KkMmGgTt][Ii]?)?[Bb]"
PATTERNS = {
    DURATION: r"^(?!$)(\d{1,9}d)?(\d{1,9}h)?(\d{1,9}m)?(\d{1,9}(\.\d{1,3})?s)?$",
    SIZE: rf"^{SIZES}$",
    SIZE_OR_NONE: rf"^({SIZES}|none)$",
    SIZE_OR_NOTHING: rf"^({SIZES}|none)$",
}
"""What is a text to msgspec, and a number to us."""

REQUIRED = ("host", "user")
"""The keys that each account has."""

Schema = dict[str, Any]


def document(sample: str) -> Schema:
    """The whole schema; what keys mean, and their defaults, are taken from the sample configuration."""
    said = _said(sample)
    tables = {name: _table(name, made_of, said) for name, made_of in TABLES.items()}
    account, keyring, mirror = (tables[f"accounts.*{name}"] for name in ("", ".keyring", ".mirror"))
    account["properties"]["keyring"] = {"anyOf": [keyring["properties"]["backend"], keyring], **said["accounts.*.keyring"]}
    account["properties"]["mirror"] = {"anyOf": [mirror["properties"]["kind"], mirror], **said["accounts.*.mirror"]}
    account["properties"]["schedule"] = tables["accounts.*.schedule"]
    account |= {"required": [*REQUIRED], "dependencies": {"client_key": ["client_cert"]}, **_token()}
    names = {"pattern": f"^{ACCOUNT_NAME}$"}
    accounts = {"type": "object", "propertyNames": names, "additionalProperties": account}
    properties = {name: tables[name] for name in TABLES if "." not in name} | {"accounts": accounts}
    return {
        "$schema": DRAFT,
        "title": "The configuration of hauld",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def text(sample: str) -> str:
    """The schema as it is kept in a file."""
    return json.dumps(document(sample), indent=2, ensure_ascii=False) + "\n"


def _said(sample: str) -> dict[str, Schema]:
    """What each key means and what its default is, by its full name; of a table without a key of its own, by the table's."""
    said: dict[str, Schema] = {}
    for topic in topics(sample):
        words = {"description": " ".join(topic.paragraphs)} if topic.paragraphs else {}
        for key in topic.keys:
            # all that a default is in this file, TOML and JSON write alike
            said[f"{topic.table}.{key.name}"] = words | ({"default": json.loads(key.written)} if key.is_default else {})
        if not topic.keys:
            said.setdefault(topic.table, words)  # a key whose value may be that table has been told of already
    return said


def _table(name: str, made_of: type, said: Mapping[str, Schema]) -> Schema:
    """One table: its keys, and no others."""
    properties = {key: _key(form, said.get(f"{name}.{key}", {})) for key, form in forms(made_of).items()}
    return {"type": "object", **said.get(name, {}), "properties": properties, "additionalProperties": False}


def _key(form: Form, said: Schema) -> Schema:
    """One key: how its value is written, in words as well where an editor cannot list the choices."""
    words = [said.get("description", ""), "" if form.choices else f"Written as {form.words}."]
    return _value(form) | said | {"description": " ".join(filter(None, words))}


def _value(form: Form) -> Schema:
    """How a value is written. The end of a text is ``$`` in JSON Schema (ECMA 262), and something else in Python."""
    if form.choices:
        return {"enum": [*form.choices]}
    if form in PATTERNS:
        return {"type": "string", "pattern": PATTERNS[form]}
    schema: Schema = json.loads(json.dumps(msgspec.json.schema(form.wire)).replace(r"\\Z", "$"))
    return schema


def _token() -> Schema:
    """A way to sign in that takes tokens needs the command that gives them."""
    asked = {"properties": {"auth": {"enum": [*TOKEN_AUTHS]}}, "required": ["auth"]}
    return {"if": asked, "then": {"required": ["token_command"]}}


if __name__ == "__main__":
    sys.stdout.write(text(sys.stdin.read()))
