"""Connecting and signing in: nothing is sent to whom we do not trust, and each refusal says what happens next."""

from __future__ import annotations

import base64
import ssl
import subprocess
import warnings
from pathlib import Path

import pytest

from hauld.errors import HaulError, NeedsAttention, Throttled, Transient
from support.dovecot import Installation
from support.scripted_imap import Client, Command, Honest, ScriptedServer

PASSWORD = 'caf\u00e9 "quoted\\ secret'


async def sign_in(server: ScriptedServer, **options: object) -> list[str]:
    """Sign in and leave; the capabilities there are then."""
    async with server.source(**options).session() as session:
        return list(session.capabilities)


async def refused(server: ScriptedServer, **options: object) -> HaulError:
    """The error of signing in, which names the account and never the password."""
    with pytest.raises(HaulError) as error:
        await sign_in(server, **options)
    text = f"{error.value} {error.value.hint} {error.value!r} {error.value.__cause__!r}"
    assert "(user alice)" in error.value.message
    assert "secret" not in text
    assert base64.b64encode(b"\0alice\0secret").decode() not in text
    return error.value


# --- ways to sign in ---


async def test_AUTHENTICATE_PLAIN_in_one_round_trip_where_the_server_can():
    honest = Honest(capabilities=b"IMAP4rev1 auth=plain sasl-ir", user="jürgen".encode(), password=PASSWORD.encode())
    async with ScriptedServer(honest) as server:
        assert await sign_in(server, user="jürgen", password=PASSWORD) == ["AUTH=PLAIN", "IMAP4REV1", "SASL-IR"]
        (command,) = server.asked("AUTHENTICATE")
        assert base64.b64decode(command.split()[2]) == f"\0jürgen\0{PASSWORD}".encode()


async def test_AUTHENTICATE_PLAIN_in_two_where_it_cannot():
    honest = Honest(capabilities=b"IMAP4rev1 AUTH=PLAIN", password=PASSWORD.encode())
    async with ScriptedServer(honest) as server:
        await sign_in(server, password=PASSWORD)
        assert server.asked("AUTHENTICATE") == [b"AUTHENTICATE PLAIN"]


@pytest.mark.parametrize(
    ("password", "sent"),
    [
        ('pass "word" \\', b'LOGIN "alice" "pass \\"word\\" \\\\"'),
        ("pässwörd", 'LOGIN "alice" pässwörd'.encode()),
        ("two\r\nlines", b'LOGIN "alice" two\r\nlines'),
    ],
    ids=["quoted", "literal", "hostile"],
)
async def test_LOGIN_where_nothing_else_is_offered(password, sent):
    honest = Honest(capabilities=b"IMAP4rev1", password=password.encode())
    async with ScriptedServer(honest) as server:
        await sign_in(server, password=password)
        assert server.asked("LOGIN") == [sent]


async def test_capabilities_are_asked_for_again_once_signed_in():
    honest = Honest()

    @honest.instead_of("CAPABILITY")
    async def more_inside(client: Client, command: Command) -> None:
        inside = b" CONDSTORE" if client.server.asked("AUTHENTICATE") else b" AUTH=PLAIN SASL-IR"
        await client.send(b"* CAPABILITY IMAP4rev1" + inside + b"\r\n", command.ok())

    async with ScriptedServer(honest) as server:
        assert await sign_in(server) == ["CONDSTORE", "IMAP4REV1"]


async def test_a_server_that_greets_with_PREAUTH_needs_no_password():
    honest = Honest()
    honest.greeting = b"* PREAUTH welcome back\r\n"
    async with ScriptedServer(honest) as server:
        await sign_in(server)
        assert server.commands == [b"CAPABILITY", b"LOGOUT"]
        assert server.secrets_given == 0


@pytest.mark.parametrize("capabilities", [b"IMAP4rev1 LOGINDISABLED", b"IMAP4rev1 LOGINDISABLED AUTH=GSSAPI AUTH=XOAUTH2"])
async def test_N11_without_a_way_to_sign_in_the_password_is_never_asked_for(capabilities):
    async with ScriptedServer(Honest(capabilities=capabilities)) as server:
        error = await refused(server)
        assert isinstance(error, NeedsAttention)
        assert (error.kind, error.tries) == ("sign-in", 1)
        assert "was not sent" in error.message
        assert server.commands == [b"CAPABILITY"]
        assert server.secrets_given == 0


async def test_a_password_that_PLAIN_cannot_carry_is_not_sent():
    async with ScriptedServer(Honest()) as server:
        error = await refused(server, password="secret\0")
        assert isinstance(error, NeedsAttention)
        assert not server.asked("AUTHENTICATE")


# --- refusals ---


@pytest.mark.parametrize("capabilities", [b"IMAP4rev1", b"IMAP4rev1 AUTH=PLAIN", b"IMAP4rev1 AUTH=PLAIN SASL-IR"])
async def test_N12_a_refused_password_needs_a_person_after_three_tries(capabilities):
    async with ScriptedServer(Honest(capabilities=capabilities, password=b"another")) as server:
        error = await refused(server)
        assert isinstance(error, NeedsAttention)
        assert (error.kind, error.tries) == ("sign-in", 3)
        assert "[AUTHENTICATIONFAILED] wrong password" in error.message
        assert error.hint


@pytest.mark.parametrize(
    ("answer", "error_type", "kind", "tries"),
    [
        (b"NO go away", NeedsAttention, "sign-in", 3),
        (b"BAD syntax", NeedsAttention, "sign-in", 3),
        (b"NO", NeedsAttention, "sign-in", 3),
        (b"NO [AUTHORIZATIONFAILED] IMAP is off", NeedsAttention, "sign-in", 1),
        (b"NO [EXPIRED] too old", NeedsAttention, "sign-in", 1),
        (b"NO [CONTACTADMIN] account locked", NeedsAttention, "sign-in", 1),
        (b"NO [PRIVACYREQUIRED] encrypt", NeedsAttention, "configuration", 1),
        (b"NO [UNAVAILABLE] backend down", Transient, "unavailable", None),
        (b"NO [SERVERBUG] oops", Transient, "unavailable", None),
        (b"NO [ALERT] Too many simultaneous connections. (Failure)", Transient, "too-many-connections", None),
        (b"NO [LIMIT] enough", Transient, "too-many-connections", None),
        (b"NO Account exceeded command or bandwidth limits. (Failure)", Throttled, "throttled", None),
    ],
)
async def test_N13_N14_each_refusal_says_what_happens_next(answer, error_type, kind, tries):
    honest = Honest()

    @honest.instead_of("AUTHENTICATE")
    async def refuses(client: Client, command: Command) -> None:
        await client.send(command.tag + b" " + answer + b"\r\n")

    async with ScriptedServer(honest) as server:
        error = await refused(server)
        assert type(error) is error_type
        assert (error.kind, getattr(error, "tries", None)) == (kind, tries)
        assert answer.split(b"]")[-1].decode().removeprefix("NO").removeprefix("BAD").strip() in error.message


async def test_what_a_server_says_is_shown_in_one_printable_line_without_the_password():
    honest = Honest()

    @honest.instead_of("AUTHENTICATE")
    async def repeats(client: Client, command: Command) -> None:
        await client.send(command.no(b"alice/secret \x1b[31mis wrong: " + command.line + b"!" * 5000))

    async with ScriptedServer(honest) as server:
        error = await refused(server)
        assert "alice/***  [31mis wrong: AUTHENTICATE PLAIN ***!!!" in error.message
        assert error.message.isprintable()
        assert len(error.message) < 500


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [
        (b"* BYE overloaded", "network"),
        (b"* BYE [UNAVAILABLE] maintenance", "unavailable"),
        (b"* BYE [ALERT] Maximum number of connections from user+IP exceeded", "too-many-connections"),
        (b"SSH-2.0-OpenSSH_9.2", "protocol"),
        (b"A1 OK ready", "protocol"),
        (b"* NO mail today", "protocol"),
    ],
)
async def test_N19_a_greeting_that_is_none_is_tried_again(greeting, kind):
    async def play(client: Client) -> None:
        await client.send(greeting + b"\r\n")

    async with ScriptedServer(play) as server:
        error = await refused(server)
        assert isinstance(error, Transient)
        assert error.kind == kind


async def test_a_connection_that_breaks_off_while_signing_in_is_tried_again():
    honest = Honest()

    @honest.instead_of("AUTHENTICATE")
    async def resets(client: Client, command: Command) -> None:
        await client.reset()

    async with ScriptedServer(honest) as server:
        error = await refused(server)
        assert (type(error), error.kind) == (Transient, "network")


# --- no connection ---


async def test_N6_a_greeting_that_never_comes_is_not_waited_for_longer_than_told():
    async def says_nothing(client: Client) -> None:
        await client.gone()

    async with ScriptedServer(says_nothing) as server:
        error = await refused(server, connect_timeout=0.1)
        assert isinstance(error, Transient)
        assert error.kind == "timeout"
        assert "did not connect and greet within 0.1 s" in error.message


async def test_N25_a_name_that_is_none_and_a_port_that_is_closed_are_tried_again():
    async with ScriptedServer(Honest()) as server:
        unknown = await refused(server, host="host.invalid", allow_plaintext=True)
        assert (type(unknown), unknown.kind) == (Transient, "network")
        port = server.port
    closed = await refused(server, port=port)
    assert (type(closed), closed.kind) == (Transient, "network")
    assert f"127.0.0.1:{port} (user alice) cannot be reached" in closed.message


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key."""
    directory = tmp_path_factory.mktemp("certificate")
    both = directory / "both.pem"
    installation = Installation.find()
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    arguments = ["-addext", "subjectAltName=DNS:localhost", "-keyout", f"{directory}/key", "-out", f"{directory}/certificate"]
    program = [installation.openssl(), *command.split(), *arguments]
    subprocess.run(program, check=True, capture_output=True, env=installation.environment())
    both.write_bytes((directory / "key").read_bytes() + (directory / "certificate").read_bytes())
    return both


def tls_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_server_with_a_certificate_we_trust_is_spoken_to(certificate):
    async with ScriptedServer(Honest(), tls=tls_of(certificate)) as server:
        assert await sign_in(server, host="localhost", ca_file=certificate)


@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)], ids=["self-signed", "wrong host"])
async def test_N8_a_certificate_we_do_not_trust_is_refused_before_anything_is_sent(certificate, host, trusted):
    async with ScriptedServer(Honest(), tls=tls_of(certificate)) as server:
        error = await refused(server, host=host, ca_file=certificate if trusted else None)
        assert isinstance(error, NeedsAttention)
        assert (error.kind, error.tries) == ("certificate", 1)
        assert error.hint
        assert not server.commands
        assert server.secrets_given == 0


async def test_N7_garbage_instead_of_TLS_is_tried_again_slowly_and_never_in_plaintext():
    async def garbage(client: Client) -> None:
        await client.send(b"* OK this is plain IMAP, come in\r\n")

    async with ScriptedServer(garbage) as server:
        error = await refused(server, tls="implicit")
        assert isinstance(error, Transient)
        assert (error.kind, error.at_least) == ("tls", 300.0)
        assert server.secrets_given == 0


ALERTS = {"protocol version": b"\x15\x03\x01\x00\x02\x02\x46", "handshake failure": b"\x15\x03\x03\x00\x02\x02\x28"}


@pytest.mark.parametrize("alert", ALERTS)
async def test_N7_a_server_without_TLS_that_is_new_enough_is_tried_again_slowly(alert):
    async def refuses(client: Client) -> None:
        await client.send(ALERTS[alert])

    async with ScriptedServer(refuses) as server:
        error = await refused(server, tls="implicit")
        assert isinstance(error, Transient)
        assert (error.kind, error.at_least) == ("tls", 300.0)


async def test_N7_older_TLS_is_not_spoken(certificate):
    context = tls_of(certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # else this server could not even begin
    async with ScriptedServer(Honest(), tls=context) as server:
        error = await refused(server, host="localhost", ca_file=certificate)
        assert isinstance(error, Transient)
        assert not server.commands


async def test_N7_a_connection_closed_in_the_handshake_says_so():
    async def closes(client: Client) -> None:
        await client.close()

    async with ScriptedServer(closes) as server:
        error = await refused(server, tls="implicit")
        assert (type(error), error.kind) == (Transient, "network")
        assert "closed it again before a greeting" in error.message


# --- options that are refused before a byte is sent ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls": "starttls"}, "starttls"),
        ({"tls": "none", "host": "imap.example.org"}, "readable over the network"),
        ({"tls": "none", "host": "192.0.2.1"}, "readable over the network"),
        ({"auth": "xoauth2"}, "xoauth2"),
        ({"tls": "implicit", "ca_file": Path("/nowhere/ca.pem")}, "/nowhere/ca.pem cannot be read"),
        ({"tls": "implicit", "ca_file": Path(__file__)}, "cannot be read"),
    ],
)
async def test_what_would_be_unsafe_or_is_not_there_needs_a_person(options, words):
    async with ScriptedServer(Honest()) as server:
        error = await refused(server, **options)
        assert isinstance(error, NeedsAttention)
        assert error.kind == "configuration"
        assert words in error.message
        assert error.hint
        assert server.connections == 0
        assert server.secrets_given == 0


async def test_plaintext_is_for_loopback_or_for_those_who_say_so():
    async with ScriptedServer(Honest()) as server:
        assert await sign_in(server, host="localhost", tls="none")
        assert await sign_in(server, host="127.0.0.1", tls="none", allow_plaintext=True)


async def test_an_account_never_shows_its_password():
    async with ScriptedServer(Honest(password=b"canary")) as server:
        source = server.source(password="canary")
        async with source.session() as session:
            assert "canary" not in repr(vars(source)) + repr(vars(session))
