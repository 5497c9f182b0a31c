"""Real messages, many of them malformed on purpose, through a real server and back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.daemon import Hauld
from support.dovecot import Dovecot, User

CORPUS = Path(__file__).parents[3] / "shared/corpus/messages"


def import_all(directory: Path, dovecot: Dovecot, user: User) -> dict[str, dict[int, str]]:
    """What lies on disk after an import that found nothing wrong."""
    with Hauld(directory, {"a": dovecot.account(user)}) as hauld:
        done = hauld.haulctl("create", "a", "--once", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["progress"]["failed_items"] == 0
        return {folder: kept for folder, kept in hauld.stored("a").items() if kept}


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the corpus of real messages is not at {CORPUS}")
def test_P36_the_corpus_comes_through_a_real_server_byte_for_byte(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> None:
    everything = 0
    for source in sorted(CORPUS.iterdir()):
        bodies = [path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()]
        crlf = [re.sub(rb"\r?\n", b"\r\n", body) for body in bodies if body]
        everything += dovecot.fill(mail_user, source.name.replace(".", "_"), crlf)
    assert everything > 300
    stored = import_all(tmp_path / "haul", dovecot, mail_user)
    truth = {folder: kept for folder, kept in dovecot.read_all(mail_user).items() if kept}
    assert sum(map(len, truth.values())) == everything
    assert stored == truth


def test_P21_P36_odd_messages_are_each_stored_as_they_are(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> None:
    twin = b"Message-ID: <same@example.org>\r\n\r\n"
    odd = [
        twin + b"one\r\n",
        twin + b"two\r\n",
        b"Subject: no id\r\n\r\nx\r\n",
        b"Message-ID: <" + b"x" * 1_000_000 + b">\r\n\r\nlong\r\n",
        b"no header at all, and no empty line\r\n",
        b"\r\n",
        b"Subject: \xff\xfe\x80 raw\r\nContent-Type: text/plain; charset=nonsense\r\n\r\n\xff\xfe\r\n",
        b"Subject: =?utf-8?q?broken=?= =?x?\r\n\r\nbody\r\n",
        b"Subject: twin\r\n\r\nequal\r\n",
        b"Subject: twin\r\n\r\nequal\r\n",
    ]
    dovecot.fill(mail_user, "INBOX", odd)
    stored = import_all(tmp_path / "haul", dovecot, mail_user)
    assert stored == {"INBOX": dovecot.read_all(mail_user)["INBOX"]}
    assert len(stored["INBOX"]) == len(odd)


def test_P29_P31_P32_folders_of_all_names_have_places_of_their_own(tmp_path: Path, dovecot: Dovecot, mail_user: User) -> None:
    names = [
        "INBOX",
        "Inbox copy",
        "CON",
        "Übung & mehr",
        "a%b",
        "x" * 120,
        "emoji 📬",
        "case",
        "Case",
        "dot.dot",
        "q\"uo'te",
    ]
    for number, name in enumerate(names):
        dovecot.fill(mail_user, name, [b"Subject: %d\r\n\r\n%s\r\n" % (number, name.encode())])
    stored = import_all(tmp_path / "haul", dovecot, mail_user)
    assert stored == {folder: kept for folder, kept in dovecot.read_all(mail_user).items() if kept}
    assert set(stored) == set(names)
