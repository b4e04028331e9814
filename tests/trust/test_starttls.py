"""Nothing from before the handshake counts after it: RFC 3207 (SMTP) and RFC 2595 (POP3), on both sides.

The attacks are those of "Why TLS Is Better Without STARTTLS" (Poddebniak, Ising, Böck, Schinzel, USENIX Security 2021),
of which command injection is CVE-2011-0411's kind and response injection CVE-2020-15955's.
"""

import base64
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from typing import Any

import pytest

from labkit.errors import LabError
from labkit.mail.certificates import Certificate, authority
from labkit.mail.client import MailClient
from labkit.mail.policy import MECHANISMS, Security
from labkit.provider import Provider
from tests.mail.conftest import ACCOUNTS
from tests.trust.rig import PASSWORD, Client, a_provider, b64, settle, taro

# The server's side


def after_injection(provider: Provider, protocol: str, said: bytes, cut: int) -> str:
    """Say `said`, which begins with STARTTLS or STLS, in two TCP segments; then speak TLS, and give what NOOP or CAPA gets.

    "" when the server did not go on.
    """
    with Client(provider, protocol, tls=False) as client:
        if protocol == "smtp":
            client.say("EHLO client.example")
        client.send(said[:cut])
        settle(provider)
        with suppress(ConnectionError):
            client.send(said[cut:])
        if not client.reply().startswith(("220 ", "+OK Begin")):
            assert client.has_ended()
            return ""
        try:
            client.start_tls()
        except (ssl.SSLError, ConnectionError):
            return ""
        answer = client.say("NOOP" if protocol == "smtp" else "CAPA")
        if protocol == "smtp":
            # The EHLO that was injected is not remembered, nor is the one that was sent before STARTTLS.
            assert client.say("MAIL FROM:<hanako@mail.example>").startswith("503 5.5.1 Say EHLO first")
        return answer


SMTP_INJECTION = b"STARTTLS\r\nEHLO evil.example\r\n" + f"AUTH PLAIN {b64('', 'hanako', PASSWORD)}\r\n".encode()
POP3_INJECTION = b"STLS\r\nUSER hanako\r\nPASS " + PASSWORD.encode() + b"\r\nSTAT\r\n"


def test_commands_injected_before_the_handshake_are_never_replayed_by_smtp() -> None:
    with a_provider("starttls") as provider:
        answers = {after_injection(provider, "smtp", SMTP_INJECTION, cut) for cut in range(len(SMTP_INJECTION) + 1)}
        assert answers <= {"", "250 2.0.0 OK"}
        assert after_injection(provider, "smtp", b"STARTTLS\r\n", 3) == "250 2.0.0 OK"  # honest clients are served


def test_commands_injected_before_the_handshake_are_never_replayed_by_pop3() -> None:
    with a_provider("starttls") as provider:
        answers = {after_injection(provider, "pop3", POP3_INJECTION, cut) for cut in range(len(POP3_INJECTION) + 1)}
        assert answers == {""}
        assert provider.maildrops["hanako"].acquire()  # nobody is logged in
        assert after_injection(provider, "pop3", b"STLS\r\n", 3) == "+OK Capability list follows"


def test_starttls_once_and_without_an_argument() -> None:
    """RFC 3207 section 4: 501 for an argument; section 4.2: not advertised inside TLS. A second one is out of sequence."""
    with a_provider("starttls") as provider:
        with Client(provider, "smtp", tls=False) as smtp:
            assert smtp.say("STARTTLS").startswith("503 5.5.1 ")  # RFC 3207: after EHLO, which offers it
            assert "STARTTLS" in smtp.say("EHLO client.example")
            for argument in (" now", " \t1", " STARTTLS"):
                assert smtp.say("STARTTLS" + argument).startswith("501 5.5."), argument
            assert smtp.say("starttls").startswith("220 ")
            smtp.start_tls()
            assert "STARTTLS" not in smtp.say("EHLO client.example")
            assert smtp.say("STARTTLS").startswith("503 5.5.1 ")
            assert smtp.say("NOOP").startswith("250 ")
        with Client(provider, "pop3", tls=False) as pop3:
            assert b"STLS\r\n" in pop3.ask("CAPA")
            assert pop3.say("STLS now").startswith("-ERR Syntax")
            assert pop3.say("stls").startswith("+OK ")
            pop3.start_tls()
            assert b"STLS\r\n" not in pop3.ask("CAPA")
            assert pop3.say("STLS") == "-ERR TLS is already active"
            assert pop3.log_in().startswith("+OK ")
            assert pop3.say("STLS").startswith("-ERR ")  # RFC 2595 section 4: only in AUTHORIZATION


@pytest.mark.parametrize("policy", ["plaintext", "smtp-auth", "pop-before-smtp", "ssl"])
def test_starttls_where_it_is_not_offered_changes_nothing(policy: str) -> None:
    with a_provider(policy) as provider, Client(provider, "smtp") as smtp, Client(provider, "pop3") as pop3:
        assert "STARTTLS" not in smtp.say("EHLO client.example")
        assert smtp.say("STARTTLS").startswith("502 5.5.1 ")
        assert smtp.say("NOOP").startswith("250 ")
        assert pop3.say("STLS").startswith("-ERR ")
        assert pop3.log_in().startswith("+OK ")


def test_everything_said_before_the_handshake_is_forgotten() -> None:
    """RFC 3207 section 4.2, RFC 2595 section 4: even a name that was given before must be given again."""
    with a_provider("starttls") as provider:
        with Client(provider, "smtp", tls=False) as smtp:
            assert smtp.say("EHLO before.example", "MAIL FROM:<evil@mail.example>").startswith("530 5.7.0 ")
            assert smtp.say("STARTTLS").startswith("220 ")
            smtp.start_tls()
            for command in ("AUTH PLAIN", "MAIL FROM:<x@mail.example>", "RCPT TO:<taro@mail.example>", "DATA"):
                assert smtp.say(command).startswith("503 5.5.1 Say EHLO first"), command
        with Client(provider, "pop3", tls=False) as pop3:
            assert pop3.say("USER hanako").startswith("-ERR ")
            assert pop3.say("STLS").startswith("+OK ")
            pop3.start_tls()
            assert pop3.say(f"PASS {PASSWORD}") == "-ERR PASS comes right after USER"


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_after_the_answer_to_starttls_nothing_is_answered_in_the_clear(protocol: str) -> None:
    with a_provider("starttls") as provider, Client(provider, protocol, tls=False) as client:
        if protocol == "smtp":
            client.say("EHLO client.example")
        assert client.say("STARTTLS" if protocol == "smtp" else "STLS").startswith(("220 ", "+OK "))
        client.send(b"NOOP\r\nEHLO again.example\r\nCAPA\r\nQUIT\r\n")
        said = client._lines.read()
        assert said[:1] in (b"", b"\x15")  # at most a TLS alert
        assert len(said) <= 7


# The client's side


def letter() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = (account.address for account in ACCOUNTS)
    message.set_content("hello")
    return message


ACTS: dict[str, Callable[[MailClient], object]] = {
    "send": lambda client: client.send(letter()),
    "receive": lambda client: client.receive(),
}
LOGINS = [("USER", mechanism) for mechanism in MECHANISMS] + [("APOP", "PLAIN"), ("SCRAM-SHA-256", "PLAIN")]
SECRETS = [
    secret
    for part in (ACCOUNTS[0].login, PASSWORD)
    for secret in (part.encode(), base64.b64encode(part.encode()).rstrip(b"=")[:-1])
] + [b64("", ACCOUNTS[0].login, PASSWORD).encode()]


def recorded_failure(provider: Provider, act: str, **settings: Any) -> list[tuple[bytes, bytes]]:
    """Let the client try, and fail; what crossed the network, as (client, server) of each connection."""
    with provider.capture("tap") as capture, pytest.raises(LabError):
        ACTS[act](provider.client("hanako", **settings))
    assert capture.flows
    return [(bytes(flow.client_stream.data), bytes(flow.server_stream.data)) for flow in capture.flows]


def records(stream: bytes) -> list[int]:
    """The content types of TLS records (RFC 8446 section 5.1): 20 change_cipher_spec, 21 alert, 22 handshake, 23 data."""
    types = []
    while stream:
        types.append(stream[0])
        stream = stream[5 + int.from_bytes(stream[3:5], "big") :]
    return types


@pytest.mark.parametrize("certificate", [Certificate.UNKNOWN_ISSUER, Certificate.WRONG_NAME, Certificate.EXPIRED])
@pytest.mark.parametrize("policy", ["starttls", "ssl"])
@pytest.mark.parametrize("act", ACTS)
def test_a_wrong_certificate_ends_it_before_a_credential_is_sent(
    certificate: Certificate, policy: str, act: str
) -> None:
    """RFC 8314 section 5.3, RFC 3207 section 4.1: proved from the capture, for every kind of login."""
    with a_provider(policy, certificate=certificate) as provider:
        for pop3_login, mechanism in LOGINS:
            for client, _server in recorded_failure(provider, act, pop3_login=pop3_login, mechanism=mechanism):
                clear, hello, rest = client.partition(b"\x16\x03\x01")
                assert clear in (
                    (b"ehlo client.example\r\nSTARTTLS\r\n", b"CAPA\r\nSTLS\r\n") if policy == "starttls" else (b"",)
                )
                # A handshake that was begun and broken off: no record could carry a login, not even an encrypted one.
                assert set(records(hello + rest)[1:]) <= {20, 21}


@pytest.mark.parametrize("policy", ["plaintext", "smtp-auth", "pop-before-smtp"])
@pytest.mark.parametrize("security", [Security.STARTTLS, Security.SSL])
@pytest.mark.parametrize("act", ACTS)
def test_a_client_that_insists_on_tls_gives_nothing_away_without_it(policy: str, security: Security, act: str) -> None:
    with a_provider(policy) as provider:
        for pop3_login, mechanism in LOGINS[:: 5 if security is Security.SSL else 1]:
            settings = {"pop3_login": pop3_login, "mechanism": mechanism, "trusted_ca": provider.ca_pem, "timeout": 1}
            ways = {"outgoing_requires_authentication": True, "check_mail_first": False}
            for client, _server in recorded_failure(provider, act, security=security, **settings, **ways):
                if security is Security.STARTTLS:
                    assert client in (b"ehlo client.example\r\nQUIT\r\n", b"CAPA\r\nQUIT\r\n")
                assert not [secret for secret in SECRETS if secret in client]


@contextmanager
def middle(greeting: bytes, offer: bytes, go: bytes, cut: int, late: bool) -> Iterator[tuple[int, list[bytes]]]:
    """A server with a good certificate whose answer to STARTTLS has more behind it; its port, and the lines it was told.

    The answer goes in two segments, cut at `cut`, the second one `late`: only when the client has begun its handshake.
    """
    told: list[bytes] = []

    def dissect(sock: socket.socket) -> None:
        sock.sendall(greeting)
        with sock.makefile("rb", buffering=0) as lines:
            while (line := lines.readline()) and line not in (b"STARTTLS\r\n", b"STLS\r\n"):
                told.append(line)
                sock.sendall(offer)
        sock.sendall(go[:cut])
        if late:
            sock.recv(1, socket.MSG_PEEK)
        sock.sendall(go[cut:])
        with authority().server_context().wrap_socket(sock, server_side=True) as tls, tls.makefile("rb") as secret:
            while line := secret.readline():
                told.append(line)
                tls.sendall(offer)

    def serve() -> None:
        connection, _address = listener.accept()
        connection.settimeout(10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, suppress(OSError):
            dissect(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], told
        finally:
            thread.join()


# Our server in the middle: Python 3.12's wrap_socket leaves its socket to the garbage when the client has gone already.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("act", "greeting", "offer", "go", "before"),
    [
        (
            "send",
            b"220 hi\r\n",
            b"250-x\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
            b"220 go\r\n",
            b"ehlo client.example\r\n",
        ),
        ("receive", b"+OK hi\r\n", b"+OK\r\nUSER\r\nSTLS\r\n.\r\n", b"+OK go\r\n", b"CAPA\r\n"),
    ],
    ids=["SMTP", "POP3"],
)
def test_responses_injected_before_the_handshake_are_never_believed(
    act: str, greeting: bytes, offer: bytes, go: bytes, before: bytes
) -> None:
    """Whatever comes behind the answer, at whatever moment: the client gives up, and said nothing inside TLS."""
    said = go + offer
    for cut in range(1, len(said)):
        for late in {False, cut >= len(go)}:
            with middle(greeting, offer, said, cut, late) as (port, told):
                client = MailClient(a_settings(smtp_port=port, pop3_port=port, outgoing_requires_authentication=True))
                with pytest.raises(LabError):
                    ACTS[act](client)
            assert told == [before], (cut, late)


def a_settings(**more: Any) -> Any:
    """hanako's settings, with STARTTLS."""
    from labkit.mail.settings import Settings

    return Settings(
        security=Security.STARTTLS,
        login=ACCOUNTS[0].login,
        password=PASSWORD,
        trusted_ca=authority().ca_pem.decode(),
        **more,
    )


def test_the_rig_would_see_a_login() -> None:
    """The two tests above can fail: what they look for is there when a client is careless."""
    with a_provider("smtp-auth") as provider:
        with provider.capture("tap") as capture:
            provider.client("hanako").send(letter())
        streams = [bytes(flow.client_stream.data) for flow in capture.flows]
        assert [secret for secret in SECRETS if any(secret in stream for stream in streams)]
        assert len(taro(provider)) == 1
    with a_provider("ssl", certificate=Certificate.EXPIRED) as provider:
        with provider.capture("tap") as capture:
            provider.client("hanako", verify_certificate=False).send(letter())
        (flow,) = capture.flows
        assert 23 in records(bytes(flow.client_stream.data))
    with middle(b"+OK hi\r\n", b"+OK\r\nUSER\r\nSTLS\r\n.\r\n", b"+OK go\r\n", 4, False) as (port, told):
        with pytest.raises(LabError):
            MailClient(a_settings(smtp_port=port, pop3_port=port)).receive()
        assert b"USER hanako\r\n" in told
