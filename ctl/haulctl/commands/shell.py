"""Commands for one's shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from haulctl.options import Command

VARIABLE = "_HAULCTL_COMPLETE"
"""How the script that a shell has loaded asks what to offer."""


@click.command(
    cls=Command,
    examples=[
        "haulctl completion bash > ~/.local/share/bash-completion/completions/haulctl",
        "haulctl completion zsh > ~/.zfunc/_haulctl",
        "haulctl completion fish > ~/.config/fish/completions/haulctl.fish",
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script with which your shell completes haulctl.

    It completes commands and options, and asks the daemon for the names of accounts and jobs.
    """
    maker = get_completion_class(shell)
    assert maker is not None, "the choice above names shells that click knows"
    click.echo(maker(context.find_root().command, {}, "haulctl", VARIABLE).source())
