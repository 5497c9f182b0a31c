"""Folder names as servers write them and as people read them, and what a folder is for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauld.model import FolderKind, RemoteFolder
from hauld.sources.imap import names
from support import utf7
from support.scripted_imap import Client, Command, Honest, Mailbox, ScriptedServer


async def listed(*lines: bytes, capabilities: bytes = b"IMAP4rev1") -> list[RemoteFolder]:
    """The folders of a server that answers LIST with these lines."""
    honest = Honest(capabilities=capabilities)

    @honest.instead_of("LIST")
    async def these(client: Client, command: Command) -> None:
        await client.send(*(b"* LIST " + line + b"\r\n" for line in lines), command.ok())

    async with ScriptedServer(honest) as server, server.source().session() as session:
        return [folder async for folder in session.folders()]


# --- modified UTF-7 ---


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"Sent", "Sent"),
        (b"Entw&APw-rfe", "Entwürfe"),
        (b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
        (b"Tom &- Jerry", "Tom & Jerry"),
        (b"&2D3eAA-", "😀"),
        (b"&AOkA6Q-", "éé"),
    ],
)
def test_P30_modified_utf7_is_shown_as_it_is_meant(raw, name):
    assert names.decode(raw) == name


@pytest.mark.parametrize("raw", [b"&AB", b"&A-", b"&ABCD-", b"&2D0-", b"&3gA-", b"& -", b"a&b", b"&!-", b"&AAAA"])
def test_P30_what_cannot_be_decoded_is_shown_as_it_was_written(raw):
    assert names.decode(raw) == raw.decode()


def test_P30_names_in_utf8_are_shown_so_and_other_bytes_and_controls_escaped():
    assert names.decode("Größe &AOk-".encode()) == "Größe &AOk-"
    assert names.decode(b"Gr\xf6\xdfe") == r"Gr\xf6\xdfe"
    assert names.decode(b"&AAA-") == r"\x00"
    assert names.decode(b"a\r\nb\x7f") == r"a\x0d\x0ab\x7f"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_P30_every_name_is_read_back_from_what_another_program_writes(name):
    assert names.decode(utf7.encode(name)) == name


@given(st.binary())
def test_P30_any_bytes_make_a_name_that_can_be_written_anywhere(raw):
    names.decode(raw).encode("utf-8")
    assert names.decode(raw).isprintable() or not any(ord(c) < 32 for c in names.decode(raw))


# --- hierarchy ---


@pytest.mark.parametrize(
    ("raw", "delimiter", "path"),
    [
        (b"a/b/c", b"/", ("a", "b", "c")),
        (b"a.b/c", b".", ("a", "b/c")),
        (b"a\\b", b"\\", ("a", "b")),
        (b"a/b", None, ("a/b",)),
        (b"a/b", b"", ("a/b",)),
        (b"&AOk-A&AOk-", b"A", ("é", "é")),
        (b"/a//b/", b"/", ("", "a", "", "b", "")),
        (b"", b"/", ("",)),
    ],
)
def test_P32_any_delimiter_or_none_divides_a_name(raw, delimiter, path):
    assert names.path_of(raw, delimiter) == path


async def test_P32_each_namespace_has_its_own_delimiter():
    folders = await listed(b'() "." INBOX', b'() "." INBOX.a', b'() "/" shared/b', b'() NIL "fl.a/t"', rb'() "\\" "c\\d"')
    assert [folder.path for folder in folders] == [("INBOX",), ("INBOX", "a"), ("shared", "b"), ("fl.a/t",), ("c", "d")]


# --- what the server lists ---


async def test_P31_INBOX_in_any_case_is_one_folder_and_its_child_of_the_same_name_another():
    folders = await listed(b'() "/" inbox', b'() "/" INBOX', b'() "/" Inbox', b'() "/" INBOX/inbox', b'() "/" inboxes')
    assert [(folder.raw, folder.kind) for folder in folders] == [
        (b"INBOX", FolderKind.INBOX),
        (b"INBOX/inbox", FolderKind.OTHER),
        (b"inboxes", FolderKind.OTHER),
    ]


async def test_P33_a_folder_listed_twice_is_one_and_can_be_selected_if_either_line_says_so():
    folders = await listed(
        b'(\\Noselect) "/" a', b'() "/" a', b'() "/" b', b'() "/" b', b'(\\noselect) "/" c', b'(\\NonExistent) "/" d'
    )
    assert [(folder.raw, folder.selectable) for folder in folders] == [(b"a", True), (b"b", True), (b"c", False), (b"d", False)]


async def test_P33_a_name_may_come_as_a_literal():
    folders = await listed(b'() "/" {7}\r\na"(b) c', b'() "/" {0}\r\n', b'() "/" {4000}\r\n' + b"x" * 4000, b'() "/" NIL')
    assert [folder.raw for folder in folders] == [b'a"(b) c', b"", b"x" * 4000, b"NIL"]


async def test_P29_hostile_names_come_through_as_they_are():
    hostile = [
        b"../../etc/passwd",
        b"/abs",
        b"a/../b",
        b"..",
        b".",
        b"~root",
        b"C:\\x",
        b"CON",
        b"end. ",
        "\u202ertl\u200b".encode(),
    ]
    folders = await listed(*(b'() "/" {%d}\r\n' % len(name) + name for name in hostile))
    assert [folder.raw for folder in folders] == hostile
    assert [folder.name for folder in folders] == [name.decode() for name in hostile]


async def test_lines_that_name_no_folder_are_passed_over():
    folders = await listed(b"()", b'nothing "/" a', b'() "/" (a)', b'() (x) "a"', b'() "/" good')
    assert [folder.raw for folder in folders] == [b"good"]


# --- what a folder is for ---


async def test_the_server_says_what_a_folder_is_for():
    folders = await listed(
        b'(\\HasNoChildren \\Sent) "/" Verschickt',
        b'(\\trash) "/" Papierkorb',
        b'(\\All) "/" "All Mail"',
        b'() "/" Drafts',
        b'(\\Flagged) "/" INBOX',
    )
    assert [folder.kind for folder in folders] == ["sent", "trash", "all", "other", "inbox"]


async def test_where_the_server_says_nothing_well_known_names_do():
    folders = await listed(
        b'() "." Sent', b'() "." INBOX.Trash', b'() "." Spam', b'() "." Drafts', b'() "." clients.Sent', b'() "." x'
    )
    assert [folder.kind for folder in folders] == ["sent", "trash", "junk", "drafts", "other", "other"]


async def test_special_use_is_asked_for_where_it_is_offered_and_done_without_where_it_is_refused():
    honest = Honest(
        {b"INBOX": Mailbox(), b"Out": Mailbox(attributes=b"\\Sent")}, capabilities=b"IMAP4rev1 special-use LIST-EXTENDED"
    )

    @honest.instead_of("LIST")
    async def no_returns(client: Client, command: Command) -> None:
        if b"RETURN" in command.line:
            await client.send(command.bad(b"what?"))
        else:
            await honest.answer(client, command)

    async with ScriptedServer(honest) as server, server.source().session() as session:
        assert [folder.kind async for folder in session.folders()] == ["inbox", "sent"]
        assert server.asked("LIST") == [b'LIST "" "*" RETURN (SPECIAL-USE)', b'LIST "" "*"']
