"""What a shell may offer to complete: account names and job ids, asked of the daemon when it answers at once."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from haulapi.calls import AccountList, JobList, JobListParams
from haulctl.client import Client, connect
from haulctl.failure import Failure
from haulctl.options import Settings
from haulctl.words import visible

PATIENCE = 1.0
"""Seconds; somebody waits at the prompt."""


def accounts(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of accounts that start so."""
    try:
        with _daemon(context) as client:
            listed: AccountList = client.call("accounts.list", patience=PATIENCE)
    except Failure:
        return []
    return [
        CompletionItem(account.name, help=visible(account.state))
        for account in listed.accounts
        if account.name.startswith(begun)
    ]


def jobs(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Ids of jobs that start so, with or without their ``job_``."""
    try:
        with _daemon(context) as client:
            listed: JobList = client.call("jobs.list", JobListParams(limit=100), patience=PATIENCE)
    except Failure:
        return []
    short = not "job_".startswith(begun[:4])
    named = [(job.id.removeprefix("job_") if short else job.id, job) for job in listed.jobs]
    return [CompletionItem(name, help=visible(f"{job.account}, {job.status}")) for name, job in named if name.startswith(begun)]


def words(*known: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Those of the known words that start so."""
    return lambda _context, _parameter, begun: [CompletionItem(word) for word in known if word.startswith(begun)]


def _daemon(context: click.Context) -> Client:
    return connect(context.find_root().ensure_object(Settings).socket, patience=PATIENCE)
