"""Commands that act: make a job, start it, have it compare, try a sign-in."""

from __future__ import annotations

import time

import click

from haulapi.calls import AccountParams, AccountTest, CreateParams, Job, JobParams, WantedStrategy
from haulapi.faults import Exit
from haulctl import bars, completions, output, show
from haulctl.options import Command, settings
from haulctl.wait import outcome, until_ended

SIGN_IN_PATIENCE = 300.0
"""Seconds for a sign-in and a list of folders; the daemon has limits of its own below this."""

STRATEGIES = ("full", "inbox-only", "selected-folders", "unseen", "date-range", "search")
"""What is offered. Whatever is given goes to the daemon, which knows what it can do."""


@click.command(
    cls=Command,
    examples=["haulctl create work --wait", "haulctl create work --folder 'Projects/*' --exclude '*/Old' --once"],
)
@click.argument("account", shell_complete=completions.accounts)
@click.option(
    "--strategy",
    metavar="KIND",
    default="full",
    shell_complete=completions.words(*STRATEGIES),
    help=f"Which items: {', '.join(STRATEGIES)}. Default: full.",
)
@click.option("--folder", "folders", metavar="GLOB", multiple=True, help="Only folders like that; may be repeated.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="But not folders like that; may be repeated.")
@click.option("--since", metavar="DATE", help="Received on that day (2026-01-31, UTC) or later.")
@click.option("--before", metavar="DATE", help="Received before that day.")
@click.option("--from", "sender", metavar="TEXT", help="Text in the From field.")
@click.option("--to", metavar="TEXT", help="Text in the To field.")
@click.option("--subject", metavar="TEXT", help="Text in the subject.")
@click.option("--once", is_flag=True, help="End when all is there, instead of watching for more.")
@click.option(
    "--priority", metavar="N", type=click.IntRange(1, 3), default=2, help="1 urgent, 2 normal (default), 3 background."
)
@click.option("--requester", metavar="TEXT", help="Who asks, for the record.")
@click.option("--no-start", is_flag=True, help="Leave it pending until haulctl start.")
@click.option("--dry-run", is_flag=True, help="Make nothing; tell what it would fetch.")
@click.option("--wait", is_flag=True, help="Show progress until it ends; its outcome is the exit code.")
def create(
    account: str,
    strategy: str,
    folders: tuple[str, ...],
    exclude: tuple[str, ...],
    since: str | None,
    before: str | None,
    sender: str | None,
    to: str | None,
    subject: str | None,
    once: bool,
    priority: int,
    requester: str | None,
    no_start: bool,
    dry_run: bool,
    wait: bool,
) -> Exit:
    """Make a job: a complete copy of an account, kept current.

    With --wait, the exit code is 0 when everything is there, 8 when some items failed, 7 when the sign-in was refused, 1
    otherwise. Interrupting ends the waiting, not the job.
    """
    if wait and (no_start or dry_run):
        raise click.UsageError("--wait has nothing to wait for with --no-start or --dry-run.")
    wanted = CreateParams(
        account=account,
        strategy=WantedStrategy(
            kind=strategy,
            folders=list(folders),
            exclude=list(exclude),
            since=since,
            before=before,
            sender=sender,
            to=to,
            subject=subject,
        ),
        live=not once,
        priority=priority,
        requester=requester,
        start=not no_start,
        dry_run=dry_run,
    )
    if wait:
        return _create_and_wait(wanted)
    output.answer("jobs.create", wanted, lambda job: [show.would_fetch(job) if dry_run else show.created(job)])
    return Exit.OK


@click.command(cls=Command, examples=["haulctl start job_k3x9"])
@click.argument("job", shell_complete=completions.jobs)
def start(job: str) -> None:
    """Start a job, or resume a paused or failed one (also: resume)."""
    output.answer("jobs.start", JobParams(job=job), lambda result: [show.acted(result, "started")])


@click.command(cls=Command, examples=["haulctl sync job_k3x9"])
@click.argument("job", shell_complete=completions.jobs)
def sync(job: str) -> None:
    """Compare a job with its origin now, not only when it is due."""
    output.answer("jobs.sync", JobParams(job=job), lambda result: [show.acted(result, "compares with its origin")])


@click.command(cls=Command, examples=["haulctl test work"])
@click.argument("name", shell_complete=completions.accounts)
def test(name: str) -> None:
    """Sign in to an account and list its folders, changing nothing."""

    def screen(result: AccountTest) -> list[str]:
        return list(show.tested(result, output.width()))

    output.answer("accounts.test", AccountParams(account=name), screen, patience=SIGN_IN_PATIENCE)


def _create_and_wait(wanted: CreateParams) -> Exit:
    """Make the job and show its progress until it ends; how it ended is the result."""
    with settings().connect() as client:
        made: Job = client.call("jobs.create", wanted)
    began = time.monotonic()
    try:
        with bars.view() as view:
            ended = until_ended(made.id, settings().connect, view)
    except KeyboardInterrupt:
        output.say(f"{made.id} goes on in the daemon. See how far it is: haulctl show {made.id}")
        return Exit.INTERRUPTED
    output.value(ended, [show.ended(ended, time.monotonic() - began)])
    return outcome(ended)
