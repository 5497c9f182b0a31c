"""What a server says while it is told a secret is shown without it, in whatever form it repeats it (G7)."""

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


def test_once_the_secret_is_over_everything_is_shown() -> None:
    concealment = concealing("hunter2")
    concealment.forget()
    assert not concealment.is_on
    assert concealment.status(Status(b"a", "NO", "ODD", b"x", "hunter2")) == Status(b"a", "NO", "ODD", b"x", "hunter2")
