"""What the doctor found, for a person without a daemon to ask, and for a script."""

from __future__ import annotations

from collections.abc import Iterator

from haulapi.calls import Diagnosis
from haulapi.faults import Exit
from hauld.logs import printable

WORDS = {"ok": "ok", "warning": "warning", "failed": "failed", "skipped": "-"}


def lines_of(found: Diagnosis) -> Iterator[str]:
    """A line for each check, and one below it for what to do."""
    for check in found.checks:
        whose = f"{check.account}: " if check.account else ""
        yield printable(f"{WORDS.get(check.status, check.status):<8} {whose}{check.name}: {check.message}")
        if check.hint and check.status != "ok":
            yield printable(f"{'':<8}   {check.hint}")


def exit_of(found: Diagnosis) -> Exit:
    """The exit code: of what failed, the configuration first, then a refused sign-in."""
    kinds = {check.kind for check in found.checks if check.status == "failed"}
    if "configuration" in {check.name for check in found.checks if check.status == "failed"}:
        return Exit.CONFIGURATION
    if "sign-in" in kinds:
        return Exit.SIGN_IN_REFUSED
    return Exit.FAILURE if kinds else Exit.OK
