"""Protocols listen, are called, and leave nothing behind when the network stops."""

import asyncio
import contextlib
import errno
import gc
import socket
import sys
import threading

import pytest

from labkit.errors import LabError, PortTaken
from labkit.wire.loopback import LoopbackCarrier
from labkit.wire.network import Network
from labkit.wire.recording import Recording
from tests.conftest import returns
from tests.wire.conftest import Client, Echo, descriptors, exchange


def network_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("labkit")]


def test_a_listener_is_on_loopback_only(network):
    listener = network.listen(Echo)
    assert listener.host == "127.0.0.1"
    assert listener in network.listeners
    with socket.create_connection((listener.host, listener.port)) as sock:
        assert sock.recv(100) == b"220 echo\r\n"


def test_every_kind_of_connection_speaks(talk, kind):
    talk(kind)()


def test_a_taken_port_is_one_sentence(network):
    listener = network.listen(Echo)
    with pytest.raises(PortTaken, match=rf"Port {listener.port} is taken .* 0 for a free one\.$"):
        network.listen(Echo, listener.port)
    assert len(network.listeners) == 1


@pytest.mark.parametrize("port", [70_000, -1, "25"])
def test_a_port_that_is_none_is_one_sentence(network, port):
    with pytest.raises(LabError, match=f"{port!r} is not a port"):
        network.listen(Echo, port)


def test_a_port_that_is_not_allowed_is_one_sentence(network, monkeypatch):
    def refuse(_sock: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(LabError, match=r"does not let you listen on port 25: .* or 0 for a free one\.$"):
        network.listen(Echo, 25)


def test_call_runs_in_the_network_thread(network):
    assert network.call(threading.current_thread) is network_threads()[0]
    assert network.call(lambda: network.call(divmod, 7, 3)) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        network.call(divmod, 1, 0)


def test_a_network_that_is_not_started_says_so():
    network = Network()
    with pytest.raises(RuntimeError, match="must be started"):
        network.listen(Echo)
    with pytest.raises(RuntimeError, match="must be started"):
        network.call(int)


def test_start_and_stop_may_be_repeated():
    network = Network()
    network.stop()
    for _again in range(2):
        network.start()
        network.start()
        listener = network.listen(Echo)
        socket.create_connection((listener.host, listener.port)).close()
        network.stop()
        network.stop()
        assert not network.listeners
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((listener.host, listener.port))


def test_more_connections_than_are_served_are_closed_at_once(network, monkeypatch):
    monkeypatch.setattr("labkit.wire.loopback.CONNECTIONS", 3)
    listener = network.listen(Echo)
    with contextlib.ExitStack() as held:
        greetings = []
        for _ in range(5):
            client = held.enter_context(socket.create_connection((listener.host, listener.port)))
            with contextlib.suppress(ConnectionResetError):
                greetings.append(client.recv(100))
        assert list(filter(None, greetings)) == [b"220 echo\r\n"] * 3
    assert network.turned_away == 2
    while network.call(lambda: len(network.taps.live)):
        pass
    with socket.create_connection((listener.host, listener.port)) as client:
        assert client.recv(100) == b"220 echo\r\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of descriptors")
@pytest.mark.parametrize(("descriptors", "connections"), [(1024, 864), (1 << 20, 1024), (100, 1)])
def test_connections_leave_descriptors_to_others(descriptors, connections, monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _what: (descriptors, descriptors))
    assert LoopbackCarrier().capacity() == connections


def test_it_stops_whatever_clients_do(contexts):
    """Idle plain, idle TLS, in mid-handshake, upgraded and idle, and one that sends and does not read."""
    network = Network()
    network.start()
    plain = network.listen(lambda: Echo(contexts.server))
    secure = network.listen(Echo, tls=contexts.server)
    clients = [Client(plain, contexts), Client(secure, contexts, tls=True), Client(plain, contexts)]
    clients[-1].upgrade(b"TLS")
    handshaking = socket.create_connection((secure.host, secure.port))
    handshaking.sendall(b"\x16\x03\x01\x02\x00")
    deaf = socket.create_connection((plain.host, plain.port))
    deaf.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            deaf.send(b"x" * 1_000_000 + b"\n")
    returns(network.stop)
    assert not network_threads()
    for client in clients:
        client.close()
    handshaking.close()
    deaf.close()
    gc.collect()  # an unclosed transport would warn here, and a warning is an error


def test_stop_lets_a_handler_finish_but_does_not_wait_for_ever(contexts):
    finished = []

    class Stubborn(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.tasks = [asyncio.ensure_future(self.store()), asyncio.ensure_future(asyncio.sleep(3600))]

        async def store(self):
            await asyncio.sleep(0.05)
            finished.append(True)

    network = Network()
    network.start()
    client = Client(network.listen(Stubborn), contexts)
    returns(network.stop)
    assert finished == [True]
    client.close()


def test_two_hundred_cycles_leak_nothing(contexts, live_or_tap):
    """No thread, socket, file or task, with a capture in each cycle."""

    def cycle() -> None:
        with Network() as network:
            listener = network.listen(Echo)
            with Recording(network.record(live_or_tap)) as capture:
                exchange(Client(listener, contexts))
            assert capture.frames
            assert network.call(lambda: len(asyncio.all_tasks())) == 1  # the call itself

    cycle()
    gc.collect()  # what earlier tests have left is not counted
    files, threads = descriptors(), threading.active_count()
    for _again in range(200 if live_or_tap == "tap" else 20):
        cycle()
    assert descriptors() <= files
    assert threading.active_count() <= threads


def test_stop_in_the_very_moment_of_an_accept_loses_no_socket():
    """Connections that wait to be accepted, are being accepted, or have just been when the network stops."""
    for count in range(30):
        network = Network()
        network.start()
        listener = network.listen(Echo)
        clients = [socket.create_connection((listener.host, listener.port)) for _again in range(count % 4)]
        network.stop()
        for client in clients:
            client.close()
    gc.collect()
