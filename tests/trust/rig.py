"""A real provider on loopback, and a client that sends exactly what it is told: also what no honest client would send.

The tests of this folder see the lab as a stranger on the network does: bytes in, bytes out, and afterwards what was stored.
"""

import base64
import os
import re
import select
import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest

from labkit.mail.certificates import authority
from labkit.mail.policy import Security
from labkit.provider import Provider
from tests.mail.conftest import ACCOUNTS

PASSWORD = ACCOUNTS[0].password
CRLF = b"\r\n"
WITH_AUTH = ("smtp-auth", "starttls", "ssl")
BEGIN = (b"MAIL FROM:<hanako@mail.example>\r\n", b"RCPT TO:<taro@mail.example>\r\n", b"DATA\r\n")


def a_provider(policy: Any = "plaintext", **more: Any) -> Provider:
    """A provider with two accounts whose passwords the tests know."""
    return Provider(policy, accounts=more.pop("accounts", ACCOUNTS), **more)


def b64(*parts: str | bytes) -> str:
    """Base64 of the parts, with NUL between them: so PLAIN's message is b64("", name, password)."""
    return base64.b64encode(b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)).decode()


def taro(provider: Provider) -> list[bytes]:
    """What taro's maildrop holds."""
    return [message.content for message in provider.maildrops["taro"].messages()]


def settle(provider: Provider) -> None:
    """Whatever was sent before this has been read and acted on: the server's loop has been round once more."""
    for _ in range(2):
        provider._network.call(int)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


class Client:
    """One connection to a provider's "smtp" or "pop3" server, greeted, and inside TLS where the policy has that.

    tls=False: stay outside, where the policy begins outside. source: the address to come from.
    """

    def __init__(self, provider: Provider, protocol: str, *, tls: bool = True, source: str = "127.0.0.1") -> None:
        self.protocol = protocol
        port = provider.smtp_port if protocol == "smtp" else provider.pop3_port
        self.socket: socket.socket = socket.create_connection((provider.host, port), 10, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self.socket.makefile("rb")
        security = provider.policy.security
        if security is Security.SSL:
            self.start_tls()
        assert self.reply().startswith(("220 ", "+OK "))
        if security is Security.STARTTLS and tls:
            if protocol == "smtp":
                self.say("EHLO client.example")
            assert self.say("STARTTLS" if protocol == "smtp" else "STLS").startswith(("220 ", "+OK "))
            self.start_tls()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_tls(self) -> None:
        """Speak TLS from here on."""
        self._lines.close()
        plain, self.socket = (
            self.socket,
            authority().client_context().wrap_socket(self.socket, server_hostname="mail.example"),
        )
        plain.close()
        self._lines = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send these octets."""
        self.socket.sendall(data)

    def reply(self) -> str:
        """The next reply, its lines joined; empty when the server closed."""
        lines = []
        while line := self._lines.readline().decode():
            assert line.endswith("\r\n")
            lines.append(line[:-2])
            if self.protocol == "pop3" or line[3:4] != "-":
                break
        return " / ".join(lines)

    def say(self, *commands: str | bytes) -> str:
        """Send command lines one by one, each after the reply to the one before; the last reply."""
        last = ""
        for command in commands:
            self.send((command.encode() if isinstance(command, str) else command) + CRLF)
            last = self.reply()
        return last

    def ask(self, command: str) -> bytes:
        """A POP3 command with a multi-line answer: its lines, unstuffed by RFC 1939 section 3, line by line."""
        assert self.say(command).startswith("+OK")
        lines = []
        while (line := self._lines.readline()) != b".\r\n":
            assert line.endswith(CRLF)
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    def log_in(self, name: str = "hanako", password: str = PASSWORD) -> str:
        """Prove who we are, as simply as the protocol can; the reply."""
        if self.protocol == "pop3":
            return self.say(f"USER {name}", f"PASS {password}")
        return self.say("EHLO client.example", f"AUTH PLAIN {b64('', name, password)}")

    def deliver(self, content: bytes) -> str:
        """Send a message (ready for the wire, with its last line end) to taro; the reply to it."""
        assert self.say(*(command[:-2] for command in BEGIN)).startswith("354 ")
        self.send(content + b".\r\n")
        return self.reply()

    def has_ended(self) -> bool:
        """Whether the server closes without another word. Waits for what it does."""
        try:
            return self._lines.read(1) == b""
        except (ConnectionResetError, ssl.SSLEOFError):
            return True

    def is_silent(self) -> bool:
        """Whether nothing has come in that was not asked for."""
        return not select.select([self.socket], [], [], 0)[0] and not (
            isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()
        )

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self.socket.close()

    def vanish(self) -> None:
        """Drop the connection with a reset, as a crashed program or a pulled cable would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()


def need_descriptors(count: int) -> None:
    """Skip the test where this process may not have so many files and connections."""
    resource = pytest.importorskip("resource", reason="file limits are POSIX's")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            pytest.skip(f"this system allows {hard} open files, and {count} are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def unstuffed(wire: bytes) -> bytes:
    """A message as RFC 5321 section 4.5.2 hands it on: the first dot of a line is taken away."""
    return re.sub(rb"(?:(?<=\r\n)|\A)\.", b"", wire)


POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and fork")
