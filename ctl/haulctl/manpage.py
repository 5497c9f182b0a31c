"""The page for ``man``, made of what the commands say of themselves.

``python -m haulctl.manpage > docs/man/haulctl.1`` writes it anew; a test compares. How such a page is written is told in
man(7).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from haulapi.faults import Exit
from haulctl.cli import ALIASES, SECTIONS, cli
from haulctl.options import common_options

MEANINGS = {
    Exit.OK: "Done.",
    Exit.FAILURE: "It failed.",
    Exit.USAGE: "The command line is wrong, or fits several jobs.",
    Exit.UNREACHABLE: "The daemon cannot be reached.",
    Exit.NOT_FOUND: "There is no such job, account or folder.",
    Exit.TRY_AGAIN: "Not now; try again later.",
    Exit.WRONG_STATE: "The job is not in a state for that.",
    Exit.SIGN_IN_REFUSED: "The origin refused the sign-in.",
    Exit.PARTLY_FAILED: "Some items failed.",
    Exit.CONFIGURATION: "The configuration is wrong.",
    Exit.INTERRUPTED: "Interrupted.",
}


def text() -> str:
    """The whole page."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield '.TH HAULCTL 1 "" haul "User Commands"'
    yield ".SH NAME"
    yield r"haulctl \- look at hauld and tell it what to do"
    yield ".SH SYNOPSIS"
    yield ".B haulctl"
    yield r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]"
    yield ".SH DESCRIPTION"
    yield _plain(
        "hauld keeps complete, verified local copies of what lives elsewhere: mailboxes first. haulctl speaks to it over its"
        " control socket. A job is named by any beginning of its id that no other job has: job_k3x9, or k3x9. 'job_' alone,"
        " with which every id begins, names none. Results go to standard output, words to standard error."
    )
    yield ".SH OPTIONS"
    yield "They are taken before and after the command; the last one counts."
    yield from _options([*common_options(), *(each for each in cli.params if each.name == "version")])
    for title, names in SECTIONS.items():
        yield f".SH {_plain(f'commands: {title}').upper()}"
        for name in names:
            yield from _command(cli.commands[name])
    yield ".SH EXIT STATUS"
    for code, meaning in MEANINGS.items():
        yield from (".TP", f".B {code.value}", meaning)
    yield ".SH ENVIRONMENT"
    yield from (".TP", ".B HAUL_SOCKET", "The control socket, where no \\fB\\-\\-socket\\fR is given.")
    yield from (".TP", ".B NO_COLOR", "When it is set, nothing is coloured.")
    yield from (".TP", ".B COLUMNS", "The width of tables, where standard output is no terminal.")


def _command(command: click.Command) -> Iterator[str]:
    """A command with its options and examples."""
    context = click.Context(command, info_name=command.name)
    yield f".SS {command.name}"
    yield f".B haulctl {command.name}"
    yield _plain(" ".join(command.collect_usage_pieces(context)))
    for paragraph in (command.help or "").split("\n\n"):
        yield ".PP"
        yield _plain(" ".join(paragraph.split()))
    if names := [alias for alias, name in ALIASES.items() if name == command.name]:
        yield _plain(f"Also called {', '.join(names)}.")
    common = {option.name for option in common_options()}
    yield from _options([each for each in command.params if each.name not in common])
    yield from (".PP", "For example:", ".PP", ".nf", ".RS 4")
    yield from (_plain(line.strip()) for line in (command.epilog or "").splitlines()[2:])
    yield from (".RE", ".fi")


def _options(parameters: list[click.Parameter]) -> Iterator[str]:
    for each in parameters:
        if isinstance(each, click.Option):
            value = "" if each.is_flag else rf" \fI{_plain(each.make_metavar(click.Context(cli)))}\fR"
            names = ", ".join(rf"\fB{_plain(name)}\fR" for name in each.opts)
            yield from (".TP", names + value, _plain(each.help or ""))


def _plain(words: str) -> str:
    """The words with nothing in them that troff would act on."""
    escaped = words.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    sys.stdout.write(text())
