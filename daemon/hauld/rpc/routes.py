"""Each method of ``haulapi.calls.CALLS`` and what answers it: the engine's commands and its event log, but for ``daemon.hello``
and for what belongs to one connection (``follow``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from haulapi import API_VERSION
from haulapi.calls import (
    CALLS,
    Account,
    AccountList,
    AccountParams,
    AccountTest,
    CreateParams,
    DaemonStatus,
    DeleteParams,
    Diagnosis,
    DoctorParams,
    EventList,
    EventListParams,
    FolderList,
    FolderListParams,
    Following,
    FollowParams,
    Hello,
    HelloParams,
    ItemList,
    ItemListParams,
    Job,
    JobList,
    JobListParams,
    JobParams,
    NoParams,
    Preview,
    Reload,
    RetryParams,
    Verification,
    VerifyParams,
    VerifyStatusParams,
)
from haulapi.events import Event
from hauld import __version__
from hauld.errors import Refused


class Commands(Protocol):
    """What can be asked of the daemon: one command for each call of the contract, named after its method. A command raises
    ``HaulError`` for what a person should read."""

    async def daemon_status(self, params: NoParams, /) -> DaemonStatus: ...
    async def daemon_reload(self, params: NoParams, /) -> Reload: ...
    async def daemon_doctor(self, params: DoctorParams, /) -> Diagnosis: ...
    async def accounts_list(self, params: NoParams, /) -> AccountList: ...
    async def accounts_get(self, params: AccountParams, /) -> Account: ...
    async def accounts_test(self, params: AccountParams, /) -> AccountTest: ...
    async def jobs_create(self, params: CreateParams, /) -> Job | Preview: ...
    async def jobs_list(self, params: JobListParams, /) -> JobList: ...
    async def jobs_get(self, params: JobParams, /) -> Job: ...
    async def jobs_start(self, params: JobParams, /) -> Job: ...
    async def jobs_pause(self, params: JobParams, /) -> Job: ...
    async def jobs_cancel(self, params: JobParams, /) -> Job: ...
    async def jobs_delete(self, params: DeleteParams, /) -> Job: ...
    async def jobs_retry(self, params: RetryParams, /) -> Job: ...
    async def jobs_sync(self, params: JobParams, /) -> Job: ...
    async def folders_list(self, params: FolderListParams, /) -> FolderList: ...
    async def items_list(self, params: ItemListParams, /) -> ItemList: ...
    async def verify_start(self, params: VerifyParams, /) -> Verification: ...
    async def verify_status(self, params: VerifyStatusParams, /) -> Verification: ...


class Reader(Protocol):
    """A place in the event stream that moves on as it is read."""

    following: Following

    async def next(self) -> Sequence[Event]:
        """The next events, at least one and not too many; waits for them. Raises ``HaulError`` when there is a gap."""
        ...


class Events(Protocol):
    """The event stream. Both raise ``Refused`` (``events_gone``) for a place that cannot be gone on from."""

    async def events_list(self, params: EventListParams, /) -> EventList: ...
    async def reader(self, params: FollowParams, /) -> Reader: ...


Route = Callable[[Any], Awaitable[Any]]
"""Takes the call's parameters, gives its result."""


OF_A_CONNECTION = frozenset({"events.follow", "events.unfollow"})
"""What each connection answers for itself."""


def routes(commands: Commands, events: Events) -> Mapping[str, Route]:
    """The route of every method of the contract but ``OF_A_CONNECTION``. A command that is missing shows here, when the
    daemon starts."""
    special: dict[str, Route] = {"daemon.hello": hello, "events.list": events.events_list}
    shared = CALLS.keys() - OF_A_CONNECTION
    return {method: special.get(method) or getattr(commands, method.replace(".", "_")) for method in CALLS if method in shared}


async def hello(params: HelloParams) -> Hello:
    """Versions. A client of another major version is refused in words, before it can misunderstand anything."""
    if params.version is not None and _major(params.version) != _major(API_VERSION):
        raise Refused(
            "version",
            f"{(params.client or 'The client')[:50]} speaks version {params.version[:20]} of the control protocol,"
            f" this daemon (hauld {__version__}) speaks {API_VERSION}.",
            hint="Install haulctl and hauld of the same release, and restart the daemon.",
        )
    return Hello(name="hauld", version=__version__, api=API_VERSION)


def _major(version: str) -> str:
    return version.partition(".")[0]
