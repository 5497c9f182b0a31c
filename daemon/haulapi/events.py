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
