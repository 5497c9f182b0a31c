"""The command that looks at all that may be wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

import click
import msgspec

from haulapi.calls import Check, Diagnosis, DoctorParams
from haulapi.faults import Exit
from haulctl import completions, output, show
from haulctl.client import UNREADABLE
from haulctl.failure import Unreachable
from haulctl.options import Command, settings

PATIENCE = 600.0
"""Seconds; each account may take 30, and four are looked at at once."""


@click.command(cls=Command, examples=["haulctl doctor", "haulctl doctor work -o json"])
@click.argument("account", required=False, shell_complete=completions.accounts)
def doctor(account: str | None) -> Exit:
    """Look at all that may be wrong, and tell what to do.

    The configuration, directories, disk space, clock and limits; then of each account the secret, the name, the connection,
    TLS, the sign-in and the folders. Nothing is changed, and each account is signed in to once at most: not at all where it is
    known that its sign-in is refused. Without a running daemon, 'hauld doctor' looks with your own rights instead. The exit
    code is 3 without a daemon, else 78 when the configuration is wrong, 7 when a sign-in was refused, 1 when anything else
    failed, and 0 where there are warnings only.
    """
    try:
        with settings().connect() as client:
            found: Diagnosis = client.call("daemon.doctor", DoctorParams(account=account), patience=PATIENCE)
    except Unreachable as failure:
        found = Diagnosis(checks=[_not_there(failure), *_without_daemon(account)])
    output.value(found, show.diagnosed(found, output.width(), marks(sys.stdout.isatty(), sys.stdout.encoding)), each="checks")
    return outcome(found)


def marks(terminal: bool, encoding: str | None) -> dict[str, str]:
    """What a line begins with, by the status of its check: a mark where people look, a word where programs do."""
    if not terminal or os.environ.get("NO_COLOR"):
        return {"ok": "ok", "warning": "warning", "failed": "failed", "skipped": "skipped"}
    if "utf" in (encoding or "").lower():
        return {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "-"}
    return {"ok": "+", "warning": "!", "failed": "x", "skipped": "-"}


def outcome(found: Diagnosis) -> Exit:
    """The exit code: of what failed, the daemon first, then the configuration, then a refused sign-in."""
    failed = [check for check in found.checks if check.status == "failed"]
    if any(check.name == "daemon" for check in failed):
        return Exit.UNREACHABLE
    if any(check.name == "configuration" for check in failed):
        return Exit.CONFIGURATION
    if any(check.kind == "sign-in" for check in failed):
        return Exit.SIGN_IN_REFUSED
    return Exit.FAILURE if failed else Exit.OK


def _not_there(failure: Unreachable) -> Check:
    return Check(name="daemon", status="failed", message=failure.message, hint=failure.hint, kind="unreachable")


def _without_daemon(account: str | None) -> Sequence[Check]:
    """What the daemon's own program finds, with the rights of who asks."""
    program = _hauld()
    if program is None:
        message = "nothing else is checked: hauld is not installed where haulctl is, nor on the PATH"
        return [Check(name="hauld", status="failed", message=message, hint="Install the package that hauld is in.")]
    try:
        command = [program, "doctor", "--json", *([account] if account else [])]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE)
        found = msgspec.json.decode(ended.stdout, type=Diagnosis)
    except (OSError, subprocess.TimeoutExpired, *UNREADABLE) as error:
        message = f"{program} doctor tells nothing that can be understood: {error}"
        return [Check(name="hauld", status="failed", message=message, hint="Run it by hand: hauld doctor")]
    return found.checks


def _hauld() -> str | None:
    """The program of the daemon: that beside this one, else the first on the PATH."""
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "hauld")
    return beside if os.access(beside, os.X_OK) else shutil.which("hauld")
