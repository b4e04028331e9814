"""What the tests of the mail room share: servers on loopback, a plain-spoken client, and a transport without a network."""

import asyncio
import gc
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import pytest

from labkit.mail.accounts import Account
from labkit.mail.pop3 import Pop3Machine
from labkit.mail.server import AUTH_LIMIT, Inbox, ServerConnection, Want
from labkit.mail.service import MailService
from labkit.mail.smtp import SmtpMachine, smtp_factory
from labkit.wire.network import Listener, Network

ACCOUNTS = (
    Account("hanako@mail.example", "Hanako Yamada", "correct horse", "m1001-hy"),
    Account("taro@mail.example", "Taro Suzuki", "パスワード", "m1002-ts"),
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """After each test: asyncio reported nothing, and nothing was written on stderr."""
    with caplog.at_level(logging.WARNING, "asyncio"):
        yield
    records = [record for phase in ("call", "teardown") for record in caplog.get_records(phase)]  # type: ignore[arg-type]
    said = [record.getMessage() for record in records if record.name == "asyncio"]
    # In Python's development mode asyncio also reports what took over 100 ms, as anything may on a busy machine.
    assert [message for message in said if not message.startswith("Executing ")] == []
    assert capfd.readouterr().err == ""


@pytest.fixture
def network() -> Iterator[Network]:
    """A network that is taken down when the test ends."""
    with Network() as network:
        yield network
    gc.collect()  # what is left unclosed complains now, and that fails the test


@pytest.fixture
def serve_smtp(network: Network) -> Callable[..., Listener]:
    """Serve a service's SMTP; `starttls` and `tls` are server contexts."""

    def serve(
        service: MailService, *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None
    ) -> Listener:
        return network.listen(smtp_factory(service, starttls), tls=tls)

    return serve


def a_service(policy: Any = "plaintext", **more: Any) -> MailService:
    """A service with two accounts whose passwords the tests know."""
    return MailService(policy, more.pop("accounts", ACCOUNTS), **more)


class Talk:
    """A client that sends exactly what it is told and reads whole replies."""

    def __init__(self, listener: Listener, *, greeted: bool = True) -> None:
        self.socket: socket.socket = socket.create_connection((listener.host, listener.port), timeout=10)
        self._lines = self.socket.makefile("rb")
        if greeted:
            assert self.reply()[0].startswith("220 ")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send these octets."""
        self.socket.sendall(data)

    def reply(self) -> list[str]:
        """The lines of the next reply; empty when the server closed."""
        lines = []
        while line := self._lines.readline().decode():
            assert line.endswith("\r\n")
            lines.append(line[:-2])
            if line[3:4] != "-":
                break
        return lines

    def say(self, *commands: str) -> str:
        """Send command lines one by one, each after the reply to the one before; the last reply, as one line."""
        last = ""
        for command in commands:
            self.send(command.encode() + b"\r\n")
            last = " / ".join(self.reply())
        return last

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from here on."""
        self._lines.close()
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._lines = self.socket.makefile("rb")

    def vanish(self) -> None:
        """Drop the connection with a reset, as a crashed program or a pulled cable would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()


class Memory(asyncio.Transport):
    """A transport without a network, as the browser edition has: it keeps what was written, one entry a write."""

    def __init__(self, protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop, **extra: Any) -> None:
        super().__init__({"peername": ("192.0.2.1", 40000), **extra})
        self.loop = loop
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.reading = True
        self.unsent = 0
        self.closed = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self._lose("closed")

    def abort(self) -> None:
        self._lose("aborted")

    def is_closing(self) -> bool:
        return bool(self.closed)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def _lose(self, how: str) -> None:
        if not self.closed:
            self.closed = how
            self.loop.call_soon(self.protocol.connection_lost, None)


class Time(asyncio.SelectorEventLoop):
    """A loop whose clock can be moved."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class InMemory:
    """An SMTP session on a Memory transport, run to rest after each piece of input. pop3: a POP3 session."""

    def __init__(
        self,
        service: MailService,
        *,
        pop3: bool = False,
        can_start_tls: bool = False,
        handler: object = None,
        **extra: Any,
    ) -> None:
        self.loop = Time()
        self.machine: Any = (
            Pop3Machine(service, can_start_tls=can_start_tls)
            if pop3
            else SmtpMachine(service, can_start_tls=can_start_tls, handler=handler, loop=self.loop)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if can_start_tls else None
        self.protocol = ServerConnection(self.machine, context, self.loop)
        self.transport = Memory(self.protocol, self.loop, **extra)
        self.protocol.connection_made(self.transport)
        self.rest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.abort()
        self.rest()
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()

    def rest(self, turns: int = 10) -> None:
        """Let everything that can run, run: so many turns of the loop."""

        async def take_turns() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(take_turns())

    def feed(self, *pieces: bytes) -> list[bytes]:
        """Let these pieces arrive, one after the other; what was written since, one entry a write."""
        before = len(self.transport.writes)
        for piece in pieces:
            self.protocol.data_received(piece)
            self.rest()
        return self.transport.writes[before:]

    @property
    def waiting(self) -> int:
        """How many octets have arrived and were not taken yet."""
        return len(self.protocol.inbox)


class Pop3Session:
    """A POP3 machine that is given lines as a connection cuts them, without a transport and without a loop."""

    def __init__(self, service: MailService, *, secured: bool = False, can_start_tls: bool = True) -> None:
        self.machine = Pop3Machine(service, can_start_tls=can_start_tls)
        self.inbox = Inbox()
        self.begin(secured=secured)
        self.greeting = self.machine.greeting()

    def begin(self, *, secured: bool) -> None:
        """A session begins, inside TLS or outside."""
        extra = {"peername": ("192.0.2.1", 40000), "ssl_object": object() if secured else None}
        self.machine.begin(asyncio.BaseTransport(extra))

    def say(self, *said: bytes) -> list[bytes]:
        """What the machine answers to all of this."""
        answers = []
        for data in said:
            self.inbox.add(data)
        while taken := self._taken():
            self.machine.pipelined = len(self.inbox) > 0
            answers.append(bytes(self.machine.respond(*taken)))
        return answers

    def _taken(self) -> tuple[bytes, bool] | None:
        limit = {Want.COMMAND: self.machine.command_limit, Want.RESPONSE: AUTH_LIMIT}.get(self.machine.wants)
        return None if limit is None else self.inbox.line(limit)
