"""The asyncio shell of both servers: one connection, from the greeting to the last octet, whatever protocol it speaks.

Theory of operation. A `Machine` is a protocol without a transport: it says what it wants next (`Want`) and turns what it is
given into replies. `ServerConnection` gives it that from a transport. The transport's callbacks collect octets; one task
cuts them into lines and messages, asks the machine, and sends the replies together when it has to wait for more, so that a
pipelined group of commands gets one answer (RFC 2920 section 3.2). While a client does not take its replies, nothing more is
read from it and nothing more is done for it. The idle clock, the upgrade to TLS and the limits of what a stranger may send
exist here and nowhere else. Only the transport and the loop are used: no socket, no thread, no executor.
"""

import asyncio
import re
import ssl
from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import cast

from labkit.mail.sasl import LONGEST_LINE

FAILED_LOGINS = 3  # in one session, exchanges that were given up among them
UNKNOWN_COMMANDS = 10  # in one session
AUTH_LIMIT = LONGEST_LINE + 2  # octets of a line in a SASL exchange, with CRLF
INPUT_LIMIT = 2**18  # octets taken from a client while it is not its turn
REPLIES = 2**14  # octets of replies that may wait for the end of a pipelined group
TURN = 100  # commands of one client, before the others have their turn
# Turns of the loop between a connection and its greeting, in which what was sent too early arrives.
GREETING_TURNS = 3

_TERMINATOR = b"\r\n.\r\n"
# A request line's methods (RFC 9110 section 9, RFC 5789, RFC 9113 section 3.4), or a header field.
_HTTP = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI)(?: .*)?|[A-Z0-9-]+:.*", re.DOTALL | re.IGNORECASE
)


class Want(Enum):
    """What a machine is to be given next."""

    COMMAND = auto()
    RESPONSE = auto()  # a line of a SASL exchange
    CONTENT = auto()  # a message up to its lone dot
    TLS = auto()
    NOTHING = auto()  # the session is over


class Machine(ABC):
    """One session of a protocol.

    command_limit: octets of a command with its CRLF. content_limit: octets of a message. patience: seconds of silence before
    the connection is closed, with these last_words. pipelined: the client has said more than what is being answered.
    """

    command_limit: int
    content_limit = 0
    patience: float
    last_words = b""
    pipelined = False

    @property
    @abstractmethod
    def wants(self) -> Want:
        """What it is to be given next."""

    @abstractmethod
    def begin(self, transport: asyncio.BaseTransport) -> None:
        """A session begins, knowing nothing of any before: at first, and again inside TLS (RFC 3207 4.2, RFC 2595 4)."""

    @abstractmethod
    def greeting(self) -> bytes:
        """What it says first. Asked for once, and not after an upgrade to TLS."""

    @abstractmethod
    async def answer(self, said: bytes, cut: bool) -> bytes:
        """What it replies to a command, a response or a message. cut: what was said went on beyond the limit."""

    @abstractmethod
    def close(self) -> None:
        """The connection is gone. Harmless at any time, and more than once."""


def address_of(transport: asyncio.BaseTransport) -> str:
    """The client's address, "" if the transport does not know it."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def is_http(line: bytes) -> bool:
    """Whether it is a line of HTTP: a web page can make a browser post to any port, with commands in the body."""
    return _HTTP.fullmatch(line) is not None


class Inbox:
    """What has arrived, to be taken as lines and messages. It keeps no more than a limit of either, however much comes."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._skipping = False  # inside a line that was cut
        self._begun = self._overflown = False  # a message
        self._searched = 0

    def __len__(self) -> int:
        return len(self._octets)

    def add(self, octets: bytes) -> None:
        """More has arrived."""
        self._octets += octets

    def clear(self) -> None:
        """Forget what was not taken yet."""
        self._octets.clear()

    def line(self, limit: int) -> tuple[bytes, bool] | None:
        """The next line without its end, when it is there: CRLF or a bare LF. One that is too long is cut at the limit."""
        octets = self._octets
        if self._skipping:
            end = octets.find(b"\n")
            self._skipping = end < 0
            del octets[: len(octets) if end < 0 else end + 1]
            if self._skipping:
                return None
        if octets[:5].upper() == b"AUTH ":
            limit = AUTH_LIMIT
        end = octets.find(b"\n", 0, limit)
        if end < 0 and len(octets) < limit:
            return None
        self._skipping = end < 0
        size = limit if end < 0 else end + 1
        line = bytes(octets[:size])
        del octets[:size]
        return line.removesuffix(b"\n").removesuffix(b"\r"), self._skipping

    def message(self, limit: int) -> tuple[bytes, bool] | None:
        """The message up to CRLF.CRLF, when it is there, dot-stuffing undone (RFC 5321 section 4.5.2); b"" if too large.

        The CRLF that ended the DATA command counts, so an empty message is a lone dot.
        """
        octets = self._octets
        if not self._begun:
            self._begun, self._overflown, self._searched = True, False, 0
            octets[:0] = b"\r\n"
        end = octets.find(_TERMINATOR, self._searched)
        if end < 0:
            # Dot-stuffing makes a message longer by a third at most: one of nothing but dots on lines of their own.
            if self._overflown or len(octets) > limit * 4 // 3 + len(_TERMINATOR):
                self._overflown = True
                del octets[: -len(_TERMINATOR)]
            self._searched = max(0, len(octets) - len(_TERMINATOR) + 1)
            return None
        content = bytes(octets[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]
        del octets[: end + len(_TERMINATOR)]
        self._begun = False
        return (b"", True) if self._overflown or len(content) > limit else (content, False)


class _Gone(Exception):
    """The client will send nothing more."""


class ServerConnection(asyncio.Protocol):
    """A machine on a transport. tls_context: what an upgrade starts. loop: the running one, unless given.

    TLS from the first byte needs no context here: the transport brings it, and says so by its extra info `ssl_object`.
    """

    def __init__(
        self,
        machine: Machine,
        tls_context: ssl.SSLContext | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.machine = machine
        self._tls_context = tls_context
        self._loop = loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.inbox = Inbox()
        self._replies: list[bytes] = []
        self._due = 0  # octets of them
        self._arrival: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = self._ended = self._encrypted = False
        self._heard = 0.0

    # The transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._encrypted = transport.get_extra_info("ssl_object") is not None
        self._heard = self._loop.time()
        self._watch = self._loop.call_later(self.machine.patience, self._look_at_the_clock)
        self._task = self._loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Octets arrived: keep them for the task."""
        self.inbox.add(data)
        if b"\n" in data:  # a whole line counts, an octet now and then does not
            self._heard = self._loop.time()
        if self._arrival is not None:
            self._wake()
        elif len(self.inbox) > INPUT_LIMIT and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more. What it sent is still answered, where TLS does not forbid that."""
        self._ended = True
        self._wake()
        return not self._encrypted

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over: let the task end."""
        self._watch.cancel()
        self._ended = True
        self._transport = None
        self.machine.close()
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        """The client does not take its replies."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client takes its replies again."""
        self._heard = self._loop.time()
        self._writable.set()

    # The session

    async def _serve(self) -> None:
        machine = self.machine
        try:
            for _turn in range(GREETING_TURNS):
                await asyncio.sleep(0)
            if self._transport is None:
                raise _Gone
            machine.begin(self._transport)
            machine.pipelined = len(self.inbox) > 0
            self._reply(machine.greeting())
            while machine.wants is not Want.NOTHING:
                await self._take_a_turn()
                await self._drain()
                await asyncio.sleep(0)  # the others have their turn
        except _Gone:
            pass
        finally:
            machine.close()
            self._flush()
            if self._transport is not None:
                self._transport.close()

    async def _take_a_turn(self) -> None:
        for _command in range(TURN):
            if self.machine.wants is Want.TLS:
                await self._start_tls()
            if self.machine.wants is Want.NOTHING or self._due > REPLIES:
                break
            said, cut = self._take() or await self._receive()
            self.machine.pipelined = len(self.inbox) > 0
            self._reply(await self.machine.answer(said, cut))

    def _take(self) -> tuple[bytes, bool] | None:
        machine = self.machine
        if machine.wants is Want.CONTENT:
            return self.inbox.message(machine.content_limit)
        return self.inbox.line(AUTH_LIMIT if machine.wants is Want.RESPONSE else machine.command_limit)

    async def _receive(self) -> tuple[bytes, bool]:
        """Send the replies that are due, and wait for what the machine wants. Raises _Gone when it will not come."""
        while True:
            known = len(self.inbox)
            await self._drain()
            if len(self.inbox) == known:
                await self._arrive()
                await self._writable.wait()
            if taken := self._take():
                return taken

    async def _arrive(self) -> None:
        if self._ended or self._transport is None:
            raise _Gone
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._arrival = self._loop.create_future()
        await self._arrival

    async def _start_tls(self) -> None:
        """Go on inside TLS. Whatever followed the command came in the clear, perhaps from somebody in the middle.

        It is forgotten. From there until the protocol is replaced there is no await, so nothing can be added, and nothing
        that the client says in answer to the reply, which begins TLS, is lost.
        """
        self.inbox.clear()
        self._flush()
        self._encrypted = True  # already for an end that comes with the handshake's last octets: TLS has no half-close
        if self._transport is None or self._tls_context is None:
            raise _Gone
        try:
            secured = await self._loop.start_tls(self._transport, self, self._tls_context, server_side=True)
        except OSError:  # ssl.SSLError is one
            secured = None
        if secured is None:  # also when the client left during the handshake; start_tls has closed, and tells nobody
            self.connection_lost(None)
            raise _Gone
        self._transport = secured
        self.machine.begin(secured)

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        self._arrival = None

    def _reply(self, octets: bytes) -> None:
        self._replies.append(octets)
        self._due += len(octets)

    def _flush(self) -> None:
        if self._due and self._transport is not None:
            self._transport.write(b"".join(self._replies))
        self._replies.clear()
        self._due = 0

    async def _drain(self) -> None:
        """Send the replies that are due, and wait while the client does not take them."""
        self._flush()
        await self._writable.wait()

    def _look_at_the_clock(self) -> None:
        silent = self._loop.time() - self._heard
        if silent < self.machine.patience:
            self._watch = self._loop.call_later(self.machine.patience - silent, self._look_at_the_clock)
        elif self._transport is not None:
            unread = self._transport.get_write_buffer_size()
            self._reply(self.machine.last_words)
            self._flush()
            self.machine.close()
            # A client that does not read would keep a closing connection open.
            (self._transport.abort if unread else self._transport.close)()
