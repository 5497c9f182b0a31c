"""Asking a person at the terminal, in a way that Ctrl-C ends at any moment: ``input`` can lose it."""

from __future__ import annotations

import os
import sys

import click

from haulctl.waiting import readable

LONGEST_ANSWER = 4096
"""Bytes; a terminal takes no longer line (N_TTY_BUF_SIZE of Linux)."""

ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


def confirmed(question: str) -> bool:
    """Whether the answer is yes; no answer is no, and what is neither is asked about again. Asked on stderr, answered on stdin,
    both of which are a terminal. Raises ``KeyboardInterrupt`` for Ctrl-C and ``EOFError`` for Ctrl-D."""
    while (said := _answer(f"{question} [y/N]: ").strip().lower()) not in ANSWERS:
        click.echo("Please answer y or n.", err=True)
    return ANSWERS[said]


def _answer(prompt: str) -> str:
    """One line."""
    click.echo(prompt, err=True, nl=False)
    typed = sys.stdin.fileno()
    readable(typed)
    line = os.read(typed, LONGEST_ANSWER)
    if not line:
        raise EOFError
    return line.decode(errors="replace")
