"""Where results and words go: results to stdout in the form asked for, words to stderr."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import click
import msgspec

from haulapi.calls import Params
from haulctl import words
from haulctl.client import PATIENCE, all_elements, elements, read, read_as
from haulctl.failure import Failure
from haulctl.options import settings


def answer(
    method: str,
    params: Params,
    screen: Callable[[Any], Iterable[str]],
    *,
    each: str | None = None,
    limit: int | None = None,
    kind: Any = None,
    patience: float = PATIENCE,
) -> None:
    """Ask, and give the result in the form asked for: ``screen`` draws it for people; as JSON lines it is one line, or one
    for ``each`` element of that list; a list that comes in pages is then given whole, or up to ``limit``. ``kind`` is the
    type of the result of a method that has several."""
    form = settings().output
    with settings().connect() as client:
        if form == "jsonl" and each and "after" in params.__struct_fields__:
            for element in islice(all_elements(client, method, params, each), limit):
                line(element)
            return
        raw = client.ask(method, params, patience=patience)
    if form == "json":
        document(raw)
    elif form == "table":
        lines(screen(read_as(method, raw, kind) if kind else read(method, raw)))
    else:
        for element in elements(raw, each) if each else [raw]:
            line(element)


def value(result: msgspec.Struct, screen: Iterable[str]) -> None:
    """Give a result that is at hand already in the form asked for."""
    form = settings().output
    if form == "table":
        lines(screen)
    else:
        (document if form == "json" else line)(msgspec.json.encode(result))


def lines(screen: Iterable[str]) -> None:
    """A screen of ``show``. Colours are left out where nobody sees them, or where ``NO_COLOR`` says so."""
    for line in screen:
        click.echo(line, color=_colour())


def document(raw: bytes) -> None:
    """A result as one JSON document: what the wire said, indented."""
    click.echo(msgspec.json.format(raw, indent=2))


def line(raw: bytes) -> None:
    """A result as JSON on one line: what the wire said."""
    click.echo(raw)  # which also flushes: whoever follows reads each line as soon as it is there


def width() -> int | None:
    """The width that a screen may have: the terminal's, or ``$COLUMNS``; without either, lines are as long as they need."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return None


def say(sentence: str) -> None:
    """Words for a person, beside the result."""
    click.echo(words.visible(sentence), err=True)


def say_failure(failure: Failure) -> None:
    """What failed and why, and below it what can be done."""
    click.echo(click.style("haulctl: ", fg="red") + words.visible(failure.message), err=True, color=_colour())
    if failure.candidates:
        click.echo(f"  Perhaps: {', '.join(map(words.visible, failure.candidates))}", err=True)
    if failure.retry_at:
        click.echo(f"  Next try {words.until(failure.retry_at, words.now())}.", err=True)
    if failure.hint:
        click.echo(f"  {words.visible(failure.hint)}", err=True)


def _colour() -> bool | None:
    """None leaves it to whether the stream is a terminal (https://no-color.org)."""
    return False if os.environ.get("NO_COLOR") else None
