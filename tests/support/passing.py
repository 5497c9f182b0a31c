"""Starts a program as systemd does that has made sockets for it: ``passing.py PLACE... -- COMMAND...`` (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
import sys

FIRST = 3
"""The descriptor of the first socket."""


def pass_sockets(places: list[str], command: list[str]) -> None:
    """Become the command, with a socket that listens at each place."""
    made = []
    for place in places:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(place)
        listening.listen()
        made.append(os.dup(listening.fileno()))
        while made[-1] < FIRST + len(places):  # out of the way of where they go
            made[-1] = os.dup(made[-1])
    for number, descriptor in enumerate(made):
        os.dup2(descriptor, FIRST + number, inheritable=True)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(places)), "LISTEN_FDNAMES": "hauld.socket"}
    os.execvp(command[0], command)


if __name__ == "__main__":
    split = sys.argv.index("--")
    pass_sockets(sys.argv[1:split], sys.argv[split + 1 :])
