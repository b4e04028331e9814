"""A small line protocol to record: it greets, echoes lines, can be upgraded to TLS in both ways, and says goodbye."""

import asyncio
import socket
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import trustme

from labkit.wire import live
from labkit.wire.network import Listener, Network


class Echo(asyncio.Protocol):
    """`ctx` is spoken after TLS (by hand, as aiosmtpd does) or START (through the loop)."""

    def __init__(self, ctx: ssl.SSLContext | None = None, number: int = 0) -> None:
        self.ctx = ctx
        self.buffer = b""
        self.inside = False

    def connection_made(self, transport):
        self.transport = transport
        if not self.inside:
            transport.write(b"220 echo\r\n")

    def data_received(self, data):
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            self.line(line + b"\n")

    def line(self, line):
        match line.strip():
            case b"TLS":
                self.inside = True
                self.transport.write(b"220 go\r\n")
                loop = asyncio.get_running_loop()
                secure = SSLProtocol(loop, self, self.ctx, None, server_side=True)
                self.transport.set_protocol(secure)
                secure.connection_made(self.transport)
            case b"START":
                self.inside = True
                self.transport.write(b"220 go\r\n")
                self.upgrade = asyncio.ensure_future(self.start_tls())
            case b"QUIT":
                self.transport.write(b"221 bye\r\n")
                self.transport.close()
            case b"ABORT":
                self.transport.abort()
            case _:
                self.transport.write(line)

    async def start_tls(self):
        loop = asyncio.get_running_loop()
        self.transport = await loop.start_tls(self.transport, self, self.ctx, server_side=True)


@dataclass
class Contexts:
    """TLS for both ends. No session tickets: they would be sent while the client speaks, in no certain order."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def contexts() -> Contexts:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.num_tickets = 0
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return Contexts(server, client)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as running:
        yield running


class Client:
    """A blocking client: one line out, one line in."""

    def __init__(self, listener: Listener, contexts: Contexts, tls: bool = False) -> None:
        self.contexts = contexts
        self.sock = socket.create_connection((listener.host, listener.port), timeout=10)
        if tls:
            self.secure()
        else:
            self.lines = self.sock.makefile("rb")
        assert self.lines.readline() == b"220 echo\r\n"

    def secure(self) -> None:
        self.sock = self.contexts.client.wrap_socket(self.sock, server_hostname="localhost")
        self.lines = self.sock.makefile("rb")

    def ask(self, line: bytes) -> bytes:
        self.sock.sendall(line + b"\r\n")
        return self.lines.readline()

    def upgrade(self, command: bytes) -> None:
        assert self.ask(command) == b"220 go\r\n"
        self.lines.close()
        self.secure()

    def close(self) -> None:
        self.lines.close()
        self.sock.close()

    def quit(self) -> None:
        assert self.ask(b"QUIT") == b"221 bye\r\n"
        self.close()


def exchange(client: Client, upgrade: bytes = b"") -> None:
    """Commands of several sizes, one of them many packets long."""
    if upgrade:
        client.upgrade(upgrade)
    for line in (b"EHLO", b"x" * 3_000, b"y" * 100_000, b"last"):
        assert client.ask(line) == line + b"\r\n"
    client.quit()


KINDS = ("plain", "implicit", "by hand", "by loop")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def talk(network: Network, contexts: Contexts) -> Callable[[str], Callable[[], None]]:
    """For a kind of connection: listen, and give what runs one exchange with it."""

    def prepare(kind: str) -> Callable[[], None]:
        implicit = kind == "implicit"
        listener = network.listen(lambda: Echo(contexts.server), tls=contexts.server if implicit else None)
        command = {"by hand": b"TLS", "by loop": b"START"}.get(kind, b"")
        return lambda: exchange(Client(listener, contexts, implicit), command)

    return prepare


def descriptors() -> int:
    """Open files of this process."""
    import psutil

    process = psutil.Process()
    return process.num_handles() if sys.platform == "win32" else process.num_fds()


@pytest.fixture(params=["tap", "live"])
def live_or_tap(request: pytest.FixtureRequest) -> str:
    """Each engine that can run here."""
    if request.param == "live" and (reason := live.available()):
        pytest.skip(reason)
    return request.param
