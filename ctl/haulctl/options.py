"""What every command takes, before or after its name: the socket and the form of the output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from haulctl.client import Client, connect


@dataclass
class Settings:
    """What the options say; the later one counts."""

    socket: str | None = None
    output: str = "table"

    def connect(self) -> Client:
        """A client of the daemon. Raises ``Failure``."""
        return connect(self.socket)


def settings() -> Settings:
    """The settings of the command that runs."""
    return click.get_current_context().find_root().ensure_object(Settings)


class Command(click.Command):
    """A command that takes the common options too, and shows how it is used."""

    def __init__(self, *args: Any, examples: Sequence[str], **kwargs: Any) -> None:
        title = "Example:" if len(examples) == 1 else "Examples:"
        kwargs["epilog"] = "\n".join(["\b", title, *(f"  {each}" for each in examples)])
        super().__init__(*args, **kwargs)
        self.params.extend(common_options())


def common_options() -> Iterable[click.Option]:
    """``--socket``, ``--output``, ``--json``."""
    return (
        click.Option(
            ["--socket"],
            metavar="PATH",
            expose_value=False,
            callback=_note("socket"),
            help="The daemon's control socket. Default: $HAUL_SOCKET, else your own daemon's, else the system's.",
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["table", "json", "jsonl"]),
            expose_value=False,
            callback=_note("output"),
            help="For people; as one JSON document; or one JSON object a line.",
        ),
        click.Option(
            ["--json", "output_json"],
            is_flag=True,
            flag_value="json",
            default=None,
            expose_value=False,
            callback=_note("output"),
            help="The same as -o json.",
        ),
    )


def _note(name: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def note(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            setattr(context.find_root().ensure_object(Settings), name, value)

    return note
