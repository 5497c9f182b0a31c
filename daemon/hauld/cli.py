"""The command ``hauld``. What it does lies in ``app`` and its neighbours, imported when a command needs them.

Whatever goes wrong reaches a person as a sentence and a script as an exit code (``haulapi.faults.Exit``), never as a traceback.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import click

from haulapi.faults import Exit, fault
from hauld import __version__
from hauld.errors import Fatal, HaulError, NeedsAttention, Refused, Transient

if TYPE_CHECKING:
    from hauld.config import Config

LAST_SECONDS = 1.5
"""Seconds that what has outlived the daemon may take to end."""

LONGEST_SECRET_LINE = 8192
"""Characters read for a secret on standard input."""


class Sentences(click.Group):
    """Runs a command and turns what it raises into words and an exit code."""

    def main(self, *arguments: Any, **more: Any) -> Any:
        _complete_streams()
        try:
            return super().main(*arguments, **more)
        except OSError as error:  # of --help and --version; everything else comes no further than below
            sys.exit(_unwritten(error))

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except HaulError as error:
            _complain(error.message, error.hint)
            context.exit(exit_code(error))
        except (KeyboardInterrupt, click.Abort):
            context.exit(Exit.INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            if isinstance(error, OSError) and _is_of_output(error):
                context.exit(_unwritten(error))
            _complain(f"hauld failed unexpectedly: {_whereabouts(error)}.", "This is a mistake in hauld; please report it.")
            context.exit(Exit.FAILURE)


def exit_code(error: HaulError) -> int:
    """The exit code that tells a script what happened."""
    if isinstance(error, Fatal):
        return error.exit_code
    if isinstance(error, Refused):
        return fault(error.kind).exit
    if isinstance(error, Transient):
        return Exit.TRY_AGAIN
    if isinstance(error, NeedsAttention) and error.kind == "sign-in":
        return Exit.SIGN_IN_REFUSED
    return Exit.FAILURE


def example(*lines: str) -> str:
    """The end of a help text, its lines kept as they are (click wraps what does not begin with a backspace)."""
    return "\n".join(["\b", "Example:", *(f"  {line}" for line in lines)])


config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration. Default: /etc/haul/haul.toml for root and system services, else $XDG_CONFIG_HOME/haul/haul.toml.",
)


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hauld", message="%(prog)s %(version)s")
def main() -> None:
    """Keep complete, verified local copies of what lives elsewhere: mailboxes first.

    hauld is the daemon; haulctl is the way in to a running one.
    """


@main.command(epilog=example("hauld run --config ~/.config/haul/haul.toml"))
@config_option
def run(path: Path | None) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C."""
    from hauld import app, logs, secrets

    config = _load(path)
    logs.configure(config.daemon.log_level, sys.stderr)
    secrets.forbid_core_dumps()
    carry_out(app.run(config))


@main.command("check-config", epilog=example("hauld check-config --config /etc/haul/haul.toml"))
@config_option
def check_config(path: Path | None) -> None:
    """Read the configuration and tell everything that is wrong with it.

    What keeps hauld from starting is an error (exit code 78); a file or program that this machine lacks is a warning.
    """
    from hauld.config import missing_here

    config = _load(path)
    for problem in missing_here(config):
        _say(f"warning: {problem.line(config.path)}")
    count = len(config.accounts)
    click.echo(f"{config.path}: ok, {count} account{'' if count == 1 else 's'}")


@main.command(epilog=example("hauld doctor", "hauld doctor work --json"))
@click.argument("account", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, as haulctl doctor -o json gives it.")
@config_option
def doctor(account: str | None, as_json: bool, path: Path | None) -> None:
    """Look at all that may be wrong, without a running daemon, and tell what to do.

    It is for the user that hauld runs as; 'haulctl doctor' asks the daemon itself. Each account is signed in to once, at
    most, and nothing is changed. The exit code is 78 when the configuration is wrong, 7 when a sign-in was refused, 1 when
    something else failed, and 0 where there are warnings only.
    """
    import asyncio
    import functools

    import msgspec

    from hauld.app import source_of
    from hauld.config import find, load
    from hauld.doctor import Doctor, exit_of, lines_of

    found = asyncio.run(Doctor(functools.partial(load, find(path)), source_of).diagnose(account))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        for line in lines_of(found):
            click.echo(line)
    click.get_current_context().exit(exit_of(found))


@main.command(epilog=example("hauld migrate"))
@config_option
def migrate(path: Path | None) -> None:
    """Bring the state to this version's schema, without starting the daemon.

    'hauld run' does so by itself; this is for doing it beforehand, with the daemon stopped.
    """
    import asyncio

    from hauld import app, logs

    config = _load(path)
    logs.configure(config.daemon.log_level, sys.stderr)
    asyncio.run(app.migrate(config))
    click.echo(f"{config.daemon.state}: up to date")


@main.group()
def secret() -> None:
    """Passwords in a keyring."""


@secret.command("set", epilog=example("hauld secret set work", "pass show mail/work | hauld secret set work"))
@click.argument("account")
@config_option
def set_secret(account: str, path: Path | None) -> None:
    """Keep the password of ACCOUNT in its keyring.

    Asks for it on a terminal, else reads the first line of standard input.
    """
    import asyncio

    from hauld.secrets import write_secret

    config = _load(path)
    if account not in config.accounts:
        hint = f"The accounts are: {', '.join(config.accounts)}." if config.accounts else "There are no accounts yet."
        raise Refused("not_found", f"{config.path} has no account of that name.", hint=hint)
    if sys.stdin.isatty():
        value = click.prompt(f"Password of {account}", hide_input=True, confirmation_prompt=True, err=True)
    else:
        value = sys.stdin.readline(LONGEST_SECRET_LINE).rstrip("\r\n")
    asyncio.run(write_secret(config.accounts[account], value))
    _say(f"The password of {account} is in its keyring.")


@main.command(epilog=example("hauld demo --messages 500"))
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where to put everything; else a new one.")
@click.option(
    "--messages",
    type=click.IntRange(1, 100_000),
    metavar="N",
    default=3000,
    show_default=True,
    help="How many to import, 100,000 at most.",
)
def demo(directory: Path | None, messages: int) -> None:
    """Show it all: a mail server with made-up mail, its import, and what is there afterwards.

    Needs no account and no root, and leaves its directory for you to look at.
    """
    from importlib.util import find_spec

    if find_spec("pymap") is None:
        raise Fatal("failed", "The demo's mail server, pymap, is not installed.", hint="pip install 'hauld[demo]'")
    from hauld import demo as demonstration

    click.get_current_context().exit(demonstration.main(directory, messages))


def carry_out(daemon: Coroutine[Any, Any, None]) -> None:
    """Run it to its end. What nobody foresaw goes into the log, with the traceback that a mistake is mended by."""
    import asyncio
    import threading

    last = threading.Timer(LAST_SECONDS, _leave)
    last.daemon = True

    async def whole() -> None:
        try:
            await daemon
        finally:
            last.start()

    try:
        asyncio.run(whole())
    except HaulError:
        raise
    except Exception as error:
        event = {"event": "daemon.bug"}
        logging.getLogger("hauld").critical("A mistake in hauld ended it: %s.", _whereabouts(error), exc_info=True, extra=event)
        raise
    finally:
        last.cancel()


def _leave() -> None:
    """The daemon has ended, and something that it has left behind does not: a task that does not listen, a thread in a call
    that does not return. Nothing is lost by leaving: state and store are closed."""
    import os

    logging.getLogger("hauld").error("Something does not end; hauld leaves it.", extra={"event": "daemon.left"})
    logging.shutdown()
    os._exit(Exit.FAILURE)


def _load(path: Path | None) -> Config:
    from hauld.config import find, load

    return load(find(path))


def _complain(message: str, hint: str | None) -> None:
    from hauld.logs import printable

    for line in message.splitlines():
        _say(printable(line))
    if hint:
        _say(printable(hint))


def _say(line: str) -> None:
    """Words, on stderr; lost where that cannot be written."""
    try:
        click.echo(line, err=True)
    except OSError:
        _abandon(sys.stderr)


def _unwritten(error: OSError) -> Exit:
    """Tell why stdout cannot be written, unless its reader has had enough. The exit code."""
    _abandon(sys.stdout)
    if not isinstance(error, BrokenPipeError):
        _say(f"hauld: cannot write the output: {error.strerror or error}.")
    return Exit.FAILURE


def _abandon(stream: TextIO) -> None:
    """Have go nowhere what is still in the stream's buffer, or it would fail once more at exit."""
    import os

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _complete_streams() -> None:
    """Give a standard stream that was closed a file of its own, or the next one that is opened gets its number. Input is at its
    end then, results cannot be written, and words are lost."""
    import os

    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))


def _whereabouts(error: Exception) -> str:
    """The kind of an unexpected error and where it arose; not its text, which may hold anything."""
    step = _last_step(error)
    where = f" in {step.tb_frame.f_code.co_filename}, line {step.tb_lineno}" if step is not None else ""
    return f"{type(error).__name__}{where}"


def _is_of_output(error: OSError) -> bool:
    """Whether it arose in writing a result: words are said by ``_say``."""
    step = _last_step(error)
    return step is not None and step.tb_frame.f_code is click.echo.__code__


def _last_step(error: Exception) -> TracebackType | None:
    """Where it arose."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return step
