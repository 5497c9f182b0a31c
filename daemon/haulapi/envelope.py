"""JSON-RPC 2.0 envelopes (https://www.jsonrpc.org/specification), as structs."""

from __future__ import annotations

from typing import Any

import msgspec

Id = int | str | None


class Request(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A call, or a notification when ``id`` is absent (then nothing is answered, not even an error)."""

    jsonrpc: str
    method: str
    params: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    id: Id | msgspec.UnsetType = msgspec.UNSET


class ErrorData(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a person and a script need of an error: a stable word, what to do, and when it is tried again."""

    kind: str
    hint: str | None = None
    retry_at: str | None = None
    candidates: list[str] | None = None


class ErrorObject(msgspec.Struct, kw_only=True):
    """``code`` is from ``faults.FAULTS``; ``message`` says what failed and why, never a secret or a traceback."""

    code: int
    message: str
    data: ErrorData


class Reply(msgspec.Struct, kw_only=True):
    """A result. ``id`` is the request's."""

    id: Id
    result: Any
    jsonrpc: str = "2.0"


class ErrorReply(msgspec.Struct, kw_only=True):
    """An error. ``id`` is null where the request's could not be read."""

    id: Id
    error: ErrorObject
    jsonrpc: str = "2.0"
