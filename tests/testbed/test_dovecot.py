"""The private Dovecot is worth building on: it serves what was put in, exactly, and only to those who may."""

from __future__ import annotations

import hashlib
import imaplib
import ssl
import time

import pytest

from support import utf7
from support.dovecot import FIRST_DATE, Dovecot, Installation, NoDovecot, User
from support.messages import messages

AWKWARD = ["Projects/a b", 'Größe (x) * "y" \\ %', "emoji 😀&", "Sent"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_message_is_served_exactly_in_the_order_it_was_put_in(dovecot: Dovecot, mail_user: User):
    put_in = list(messages(50, size=3000))
    dovecot.fill(mail_user, "INBOX", put_in)
    assert dovecot.read_all(mail_user) == {"INBOX": {uid: sha256(m) for uid, m in enumerate(put_in, start=1)}}


def test_mailboxes_with_awkward_names_are_listed_and_read(dovecot: Dovecot, mail_user: User):
    for number, name in enumerate(AWKWARD):
        dovecot.fill(mail_user, name, messages(2, size=800, seed=number))
    assert {name: len(found) for name, found in dovecot.read_all(mail_user).items()} == {"INBOX": 0} | dict.fromkeys(AWKWARD, 2)


def test_messages_that_come_later_follow_those_that_were_there(dovecot: Dovecot, mail_user: User):
    first, second, third = messages(3, size=500)
    dovecot.fill(mail_user, "INBOX", [first])
    dovecot.read_all(mail_user)
    dovecot.fill(mail_user, "INBOX", [second])
    dovecot.append(mail_user, "INBOX", third)
    assert dovecot.read_all(mail_user)["INBOX"] == {1: sha256(first), 2: sha256(second), 3: sha256(third)}


def test_flags_and_dates_are_those_that_were_given(dovecot: Dovecot, mail_user: User):
    dovecot.fill(mail_user, "INBOX", messages(1), flags="FS")
    with dovecot.client(mail_user) as client:
        client.select("INBOX", readonly=True)
        _, [answer] = client.fetch("1", "(FLAGS INTERNALDATE)")
    assert set(imaplib.ParseFlags(answer)) >= {b"\\Flagged", b"\\Seen"}
    assert time.mktime(imaplib.Internaldate2tuple(answer)) == FIRST_DATE


def test_the_tls_port_shows_a_certificate_that_can_be_verified(dovecot: Dovecot, mail_user: User):
    trusting = ssl.create_default_context(cafile=dovecot.certificate)
    with imaplib.IMAP4_SSL("localhost", dovecot.tls_port, ssl_context=trusting) as client:
        assert client.authenticate("PLAIN", lambda _: f"\0{mail_user.name}\0{mail_user.password}".encode())[0] == "OK"
    with pytest.raises(ssl.SSLCertVerificationError):
        imaplib.IMAP4_SSL("localhost", dovecot.tls_port, ssl_context=ssl.create_default_context())


def test_a_wrong_password_is_refused(dovecot: Dovecot, mail_user: User):
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"), dovecot.client(User(mail_user.name, "wrong")):
        pass


def test_a_new_uidvalidity_can_be_given(dovecot: Dovecot, mail_user: User):
    dovecot.fill(mail_user, "INBOX", messages(3, size=500))
    dovecot.admin("mailbox", "update", "-u", mail_user.name, "--uid-validity", "12345", "INBOX")
    with dovecot.client(mail_user) as client:
        client.select("INBOX", readonly=True)
        assert client.response("UIDVALIDITY")[1] == [b"12345"]


def test_the_server_offers_what_the_imap_source_makes_use_of(dovecot: Dovecot, mail_user: User):
    with dovecot.client(mail_user) as client:
        offered = set(client.capability()[1][0].split())
    assert offered >= {
        b"IDLE",
        b"QRESYNC",
        b"CONDSTORE",
        b"ESEARCH",
        b"LIST-STATUS",
        b"SPECIAL-USE",
        b"COMPRESS=DEFLATE",
        b"NOTIFY",
    }


def test_mail_outlives_a_restart_of_the_server(dovecot: Dovecot):
    with Dovecot(dovecot.directory / "another") as server:
        user = server.add_user("alice", "secret")
        server.fill(user, "INBOX", messages(2, size=500))
        before = server.read_all(user)
    with server:
        assert server.read_all(user) == before


def test_without_dovecot_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("HAUL_DOVECOT_ROOT", str(tmp_path))
    with pytest.raises(NoDovecot, match="apt-get install dovecot-imapd"):
        Installation.find()


def test_bodies_that_were_fetched_are_counted(dovecot: Dovecot, mail_user: User):
    dovecot.fill(mail_user, "INBOX", messages(4, size=500))
    dovecot.read_all(mail_user)
    assert dovecot.bodies_fetched(mail_user) == 4


@pytest.mark.parametrize("name", ["", "plain", "a&b", "&", "Größe", "日本", "😀/x", "~peter/mail/台北/日本語"])
def test_modified_utf7_goes_both_ways(name: str):
    assert utf7.decode(utf7.encode(name)) == name


def test_modified_utf7_is_that_of_the_standard():
    assert utf7.encode("~peter/mail/台北/日本語") == b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"  # the example of RFC 3501, 5.1.3
