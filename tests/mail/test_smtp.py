"""The submission protocol, against its RFCs, real clients and hostile ones."""

import base64
import hmac
import re
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest
import scramp
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.mail import smtp
from labkit.mail.certificates import authority
from labkit.mail.policy import POLICIES, LoginFormat
from labkit.mail.smtp import TABLE, SmtpState
from labkit.wire.network import Listener, Network
from tests.conftest import examples, returns
from tests.mail.conftest import ACCOUNTS, InMemory, Talk, a_service

Serve = Callable[..., Listener]
PLAIN = base64.b64encode(b"\0hanako\0correct horse").decode()
WRONG = base64.b64encode(b"\0hanako\0wrong").decode()
BEGUN = ("EHLO client.example", "MAIL FROM:<hanako@mail.example>", "RCPT TO:<taro@mail.example>")
MESSAGE = b"Subject: hello\r\n\r\n.a dot first\r\n..two\r\n.\rnot alone\r\n\xe6\x97\xa5\r\n"


def stuffed(content: bytes) -> bytes:
    """As RFC 5321 section 4.5.2 sends it, written here line by line."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"


def taro(service: object) -> list[bytes]:
    """What taro's maildrop holds."""
    return [message.content for message in service.maildrops["taro"].messages()]  # type: ignore[attr-defined]


# What EHLO offers


@pytest.mark.parametrize(
    ("policy", "extra", "offered"),
    [
        ("plaintext", {}, []),
        ("smtp-auth", {}, ["AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256"]),
        ("pop-before-smtp", {}, []),
        ("starttls", {}, ["STARTTLS"]),
        ("starttls", {"ssl_object": object()}, ["AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256"]),
        ("ssl", {"ssl_object": object()}, ["AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256"]),
        ("ssl", {}, []),
        (replace(POLICIES["smtp-auth"], mechanisms=("CRAM-MD5", "PLAIN")), {}, ["AUTH CRAM-MD5 PLAIN"]),
    ],
)
def test_ehlo_offers_what_the_policy_allows_in_one_write(
    policy: object, extra: dict[str, object], offered: list[str]
) -> None:
    with InMemory(a_service(policy), **extra) as session:
        (reply,) = session.feed(b"EHLO client.example\r\n")
    assert reply.decode().split("\r\n") == [
        "250-mail.example",
        "250-SIZE 33554432",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250-PIPELINING",
        "250-ENHANCEDSTATUSCODES",
        *(f"250-{keyword}" for keyword in offered),
        "250 HELP",
        "",
    ]


def test_no_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda *_: pytest.fail("a connection must not ask the name service"))
    with InMemory(a_service()) as session:
        assert session.transport.writes == [b"220 mail.example ESMTP labkit\r\n"]


# One message


def test_a_message_is_stored_octet_for_octet_for_each_recipient() -> None:
    service = a_service()
    with InMemory(service) as session:
        session.feed(b"EHLO c\r\nMAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<TARO@Mail.Example>\r\n")
        session.feed(b"RCPT TO:<hanako@mail.example>\r\nRCPT TO:<b@far.example>\r\nRCPT TO:<c@far.example>\r\nDATA\r\n")
        content = b"Subject: hello\r\n\r\n.\r\n..\r\n.a\r\n"
        assert session.feed(stuffed(content)) == [b"250 2.0.0 OK: message stored\r\n"]
    assert taro(service) == [content]
    assert [m.content for m in service.maildrops["hanako"].messages()] == [content]
    (outgoing,) = service.outgoing
    assert outgoing.sender == "a@elsewhere.example"
    assert outgoing.recipients == ("b@far.example", "c@far.example")
    assert outgoing.content == content


@given(
    content=st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"a", b"\x00", b"\xff"]), max_size=30).map(b"".join),
    cuts=st.lists(st.integers(0, 60), max_size=6).map(sorted),
)
@settings(deadline=None, max_examples=examples(150))
def test_any_message_arrives_however_tcp_cuts_it(content: bytes, cuts: list[int]) -> None:
    service = a_service()
    lines = (content + b"\r\n") if content and not content.endswith(b"\r\n") else content
    wire = stuffed(lines) + b"NOOP\r\n"
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    with InMemory(service) as session:
        session.feed("\r\n".join([*BEGUN, "DATA", ""]).encode())
        replies = b"".join(session.feed(*pieces))
    assert replies == b"250 2.0.0 OK: message stored\r\n250 2.0.0 OK\r\n"
    assert taro(service) == [re.sub(rb"\r\n|\r|\n", b"\r\n", lines)]


def test_replies_to_a_pipelined_group_leave_together() -> None:
    with InMemory(a_service()) as session:
        (reply,) = session.feed(
            b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@mail.example>\r\nRCPT TO:<taro@mail.example>\r\nDATA\r\n"
        )
    assert [line[:9] for line in reply.decode().split("\r\n")[-5:-1]] == [
        "250 2.1.0",
        "550 5.1.1",
        "250 2.1.5",
        "354 End d",
    ]


def test_the_null_sender_and_postmaster() -> None:
    service = a_service()
    with InMemory(service) as session:
        session.feed(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\nRCPT TO:<x@far.example>\r\nDATA\r\n.\r\n")
    assert [m.content for m in service.maildrops["hanako"].messages()] == [b""]
    assert service.outgoing[0].sender == ""


def test_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "SIZE_LIMIT", 1000)
    service = a_service()
    with InMemory(service) as session:
        session.feed(b"EHLO c\r\n")
        assert session.feed(b"MAIL FROM:<> SIZE=1001\r\n")[0].startswith(b"552 5.3.4 ")
        begin = b"MAIL FROM:<> SIZE=1000\r\nRCPT TO:<taro@mail.example>\r\nDATA\r\n"
        for content, code in (
            (b".\r\n" * 333, b"250 2.0.0 "),  # 999 octets, 1,332 on the wire
            (b"a" * 999 + b"\r\n", b"552 5.3.4 "),
            (b"a" * 99 + b"\r\n" + b"b" * 50_000 + b"\r\n", b"552 5.3.4 "),
            (b"a" * 998 + b"\r\n", b"250 2.0.0 "),
        ):
            session.feed(begin)
            wire = stuffed(content)
            assert session.feed(*(wire[at : at + 700] for at in range(0, len(wire), 700)))[0].startswith(code)
            assert session.waiting == 0
    assert [len(content) for content in taro(service)] == [999, 1000]


@pytest.mark.parametrize(
    ("header", "parameters", "code"),
    [
        ("Subject: 昼食", "", "554 5.6.9"),  # RFC 6531 section 3.5
        ("Subject: 昼食", " SMTPUTF8", "250 2.0.0"),
        ("Subject: lunch", " BODY=8BITMIME", "250 2.0.0"),
    ],
)
def test_a_header_in_utf8_needs_smtputf8(header: str, parameters: str, code: str) -> None:
    """POP3 could not hand it out to a program that does not say UTF8 (RFC 6856 section 6)."""
    service = a_service()
    with InMemory(service) as session:
        session.feed(f"EHLO c\r\nMAIL FROM:<>{parameters}\r\nRCPT TO:<taro@mail.example>\r\nDATA\r\n".encode())
        (reply,) = session.feed(f"{header}\n\r\n昼\r\n.\r\n".encode())
    assert reply.decode().startswith(code)
    assert len(taro(service)) == (code == "250 2.0.0")


# What a policy demands


def test_plaintext_asks_for_nothing() -> None:
    with InMemory(a_service()) as session:
        assert session.feed(b"HELO c\r\nMAIL FROM:<anybody@anywhere.example>\r\n") == [
            b"250 mail.example\r\n250 2.1.0 OK\r\n"
        ]
        assert session.feed(b"AUTH PLAIN\r\n")[0].startswith(b"502 5.5.1 ")


def test_who_has_not_read_mail_is_told_for_how_long_that_would_help() -> None:
    with InMemory(a_service("pop-before-smtp")) as session:
        refusal = session.feed(b"EHLO c\r\n", b"MAIL FROM:<a@b.example>\r\n")[-1]
    assert refusal == b"530 5.7.0 Read your mail first: a POP3 login lets this address send for 30 minutes\r\n"


def test_smtp_auth_refuses_mail_before_a_login(network: Network, serve_smtp: Serve) -> None:
    with Talk(serve_smtp(a_service("smtp-auth"))) as talk:
        assert talk.say("EHLO c", "MAIL FROM:<a@b.example>").startswith("530 5.7.0 ")
        assert talk.say("RCPT TO:<a@b.example>").startswith("530 5.7.0 ")
        assert talk.say(f"AUTH PLAIN {PLAIN}") == "235 2.7.0 Authentication successful"
        assert talk.say("EHLO c", "MAIL FROM:<a@b.example>") == "250 2.1.0 OK"


def test_starttls_policy_before_and_after_tls(serve_smtp: Serve) -> None:
    service = a_service("starttls")
    with Talk(serve_smtp(service, starttls=authority().server_context())) as talk:
        assert "AUTH" not in talk.say("EHLO c")
        assert talk.say(f"AUTH PLAIN {PLAIN}").startswith("538 5.7.11 ")
        for command in ("MAIL FROM:<a@b.example>", "HELO c", "RSET", "VRFY a", "RCPT TO:<a@b.example>", "DATA"):
            assert talk.say(command) == "530 5.7.0 Must issue a STARTTLS command first"
        assert talk.say("NOOP").startswith("250 ")
        assert talk.say("STARTTLS now").startswith("501 5.5.4 ")
        assert talk.say("STARTTLS").startswith("220 2.0.0 ")
        talk.start_tls(authority().client_context())
        assert talk.say("MAIL FROM:<a@b.example>").startswith("503 5.5.1 ")  # the EHLO of before is forgotten
        ehlo = talk.say("EHLO c")
        assert "STARTTLS" not in ehlo
        assert "250-AUTH PLAIN LOGIN" in ehlo
        assert talk.say("STARTTLS").startswith("503 5.5.1 ")
        assert talk.say(f"AUTH PLAIN {PLAIN}", "MAIL FROM:<a@b.example>") == "250 2.1.0 OK"


def test_starttls_without_a_certificate_says_so() -> None:
    with InMemory(a_service("starttls")) as session:
        assert session.feed(b"EHLO c\r\nSTARTTLS\r\n")[0].splitlines()[-1].startswith(b"454 4.7.0 ")


@pytest.mark.parametrize(("pop3", "said"), [(False, b"EHLO c\r\nSTARTTLS\r\n"), (True, b"STLS\r\n")])
def test_tls_is_waited_for_before_the_client_can_begin_it(pop3: bool, said: bytes) -> None:
    """The first octets of the handshake may come in the next turn of the loop: nobody else may be given them."""
    began: list[bool] = []

    async def start_tls(*_: Any, **__: Any) -> None:
        began.append(True)

    with InMemory(a_service("starttls"), pop3=pop3, can_start_tls=True) as session:
        session.loop.start_tls = start_tls  # type: ignore[method-assign,assignment]
        keep, early = session.transport.write, []

        def write(data: bytes) -> None:
            keep(data)
            session.loop.call_soon(lambda: early.append(not began))

        session.transport.write = write  # type: ignore[method-assign,assignment]
        session.feed(said)
    assert began == [True]
    assert early[-1:] == [False]


def test_implicit_tls_is_seen_as_tls(serve_smtp: Serve) -> None:
    service = a_service("ssl")
    listener = serve_smtp(service, tls=authority().server_context())
    with smtplib.SMTP_SSL("localhost", listener.port, context=authority().client_context()) as client:
        client.ehlo()
        assert not client.has_extn("starttls")
        client.login("hanako", "correct horse")
        client.sendmail("hanako@mail.example", "taro@mail.example", "Subject: x\r\n\r\nhello\r\n")
    assert taro(service) == [b"Subject: x\r\n\r\nhello\r\n"]


# AUTH


@pytest.mark.parametrize("login_format", LoginFormat)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_smtplib_logs_in_with_the_login_name_of_the_policy(
    serve_smtp: Serve, login_format: LoginFormat, mechanism: str
) -> None:
    policy = replace(POLICIES["smtp-auth"], login_format=login_format, mechanisms=(mechanism,))
    listener = serve_smtp(a_service(policy))
    with smtplib.SMTP(listener.host, listener.port) as client:
        client.login(ACCOUNTS[0].login_name(login_format), "correct horse")
    with (
        smtplib.SMTP(listener.host, listener.port) as client,
        pytest.raises(smtplib.SMTPAuthenticationError) as refused,
    ):
        client.login(ACCOUNTS[0].login_name(login_format), "wrong")
    assert refused.value.smtp_code == 535
    assert refused.value.smtp_error.startswith(b"5.7.8 ")


def test_scram_proves_both_sides() -> None:
    client = scramp.ScramClient(["SCRAM-SHA-256"], "taro", ACCOUNTS[1].password)
    with InMemory(a_service("smtp-auth")) as session:
        session.feed(b"EHLO c\r\n")

        def exchange(line: str) -> str:
            (reply,) = session.feed(line.encode() + b"\r\n")
            assert reply.startswith(b"334 ")
            return base64.b64decode(reply[4:]).decode()

        client.set_server_first(
            exchange("AUTH SCRAM-SHA-256 " + base64.b64encode(client.get_client_first().encode()).decode())
        )
        client.set_server_final(exchange(base64.b64encode(client.get_client_final().encode()).decode()))
        assert session.feed(b"\r\n") == [b"235 2.7.0 Authentication successful\r\n"]
        assert session.machine.account == ACCOUNTS[1]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([f"auth plain {PLAIN}"], "235 2.7.0"),
        (["AUTH PLAIN", PLAIN], "235 2.7.0"),
        (["AUTH PLAIN", WRONG], "535 5.7.8"),
        (["AUTH PLAIN " + base64.b64encode(b"taro\0hanako\0correct horse").decode()], "535 5.7.8"),
        (["AUTH PLAIN " + base64.b64encode(b"hanako\0hanako\0correct horse").decode()], "235 2.7.0"),
        (["AUTH PLAIN ="], "501 5.5.2"),  # no octets are not a message of PLAIN
        (["AUTH PLAIN", "="], "501 5.5.2"),
        (["AUTH PLAIN", "*"], "501 5.7.0"),
        (["AUTH PLAIN", "not base64!"], "501 5.5.2"),
        (["AUTH PLAIN not_base64!"], "501 5.5.2"),
        (["AUTH PLAIN " + base64.b64encode(b"\0hanako").decode()], "501 5.5.2"),
        (["AUTH PLAIN " + base64.b64encode(b"\0\xff\0x").decode()], "501 5.5.2"),
        (["AUTH LOGIN", "aGFuYWtv", "*"], "501 5.7.0"),
        (["AUTH LOGIN aGFuYWtv", base64.b64encode(b"correct horse").decode()], "235 2.7.0"),
        (["AUTH CRAM-MD5 aGFuYWtv"], "501 5.7.0"),  # RFC 4954 section 4: the server speaks first
        (["AUTH CRAM-MD5", "aGFuYWtv"], "501 5.5.2"),
        (["AUTH SCRAM-SHA-256 aGFuYWtv"], "501 5.5.2"),
        (["AUTH GSSAPI"], "504 5.5.4"),
        (["AUTH"], "501 5.5.4"),
        (["AUTH PLAIN a b"], "501 5.5.4"),
        (["AUTH PLAIN " + "A" * 12277], "501 5.5.2"),
        (["AUTH PLAIN " + "A" * 12278], "500 5.5.6"),
        (["AUTH PLAIN", "A" * 12289], "500 5.5.6"),
        (["AUTH PLAIN", "A" * 300_000], "500 5.5.6"),
        ([f"AUTH PLAIN {PLAIN}", f"AUTH PLAIN {PLAIN}"], "503 5.5.1"),
        ([f"AUTH  PLAIN   {PLAIN} "], "235 2.7.0"),
        ([f"AUTH PLAIN\t{PLAIN}"], "504 5.5.4"),
    ],
)
def test_auth_replies(lines: list[str], code: str) -> None:
    with InMemory(a_service("smtp-auth")) as session:
        session.feed(b"EHLO c\r\n")
        for line in lines[:-1]:
            session.feed(line.encode() + b"\r\n")
        (reply,) = session.feed(lines[-1].encode() + b"\r\n")
        assert reply.decode().startswith(code + " ")
        assert session.feed(b"NOOP\r\n") == [b"250 2.0.0 OK\r\n"]


def test_auth_needs_ehlo_and_no_transaction() -> None:
    with InMemory(a_service(replace(POLICIES["smtp-auth"], auth_required=False))) as session:
        assert session.feed(b"AUTH PLAIN\r\n")[0].startswith(b"503 5.5.1 ")
        session.feed(b"EHLO c\r\nMAIL FROM:<>\r\n")
        assert session.feed(f"AUTH PLAIN {PLAIN}\r\n".encode())[0].startswith(b"503 5.5.1 ")
        session.feed(b"RSET\r\n")
        assert session.feed(f"AUTH PLAIN {PLAIN}\r\n".encode())[0].startswith(b"235 2.7.0 ")


def test_an_unknown_user_gets_the_same_answers_as_a_wrong_password() -> None:
    transcripts = []
    for name in (b"hanako", b"nobody"):
        with InMemory(a_service("smtp-auth")) as session:
            session.feed(b"EHLO c\r\n")
            plain = session.feed(b"AUTH PLAIN " + base64.b64encode(b"\0" + name + b"\0") + b"\r\n")
            challenge = base64.b64decode(session.feed(b"AUTH CRAM-MD5\r\n")[0][4:])
            digest = hmac.new(b"wrong", challenge, "md5").hexdigest().encode()
            transcripts.append((plain, session.feed(base64.b64encode(name + b" " + digest) + b"\r\n")))
    assert transcripts[0] == transcripts[1]


# Commands, right and wrong


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("MAIL FROM:<a@b.example>", "250 2.1.0"),
        ("mail from: <a@b.example> size=10 body=8bitmime", "250 2.1.0"),
        ("MAIL FROM:<a@b.example> AUTH=<>", "250 2.1.0"),
        ("MAIL FROM:<a@b.example> AUTH=a+2Bb@c.example", "250 2.1.0"),
        ("MAIL FROM:<a@b.example> AUTH=a+zz", "501 5.5.4"),
        ('MAIL FROM:<"a b\\"@c"@[192.0.2.1]>', "250 2.1.0"),
        ("MAIL FROM:<@relay.example,@other.example:a@b.example>", "250 2.1.0"),
        ("MAIL FROM:<a@日本.example> SMTPUTF8", "250 2.1.0"),
        ("MAIL FROM:<a@日本.example>", "553 5.6.7"),
        ("MAIL FROM:<a@b.example> SMTPUTF8=1", "501 5.5.4"),
        ("MAIL FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4"),
        ("MAIL FROM:<a@b.example> SIZE", "501 5.5.4"),
        ("MAIL FROM:<a@b.example> SIZE=1 SIZE=1", "501 5.5.4"),
        ("MAIL FROM:<a@b.example> SIZE=99999999999999999999", "552 5.3.4"),
        ("MAIL FROM:<a@b.example> RET=FULL", "555 5.5.4"),
        ("MAIL FROM:<a@b.example> \u00a0SIZE=1", "501 5.5.4"),
        ("MAIL FROM:<a@b.example> BODY=8BıTMIME", "501 5.5.4"),
        ("MAıL FROM:<a@b.example>", "500 5.5.1"),
        ("MAIL FROM:<", "501 5.1.7"),
        ("MAIL FROM:<>>", "501 5.1.7"),
        ("MAIL FROM:<a@>", "501 5.1.7"),
        ("MAIL FROM:<@b.example>", "501 5.1.7"),
        ("MAIL FROM:<a b@c.example>", "501 5.1.7"),
        ("MAIL FROM:<a..b@c.example>", "501 5.1.7"),
        ("MAIL FROM:<a@b.example>SIZE=1", "501 5.1.7"),
        ("MAIL FROM:a@b.example", "501 5.5.4"),
        ("MAIL", "501 5.5.4"),
        ("MAIL TO:<a@b.example>", "501 5.5.4"),
        ("MAIL FROM:<a\0@b.example>", "501 5.5.2"),
        ("MAIL FROM:<a\r@b.example>", "501 5.5.2"),
        ("MAIL FROM:<" + "a" * 400 + "@b.example>", "250 2.1.0"),
        ("MAIL FROM:<" + "a" * 3000 + "@b.example>", "500 5.5.2"),
        ("RCPT TO:<a@b.example>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("VRFY hanako", "252 2.0.0"),
        ("VRFY", "501 5.5.4"),
        ("EXPN staff", "502 5.5.1"),
        ("HELP", "214 2.0.0"),
        ("NOOP anything", "250 2.0.0"),
        ("RSET", "250 2.0.0"),
        ("RSET now", "501 5.5.4"),
        ("QUIT now", "501 5.5.4"),
        ("QUIT", "221 2.0.0"),
        ("BDAT 3 LAST", "500 5.5.1"),
        ("", "500 5.5.1"),
        ("日本", "500 5.5.1"),
    ],
)
def test_replies_before_a_transaction(command: str, code: str) -> None:
    with InMemory(a_service(replace(POLICIES["smtp-auth"], auth_required=False))) as session:
        session.feed(b"EHLO c\r\n")
        (reply,) = session.feed(command.encode() + b"\r\n")
    assert reply.decode().startswith(code + " ")
    assert reply.count(b"\n") == 1


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("RCPT TO:<taro@mail.example>", "250 2.1.5"),
        ("RCPT TO:<nobody@mail.example>", "550 5.1.1"),
        ("RCPT TO:<x@elsewhere.example>", "250 2.1.5"),
        ("RCPT TO:<x@日本.example>", "553 5.6.7"),
        ("RCPT TO:<>", "501 5.1.3"),
        ("RCPT TO:<poſtmaster>", "501 5.1.3"),
        ("RCPT TO:<taro>", "501 5.1.3"),
        ("RCPT FROM:<taro@mail.example>", "501 5.5.4"),
        ("RCPT TO:<taro@mail.example> NOTIFY=NEVER", "555 5.5.4"),
        ("MAIL FROM:<a@b.example>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("DATA now", "503 5.5.1"),
    ],
)
def test_replies_within_a_transaction(command: str, code: str) -> None:
    with InMemory(a_service()) as session:
        session.feed(b"EHLO c\r\nMAIL FROM:<a@b.example>\r\n")
        assert session.feed(command.encode() + b"\r\n")[0].decode().startswith(code + " ")


def test_octets_that_are_not_utf8_and_parameters_without_ehlo() -> None:
    with InMemory(a_service()) as session:
        session.feed(b"HELO c\r\n")
        assert session.feed(b"MAIL FROM:<\xff@b.example>\r\n")[0].startswith(b"501 5.5.2 ")
        assert session.feed(b"MAIL FROM:<a@b.example> SIZE=1\r\n")[0].startswith(b"555 5.5.4 ")
        assert session.feed(b"EHLO\r\nHELO \r\n") == [b"501 Syntax: EHLO hostname\r\n501 Syntax: HELO hostname\r\n"]


def test_the_line_limit_of_a_connection_does_not_move_with_anothers_ehlo() -> None:
    service = a_service()
    with InMemory(service) as busy, InMemory(service) as other:
        busy.feed(b"EHLO c\r\n" * 200)
        other.feed(b"EHLO c\r\n")
        assert other.feed(b"NOOP " + b"a" * 2043 + b"\r\n") == [b"250 2.0.0 OK\r\n"]
        assert other.feed(b"NOOP " + b"a" * 2044 + b"\r\n") == [b"500 5.5.2 Line too long\r\n"]


@given(
    lines=st.lists(
        st.binary(max_size=40)
        | st.sampled_from([b"EHLO c", b"MAIL FROM:<a@b.example>", b"MAIL FROM:<", b"DATA", b".", b"AUTH PLAIN"])
    )
)
@settings(deadline=None, max_examples=examples(150))
def test_whatever_is_sent_each_reply_is_well_formed_and_has_an_enhanced_code(lines: list[bytes]) -> None:
    with InMemory(a_service("smtp-auth")) as session:
        for line in lines:
            for reply in b"".join(session.feed(line + b"\r\n")).decode().split("\r\n")[:-1]:
                assert re.fullmatch(
                    r"[245]\d\d [245]\.\d\.\d+ [ -~]+|334 [A-Za-z0-9+/=]*|354 .*|250[ -].*|501 Syntax: (EHLO|HELO) hostname",
                    reply,
                )
                if found := re.match(r"(\d)\d\d (\d)\.\d", reply):
                    assert found[1] == found[2]  # RFC 2034 section 4


# When things go wrong


def test_an_error_inside_is_told_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    service = a_service()

    def broken(*_: object) -> None:
        raise RuntimeError("secret\r\n250 OK")

    monkeypatch.setattr(service, "deliver", broken)
    with InMemory(service) as session:
        session.feed("\r\n".join([*BEGUN, "DATA", ""]).encode())
        assert session.feed(b".\r\n") == [b"451 4.3.0 Requested action aborted: error in processing\r\n"]
        assert session.feed(b"NOOP\r\n") == [b"250 2.0.0 OK\r\n"]


def test_a_full_disk_is_a_temporary_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    service = a_service()

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service.maildrops["taro"], "append", full)
    with InMemory(service) as session:
        session.feed("\r\n".join([*BEGUN, "RCPT TO:<hanako@mail.example>", "DATA", ""]).encode())
        assert session.feed(b"x\r\n.\r\n") == [b"452 4.3.1 Insufficient system storage\r\n"]
    assert service.maildrops["hanako"].messages() == ()


def test_a_silent_client_is_told_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    with InMemory(a_service()) as session:
        clock = [session.loop.time()]
        monkeypatch.setattr(session.loop, "time", lambda: clock[0])

        def pass_time(seconds: float) -> None:
            clock[0] += seconds
            session.rest()

        session.feed("\r\n".join([*BEGUN, "DATA", ""]).encode())
        for _ in range(5):
            pass_time(299)
            assert session.feed(b"a line\r\n") == []
        assert session.transport.closed == ""
        pass_time(301)
        assert session.transport.writes[-1].startswith(b"421 4.4.2 ")
        assert session.transport.closed == "closed"


def test_a_silent_client_that_does_not_read_is_dropped_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with InMemory(a_service()) as session:
        now = session.loop.time()
        session.protocol.pause_writing()
        session.transport.unsent = 1000
        monkeypatch.setattr(session.loop, "time", lambda: now + 301)
        session.rest()
        assert session.transport.closed == "aborted"


def test_a_client_that_takes_no_replies_is_not_read_without_bound() -> None:
    with InMemory(a_service()) as session:
        session.protocol.pause_writing()
        session.feed(*[b"NOOP\r\n" * 10_000] * 6)
        assert not session.transport.reading
        assert session.waiting < 2**19
        before = b"".join(session.transport.writes).count(b"250 2.0.0 OK\r\n")
        session.protocol.resume_writing()
        session.rest(turns=1500)
        assert session.transport.reading
        assert b"".join(session.transport.writes).count(b"250 2.0.0 OK\r\n") == 60_000 > before


def test_nothing_is_logged_on_stderr() -> None:
    program = (
        "import logging, labkit.mail.smtp; [logging.getLogger(n).error('x') for n in ('mail.log', 'labkit.mail.smtp')]"
    )
    logged = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert logged.stderr == b""


def test_commands_before_a_half_close_are_answered(serve_smtp: Serve) -> None:
    with Talk(serve_smtp(a_service())) as talk:
        talk.send(b"EHLO c\r\nNOOP\r\nQUIT")
        talk.socket.shutdown(socket.SHUT_WR)
        assert talk.reply()[0] == "250-mail.example"
        assert talk.reply() == ["250 2.0.0 OK"]
        assert talk.reply() == []


SESSION = [b"EHLO c\r\n", b"AUTH LOGIN\r\n", b"aGFuYWtv\r\n", base64.b64encode(b"correct horse") + b"\r\n"]
SESSION += [f"{command}\r\n".encode() for command in (*BEGUN[1:], "DATA")] + [b"half a message\r\n", b".\r\n"]


def test_clients_that_vanish_inside_a_handshake(network: Network, serve_smtp: Serve) -> None:
    listener = serve_smtp(a_service("starttls"), starttls=authority().server_context())
    for said in (b"", b"\x16\x03\x01", b"this is not TLS\r\n"):
        for end in (Talk.close, Talk.vanish):
            talk = Talk(listener)
            talk.say("EHLO c", "STARTTLS")
            talk.send(said)
            end(talk)


def test_a_client_that_distrusts_the_certificate(serve_smtp: Serve) -> None:
    listener = serve_smtp(a_service("starttls"), starttls=authority().server_context())
    with Talk(listener) as talk:
        talk.say("EHLO c", "STARTTLS")
        with pytest.raises(ssl.SSLCertVerificationError):
            talk.start_tls(ssl.create_default_context())


def test_a_client_that_says_goodbye_with_the_handshakes_last_octets(
    serve_smtp: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority().client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with Talk(serve_smtp(a_service("starttls"), starttls=authority().server_context())) as talk:
        talk.say("EHLO c", "STARTTLS")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        while True:
            talk.send(outgoing.read())
            incoming.write(talk.socket.recv(65536))
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        with pytest.raises(ssl.SSLWantReadError):
            client.unwrap()
        talk.send(outgoing.read())
        while talk.socket.recv(65536):
            pass
    assert caplog.messages == []  # asyncio warns of a protocol that would keep half of a TLS connection


def test_stop_does_not_wait_for_idle_clients(network: Network, serve_smtp: Serve) -> None:
    context = authority().server_context()
    plain = serve_smtp(a_service("starttls"), starttls=context)
    secure = serve_smtp(a_service("ssl"), tls=context)
    idle, in_handshake, in_tls, silent = Talk(plain), Talk(plain), Talk(plain), Talk(secure, greeted=False)
    in_handshake.say("EHLO c", "STARTTLS")
    in_tls.say("EHLO c", "STARTTLS")
    in_tls.start_tls(authority().client_context())
    in_tls.say("EHLO c")
    returns(network.stop)
    for talk in (idle, in_handshake, in_tls, silent):
        talk.close()


# Real clients


def test_smtplib_sends_smtputf8(serve_smtp: Serve) -> None:
    service = a_service()
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "こんにちは", "花子@日本.example", "taro@mail.example"
    message.set_content("本文\n")
    listener = serve_smtp(service)
    with smtplib.SMTP(listener.host, listener.port) as client:
        client.send_message(message)
    assert "Subject: こんにちは\r\n".encode() in taro(service)[0]


# The table


def test_the_table_has_every_command_in_every_state_of_a_session() -> None:
    speaking = {SmtpState.START, SmtpState.READY, SmtpState.SENDER, SmtpState.RECIPIENTS}
    assert set(TABLE) == {(state, verb) for state in speaking for verb in smtp.COMMANDS} | {
        (SmtpState.EXCHANGE, ""),
        (SmtpState.CONTENT, ""),
    }


def ways_to(*, state: SmtpState, reply: str) -> set[tuple[SmtpState, str]]:
    """What leads there from elsewhere, as a state diagram shows it."""
    return {
        key
        for key, transition in TABLE.items()
        if transition.possible and transition.leads_to(reply) is state is not key[0]
    }


def test_the_state_diagram() -> None:
    """RFC 5321 section 4.1.4: MAIL, RCPT, DATA, in this order; RFC 4954 section 4: AUTH between transactions only."""
    assert ways_to(state=SmtpState.SENDER, reply="250 ") == {(SmtpState.READY, "MAIL")}
    assert ways_to(state=SmtpState.RECIPIENTS, reply="250 ") == {(SmtpState.SENDER, "RCPT")}
    assert ways_to(state=SmtpState.CONTENT, reply="354 ") == {(SmtpState.RECIPIENTS, "DATA")}
    assert ways_to(state=SmtpState.EXCHANGE, reply="334 ") == {(SmtpState.READY, "AUTH")}
    assert {verb for _state, verb in ways_to(state=SmtpState.NEGOTIATION, reply="220 ")} == {"STARTTLS"}
    assert {verb for _state, verb in ways_to(state=SmtpState.CLOSED, reply="221 ")} == {"QUIT"}
    assert ways_to(state=SmtpState.START, reply="250 ") == set(), "only TLS begins a session anew"
    # A refusal changes nothing, but for what is no command.
    changed = {state for (state, _), transition in TABLE.items() if transition.leads_to("550 ") is not state}
    assert changed == {SmtpState.EXCHANGE, SmtpState.CONTENT}
