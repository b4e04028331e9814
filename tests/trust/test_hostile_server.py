"""A hostile server gets no more than a share of its client either: what it says is bounded in octets and in time.

The servers here talk without an end, or say what no server should; `MailClient` gives up, in one sentence.
"""

import itertools
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from typing import Any

import pytest

from labkit.errors import LabError
from labkit.mail import client as bounds
from labkit.mail import lineclient
from labkit.mail.certificates import authority
from labkit.mail.client import MailClient
from labkit.mail.explanations import LONGEST_QUOTE
from labkit.mail.lineclient import LONGEST_REPLY
from labkit.mail.policy import Security
from labkit.mail.settings import Settings

KIB, MIB = 1024, 1024 * 1024
REPLY = rf"comes to no end \(a reply of more than {LONGEST_REPLY:,} octets\)"

# What a server answers to each command (GREET is the connection itself, "." ends a message). An answer may go on for ever.
Answers = Mapping[str, Iterable[bytes]]
SMTP: Answers = {
    "GREET": [b"220 hi\r\n"],
    "EHLO": [b"250-mail.example\r\n250-STARTTLS\r\n250 AUTH PLAIN SCRAM-SHA-256\r\n"],
    "AUTH": [b"235 2.7.0 in\r\n"],
    "MAIL": [b"250 2.1.0 ok\r\n"],
    "RCPT": [b"250 2.1.5 ok\r\n"],
    "DATA": [b"354 go\r\n"],
    ".": [b"250 2.0.0 stored\r\n"],
    "QUIT": [b"221 bye\r\n"],
}
POP3: Answers = {
    "GREET": [b"+OK hi\r\n"],
    "CAPA": [b"+OK\r\nSTLS\r\nSASL PLAIN\r\n.\r\n"],
    "AUTH": [b"+OK in\r\n"],
    "USER": [b"+OK\r\n"],
    "PASS": [b"+OK in\r\n"],
    "STAT": [b"+OK 1 3\r\n"],
    "RETR": [b"+OK\r\nx\r\n.\r\n"],
    "QUIT": [b"+OK bye\r\n"],
}


def endless(line: bytes, first: bytes = b"") -> Iterable[bytes]:
    return itertools.chain([first], itertools.repeat(line * (32 * KIB // len(line))))


def dripping(octets: bytes) -> Iterator[bytes]:
    for octet in itertools.cycle(octets):
        yield bytes([octet])
        time.sleep(0.02)


@contextmanager
def server(answers: Answers, tls: bool = False) -> Iterator[int]:
    """A server for one session; its port. It talks on until the client has gone."""

    def play(sock: socket.socket) -> None:
        with sock.makefile("rb") as lines:
            for line in itertools.chain([b"greet"], lines):
                word = line.decode().upper().partition(" ")[0].strip()
                for saying in answers.get(word, ()):
                    sock.sendall(saying)
                if line == b"QUIT\r\n":
                    return

    def serve() -> None:
        sock, _address = listening.accept()
        sock.settimeout(20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):
            secured = authority().server_context().wrap_socket(sock, server_side=True) if tls else sock
            with secured:
                play(secured)
        sock.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join()


def letter() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "hanako@mail.example", "taro@mail.example", "hello"
    message.set_content("hello")
    return message


def a_client(port: int, **more: Any) -> MailClient:
    settings: dict[str, Any] = {
        "login": "hanako",
        "password": "secret",
        "outgoing_requires_authentication": True,
    } | more
    return MailClient(Settings(smtp_port=port, pop3_port=port, trusted_ca=authority().ca_pem.decode(), **settings))


ACTS: dict[str, tuple[Answers, Callable[[MailClient], object]]] = {
    "send": (SMTP, lambda client: client.send(letter())),
    "receive": (POP3, lambda client: client.receive()),
}


def gives_up(act: str, sentence: str, answers: Answers, **more: Any) -> int:
    """The client does its act with a server that answers so, and gives up with this sentence; its peak memory in octets."""
    usual, does = ACTS[act]
    tls = more.get("security") is Security.SSL
    with server({**usual, **answers}, tls) as port:
        client = a_client(port, **more)
        tracemalloc.start()
        try:
            with pytest.raises(LabError, match=sentence) as given_up:
                does(client)
            assert str(given_up.value).isprintable()
            assert len(str(given_up.value)) < LONGEST_QUOTE + 300
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("text", ["", "AUTH=LOGIN", "x" * 8000], ids=["empty", "AUTH", "long"])
@pytest.mark.parametrize(
    ("command", "code"),
    [("GREET", 220), ("EHLO", 250), ("AUTH", 235), ("MAIL", 250), ("RCPT", 250), ("DATA", 354), (".", 250)],
)
def test_a_reply_of_smtp_without_an_end(command: str, code: int, text: str) -> None:
    line = f"{code}-{text}\r\n".encode()
    assert gives_up("send", REPLY, {command: endless(line)}) < MIB


@pytest.mark.parametrize("command", ["GREET", "CAPA", "USER", "STAT", "RETR"])
@pytest.mark.parametrize("security", [Security.NONE, Security.SSL])
def test_a_response_of_pop3_without_an_end(command: str, security: Security, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LARGEST_MAILDROP", MIB)
    sentence = "mail of more than 1,048,576 octets" if command == "RETR" else REPLY
    login = "PLAIN" if command == "CAPA" else "USER"
    answer = endless(b"SASL PLAIN\r\n" if command == "CAPA" else b"x", b"+OK\r\n" if command == "CAPA" else b"+OK ")
    assert gives_up("receive", sentence, {command: answer}, pop3_login=login, security=security) < 8 * MIB


@pytest.mark.parametrize(
    "line", [b"\r\n", b"..\r\n", b"x" * 70 + b"\r\n", b"x"], ids=["empty", "dot", "text", "one line"]
)
def test_a_message_without_an_end(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short lines take no more memory than one long one."""
    most = MIB
    monkeypatch.setattr(bounds, "LARGEST_MAILDROP", most)
    assert gives_up("receive", f"mail of more than {most:,} octets", {"RETR": endless(line, b"+OK\r\n")}) < 6 * most


def test_messages_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LARGEST_MAILDROP", MIB)
    answers = {"STAT": [b"+OK 999999999 1\r\n"], "RETR": [b"+OK\r\n" + b"x" * 70_000 + b"\r\n.\r\n"]}
    assert gives_up("receive", "mail of more than 1,048,576 octets", answers) < 4 * MIB


def test_mail_below_the_bound_is_read() -> None:
    body = b"x" * 998 + b"\r\n" + b"..\r\n"
    with server({**POP3, "STAT": [b"+OK 3 1\r\n"], "RETR": [b"+OK\r\n" + body * 5_000 + b".\r\n"]}) as port:
        assert a_client(port).receive() == [(b"x" * 998 + b"\r\n.\r\n") * 5_000] * 3


@pytest.mark.parametrize(
    ("act", "command", "octets"),
    [
        ("send", "GREET", b"220-\r\n"),
        ("send", "EHLO", b"250-AUTH PLAIN\r\n"),
        ("send", ".", b"250-\r\n"),
        ("receive", "GREET", b"+"),
        ("receive", "RETR", b"+OK\r\n"),
    ],
)
def test_an_octet_now_and_then_is_not_listened_to_for_ever(
    act: str, command: str, octets: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each octet comes long before the time-out: only the length of the session ends it."""
    monkeypatch.setattr(bounds, "LONGEST_SESSION", 1)
    gives_up(act, r"comes to no end \(a session of more than 0\.5 seconds\)", {command: dripping(octets)}, timeout=0.5)


@pytest.mark.parametrize("act", ACTS)
def test_what_comes_after_the_goodbye_changes_nothing(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LONGEST_SESSION", 1)
    usual, does = ACTS[act]
    (bye,) = usual["QUIT"]
    for answer in (endless(b"x"), dripping(b"x")):
        with server({**usual, "QUIT": itertools.chain([bye], answer)}) as port:
            does(a_client(port, timeout=1))


@pytest.mark.parametrize("reply", ["", " ", " x y", " 1e3 5", " -1 0", " " + "9" * 5000 + " 1", " ٣ 1"])
def test_a_count_that_is_none(reply: str) -> None:
    gives_up("receive", "how many messages", {"STAT": [b"+OK" + reply.encode() + b"\r\n"]})


@pytest.mark.parametrize("capa", [b"\r\n", b" \r\nSTLS\xff\r\n", b"\x1b[2J\r\n", b"SASL\r\n", b"SASL \x1b[2J\r\n"])
def test_capabilities_that_are_none(capa: bytes) -> None:
    answers = {"CAPA": [b"+OK\r\n", capa, b".\r\n"]}
    gives_up("receive", "does not offer|offers no login", answers, pop3_login="PLAIN")
    gives_up("receive", "does not offer|offers no login", answers, security=Security.STARTTLS)


@pytest.mark.parametrize("offer", [b"\x1b[2J", b"\xff\xfe", b"A" * 5000])
def test_an_offer_that_is_none_is_shown_escaped_and_short(offer: bytes) -> None:
    gives_up("send", "does not offer|offers no login", {"EHLO": [b"250-mail.example\r\n250 AUTH " + offer + b"\r\n"]})
    gives_up("send", "refused", {"GREET": [b"554 " + offer + b"\r\n"]})


@pytest.mark.parametrize("said", [b"", b"r=x", b"i=1", b"r=x,s=!!!,i=1", b"r=x,s=,i=99999999", b"\xff" * 10, b"=,=,="])
@pytest.mark.parametrize("act", ACTS)
def test_challenges_that_are_none(act: str, said: bytes) -> None:
    from base64 import b64encode

    usual = {"send": b"334 %b\r\n", "receive": b"+ %b\r\n"}[act]
    for challenge in (b64encode(said), said):
        answers = {"AUTH": [usual % challenge], "CAPA": [b"+OK\r\nSASL SCRAM-SHA-256\r\n.\r\n"]}
        ways = {"mechanism": "SCRAM-SHA-256", "pop3_login": "SCRAM-SHA-256"}
        gives_up(act, "SCRAM-SHA-256|refused|did not accept|failed|closed", answers, **ways, scram_nonce="x")


def test_the_rig_hears_all_that_a_patient_client_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: without the bound, an endless reply goes on past it."""
    monkeypatch.setattr(lineclient, "LONGEST_REPLY", 2 * MIB)
    assert gives_up("send", "a reply of more than 2,097,152 octets", {"GREET": endless(b"220-\r\n")}) > 2 * MIB
