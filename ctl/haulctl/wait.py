"""Waiting for a job to end, or watching all of them: look a few times a second, show what is seen, and outlive a restart of
the daemon. What spares looks that would see nothing new is in ``follow``."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import NoReturn, Protocol, TypeVar

from haulapi.calls import Folder, FolderListParams, Job, JobList, JobListParams, JobParams
from haulapi.faults import Exit
from haulctl import matching
from haulctl.client import Client, all_elements, read_as
from haulctl.failure import Failure, Unreachable

LOOK_EVERY = 0.25
"""Seconds between two looks."""

AWAY_FOR = 120.0
"""Seconds that the daemon may be away before waiting ends: time for a restart, an upgrade, a slow start."""

ENDED = frozenset({"completed", "failed", "cancelled", "paused"})


MOST_WATCHED = 20
"""Jobs of one status that are shown at once."""

T = TypeVar("T")


class View(Protocol):
    """Where what is seen is shown."""

    def show(self, job: Job, folders: Sequence[Folder]) -> None:
        """The job and its folders as they are now."""
        ...

    def show_all(self, seen: Sequence[tuple[Job, Sequence[Folder]]]) -> None:
        """Every unfinished job with its folders as they are now."""
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
    looks = _looks(lambda client: _look(client, job), connect, view, pause, clock, AWAY_FOR)
    with closing(looks):
        for seen, folders in looks:
            view.show(seen, folders)
            if seen.status in ENDED:
                return seen
    raise AssertionError("looking ends with a failure at most")


def watch_all(
    connect: Callable[[], Client],
    view: View,
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> NoReturn:
    """Show every unfinished job, and say what becomes of each, until interrupted. Once it has been reached, the daemon may be
    away for as long as it likes."""
    known: set[str] = set()
    looks = _looks(lambda client: _look_at_all(client, known), connect, view, pause, clock, float("inf"))
    with closing(looks):
        for unfinished, farewells in looks:
            for farewell in farewells:
                view.say(farewell)
            known = {job.id for job, _ in unfinished}
            view.show_all(unfinished)
    raise AssertionError("looking ends with a failure at most")


def outcome(job: Job) -> Exit:
    """What ``--wait`` ends with."""
    if job.status == "failed" and job.error is not None and job.error.kind in {"sign-in", "sign_in_refused"}:
        return Exit.SIGN_IN_REFUSED
    if job.status != "completed":
        return Exit.FAILURE
    return Exit.PARTLY_FAILED if job.progress.failed_items or job.error is not None else Exit.OK


def _look(client: Client, job: str) -> tuple[Job, Sequence[Folder]]:
    seen: Job = client.call("jobs.get", JobParams(job=job))
    return seen, _folders(client, seen)


def _folders(client: Client, job: Job) -> Sequence[Folder]:
    try:
        return [
            read_as("folders.list", each, Folder)
            for each in all_elements(client, "folders.list", FolderListParams(job=job.id), "folders")
        ]
    except Failure as failure:
        if failure.exit != Exit.NOT_FOUND:
            raise
        return ()  # the job was deleted just now: it alone is shown


def _look_at_all(client: Client, known: set[str]) -> tuple[Sequence[tuple[Job, Sequence[Folder]]], Sequence[str]]:
    """The unfinished jobs with their folders, and a sentence about each that was known and is not among them any more."""
    unfinished: list[tuple[Job, Sequence[Folder]]] = []
    for status in ("running", "pending"):
        listed: JobList = client.call("jobs.list", JobListParams(status=status, limit=MOST_WATCHED))
        unfinished += [(job, _folders(client, job) if job.phase == "downloading" else ()) for job in listed.jobs]
    gone = known - {job.id for job, _ in unfinished}
    return unfinished, [_farewell(client, job) for job in sorted(gone)]


def _farewell(client: Client, job: str) -> str:
    """What became of a job that is not unfinished any more."""
    try:
        seen: Job = client.call("jobs.get", JobParams(job=job))
    except Failure as failure:
        if failure.exit != Exit.NOT_FOUND:
            raise
        return f"{job} was deleted."
    failed = f", {seen.progress.failed_items:,} failed" if seen.progress.failed_items else ""
    missing = matching.missed(client, seen)
    why = "".join(f" {each.message}" for each in (seen.error, missing) if each)
    return f"{job} on {seen.account} is {seen.status}: {seen.progress.downloaded_items:,} downloaded{failed}.{why}"


def _looks(
    look: Callable[[Client], T],
    connect: Callable[[], Client],
    view: View,
    pause: Callable[[float], None],
    clock: Callable[[], float],
    away_for: float,
) -> Generator[T, None, None]:
    """What one look after another sees. Raises ``Unreachable`` when the daemon stays away for longer than ``away_for``, or
    was not there to begin with and is not within ``AWAY_FOR``."""
    client: Client | None = None
    away_since: float | None = None
    limit = AWAY_FOR
    try:
        while True:
            try:
                client = client or connect()
                seen = look(client)
            except Failure as failure:
                if not isinstance(failure, Unreachable) and failure.exit != Exit.TRY_AGAIN:
                    raise
                if client is not None:
                    client.close()
                    client = None
                if away_since is None:
                    away_since = clock()
                    view.say(f"{failure.message} Waiting for it to come back; the job goes on by itself then.")
                if clock() - away_since > limit:
                    raise
            else:
                limit = away_for
                if away_since is not None:
                    away_since = None
                    view.say("hauld is back.")
                yield seen
            pause(LOOK_EVERY)
    finally:
        if client is not None:
            client.close()
