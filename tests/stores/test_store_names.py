"""Names on disk: harmless, told apart, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauld.stores import names

ANY_TEXT = st.text(st.characters(codec=None), max_size=300)  # lone surrogates too


@pytest.mark.parametrize(
    ("component", "name"),
    [
        ("Sent Items", "Sent Items"),
        ("Entwürfe", "Entwürfe"),
        ("受信箱 📬", "受信箱 📬"),
        ("[Gmail]", "[Gmail]"),
        ("..", "%2E%2E"),
        (".hidden", "%2Ehidden"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        ("C:\\x", "C%3A%5Cx"),
        ("~root", "%7Eroot"),
        ("cur", "%63ur"),
        ("Tmp", "%54mp"),
        ("CON", "%43ON"),
        ("nul.txt", "%6Eul.txt"),
        ("console", "console"),
        ("100%", "100%25"),
        ("trailing. ", "trailing.%20"),
        (" leading", "%20leading"),
        ("a\x00b\nc", "a%00b%0Ac"),
        ("right\u202eleft", "right%E2%80%AEleft"),
        ("zero\u200bwidth", "zero%E2%80%8Bwidth"),
        ("\udcff", "%ED%B3%BF"),
        ("", "%~"),
    ],
)
def test_P29_hostile_names_are_escaped_and_others_stay_readable(component: str, name: str) -> None:
    assert names.escape(component) == name


@given(ANY_TEXT)
def test_P29_any_text_becomes_one_harmless_name(text: str) -> None:
    name = names.escape(text)
    assert 0 < len(name.encode()) <= 138
    assert not set(name) & set('/\\:\0<>"|?*')
    assert name[0] not in ".~ "
    assert name[-1] not in ". "
    assert name.casefold() not in ("cur", "new", "tmp")


@given(st.lists(ANY_TEXT, max_size=5))
def test_P29_any_path_becomes_one_harmless_flat_name(path: list[str]) -> None:
    name = names.escape_flat(path)
    assert 0 < len(name.encode()) <= 138
    assert "/" not in name
    assert name.startswith("." if path else "%")
    assert ".." not in name
    assert name.strip(".")


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_become_different_names(one: str, other: str) -> None:
    assert (names.escape(one) == names.escape(other)) == (one == other)


def test_P29_long_names_are_cut_and_stay_apart() -> None:
    one, other = (names.escape("x" * 4096 + end) for end in "ab")
    assert one != other
    assert one.startswith("x" * 120 + "%~")
    assert len(names.escape("ü" * 80).encode()) <= 138


def test_a_path_that_is_too_long_for_directories_becomes_a_single_name() -> None:
    deep = ["component"] * 500
    assert len(names.escape_path(deep)) == 1
    assert names.escape_path(deep) != names.escape_path([*deep, "more"])
    assert names.escape_path(["a", "b"]) == ["a", "b"]


def test_a_dot_inside_a_component_is_no_separator_in_a_flat_name() -> None:
    assert names.escape_flat(["a.b", "c"]) == ".a%2Eb.c"


@pytest.mark.parametrize("other", ["INBOX", "Inbox", "inbox"])
def test_names_that_differ_in_case_alone_are_alike(other: str) -> None:
    assert names.likeness(other) == names.likeness("inbox")


def test_a_name_with_a_hash_gets_another_for_another_origin() -> None:
    assert names.hashed("x%~0123", b"a") == names.hashed("x", b"a") != names.hashed("x", b"b")


# --- files ---

SHA256 = "0123456789abcdef" * 4


def test_an_imap_key_is_read_in_the_name() -> None:
    unique = names.unique_part(1_700_000_000_999, "7", "7.42", SHA256, 10)
    assert unique == f"1700000000.U42V7H{SHA256[:32]}.haul,S=10"
    assert names.read_unique_part(unique) == names.ItemName("7", "7.42", 10, SHA256[:32], 1_700_000_000_000)


@given(st.text(st.characters(codec=None), max_size=3), st.text(st.characters(codec=None), max_size=2), st.integers(0, 2**63))
def test_any_short_key_comes_back_from_its_name(key: str, epoch: str, size: int) -> None:
    unique = names.unique_part(None, epoch, key, SHA256, size)
    assert names.read_unique_part(unique) == names.ItemName(epoch, key, size, SHA256[:32])
    assert not set(unique) & set("/:\0 ")
    assert not unique.startswith(".")


@pytest.mark.parametrize(("epoch", "key"), [("8", "7.42"), ("7", "7.042"), ("7", "7.٤"), ("7", "7"), ("", "")])
def test_what_only_looks_like_an_imap_key_is_not_taken_for_one(epoch: str, key: str) -> None:
    unique = names.unique_part(0, epoch, key, SHA256, 1)
    assert ".K" in unique
    assert names.read_unique_part(unique) == names.ItemName(epoch, key, 1, SHA256[:32])


def test_a_key_too_long_for_a_name_makes_a_name_of_its_own_that_tells_no_key() -> None:
    one, other = (names.unique_part(0, "1", "k" * 1000 + end, SHA256, 1) for end in "ab")
    assert one != other
    assert names.read_unique_part(one) is None


@pytest.mark.parametrize(
    ("epoch", "key"), [("4294967295", "4294967295.4294967295"), ("e" * 1000, "k" * 1000), ("\0" * 8, "k" * 40)]
)
def test_L18_a_name_fits_where_names_end_at_143_bytes(epoch: str, key: str) -> None:
    unique = names.unique_part(9_999_999_999_000, epoch, key, SHA256, 9_999_999_999)
    assert len(f".{unique}:2,DFPRST".encode()) <= 143


@pytest.mark.parametrize("name", ["1700000000.M1P2.host,S=10", "", ".haul", "1.U1V1Hxyz.haul,S=1"])
def test_files_of_other_programs_are_not_taken_for_ours(name: str) -> None:
    assert names.read_unique_part(name) is None


@pytest.mark.parametrize(
    ("date", "seconds"), [(None, 0), (-5, 0), (1_999, 1), (10**18, 253402300799), (253402300799000, 253402300799)]
)
def test_P45_a_date_makes_sense_in_a_name(date: int | None, seconds: int) -> None:
    assert names.seconds(date) == seconds


def test_flags_become_letters_in_order() -> None:
    assert names.letters(["\\Seen", "\\ANSWERED", "\\Flagged", "\\Draft", "\\Deleted", "$Forwarded", "other"]) == "DFPRST"
    assert names.letters([]) == ""


def test_letters_become_flags_again() -> None:
    flags = ("\\Draft", "\\Flagged", "$Forwarded", "\\Answered", "\\Seen", "\\Deleted")
    assert names.flags(names.letters(flags)) == flags
    assert names.flags("Sab,?") == ("\\Seen",)


def test_two_names_of_one_message_have_the_letters_of_both() -> None:
    assert names.both("Sb", "FS") == "FSb"
    assert names.both("", "") == ""


def test_relabelling_keeps_the_letters_of_other_programs() -> None:
    assert names.relabelled("FSab", ["\\Answered"]) == "Rab"
