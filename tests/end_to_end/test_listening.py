"""A daemon that listens, a real server, and what people see of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.watching import is_done, listens, until


@pytest.fixture
def hauld(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> Iterator[Hauld]:
    with Hauld(tmp_path / "haul", {"a": dovecot.account(mail_user)}) as daemon:
        yield daemon


def test_new_mail_comes_with_its_event_and_people_see_that_it_is_listened_for(
    hauld: Hauld, dovecot: Dovecot, mail_user: User
) -> None:
    job = hauld.call("jobs.create", account="a")["id"]
    until(hauld, job, lambda _: listens(hauld, "a"))
    assert hauld.call("accounts.get", account="a")["freshness_secs"] == 0.0
    dovecot.append(mail_user, "INBOX", b"Subject: news\r\n\r\n")
    until(hauld, job, lambda seen: seen["progress"]["downloaded_items"] == 1)
    (stored,) = [event for event in hauld.call("events.list", job=job)["events"] if event["kind"] == "item.stored"]
    assert (stored["folder"], stored["data"]["count"]) == ("INBOX", 1)
    assert hauld.stored("a") == dovecot.read_all(mail_user)
    shown = hauld.haulctl("account", "a").stdout
    assert "INBOX        listening since " in shown
    assert "last notice " in shown
    assert "listening" in hauld.haulctl("status").stdout


def test_N20_a_listener_that_the_server_throws_out_and_a_daemon_that_is_killed_miss_nothing(
    hauld: Hauld, dovecot: Dovecot, mail_user: User
) -> None:
    job = hauld.call("jobs.create", account="a")["id"]
    until(hauld, job, lambda _: listens(hauld, "a"))
    dovecot.admin("kick", mail_user.name)
    dovecot.append(mail_user, "INBOX", b"Subject: while nobody listens\r\n\r\n")
    until(hauld, job, lambda seen: seen["progress"]["downloaded_items"] == 1)
    until(hauld, job, lambda _: listens(hauld, "a"))
    hauld.kill()
    dovecot.append(mail_user, "INBOX", b"Subject: while nobody is there\r\n\r\n")
    hauld.start()
    until(hauld, job, lambda seen: seen["progress"]["downloaded_items"] == 2 and is_done(seen))
    until(hauld, job, lambda _: listens(hauld, "a"))
    dovecot.append(mail_user, "INBOX", b"Subject: afterwards\r\n\r\n")
    until(hauld, job, lambda seen: seen["progress"]["downloaded_items"] == 3)
    assert hauld.stored("a") == dovecot.read_all(mail_user)
