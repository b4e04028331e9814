"""The mail program: against the lab's servers under every policy, and against servers that cheat."""

import base64
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

import pytest

from labkit.errors import BadSetting, LabError, LoginRefused, MessageRefused
from labkit.mail.accounts import Account
from labkit.mail.certificates import Certificate, authority
from labkit.mail.client import MailClient
from labkit.mail.policy import MECHANISMS, POLICIES, Policy, Security
from labkit.mail.pop3 import pop3_factory
from labkit.mail.sample import sample_message
from labkit.mail.service import MailService
from labkit.mail.settings import POP3_LOGINS, Settings
from labkit.mail.smtp import smtp_factory
from labkit.wire.network import Network
from tests.mail.conftest import ACCOUNTS, a_service

HANAKO, TARO = ACCOUNTS
Serve = Callable[..., MailClient]


@pytest.fixture
def client_of(network: Network) -> Serve:
    """Serve a service as its policy wants, and give a client that is set up for it."""

    def serve(
        service: MailService, account: Account = HANAKO, *, context: ssl.SSLContext | None = None, **more: Any
    ) -> MailClient:
        policy = service.policy
        context = context or (None if policy.security is Security.NONE else authority().server_context())
        tls = context if policy.security is Security.SSL else None
        settings = Settings(
            smtp_port=network.listen(smtp_factory(service, context), tls=tls).port,
            pop3_port=network.listen(pop3_factory(service, context), tls=tls).port,
            security=policy.security,
            login=account.login,
            password=account.password,
            outgoing_requires_authentication=policy.auth_required,
            check_mail_first=policy.pop_window is not None,
            trusted_ca=authority().ca_pem.decode(),
        )
        return MailClient(replace(settings, **more))

    return serve


def changed(client: MailClient, **settings: Any) -> MailClient:
    return MailClient(replace(client.settings, **settings))


def letter(text: str = "hello", **header: str) -> EmailMessage:
    message = EmailMessage()
    fields = {"Subject": "hello", "From": HANAKO.address, "To": TARO.address} | header
    for name, value in fields.items():
        message[name] = value
    message.set_content(text)
    return message


def drop_of(service: MailService, account: Account) -> list[bytes]:
    return [message.content for message in service.maildrops[account.local_part].messages()]


# Under every policy


@pytest.mark.parametrize("account", ACCOUNTS, ids=["hanako", "taro, whose password is not ASCII"])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_mail_is_sent_and_read_with_every_mechanism(policy: Policy, account: Account, client_of: Serve) -> None:
    service = a_service(policy)
    client = client_of(service, account)
    message = sample_message(account, account)
    for mechanism in policy.mechanisms or ("PLAIN",):
        changed(client, mechanism=mechanism).send(message)
    assert client.check() == len(policy.mechanisms or ("PLAIN",))
    for login in ("USER", "APOP", *policy.mechanisms):
        received = changed(client, pop3_login=login).receive()
        assert received == [message.as_bytes()] * len(received)
        assert received
    client.receive(delete=True)
    assert drop_of(service, account) == []


def test_connections_go_to_an_address_and_names_go_into_tls(client_of: Serve) -> None:
    context = authority().server_context()
    names = []
    context.sni_callback = lambda _sock, name, _context: names.append(name)
    for policy in ("starttls", "ssl"):
        client = client_of(a_service(policy), context=context)
        client.send(letter())
        client.check()
    assert names == ["mail.example"] * 4


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (Certificate.WRONG_NAME, "it is made out to another name"),
        (Certificate.EXPIRED, "it has expired"),
        (Certificate.UNKNOWN_ISSUER, "nobody whom this program trusts has issued it"),
    ],
)
@pytest.mark.parametrize("policy", ["starttls", "ssl"])
def test_a_wrong_certificate_is_refused_unless_the_check_is_off(
    policy: str, certificate: Certificate, reason: str, client_of: Serve
) -> None:
    service = a_service(policy)
    client = client_of(service, context=authority().server_context(certificate))
    for act in (lambda: client.send(letter()), client.check):
        with pytest.raises(LabError, match=rf"certificate of mail\.example was not accepted \({reason}\)"):
            act()
    assert drop_of(service, TARO) == []
    careless = changed(client, verify_certificate=False)
    careless.send(letter())
    assert careless.check() == 0
    assert len(drop_of(service, TARO)) == 1


def test_a_ready_context_is_used_as_it_is(client_of: Serve) -> None:
    client = client_of(a_service("ssl"))
    assert changed(client, trusted_ca=authority().client_context()).check() == 0
    strangers = ssl.create_default_context()
    with pytest.raises(LabError, match="was not accepted"):
        changed(client, trusted_ca=strangers).check()


def test_without_authentication_the_provider_says_what_it_wants(client_of: Serve) -> None:
    client = client_of(a_service("smtp-auth"), outgoing_requires_authentication=False)
    with pytest.raises(MessageRefused, match=r"530 5\.7\.0 .* switch on outgoing_requires_authentication"):
        client.send(letter())


def test_pop_before_smtp_needs_the_check_before_sending(client_of: Serve) -> None:
    service = a_service("pop-before-smtp")
    client = client_of(service, check_mail_first=False)
    with pytest.raises(MessageRefused, match=r"530 5\.7\.0"):
        client.send(letter())
    changed(client, check_mail_first=True).send(letter())
    client.send(letter())  # the window is open now
    assert len(drop_of(service, TARO)) == 2


@pytest.mark.parametrize("policy", ["smtp-auth", "starttls", "ssl"])
def test_a_wrong_password_is_refused_by_every_login(policy: str, client_of: Serve) -> None:
    client = client_of(a_service(policy), password="wrong")
    for mechanism in MECHANISMS:
        with pytest.raises(LoginRefused, match=r"mail\.example did not accept the login 'hanako': 535 "):
            changed(client, mechanism=mechanism).send(letter())
    for login in POP3_LOGINS:
        with pytest.raises(LoginRefused, match=r"mail\.example did not accept the login 'hanako': -ERR \[AUTH\]"):
            changed(client, pop3_login=login).check()


def test_a_maildrop_in_use_is_said_so(client_of: Serve) -> None:
    service = a_service()
    client = client_of(service)
    assert service.maildrops["hanako"].acquire()
    with pytest.raises(LoginRefused, match=r"-ERR \[IN-USE\]"):
        client.receive()


def test_a_mechanism_that_is_not_offered_is_not_tried(client_of: Serve) -> None:
    client = client_of(a_service("plaintext"))
    with pytest.raises(LoginRefused, match="offers no login with AUTH on this connection"):
        changed(client, outgoing_requires_authentication=True).send(letter())
    with pytest.raises(LoginRefused, match="offers no login with AUTH"):
        changed(client, pop3_login="CRAM-MD5").check()
    choosy = client_of(a_service(replace(POLICIES["smtp-auth"], mechanisms=("SCRAM-SHA-256",))))
    with pytest.raises(
        LoginRefused, match="does not offer the login PLAIN on this connection, it offers SCRAM-SHA-256"
    ):
        changed(choosy, outgoing_requires_authentication=True).send(letter())


# Messages


def test_envelope_and_header_are_two_things(client_of: Serve) -> None:
    service = a_service()
    client = client_of(service)
    client.send(letter(Cc="hanako@mail.example", Bcc="far@away.example"))
    assert drop_of(service, TARO) == drop_of(service, HANAKO)
    assert service.outgoing[0].recipients == ("far@away.example",)
    assert b"Bcc" not in service.outgoing[0].content
    client.send(letter(), sender="anybody@at.all.example", recipients=["hanako@mail.example"])
    assert len(drop_of(service, HANAKO)) == 2
    client.send(letter(Sender="taro@mail.example"), recipients=["far@away.example"])
    client.send(letter(), sender="", recipients=["far@away.example"])
    assert [outgoing.sender for outgoing in service.outgoing[1:]] == ["taro@mail.example", ""]


def test_addresses_outside_ascii(client_of: Serve) -> None:
    service = a_service()
    client_of(service).send(letter(Subject="正午", To="花子@例え.example"))
    assert service.outgoing[0].recipients == ("花子@例え.example",)
    assert "Subject: 正午".encode() in service.outgoing[0].content


def test_a_header_in_utf8_is_read_too(client_of: Serve) -> None:
    service = a_service()
    contents = [b"Subject: plain\r\n\r\nx\r\n", "Subject: 正午\r\n\r\nx\r\n".encode()]
    for content in contents:
        service.maildrops["hanako"].append(content)
    assert client_of(service).receive(delete=True) == contents
    assert drop_of(service, HANAKO) == []


def test_long_lines_are_read(client_of: Serve) -> None:
    service = a_service()
    content = b"Subject: long\r\n\r\n" + b"x" * 300_000 + b"\r\n.\r\n"
    service.maildrops["hanako"].append(content)
    assert client_of(service).receive() == [content]


def test_refused_recipients_are_named(client_of: Serve) -> None:
    service = a_service()
    client = client_of(service)
    with pytest.raises(MessageRefused, match=r"did not take the message: 550 "):
        client.send(letter(), recipients=["nobody@mail.example"])
    with pytest.raises(MessageRefused, match=r"took the message, but not for nobody@mail\.example: 550 "):
        client.send(letter(), recipients=["taro@mail.example", "nobody@mail.example"])
    assert len(drop_of(service, TARO)) == 1


def test_a_message_for_nobody_or_from_nobody_is_not_sent(client_of: Serve) -> None:
    client = client_of(a_service())
    nobody = EmailMessage()
    with pytest.raises(BadSetting, match="no sender"):
        client.send(nobody, recipients=["taro@mail.example"])
    with pytest.raises(BadSetting, match="no recipient"):
        client.send(nobody, sender="hanako@mail.example")


# Settings

GIVEN: dict[str, Any] = {"smtp_port": 25, "pop3_port": 110, "login": "hanako", "password": "x"}


@pytest.mark.parametrize("character", "\r\n\0")
@pytest.mark.parametrize(
    "name", ["server", "connect_to", "login", "password", "client_name", "mechanism", "pop3_login"]
)
def test_line_breaks_and_nul_are_refused_in_any_value(name: str, character: str) -> None:
    with pytest.raises(BadSetting, match=f"The setting {name} contains CR, LF or NUL"):
        Settings(**GIVEN | {name: f"alice{character}PASS secret"})


@pytest.mark.parametrize("character", "\r\n\0")
def test_line_breaks_and_nul_are_refused_in_addresses(character: str) -> None:
    client = MailClient(Settings(**GIVEN))
    bad = f"a@b.example{character}RCPT TO:<c@d.example>"
    with pytest.raises(BadSetting, match="The setting address contains"):
        client.send(letter(), sender=bad)
    with pytest.raises(BadSetting, match="The setting address contains"):
        client.send(letter(), recipients=[bad])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mechanism": "DIGEST-MD5"}, "Choose one of: PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-256."),
        ({"pop3_login": "KERBEROS"}, "Choose one of: USER, APOP, PLAIN,"),
        ({"security": "tls"}, "Choose one of: none, starttls, ssl."),
        ({"smtp_port": 0}, "The setting smtp_port must be a port"),
        ({"smtp_port": "25"}, "The setting smtp_port must be a port"),
        ({"pop3_port": 65536}, "The setting pop3_port must be a port"),
        ({"check_mail_first": "off"}, "The setting check_mail_first is a switch: it is True (on) or False (off)"),
        *(
            ({"timeout": bad}, "The setting timeout must be a number of seconds, more than 0")
            for bad in (0, -1, "5", None, True, float("nan"), float("inf"), 1e10)
        ),
        *(
            ({name: bad}, f"The setting {name} is text")
            for name in ("server", "connect_to", "login", "password", "client_name", "mechanism", "scram_nonce")
            for bad in (5, None, b"x", ["x"])
        ),
        *(({name: "a\ud800"}, "half a character") for name in ("server", "login", "password", "connect_to")),
        ({"connect_to": "a" * 64 + ".example"}, "is not a server's name"),
        ({"client_name": "クライアント"}, "The setting client_name has only letters"),
        ({"client_name": ""}, "The setting client_name has only letters"),
        ({"scram_nonce": "a,b"}, "The setting scram_nonce has only letters"),
        ({"security": 5}, "Choose one of: none, starttls, ssl."),
        ({"security": []}, "Choose one of: none, starttls, ssl."),
        ({"smtp_port": True}, "The setting smtp_port must be a port"),
        ({"pop3_port": 110.0}, "The setting pop3_port must be a port"),
        ({"verify_certificate": 1}, "The setting verify_certificate is a switch"),
        ({"trusted_ca": b"PEM"}, "The setting trusted_ca is a text of certificates"),
        ({"server": "..example"}, "is not a server's name"),
        ({"outgoing_requires_authentication": True, "login": ""}, "needs a login name and a password"),
        ({"check_mail_first": True, "password": ""}, "needs a login name and a password"),
        ({"verify_certificate": False, "trusted_ca": ssl.create_default_context()}, "checks of its own"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadSetting, match=re.escape(sentence)):
        Settings(**GIVEN | settings)


@pytest.mark.parametrize(
    "pem", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "é"]
)
def test_trusted_certificates_must_be_certificates(pem: str) -> None:
    with pytest.raises(BadSetting, match="holds no certificate"):
        MailClient(Settings(**GIVEN, security=Security.SSL, trusted_ca=pem))


def test_a_mail_program_needs_settings() -> None:
    with pytest.raises(BadSetting, match=r"^'mail\.example' does not belong here: give settings, such as provider"):
        MailClient("mail.example")  # type: ignore[arg-type]


def test_reading_needs_a_login() -> None:
    with pytest.raises(BadSetting, match="Reading mail needs"):
        MailClient(Settings(smtp_port=25, pop3_port=110)).check()


def test_a_password_that_scram_cannot_carry_is_said_so(client_of: Serve) -> None:
    client = client_of(a_service("smtp-auth"), password="bell\a")
    with pytest.raises(BadSetting, match="characters that SCRAM-SHA-256 cannot carry"):
        changed(client, mechanism="SCRAM-SHA-256").send(letter())


@pytest.mark.parametrize("security", Security)
def test_security_may_be_given_by_its_name(security: Security) -> None:
    assert Settings(**GIVEN, security=str(security)).security is security


def test_settings_do_not_show_the_password() -> None:
    assert "sesame" not in repr(Settings(**GIVEN | {"password": "sesame"}))


# Servers that cheat, and servers that break


class Scripted:
    """A server that plays its part whoever asks: each answer follows a line of the client's. It keeps what was said."""

    def __init__(self, greeting: bytes, *answers: bytes) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.said: list[bytes] = []
        self.ended: object = None
        self._parts = (greeting, *answers)
        self._thread = threading.Thread(target=self._play)

    def _play(self) -> None:
        sock, _address = self._listening.accept()
        with sock, sock.makefile("rb") as lines:
            sock.settimeout(10)
            try:
                for part in self._parts:
                    if part is not self._parts[0]:
                        self.said.append(lines.readline())
                    sock.sendall(part)
                sock.shutdown(socket.SHUT_WR)
                while line := lines.readline():
                    self.said.append(line)
                self.ended = "FIN"
            except OSError as error:
                self.ended = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join()
        self._listening.close()

    def client(self, **settings: Any) -> MailClient:
        return MailClient(Settings(**GIVEN | {"smtp_port": self.port, "pop3_port": self.port, "timeout": 5} | settings))


EHLO = b"250-mail.example\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256\r\n"
CAPA = b"+OK\r\nSTLS\r\nSASL PLAIN SCRAM-SHA-256\r\n.\r\n"


def test_the_client_says_only_what_the_settings_ask_for() -> None:
    answers = (b"250 mail.example\r\n", *[b"250 ok\r\n"] * 2, b"354 go\r\n", b"250 ok\r\n", b"221 bye\r\n")
    with Scripted(b"220 hi\r\n", *answers) as server:
        server.client().send(letter("a\n.b"))
    verbs = [line for line in server.said if re.match(rb"[A-Za-z]{4,}( |\r)", line)]
    assert verbs[0] == b"ehlo client.example\r\n"
    assert [verb[:4].upper() for verb in verbs] == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]
    assert server.ended == "FIN"


def test_reading_says_only_what_the_settings_ask_for() -> None:
    answers = (b"+OK\r\n", b"+OK\r\n", b"+OK 1 3\r\n", b"+OK\r\n..\r\n.\r\n", b"+OK\r\n", b"+OK\r\n")
    with Scripted(b"+OK hi\r\n", *answers) as server:
        assert server.client().receive(delete=True) == [b".\r\n"]
    assert b"".join(server.said) == b"USER hanako\r\nPASS x\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n"
    assert server.ended == "FIN"


@pytest.mark.parametrize("extension", [b"", b"8BITMIME\r\n250 "])
def test_eight_bits_are_sent_only_where_the_server_takes_them(extension: bytes) -> None:
    ehlo = b"250-mail.example\r\n250 " + extension + b"HELP\r\n"
    answers = (ehlo.replace(b"250 8", b"250-8"), *[b"250 ok\r\n"] * 2, b"354 go\r\n", b"250 ok\r\n", b"221 bye\r\n")
    with Scripted(b"220 hi\r\n", *answers) as server:
        server.client().send(sample_message())
    said = b"".join(server.said)
    assert said.isascii() == (not extension)
    assert (b"BODY=8BITMIME" in said) == bool(extension)


def test_addresses_outside_ascii_need_a_server_that_takes_them() -> None:
    with (
        Scripted(b"220 hi\r\n", b"250 mail.example\r\n", b"221 bye\r\n") as server,
        pytest.raises(MessageRefused, match="SMTPUTF8"),
    ):
        server.client().send(letter(To="花子@例え.example"))
    assert [line[:4].upper() for line in server.said if line] == [b"EHLO", b"QUIT"]


def test_a_stripped_starttls_stops_the_client_before_anything_secret() -> None:
    with (
        Scripted(b"220 hi\r\n", b"250-mail.example\r\n250 AUTH PLAIN\r\n", b"221 bye\r\n") as server,
        pytest.raises(LabError, match=r"does not offer STARTTLS, or somebody in the middle removed the offer"),
    ):
        server.client(security=Security.STARTTLS, outgoing_requires_authentication=True).send(letter())
    assert [line[:4].upper() for line in server.said if line] == [b"EHLO", b"QUIT"]


@pytest.mark.parametrize("capa", [b"+OK\r\nUSER\r\n.\r\n", b"-ERR what?\r\n"])
def test_a_stripped_stls_stops_the_client_before_anything_secret(capa: bytes) -> None:
    with (
        Scripted(b"+OK hi\r\n", capa, b"+OK bye\r\n") as server,
        pytest.raises(LabError, match=r"does not offer STLS, or somebody in the middle removed the offer"),
    ):
        server.client(security=Security.STARTTLS).check()
    assert [line for line in server.said if line] == [b"CAPA\r\n", b"QUIT\r\n"]


@pytest.mark.parametrize("refusal", [b"454 4.7.0 no TLS now\r\n", b"500 what?\r\n"])
def test_a_starttls_that_is_refused_stops_the_client(refusal: bytes) -> None:
    with (
        Scripted(b"220 hi\r\n", EHLO, refusal, b"221 bye\r\n") as server,
        pytest.raises(LabError, match=refusal[:3].decode()),
    ):
        server.client(security=Security.STARTTLS, outgoing_requires_authentication=True).send(letter())
    assert [line[:4].upper() for line in server.said if line] == [b"EHLO", b"STAR", b"QUIT"]


def test_what_comes_behind_the_answer_to_starttls_is_not_believed() -> None:
    with (
        Scripted(b"220 hi\r\n", EHLO, b"220 go\r\n250 AUTH PLAIN\r\n") as server,
        pytest.raises(LabError, match="in the clear after the server agreed to start TLS"),
    ):
        server.client(security=Security.STARTTLS).send(letter())
    assert [line[:4].upper() for line in server.said if line] == [b"EHLO", b"STAR"]


def test_what_comes_behind_the_answer_to_stls_is_not_believed() -> None:
    with (
        Scripted(b"+OK hi\r\n", CAPA, b"+OK go\r\n+OK injected\r\n") as server,
        pytest.raises(LabError, match="in the clear after the server agreed to start TLS"),
    ):
        server.client(security=Security.STARTTLS).check()
    assert [line for line in server.said if line] == [b"CAPA\r\n", b"STLS\r\n"]


def encoded(text: bytes) -> bytes:
    return base64.b64encode(text)


SCRAM = {"mechanism": "SCRAM-SHA-256", "pop3_login": "SCRAM-SHA-256", "outgoing_requires_authentication": True}


@pytest.mark.parametrize(
    "answers",
    [
        [b"235 welcome\r\n"],
        [b"334 !\r\n"],
        [b"334 " + encoded(b"r=other,s=c2FsdA==,i=4096") + b"\r\n"],
        [b"334 " + encoded(b"nonsense") + b"\r\n"],
        [b"334 " + encoded(b"\xff") + b"\r\n"],
        [b"334 \r\n"],
    ],
)
def test_a_server_that_does_not_know_the_password_is_no_provider(answers: list[bytes]) -> None:
    with (
        Scripted(b"220 hi\r\n", EHLO, *answers, b"221 bye\r\n") as server,
        pytest.raises(LoginRefused, match="has not shown that it is the provider"),
    ):
        server.client(**SCRAM).send(letter())
    assert not any(b"MAIL" in line.upper() for line in server.said)


def test_a_pop3_server_that_does_not_know_the_password_is_no_provider() -> None:
    with (
        Scripted(b"+OK hi\r\n", CAPA, b"+OK welcome\r\n", b"+OK bye\r\n") as server,
        pytest.raises(LoginRefused, match="has not shown that it is the provider"),
    ):
        server.client(**SCRAM).check()
    assert not any(line.startswith(b"STAT") for line in server.said)


def test_a_server_that_goes_on_asking_is_no_provider() -> None:
    with (
        Scripted(b"220 hi\r\n", EHLO, b"334 \r\n", b"221 bye\r\n") as server,
        pytest.raises(LoginRefused, match="did not keep to PLAIN"),
    ):
        server.client(outgoing_requires_authentication=True).send(letter())
    assert server.said[-1] in (b"", b"QUIT\r\n", b"quit\r\n")


def test_a_long_password_goes_without_an_initial_response(client_of: Serve) -> None:
    account = replace(HANAKO, password="p" * 300)
    service = a_service("smtp-auth", accounts=[account, TARO])
    client = client_of(service, account)
    client.send(letter())
    assert changed(client, pop3_login="PLAIN").check() == 0
    with (
        Scripted(b"220 hi\r\n", EHLO, b"334 \r\n", b"535 no\r\n", b"221 bye\r\n") as server,
        pytest.raises(LoginRefused),
    ):
        server.client(outgoing_requires_authentication=True, password="p" * 300).send(letter())
    assert b"AUTH PLAIN\r\n" in server.said


def test_a_hostile_reply_is_shown_escaped() -> None:
    hostile = b"554-\x1b[2Jgo\r\n554 away\x00\xff\r\n"
    with Scripted(hostile) as server, pytest.raises(LabError) as refused:
        server.client().send(letter())
    assert str(refused.value).isprintable()
    assert r"554 \x1b[2Jgo away\x00\xff" in str(refused.value)


@pytest.mark.parametrize("act", [lambda client: client.send(letter()), lambda client: client.check()])
def test_nobody_listening(act: Callable[[MailClient], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(LabError, match=f"Nothing listens at mail.example, port {port}"):
        act(MailClient(Settings(**GIVEN | {"smtp_port": port, "pop3_port": port})))


@pytest.mark.parametrize("act", [lambda client: client.send(letter()), lambda client: client.check()])
@pytest.mark.parametrize("security", [Security.NONE, Security.SSL])
def test_a_silent_server_is_not_waited_for_forever(security: Security, act: Callable[[MailClient], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        settings = {"smtp_port": port, "pop3_port": port, "timeout": 0.1, "security": security}
        with pytest.raises(LabError, match=r"did not answer in time \(seconds allowed: 0\.1\)"):
            act(MailClient(Settings(**GIVEN | settings)))


@pytest.mark.parametrize(
    ("greeting", "sentence"),
    [
        (b"", "closed the connection|failed"),
        (b"-ERR busy\r\n", "refused: -ERR busy"),
        (b"+OK hi\r\n", "closed the connection"),
    ],
)
def test_a_pop3_server_that_leaves(greeting: bytes, sentence: str) -> None:
    with Scripted(greeting) as server, pytest.raises(LabError, match=sentence):
        server.client().check()


@pytest.mark.parametrize(
    ("greeting", "sentence"),
    [
        (b"", "closed the connection"),
        (b"421 4.3.2 busy\r\n", "refused: 421 4.3.2 busy"),
        (b"220 hi\r\n", "closed the connection"),
    ],
)
def test_an_smtp_server_that_leaves(greeting: bytes, sentence: str) -> None:
    with Scripted(greeting) as server, pytest.raises(LabError, match=sentence):
        server.client().send(letter())


def test_tls_with_a_server_that_speaks_none() -> None:
    for act in (lambda client: client.send(letter()), lambda client: client.check()):
        with Scripted(b"+OK hi\r\n" * 10) as server, pytest.raises(LabError, match=r"TLS with .* failed"):
            act(server.client(security=Security.SSL))


def test_the_server_closes_first() -> None:
    """The client waits for the server's FIN, so that its own close can never become a reset that overtakes a reply."""
    waited: list[bool] = []

    def play(listening: socket.socket) -> None:
        sock, _address = listening.accept()
        with sock, sock.makefile("rb") as lines:
            for answer in (b"+OK hi\r\n", b"+OK\r\n", b"+OK\r\n", b"+OK 0 0\r\n"):
                sock.sendall(answer)
                lines.readline()
            sock.sendall(b"+OK bye\r\n")
            waited.append(not select.select([sock], [], [], 0.1)[0])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=play, args=(listening,))
        thread.start()
        assert MailClient(Settings(**GIVEN | {"pop3_port": listening.getsockname()[1]})).check() == 0
        thread.join()
    assert waited == [True]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_is_closed_from_both_sides(version: ssl.TLSVersion) -> None:
    """The server's unwrap() returns only when the client's close_notify has come, and after it there is only FIN."""
    context = authority().server_context()
    context.minimum_version = context.maximum_version = version
    rest: list[bytes] = []

    def play(listening: socket.socket) -> None:
        raw, _address = listening.accept()
        with context.wrap_socket(raw, server_side=True) as sock:
            for answer in (b"+OK hi\r\n", b"+OK\r\n", b"+OK\r\n", b"+OK 0 0\r\n"):
                sock.sendall(answer)
                sock.recv(100)
            sock.sendall(b"+OK bye\r\n")
            plain = sock.unwrap()
            plain.shutdown(socket.SHUT_WR)
            rest.append(plain.recv(1))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=play, args=(listening,))
        thread.start()
        ca = authority().ca_pem.decode()
        port = listening.getsockname()[1]
        assert MailClient(Settings(**GIVEN | {"pop3_port": port}, security=Security.SSL, trusted_ca=ca)).check() == 0
        thread.join()
    assert rest == [b""]
