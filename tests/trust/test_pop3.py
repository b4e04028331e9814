"""POP3 gives every octet back, deletes only what was confirmed, and lets one session in at a time: RFC 1939."""

import re
from collections.abc import Callable

import pytest

from labkit.mail.policy import POLICIES
from labkit.provider import Provider
from tests.mail.conftest import ACCOUNTS
from tests.trust.rig import CRLF, PASSWORD, Client, a_provider, settle, taro, until

TARO = ACCOUNTS[1].password


def reader(provider: Provider) -> Client:
    """taro, logged in."""
    client = Client(provider, "pop3")
    assert client.log_in("taro", TARO).startswith("+OK ")
    return client


def nobody_is_connected(provider: Provider) -> bool:
    return provider._network.call(lambda: not provider._network.taps.live)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_empty_password_is_wrong_like_any_other(policy: str) -> None:
    with a_provider(policy) as provider:
        answers = set()
        for name in ("hanako", "nobody"):
            for password in ("PASS", "PASS ", "PASS  ", "PASS wrong"):
                with Client(provider, "pop3") as client:
                    assert client.say(f"USER {name}").startswith("+OK ")
                    answers.add(client.say(password))
                    assert client.say("STAT").startswith("-ERR ")
        assert answers == {"-ERR Syntax: PASS text", "-ERR [AUTH] Login failed"}


@pytest.mark.parametrize("command", ["LIST", "UIDL", "RETR", "DELE", "TOP"])
def test_numbers_that_are_none(command: str) -> None:
    huge = ["2147483648", "4294967297", "18446744073709551617", "9" * 20, "9" * 200]
    with a_provider() as provider:
        for content in (b"one\r\n", b"two\r\n"):
            provider.maildrops["taro"].append(content)
        with reader(provider) as client:
            for number in ["0", "-1", "3", "00", "+1", "1.0", "0x1", "1e0", "\u0661", "1 1 1", *huge]:
                lines = " 0" if command == "TOP" else ""
                assert client.say(f"{command} {number}{lines}").startswith("-ERR "), number
            assert client.say("DELE 1").startswith("+OK ")
            lines = " 0" if command == "TOP" else ""
            assert client.say(f"{command} 1{lines}") == "-ERR No such message"  # deleted
            assert client.say("STAT") == "+OK 1 5"
            assert client.ask("LIST") == b"2 5\r\n"


BOUNDARIES = [2**power for power in (9, 10, 12, 13, 14, 16, 17, 18)]  # buffers of stdio, TLS records, asyncio, sockets


@pytest.mark.parametrize("policy", ["plaintext", "ssl"])
def test_dots_at_every_buffer_boundary(policy: str) -> None:
    """twisted's server once ended RETR at an unstuffed dot behind 16 KiB. Sent by SMTP, so both ways are tested."""
    with a_provider(policy) as provider:
        sent = []
        with Client(provider, "smtp") as smtp:
            smtp.say("EHLO c.example")
            if policy == "ssl":
                smtp.log_in()
            for boundary in BOUNDARIES:
                for before in range(-4, 5):
                    filling = b"a: b\r\n\r\n" + b"x" * (boundary + before - 10) + CRLF
                    sent.append(filling + b".\r\n..\r\n.x\r\n\r\n.\r\n")
                    assert smtp.deliver(filling + b"..\r\n...\r\n..x\r\n\r\n..\r\n").startswith("250 ")
        assert taro(provider) == sent
        with reader(provider) as pop3:
            for number, content in enumerate(sent, 1):
                assert pop3.ask(f"RETR {number}") == content
                assert pop3.ask(f"TOP {number} 3")[-7:] == b".\r\n..\r\n"


ODD_MESSAGES = [
    b"",
    b"\r\n",
    b"\n",
    b"\n" * 70_000,
    b"\r",
    b".",
    b".\r\n",
    b"..",
    b"\r\n.\r\n",
    b"no line end",
    b"\0",
    b"\r\n\0\xff\xfe\x80",
    b"a" * 300_000,
    b".\n" * 50_000,
    b"\r\n" + bytes(range(256)) * 50,
]


@pytest.mark.parametrize("policy", ["plaintext", "ssl"])
def test_octet_counts_are_exact_and_odd_messages_come_back(policy: str) -> None:
    """RFC 1939 section 11: STAT, LIST and RETR count the octets that a client gets, before stuffing."""
    with a_provider(policy) as provider:
        for content in ODD_MESSAGES:
            provider.maildrops["taro"].append(content)
        sizes, wanted = [], []
        for content in ODD_MESSAGES:
            mended = re.sub(rb"\r\n|\r|\n", CRLF, content)
            wanted.append(mended if not mended or mended.endswith(CRLF) else mended + CRLF)
        with reader(provider) as client:
            for number, content in enumerate(wanted, 1):
                assert client.ask(f"RETR {number}") == content
                sizes.append(len(content))
                assert client.say(f"LIST {number}") == f"+OK {number} {len(content)}"
            assert client.say("STAT") == f"+OK {len(sizes)} {sum(sizes)}"
            assert client.ask("LIST") == b"".join(b"%d %d\r\n" % pair for pair in enumerate(sizes, 1))
            assert len(set(client.ask("UIDL").split()[1::2])) == len(sizes)


SESSION = (
    b"USER taro\r\nPASS "
    + TARO.encode()
    + b"\r\nSTAT\r\nLIST 1\r\nRETR 1\r\nNOPE\r\nDELE 1\r\nRETR 1\r\nRSET\r\nDELE 2\r\nQUIT\r\n"
)
ANSWERS = (
    b"+OK Now the password\r\n+OK 2 messages (11 octets)\r\n+OK 2 11\r\n+OK 1 6\r\n+OK 6 octets\r\n..one\r\n.\r\n"
    b"-ERR Unknown command\r\n+OK Marked for deletion\r\n-ERR No such message\r\n+OK 2 messages (11 octets)\r\n"
    b"+OK Marked for deletion\r\n+OK Bye\r\n"
)


def two_letters(provider: Provider) -> None:
    provider.maildrops["taro"].delete(message.uid for message in provider.maildrops["taro"].messages())
    for content in (b".one\r\n", b"two\r\n"):
        provider.maildrops["taro"].append(content)


@pytest.mark.parametrize("policy", ["plaintext", "ssl"])
def test_a_pipelined_session_is_answered_in_order_however_it_is_cut(policy: str) -> None:
    """RFC 2449 section 6.6."""
    with a_provider(policy) as provider:
        for cut in range(0, len(SESSION) + 1, 1 if policy == "plaintext" else 9):
            two_letters(provider)
            with Client(provider, "pop3") as client:
                client.send(SESSION[:cut])
                settle(provider)
                client.send(SESSION[cut:])
                assert client._lines.read() == ANSWERS
            assert taro(provider) == [b".one\r\n"]


def test_whoever_vanishes_before_quit_deletes_nothing_and_locks_nobody_out() -> None:
    """RFC 1939 section 6: only QUIT in TRANSACTION updates. Dropped after each octet of a session, in both ways."""
    complete = len(SESSION) - len(CRLF) + 1  # QUIT's LF may be the last octet that matters
    with a_provider() as provider:
        for vanish in (Client.vanish, Client.close):
            for end in range(len(SESSION) + 1):
                two_letters(provider)
                client = Client(provider, "pop3")
                client.send(SESSION[:end])
                vanish(client)
                until(lambda: nobody_is_connected(provider))
                assert taro(provider) == [b".one\r\n", b"two\r\n"] or end > complete, end
                assert provider.maildrops["taro"].acquire(), end
                provider.maildrops["taro"].release()


@pytest.mark.parametrize("vanish", [Client.vanish, Client.close], ids=["RST", "FIN"])
def test_whoever_vanishes_inside_tls_before_quit_deletes_nothing(vanish: Callable[[Client], None]) -> None:
    lines = SESSION.split(CRLF)[:-1]
    with a_provider("ssl") as provider:
        for count in range(len(lines)):
            two_letters(provider)
            client = Client(provider, "pop3")
            client.say(*lines[:count])
            vanish(client)
            until(lambda: nobody_is_connected(provider))
            assert taro(provider) == [b".one\r\n", b"two\r\n"], count
            with reader(provider) as next_one:
                assert next_one.say("QUIT") == "+OK Bye"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_second_session_waits_until_the_first_is_over(policy: str) -> None:
    """RFC 1939 section 4, RFC 2449 section 8.1.1: [IN-USE], which is no wrong password and is not counted as one."""
    with a_provider(policy) as provider:
        first, second = reader(provider), Client(provider, "pop3")
        for _ in range(5):
            assert second.log_in("taro", TARO).startswith("-ERR [IN-USE] ")
        with Client(provider, "pop3") as other:
            assert other.log_in("hanako", PASSWORD).startswith("+OK ")
        first.vanish()
        settle(provider)
        assert second.log_in("taro", TARO).startswith("+OK ")
        second.close()
