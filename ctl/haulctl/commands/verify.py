"""The command that has what is stored read again and compared."""

from __future__ import annotations

import time

import click
from msgspec.structs import replace

from haulapi.calls import Verification, VerifyParams, VerifyStatusParams
from haulapi.faults import Exit
from haulctl import completions, output, verifying
from haulctl.client import Client
from haulctl.failure import HINTS, Failure
from haulctl.options import Command, settings

LOOK_EVERY = 0.25
"""Seconds between two looks at how far it is."""


@click.command(cls=Command, examples=["haulctl verify", "haulctl verify work --origin --repair"])
@click.argument("account", required=False, shell_complete=completions.accounts)
@click.option("--repair", is_flag=True, help="Fetch again what is damaged or missing and the origin still has.")
@click.option("--origin", is_flag=True, help="Compare with the origin's own lists first.")
@click.option("--no-wait", is_flag=True, help="Begin it, and do not wait for its end.")
def verify(account: str | None, repair: bool, origin: bool, no_wait: bool) -> Exit:
    """Read again what is stored, and tell what is damaged or missing.

    Each folder is told to be complete, or what is missing and why. Nothing is changed without --repair, and files that haul
    does not know are told and never deleted. The exit code is 0 when all is sound and complete, 8 when something is damaged,
    missing or not there, 1 when it could not be done. Interrupting ends the waiting, not the verification.
    """
    wanted = VerifyParams(account=account, repair=repair, origin=origin)
    with settings().connect() as client:
        found = _begin(client, wanted)
        if no_wait:
            output.value(found, [verifying.started(found)])
            return Exit.OK
        try:
            found = _until_over(client)
        except KeyboardInterrupt:
            output.say("The verification goes on in the daemon. See how far it is, with the same options: haulctl verify")
            return Exit.INTERRUPTED
    output.value(found, verifying.screen(found, output.width()))
    if found.error is not None:
        hint = found.error.hint or HINTS.get(found.error.kind)
        output.say_failure(Failure(verifying.outcome(found), found.error.message, hint=hint))
    return verifying.outcome(found)


def _begin(client: Client, wanted: VerifyParams) -> Verification:
    """The verification as it begins, or the one that runs where it is the same."""
    try:
        begun: Verification = client.call("verify.start", wanted)
    except Failure as failure:
        if failure.kind != "wrong_state":
            raise
        running: Verification = client.call("verify.status", VerifyStatusParams(limit=1))
        asked = VerifyParams(account=running.account, repair=running.repair, origin=running.origin)
        if running.status != "running" or asked != wanted:
            raise
        output.say("The same verification is running already; this is how far it is.")
        return running
    return begun


def _until_over(client: Client) -> Verification:
    """The verification at its end, with all of its folders."""
    with verifying.view() as view:
        while True:
            found: Verification = client.call("verify.status", VerifyStatusParams(limit=1))
            if found.status != "running":
                return _whole(client)
            view.show(found)
            time.sleep(LOOK_EVERY)


def _whole(client: Client) -> Verification:
    """The last verification with the folders of every page."""
    first: Verification = client.call("verify.status", VerifyStatusParams())
    folders = list(first.folders)
    page = first
    while page.next is not None:
        page = client.call("verify.status", VerifyStatusParams(after=page.next))
        folders += page.folders
    return replace(first, folders=folders, next=None)
