"""Why a command ends without what it was asked for, and what to do where the daemon does not say."""

from __future__ import annotations

from collections.abc import Sequence

from haulapi.faults import Exit

NOT_AS_AGREED = "Install haulctl and hauld of the same release, and restart hauld. Should it come again, please report a bug."
BY_ITSELF = "It is tried again by itself. To try now: haulctl sync JOB"

HINTS = {
    # what a call is refused with (haulapi.faults)
    "parse_error": NOT_AS_AGREED,
    "invalid_request": NOT_AS_AGREED,
    "method_not_found": NOT_AS_AGREED,
    "version": NOT_AS_AGREED,
    "invalid_params": "What a command takes is told by: haulctl COMMAND --help",
    "internal": "Its log says more: journalctl -u hauld. If it comes again, please report it as a bug, with those lines.",
    "not_found": "See what there is: haulctl list, haulctl accounts",
    "ambiguous": "Give more of the id.",
    "wrong_state": "See how the job stands: haulctl show JOB",
    "try_again": "Try again in a moment. What is wrong is told by: haulctl status",
    "sign_in_refused": "Check user and password of the account in the configuration, then: haulctl start JOB",
    "configuration": "Mend the configuration (hauld check-config tells what is wrong), then: haulctl reload",
    "forbidden": "An administrator can let you in: usermod -aG haul YOU, then log in again.",
    "too_many": "Close some clients, or try again in a moment.",
    "events_gone": "Look at everything anew: haulctl status",
    "failed": "What else is wrong is told by: haulctl status. The log says more: journalctl -u hauld",
    # why an account, a job or a folder waits or has failed
    "abandoned": BY_ITSELF,
    "closed": BY_ITSELF,
    "epoch": BY_ITSELF,
    "protocol": BY_ITSELF,
    "stalled": BY_ITSELF,
    "stale": BY_ITSELF,
    "throttled": "Nothing is to be done: it goes on by itself then.",
    "too-many-connections": "It is tried again by itself. Close other mail programs, or give the account fewer connections.",
    "unavailable": "The server is tried again by itself; its own status page may say more.",
    "network": "Check host, port and your network. It is tried again by itself.",
    "timeout": "Check host, port and your network, or give the account a longer timeout. It is tried again by itself.",
    "tls": 'Check the account\'s port and tls ("implicit" is usual on port 993, "starttls" on 143).',
    "tls-required": 'Set tls = "implicit" or "starttls" for the account.',
    "certificate": "Check host and port; for a server with a certificate of its own, name that in ca_file.",
    "sign-in": "Check user and password of the account in the configuration, then: haulctl start JOB",
    "secret": "Check what gives the account's password or token by running it by hand, then: haulctl start JOB",
    "push": "New mail comes by the account's schedule instead; a shorter one for the inbox brings it sooner.",
    "folder": "Which ones and why is told by: haulctl folders JOB",
    "disk": "Check the disk: df, and the kernel's log. Work goes on by itself once it can be written to.",
    "locked": "Another program has the ledger open: end it. Work goes on by itself then.",
}
"""What to do, by the kind of an error, where the daemon gives no hint of its own."""


class Failure(Exception):
    """``message`` says what failed and why, ``hint`` what to do; ``exit`` is what the process ends with. ``kind`` is the
    daemon's word for it (``haulapi.faults``), or None where it never reached the daemon. ``retry_at`` is RFC 3339."""

    def __init__(
        self,
        exit: Exit,  # noqa: A002 - the word that haulapi.faults has for it
        message: str,
        *,
        hint: str | None = None,
        kind: str | None = None,
        retry_at: str | None = None,
        candidates: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.exit = exit
        self.message = message
        self.hint = hint
        self.kind = kind
        self.retry_at = retry_at
        self.candidates = candidates


class Unreachable(Failure):
    """The daemon cannot be spoken to now, though perhaps soon: it is not running, went away, or does not answer."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(Exit.UNREACHABLE, message, hint=hint)
