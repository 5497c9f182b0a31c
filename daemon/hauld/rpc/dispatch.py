"""From what a line says to its answer: requests checked, routes called, errors turned into words.

Whatever that is, ``Dispatcher.reply`` gives the bytes to send back, or None where nothing is answered. What the methods do
is in ``routes``; who may send lines, and how many, in ``server`` and ``turns``.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from haulapi.calls import CALLS, Params
from haulapi.envelope import ErrorData, ErrorObject, ErrorReply, Id, Reply, Request
from haulapi.faults import fault
from haulapi.frames import MAX_BATCH, MAX_LINE, LineTooLong, encode
from hauld.clock import Clock, rfc3339
from hauld.errors import HaulError, NeedsAttention, Refused, Transient
from hauld.rpc.routes import Route

log = logging.getLogger("hauld.rpc")

LONGEST_ECHO = 200
"""Characters of what a client sent that are repeated to it."""

REPORT = "If it comes again, please report it as a bug, with those lines of the log."


class Dispatcher:
    """Answers by the routes."""

    def __init__(self, routes: Mapping[str, Route], clock: Clock) -> None:
        self._routes = routes
        self._clock = clock

    async def reply(self, message: Any) -> bytes | None:
        """The reply to what one line says, to a batch the replies that are due; None when nothing is (notifications)."""
        if not isinstance(message, list):
            return await self._reply(message)
        if not 0 < len(message) <= MAX_BATCH:
            return refusal("invalid_request", f"A batch has 1 to {MAX_BATCH} requests; this one has {len(message):,}.")
        return _batch([reply for each in message if (reply := await self._reply(each)) is not None])

    async def _reply(self, message: Any) -> bytes | None:
        """The reply to one request. What is no request is told so; a notification gets silence, whatever becomes of it."""
        identity = _readable_id(message)
        try:
            request = _request(message)
        except Refused as error:
            return encode(ErrorReply(id=identity, error=error_object(error, self._clock)))
        try:
            reply = encode(Reply(id=identity, result=await self._call(request)))
        except LineTooLong as error:
            reply = _too_large(identity, str(error))
        except HaulError as error:
            reply = encode(ErrorReply(id=identity, error=error_object(error, self._clock)))
        except Exception:
            log.exception("unexpected error in %.200s", request.method)
            reply = refusal("internal", "The daemon met an error of its own; its log says more.", identity, hint=REPORT)
        return None if request.id is msgspec.UNSET else reply

    async def _call(self, request: Request) -> Any:
        route = self._routes.get(request.method)
        if route is None:
            raise _unknown_method(request.method, self._routes)
        return await route(_params(request))


def error_object(error: HaulError, clock: Clock) -> ErrorObject:
    """The error as it goes over the wire: a kind of ``haulapi.faults``, a sentence, and what else is known."""
    kind = _kind(error)
    retry_at = None
    if isinstance(error, Transient) and error.at_least > 0:
        retry_at = rfc3339(clock.now_ms() + round(error.at_least * 1000))
    candidates = error.candidates or None if isinstance(error, Refused) else None
    data = ErrorData(kind=kind, hint=error.hint, retry_at=retry_at, candidates=candidates)
    return ErrorObject(code=fault(kind).code, message=error.message, data=data)


def refusal(kind: str, message: str, identity: Id = None, *, hint: str | None = None) -> bytes:
    """An error line for what never reached a command."""
    error = ErrorObject(code=fault(kind).code, message=message, data=ErrorData(kind=kind, hint=hint))
    return encode(ErrorReply(id=identity, error=error))


# --- reading a request ---------------------------------------------------------------------------------------------


def _request(message: Any) -> Request:
    """The request, its envelope checked. Raises ``Refused``: ``invalid_request``, or ``invalid_params`` for params that are
    no object."""
    if isinstance(message, dict) and not isinstance(message.get("params", {}), dict):
        raise Refused("invalid_params", "The params of a request are an object with named parameters.")
    try:
        request = msgspec.convert(message, Request, strict=True)
    except msgspec.ValidationError as error:
        raise Refused("invalid_request", f"This is not a JSON-RPC 2.0 request: {_reason(error)}.") from None
    if request.jsonrpc != "2.0":
        raise Refused("invalid_request", 'This is not a JSON-RPC 2.0 request: its "jsonrpc" is not "2.0".')
    if request.id is not msgspec.UNSET and request.id != _readable_id(message):
        raise Refused("invalid_request", f"The id of a request has {LONGEST_ECHO} characters at most, or is a 64-bit integer.")
    return request


def _params(request: Request) -> Params:
    """The parameters as their method wants them. Raises ``Refused`` (``invalid_params``) with path and reason."""
    wanted = CALLS[request.method].params
    given = {} if request.params is msgspec.UNSET else request.params
    try:
        return msgspec.convert(given, wanted, strict=True)
    except msgspec.ValidationError as error:
        names = ", ".join(wanted.__struct_encode_fields__)
        raise Refused(
            "invalid_params",
            f"{request.method} was asked with wrong parameters: {_reason(error)}.",
            hint=f"It takes: {names}." if names else "It takes no parameters.",
        ) from None


def _readable_id(message: Any) -> Id:
    """The id to answer to; None where there is none that could be repeated."""
    identity = message.get("id") if isinstance(message, dict) else None
    if isinstance(identity, str) and len(identity) <= LONGEST_ECHO:
        return identity
    if isinstance(identity, int) and not isinstance(identity, bool) and -(2**63) <= identity < 2**63:
        return identity
    return None


def _reason(error: msgspec.ValidationError) -> str:
    """The words of msgspec without its marks: ``Expected `int`, got `str` - at `$.limit` ``."""
    return str(error).replace("`", "").replace(" - at $.", " at ").replace(" - at $", " at ")[:LONGEST_ECHO]


def _unknown_method(method: str, known: Mapping[str, Route]) -> Refused:
    nearest = difflib.get_close_matches(method[:LONGEST_ECHO], known, n=1)
    hint = f"Perhaps {nearest[0]} was meant." if nearest else "This daemon may be older than its client."
    return Refused("method_not_found", f"There is no method {method[:LONGEST_ECHO]}.", hint=hint)


# --- answering -----------------------------------------------------------------------------------------------------


def _kind(error: HaulError) -> str:
    """The word of ``haulapi.faults`` for an error; the errors are named by the next step, the words by what to tell."""
    if isinstance(error, Refused):
        return error.kind
    if isinstance(error, Transient):
        return "try_again"
    if isinstance(error, NeedsAttention):
        return {"sign-in": "sign_in_refused", "configuration": "configuration"}.get(error.kind, "failed")
    return "failed"


def _batch(replies: list[bytes]) -> bytes | None:
    """The replies as one line. When that would be too long, those that take more than their share give way to an error."""
    if sum(map(len, replies)) + 2 > MAX_LINE:
        share = MAX_LINE // MAX_BATCH - 1
        replies = [reply if len(reply) <= share else _gives_way(reply) for reply in replies]
    return b"[" + b",".join(reply.rstrip(b"\n") for reply in replies) + b"]\n" if replies else None


def _gives_way(reply: bytes) -> bytes:
    identity = _readable_id(msgspec.json.decode(reply))
    return _too_large(identity, f"The replies of this batch together have more than the {MAX_LINE:,} bytes of a line.")


def _too_large(identity: Id, message: str) -> bytes:
    return refusal("failed", message, identity, hint="Ask for less at once: a smaller limit, one folder, fewer calls.")
