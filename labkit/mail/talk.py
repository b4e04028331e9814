"""A plain-spoken client: it says exactly what it is told, line by line, and believes nothing that the server sends.

Lines, replies and the time for a whole connection are bounded, because the other end may be anything. SMTP and POP3 differ
in one respect only: where a reply ends.
"""

import socket
import ssl
import time
from types import TracebackType
from typing import NamedTuple, Self

from labkit.texts import _

LONGEST_LINE = 8192  # octets
MOST_LINES = 256  # of one reply


class Unruly(OSError):
    """The server said more than any mail server has reason to say."""


class Said(NamedTuple):
    """A reply: code is SMTP's three digits or POP3's first word; lines are as they came, without line ends."""

    code: str
    lines: tuple[str, ...]

    @property
    def first(self) -> str:
        """Its first line."""
        return self.lines[0]

    @property
    def positive(self) -> bool:
        """The server agrees, so far: 2xx, 3xx or +."""
        return self.code[:1] in ("2", "3", "+")


class Talk:
    """One connection to a server. A context manager. timeout: seconds for all of it.

    Its methods raise OSError: TimeoutError, Unruly, ConnectionAbortedError when the server has closed, ssl.SSLError.
    source: the address to speak from.
    """

    def __init__(self, host: str, port: int, *, timeout: float = 10.0, source: str = "") -> None:
        self._ends = time.monotonic() + timeout
        self._buffer = bytearray()
        self.sock = socket.create_connection((host, port), timeout, (source, 0) if source else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    @property
    def own_address(self) -> str:
        """This end's address as EHLO wants it: a literal (RFC 5321 section 4.1.3)."""
        address = str(self.sock.getsockname()[0]).partition("%")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    @property
    def early(self) -> bool:
        """Whether something has come that nobody has read: before TLS begins, nothing may."""
        return bool(self._buffer)

    def send(self, octets: bytes) -> None:
        """Send these octets."""
        self._mind_the_time()
        self.sock.sendall(octets)

    def start_tls(self, context: ssl.SSLContext, server_name: str) -> ssl.SSLSocket:
        """Speak TLS from here on. What came before in the clear is forgotten."""
        self._buffer.clear()
        self._mind_the_time()
        secured = context.wrap_socket(self.sock, server_hostname=server_name)
        self.sock = secured
        return secured

    def greeted(self) -> bool:
        """Wait for the first octets, half of the time at most: whether any came."""
        self.sock.settimeout(max(0.001, (self._ends - time.monotonic()) / 2))
        try:
            self._receive()
        except TimeoutError:
            return False
        return True

    def line(self) -> str:
        """The next line without its line end."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LONGEST_LINE:
                raise Unruly(_("a line without an end"))
            self._mind_the_time()
            self._receive()
        octets = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return octets.decode("utf-8", "backslashreplace")

    def reply(self, *, listing: bool = False) -> Said:
        """The next reply. listing: a positive one of POP3 goes on to a line with a lone dot (RFC 1939 section 3)."""
        lines = [self.line()]
        code = lines[0][:3] if lines[0][:3].isdigit() else lines[0].partition(" ")[0]
        while lines[-1] != "." if listing and code == "+OK" else lines[-1][3:4] == "-" and code.isdigit():
            if len(lines) == MOST_LINES:
                raise Unruly(_("a reply without an end"))
            lines.append(self.line())
        return Said(code, tuple(lines[:-1] if listing and code == "+OK" else lines))

    def say(self, command: str, *, listing: bool = False) -> Said:
        """Send a command line and wait for its reply."""
        self.send(command.encode() + b"\r\n")
        return self.reply(listing=listing)

    def _mind_the_time(self) -> None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)

    def _receive(self) -> None:
        octets = self.sock.recv(4096)
        if not octets:
            raise ConnectionAbortedError(_("the server closed the connection"))
        self._buffer += octets
