"""Globs that no folder is like. A misspelt one makes a job that has all it wants at once, and nobody would notice."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from haulapi.calls import Folder, FolderListParams, Job, Preview, Strategy
from haulapi.faults import Exit
from haulctl.client import Client, all_elements, read_as
from haulctl.failure import Failure

MOST_NAMES = 3
"""Folders that are named as perhaps meant, for each glob."""


def is_listed(job: Job) -> bool:
    """Whether the folders of the origin were listed since the job was made."""
    return job.last_sync_at is not None or job.status == "completed"


def missed_by(connect: Callable[[], Client], one: Job | Preview) -> Failure | None:
    """What to say of folders that are asked for and not there; None when there is nothing to say, or nobody to ask. Its exit
    code is ``NOT_FOUND`` when there is no folder at all, and ``OK`` when there are others."""
    with suppress(Failure), connect() as client:
        return missed(client, one)
    return None


def missed(client: Client, one: Job | Preview) -> Failure | None:
    """The same of a daemon that is connected already. Raises ``Failure`` where it does not answer."""
    strategy = one.strategy
    if not (strategy.folders or strategy.exclude) or (isinstance(one, Job) and not is_listed(one)):
        return None
    try:
        if isinstance(one, Preview):
            found = bool(one.folders)
        else:
            found = next(_folders(client, FolderListParams(job=one.id, limit=1)), None) is not None
        if found and not strategy.folders:
            return None
        return _missed(one.account, strategy, list(_folders(client, FolderListParams(account=one.account))), found)
    except Failure as failure:
        if failure.exit != Exit.NOT_FOUND:
            raise
        return None  # the job is deleted, or the account is not configured any more


def _missed(account: str, strategy: Strategy, known: Sequence[Folder], found: bool) -> Failure | None:
    names = [folder.name for folder in known]
    code = Exit.OK if found else Exit.NOT_FOUND
    if strange := [glob for glob in strategy.folders if not any(_is_like(name, glob) for name in names)]:
        told = f"No folder of account {account} is like {' or '.join(map(repr, strange))}."
        hint = f"See which there are: haulctl test {account}. Upper and lower case are not the same, except in INBOX."
        return Failure(code, told, hint=hint, candidates=_nearest(strange, names))
    if found or any(folder.error for folder in known):  # what cannot be read is no part of a preview
        return None
    told = f"No folder of account {account} is left: what was asked for is left out, too."
    hint = "See --exclude of the job, and folders and exclude of the account in the configuration."
    return Failure(code, told, hint=hint)


def _folders(client: Client, wanted: FolderListParams) -> Iterator[Folder]:
    for each in all_elements(client, "folders.list", wanted, "folders"):
        yield read_as("folders.list", each, Folder)


def _is_like(name: str, glob: str) -> bool:
    """As the daemon sees it: case counts, but ``INBOX`` is the same in any."""
    return fnmatch.fnmatchcase(name, glob) or name.upper() == glob.upper() == "INBOX"


def _nearest(globs: Sequence[str], names: Sequence[str]) -> list[str]:
    """Folders that were perhaps meant: the same in another case, else those below one of that name, else similar ones."""
    import difflib

    plain = {name.casefold(): name for name in names}
    near: list[str] = []
    for glob in globs:
        asked = glob.casefold()
        alike = fnmatch.filter(plain, asked) or [each for each in plain if each.startswith(f"{asked}/")]
        near += [plain[each] for each in (alike or difflib.get_close_matches(asked, plain))[:MOST_NAMES]]
    return list(dict.fromkeys(near))
