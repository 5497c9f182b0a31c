"""The command about the configuration."""

from __future__ import annotations

from collections.abc import Iterable

import click

from haulapi.calls import NoParams, Reload
from haulctl import output, show
from haulctl.options import Command

PATIENCE = 300.0
"""Seconds; accounts that are removed or changed are stopped first, and what they are committing is finished."""


@click.command(cls=Command, examples=["haulctl reload", "haulctl reload -o json | jq -r '.restart_needed[]'"])
def reload() -> None:
    """Read the configuration again and apply what is different.

    It is checked whole first: with a mistake in it nothing changes, every mistake is told, and the exit code is 78. Accounts
    that the change does not concern go on undisturbed.
    """

    def screen(told: Reload) -> Iterable[str]:
        return show.reloaded(told, output.width())

    output.answer("daemon.reload", NoParams(), screen, patience=PATIENCE)
