"""Nobody takes more than a bounded share: of time (RFC 5321 section 4.5.3.2, RFC 1939 section 3), memory and connections.

Waiting is tested with the servers' own constants, cut to fractions of a second: a minute here is TICK seconds. Memory is
measured with tracemalloc, which counts what Python holds for both ends, because server and client share this process; TLS
is counted by the system, because OpenSSL's memory is not Python's.
"""

import gc
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from labkit.mail import pop3, smtp
from labkit.provider import Provider
from tests.mail.conftest import ACCOUNTS
from tests.trust.rig import BEGIN, Client, a_provider, b64, need_descriptors, settle, taro, until

KIB, MIB = 1024, 1024**2
TICK = 0.1  # seconds that stand for a minute

# What a connection may cost the server, in octets: the promises of SECURITY.md.
A_LINE = 1 * MIB  # beside what asyncio reads at once (256 KiB), and what waits behind it
A_MESSAGE = 4 * smtp.SIZE_LIMIT  # a message of the largest size, at the worst moment of its storing
AN_IDLE_CONNECTION = 16 * KIB
AN_IDLE_CONNECTION_IN_TLS = 384 * KIB  # of both ends; 256 KiB of it is asyncio's buffer

PORTS: dict[str, Callable[[Provider], int]] = {
    "smtp": lambda provider: provider.smtp_port,
    "pop3": lambda provider: provider.pop3_port,
}


class Measured:
    """Octets that Python held at the worst moment, above what it held before."""

    octets = 0


@contextmanager
def measured() -> Iterator[Measured]:
    result = Measured()
    gc.collect()
    tracemalloc.start()
    before, _peak = tracemalloc.get_traced_memory()
    try:
        yield result
    finally:
        result.octets = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()


# Lines and messages without an end


@pytest.mark.parametrize(
    ("protocol", "before", "reply"),
    [
        ("smtp", [], "500 5.5.2 "),
        ("smtp", ["EHLO c.example"], "500 5.5.2 "),
        ("smtp", ["EHLO c.example", "AUTH PLAIN"], "500 5.5.6 "),
        ("pop3", [], "-ERR Line too long"),
        ("pop3", ["AUTH PLAIN"], "-ERR Line too long"),
    ],
)
def test_a_line_without_an_end_takes_no_memory(protocol: str, before: list[str], reply: str) -> None:
    part = b"A" * 64 * KIB
    with a_provider("smtp-auth") as provider, Client(provider, protocol) as client:
        client.say(*before)
        with measured() as memory:
            for _ in range(128):
                client.send(part)
            client.send(b"\r\n")
            if protocol == "smtp" or client.is_silent():
                assert client.reply().startswith(reply)
        assert memory.octets < A_LINE
        if protocol == "pop3":
            with Client(provider, "pop3") as other:
                assert other.log_in().startswith("+OK ")
        else:
            assert client.say("NOOP").startswith("250 ")


@pytest.mark.parametrize(
    "line", [b"X-Endless: " + b"a" * MIB, b"a" * MIB, b"\r\n" * (MIB // 2), b"..\r\n" * (MIB // 4)]
)
def test_a_message_without_an_end_is_kept_up_to_the_limit_and_refused(line: bytes) -> None:
    """RFC 1870 section 6.3: what was not declared counts too. An endless header is a part of an endless message."""
    with a_provider() as provider, Client(provider, "smtp") as client:
        client.say("EHLO client.example", *(command[:-2] for command in BEGIN))
        with measured() as memory:
            for _ in range(2 * smtp.SIZE_LIMIT // MIB):
                client.send(line)
            client.send(b"\r\n.\r\n")
            assert client.reply().startswith("552 5.3.4 ")
        assert memory.octets < A_MESSAGE
        assert client.say("NOOP").startswith("250 ")
        assert taro(provider) == []


def test_the_largest_message_is_stored_within_bounds_and_one_octet_more_is_not() -> None:
    line = b"a" * 62 + b"\r\n"
    largest = line * (smtp.SIZE_LIMIT // len(line))
    with a_provider() as provider, Client(provider, "smtp") as client:
        client.say("EHLO client.example")
        with measured() as memory:
            assert client.deliver(largest).startswith("250 ")
        assert memory.octets < A_MESSAGE
        (stored,) = taro(provider)
        assert stored == largest
        assert client.deliver(b"b" + largest).startswith("552 5.3.4 ")
        assert len(taro(provider)) == 1


def test_the_top_of_a_message_of_nothing_but_lines() -> None:
    size = 4 * MIB
    with a_provider() as provider:
        provider.maildrops["taro"].append(b"\r\n" * (size // 2))
        with Client(provider, "pop3") as client:
            client.log_in("taro", ACCOUNTS[1].password)
            with measured() as memory:
                client.send(b"TOP 1 %d\r\n" % (size // 2 - 2))
                assert client.reply() == f"+OK {size - 2} octets"
            assert memory.octets < 4 * size


@pytest.mark.parametrize("policy", ["plaintext", "ssl"])
def test_a_client_that_reads_nothing_is_given_one_answer(policy: str) -> None:
    """A hundred times the same large message is asked for, and none of it taken: what waits is one answer."""
    size = 4 * MIB
    with a_provider(policy) as provider:
        provider.maildrops["taro"].append(b"." * size)
        with Client(provider, "pop3") as client:
            client.log_in("taro", ACCOUNTS[1].password)
            with measured() as memory:
                client.send(b"RETR 1\r\n" * 100)
                settle(provider)
            assert memory.octets < 5 * size
            with Client(provider, "pop3") as other:
                assert other.log_in().startswith("+OK ")


# Commands, recipients, sizes


@pytest.mark.parametrize(
    ("protocol", "begin", "longest", "reply"),
    [
        ("smtp", b"NOOP ", 2_050, "500 5.5.2 "),  # RFC 5321 section 4.5.3.1.4 asks for 512, its extensions for more
        ("pop3", b"USER ", 255, "-ERR Line too long"),  # RFC 2449 section 4
    ],
)
def test_a_command_of_the_longest_length_is_read_and_one_octet_more_is_not(
    protocol: str, begin: bytes, longest: int, reply: str
) -> None:
    with a_provider() as provider, Client(provider, protocol) as client:
        client.say("EHLO client.example")
        for length, taken in ((longest, True), (longest + 1, False), (longest, True)):
            said = client.say(begin.ljust(length - len(b"\r\n"), b"x"))
            assert said.startswith(("250 ", "+OK ")) is taken
            assert said.startswith(reply) is not taken


def test_recipients_up_to_the_limit_and_no_more() -> None:
    """RFC 5321 section 4.5.3.1.10: 452 for those who are too many; those before them get the message."""
    with a_provider() as provider, Client(provider, "smtp") as client:
        client.say("EHLO client.example", BEGIN[0][:-2])
        names = [f"r{number}@elsewhere.example" for number in range(smtp.RECIPIENTS + 2)]
        client.send("".join(f"RCPT TO:<{name}>\r\n" for name in names).encode())
        codes = [client.reply()[:9] for _name in names]
        assert codes == ["250 2.1.5"] * smtp.RECIPIENTS + ["452 4.5.3"] * 2
        assert client.say("DATA").startswith("354 ")
        client.send(b"x\r\n.\r\n")
        assert client.reply().startswith("250 ")
        assert [message.recipients for message in provider.outgoing] == [tuple(names[:-2])]


def test_a_declared_size_is_judged_at_once_and_believed_no_further() -> None:
    """RFC 1870 sections 4 and 6.1: too much is refused at MAIL; what was declared smaller than it is counts as it is."""
    with a_provider() as provider, Client(provider, "smtp") as client:
        client.say("EHLO client.example")
        for size, code in (
            (smtp.SIZE_LIMIT, "250 2.1.0"),
            (smtp.SIZE_LIMIT + 1, "552 5.3.4"),
            ("9" * 20, "552 5.3.4"),
            ("9" * 21, "501 5.5.4"),
            ("-1", "501 5.5.4"),
            ("1e3", "501 5.5.4"),
            ("", "501 5.5.4"),
        ):
            assert client.say(f"MAIL FROM:<hanako@mail.example> SIZE={size}").startswith(code), size
            client.say("RSET")
        for content, code in ((b"as long as it is\r\n", "250 "), (b"x" * smtp.SIZE_LIMIT + b"\r\n", "552 5.3.4 ")):
            client.say("MAIL FROM:<hanako@mail.example> SIZE=1", BEGIN[1][:-2], "DATA")
            client.send(content + b".\r\n")
            assert client.reply().startswith(code)
        assert taro(provider) == [b"as long as it is\r\n"]


# Time


@pytest.fixture
def quick_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes of TICK seconds."""
    monkeypatch.setattr(smtp, "TIMEOUT", smtp.TIMEOUT / 60 * TICK)
    monkeypatch.setattr(pop3, "AUTOLOGOUT", pop3.AUTOLOGOUT / 60 * TICK)


def closes_on(client: Client, seconds: float) -> bool:
    """Whether the server closes within `seconds` on a client that sends it one octet a minute."""
    client.socket.settimeout(TICK)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            client.send(b"A")
            if not client.socket.recv(1000):
                return True
        except TimeoutError:
            pass
        except ConnectionError:
            return True
    return False


@pytest.mark.usefixtures("quick_time")
@pytest.mark.parametrize(
    ("protocol", "before"),
    [
        ("smtp", []),
        ("smtp", ["EHLO c.example", "AUTH PLAIN"]),
        (
            "smtp",
            ["EHLO c.example", "AUTH PLAIN " + b64("", "hanako", "correct horse"), *(c[:-2].decode() for c in BEGIN)],
        ),
        ("pop3", []),
        ("pop3", ["AUTH PLAIN"]),
        ("pop3", ["USER hanako", "PASS correct horse"]),
    ],
)
def test_one_octet_a_minute_is_not_waited_for_longer_than_silence(protocol: str, before: list[str]) -> None:
    """A line must come within the time that RFC 5321 (5 minutes) and RFC 1939 (10) give it, in however many pieces."""
    minutes = 5 if protocol == "smtp" else 10
    with a_provider("smtp-auth") as provider, Client(provider, protocol) as slow:
        slow.say(*before)
        assert closes_on(slow, 5 * minutes * TICK)
        until(lambda: provider._network.call(lambda: len(provider._network.taps.live)) == 0)
        assert taro(provider) == []
        assert provider.maildrops["hanako"].acquire()


@pytest.mark.usefixtures("quick_time")
@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_one_line_a_minute_is_waited_for(protocol: str) -> None:
    with a_provider() as provider, Client(provider, protocol) as slow:
        slow.say("EHLO c.example" if protocol == "smtp" else "USER hanako")
        if protocol == "pop3":
            assert slow.log_in().startswith("+OK ")
        patience = smtp.TIMEOUT if protocol == "smtp" else pop3.AUTOLOGOUT
        deadline = time.monotonic() + 1.3 * patience
        while time.monotonic() < deadline:
            assert slow.say("NOOP").startswith(("250 ", "+OK "))
            time.sleep(TICK / 2)


@pytest.mark.usefixtures("quick_time")
@pytest.mark.parametrize("policy", ["plaintext", "ssl"])
def test_who_is_silent_is_sent_away_and_who_left_holds_nothing(policy: str) -> None:
    with a_provider(policy) as provider:
        with Client(provider, "smtp") as mute, Client(provider, "pop3") as dumb:
            assert dumb.log_in().startswith("+OK ")
            assert mute.reply().startswith("421 4.4.2 ")
            assert mute.has_ended()
            assert dumb.has_ended()
        assert provider.maildrops["hanako"].acquire()


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_a_flood_of_commands_holds_nobody_up(protocol: str) -> None:
    with a_provider() as provider:
        for number in range(100):
            provider.maildrops["hanako"].append(b"%d\r\n" % number)
        with Client(provider, protocol) as flood, Client(provider, protocol) as other:
            if protocol == "pop3":
                flood.log_in()
            flood.socket.setblocking(False)
            done = threading.Event()

            def pour() -> None:
                while not done.is_set():
                    with suppress(BlockingIOError):
                        flood.socket.send(b"LIST\r\n" * 10_000 if protocol == "pop3" else b"VRFY x\r\n" * 10_000)
                    with suppress(BlockingIOError):
                        while flood.socket.recv(MIB):
                            pass

            pouring = threading.Thread(target=pour)
            pouring.start()
            try:
                for _ in range(10):
                    assert other.say("NOOP" if protocol == "smtp" else "USER taro").startswith(("250", "+OK"))
            finally:
                done.set()
                pouring.join()


# Connections


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_a_thousand_idle_connections(protocol: str) -> None:
    """They are kept, they cost little, and mail goes on; when they have gone, so has what they cost."""
    need_descriptors(2_500)
    with a_provider() as provider:
        address = provider.host, PORTS[protocol](provider)
        with measured() as memory, ExitStack() as idle:
            for number in range(1_000):
                idle.enter_context(socket.create_connection(address, 10))
                if number % 50 == 0:
                    settle(provider)  # or the system's queue of those who wait to be accepted runs over
            until(lambda: provider._network.call(lambda: len(provider._network.taps.live)) == 1_000)
            held = tracemalloc.get_traced_memory()[0]
            with Client(provider, "smtp") as smtp_client, Client(provider, "pop3") as pop3_client:
                smtp_client.say("EHLO c.example")
                assert smtp_client.deliver(b"x\r\n").startswith("250 ")
                assert pop3_client.log_in("taro", ACCOUNTS[1].password).startswith("+OK 1 ")
            assert held / 1_000 < AN_IDLE_CONNECTION
            idle.close()
            until(lambda: provider._network.call(lambda: len(provider._network.taps.live)) == 0)
            gc.collect()
            left = tracemalloc.get_traced_memory()[0]
        assert memory.octets / 1_000 < AN_IDLE_CONNECTION
        assert left < held / 5


IN_TLS = """
from contextlib import ExitStack
import psutil
from tests.trust.rig import Client, a_provider

with a_provider("ssl") as provider, ExitStack() as idle:
    idle.enter_context(Client(provider, "smtp"))
    before = psutil.Process().memory_info().rss
    for number in range(100):
        idle.enter_context(Client(provider, ("smtp", "pop3")[number % 2]))
    print((psutil.Process().memory_info().rss - before) // 100)
"""


def test_idle_connections_in_tls() -> None:
    """In a process of its own, whose memory nobody used before."""
    done = subprocess.run([sys.executable, "-c", IN_TLS], capture_output=True, text=True, timeout=60, check=True)
    assert 0 < int(done.stdout) < AN_IDLE_CONNECTION_IN_TLS
