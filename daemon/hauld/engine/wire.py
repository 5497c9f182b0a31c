"""From the ledger's values to the door's: times in RFC 3339, counters with what only a job's keeper knows."""

from __future__ import annotations

from collections.abc import Sequence

from haulapi import calls
from hauld.clock import rfc3339
from hauld.engine.findings import Findings, FolderFindings
from hauld.engine.job import JobKeeper
from hauld.engine.listener import Listener
from hauld.model import Conflict, Counters, FolderProgress, Item, Job, JobStatus, Phase, Strategy, Trouble


def job_on_the_wire(job: Job, counters: Counters, keeper: JobKeeper | None) -> calls.Job:
    # the row may have been read before the job ran, and only what runs waits
    untold = keeper.untold if keeper is not None and job.status is JobStatus.RUNNING else None
    return calls.Job(
        id=job.id,
        account=job.account_name,
        source=job.source,
        status=job.status,
        phase=job.phase if untold is None else Phase.WAITING,
        live=job.live,
        priority=job.priority,
        requester=job.requester,
        strategy=strategy_on_the_wire(job.strategy),
        progress=progress_on_the_wire(job, counters, keeper),
        error=trouble_on_the_wire(untold or job.error),
        created_at=str(rfc3339(job.created_at)),
        started_at=rfc3339(job.started_at),
        updated_at=str(rfc3339(job.updated_at)),
        completed_at=rfc3339(job.completed_at),
        last_sync_at=rfc3339(job.last_sync_at),
        attempts=job.attempts,
    )


def strategy_on_the_wire(strategy: Strategy) -> calls.Strategy:
    return calls.Strategy(
        kind=strategy.kind,
        folders=list(strategy.folders),
        exclude=list(strategy.exclude),
        since=strategy.since,
        before=strategy.before,
        sender=strategy.sender,
        to=strategy.to,
        subject=strategy.subject,
    )


def progress_on_the_wire(job: Job, counters: Counters, keeper: JobKeeper | None) -> calls.Progress:
    """A job's counters with the figures that only its keeper knows."""
    done = counters.downloaded + counters.skipped
    listed = job.status is JobStatus.COMPLETED or job.phase in ("downloading", "waiting")
    items_rate, bytes_rate = keeper.meter.rates() if keeper is not None else (0.0, 0.0)
    left = keeper.meter.seconds_left(counters.remaining) if keeper is not None else None
    return calls.Progress(
        total_items=counters.total,
        downloaded_items=counters.downloaded,
        failed_items=counters.failed,
        skipped_items=counters.skipped,
        in_progress_items=keeper.in_progress if keeper is not None else 0,
        remaining_items=counters.remaining,
        percent_complete=round(100 * done / counters.total, 1) if counters.total else (100.0 if listed else 0.0),
        bytes_downloaded=counters.bytes,
        items_per_second=round(items_rate, 1),
        bytes_per_second=round(bytes_rate, 1),
        estimated_completion_secs=None if left is None else round(left, 1),
    )


def folder_on_the_wire(progress: FolderProgress) -> calls.Folder:
    """A folder; complete when it was listed, all it named is stored or skipped, and nothing keeps it from being read."""
    folder, counters = progress.folder, progress.counters
    complete = folder.last_sync_at is not None and not counters.remaining and not counters.failed and folder.error is None
    return calls.Folder(
        name=folder.name,
        kind=folder.remote.kind,
        total_items=counters.total,
        downloaded_items=counters.downloaded,
        failed_items=counters.failed,
        skipped_items=counters.skipped,
        remaining_items=counters.remaining,
        bytes=counters.bytes,
        is_complete=complete,
        last_sync_at=rfc3339(folder.last_sync_at),
        error=trouble_on_the_wire(folder.error),
    )


def item_on_the_wire(item: Item) -> calls.Item:
    return calls.Item(
        id=item.number,
        folder=item.folder,
        key=item.key,
        status=item.status,
        size=item.size,
        sha256=item.sha256,
        local_path=item.local_path,
        flags=list(item.flags),
        item_type="message",
        error=trouble_on_the_wire(item.error),
        retry_count=item.retry_count,
        downloaded_at=rfc3339(item.downloaded_at),
        removed_at=rfc3339(item.removed_at),
        conflicts=[conflict_on_the_wire(conflict) for conflict in item.conflicts],
    )


def conflict_on_the_wire(conflict: Conflict) -> calls.Conflict:
    return calls.Conflict(
        sha256=conflict.sha256, size=conflict.size, local_path=conflict.path, seen_at=str(rfc3339(conflict.seen_at))
    )


def verification_on_the_wire(
    findings: Findings, folders: Sequence[calls.VerifiedFolder], after: str | None
) -> calls.Verification:
    """A verification with one page of its folders. What it expects to read is what it has read once it is over."""
    items, size = findings.checked_items, findings.checked_bytes
    over = findings.status != "running"
    return calls.Verification(
        status=findings.status,
        phase=findings.phase,
        account=findings.asked.account,
        repair=findings.asked.repair,
        origin=findings.asked.origin,
        started_at=rfc3339(findings.started_at),
        finished_at=rfc3339(findings.finished_at),
        total_items=items if over else max(items, findings.expected_items),
        checked_items=items,
        total_bytes=size if over else max(size, findings.expected_bytes),
        checked_bytes=size,
        damaged_items=findings.damaged,
        missing_items=findings.missing,
        repaired_items=findings.repaired,
        unknown_files=findings.unknown,
        strays=list(findings.strays),
        folders=list(folders),
        next=after,
        error=trouble_on_the_wire(findings.trouble),
    )


def verified_folder_on_the_wire(found: FolderFindings) -> calls.VerifiedFolder:
    return calls.VerifiedFolder(
        account=found.account,
        name=found.name,
        checked=found.checked,
        bytes=found.bytes,
        damaged=len(found.damaged),
        missing=len(found.missing),
        unknown=found.unknown,
        repaired=found.repaired,
        pending=found.counters.remaining,
        failed=found.counters.failed,
        skipped=found.counters.skipped,
        is_complete=found.is_complete,
        problems=found.problems,
    )


def listener_on_the_wire(listener: Listener) -> calls.Listener:
    return calls.Listener(
        folder=listener.folder,
        mode=listener.mode,
        state=listener.stage,
        since=str(rfc3339(listener.since)),
        error=trouble_on_the_wire(listener.trouble),
        last_notice_at=rfc3339(listener.noticed_at),
    )


def freshness(listeners: Sequence[Listener], inbox_sync_at: int | None, now: int) -> float | None:
    """How old, in seconds, what is known of the inbox may be; None before it was listed. The times are Unix milliseconds."""
    if any(listener.stage == "listening" for listener in listeners):
        return 0.0
    known = [at for at in (inbox_sync_at, *(listener.heard_until for listener in listeners)) if at is not None]
    return max(0, now - max(known)) / 1000 if known else None


def trouble_on_the_wire(trouble: Trouble | None) -> calls.ErrorInfo | None:
    if trouble is None:
        return None
    return calls.ErrorInfo(
        kind=trouble.kind,
        message=trouble.message,
        hint=trouble.hint,
        since=rfc3339(trouble.since),
        retry_at=rfc3339(trouble.retry_at),
    )
