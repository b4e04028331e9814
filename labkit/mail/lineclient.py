"""One bounded line client, under the mail program, the probe and the attacks: it says what it is told, and believes nothing.

The other end may be hostile, and talk for ever: an octet now and then is never a time-out, and a library that bounds a line
does not bound a reply. So every octet that comes counts against an allowance, and every wait against the end of the
connection. SMTP and POP3 differ in one respect only: where a reply ends.
"""

import re
import socket
import ssl
import time
from types import TracebackType
from typing import NamedTuple, Self

from labkit.texts import _

LONGEST_REPLY = 64 * 1024  # octets, with all its lines


def _connected(host: str, port: int, source: str, timeout: float) -> socket.socket:
    """A connection to the first of the host's addresses that answers; each waits for its share of the time that is left.

    socket.create_connection gives each address the whole time-out.
    """
    ends = time.monotonic() + timeout
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for waiting, (*_kind, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        share = max(ends - time.monotonic(), 0.001) / waiting
        try:
            return socket.create_connection((str(address[0]), port), share, (source, 0) if source else None)
        except OSError:
            if waiting == 1:
                raise
    raise socket.gaierror(socket.EAI_NONAME, "the name has no address")


class ProtocolViolation(OSError):
    """The server said more than any mail server has reason to say."""


class ServerReply(NamedTuple):
    """A reply: code is SMTP's three digits or POP3's first word; lines are as they came, without line ends."""

    code: str
    lines: tuple[str, ...]

    @property
    def first(self) -> str:
        """Its first line."""
        return self.lines[0]

    @property
    def text(self) -> str:
        """What stands behind the code, in all its lines."""
        return " ".join(line[len(self.code) + 1 :] for line in self.lines)

    @property
    def positive(self) -> bool:
        """The server agrees, so far: 2xx, 3xx or +."""
        return self.code[:1] in ("2", "3", "+")


class NegativeReply(Exception):
    """The server's reply is not what was asked for."""

    def __init__(self, reply: ServerReply) -> None:
        super().__init__(reply)
        self.reply = reply


class LineClient:
    """One connection to a server. A context manager.

    timeout: seconds of silence, at most. session: seconds for all of it, the same when not given. source: the address to
    speak from. Its methods raise OSError: TimeoutError, ProtocolViolation, ssl.SSLError, or ConnectionAbortedError when the
    server has closed.
    """

    def __init__(
        self, host: str, port: int, *, timeout: float = 10.0, session: float | None = None, source: str = ""
    ) -> None:
        self._silence = timeout
        self._session = session
        self._ends = time.monotonic() + (timeout if session is None else session)
        self._buffer = bytearray()
        self._allow(None)
        self.sock = _connected(host, port, source, timeout)
        # After STARTTLS a client speaks twice in a row (Finished, then EHLO), and would wait 40 ms for the ACK in between.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

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

    # TLS

    def something_came_early(self) -> bool:
        """Whether something has come that nobody has read: before TLS begins, nothing may (CVE-2011-0411's kind)."""
        if self._buffer:
            return True
        self.sock.setblocking(False)
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    def start_tls(self, context: ssl.SSLContext, server_name: str) -> ssl.SSLSocket:
        """Speak TLS from here on. What came before in the clear is forgotten."""
        self._buffer.clear()
        self._mind_the_time()
        secured = context.wrap_socket(self.sock, server_hostname=server_name)
        self.sock = secured
        return secured

    # Lines

    def send(self, octets: bytes) -> None:
        """Send these octets."""
        self._mind_the_time()
        self.sock.sendall(octets)

    def greeted(self) -> bool:
        """Wait for the first octets or the end, half of the time at most: whether it came."""
        self.sock.settimeout(max(0.001, (self._ends - time.monotonic()) / 2))
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        return True

    def reply(self, *, listing: bool = False, allowance: tuple[int, str] | None = None) -> ServerReply:
        """The next reply. listing: a positive one of POP3 goes on to a line with a lone dot (RFC 1939 section 3).

        allowance: how many octets may come from now on, LONGEST_REPLY if not given, and what it was when more did.
        """
        self._allow(allowance)
        lines = [self._text()]
        number = re.match("[0-9]{3}", lines[0])
        code = number[0] if number else lines[0].partition(" ")[0]
        if listing and code == "+OK":
            while (line := self._text()) != ".":
                lines.append(line)
        while number and lines[-1][3:4] == "-":
            lines.append(self._text())
        return ServerReply(code, tuple(lines))

    def say(self, command: str, *, listing: bool = False, allowance: tuple[int, str] | None = None) -> ServerReply:
        """Send a command line and wait for its reply."""
        self.send(command.encode() + b"\r\n")
        return self.reply(listing=listing, allowance=allowance)

    def content(self) -> bytes:
        """A message up to the lone dot, dot-stuffing undone (RFC 1939 section 3), every line ended with CRLF."""
        octets = bytearray()
        while (line := self._line()) != b".":
            octets += line.removeprefix(b".") + b"\r\n"
        return bytes(octets)

    def close_after_the_server(self) -> None:
        """Wait until the server, which was told QUIT, has closed its side; then close, inside TLS with close_notify.

        So nothing is reset, and the order of what crosses the network is the same in every recording (RFC 8446 section 6.1).
        """
        while self._octets():
            pass
        if hasattr(self.sock, "unwrap"):  # inside TLS, over a socket of the system's or in memory
            self.sock.unwrap()

    def _allow(self, allowance: tuple[int, str] | None) -> None:
        usual = LONGEST_REPLY, _("a reply of more than {count:,} octets").format(count=LONGEST_REPLY)
        self._room, self._too_much = allowance or usual

    def _text(self) -> str:
        return self._line().decode("utf-8", "backslashreplace")

    def _line(self) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            octets = self._octets()
            if not octets:
                raise ConnectionAbortedError(_("the server closed the connection"))
            self._buffer += octets
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return line

    def _octets(self) -> bytes:
        """The next octets, b"" when there are no more."""
        self._mind_the_time()
        try:
            octets = self.sock.recv(65_536)
        except TimeoutError:
            self._mind_the_time()  # which of the two clocks has run out?
            raise
        self._room -= len(octets)
        if self._room < 0:
            raise ProtocolViolation(self._too_much)
        return octets

    def _mind_the_time(self) -> None:
        """Never wait beyond the end of the session."""
        left = self._ends - time.monotonic()
        if left <= 0:
            if self._session is None:
                raise TimeoutError
            raise ProtocolViolation(_("a session of more than {seconds:g} seconds").format(seconds=self._session))
        self.sock.settimeout(min(left, self._silence))
