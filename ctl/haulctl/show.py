"""The screens: values of the contract as lines of text, for a width and a moment. Every text from outside goes through
``words.visible`` here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from haulapi.calls import (
    Account,
    AccountTest,
    DaemonStatus,
    Diagnosis,
    ErrorInfo,
    Folder,
    Item,
    Job,
    Listener,
    Preview,
    Reload,
    Strategy,
)
from haulapi.events import Event
from haulctl.failure import HINTS
from haulctl.table import Cell, Column, paint, render, wide
from haulctl.words import (
    ago,
    count,
    counted,
    date_and_time,
    duration,
    parse,
    percent,
    size,
    until,
    visible,
)

COLOURS = {
    "running": "cyan",
    "pending": "cyan",
    "downloading": "cyan",
    "completed": "green",
    "connected": "green",
    "listening": "green",
    "waiting": "yellow",
    "paused": "yellow",
    "failed": "red",
    "attention": "red",
    "ok": "green",
    "warning": "yellow",
}
PRIORITIES = {1: "urgent", 2: "normal", 3: "background"}
WIDEST_TEXT = 110
"""Cells; sentences are broken here even where a terminal is wider."""

Lines = Iterator[str]

# --- screens -------------------------------------------------------------------------------------------------------


def status(daemon: DaemonStatus, unfinished: Sequence[Job], width: int | None, now: datetime) -> Lines:
    """The daemon on one screen: what is wrong comes first."""
    in_use = (
        f"{size(daemon.memory_bytes)} of memory",
        counted(daemon.connections, "connection"),
        counted(daemon.clients, "client"),
    )
    yield from _pairs(
        ("hauld", f"{visible(daemon.version)}, up {duration(daemon.uptime_seconds)}, pid {daemon.pid}"),
        ("In use", ", ".join(in_use)),
        ("State", visible(daemon.state_path)),
        ("Store", visible(daemon.store_path)),
    )
    yield ""
    yield from _wrong(daemon, unfinished, width, now)
    yield ""
    yield f"Accounts: {len(daemon.accounts)}"
    if daemon.accounts:
        yield from _indented(accounts(daemon.accounts, _narrower(width), now))
    yield ""
    yield f"Jobs: {_jobs_by_status(daemon.jobs)}"
    if unfinished:
        yield from _indented(jobs(unfinished, _narrower(width), now))


def accounts(listed: Sequence[Account], width: int | None, now: datetime) -> Lines:
    """Accounts, one a line."""
    columns = (
        Column("NAME", least=16),
        Column("STATE"),
        Column("SINCE", spare=3),
        Column("FOLDERS", right=True, spare=4),
        Column("ITEMS", right=True, spare=1),
        Column("SIZE", right=True, spare=2),
        Column("LAST SYNC", spare=1),
        Column("INBOX", spare=5),
        Column("USER", least=8, spare=6),
        Column("HOST", least=8, spare=7),
        Column("WHY", least=20, spare=8),
    )
    rows = [
        (
            visible(account.name),
            _state(account.state),
            ago(account.since, now),
            count(account.folders),
            count(account.items),
            size(account.bytes),
            ago(account.last_sync_at, now) or "never",
            _state(_hearing(account.listeners[0])) if account.listeners else "",
            visible(account.user),
            visible(account.host),
            visible(account.error.message) if account.error else "",
        )
        for account in listed
    ]
    yield from render(columns, rows, width)


def account(one: Account, width: int | None, now: datetime) -> Lines:
    """One account."""
    yield from _pairs(
        ("Account", visible(one.name)),
        ("State", f"{_painted(one.state)} since {date_and_time(one.since, now)}"),
        ("Origin", f"{visible(one.user)} at {visible(one.host)} ({visible(one.source)})"),
        ("Stored", f"{counted(one.items, 'item')} in {counted(one.folders, 'folder')}, {size(one.bytes)}"),
        ("Connections", count(one.connections)),
        ("Last sync", date_and_time(one.last_sync_at, now) or "never"),
        *((visible(listener.folder), _heard(listener, one.freshness_secs, now)) for listener in one.listeners),
    )
    yield from _why(one.error, width, now)
    for listener in one.listeners:
        if listener.error and not (one.error and one.error.message == listener.error.message):
            yield ""
            yield from _trouble(visible(listener.folder), listener.error, width, now)


def reloaded(told: Reload, width: int | None) -> Lines:
    """What reading the configuration again has changed."""
    others = [name for name in told.added if name in told.removed]
    yield from _pairs(
        ("Added", _named(name for name in told.added if name not in others)),
        ("Removed", _named(name for name in told.removed if name not in others)),
        ("Replaced", _named(others)),
        ("Changed", _named(told.changed)),
        ("Applied", _named(told.applied)),
        ("As they were", counted(len(told.unchanged), "account")),
    )
    if others:
        why = "Replaced: another host or user is another account. What the old ones have stored stays."
        yield from _paragraph("", why, width)
    if told.restart_needed:
        needed = f"Not yet in force, because hauld has to be restarted for it: {_named(told.restart_needed)}"
        yield from _paragraph("", paint(needed, "yellow"), width)


def diagnosed(found: Diagnosis, width: int | None, marks: Mapping[str, str]) -> Lines:
    """What was looked at, a line for each; what to do below it. ``marks`` are what lines begin with, by status."""
    room = max(map(len, marks.values()))
    for check in found.checks:
        mark = f"{marks.get(check.status, check.status):<{room}}"
        whose = f"{visible(check.account)}: " if check.account else ""
        told = f"{whose}{visible(check.name)}: {visible(check.message)}"
        first, *rest = _paragraph(" " * (room + 1), told, width) if width else [" " * (room + 1) + told]
        yield paint(mark, COLOURS.get(check.status)) + first[room:]
        yield from rest
        if check.hint and check.status not in {"ok", "skipped"}:
            start = " " * (room + 3)
            yield from _paragraph(start, visible(check.hint), width) if width else [start + visible(check.hint)]


def tested(test: AccountTest, width: int | None) -> Lines:
    """What signing in showed."""
    yield f"{paint('Signed in', 'green')} to {visible(test.account)} in {test.seconds:.2f} s."
    yield from _paragraph("The server says: ", visible(test.greeting), width)
    yield from _paragraph("It can: ", visible(" ".join(test.capabilities)), width)
    yield ""
    columns = (Column("FOLDER", least=20), Column("KIND", spare=1), Column("NOTE", spare=2))
    rows = [(visible(each.name), visible(each.kind), "" if each.selectable else "holds no items") for each in test.folders]
    yield from render(columns, rows, width)


def jobs(listed: Sequence[Job], width: int | None, now: datetime) -> Lines:
    """Jobs, one a line."""
    columns = (
        Column("JOB"),
        Column("ACCOUNT", least=12),
        Column("STATUS"),
        Column("DONE", right=True),
        Column("ITEMS", right=True),
        Column("FAILED", right=True, spare=1),
        Column("SIZE", right=True, spare=2),
        Column("LEFT", right=True, spare=3),
        Column("LAST SYNC", spare=5),
        Column("SPEED", right=True, spare=6),
        Column("WANTS", least=12, spare=7),
        Column("CREATED", spare=8),
        Column("BY", least=8, spare=9),
        Column("WHY", least=20, spare=4),
    )
    rows = [
        (
            visible(job.id),
            visible(job.account),
            _state(job.status, job.phase),
            _done(job),
            count(job.progress.total_items) if _listed(job) else "",
            Cell(count(job.progress.failed_items), "red") if job.progress.failed_items else "",
            size(job.progress.bytes_downloaded) if _listed(job) else "",
            _left(job),
            ago(job.last_sync_at, now) or "never",
            f"{job.progress.items_per_second:,.0f}/s" if job.progress.items_per_second else "",
            _wants(job.strategy),
            ago(job.created_at, now),
            visible(job.requester or ""),
            visible(job.error.message) if job.error else "",
        )
        for job in listed
    ]
    yield from render(columns, rows, width)


def job(one: Job, width: int | None, now: datetime) -> Lines:
    """One job."""
    progress = one.progress
    yield from _pairs(
        ("Job", visible(one.id)),
        ("Status", _painted(one.status, one.phase)),
        ("Account", f"{visible(one.account)} ({visible(one.source)})"),
        ("Wants", _wants(one.strategy)),
        ("Live", "yes, it keeps watching" if one.live else "no, it ends when all is there"),
        ("Priority", f"{one.priority} ({PRIORITIES.get(one.priority, 'unknown')})"),
        ("Attempts", f"{counted(one.attempts, 'time')} an item" if one.attempts else ""),
        ("Requested by", visible(one.requester or "")),
        (
            "Progress",
            f"{_done(one)} of {counted(progress.total_items, 'item')}" if _listed(one) else "not known yet",
        ),
        (
            "",
            ", ".join(
                f"{count(number)} {what}"
                for number, what in (
                    (progress.downloaded_items, "downloaded"),
                    (progress.skipped_items, "skipped"),
                    (progress.failed_items, "failed"),
                    (progress.remaining_items, "to go"),
                )
                if number
            ),
        ),
        ("Downloaded", size(progress.bytes_downloaded) if _listed(one) else ""),
        ("Speed", _speed(one)),
        ("Created", date_and_time(one.created_at, now)),
        ("Started", date_and_time(one.started_at, now)),
        ("Completed", date_and_time(one.completed_at, now)),
        ("Last sync", date_and_time(one.last_sync_at, now) or "never"),
    )
    yield from _why(one.error, width, now)


def folders(listed: Sequence[Folder], width: int | None, now: datetime) -> Lines:
    """Folders in the order in which they are fetched."""
    columns = (
        Column("FOLDER", least=20),
        Column("KIND", spare=5),
        Column("DONE", right=True),
        Column("ITEMS", right=True),
        Column("TO GO", right=True, spare=2),
        Column("FAILED", right=True, spare=1),
        Column("SKIPPED", right=True, spare=6),
        Column("SIZE", right=True, spare=3),
        Column("LAST SYNC", spare=4),
        Column("WHY", least=20, spare=1),
    )
    rows = [
        (
            visible(folder.name),
            visible(folder.kind),
            Cell(folder_done(folder), "green" if folder.is_complete else None),
            count(folder.total_items),
            count(folder.remaining_items) if folder.remaining_items else "",
            Cell(count(folder.failed_items), "red") if folder.failed_items else "",
            count(folder.skipped_items) if folder.skipped_items else "",
            size(folder.bytes),
            ago(folder.last_sync_at, now) or "never",
            Cell(visible(folder.error.message), "yellow") if folder.error else "",
        )
        for folder in listed
    ]
    reasons = [(visible(folder.name), visible(folder.error.message)) for folder in listed if folder.error]
    yield from _with_reasons(render(columns, rows, width), reasons, width)


def items(listed: Sequence[Item], width: int | None, now: datetime) -> Lines:
    """Items, one a line: where it is, or why it is not."""
    columns = (
        Column("ITEM", right=True, spare=4),
        Column("STATUS"),
        Column("FOLDER", least=16),
        Column("KEY"),
        Column("SIZE", right=True, spare=2),
        Column("DOWNLOADED", spare=3),
        Column("TRIES", right=True, spare=5),
        Column("FLAGS", least=8, spare=7),
        Column("WHERE OR WHY", least=16, spare=1),
        Column("GONE", spare=6),
    )
    rows = [
        (
            str(item.id),
            _state(item.status),
            visible(item.folder),
            visible(item.key),
            size(item.size),
            ago(item.downloaded_at, now),
            str(item.retry_count) if item.retry_count else "",
            visible(" ".join(item.flags)),
            visible(item.error.message if item.error else item.local_path or ""),
            ago(item.removed_at, now),
        )
        for item in listed
    ]
    reasons = [(f"Item {item.id}", visible(item.error.message)) for item in listed if item.error]
    yield from _with_reasons(render(columns, rows, width), reasons, width)


def preview(one: Preview, width: int | None) -> Lines:
    """What ``create --dry-run`` found."""
    columns = (
        Column("FOLDER", least=20),
        Column("KIND", spare=1),
        Column("ITEMS", right=True),
        Column("SIZE", right=True),
    )
    rows = [(visible(each.name), visible(each.kind), count(each.items), size(each.bytes)) for each in one.folders]
    if rows:
        yield from render(columns, rows, width)
        yield ""
    yield from _paragraph(
        "",
        f"Nothing was created. A job on {visible(one.account)} that wants {_wants(one.strategy)} would fetch"
        f" {counted(one.items, 'item')} ({size(one.bytes)}); {count(one.stored_items)} are stored already.",
        width,
    )
    if one.estimated_secs is not None:
        yield f"At the rate of this account so far, that takes {duration(one.estimated_secs)}."
    elif one.items:
        yield "How long that takes is not known: nothing was fetched on this account yet."


def event(one: Event) -> str:
    """One event on a line."""
    data = " ".join(f"{name}={_short(value)}" for name, value in one.data.items() if value is not None)
    parts = (f"{one.number:>8}", f"{parse(one.time).astimezone():%Y-%m-%d %H:%M:%S}", one.kind, one.job, one.folder, data)
    return "  ".join(visible(part) for part in parts if part)


# --- sentences -----------------------------------------------------------------------------------------------------


def created(job: Job, width: int | None = None) -> Lines:
    """What ``create`` made."""
    fate = "created" if job.status == "pending" else f"created and {visible(job.status)}"
    ending = "and keeps watching" if job.live else "and ends when all is there"
    sentence = f"{visible(job.id)} on {visible(job.account)} is {fate}. It wants {_wants(job.strategy)}, {ending}."
    yield from _sentence(sentence, width)


def deleted(job: Job, purged: bool, width: int | None = None) -> Lines:
    """What ``delete`` left."""
    rest = "Files that no other job wants are removed." if purged else "Its files stay."
    yield from _sentence(f"{visible(job.id)} on {visible(job.account)} is deleted. {rest}", width)


def asks_to_purge(job: Job, width: int | None = None) -> str:
    """What to ask before files are removed."""
    stored = job.progress.downloaded_items + job.progress.skipped_items
    question = (
        f"Delete {visible(job.id)} on {visible(job.account)} and the files of its {counted(stored, 'item')},"
        " but for those that another job wants?"
    )
    return "\n".join(_sentence(question, _narrower(width, len(" [y/N]: "))))


def acted(job: Job, what: str, width: int | None = None) -> Lines:
    """What became of a job that was acted on."""
    yield from _sentence(f"{visible(job.id)} on {visible(job.account)} {what}: {_painted(job.status, job.phase)}.", width)


def ended(job: Job, seconds: float, width: int | None = None) -> Lines:
    """How a job ended that was waited for."""
    progress = job.progress
    sentence = (
        f"{visible(job.id)} on {visible(job.account)} {_painted(job.status)} after {duration(seconds)}:"
        f" {counted(progress.downloaded_items, 'item')} downloaded ({size(progress.bytes_downloaded)}),"
        f" {count(progress.skipped_items)} skipped, {count(progress.failed_items)} failed."
    )
    yield from _sentence(sentence, width)
    if progress.failed_items:
        yield f"See which: haulctl items {visible(job.id)} --status failed"


def progress_line(job: Job) -> str:
    """Where a job stands, in one line without colour."""
    progress = job.progress
    parts = [f"{visible(job.account)}: {_word(job.status, job.phase)}"]
    if progress.total_items:
        done = progress.downloaded_items + progress.skipped_items
        parts.append(f"{count(done)} of {counted(progress.total_items, 'item')} ({percent(progress.percent_complete)})")
    if progress.failed_items:
        parts.append(f"{count(progress.failed_items)} failed")
    if speed := _speed(job):
        parts.append(speed)
    return ", ".join(parts)


def state_line(job: Job) -> str:
    """What a job does and how fast, in one line without colour."""
    return ", ".join(filter(None, (_word(job.status, job.phase), _speed(job))))


def waiting_line(error: ErrorInfo, now: datetime) -> str:
    """Why a job waits, and until when."""
    again = f" Next try {until(error.retry_at, now)}." if error.retry_at else ""
    return f"waiting: {visible(error.message)}{again}"


def folder_done(folder: Folder) -> str:
    """How much of a folder is there; nothing while that is not known."""
    if folder.total_items == 0:
        return "100 %" if folder.is_complete else ""
    return percent(100 * (folder.downloaded_items + folder.skipped_items) / folder.total_items)


# --- parts ---------------------------------------------------------------------------------------------------------


def _wrong(daemon: DaemonStatus, unfinished: Sequence[Job], width: int | None, now: datetime) -> Lines:
    """Everything that needs somebody or waits for something, what needs somebody first."""
    troubles: list[tuple[str, ErrorInfo]] = []
    if daemon.configuration_error:
        hint = "It was read again and cannot be used; the last good one stays in force. Mend it, then: haulctl reload"
        troubles.append(("configuration", ErrorInfo(kind="configuration", message=daemon.configuration_error, hint=hint)))
    troubles += [(f"account {each.name}", each.error) for each in daemon.accounts if each.error]
    told = {(each.name, each.error.message) for each in daemon.accounts if each.error}
    troubles += [
        (f"job {each.id}", each.error)
        for each in unfinished
        if each.error and each.status != "paused" and (each.account, each.error.message) not in told
    ]
    if not troubles:
        yield paint("Nothing is wrong.", "green")
        return
    yield f"Wrong: {len(troubles)}"
    for where, error in sorted(troubles, key=lambda trouble: trouble[1].retry_at is not None):
        yield from _indented(_trouble(where, error, _narrower(width), now))


def _with_reasons(table: Sequence[str], reasons: Sequence[tuple[str, str]], width: int | None) -> Lines:
    """The table, and below it in full each reason that had no room in it, with the first row that has it."""
    yield from table
    told = "\n".join(table)
    cut: dict[str, list[str]] = {}
    for where, reason in reasons:
        if reason not in told:
            cut.setdefault(reason, []).append(where)
    for reason, rows in cut.items():
        more = f" and {counted(len(rows) - 1, 'other')}" if len(rows) > 1 else ""
        yield ""
        yield f"{rows[0]}{more}:"
        yield from _paragraph("  ", reason, width)


def _why(error: ErrorInfo | None, width: int | None, now: datetime) -> Lines:
    """What is the matter with the one thing on the screen, if anything is."""
    if error is not None:
        yield ""
        yield from _trouble("Why", error, width, now)


def _trouble(where: str, error: ErrorInfo, width: int | None, now: datetime) -> Lines:
    """One thing that is wrong: red when it needs somebody, yellow when it is tried again by itself."""
    facts = [visible(error.kind)] if error.kind != where else []
    if error.since:
        facts.append(f"since {ago(error.since, now)}")
    facts.append(f"next try {until(error.retry_at, now)}" if error.retry_at else "until somebody acts")
    yield f"{paint(visible(where), 'yellow' if error.retry_at else 'red')}: {', '.join(facts)}"
    for line in error.message.splitlines():
        yield from _paragraph("  ", visible(line), width)
    if hint := error.hint or HINTS.get(error.kind):
        yield from _paragraph("  -> ", visible(hint), width)


def _hearing(listener: Listener) -> str:
    """How news come, in a word or two."""
    return listener.mode if listener.mode == "polling" else listener.state


def _heard(listener: Listener, freshness: float | None, now: datetime) -> str:
    """How news come, since when, and how old what is known may be."""
    parts = [f"{_painted(_hearing(listener))} since {date_and_time(listener.since, now)}"]
    if freshness:
        parts.append(f"known as it was {duration(freshness)} ago")
    if listener.last_notice_at:
        parts.append(f"last notice {ago(listener.last_notice_at, now)}")
    return ", ".join(parts)


def _word(status: str, phase: str | None = None) -> str:
    """``running`` says little where the phase is known, so the phase stands beside it."""
    return f"{visible(status)}, {visible(phase)}" if phase and status == "running" else visible(status)


def _painted(status: str, phase: str | None = None) -> str:
    return paint(_word(status, phase), COLOURS.get(phase or "") or COLOURS.get(status))


def _state(status: str, phase: str | None = None) -> Cell:
    return Cell(_word(status, phase), COLOURS.get(phase or "") or COLOURS.get(status))


def _done(job: Job) -> str:
    """Percent, once it is known how much there is."""
    return percent(job.progress.percent_complete) if _listed(job) else ""


def _listed(job: Job) -> bool:
    """Whether the numbers of the job say anything yet."""
    return job.progress.total_items > 0 or job.last_sync_at is not None


def _left(job: Job) -> str:
    seconds = job.progress.estimated_completion_secs
    return duration(seconds) if seconds is not None and job.phase == "downloading" else ""


def _speed(job: Job) -> str:
    progress = job.progress
    if not progress.items_per_second:
        return ""
    left = f", {_left(job)} left" if _left(job) else ""
    return f"{progress.items_per_second:,.0f} items/s, {size(round(progress.bytes_per_second))}/s{left}"


def _short(value: Any) -> str:
    """A value of an event's data: what is a list is told by how many there are."""
    return f"[{len(value)}]" if isinstance(value, list | dict) else str(value)


def _wants(strategy: Strategy) -> str:
    """The strategy in words: ``full``, ``date-range since 2026-01-01 in Work/*, not Trash``."""
    parts = [strategy.kind]
    for name, value in (
        ("since", strategy.since),
        ("before", strategy.before),
        ("from", strategy.sender),
        ("to", strategy.to),
        ("subject", strategy.subject),
    ):
        if value is not None:
            parts.append(f"{name} {value}")
    if strategy.folders:
        parts.append(f"in {', '.join(strategy.folders)}")
    if strategy.exclude:
        parts.append(f"without {', '.join(strategy.exclude)}")
    return visible(" ".join(parts))


def _jobs_by_status(jobs: dict[str, int]) -> str:
    told = [f"{count(number)} {visible(status)}" for status, number in jobs.items() if number]
    return ", ".join(told) or "none"


def _named(names: Iterable[str]) -> str:
    return ", ".join(map(visible, names))


def _pairs(*pairs: tuple[str, str]) -> Lines:
    """Names and values, those without a value left out."""
    for name, value in pairs:
        if value:
            yield f"{paint(f'{name:<13}', 'bright_black')}{value}"


def _paragraph(start: str, text: str, width: int | None) -> Lines:
    """The text broken between words, ``start`` before it and room for that on each further line. Colours take no room."""
    room = min(width or WIDEST_TEXT, WIDEST_TEXT)
    line, words = start, 0
    for word in text.split():
        if words and _cells(line) + 1 + _cells(word) > room:
            yield line
            line, words = " " * len(start), 0
        line += f" {word}" if words else word
        words += 1
    yield line


def _sentence(text: str, width: int | None) -> Lines:
    """A sentence about what was done: broken where there is a terminal, in one line for whatever else reads it."""
    return _paragraph("", text, width) if width else iter((text,))


def _cells(text: str) -> int:
    return wide(click.unstyle(text))


def _indented(lines: Lines) -> Lines:
    for line in lines:
        yield f"  {line}"


def _narrower(width: int | None, by: int = 2) -> int | None:
    return None if width is None else width - by
