"""Connecting and signing in: nothing is sent to whom we do not trust, and each refusal says what happens next."""

from __future__ import annotations

import base64
import ssl
import subprocess
import warnings
from pathlib import Path

import pytest

from hauld.errors import HaulError, NeedsAttention, Throttled, Transient
from hauld.sources.imap import ImapOptions, ImapSource
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
        (b"NO [ALERT] Your account is not enabled for IMAP use. (Failure)", NeedsAttention, "sign-in", 1),
        (b"NO [ALERT] Application-specific password required (Failure)", NeedsAttention, "sign-in", 1),
        (b"NO your password has expired", NeedsAttention, "sign-in", 1),
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


# --- STARTTLS ---


def starttls_of(certificate: Path, **options: object) -> dict[str, object]:
    return {"tls": "starttls", "host": "localhost", "ca_file": certificate, **options}


async def test_STARTTLS_comes_before_anything_else_and_capabilities_are_asked_for_again(certificate):
    honest = Honest(tls=tls_of(certificate))

    @honest.instead_of("CAPABILITY")
    async def says_more_inside(client: Client, command: Command) -> None:
        inside = b"AUTH=PLAIN" if client.server.asked("STARTTLS") else b"STARTTLS LOGINDISABLED AUTH=PLAIN SASL-IR"
        await client.send(b"* CAPABILITY IMAP4rev1 " + inside + b"\r\n", command.ok())

    async with ScriptedServer(honest) as server:
        assert await sign_in(server, **starttls_of(certificate)) == ["AUTH=PLAIN", "IMAP4REV1"]
        verbs = [command.split()[0] for command in server.commands]
        assert verbs == [b"CAPABILITY", b"STARTTLS", b"CAPABILITY", b"AUTHENTICATE", b"CAPABILITY", b"LOGOUT"]
        assert server.asked("AUTHENTICATE") == [b"AUTHENTICATE PLAIN"]  # SASL-IR was offered outside only


async def test_STARTTLS_with_a_real_server(dovecot, mail_user):
    async def secret() -> str:
        return mail_user.password

    options = ImapOptions("localhost", mail_user.name, dovecot.port, tls="starttls", ca_file=dovecot.certificate)
    async with ImapSource(options, secret).session() as session:
        assert "STARTTLS" not in session.capabilities
        assert [folder async for folder in session.folders()]
    logins = [line for line in dovecot.log().splitlines() if f"Login: user=<{mail_user.name}>" in line]
    assert all("TLS" in line for line in logins)
    assert logins


@pytest.mark.parametrize("offered", [b"IMAP4rev1 AUTH=PLAIN", b"IMAP4rev1 STARTTLS AUTH=PLAIN"], ids=["stripped", "refused"])
async def test_N9_without_STARTTLS_there_is_no_signing_in(certificate, offered):
    async with ScriptedServer(Honest(capabilities=offered)) as server:
        error = await refused(server, **starttls_of(certificate))
        assert isinstance(error, NeedsAttention)
        assert (error.kind, error.tries) == ("tls-required", 1)
        assert error.hint
        assert not server.asked("AUTHENTICATE") + server.asked("LOGIN")
        assert server.secrets_given == 0


async def test_N9_a_server_that_cannot_encrypt_just_now_is_tried_again(certificate):
    honest = Honest(capabilities=b"IMAP4rev1 STARTTLS")

    @honest.instead_of("STARTTLS")
    async def later(client: Client, command: Command) -> None:
        await client.send(command.no(b"[UNAVAILABLE] come back later"))

    async with ScriptedServer(honest) as server:
        error = await refused(server, **starttls_of(certificate))
        assert (type(error), error.kind) == (Transient, "unavailable")


@pytest.mark.parametrize("injected", [b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n", b"* OK half", b"\r\n", b"\n", b"A2 OK\r\n"])
async def test_N10_bytes_in_the_clear_behind_the_answer_end_the_connection(certificate, injected):
    honest = Honest(capabilities=b"IMAP4rev1 STARTTLS AUTH=PLAIN")

    @honest.instead_of("STARTTLS")
    async def is_not_alone(client: Client, command: Command) -> None:
        await client.start_tls(tls_of(certificate), command.ok() + injected)

    async with ScriptedServer(honest) as server:
        error = await refused(server, **starttls_of(certificate))
        assert (type(error), error.kind) == (Transient, "protocol")
        assert "in the clear" in error.message
        assert server.secrets_given == 0


async def test_N10_bytes_that_come_a_little_later_are_no_handshake(certificate):
    honest = Honest(capabilities=b"IMAP4rev1 STARTTLS AUTH=PLAIN")

    @honest.instead_of("STARTTLS")
    async def stays_plain(client: Client, command: Command) -> None:
        await client.send(command.ok())
        await client.send(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")

    async with ScriptedServer(honest) as server:
        error = await refused(server, **starttls_of(certificate))
        assert isinstance(error, Transient)
        assert not server.asked("AUTHENTICATE")
        assert server.secrets_given == 0


async def test_N10_a_PREAUTH_greeting_leaves_no_way_to_encrypt(certificate):
    honest = Honest()
    honest.greeting = b"* PREAUTH welcome back\r\n"
    async with ScriptedServer(honest) as server:
        error = await refused(server, **starttls_of(certificate))
        assert (type(error), error.kind) == (NeedsAttention, "tls-required")
        assert not server.commands


async def test_N8_N10_a_certificate_we_do_not_trust_ends_STARTTLS_too(certificate):
    honest = Honest(capabilities=b"IMAP4rev1 STARTTLS AUTH=PLAIN", tls=tls_of(certificate))
    async with ScriptedServer(honest) as server:
        error = await refused(server, **starttls_of(certificate, ca_file=None))
        assert (type(error), error.kind) == (NeedsAttention, "certificate")
        assert server.secrets_given == 0


async def test_N11_a_server_that_still_has_no_way_inside_is_told_no_password(certificate):
    honest = Honest(capabilities=b"IMAP4rev1 STARTTLS LOGINDISABLED", tls=tls_of(certificate))
    async with ScriptedServer(honest) as server:
        error = await refused(server, **starttls_of(certificate))
        assert (type(error), error.kind) == (NeedsAttention, "sign-in")
        assert server.secrets_given == 0


async def test_a_client_certificate_is_shown_to_a_server_that_asks_for_one(certificate):
    context = tls_of(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    async with ScriptedServer(Honest(), tls=context) as server:
        assert await sign_in(server, host="localhost", ca_file=certificate, client_cert=certificate)
        assert await sign_in(
            server, host="localhost", ca_file=certificate, client_cert=certificate, client_key=certificate.parent / "key"
        )


async def test_a_client_key_with_a_passphrase_is_told_and_nobody_is_asked_for_it(certificate, tmp_path):
    locked = tmp_path / "locked.key"
    installation = Installation.find()
    arguments = ["ec", "-aes128", "-passout", "pass:x", "-in", certificate.parent / "key", "-out", locked]
    program = [installation.openssl(), *arguments]
    subprocess.run(program, check=True, capture_output=True, env=installation.environment())
    async with ScriptedServer(Honest()) as server:
        error = await refused(server, tls="implicit", client_cert=certificate, client_key=locked)
        assert (type(error), error.kind) == (NeedsAttention, "configuration")
        assert "no passphrase" in error.hint


# --- tokens ---


@pytest.mark.parametrize("initial", [b" SASL-IR", b""], ids=["one round trip", "two"])
@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ("xoauth2", "user=al=i,ce\1auth=Bearer secret\1\1"),
        ("oauthbearer", "n,a=al=3Di=2Cce,\1host=127.0.0.1\1port={port}\1auth=Bearer secret\1\1"),
    ],
)
async def test_a_token_is_sent_as_its_mechanism_wants_it(auth, message, initial):
    honest = Honest(capabilities=b"IMAP4rev1 AUTH=XOAUTH2 AUTH=OAUTHBEARER" + initial)
    heard: list[bytes] = []
    check = honest._check_token

    async def hear(client: Client, command: Command, told: bytes) -> None:
        heard.append(told)
        await check(client, command, told)

    honest._check_token = hear
    async with ScriptedServer(honest) as server:
        await sign_in(server, user="al=i,ce", auth=auth)
        assert heard == [message.format(port=server.port).encode()]


@pytest.mark.parametrize("initial", [b" SASL-IR", b""], ids=["one round trip", "two"])
@pytest.mark.parametrize(("auth", "farewell"), [("xoauth2", b""), ("oauthbearer", b"AQ==")])
async def test_G9_a_refused_token_is_asked_for_once_more_and_then_a_person(auth, farewell, initial):
    honest = Honest(capabilities=b"IMAP4rev1 AUTH=XOAUTH2 AUTH=OAUTHBEARER" + initial, password=b"fresh")
    async with ScriptedServer(honest) as server:
        await sign_in(server, auth=auth, tokens=["secret-old", "fresh"])
        error = await refused(server, auth=auth, tokens=["secret-1", "secret-2"])
        assert isinstance(error, NeedsAttention)
        assert (error.kind, error.tries) == ("sign-in", 1)
        assert "the token was refused (expired or revoked?)" in error.message
        assert "status 401, scope mail" in error.message
        assert error.hint
        assert honest.farewells == [farewell] * 3
        assert server.secrets_given == 4


async def test_G9_a_token_that_is_given_twice_is_not_sent_twice():
    async with ScriptedServer(Honest(capabilities=b"IMAP4rev1 AUTH=XOAUTH2", password=b"another")) as server:
        error = await refused(server, auth="xoauth2")
        assert isinstance(error, NeedsAttention)
        assert (error.kind, error.tries) == ("sign-in", 3)  # its giver's clock may be a little late
        assert "the same token came again" in error.message
        assert len(server.asked("AUTHENTICATE")) == 1


@pytest.mark.parametrize("report", [b"", b"no JSON", b"[]", b'{"status":{}}', b"\xff", b'{"status":"secret"}'])
async def test_a_report_that_makes_no_sense_is_answered_all_the_same(report):
    honest = Honest(capabilities=b"IMAP4rev1 AUTH=XOAUTH2 SASL-IR", password=b"another")
    honest.report = report
    async with ScriptedServer(honest) as server:
        assert "the token was refused" in (await refused(server, auth="xoauth2")).message


async def test_G9_a_server_that_cannot_check_tokens_just_now_is_tried_again():
    honest = Honest(capabilities=b"IMAP4rev1 AUTH=XOAUTH2 SASL-IR", password=b"another")
    honest.report = b'{"status":"503"}'
    async with ScriptedServer(honest) as server:
        error = await refused(server, auth="xoauth2")
        assert (type(error), error.kind) == (Transient, "unavailable")
        assert server.secrets_given == 1


@pytest.mark.parametrize(
    ("answer", "error_type", "kind"),
    [
        (b"[ALERT] Too many simultaneous connections. (Failure)", Transient, "too-many-connections"),
        (b"[ALERT] Your account is not enabled for IMAP use. (Failure)", NeedsAttention, "sign-in"),
        (b"[UNAVAILABLE] backend down", Transient, "unavailable"),
    ],
)
async def test_N13_N14_what_is_not_the_tokens_fault_asks_for_no_other(answer, error_type, kind):
    honest = Honest(capabilities=b"IMAP4rev1 AUTH=XOAUTH2 SASL-IR")

    @honest.instead_of("AUTHENTICATE")
    async def refuses(client: Client, command: Command) -> None:
        await client.send(command.no(answer))

    async with ScriptedServer(honest) as server:
        error = await refused(server, auth="xoauth2")
        assert (type(error), error.kind) == (error_type, kind)
        assert "token was refused" not in error.message
        assert server.secrets_given == 1


async def test_N11_a_token_is_not_asked_for_where_none_is_taken():
    async with ScriptedServer(Honest()) as server:
        error = await refused(server, auth="oauthbearer")
        assert (type(error), error.kind) == (NeedsAttention, "sign-in")
        assert "PLAIN" in error.hint
        assert server.secrets_given == 0


async def test_G7_a_token_that_the_server_repeats_is_not_shown():
    honest = Honest(capabilities=b"IMAP4rev1 AUTH=XOAUTH2 SASL-IR")

    @honest.instead_of("AUTHENTICATE")
    async def repeats(client: Client, command: Command) -> None:
        await client.send(command.no(b"secret is wrong: " + command.line))

    async with ScriptedServer(honest) as server:
        error = await refused(server, auth="xoauth2")
        assert "*** is wrong: AUTHENTICATE XOAUTH2 ***" in error.message


# --- options that are refused before a byte is sent ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls": "none", "host": "imap.example.org"}, "readable over the network"),
        ({"tls": "none", "host": "192.0.2.1"}, "readable over the network"),
        ({"tls": "implicit", "client_cert": Path("/nowhere/me.pem")}, "/nowhere/me.pem cannot be used"),
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
