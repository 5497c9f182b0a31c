"""The contract as others' tools read it: an OpenRPC document with a JSON Schema for each type, made from ``calls.CALLS``.

``python -m haulapi.schema > docs/api/openrpc.json`` writes it anew; a test compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from haulapi import API_VERSION
from haulapi.calls import CALLS, Call
from haulapi.envelope import ErrorData
from haulapi.events import Event
from haulapi.faults import FAULTS
from haulapi.frames import MAX_BATCH, MAX_LINE

OPENRPC = "1.3.2"

ABOUT = (
    "JSON-RPC 2.0 over a Unix socket: one JSON value a line, in UTF-8. Parameters are given by name, unknown ones are refused; "
    "fields may be added to results. Any call may fail with any of the errors below components. A client that follows events "
    "is sent notifications, which x-notifications lists."
)

LINK = "#/components/schemas/{name}"

Schema = dict[str, Any]


def document() -> Schema:
    """The whole document, as JSON has it."""
    schemas = _schemas()
    return {
        "openrpc": OPENRPC,
        "info": {
            "title": "haul",
            "version": API_VERSION,
            "description": ABOUT,
            "license": {"name": "GPL-3.0-or-later", "url": "https://www.gnu.org/licenses/gpl-3.0.html"},
        },
        "methods": [_method(call, schemas) for call in CALLS.values()],
        "components": {"schemas": schemas, "errors": dict(_errors())},
        "x-notifications": [{"name": "event", "params": _link(Event)}],
        "x-limits": {"line_bytes": MAX_LINE, "batch_requests": MAX_BATCH},
    }


def text() -> str:
    """The document as it is kept in a file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _method(call: Call, schemas: Schema) -> Schema:
    wanted = schemas[call.params.__name__]
    required = wanted.get("required", [])
    params = [
        {"name": name, "required": name in required, "schema": schema} for name, schema in wanted.get("properties", {}).items()
    ]
    description = wanted.get("description")
    return {
        "name": call.method,
        "summary": call.help,
        **({"description": description} if description and params else {}),
        "paramStructure": "by-name",
        "params": sorted(params, key=lambda param: not param["required"]),  # OpenRPC wants required ones first
        "result": {"name": "result", "schema": _result(call)},
    }


def _result(call: Call) -> Schema:
    links = [_link(kind) for kind in _kinds(call.result)]
    return links[0] if len(links) == 1 else {"anyOf": links}


def _errors() -> Iterator[tuple[str, Schema]]:
    """Each kind of error, by its stable word. Its message is a sentence that differs each time."""
    for kind, fault in FAULTS.items():
        yield kind, {"code": fault.code, "message": kind.replace("_", " "), "data": _link(ErrorData)}


def _schemas() -> dict[str, Schema]:
    """A JSON Schema for every type of the contract, by its name."""
    kinds = {kind for call in CALLS.values() for kind in (call.params, *_kinds(call.result))} | {ErrorData, Event}
    _, schemas = msgspec.json.schema_components(sorted(kinds, key=lambda kind: kind.__name__), ref_template=LINK)
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
    return dict(sorted(schemas.items()))


def _kinds(result: Any) -> tuple[Any, ...]:
    """The struct that a call gives, or the structs of which it gives one."""
    return get_args(result) or (result,)


def _link(kind: Any) -> Schema:
    return {"$ref": LINK.format(name=kind.__name__)}


if __name__ == "__main__":
    sys.stdout.write(text())
