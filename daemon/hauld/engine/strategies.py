"""The strategies that can be asked for, whoever asks: a client for a job, or the configuration."""

from __future__ import annotations

from haulapi import calls
from hauld.errors import Refused
from hauld.model import Strategy

STRATEGIES = {
    "full": "full",
    "full-sync": "full",
    "inbox-only": "inbox-only",
    "selected-folders": "selected-folders",
    "unseen": "unseen",
    "new-only": "unseen",
    "date-range": "date-range",
    "search": "search",
}
"""The names of strategies that are accepted, and the names they are kept under."""

TAKES = {
    "full": frozenset({"folders"}),
    "inbox-only": frozenset(),
    "selected-folders": frozenset({"folders"}),
    "unseen": frozenset({"folders"}),
    "date-range": frozenset({"folders", "since", "before"}),
    "search": frozenset({"folders", "sender", "to", "subject"}),
}
"""What each strategy takes beside ``exclude``."""

NEEDS = {
    "selected-folders": frozenset({"folders"}),
    "date-range": frozenset({"since", "before"}),
    "search": frozenset({"sender", "to", "subject"}),
}
"""At least one of these."""


def accepted(asked: calls.Strategy) -> Strategy:
    """The strategy asked for, checked; raises ``Refused`` for one that makes no sense."""
    kind = STRATEGIES.get(asked.kind)
    if kind is None:
        known = ", ".join(TAKES)
        raise Refused("invalid_params", f"There is no strategy {asked.kind!r}.", hint=f"There are: {known}.")
    given = {name for name in ("folders", "since", "before", "sender", "to", "subject") if getattr(asked, name)}
    unused = sorted(given - TAKES[kind])
    if unused:
        words = " or ".join("from" if name == "sender" else name for name in unused)
        raise Refused("invalid_params", f"The strategy {kind!r} takes no {words}.")
    for needed, any_of in NEEDS.items():
        if kind == needed and not given & any_of:
            words = " or ".join("from" if name == "sender" else name for name in sorted(any_of))
            raise Refused("invalid_params", f"The strategy {kind!r} needs {words}.")
    folders = ("INBOX",) if kind == "inbox-only" else tuple(asked.folders)
    strategy = Strategy(
        kind,
        folders,
        tuple(asked.exclude),
        since=asked.since,
        before=asked.before,
        sender=asked.sender,
        to=asked.to,
        subject=asked.subject,
    )
    try:
        dates = strategy.dates
    except ValueError as error:
        raise Refused("invalid_params", f"{error}.", hint="Days are written as 2026-01-31 and begin at midnight UTC.") from None
    if dates.since is not None and dates.before is not None and dates.since >= dates.before:
        raise Refused("invalid_params", f"No day is from {asked.since} on and before {asked.before}.")
    return strategy
