"""Commands that go on looking: progress as it is made, and events as they happen."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import click
import msgspec

from haulapi.calls import EventList, EventListParams, JobParams, Since
from haulapi.events import Event
from haulapi.faults import Exit
from haulctl import bars, completions, output, show
from haulctl.client import strange
from haulctl.commands.act import wait_for
from haulctl.follow import Doorbell, follow, past
from haulctl.options import Command, settings
from haulctl.wait import watch_all

LATELY = 100
"""Events that are shown where nothing else is said."""

LARGEST_DOCUMENT = 1000
"""Events in one JSON document."""


@click.command(cls=Command, examples=["haulctl watch", "haulctl watch job_k3x9"])
@click.argument("job", required=False, shell_complete=completions.jobs)
def watch(job: str | None) -> Exit:
    """Show live progress: bars, rates, and what waits and why.

    With a job, until it ends, and with the exit codes of create --wait: 0 when everything is there, 8 when some items failed,
    7 when the sign-in was refused, 4 when no folder is as asked for, 1 otherwise. Without one, all unfinished jobs, until
    interrupted. Interrupting ends the watching, not the job. Bars and lines go to stderr.
    """
    connect = settings().connect
    if job is not None:
        with connect() as client:
            return wait_for(client.call("jobs.get", JobParams(job=job)).id)
    if settings().output != "table":
        raise click.UsageError("watch without a job never has a result. For a script: haulctl events --follow -o jsonl")
    connect().close()  # a daemon that is not there is told at once, one that goes away later is waited for
    try:
        with bars.view() as view, Doorbell(connect) as bell:
            watch_all(connect, view, pause=bell.wait)
    except KeyboardInterrupt:
        output.say("The jobs go on in the daemon.")
    return Exit.INTERRUPTED


@click.command(
    cls=Command,
    examples=["haulctl events --job job_k3x9", "haulctl events --follow -o jsonl | jq -r 'select(.kind==\"item.failed\")'"],
)
@click.option("--follow", "following", is_flag=True, help="Go on with what happens, until interrupted.")
@click.option("--since", type=click.IntRange(0), metavar="N", help="Every event after number N; 0 is before the first.")
@click.option("--job", metavar="JOB", shell_complete=completions.jobs, help="Only events of that job.")
def events(following: bool, since: int | None, job: str | None) -> Exit:
    """Show what happened, the oldest first, or follow what happens.

    Without --since, the last events, or with --follow only those to come. A follower outlives a restart of the daemon and
    sees each event once. With -o json, one page as the daemon gives it; -o jsonl gives one event a line.
    """
    form = settings().output
    if following and form == "json":
        raise click.UsageError("--follow has no end, so it is no one JSON document. Take -o jsonl.")
    with settings().connect() as client:
        span: EventList = client.call("events.list", EventListParams(limit=1))
        number = since if since is not None else span.last if following else _lately(span, job)
        start = Since(stream=span.stream, number=number)
        if form == "json":
            output.document(client.ask("events.list", EventListParams(since=start, job=job, limit=LARGEST_DOCUMENT)))
            return Exit.OK
        if not following:
            _give(past(client, start, job), form)
            return Exit.OK
    with suppress(KeyboardInterrupt):  # that is how following ends
        _give(follow(settings().connect, start, job, output.say), form)
    return Exit.INTERRUPTED


def _lately(span: EventList, job: str | None) -> int:
    """The number after which the last events begin; those of one job are all shown."""
    return span.oldest - 1 if job else max(span.oldest - 1, span.last - LATELY)


def _give(listed: Iterable[bytes], form: str) -> None:
    for raw in listed:
        if form == "jsonl":
            output.line(raw)
            continue
        try:
            event = msgspec.json.decode(raw, type=Event)
        except msgspec.MsgspecError as error:
            raise strange(f"an event that is none: {error}") from error
        output.lines([show.event(event)])
