"""What a server says is shown without the secret it was told, in whatever form it repeats it (G7)."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from hauld.sources.imap.concealing import Concealment
from hauld.sources.imap.grammar import Status

SECRET = 'pa"ss\\wörd 1/2=3'


def concealing(*secrets: str) -> Concealment:
    concealment = Concealment()
    concealment.add(*secrets)
    return concealment


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        SECRET.replace("\\", "\\\\").replace('"', '\\"'),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        repr(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        quote(SECRET),
        quote(SECRET, safe=""),
    ],
)
def test_G7_a_secret_is_hidden_in_every_form_in_which_it_may_be_quoted(form: str) -> None:
    assert concealing(SECRET).text(f"alice/{form} is wrong") == "alice/*** is wrong"


def test_G7_a_secret_that_is_cut_off_is_hidden_as_far_as_it_goes() -> None:
    assert concealing("correct horse battery").text("no: correct hor") == "no: ***"
    assert concealing("correct horse battery").text("no: correct horses") == "no: ***s"


def test_G7_of_several_forms_that_begin_alike_the_longest_is_hidden() -> None:
    assert concealing("password one/two").text("no: password one/two and password%20one%2Ftwo") == "no: *** and ***"


def test_a_secret_shorter_than_others_are_told_by_is_hidden_whole() -> None:
    assert concealing("abc").text("abc abd") == "*** abd"


def test_what_is_no_secret_is_left_as_it_is() -> None:
    assert concealing("secret").text("try again later") == "try again later"
    assert concealing("").text("try again") == "try again"


def test_G7_a_code_that_nobody_has_defined_may_be_the_secret() -> None:
    concealment = concealing("hunter2hunter2")
    hidden = concealment.status(Status(b"a", "NO", "HUNTER2HUNTER2", b"hunter2", "hunter2hunter2"))
    assert hidden == Status(b"a", "NO", "", b"", "***")
    assert concealment.status(Status(b"a", "NO", "EXPIRED", b"", "old")).code == "EXPIRED"


def relaxed(*secrets: str) -> Concealment:
    concealment = concealing(*secrets)
    concealment.relax()
    return concealment


def test_G7_once_signing_in_is_over_the_secret_stays_hidden_and_all_else_is_shown() -> None:
    concealment = relaxed("hunter2hunter2")
    assert not concealment.is_strict
    said = Status(b"*", "OK", "ODD", b"17", "Opened hunter2hunter2.")
    assert concealment.status(said) == Status(b"*", "OK", "ODD", b"17", "Opened ***.")


@pytest.mark.parametrize("form", [SECRET, repr(SECRET.encode())[2:-1], base64.b64encode(SECRET.encode()).decode(), SECRET[:9]])
def test_G7_it_stays_hidden_in_every_form(form: str) -> None:
    assert relaxed(SECRET).text(f"LOGIN alice {form}") == "LOGIN alice ***"


def test_G7_a_code_that_holds_the_secret_is_none_in_whatever_case() -> None:
    hidden = relaxed("correct-horse-battery").status(Status(b"a", "NO", "CORRECT-HORSE-BATTERY", b"x", "no"))
    assert (hidden.code, hidden.argument, hidden.text) == ("", b"", "no")


def test_a_code_that_means_something_goes_on_meaning_it_whatever_the_password() -> None:
    said = Status(b"*", "OK", "UIDVALIDITY", b"7", "it is 7")
    assert relaxed("uidvalidity").status(said) == said


@pytest.mark.parametrize(
    ("said", "shown"), [("a mailbox that is fat", "*** mailbox that is fat"), ("alice:a@host", "alice:***@host")]
)
def test_G7_a_very_short_secret_is_hidden_only_where_it_is_a_word(said: str, shown: str) -> None:
    assert relaxed("a").text(said) == shown


def test_letters_that_are_the_same_only_without_case_bring_it_to_an_end() -> None:
    assert relaxed("ssssssss").text("\N{LATIN SMALL LETTER LONG S}" * 8 + "!") == "***!"


def test_what_was_never_told_a_secret_hides_nothing() -> None:
    concealment = Concealment()
    concealment.relax()
    said = Status(b"a", "NO", "ODD", b"x", "hunter2")
    assert concealment.status(said) is said
    assert concealment.text("anything") == "anything"
