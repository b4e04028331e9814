"""POP before SMTP: who read mail may send from the same address for a while, and nobody else, and not a second longer.

It was never standardized: RFC 2476 section 3.3 and RFC 4409 section 3.3 name it. Its weakness stays what it is: everybody
who shares the address may send too.
"""

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from labkit.mail.policy import POLICIES, Policy
from labkit.provider import Provider
from tests.mail.conftest import InMemory, a_service
from tests.trust.rig import PASSWORD, Client, a_provider, b64, taro

MAIL = "MAIL FROM:<hanako@mail.example>"
REFUSED = "530 5.7.0 Read your mail first"


def policy(minutes: int, name: str = "pop-before-smtp") -> Policy:
    return replace(POLICIES[name], auth_required=False, pop_window=timedelta(minutes=minutes))


@pytest.fixture(params=["pop-before-smtp", "ssl"])
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """With a window of 15 minutes, in the clear and inside TLS."""
    with a_provider(policy(15, request.param)) as provider:
        yield provider


def read_mail(provider: Provider, password: str = PASSWORD, source: str = "127.0.0.1") -> str:
    with Client(provider, "pop3", source=source) as pop3:
        return pop3.log_in(password=password)


def attempt(provider: Provider, source: str = "127.0.0.1") -> str:
    with Client(provider, "smtp", source=source) as smtp:
        return smtp.say("EHLO c.example", MAIL)


@pytest.mark.parametrize("minutes", [15, 30])
@pytest.mark.parametrize("name", ["pop-before-smtp", "ssl"])
def test_the_window_is_exact_to_the_second(minutes: int, name: str) -> None:
    with a_provider(policy(minutes, name)) as provider:
        assert attempt(provider).startswith(REFUSED)
        assert read_mail(provider).startswith("+OK ")
        assert attempt(provider).startswith("250 ")
        provider.clock.advance(minutes=minutes, seconds=-1)
        assert attempt(provider).startswith("250 ")
        provider.clock.advance(seconds=1)
        assert attempt(provider).startswith(REFUSED)
        assert read_mail(provider).startswith("+OK ")  # and it opens again
        provider.clock.advance(minutes=minutes, seconds=1)
        assert attempt(provider).startswith(REFUSED)


def test_it_counts_from_the_last_login(provider: Provider) -> None:
    for _ in range(3):
        read_mail(provider)
        provider.clock.advance(minutes=14)
        assert attempt(provider).startswith("250 ")


def test_sending_does_not_open_it_again(provider: Provider) -> None:
    read_mail(provider)
    for _ in range(2):
        provider.clock.advance(minutes=7)
        assert attempt(provider).startswith("250 ")
    provider.clock.advance(minutes=1)
    assert attempt(provider).startswith(REFUSED)


def test_another_address_may_not_send(provider: Provider) -> None:
    other = "127.0.0.2"
    with socket.socket() as probe:
        try:
            probe.bind((other, 0))
        except OSError:
            pytest.skip(f"this system has no {other}")
    assert read_mail(provider).startswith("+OK ")
    assert attempt(provider, other).startswith(REFUSED)
    assert attempt(provider).startswith("250 ")
    assert read_mail(provider, source=other).startswith("+OK ")
    assert attempt(provider, other).startswith("250 ")


@pytest.mark.parametrize(
    ("reads", "sends", "may"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1", True),  # IPv4-mapped (RFC 4291 section 2.5.5.2): the same client
        ("192.0.2.1", "::ffff:c000:201", True),
        ("2001:db8::1", "2001:DB8:0:0::1", True),
        ("2001:db8::1", "2001:db8::2", False),
        ("::1", "127.0.0.1", False),
        ("192.0.2.1", "::192.0.2.1", False),  # IPv4-compatible, deprecated: not the same
        ("192.0.2.1", "2002:c000:201::", False),  # 6to4 is somebody else, too
        ("", "192.0.2.1", False),
    ],
)
def test_an_address_is_one_address_however_it_is_written(reads: str, sends: str, may: bool) -> None:
    """The lab listens on IPv4; what a server sees of IPv6 is shown to its protocols without a network."""
    service = a_service("pop-before-smtp")
    with (
        InMemory(service, peername=(sends, 40_000, 0, 0)) as smtp,
        InMemory(service, pop3=True, peername=(reads, 40_001, 0, 0)) as pop3,
    ):
        smtp.feed(b"EHLO c.example\r\n")
        assert smtp.feed(MAIL.encode() + b"\r\n")[0].startswith(REFUSED.encode())
        pop3.feed(f"USER hanako\r\nPASS {PASSWORD}\r\nQUIT\r\n".encode())
        assert smtp.feed(MAIL.encode() + b"\r\n")[0].startswith(b"250 " if may else REFUSED.encode())


def test_what_is_no_login_opens_nothing(provider: Provider) -> None:
    """Failed, half done, refused because the maildrop is in use: only +OK to a login counts."""
    assert read_mail(provider, "wrong").startswith("-ERR ")
    with Client(provider, "pop3") as pop3:
        assert pop3.say("USER hanako").startswith("+OK ")
        assert attempt(provider).startswith(REFUSED)
        assert pop3.say("APOP hanako " + "0" * 32).startswith("-ERR ")
        pop3.say("CAPA")
    assert provider.maildrops["hanako"].acquire()
    assert read_mail(provider).startswith("-ERR [IN-USE] ")
    assert attempt(provider).startswith(REFUSED)
    provider.maildrops["hanako"].release()


def test_smtp_auth_does_not_open_it() -> None:
    """A provider that offers both asks for both: they are two policies of one Policy."""
    both = replace(policy(15), mechanisms=("PLAIN",))
    with a_provider(both) as provider, Client(provider, "smtp") as smtp:
        assert smtp.say("EHLO c.example", f"AUTH PLAIN {b64('', 'hanako', PASSWORD)}").startswith("235 ")
        assert smtp.say(MAIL).startswith(REFUSED)


def test_the_window_may_end_in_mid_session(provider: Provider) -> None:
    """It is asked for at MAIL: a message that was begun inside the window may be finished, and the next one not begun."""
    read_mail(provider)
    with Client(provider, "smtp") as begun, Client(provider, "smtp") as late:
        begun.say("EHLO c.example", MAIL)
        late.say("EHLO c.example")
        provider.clock.advance(minutes=15)
        assert late.say(MAIL).startswith(REFUSED)
        assert begun.say("RCPT TO:<taro@mail.example>", "DATA").startswith("354 ")
        begun.send(b"in time\r\n.\r\n")
        assert begun.reply().startswith("250 ")
        assert begun.say(MAIL).startswith(REFUSED)
        read_mail(provider)
        assert late.say(MAIL).startswith("250 ")  # and may begin again, too
    assert taro(provider) == [b"in time\r\n"]


def test_a_restart_forgets_it(provider: Provider) -> None:
    read_mail(provider)
    assert attempt(provider).startswith("250 ")
    provider.stop()
    provider.start()
    assert attempt(provider).startswith(REFUSED)


def test_nothing_of_a_refused_message_is_taken(provider: Provider) -> None:
    with Client(provider, "smtp") as smtp:
        smtp.say("EHLO c.example")
        smtp.send(f"{MAIL}\r\nRCPT TO:<taro@mail.example>\r\nDATA\r\n".encode())
        assert [smtp.reply()[:3] for _ in range(3)] == ["530", "503", "503"]
        assert smtp.say("RCPT TO:<x@elsewhere.example>").startswith("503 ")
    assert taro(provider) == []
    assert provider.outgoing == []
