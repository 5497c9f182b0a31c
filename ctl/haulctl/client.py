"""The conversation with the daemon: one blocking connection to its control socket, typed by the contract."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import msgspec

from haulapi import API_VERSION
from haulapi.calls import CALLS, HelloParams, NoParams, Params
from haulapi.envelope import ErrorObject, Request
from haulapi.faults import fault
from haulapi.frames import Lines, LineTooLong, encode
from haulctl.failure import HINTS, Failure, Unreachable
from haulctl.waiting import readable

PATIENCE = 60.0
"""Seconds that a reply may take; what signs in at an origin may take longer and says so."""

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading something that is not as promised raises."""

SYSTEM_SOCKET = "/run/haul/haul.sock"

COMES_BACK = "It may be stopping or starting again."

CHUNK = 1 << 16
"""Bytes read at once."""


class Client:
    """One connection. Every method raises ``Failure``; after ``Unreachable`` the connection is of no more use."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._cutter = Lines()
        self._lines: deque[bytes] = deque()
        self._number = 0

    def call(self, method: str, params: Params | None = None, *, patience: float = PATIENCE) -> Any:
        """The result, as the type that ``CALLS`` gives for the method."""
        return read(method, self.ask(method, params, patience=patience))

    def notice(self, patience: float) -> bytes | None:
        """The next event that the daemon sends to whoever called ``events.follow``, as JSON exactly as on the wire; None when
        none comes for so many seconds. Nothing else can be asked on a connection that follows."""
        try:
            line = self._next_line(patience)
        except TimeoutError:
            return None
        except (OSError, LineTooLong) as error:
            raise _broken(error) from error
        if line is None:
            raise _silent()
        try:
            notice = msgspec.json.decode(line, type=_Notice)
        except UNREADABLE as error:
            raise strange(f"what it sends to a follower is no event: {error}") from error
        if notice.error is not None:
            raise _failure(notice.error)
        return bytes(notice.params)

    def ask(self, method: str, params: Params | None = None, *, patience: float = PATIENCE) -> bytes:
        """The result as JSON, exactly as on the wire."""
        self._number += 1
        request = Request(jsonrpc="2.0", method=method, params=msgspec.to_builtins(params or NoParams()), id=self._number)
        try:
            line = encode(request)
        except (LineTooLong, UnicodeEncodeError) as error:
            raise Failure(fault("invalid_params").exit, f"This cannot be asked of hauld: {error}") from error
        return self._result(method, self._exchange(line, patience))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _exchange(self, line: bytes, patience: float) -> bytes:
        self._connection.settimeout(patience)
        try:
            with suppress(BrokenPipeError):  # whoever closed the door may have said why: read that
                self._connection.sendall(line)
            reply = self._next_line(patience)
        except TimeoutError as error:
            raise Unreachable(
                f"hauld did not answer within {patience:.0f} s.", hint="Its log may say what keeps it: journalctl -u hauld"
            ) from error
        except (OSError, LineTooLong) as error:
            raise _broken(error) from error
        if reply is None:
            raise _silent()
        return reply

    def _next_line(self, patience: float) -> bytes | None:
        """The next line, or None when the daemon has hung up. Raises ``TimeoutError`` when nothing comes for so long."""
        while not self._lines:
            if not readable(self._connection.fileno(), patience):
                raise TimeoutError
            if not (data := self._connection.recv(CHUNK)):
                return None
            self._lines.extend(self._cutter.feed(data))
        return self._lines.popleft()

    def _result(self, method: str, line: bytes) -> bytes:
        try:
            reply = msgspec.json.decode(line, type=_Reply)
        except UNREADABLE as error:
            raise strange(f"its reply to {method} is no JSON-RPC reply: {error}") from error
        if reply.error is not None:
            raise _failure(reply.error)
        if reply.id != self._number:
            raise strange(f"its reply to {method} belongs to another request")
        return bytes(reply.result)


def connect(path: str | None = None, *, patience: float = PATIENCE) -> Client:
    """A client of the daemon at that socket, or at the first usual place where one answers; versions are compared."""
    client = Client(_reach([path] if path else usual_places(os.environ, os.getuid()), patience))
    try:
        client.call("daemon.hello", HelloParams(version=API_VERSION, client="haulctl"), patience=patience)
    except BaseException:
        client.close()
        raise
    return client


def usual_places(environ: Mapping[str, str], uid: int) -> list[str]:
    """Where a daemon's socket is looked for: ``$HAUL_SOCKET`` alone when it is set, else one's own daemon, then the
    system's."""
    if environ.get("HAUL_SOCKET"):
        return [environ["HAUL_SOCKET"]]
    runtime = _absolute(environ, "XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    state = _absolute(environ, "XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return [os.path.join(runtime, "haul/haul.sock"), os.path.join(state, "haul/haul.sock"), SYSTEM_SOCKET]


def read(method: str, raw: bytes) -> Any:
    """A result that ``Client.ask`` gave, as the type that ``CALLS`` gives for the method. Raises ``Failure``."""
    return read_as(method, raw, CALLS[method].result)


def read_as(method: str, raw: bytes, kind: Any) -> Any:
    """The same as the one type that is expected, for a method with several."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE as error:
        raise strange(f"its reply to {method} is not what the contract says: {error}") from error


def elements(raw: bytes, field: str) -> list[bytes]:
    """The elements of a list in a result, each as JSON."""
    return [bytes(each) for each in _field(raw, field, list[msgspec.Raw])]


def all_elements(client: Client, method: str, params: Params, field: str, *, patience: float = PATIENCE) -> Iterator[bytes]:
    """The elements of a list that comes in pages, each as JSON, over all pages from the params' own on."""
    while True:
        page = client.ask(method, params, patience=patience)
        yield from elements(page, field)
        after = _field(page, "next", str | None)
        if after is None:
            return
        params = msgspec.structs.replace(params, after=after)


def whole(client: Client, method: str, params: Params, field: str) -> bytes:
    """A list that comes in pages as one result, as JSON: as if there were one page with all of it."""
    return b'{"%s":[%s],"next":null}' % (field.encode(), b",".join(all_elements(client, method, params, field)))


def _field(raw: bytes, name: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])[name], type=kind)
    except (KeyError, *UNREADABLE) as error:
        raise strange(f"a list without proper {name}") from error


def _absolute(environ: Mapping[str, str], variable: str) -> str | None:
    """The directory that the variable names; the XDG Base Directory Specification asks that relative ones be ignored."""
    value = environ.get(variable, "")
    return value if value.startswith("/") else None


class _Notice(msgspec.Struct):
    params: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorObject | None = None


class _Reply(msgspec.Struct):
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorObject | None = None


def _reach(places: list[str], patience: float) -> socket.socket:
    """A connection to the first place where somebody answers."""
    forbidden: str | None = None
    for place in places:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(patience)
        try:
            connection.connect(place)
        except OSError as error:
            connection.close()
            if isinstance(error, PermissionError) and forbidden is None:
                forbidden = place
            continue
        return connection
    if forbidden is not None:
        raise Unreachable(
            f"You may not use the control socket of hauld, {forbidden}.",
            hint="The group haul may: sudo usermod -aG haul $USER, then log in again. Its own user and root may, too.",
        )
    raise Unreachable(
        f"hauld does not seem to be running: nothing answers at {' or '.join(places)}.",
        hint="Start it with: hauld run. If it has its socket elsewhere, name it with --socket or HAUL_SOCKET.",
    )


def _failure(error: ErrorObject) -> Failure:
    data = error.data
    return Failure(
        fault(data.kind).exit,
        error.message,
        hint=data.hint or HINTS.get(data.kind),
        kind=data.kind,
        retry_at=data.retry_at,
        candidates=data.candidates or (),
    )


def _broken(error: Exception) -> Unreachable:
    return Unreachable(f"The connection to hauld broke: {getattr(error, 'strerror', None) or error}.", hint=COMES_BACK)


def _silent() -> Unreachable:
    return Unreachable("hauld closed the connection without an answer.", hint=COMES_BACK)


def strange(what: str) -> Failure:
    """What to say of an answer that is not as promised."""
    return Failure(
        fault("version").exit,
        f"hauld answered in a way that this haulctl does not understand: {what}.",
        hint="Install haulctl and hauld of the same release.",
        kind="version",
    )
