"""Numbered facts, as they go over the wire."""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, kw_only=True):
    """``number`` grows in commit order and is never reused; ``kind`` is ``item.stored``, ``item.failed``, ``job.status``,
    ``folder.listed``, ``account.state``, ...; stored items come a group at a time."""

    number: int
    time: str
    kind: str
    job: str | None = None
    folder: str | None = None
    data: dict[str, Any] = {}


class EventNotice(msgspec.Struct, kw_only=True):
    """The notification in which an event comes: a line without ``id``. Data that no line can hold are left out."""

    params: Event
    method: str = "event"
    jsonrpc: str = "2.0"
