"""Commands that act: make a job, start and stop it, have it compare, mend it, forget it, try a sign-in."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence

import click

from haulapi.calls import (
    AccountParams,
    AccountTest,
    CreateParams,
    DeleteParams,
    Job,
    JobParams,
    Preview,
    RetryParams,
    WantedStrategy,
)
from haulapi.faults import Exit
from haulctl import bars, completions, matching, output, show
from haulctl.asking import confirmed
from haulctl.client import read_as
from haulctl.failure import HINTS, Failure
from haulctl.follow import Doorbell
from haulctl.options import Command, settings
from haulctl.wait import outcome, until_ended
from haulctl.words import counted

SIGN_IN_PATIENCE = 300.0
"""Seconds for a sign-in and a list of folders; the daemon has limits of its own below this."""

STOP_PATIENCE = 300.0
"""Seconds for what is being committed to be finished."""

STRATEGIES = ("full", "inbox-only", "selected-folders", "unseen", "date-range", "search")
"""What is offered. Whatever is given goes to the daemon, which knows what it can do."""


@click.command(
    cls=Command,
    examples=[
        "haulctl create work --wait",
        "haulctl create work --folder 'Projects/*' --exclude '*/Old' --once",
        "haulctl create work --since 2026-01-01 --before 2026-02-01 --dry-run",
        "haulctl create work --from alice@example.org --once",
    ],
)
@click.argument("account", shell_complete=completions.accounts)
@click.option(
    "--strategy",
    metavar="KIND",
    shell_complete=completions.words(*STRATEGIES),
    help=f"Which items: {', '.join(STRATEGIES)}. Default: what the options below ask for, else full.",
)
@click.option(
    "--folder",
    "folders",
    metavar="GLOB",
    multiple=True,
    help="Only folders like that; may be repeated. Alone: selected-folders.",
)
@click.option("--exclude", metavar="GLOB", multiple=True, help="But not folders like that; may be repeated.")
@click.option("--since", metavar="DATE", help="Received on that day (2026-01-31, UTC) or later: date-range.")
@click.option("--before", metavar="DATE", help="Received before that day: date-range.")
@click.option("--from", "sender", metavar="TEXT", help="Text in the From field: search.")
@click.option("--to", metavar="TEXT", help="Text in the To field: search.")
@click.option("--subject", metavar="TEXT", help="Text in the subject: search.")
@click.option("--once", is_flag=True, help="End when all is there, instead of watching for more.")
@click.option(
    "--priority", metavar="N", type=click.IntRange(1, 3), default=2, help="1 urgent, 2 normal (default), 3 background."
)
@click.option(
    "--attempts",
    metavar="N",
    type=click.IntRange(1, 100),
    help="Ask so often for an item before it is failed. Default: what the configuration says.",
)
@click.option("--requester", metavar="TEXT", help="Who asks, for the record.")
@click.option("--no-start", is_flag=True, help="Leave it pending until haulctl start.")
@click.option("--dry-run", is_flag=True, help="Make nothing; tell what it would fetch.")
@click.option("--wait", is_flag=True, help="Show progress until it ends; its outcome is the exit code.")
def create(
    account: str,
    strategy: str | None,
    folders: tuple[str, ...],
    exclude: tuple[str, ...],
    since: str | None,
    before: str | None,
    sender: str | None,
    to: str | None,
    subject: str | None,
    once: bool,
    priority: int,
    attempts: int | None,
    requester: str | None,
    no_start: bool,
    dry_run: bool,
    wait: bool,
) -> Exit:
    """Make a job: a complete copy of an account, kept current.

    With --wait, the exit code is 0 when everything is there, 8 when some items failed, 7 when the sign-in was refused, 4 when
    no folder is as asked for (with --dry-run, too), 1 otherwise. Interrupting ends the waiting, not the job.
    """
    if wait and (no_start or dry_run):
        raise click.UsageError("--wait has nothing to wait for with --no-start or --dry-run.")
    wanted = CreateParams(
        account=account,
        strategy=WantedStrategy(
            kind=strategy or _implied(folders, dates=(since, before), texts=(sender, to, subject)),
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
        attempts=attempts,
        requester=requester,
        start=not no_start,
        dry_run=dry_run,
    )
    if wait:
        return _create_and_wait(wanted)
    if dry_run:
        return _preview(wanted)
    output.answer("jobs.create", wanted, lambda job: show.created(job, output.width()), kind=Job)
    return Exit.OK


@click.command(cls=Command, examples=["haulctl start job_k3x9"])
@click.argument("job", shell_complete=completions.jobs)
def start(job: str) -> None:
    """Start a job, or resume a paused or failed one (also: resume)."""
    output.answer("jobs.start", JobParams(job=job), _told("started"))


@click.command(cls=Command, examples=["haulctl pause job_k3x9"])
@click.argument("job", shell_complete=completions.jobs)
def pause(job: str) -> None:
    """Stop a job until it is started again.

    What is being stored is finished first; the command ends when that is done.
    """
    output.answer("jobs.pause", JobParams(job=job), _told("stopped"), patience=STOP_PATIENCE)


@click.command(cls=Command, examples=["haulctl cancel job_k3x9"])
@click.argument("job", shell_complete=completions.jobs)
def cancel(job: str) -> None:
    """Stop a job for good. What it stored stays."""
    output.answer("jobs.cancel", JobParams(job=job), _told("ended"), patience=STOP_PATIENCE)


@click.command(cls=Command, examples=["haulctl delete job_k3x9", "haulctl delete job_k3x9 --purge --yes"])
@click.argument("job", shell_complete=completions.jobs)
@click.option("--purge", is_flag=True, help="Remove its files, too, but for those that another job wants.")
@click.option("--yes", is_flag=True, help="Purge without asking first, as is done where there is no terminal to ask on.")
def delete(job: str, purge: bool, yes: bool) -> Exit:
    """Forget a job. Its files stay, unless they are purged.

    The same job made again finds what is stored and skips it. What was purged is fetched again, where the origin still has it.
    """
    if purge and not yes and sys.stdin.isatty() and sys.stderr.isatty():
        with settings().connect() as client:
            seen: Job = client.call("jobs.get", JobParams(job=job))
        if not confirmed(show.asks_to_purge(seen, output.width())):
            output.say("Nothing was deleted.")
            return Exit.FAILURE
        job = seen.id  # what was asked about, whatever else the beginning of an id fits by now
    wanted = DeleteParams(job=job, purge=purge)
    output.answer("jobs.delete", wanted, lambda result: show.deleted(result, purge, output.width()), patience=STOP_PATIENCE)
    return Exit.OK


@click.command(cls=Command, examples=["haulctl retry job_k3x9", "haulctl retry job_k3x9 --item 4711"])
@click.argument("job", shell_complete=completions.jobs)
@click.option(
    "--item", "items", metavar="ID", type=int, multiple=True, help="Only that item; may be repeated. See: haulctl items JOB."
)
def retry(job: str, items: tuple[int, ...]) -> None:
    """Ask for failed items of a job again, all or some."""
    what = f"asks again for {counted(len(items), 'item')}" if items else "asks again for what failed"
    wanted = RetryParams(job=job, items=list(items) or None)
    output.answer("jobs.retry", wanted, _told(what))


@click.command(cls=Command, examples=["haulctl sync job_k3x9"])
@click.argument("job", shell_complete=completions.jobs)
def sync(job: str) -> None:
    """Compare a job with its origin now, not only when it is due."""
    output.answer("jobs.sync", JobParams(job=job), _told("compares with its origin"))


@click.command(cls=Command, examples=["haulctl test work"])
@click.argument("name", shell_complete=completions.accounts)
def test(name: str) -> None:
    """Sign in to an account and list its folders, changing nothing."""

    def screen(result: AccountTest) -> list[str]:
        return list(show.tested(result, output.width()))

    output.answer("accounts.test", AccountParams(account=name), screen, patience=SIGN_IN_PATIENCE)


def _told(what: str) -> Callable[[Job], Iterable[str]]:
    """The screen that says what became of a job that was acted on."""
    return lambda job: show.acted(job, what, output.width())


def _implied(folders: Sequence[str], dates: Sequence[str | None], texts: Sequence[str | None]) -> str:
    """The strategy that the filters ask for, where none is named. The daemon knows which go together."""
    if any(each is not None for each in texts):
        return "search"
    if any(each is not None for each in dates):
        return "date-range"
    return "selected-folders" if folders else "full"


def _preview(wanted: CreateParams) -> Exit:
    """Tell what the job would fetch, and of what it would find no folder."""
    raw = output.answer(
        "jobs.create", wanted, lambda preview: show.preview(preview, output.width()), kind=Preview, patience=SIGN_IN_PATIENCE
    )
    missed = matching.missed_by(settings().connect, read_as("jobs.create", raw, Preview))
    if missed is None:
        return Exit.OK
    output.say_failure(missed)
    return missed.exit


def _create_and_wait(wanted: CreateParams) -> Exit:
    """Make the job and show its progress until it ends; how it ended is the result."""
    with settings().connect() as client:
        made: Job = read_as("jobs.create", client.ask("jobs.create", wanted), Job)
    return wait_for(made.id)


def wait_for(job: str) -> Exit:
    """Show the progress of a job until it ends; how it ended is the result."""
    began = time.monotonic()
    try:
        with bars.view() as view, Doorbell(settings().connect, job) as bell:
            ended = until_ended(job, settings().connect, view, pause=bell.wait)
    except KeyboardInterrupt:
        output.say(f"{job} goes on in the daemon. See how far it is: haulctl show {job}")
        return Exit.INTERRUPTED
    output.value(ended, show.ended(ended, time.monotonic() - began, output.width()))
    code = outcome(ended)
    if ended.error is not None:
        output.say_failure(Failure(code, ended.error.message, hint=ended.error.hint or HINTS.get(ended.error.kind)))
    if missed := matching.missed_by(settings().connect, ended):
        output.say_failure(missed)
        return code or missed.exit
    return code
