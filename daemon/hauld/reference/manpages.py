"""The pages hauld(8) and haul.toml(5) for ``man``, made of what the commands, the configuration and its sample say.

``python -m hauld.reference.manpages hauld > docs/man/hauld.8`` and ``... haul.toml < config/haul.toml > docs/man/haul.toml.5``
write them anew; a test compares. How such a page is written is told in man(7).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import click

from haulapi.faults import Exit
from hauld.cli import main
from hauld.config.forms import forms
from hauld.config.keys import TABLES
from hauld.reference.sample import Key, Topic, topics

EXITS = {
    Exit.OK: "Done, or stopped as asked.",
    Exit.FAILURE: "It failed; the last line says why.",
    Exit.USAGE: "The command line is wrong.",
    Exit.NOT_FOUND: "There is no such account.",
    Exit.TRY_AGAIN: "Not now: another hauld runs with this state or socket, or this machine's trouble has lasted too long.",
    Exit.WRONG_STATE: "The password of that account is not kept in a keyring.",
    Exit.CONFIGURATION: "The configuration is wrong; nothing was started.",
    Exit.INTERRUPTED: "Interrupted.",
}
"""What hauld ends with; the other codes are for haulctl."""

SIGNALS = {
    "SIGTERM, SIGINT": "Stop: what is on its way into the store is finished, some ten seconds at most. A second one ends hauld"
    " at once, and nothing that was stored is lost.",
    "SIGHUP": "Read the configuration again, as 'haulctl reload' does. Whether it was taken is in the log and in 'haulctl"
    " status'; with a mistake in it nothing changes.",
}

FILES = {
    "/etc/haul/haul.toml": "The configuration, for root and for a system service.",
    "~/.config/haul/haul.toml": "The configuration, for anybody else.",
    "accounts.d/*.toml": "Beside that file: accounts in files of their own.",
    "/var/lib/haul/haul.db, ~/.local/state/haul/haul.db": "The ledger: what is known of each item.",
    "/var/lib/haul/mail, ~/.local/state/haul/mail": "The mail, where [store] names no other place.",
    "/run/haul/haul.sock, $XDG_RUNTIME_DIR/haul/haul.sock": "The control socket, for haulctl(1).",
}

ENVIRONMENT = {
    "STATE_DIRECTORY, RUNTIME_DIRECTORY": "Set by systemd for a service with StateDirectory= and RuntimeDirectory=: where"
    " state, mail and socket are. With STATE_DIRECTORY the configuration is the system's.",
    "CREDENTIALS_DIRECTORY": "Set by systemd: where an account with 'credential' finds its password.",
    "XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR": "Where configuration, state and socket of one's own daemon are.",
    "NOTIFY_SOCKET": "Set by systemd: whom hauld tells that it is ready, what it does, and that it stops.",
    "WATCHDOG_USEC, WATCHDOG_PID": "Set by systemd for a service with WatchdogSec=: how soon hauld has to say again that all is"
    " well. It says so three times as often, and only while its loop, its ledger and its tasks get on.",
    "LISTEN_FDS, LISTEN_PID": "Set by systemd for a service with a socket unit: the control socket is there already. It has to"
    " be a Unix stream socket with the name that [daemon] socket says; hauld leaves it as it is.",
    "JOURNAL_STREAM": "Set by systemd: whether standard error leads to the journal.",
}

ALONE = {"keyring": "backend", "mirror": "kind"}
"""Keys of an account whose value is a table, and which of its keys may be written instead."""

SERVICE = (
    "The unit for the whole machine runs hauld as the user haul. Who is in the group haul may use haulctl and read the mail."
    " hauld cannot see homes then, nor write outside of its own directories: a drop-in (systemctl edit hauld) gives it"
    " credentials and other places, as the comments at the unit's beginning show."
)

AS_THE_SERVICE = (
    "Commands that concern the service's state have to run as its user and with its places:",
    "systemd-run --pipe --wait -p User=haul -p StateDirectory=haul hauld migrate",
)


def hauld() -> str:
    """The page of section 8 about the daemon."""
    return _page(_hauld())


def haul_toml(sample: str) -> str:
    """The page of section 5 about the configuration; what keys mean is taken from the sample."""
    return _page(_haul_toml(sample))


def _page(lines: Iterator[str]) -> str:
    return "\n".join(lines) + "\n"


# --- hauld(8) ------------------------------------------------------------------------------------------------------


def _hauld() -> Iterator[str]:
    yield '.TH HAULD 8 "" haul "System Administration"'
    yield from (".SH NAME", r"hauld \- keep complete, verified local copies of mailboxes")
    yield from (".SH SYNOPSIS", ".B hauld", r"\fICOMMAND\fR [\fIARGUMENTS\fR]")
    yield ".SH DESCRIPTION"
    yield _plain(
        "hauld imports what its accounts have, keeps it up to date on a schedule, and knows what became of each item. It only"
        " reads from where things come from. haulctl tells it what to do and shows what it does. Logs go to standard error, one"
        " JSON object a line, or sentences on a terminal; under systemd they go to the journal, with fields whose names begin"
        " with HAUL_."
    )
    yield ".SH COMMANDS"
    for name, command in _commands(main, ()):
        yield from _command(name, command)
    yield from _terms("SIGNALS", SIGNALS)
    yield from _terms("EXIT STATUS", {str(code.value): meaning for code, meaning in EXITS.items()})
    yield from _terms("FILES", FILES)
    yield from _terms("ENVIRONMENT", ENVIRONMENT)
    yield ".SH AS A SERVICE"
    yield from (_plain(SERVICE), ".PP", _plain(AS_THE_SERVICE[0]), ".PP")
    yield from _as_it_is(AS_THE_SERVICE[1:])
    yield from (".SH SEE ALSO", ".BR haulctl (1),", ".BR haul.toml (5),", ".BR systemd.exec (5)")


def _commands(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Every command with its name as it is typed, those of groups as well."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def _command(name: str, command: click.Command) -> Iterator[str]:
    """A command with its options and examples."""
    context = click.Context(command, info_name=name)
    yield f".SS {name}"
    yield f".B hauld {name}"
    yield _plain(" ".join(command.collect_usage_pieces(context)))
    yield from (".PP", *_paragraphs(command.help.split("\n\n") if command.help else ()))
    for each in command.params:
        if isinstance(each, click.Option):
            names = ", ".join(rf"\fB{_plain(option)}\fR" for option in each.opts)
            value = "" if each.is_flag else rf" \fI{_plain(each.make_metavar(context))}\fR"
            yield from (".TP", names + value, _plain(each.help or ""))
    yield from (".PP", "For example:", ".PP")
    yield from _as_it_is(line.strip() for line in (command.epilog or "").splitlines()[2:])


# --- haul.toml(5) --------------------------------------------------------------------------------------------------


def _haul_toml(sample: str) -> Iterator[str]:
    yield '.TH HAUL.TOML 5 "" haul "File Formats"'
    yield from (".SH NAME", r"haul.toml \- the configuration of hauld")
    yield ".SH DESCRIPTION"
    yield _plain(
        "One file in TOML. hauld reads /etc/haul/haul.toml for root and for the system service, ~/.config/haul/haul.toml for"
        " anybody else, and what 'hauld run --config FILE' names; it refuses a file that others may write, for"
        " it can run commands. 'hauld check-config' tells everything that is wrong with it. No key holds a password: keys say"
        " where one is kept."
    )
    yield ".PP"
    yield _plain(
        "Accounts may also be in files of their own, accounts.d/*.toml beside that file, which hold [accounts.NAME] tables and"
        " nothing else. They are read in the order of their names, and hidden files are passed over. No two accounts have the"
        " same name, or the same user on the same host."
    )
    yield ".PP"
    yield _plain(
        "It is read when hauld starts, and after a change by 'haulctl reload', 'systemctl reload hauld' or SIGHUP. All of it is"
        " checked first: with a mistake nothing changes, and the log, 'haulctl reload' and 'haulctl status' tell it. What the"
        " change does not concern goes on undisturbed. An account that is gone is stopped and its jobs fail, saying so, but"
        " what it has stored stays; another host or user is another account. In [daemon], state, socket and memory_budget need"
        " a restart, as does all of [store]: that is told, and the old values hold until then."
    )
    yield ".PP"
    yield _plain(
        "Each key is shown with its default, or with an example where it says so. Paths begin at the file's directory, or at"
        " your home after ~/."
    )
    table = ""
    for topic in topics(sample):
        if topic.table != table:
            table = topic.table
            yield f".SH [{_plain(table.replace('*', 'NAME'))}]"
        if topic.table and not topic.keys:
            yield from _paragraphs(topic.paragraphs)
        elif topic.keys:
            yield from _topic(topic)
    yield ".SH EXAMPLES"
    yield from _as_it_is(("[accounts.work]", 'host = "imap.example.org"', 'user = "me@example.org"', 'credential = "work"'))
    yield from (".SH SEE ALSO", ".BR hauld (8),", ".BR haulctl (1)")


def _topic(topic: Topic) -> Iterator[str]:
    """Keys that are explained together, and how each is written."""
    for number, key in enumerate(topic.keys):
        yield ".TP" if number == 0 else ".TQ"
        yield rf"\fB{_plain(key.name)}\fR = {_plain(key.written)}" + ("" if key.is_default else r" \fI(an example)\fR")
    only_one = len(topic.keys) == 1
    written = [f"{'Written as' if only_one else f'{key.name}:'} {_words(topic.table, key)}." for key in topic.keys]
    yield from _paragraphs([*topic.paragraphs, " ".join(written)], between=".IP")


def _words(table: str, key: Key) -> str:
    form = forms(TABLES[table]).get(key.name)
    return form.words if form is not None else f"a table, or its {ALONE[key.name]} alone, in quotes"


# --- roff ----------------------------------------------------------------------------------------------------------


def _terms(title: str, meanings: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for term, meaning in meanings.items():
        yield from (".TP", rf"\fB{_plain(term)}\fR", _plain(meaning))


def _paragraphs(paragraphs: Iterable[str], between: str = ".PP") -> Iterator[str]:
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield between
        yield _plain(" ".join(paragraph.split()))


def _as_it_is(lines: Iterable[str]) -> Iterator[str]:
    """Lines that stay lines."""
    yield from (".nf", ".RS 4", *map(_plain, lines), ".RE", ".fi")


def _plain(words: str) -> str:
    """The words with nothing in them that troff would act on."""
    escaped = words.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("~", r"\(ti").replace("^", r"\(ha")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    sys.stdout.write(hauld() if sys.argv[1] == "hauld" else haul_toml(sys.stdin.read()))
