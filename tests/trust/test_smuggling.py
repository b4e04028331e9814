"""One message in is one message stored: SMTP smuggling (SEC Consult, December 2023; CVE-2023-51764, -51765, -51766).

Only CRLF.CRLF ends a message (RFC 5321 sections 2.3.8 and 4.1.1.4). Whatever else looks like an end is content. A bare CR or
LF in a message is stored as the line end that it looks like, so that nothing passes it on as something else; POP3 and
everybody who reads it then sees it dot-stuffed. A command may end with a bare LF, as in Postfix's `smtpd_forbid_bare_newline
= normalize`; a CR anywhere else in a command is refused.
"""

import re
from email import message_from_bytes
from email.policy import SMTP

import pytest

from tests.mail.conftest import ACCOUNTS
from tests.trust.rig import BEGIN, Client, a_provider, settle, taro, unstuffed

SMUGGLED = b"MAIL FROM:<admin@mail.example>\r\nRCPT TO:<hanako@mail.example>\r\nDATA\r\nsmuggled\r\n"
ODD_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"\n.\r",
    b"\r\n.\r",
    b"\n\n.\r\n",
    b"\n\r.\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\r.\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n. \r\n",
    b"\r\n\x85.\x85",
    "\r\n\u2028.\u2028".encode(),
]


@pytest.mark.parametrize("policy", ["plaintext", "ssl"])
@pytest.mark.parametrize("odd", ODD_ENDS, ids=lambda odd: repr(odd)[2:-1])
def test_an_odd_end_gives_one_message_however_it_is_cut(odd: bytes, policy: str) -> None:
    body = b"Subject: x\r\n\r\nfirst" + odd + SMUGGLED
    wire = body + b".\r\n"
    around = range(len(body) - len(odd) - len(SMUGGLED), len(body) - len(SMUGGLED) + 3)
    cuts = range(len(wire) + 1) if policy == "plaintext" else around
    with a_provider(policy) as provider, Client(provider, "smtp") as client:
        client.say("EHLO client.example")
        if policy == "ssl":
            client.log_in()
        for cut in cuts:
            client.send(b"".join(BEGIN) + wire[:cut])
            settle(provider)
            client.send(wire[cut:] + b"NOOP\r\n")
            assert [client.reply()[:3] for _ in range(5)] == ["250", "250", "354", "250", "250"], cut
        assert client.is_silent()
        stored = taro(provider)
        assert stored == [re.sub(rb"\r\n|\r|\n", b"\r\n", unstuffed(body))] * len(cuts)
        assert b"MAIL FROM:<admin@mail.example>\r\n" in stored[0]
        assert provider.maildrops["hanako"].messages() == ()
        assert client.say("QUIT").startswith("221 ")


def test_an_odd_end_arrives_octet_by_octet() -> None:
    with a_provider() as provider, Client(provider, "smtp") as client:
        client.say("EHLO client.example")
        wire = b"first" + b"x".join(ODD_ENDS) + b"\r\n.\r\nNOOP\r\n"
        client.send(b"".join(BEGIN))
        for octet in wire:
            client.send(bytes([octet]))
            settle(provider)
        assert [client.reply()[:3] for _ in range(5)] == ["250", "250", "354", "250", "250"]
        assert len(taro(provider)) == 1


@pytest.mark.parametrize("odd", ODD_ENDS, ids=lambda odd: repr(odd)[2:-1])
def test_what_looked_like_an_end_is_read_by_pop3_as_one_message_too(odd: bytes) -> None:
    """The other half of smuggling: what a server stores must not become an end when it hands the message on."""
    with a_provider() as provider:
        with Client(provider, "smtp") as smtp:
            smtp.say("EHLO client.example")
            assert smtp.deliver(b"Subject: x\r\n\r\nfirst" + odd + SMUGGLED).startswith("250 ")
        with Client(provider, "pop3") as pop3:
            assert pop3.log_in("taro", ACCOUNTS[1].password).startswith("+OK 1 message ")
            assert pop3.ask("RETR 1") == taro(provider)[0]
            assert pop3.say("NOOP") == "+OK Still here"


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        (b"NOOP\nNOOP\r\n", ["250", "250"]),  # a bare LF ends a command
        (b"NOOP\rNOOP\r\n", ["500"]),  # a bare CR does not
        (b"NOOP \rNOOP\r\n", ["501"]),
        (b"NOOP\r\r\n", ["500"]),
        (b"MAIL FROM:<a@b.example>\rRCPT TO:<taro@mail.example>\r\n", ["501"]),
        (b"MAIL FROM:<a@b.example\0>\r\n", ["501"]),
        (b"\0NOOP\r\n", ["500"]),
        (b"NOOP\x85NOOP\r\n", ["500"]),
    ],
)
def test_line_ends_of_commands(lines: bytes, codes: list[str]) -> None:
    with a_provider() as provider, Client(provider, "smtp") as client:
        client.say("EHLO client.example")
        client.send(lines + b"HELP\r\n")
        assert [client.reply()[:3] for _ in codes] == codes
        assert client.reply().startswith("214 ")


def test_our_own_client_sends_no_bare_line_ends() -> None:
    """What a user's message holds, however odd, leaves as lines that end with CRLF, and one CRLF.CRLF."""
    hostile = b"From: hanako@mail.example\nTo: taro@mail.example\n\nfirst" + b"".join(ODD_ENDS[:13]) + b"last\n"
    with a_provider("smtp-auth") as provider:
        with provider.capture("tap") as capture:
            provider.client("hanako").send(message_from_bytes(hostile, policy=SMTP))
        (flow,) = capture.flows
        said = bytes(flow.client_stream.data)
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n", said)
        assert said.count(b"\r\n.\r\n") == 1
        assert len(taro(provider)) == 1
