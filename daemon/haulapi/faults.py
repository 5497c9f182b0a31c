"""What can go wrong, in one table: the stable word, the JSON-RPC code, and the exit code of ``haulctl`` and ``hauld``."""

from __future__ import annotations

from enum import IntEnum

import msgspec


class Exit(IntEnum):
    """Exit codes, the same for ``haulctl`` and ``hauld``; scripts rely on them."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    TRY_AGAIN = 5
    WRONG_STATE = 6
    SIGN_IN_REFUSED = 7
    PARTLY_FAILED = 8
    CONFIGURATION = 78
    INTERRUPTED = 130


class Fault(msgspec.Struct, frozen=True):
    """One kind of failure on the wire."""

    kind: str
    code: int
    exit: Exit


FAULTS = {
    fault.kind: fault
    for fault in (
        Fault("parse_error", -32700, Exit.FAILURE),
        Fault("invalid_request", -32600, Exit.FAILURE),
        Fault("method_not_found", -32601, Exit.FAILURE),
        Fault("invalid_params", -32602, Exit.USAGE),
        Fault("internal", -32603, Exit.FAILURE),
        Fault("not_found", -32001, Exit.NOT_FOUND),
        Fault("ambiguous", -32002, Exit.USAGE),
        Fault("wrong_state", -32003, Exit.WRONG_STATE),
        Fault("try_again", -32004, Exit.TRY_AGAIN),
        Fault("sign_in_refused", -32005, Exit.SIGN_IN_REFUSED),
        Fault("configuration", -32006, Exit.CONFIGURATION),
        Fault("forbidden", -32007, Exit.FAILURE),
        Fault("too_many", -32008, Exit.TRY_AGAIN),
        Fault("version", -32009, Exit.FAILURE),
        Fault("events_gone", -32010, Exit.FAILURE),
        Fault("failed", -32011, Exit.FAILURE),
    )
}
"""Every kind an error's ``data.kind`` can have."""


def fault(kind: str) -> Fault:
    """The fault of that kind; an unknown kind (from a newer daemon) is a plain failure."""
    return FAULTS.get(kind, FAULTS["failed"])
