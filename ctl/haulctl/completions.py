"""What a shell may offer to complete: names of accounts and folders and ids of jobs, asked of the daemon when it answers at
once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import click
from click.shell_completion import CompletionItem

from haulapi.calls import AccountList, Folder, FolderListParams, Job, JobListParams
from haulctl.client import Client, all_elements, connect, read_as
from haulctl.failure import Failure
from haulctl.options import Settings
from haulctl.words import visible

PATIENCE = 1.0
"""Seconds; somebody waits at the prompt."""

MOST_OFFERED = 1000
"""Jobs or folders that are looked at, at most."""


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
            pages = all_elements(client, "jobs.list", JobListParams(limit=MOST_OFFERED), "jobs", patience=PATIENCE)
            listed: list[Job] = [read_as("jobs.list", each, Job) for each in islice(pages, MOST_OFFERED)]
    except Failure:
        return []
    short = not "job_".startswith(begun[:4])
    named = [(job.id.removeprefix("job_") if short else job.id, job) for job in listed]
    return [CompletionItem(name, help=visible(f"{job.account}, {job.status}")) for name, job in named if name.startswith(begun)]


def folders(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of folders of the job on the line that start so; those that a terminal would act on are left out."""
    wanted = FolderListParams(job=context.params.get("job") or "")
    try:
        with _daemon(context) as client:
            pages = all_elements(client, "folders.list", wanted, "folders", patience=PATIENCE)
            listed: list[Folder] = [read_as("folders.list", each, Folder) for each in islice(pages, MOST_OFFERED)]
    except Failure:
        return []
    return [
        CompletionItem(folder.name, help=visible(folder.kind))
        for folder in listed
        if folder.name.startswith(begun) and visible(folder.name) == folder.name
    ]


def words(*known: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Those of the known words that start so."""
    return lambda _context, _parameter, begun: [CompletionItem(word) for word in known if word.startswith(begun)]


def _daemon(context: click.Context) -> Client:
    return connect(context.find_root().ensure_object(Settings).socket, patience=PATIENCE)
