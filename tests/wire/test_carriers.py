"""The same dialogue over every carrier gives the same packets: endings, and who ended first, included."""

import socket
from collections.abc import Callable, Iterator

import pytest

from labkit.errors import BadSetting, EngineUnavailable
from labkit.wire.loopback import LoopbackCarrier
from labkit.wire.memory import MemoryCarrier
from labkit.wire.network import CARRIER_VARIABLE, Carrier, Network, default_carrier
from tests.wire.test_memory import Served

CARRIERS: list[Callable[[], Carrier]] = [LoopbackCarrier, MemoryCarrier]


def heard(sock: socket.socket) -> bytes:
    """All that comes up to the end."""
    return b"".join(iter(lambda: sock.recv(4096), b""))


def client_closes(sock: socket.socket, protocol: Served) -> None:
    assert sock.recv(5) == b"hello"
    sock.sendall(b"one")
    assert sock.recv(3) == b"one"


def client_resets(sock: socket.socket, protocol: Served) -> None:
    client_closes(sock, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def client_leaves_unread(sock: socket.socket, protocol: Served) -> None:
    assert sock.recv(4) == b"hell"


def client_half_closes(sock: socket.socket, protocol: Served) -> None:
    assert sock.recv(5) == b"hello"
    sock.sendall(b"x" * 5_000)
    sock.shutdown(socket.SHUT_WR)
    assert heard(sock) == b"x" * 5_000


def server_closes(sock: socket.socket, protocol: Served) -> None:
    assert sock.recv(5) == b"hello"
    sock.sendall(b"quit")
    assert heard(sock) == b"quit"


SCENES = [client_closes, client_resets, client_leaves_unread, client_half_closes, server_closes]


class Quitting(Served):
    """Closes when it is told to."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if data == b"quit":
            self.transport.close()


def packets(carrier: Carrier, scene: Callable[[socket.socket, Served], None]) -> list[tuple[bool, int, bytes]]:
    """Who sent each packet (the server?), its flags, and what it carried."""
    protocol = Quitting(b"hello", echo=True)
    with Network(carrier) as network:
        listener = network.listen(lambda: protocol)
        engine = network.record("tap")
        engine.start()
        with socket.create_connection((listener.host, listener.port), timeout=10) as sock:
            scene(sock, protocol)
        engine.stop()
        port = listener.port.to_bytes(2, "big")
    # Ethernet: 14 octets, IPv4: 20, then TCP (RFC 9293 section 3.1)
    return [
        (frame.data[34:36] == port, frame.data[47], frame.data[34 + 4 * (frame.data[46] >> 4) :])
        for frame in engine.frames()
    ]


@pytest.mark.parametrize("scene", SCENES)
def test_a_dialogue_is_the_same_packets(scene: Callable[[socket.socket, Served], None]) -> None:
    over_tcp, in_memory = (packets(make(), scene) for make in CARRIERS)
    assert in_memory == over_tcp
    assert len(in_memory) > 5


@pytest.fixture(params=CARRIERS, ids=lambda make: make.__name__)
def carrier(request: pytest.FixtureRequest) -> Iterator[Carrier]:
    return request.param()  # type: ignore[no-any-return]


def test_what_is_called_runs_where_the_protocols_run(carrier: Carrier) -> None:
    with pytest.raises(RuntimeError):
        carrier.call(len, "not started")
    with Network(carrier) as network:
        assert network.call(len, "four") == 4
        assert network.call(lambda: network.call(len, "four")) == 4
    with pytest.raises(RuntimeError):
        carrier.call(len, "stopped")


def test_starting_and_stopping_again(carrier: Carrier) -> None:
    network = Network(carrier)
    for _again in range(2):
        network.start()
        network.start()
        assert network.listen(Served).port
        network.stop()
        network.stop()


def test_the_live_engine_hears_nothing_in_memory() -> None:
    with Network(MemoryCarrier()) as network:
        with pytest.raises(EngineUnavailable, match="in memory"):
            network.record("live")
        assert network.record().name == "tap"


@pytest.mark.parametrize(
    ("name", "kind"), [("memory", MemoryCarrier), ("loopback", LoopbackCarrier), ("", LoopbackCarrier)]
)
def test_the_environment_names_the_carrier(name: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CARRIER_VARIABLE, name)
    assert type(default_carrier()) is kind


def test_another_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CARRIER_VARIABLE, "pigeons")
    with pytest.raises(BadSetting, match=r"LABKIT_NETWORK is 'pigeons'.*loopback, memory"):
        default_carrier()
