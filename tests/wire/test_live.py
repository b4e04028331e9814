"""The live engine hears the lab's ports, all of them, and nothing else."""

import re
import socket
import subprocess
import sys

import pytest

from labkit.wire import live
from labkit.wire.flows import reassemble
from labkit.wire.live import LiveEngine
from labkit.wire.recording import Recording
from tests.wire.conftest import Client, Echo, exchange

needs_live = pytest.mark.skipif(bool(live.available()), reason=live.available() or "possible")


def streams(recording: LiveEngine) -> list[tuple[int, bytes, bytes]]:
    flows = reassemble(recording.frames())
    return [(flow.server.port, flow.client_stream.data, flow.server_stream.data) for flow in flows]


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_say_what_is_not_possible(monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    assert "Linux only" in live.available()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="packet sockets are Linux's")
@pytest.mark.parametrize(
    ("error", "sentence"),
    [(PermissionError(1, "not permitted"), "CAP_NET_RAW"), (OSError(22, "Invalid argument"), r"\(Invalid argument\)")],
)
def test_a_system_that_refuses_gives_the_reason(monkeypatch, error, sentence):
    def refuse(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(socket, "socket", refuse)
    assert re.search(sentence, live.available())


@needs_live
def test_the_first_and_the_last_packet_are_there(network, contexts):
    listener = network.listen(Echo)
    for _again in range(20):
        recording = LiveEngine([listener.port])
        recording.start()
        exchange(Client(listener, contexts))
        recording.stop()
        (flow,) = reassemble(recording.frames())
        assert (flow.opened, flow.closed) == (True, "fin")
        assert flow.server_stream.data.endswith(b"221 bye\r\n")
        assert not flow.client_stream.gaps + flow.server_stream.gaps
        assert recording.notes == ()


@needs_live
def test_every_packet_comes_once_and_in_order_of_time(network, contexts):
    listener = network.listen(Echo)
    recording = LiveEngine([listener.port])
    recording.start()
    exchange(Client(listener, contexts))
    recording.stop()
    frames = recording.frames()
    assert len({frame.data for frame in frames}) == len(frames)  # the IP identification differs
    times = [frame.time for frame in frames]
    assert times == sorted(times)
    assert all(frame.length == len(frame.data) for frame in frames)


@needs_live
@pytest.mark.parametrize("count", [1, 2, 6])
def test_only_the_labs_ports_are_heard(network, contexts, count):
    wanted = [network.listen(Echo) for _again in range(count)]
    strange = network.listen(Echo)
    recording = LiveEngine([listener.port for listener in wanted])
    recording.start()
    for number, listener in enumerate([*wanted, strange]):
        client = Client(listener, contexts)
        client.ask(b"%d" % number)
        client.quit()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"not TCP", ("127.0.0.1", wanted[0].port))
    recording.stop()
    expected = [(listener.port, b"%d\r\nQUIT\r\n" % number) for number, listener in enumerate(wanted)]
    assert [(port, data) for port, data, _server in streams(recording)] == expected


@needs_live
def test_other_addresses_of_this_machine_are_heard_as_clients_only(network, contexts):
    """127.0.0.7 may be a client of the lab; what listens there on the same port is not the lab."""
    listener = network.listen(Echo)
    recording = LiveEngine([listener.port])
    recording.start()
    with socket.create_connection((listener.host, listener.port), source_address=("127.0.0.7", 0)) as client:
        assert client.recv(100) == b"220 echo\r\n"
    with (
        socket.create_server(("127.0.0.7", listener.port)) as other,
        socket.create_connection(other.getsockname()) as client,
    ):
        client.sendall(b"not the lab's")
    recording.stop()
    assert streams(recording) == [(listener.port, b"", b"220 echo\r\n")]
    assert reassemble(recording.frames())[0].client.address == "127.0.0.7"


OTHER_PROCESS = """
import socket, sys
from labkit.wire.flows import reassemble
from labkit.wire.network import Network
from labkit.wire.recording import Recording
from tests.wire.conftest import Echo
with Network() as network:
    listener = network.listen(Echo)
    with Recording(network.record("live")) as capture:
        print(listener.port, flush=True)
        sys.stdin.readline()
        with socket.create_connection((listener.host, listener.port)) as client:
            client.recv(100)
            client.sendall(b"theirs\\r\\n")
            client.recv(100)
    print([(flow.server.port, flow.client_stream.data) for flow in capture.connections])
"""


@needs_live
def test_two_captures_at_once_in_two_processes_do_not_hear_each_other(network, contexts):
    listener = network.listen(Echo)
    command = [sys.executable, "-c", OTHER_PROCESS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin
        assert other.stdout
        port = int(other.stdout.readline())
        with Recording(network.record("live")) as capture:
            client = Client(listener, contexts)
            client.ask(b"ours")
            other.stdin.write("go\n")
            other.stdin.close()
            theirs = other.stdout.read()
            client.quit()
    assert theirs.strip() == str([(port, b"theirs\r\n")])
    assert [(flow.server.port, flow.client_stream.data) for flow in capture.connections] == [
        (listener.port, b"ours\r\nQUIT\r\n")
    ]


@needs_live
def test_what_the_system_drops_is_noted(network, contexts, monkeypatch):
    """A buffer too small, and a receiver that is kept from its work."""
    monkeypatch.setattr(live, "BUFFER", 4_096)
    monkeypatch.setattr(live, "BATCH", 3_600)
    listener = network.listen(Echo)
    recording = LiveEngine([listener.port])
    recording.start()
    exchange(Client(listener, contexts))
    recording.stop()
    (note,) = recording.notes
    assert "dropped" in note


@needs_live
def test_an_open_connection_does_not_hold_the_stop(network, contexts):
    listener = network.listen(Echo)
    recording = LiveEngine([listener.port])
    recording.start()
    client = Client(listener, contexts)
    recording.stop()
    (flow,) = reassemble(recording.frames())
    assert flow.closed == ""
    assert flow.server_stream.data == b"220 echo\r\n"
    client.quit()


@needs_live
def test_a_large_transfer_is_whole(network, contexts):
    listener = network.listen(Echo)
    recording = LiveEngine([listener.port])
    recording.start()
    client = Client(listener, contexts)
    client.sock.settimeout(30)
    line = bytes(range(32, 127)) * 30_000
    assert client.ask(line) == line + b"\r\n"
    client.quit()
    recording.stop()
    assert recording.notes == ()
    assert streams(recording) == [(listener.port, line + b"\r\nQUIT\r\n", b"220 echo\r\n" + line + b"\r\n221 bye\r\n")]
