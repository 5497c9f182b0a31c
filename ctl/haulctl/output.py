"""Where results and words go: results to stdout in the form asked for, words to stderr."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import click
import msgspec

from haulapi.calls import Params
from haulctl import streams, words
from haulctl.client import PATIENCE, all_elements, elements, read, read_as, whole
from haulctl.failure import Failure
from haulctl.options import settings


def answer(
    method: str,
    params: Params,
    screen: Callable[[Any], Iterable[str]],
    *,
    each: str | None = None,
    limit: int | None = None,
    all_pages: bool = False,
    kind: Any = None,
    patience: float = PATIENCE,
) -> bytes:
    """Ask, and give the result in the form asked for: ``screen`` draws it for people; as JSON lines it is one line, or one
    for ``each`` element of that list; a list that comes in pages is then given whole, or up to ``limit``, in the other forms
    only with ``all_pages``. ``kind`` is the type of the result of a method that has several. The result as on the wire; what
    was given page by page is not kept."""
    form = settings().output
    with settings().connect() as client:
        if form == "jsonl" and each and "after" in params.__struct_fields__:
            for element in islice(all_elements(client, method, params, each), limit):
                line(element)
            return b""
        raw = whole(client, method, params, each) if all_pages and each else client.ask(method, params, patience=patience)
    if form == "json":
        document(raw)
    elif form == "table":
        lines(screen(read_as(method, raw, kind) if kind else read(method, raw)))
    else:
        for element in elements(raw, each) if each else [raw]:
            line(element)
    return raw


def value(result: msgspec.Struct, screen: Iterable[str], *, each: str | None = None) -> None:
    """Give a result that is at hand already in the form asked for; as JSON lines, one for ``each`` element of that list."""
    form = settings().output
    if form == "table":
        lines(screen)
    elif form == "json":
        document(msgspec.json.encode(result))
    else:
        for element in [result] if each is None else getattr(result, each):
            line(msgspec.json.encode(element))


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
        return _columns()
    return None


def say(sentence: str) -> None:
    """Words for a person, beside the result."""
    with streams.words():
        click.echo(words.visible(sentence), err=True)


def say_failure(failure: Failure) -> None:
    """What failed and why, and below it what can be done."""
    told = f"haulctl: {failure.message}".splitlines()
    first, *more = [piece for each in told for piece in _broken(words.visible(each))]
    if failure.candidates:
        more += _broken(f"Perhaps: {', '.join(map(words.visible, failure.candidates))}")
    if failure.retry_at:
        more += _broken(f"Next try {words.until(failure.retry_at, words.now())}.")
    if failure.hint:
        more += _broken(words.visible(failure.hint))
    with streams.words():
        click.echo(click.style("haulctl: ", fg="red") + first.removeprefix("haulctl: "), err=True, color=_colour())
        for line in more:
            click.echo(f"  {line}", err=True)


def _broken(sentence: str) -> list[str]:
    """The sentence in lines that a terminal can show whole, two cells further right; elsewhere in one."""
    if not sys.stderr.isatty():
        return [sentence]
    room = max(_columns() - 2, 20)
    return textwrap.wrap(sentence, room, break_long_words=False, break_on_hyphens=False) or [""]


def _columns() -> int:
    """The terminal's width, or ``$COLUMNS``."""
    from shutil import get_terminal_size

    return get_terminal_size().columns


def _colour() -> bool | None:
    """None leaves it to whether the stream is a terminal (https://no-color.org)."""
    return False if os.environ.get("NO_COLOR") else None
