"""Waiting for a job to end: look a few times a second, show what is seen, and outlive a restart of the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from haulapi.calls import Folder, FolderListParams, Job, JobParams
from haulapi.faults import Exit
from haulctl.client import Client
from haulctl.failure import Failure, Unreachable

LOOK_EVERY = 0.25
"""Seconds between two looks."""

AWAY_FOR = 120.0
"""Seconds that the daemon may be away before waiting ends: time for a restart, an upgrade, a slow start."""

ENDED = frozenset({"completed", "failed", "cancelled", "paused"})


class View(Protocol):
    """Where what is seen is shown."""

    def show(self, job: Job, folders: Sequence[Folder]) -> None:
        """The job and its folders as they are now."""
        ...

    def say(self, sentence: str) -> None:
        """Something a person should know."""
        ...


def until_ended(
    job: str,
    connect: Callable[[], Client],
    view: View,
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Job:
    """The job, as soon as it has ended. Raises ``Unreachable`` when the daemon stays away for longer than ``AWAY_FOR``."""
    client: Client | None = None
    away_since: float | None = None
    try:
        while True:
            try:
                client = client or connect()
                seen, folders = _look(client, job)
            except Failure as failure:
                if not isinstance(failure, Unreachable) and failure.exit != Exit.TRY_AGAIN:
                    raise
                if client is not None:
                    client.close()
                    client = None
                if away_since is None:
                    away_since = clock()
                    view.say(f"{failure.message} Waiting for it to come back; the job goes on by itself then.")
                if clock() - away_since > AWAY_FOR:
                    raise
            else:
                if away_since is not None:
                    away_since = None
                    view.say("hauld is back.")
                view.show(seen, folders)
                if seen.status in ENDED:
                    return seen
            pause(LOOK_EVERY)
    finally:
        if client is not None:
            client.close()


def outcome(job: Job) -> Exit:
    """What ``--wait`` ends with."""
    if job.status == "failed" and job.error is not None and job.error.kind in {"sign-in", "sign_in_refused"}:
        return Exit.SIGN_IN_REFUSED
    if job.status != "completed":
        return Exit.FAILURE
    return Exit.PARTLY_FAILED if job.progress.failed_items or job.error is not None else Exit.OK


def _look(client: Client, job: str) -> tuple[Job, Sequence[Folder]]:
    seen: Job = client.call("jobs.get", JobParams(job=job))
    try:
        folders: Sequence[Folder] = client.call("folders.list", FolderListParams(job=seen.id)).folders
    except Failure as failure:
        if failure.kind != "failed":
            raise
        folders = ()  # more of them than one reply can hold: the job alone is shown
    return seen, folders
