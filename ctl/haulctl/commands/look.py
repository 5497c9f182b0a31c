"""Commands that look and change nothing."""

from __future__ import annotations

from collections.abc import Iterable

import click

from haulapi.calls import (
    Account,
    AccountList,
    AccountParams,
    DaemonStatus,
    FolderList,
    FolderListParams,
    ItemList,
    ItemListParams,
    Job,
    JobList,
    JobListParams,
    JobParams,
    NoParams,
    Verification,
    VerifyStatusParams,
)
from haulctl import completions, matching, output, show
from haulctl.options import Command, settings
from haulctl.words import now

PAGE = 100
"""Rows of a table, where nothing else is said."""

WHOLE_PAGE = 500
"""Elements asked for at once where all are wanted."""

JOB_STATUSES = ("pending", "running", "paused", "completed", "failed", "cancelled")
ITEM_STATUSES = ("pending", "completed", "failed", "skipped")


@click.command(cls=Command, examples=["haulctl status"])
def status() -> None:
    """One screen: the daemon, accounts, jobs, and what is wrong."""

    from haulctl import verifying

    def screen(daemon: DaemonStatus) -> Iterable[str]:
        with settings().connect() as client:
            recent: JobList = client.call("jobs.list", JobListParams(limit=PAGE))
            verified: Verification = client.call("verify.status", VerifyStatusParams(limit=1))
        yield from show.status(daemon, [job for job in recent.jobs if _needs_a_look(job)], output.width(), now())
        if mentioned := verifying.mention(verified, now()):
            yield from ("", mentioned)

    output.answer("daemon.status", NoParams(), screen)


@click.command(cls=Command, examples=["haulctl accounts"])
def accounts() -> None:
    """List the configured accounts and how they are."""

    def screen(result: AccountList) -> Iterable[str]:
        if not result.accounts:
            output.say("No account is configured yet. Add one to haul.toml, then: haulctl reload")
            return ()
        return show.accounts(result.accounts, output.width(), now())

    output.answer("accounts.list", NoParams(), screen, each="accounts")


@click.command(cls=Command, examples=["haulctl account work"])
@click.argument("name", shell_complete=completions.accounts)
def account(name: str) -> None:
    """Show one account: its state, and why it is so."""

    def screen(result: Account) -> Iterable[str]:
        return show.account(result, output.width(), now())

    output.answer("accounts.get", AccountParams(account=name), screen)


@click.command("list", cls=Command, examples=["haulctl list", "haulctl list --status failed -o jsonl | jq -r .id"])
@click.option("--status", type=click.Choice(JOB_STATUSES), help="Only jobs of that status.")
@click.option("--account", metavar="NAME", shell_complete=completions.accounts, help="Only jobs on that account.")
def list_jobs(status: str | None, account: str | None) -> None:
    """List jobs, newest first."""

    def screen(result: JobList) -> Iterable[str]:
        if not result.jobs:
            output.say("No job is like that." if status or account else "There is no job yet. Make one: haulctl create ACCOUNT")
            return ()
        if result.next:
            output.say("There are more: -o jsonl gives all of them.")
        return show.jobs(result.jobs, output.width(), now())

    output.answer("jobs.list", JobListParams(status=status, account=account, limit=PAGE), screen, each="jobs")


@click.command("show", cls=Command, examples=["haulctl show job_k3x9", "haulctl show k3x9 --json"])
@click.argument("job", shell_complete=completions.jobs)
def show_job(job: str) -> None:
    """Show one job: what it wants, how far it is, what hinders it."""

    def screen(result: Job) -> Iterable[str]:
        yield from show.job(result, output.width(), now())
        if missed := matching.missed_by(settings().connect, result):
            output.say_failure(missed)

    output.answer("jobs.get", JobParams(job=job), screen)


@click.command(cls=Command, examples=["haulctl folders job_k3x9"])
@click.argument("job", shell_complete=completions.jobs)
def folders(job: str) -> None:
    """List the folders of a job and how far each is."""

    def screen(result: FolderList) -> Iterable[str]:
        if result.folders:
            return show.folders(result.folders, output.width(), now())
        of = _job(job)
        if missed := matching.missed_by(settings().connect, of):
            output.say_failure(missed)
        elif matching.is_listed(of):
            output.say("There is no folder: the origin has none that can be copied.")
        else:
            output.say("No folder is known yet: the origin has not been listed.")
        return ()

    output.answer("folders.list", FolderListParams(job=job), screen, each="folders", all_pages=True)


@click.command(
    cls=Command,
    examples=["haulctl items job_k3x9 --status failed", "haulctl items job_k3x9 --folder INBOX -o jsonl > inbox.jsonl"],
)
@click.argument("job", shell_complete=completions.jobs)
@click.option("--status", type=click.Choice(ITEM_STATUSES), help="Only items of that status.")
@click.option("--folder", metavar="NAME", shell_complete=completions.folders, help="Only items of that folder.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"So many. Default: {PAGE}, with -o jsonl all.")
def items(job: str, status: str | None, folder: str | None, limit: int | None) -> None:
    """List the items of a job: where each is, or why it is not."""

    def screen(result: ItemList) -> Iterable[str]:
        if not result.items:
            output.say(_no_item(job, filtered=bool(status or folder)))
            return ()
        if result.next:
            output.say(f"These are the first {len(result.items)}: --limit gives more, -o jsonl all of them.")
        return show.items(result.items, output.width(), now())

    page = min(limit or WHOLE_PAGE, WHOLE_PAGE) if settings().output == "jsonl" else limit or PAGE
    wanted = ItemListParams(job=job, status=status, folder=folder, limit=page)
    output.answer("items.list", wanted, screen, each="items", limit=limit)


def _job(job: str) -> Job:
    with settings().connect() as client:
        found: Job = client.call("jobs.get", JobParams(job=job))
    return found


def _no_item(job: str, *, filtered: bool) -> str:
    """Why there is none to show."""
    if filtered:
        return "No item is like that."
    of = _job(job)
    if missed := matching.missed_by(settings().connect, of):
        return missed.message
    if matching.is_listed(of):
        return "There is no item: what was listed has none that the job wants."
    return "No item is known yet: nothing has been listed."


def _needs_a_look(job: Job) -> bool:
    """Whether the job belongs on the one screen: it has something to do, or something went wrong with it."""
    return job.status not in {"completed", "cancelled"} or job.error is not None or job.progress.failed_items > 0
