"""``haulctl``: the commands together, and the one place where errors become words and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module

import click

from haulapi.faults import Exit
from haulctl import output, streams
from haulctl.failure import Failure
from haulctl.options import common_options

SECTIONS = {
    "Look": {
        "status": "look.status",
        "accounts": "look.accounts",
        "account": "look.account",
        "list": "look.list_jobs",
        "show": "look.show_job",
        "folders": "look.folders",
        "items": "look.items",
    },
    "Follow": {
        "watch": "follow.watch",
        "events": "follow.events",
    },
    "Act": {
        "create": "act.create",
        "start": "act.start",
        "pause": "act.pause",
        "cancel": "act.cancel",
        "delete": "act.delete",
        "retry": "act.retry",
        "sync": "act.sync",
        "verify": "verify.verify",
        "test": "act.test",
        "reload": "configure.reload",
        "doctor": "doctor.doctor",
    },
    "Shell": {
        "completion": "shell.completion",
    },
}
"""Every command, as ``--help`` lists them, and where in ``commands`` it is: a command loads what it needs, and no other."""

ALIASES = {"resume": "start"}


class Places(Mapping[str, click.Command]):
    """Commands by their names, each loaded when it is asked for."""

    def __init__(self, sections: Iterable[Mapping[str, str]]) -> None:
        self._places = {name: place for section in sections for name, place in section.items()}

    def __getitem__(self, name: str) -> click.Command:
        module, command = self._places[name].split(".")
        found: click.Command = getattr(import_module(f"haulctl.commands.{module}"), command)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Commands(click.Group):
    """The commands in the order of ``SECTIONS``, and their aliases."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self.commands))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{widest}}", self.commands[name].get_short_help_str(70)) for name in names])


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"haulctl {version('hauld')}")
        context.exit()


cli = Commands(
    "haulctl",
    help="""Complete, verified local copies of what lives elsewhere: look at hauld and tell it what to do.

\b
First steps:
  haulctl status
  haulctl test work
  haulctl create work --wait

A job is named by any beginning of its id that no other job has: job_k3x9, or k3x9. 'job_' alone, with which every id
begins, names none. Results go to stdout, words to stderr.

Exit codes: 0 ok, 1 failure, 2 usage, 3 daemon not reachable, 4 not found, 5 try again later, 6 not in that state,
7 sign-in refused, 8 partly failed, 78 configuration, 130 interrupted.""",
    params=[
        *common_options(),
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version."
        ),
    ],
    commands=Places(SECTIONS.values()),  # type: ignore[arg-type]  # it cannot be added to, and nobody does
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The entry point of ``haulctl``."""
    streams.complete()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that cannot show a name shows a "?"
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; what it fails with is told on stderr. The exit code."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        streams.abandon(sys.stdout)  # whoever read our output has enough of it
    except OSError as error:  # what else the system refuses is a Failure by now, or lost words
        streams.abandon(sys.stdout)
        output.say(f"haulctl: cannot write the output: {error.strerror or error}.")
    return Exit.FAILURE


def _run(arguments: Sequence[str]) -> int:
    """The same; raises ``OSError`` when the output cannot be written."""
    try:
        result = cli.main(list(arguments), prog_name="haulctl", standalone_mode=False)
        sys.stdout.flush()
    except Failure as failure:
        output.say_failure(failure)
        return failure.exit
    except click.ClickException as error:
        with streams.words():
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        output.say("Interrupted.")
        return Exit.INTERRUPTED
    return result if isinstance(result, int) else Exit.OK
