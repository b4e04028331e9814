"""What the tests of the attacks share: nothing is left behind, and servers that play a part line by line."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from labkit.capture import Capture
from labkit.wire.endpoints import RecordedNames
from labkit.wire.loopback import HOST
from labkit.wire.network import Network
from tests.mail.conftest import quiet
from tests.scripted import Scripted

__all__ = ["quiet"]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No thread outlives a test."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def play(network: Network) -> Callable[..., Capture]:
    """A capture of a dialogue that is given line by line: the server's greeting, then the client and the server in turn."""

    def played(port: int, *lines: bytes) -> Capture:
        listener = network.listen(lambda: Scripted(line + b"\r\n" for line in lines[::2]))
        names = RecordedNames({(HOST, listener.port): port}, "mail.example", "client.example")
        with (
            Capture(network.record("tap"), names) as capture,
            socket.create_connection((HOST, listener.port), 10) as client,
            client.makefile("rb") as said,
        ):
            said.readline()
            for line in lines[1::2]:
                client.sendall(line + b"\r\n")
                said.readline()
        return capture

    return played
