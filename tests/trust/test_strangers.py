"""Who is no mail program gets nothing done: a web page that posts to the ports, and who talks before it is greeted."""

import socket
import threading

import pytest

from labkit.mail.server import UNKNOWN_COMMANDS, is_http
from labkit.provider import Provider
from tests.trust.rig import PASSWORD, Client, a_provider, taro

POST = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\r\n{commands}QUIT\r\n"
DELETE = POST.format(commands=f"USER hanako\r\nPASS {PASSWORD}\r\nDELE 1\r\n").encode()
SEND = POST.format(
    commands="EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<taro@mail.example>\r\nDATA\r\nposted\r\n.\r\n"
).encode()


def answers(client: Client) -> str:
    """All that the server says until it closes."""
    said = ""
    while reply := client.reply():
        said += reply
    return said


@pytest.mark.parametrize("policy", ["plaintext", "ssl"])
def test_a_web_page_cannot_delete_mail(policy: str) -> None:
    with a_provider(policy) as provider:
        provider.maildrops["hanako"].append(b"kept\r\n")
        with Client(provider, "pop3") as client:
            client.send(DELETE)
            assert answers(client) == "-ERR This is POP3 and not HTTP"
        assert len(provider.maildrops["hanako"].messages()) == 1


def test_a_web_page_cannot_send_mail() -> None:
    with a_provider() as provider:
        with Client(provider, "smtp") as client:
            client.send(SEND)
            assert answers(client) == "421 4.7.0 This is SMTP and not HTTP"
        assert taro(provider) == []


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
@pytest.mark.parametrize(
    "line",
    ["GET / HTTP/1.1", "get /", "OPTIONS *", "DELETE /x", "PRI * HTTP/2.0", "Host: mail.example", "X-A:", "POST"],
)
def test_every_line_of_http_ends_a_session(protocol: str, line: str) -> None:
    with a_provider() as provider, Client(provider, protocol) as client:
        client.log_in()
        assert client.say(line).startswith(("421 4.7.0 ", "-ERR "))
        assert client.has_ended()
        if protocol == "pop3":
            assert provider.maildrops["hanako"].acquire()


def test_a_request_line_longer_than_a_command_ends_a_session_too() -> None:
    with a_provider() as provider:
        for protocol in ("smtp", "pop3"):
            with Client(provider, protocol) as client:
                client.send(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n")
                assert "not HTTP" in client.reply()


@pytest.mark.parametrize(
    "line",
    [b"MAIL FROM:<a@b.example>", b"RCPT TO:<a@[IPv6:::1]>", b"USER x:y", b"PASS GET /", b"APOP a: x", b"", b"GETS x"],
)
def test_no_command_of_mail_is_taken_for_http(line: bytes) -> None:
    assert not is_http(line)


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_commands_that_nobody_knows_end_a_session(protocol: str) -> None:
    with a_provider() as provider, Client(provider, protocol) as client:
        for _ in range(UNKNOWN_COMMANDS - 1):
            assert client.say("XYZZY").startswith(("500 5.5.1 ", "-ERR Unknown command"))
        assert client.say("XYZZY") in ("421 4.7.0 Too many unknown commands", "-ERR Too many unknown commands")
        assert client.has_ended()


def connected_and_talking(provider: Provider, port: int, early: bytes) -> socket.socket:
    """A client whose first octets are there when the server comes to accept it."""
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        go_on.wait(10)

    holding = threading.Thread(target=provider._network.call, args=(hold,))
    holding.start()
    try:
        busy.wait(10)
        client = socket.create_connection((provider.host, port), 10)
        client.sendall(early)
    finally:
        go_on.set()
        holding.join()
    return client


def test_who_sends_mail_before_the_greeting_is_refused() -> None:
    """RFC 5321 section 4.3.1; commands in groups are allowed when PIPELINING was seen (RFC 2920 section 3.1)."""
    early = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<taro@mail.example>\r\nDATA\r\nearly\r\n.\r\n"
    with a_provider() as provider:
        with connected_and_talking(provider, provider.smtp_port, early) as client, client.makefile("rb") as lines:
            assert lines.readline() == b"554 5.5.1 Wait for the greeting before you say something\r\n"
        assert taro(provider) == []


def test_who_reads_mail_before_the_greeting_is_answered_in_order() -> None:
    """POP3 may be pipelined (RFC 2449 section 6.6), and people do it by hand: `openssl s_client -quiet < commands`."""
    early = f"USER hanako\r\nPASS {PASSWORD}\r\nQUIT\r\n".encode()
    with (
        a_provider() as provider,
        connected_and_talking(provider, provider.pop3_port, early) as client,
        client.makefile("rb") as lines,
    ):
        assert [line[:3] for line in lines] == [b"+OK"] * 4
