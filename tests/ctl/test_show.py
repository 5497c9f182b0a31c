"""The screens, as one sees them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec
import pytest

from haulapi import calls
from haulapi.calls import AccountTest, DaemonStatus, ErrorInfo, Listener, Preview, PreviewFolder, Progress, Strategy
from haulapi.events import Event
from haulctl import show
from support.door import REFUSED_SIGN_IN, THROTTLED, account, done, folder, item, job

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)

ACCOUNTS = [
    account(),
    account(name="home", state="attention", since="2026-01-31T10:00:00Z", error=REFUSED_SIGN_IN, host="imap.example.net"),
    account(name="archive-of-the-old-company", state="waiting", error=THROTTLED, last_sync_at=None, items=1_234_567),
]
JOBS = [
    job(),
    job(
        id="job_aaaabbbbcccc",
        account="home",
        status="failed",
        phase=None,
        error=REFUSED_SIGN_IN,
        progress=Progress(total_items=120, failed_items=3, remaining_items=117),
    ),
    job(
        id="job_zzzzyyyyxxxx",
        account="archive-of-the-old-company",
        phase="waiting",
        error=THROTTLED,
        requester="cron",
        strategy=Strategy(kind="selected-folders", folders=["Projects/*", "INBOX"], exclude=["*/Old"]),
    ),
    job(id="job_000011112222", phase="listing", progress=Progress(), last_sync_at=None),
]
FOLDERS = [
    folder(),
    folder(name="Sent", kind="sent", total_items=8_000, downloaded_items=0, remaining_items=8_000, bytes=0, last_sync_at=None),
    folder(
        name="Projekte/Großkunden/日本語のフォルダ/Archiv",
        kind="other",
        total_items=3,
        downloaded_items=2,
        failed_items=1,
        remaining_items=0,
        is_complete=True,
    ),
    folder(
        name="Shared",
        kind="other",
        total_items=0,
        downloaded_items=0,
        remaining_items=0,
        bytes=0,
        error=ErrorInfo(kind="folder", message="The server says: mailbox is in use."),
    ),
]
ITEMS = [
    item(1),
    item(
        2,
        status="failed",
        local_path=None,
        downloaded_at=None,
        retry_count=5,
        error=ErrorInfo(kind="missing", message="The server lists this message but does not send it."),
    ),
    item(
        1_234_567, folder="Projekte/Großkunden/2024", status="pending", size=None, local_path=None, downloaded_at=None, flags=[]
    ),
]


def daemon_status(**changes: object) -> DaemonStatus:
    values: dict[str, object] = {
        "version": "0.1.0",
        "uptime_seconds": 273_600.0,
        "pid": 812,
        "accounts": ACCOUNTS,
        "jobs": {"running": 3, "failed": 1, "completed": 12, "paused": 0},
        "connections": 4,
        "clients": 1,
        "memory_bytes": 41_000_000,
        "state_path": "/var/lib/haul/haul.db",
        "store_path": "/var/lib/haul/mail",
    }
    return DaemonStatus(**values | changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def seen(lines: Iterable[str]) -> str:
    """What is on the screen, colours aside."""
    return "\n" + re.sub("\x1b\\[[0-9;]*m", "", "\n".join(lines)) + "\n"


TESTED = AccountTest(
    account="work",
    greeting="Dovecot ready.",
    capabilities=["IMAP4rev1", "LOGIN-REFERRALS", "IDLE", "CONDSTORE", "QRESYNC", "NOTIFY", "ESEARCH", "LIST-STATUS"],
    folders=[
        calls.TestedFolder(name="INBOX", kind="inbox", selectable=True),
        calls.TestedFolder(name="Projects", kind="other", selectable=False),
    ],
    seconds=0.42,
)


def test_status_shows_what_is_wrong_first_then_accounts_then_jobs_in_80_columns() -> None:
    shown = seen(
        show.status(daemon_status(configuration_error="haul.toml: accounts.work.port is not a number."), JOBS, 80, NOON)
    )
    assert (
        shown
        == """
hauld        0.1.0, up 3 days, pid 812
In use       41.0 MB of memory, 4 connections, 1 client
State        /var/lib/haul/haul.db
Store        /var/lib/haul/mail

Wrong: 3
  configuration: until somebody acts
    haul.toml: accounts.work.port is not a number.
    -> It was read again and cannot be used; the last good one stays in force.
       Mend it, then: haulctl reload
  account home: sign-in, since 2 h ago, until somebody acts
    imap.example.org refused the sign-in of me@example.org: Invalid credentials.
    -> Check the password that password_command gives, then: haulctl start JOB
  account archive-of-the-old-company: throttled, since 1 min ago, next try in 2 min
    imap.example.net asks for patience.
    -> Nothing is to be done: it goes on by itself then.

Accounts: 3
  NAME               STATE      SINCE      FOLDERS      ITEMS    SIZE  LAST SYNC
  work               connected  3 min ago       12      8,412  1.2 GB  2 min ago
  home               attention  2 h ago         12      8,412  1.2 GB  2 min ago
  archive-of-the-o…  waiting    3 min ago       12  1,234,567  1.2 GB  never

Jobs: 3 running, 1 failed, 12 completed
  JOB               ACCOUNT           STATUS                DONE   ITEMS  FAILED
  job_k3x9q2m4v8zt  work              running, downloading  42 %  20,000
  job_aaaabbbbcccc  home              failed                 0 %     120       3
  job_zzzzyyyyxxxx  archive-of-the-…  running, waiting      42 %  20,000
  job_000011112222  work              running, listing
"""
    )


def test_status_uses_200_columns() -> None:
    shown = seen(show.status(daemon_status(), JOBS[:3], 200, NOON))
    assert (
        shown
        == """
hauld        0.1.0, up 3 days, pid 812
In use       41.0 MB of memory, 4 connections, 1 client
State        /var/lib/haul/haul.db
Store        /var/lib/haul/mail

Wrong: 2
  account home: sign-in, since 2 h ago, until somebody acts
    imap.example.org refused the sign-in of me@example.org: Invalid credentials.
    -> Check the password that password_command gives, then: haulctl start JOB
  account archive-of-the-old-company: throttled, since 1 min ago, next try in 2 min
    imap.example.net asks for patience.
    -> Nothing is to be done: it goes on by itself then.

Accounts: 3
  NAME                        STATE      SINCE      FOLDERS      ITEMS    SIZE  LAST SYNC  USER            HOST              WHY
  work                        connected  3 min ago       12      8,412  1.2 GB  2 min ago  me@example.org  imap.example.org
  home                        attention  2 h ago         12      8,412  1.2 GB  2 min ago  me@example.org  imap.example.net  imap.example.org refused the sign-in of me@example.org: Invalid credential…
  archive-of-the-old-company  waiting    3 min ago       12  1,234,567  1.2 GB  never      me@example.org  imap.example.org  imap.example.net asks for patience.

Jobs: 3 running, 1 failed, 12 completed
  JOB               ACCOUNT                     STATUS                DONE   ITEMS  FAILED    SIZE  LEFT  LAST SYNC  SPEED  WANTS                         CREATED    BY    WHY
  job_k3x9q2m4v8zt  work                        running, downloading  42 %  20,000          1.2 GB  12 s  2 min ago  950/s  full                          3 min ago
  job_aaaabbbbcccc  home                        failed                 0 %     120       3     0 B        2 min ago         full                          3 min ago        imap.example.org refused the…
  job_zzzzyyyyxxxx  archive-of-the-old-company  running, waiting      42 %  20,000          1.2 GB        2 min ago  950/s  selected-folders in Project…  3 min ago  cron  imap.example.net asks for pa…
"""  # noqa: E501
    )


def test_status_of_a_daemon_that_is_well_says_so() -> None:
    shown = seen(show.status(daemon_status(accounts=[account()], jobs={"completed": 1}), [], 80, NOON))
    assert (
        shown
        == """
hauld        0.1.0, up 3 days, pid 812
In use       41.0 MB of memory, 4 connections, 1 client
State        /var/lib/haul/haul.db
Store        /var/lib/haul/mail

Nothing is wrong.

Accounts: 1
  NAME  STATE      SINCE      FOLDERS  ITEMS    SIZE  LAST SYNC  USER
  work  connected  3 min ago       12  8,412  1.2 GB  2 min ago  me@example.org

Jobs: 1 completed
"""
    )


def test_status_of_a_daemon_without_anything() -> None:
    shown = seen(show.status(daemon_status(accounts=[], jobs={}), [], 80, NOON))
    assert (
        shown
        == """
hauld        0.1.0, up 3 days, pid 812
In use       41.0 MB of memory, 4 connections, 1 client
State        /var/lib/haul/haul.db
Store        /var/lib/haul/mail

Nothing is wrong.

Accounts: 0

Jobs: none
"""
    )


def test_accounts_fit_80_columns() -> None:
    shown = seen(show.accounts(ACCOUNTS, 80, NOON))
    assert (
        shown
        == """
NAME                 STATE      SINCE      FOLDERS      ITEMS    SIZE  LAST SYNC
work                 connected  3 min ago       12      8,412  1.2 GB  2 min ago
home                 attention  2 h ago         12      8,412  1.2 GB  2 min ago
archive-of-the-old…  waiting    3 min ago       12  1,234,567  1.2 GB  never
"""
    )


def test_an_account_in_trouble_says_why_and_what_to_do() -> None:
    shown = seen(show.account(ACCOUNTS[1], 80, NOON))
    assert (
        shown
        == """
Account      home
State        attention since 2026-01-31 10:00:00 (2 h ago)
Origin       me@example.org at imap.example.net (imap)
Stored       8,412 items in 12 folders, 1.2 GB
Connections  3
Last sync    2026-01-31 11:58:00 (2 min ago)

Why: sign-in, since 2 h ago, until somebody acts
  imap.example.org refused the sign-in of me@example.org: Invalid credentials.
  -> Check the password that password_command gives, then: haulctl start JOB
"""
    )


def test_an_account_says_how_news_of_its_inbox_come() -> None:
    heard = Listener(
        folder="INBOX",
        mode="push",
        state="listening",
        since="2026-01-31T11:00:00Z",
        last_notice_at="2026-01-31T11:59:00Z",
    )
    no_push = ErrorInfo(
        kind="push",
        message="imap.example.org does not offer to push.",
        retry_at="2026-01-31T12:20:00Z",
        since="2026-01-31T11:20:00Z",
    )
    asked = Listener(folder="INBOX", mode="polling", state="waiting", since="2026-01-31T11:20:00Z", error=no_push)
    shown = seen(show.accounts([account(listeners=[heard]), account(listeners=[asked]), account()], 80, NOON))
    assert (
        shown
        == """
NAME  STATE      SINCE      FOLDERS  ITEMS    SIZE  LAST SYNC  INBOX
work  connected  3 min ago       12  8,412  1.2 GB  2 min ago  listening
work  connected  3 min ago       12  8,412  1.2 GB  2 min ago  polling
work  connected  3 min ago       12  8,412  1.2 GB  2 min ago
"""
    )
    shown = seen(show.account(account(listeners=[heard], freshness_secs=0.0), 80, NOON))
    assert "INBOX        listening since 2026-01-31 11:00:00 (1 h ago), last notice 1 min ago\n" in shown
    shown = seen(show.account(account(listeners=[asked], freshness_secs=125.0), 80, NOON))
    assert shown.endswith(
        """
INBOX        polling since 2026-01-31 11:20:00 (40 min ago), known as it was 2 min ago

INBOX: push, since 40 min ago, next try in 20 min
  imap.example.org does not offer to push.
  -> New mail comes by the account's schedule instead; a shorter one for the
     inbox brings it sooner.
"""
    )


def test_jobs_fit_80_columns() -> None:
    shown = seen(show.jobs(JOBS, 80, NOON))
    assert (
        shown
        == """
JOB               ACCOUNT             STATUS                DONE   ITEMS  FAILED
job_k3x9q2m4v8zt  work                running, downloading  42 %  20,000
job_aaaabbbbcccc  home                failed                 0 %     120       3
job_zzzzyyyyxxxx  archive-of-the-ol…  running, waiting      42 %  20,000
job_000011112222  work                running, listing
"""
    )


def test_jobs_use_200_columns() -> None:
    shown = seen(show.jobs(JOBS, 200, NOON))
    assert (
        shown
        == """
JOB               ACCOUNT                     STATUS                DONE   ITEMS  FAILED    SIZE  LEFT  LAST SYNC  SPEED  WANTS                          CREATED    BY    WHY
job_k3x9q2m4v8zt  work                        running, downloading  42 %  20,000          1.2 GB  12 s  2 min ago  950/s  full                           3 min ago
job_aaaabbbbcccc  home                        failed                 0 %     120       3     0 B        2 min ago         full                           3 min ago        imap.example.org refused the …
job_zzzzyyyyxxxx  archive-of-the-old-company  running, waiting      42 %  20,000          1.2 GB        2 min ago  950/s  selected-folders in Projects…  3 min ago  cron  imap.example.net asks for pat…
job_000011112222  work                        running, listing                                          never             full                           3 min ago
"""  # noqa: E501
    )


def test_a_job_that_downloads_says_how_far_it_is() -> None:
    shown = seen(show.job(JOBS[0], 80, NOON))
    assert (
        shown
        == """
Job          job_k3x9q2m4v8zt
Status       running, downloading
Account      work (imap)
Wants        full
Live         yes, it keeps watching
Priority     2 (normal)
Progress     42 % of 20,000 items
             8,412 downloaded, 11,588 to go
Downloaded   1.2 GB
Speed        950 items/s, 9.1 MB/s, 12 s left
Created      2026-01-31 11:57:00 (3 min ago)
Started      2026-01-31 11:57:01 (2 min ago)
Last sync    2026-01-31 11:58:00 (2 min ago)
"""
    )


def test_a_job_with_attempts_of_its_own_tells_them() -> None:
    assert "Attempts     9 times an item\n" in seen(show.job(job(attempts=9), 80, NOON))
    assert "Attempts" not in seen(show.job(job(), 80, NOON))


def test_a_job_that_waits_says_why_and_when_it_goes_on() -> None:
    shown = seen(show.job(JOBS[2], 80, NOON))
    assert (
        shown
        == """
Job          job_zzzzyyyyxxxx
Status       running, waiting
Account      archive-of-the-old-company (imap)
Wants        selected-folders in Projects/*, INBOX without */Old
Live         yes, it keeps watching
Priority     2 (normal)
Requested by cron
Progress     42 % of 20,000 items
             8,412 downloaded, 11,588 to go
Downloaded   1.2 GB
Speed        950 items/s, 9.1 MB/s
Created      2026-01-31 11:57:00 (3 min ago)
Started      2026-01-31 11:57:01 (2 min ago)
Last sync    2026-01-31 11:58:00 (2 min ago)

Why: throttled, since 1 min ago, next try in 2 min
  imap.example.net asks for patience.
  -> Nothing is to be done: it goes on by itself then.
"""
    )


def test_a_job_that_has_not_listed_yet_makes_no_number_up() -> None:
    shown = seen(show.job(JOBS[3], 80, NOON))
    assert (
        shown
        == """
Job          job_000011112222
Status       running, listing
Account      work (imap)
Wants        full
Live         yes, it keeps watching
Priority     2 (normal)
Progress     not known yet
Created      2026-01-31 11:57:00 (3 min ago)
Started      2026-01-31 11:57:01 (2 min ago)
Last sync    never
"""
    )


def test_a_job_that_is_done_says_when() -> None:
    shown = seen(show.job(done(live=False), 80, NOON))
    assert (
        shown
        == """
Job          job_k3x9q2m4v8zt
Status       completed
Account      work (imap)
Wants        full
Live         no, it ends when all is there
Priority     2 (normal)
Progress     100 % of 20,000 items
             20,000 downloaded
Downloaded   2.9 GB
Created      2026-01-31 11:57:00 (3 min ago)
Started      2026-01-31 11:57:01 (2 min ago)
Completed    2026-01-31 12:00:00 (now)
Last sync    2026-01-31 11:58:00 (2 min ago)
"""
    )


def test_folders_fit_80_columns_and_say_why_one_cannot_be_read() -> None:
    shown = seen(show.folders(FOLDERS, 80, NOON))
    assert (
        shown
        == """
FOLDER                DONE   ITEMS  TO GO  FAILED    SIZE  WHY
INBOX                 70 %  12,000  3,588          1.2 GB
Sent                   0 %   8,000  8,000             0 B
Projekte/Großkunden…  66 %       3              1  1.2 GB
Shared                           0                    0 B  The server says: mai…

Shared:
  The server says: mailbox is in use.
"""
    )


def test_folders_use_200_columns() -> None:
    shown = seen(show.folders(FOLDERS, 200, NOON))
    assert (
        shown
        == """
FOLDER                                       KIND   DONE   ITEMS  TO GO  FAILED    SIZE  LAST SYNC  WHY
INBOX                                        inbox  70 %  12,000  3,588          1.2 GB  2 min ago
Sent                                         sent    0 %   8,000  8,000             0 B  never
Projekte/Großkunden/日本語のフォルダ/Archiv  other  66 %       3              1  1.2 GB  2 min ago
Shared                                       other             0                    0 B  2 min ago  The server says: mailbox is in use.
"""  # noqa: E501
    )


def test_items_fit_80_columns_and_say_where_they_are_or_why_not() -> None:
    shown = seen(show.items(ITEMS, 80, NOON))
    assert (
        shown
        == """
STATUS     FOLDER               KEY                    SIZE  WHERE OR WHY
completed  INBOX                1700000000.1        10.2 kB  work/INBOX/1700000…
failed     INBOX                1700000000.2        10.2 kB  The server lists t…
pending    Projekte/Großkunde…  1700000000.1234567

Item 2:
  The server lists this message but does not send it.
"""
    )


def test_a_reason_of_several_items_that_has_no_room_is_told_once() -> None:
    items = [
        item(number, status="failed", error=ErrorInfo(kind="left-out", message="Left " * 20 + "out.")) for number in range(3)
    ]
    assert seen(show.items(items, 80, NOON)).endswith(
        "\n\nItem 0 and 2 others:\n  " + "Left " * 14 + "Left\n  " + "Left " * 5 + "out.\n"
    )


def test_items_use_200_columns() -> None:
    shown = seen(show.items(ITEMS, 200, NOON))
    assert (
        shown
        == r"""
   ITEM  STATUS     FOLDER                    KEY                    SIZE  DOWNLOADED  TRIES  FLAGS  WHERE OR WHY
      1  completed  INBOX                     1700000000.1        10.2 kB  1 min ago          \Seen  work/INBOX/1700000000.U1V1700000000
      2  failed     INBOX                     1700000000.2        10.2 kB                  5  \Seen  The server lists this message but does not send it.
1234567  pending    Projekte/Großkunden/2024  1700000000.1234567
"""  # noqa: E501
    )


def test_a_sign_in_that_was_tried_shows_the_server_and_its_folders() -> None:
    shown = seen(show.tested(TESTED, 80))
    assert (
        shown
        == """
Signed in to work in 0.42 s.
The server says: Dovecot ready.
It can: IMAP4rev1 LOGIN-REFERRALS IDLE CONDSTORE QRESYNC NOTIFY ESEARCH
        LIST-STATUS

FOLDER    KIND   NOTE
INBOX     inbox
Projects  other  holds no items
"""
    )


PREVIEW = Preview(
    account="work",
    strategy=Strategy(kind="date-range", since="2026-01-01", exclude=["Trash"]),
    folders=[
        PreviewFolder(name="INBOX", kind="inbox", items=3_588, bytes=36_741_120),
        PreviewFolder(name="Projekte/" + "Großkunden/" * 8, kind="other", items=1, bytes=812),
    ],
    items=3_589,
    bytes=36_741_932,
    stored_items=8_412,
    estimated_secs=75.0,
)


def test_a_dry_run_fits_80_columns() -> None:
    shown = seen(show.preview(PREVIEW, 80))
    assert (
        shown
        == """
FOLDER                                                     KIND   ITEMS     SIZE
INBOX                                                      inbox  3,588  36.7 MB
Projekte/Großkunden/Großkunden/Großkunden/Großkunden/Gro…  other      1    812 B

Nothing was created. A job on work that wants date-range since 2026-01-01
without Trash would fetch 3,589 items (36.7 MB); 8,412 are stored already.
At the rate of this account so far, that takes 1 min.
"""
    )


def test_a_dry_run_uses_200_columns() -> None:
    shown = seen(show.preview(PREVIEW, 200))
    assert (
        shown
        == """
FOLDER                                                                                             KIND   ITEMS     SIZE
INBOX                                                                                              inbox  3,588  36.7 MB
Projekte/Großkunden/Großkunden/Großkunden/Großkunden/Großkunden/Großkunden/Großkunden/Großkunden/  other      1    812 B

Nothing was created. A job on work that wants date-range since 2026-01-01 without Trash would fetch 3,589
items (36.7 MB); 8,412 are stored already.
At the rate of this account so far, that takes 1 min.
"""
    )


def test_a_dry_run_that_finds_nothing_or_knows_no_rate_makes_no_number_up() -> None:
    nothing = Preview(account="work", strategy=Strategy(), folders=[], items=0, bytes=0, stored_items=7, estimated_secs=None)
    assert "takes" not in seen(show.preview(nothing, 80))
    unknown = msgspec.structs.replace(PREVIEW, estimated_secs=None)
    assert "is not known" in seen(show.preview(unknown, 80))


def test_an_event_is_one_line_and_C12_harmless() -> None:
    told = Event(
        number=42,
        time="2026-01-31T12:00:00Z",
        kind="item.stored",
        job="job_k3x9q2m4v8zt",
        folder="IN\nBOX",
        data={"items": [1, 2], "bytes": 7},
    )
    assert show.event(told) == "      42  2026-01-31 12:00:00  item.stored  job_k3x9q2m4v8zt  IN\\nBOX  items=[2] bytes=7"
