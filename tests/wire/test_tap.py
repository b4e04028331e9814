"""The tap writes down what crossed the socket, how it ended, and nothing that did not cross it."""

import asyncio
import socket
import struct

import pytest

from labkit.wire.events import Event, EventKind
from tests.wire.conftest import Client, Echo


def stream(events: list[Event], kind: EventKind) -> bytes:
    return b"".join(event.data for event in events if event.kind is kind)


def acts(events: list[Event]) -> list[EventKind]:
    return [event.kind for event in events if event.kind not in {EventKind.SENT, EventKind.RECEIVED}]


@pytest.fixture
def events(network) -> list[Event]:
    noted: list[Event] = []
    network.call(network.taps.record, noted)
    return noted


def settled(network, events: list[Event]) -> list[Event]:
    network.taps.finish(events, network.call)
    return events


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_bytes_addresses_and_times_are_those_of_the_socket(network, events, contexts):
    listener = network.listen(Echo)
    client = Client(listener, contexts)
    local = client.sock.getsockname()
    client.ask(b"hello")
    client.quit()
    settled(network, events)
    assert stream(events, EventKind.RECEIVED) == b"hello\r\nQUIT\r\n"
    assert stream(events, EventKind.SENT) == b"220 echo\r\nhello\r\n221 bye\r\n"
    (connection,) = {event.connection for event in events}
    assert (connection.client, connection.server) == (local, (listener.host, listener.port))
    times = [event.time for event in events]
    assert times == sorted(times)


def test_under_tls_it_sees_ciphertext_from_the_first_byte(network, events, contexts):
    client = Client(network.listen(Echo, tls=contexts.server), contexts, tls=True)
    client.ask(b"a secret")
    client.quit()
    settled(network, events)
    assert stream(events, EventKind.RECEIVED)[:2] == b"\x16\x03"
    assert b"a secret" not in stream(events, EventKind.RECEIVED) + stream(events, EventKind.SENT)


@pytest.mark.parametrize("command", [b"TLS", b"START"])
def test_it_stays_in_place_when_a_connection_is_upgraded(network, events, contexts, command):
    client = Client(network.listen(lambda: Echo(contexts.server)), contexts)
    client.upgrade(command)
    client.ask(b"a secret")
    client.quit()
    settled(network, events)
    received = stream(events, EventKind.RECEIVED)
    assert received.startswith(command + b"\r\n\x16\x03")
    assert b"a secret" not in received


def test_who_closes_first(network, events, contexts):
    client = Client(network.listen(Echo), contexts)
    client.close()
    settled(network, events)
    assert acts(events) == [EventKind.OPENED, EventKind.CLIENT_FIN, EventKind.SERVER_FIN]


def test_a_server_that_closes_first(network, events, contexts):
    client = Client(network.listen(Echo), contexts)
    client.ask(b"QUIT")
    settled(network, events)
    assert acts(events) == [EventKind.OPENED, EventKind.SERVER_FIN, EventKind.CLIENT_FIN]
    client.close()


def test_a_reset_by_the_client(network, events, contexts):
    client = Client(network.listen(Echo), contexts)
    client.lines.close()
    reset(client.sock)
    settled(network, events)
    assert acts(events) == [EventKind.OPENED, EventKind.CLIENT_RST]


def test_a_server_that_closes_with_unread_data_resets(network, events, contexts):
    class Refuser(Echo):
        def data_received(self, data):
            self.transport.pause_reading()
            paused.append(self.transport)

    paused: list[asyncio.Transport] = []
    client = Client(network.listen(Refuser), contexts)
    client.sock.sendall(b"read this")
    while not network.call(lambda: paused):
        pass
    client.sock.sendall(b"but not that")
    network.call(paused[0].close)
    settled(network, events)
    assert acts(events) == [EventKind.OPENED, EventKind.SERVER_RST]
    assert stream(events, EventKind.RECEIVED) == b"read this"
    with pytest.raises(ConnectionResetError):
        client.sock.recv(100)
    client.close()


def test_a_half_close_by_the_server(network, events, contexts):
    class Talker(Echo):
        def line(self, line):
            if line == b"END\r\n":
                self.transport.write_eof()

    client = Client(network.listen(Talker), contexts)
    assert client.ask(b"END") == b""
    client.sock.sendall(b"still here\r\n")
    client.close()
    settled(network, events)
    assert acts(events) == [EventKind.OPENED, EventKind.SERVER_FIN, EventKind.CLIENT_FIN]
    assert stream(events, EventKind.RECEIVED) == b"END\r\nstill here\r\n"


def test_what_an_abort_throws_away_was_never_sent(network, events, contexts):
    """The client does not read; what did not fit into the system's buffers when the server aborts is not in the record."""
    served: list[Echo] = []

    class Flood(Echo):
        def line(self, line):
            served.append(self)
            for _again in range(40):
                self.transport.write(b"z" * 1_000_000)

    client = Client(network.listen(Flood), contexts)
    client.sock.sendall(b"go\r\n")
    while not network.call(lambda: served):
        pass
    network.call(served[0].transport.abort)
    settled(network, events)
    received = b"220 echo\r\n" + client.lines.read()
    assert len(received) < 40_000_000
    assert stream(events, EventKind.SENT) == received
    client.close()


def test_a_slow_reader_gets_and_the_record_has_everything(network, events, contexts):
    client = Client(network.listen(Echo), contexts)
    line = bytes(range(32, 127)) * 100_000
    client.sock.settimeout(30)
    served = client.ask(line)
    client.quit()
    settled(network, events)
    assert served == line + b"\r\n"
    assert stream(events, EventKind.SENT) == b"220 echo\r\n" + line + b"\r\n221 bye\r\n"


def test_what_is_written_after_the_close_was_never_sent(network, events, contexts):
    class Late(Echo):
        def line(self, line):
            self.transport.close()
            self.transport.write(b"too late\r\n")

    client = Client(network.listen(Late), contexts)
    assert client.ask(b"go") == b""
    settled(network, events)
    assert stream(events, EventKind.SENT) == b"220 echo\r\n"
    client.close()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_what_is_written_after_a_reset_is_not_complained_about(network, request, contexts, caplog, tls, recorded):
    """asyncio would log "socket.send() raised exception." for each write after the fifth."""
    served: list[Echo] = []

    class Talker(Echo):
        def line(self, line):
            served.append(self)

    if recorded:
        request.getfixturevalue("events")
    client = Client(network.listen(Talker, tls=contexts.server if tls else None), contexts, tls)
    client.sock.sendall(b"go\r\n")
    while not network.call(lambda: served):
        pass

    def reset_and_write() -> None:
        client.lines.close()
        reset(client.sock)
        for _again in range(20):
            served[0].transport.write(b"is anybody there?\r\n")

    network.call(reset_and_write)
    network.call(int)
    assert caplog.messages == []


def test_recordings_may_overlap_and_begin_in_mid_connection(network, contexts):
    first: list[Event] = []
    second: list[Event] = []
    client = Client(network.listen(Echo), contexts)
    client.ask(b"before")
    network.call(network.taps.record, first)
    client.ask(b"one")
    network.call(network.taps.record, second)
    client.ask(b"two")
    settled(network, first)
    client.ask(b"three")
    settled(network, second)
    client.quit()
    assert stream(first, EventKind.RECEIVED) == b"one\r\ntwo\r\n"
    assert stream(second, EventKind.RECEIVED) == b"two\r\nthree\r\n"
    assert not acts(first)
    assert network.taps.recordings == []


def test_the_transport_is_a_whole_transport(network):
    """What a protocol may ask of a transport, the tapped one answers like the real one."""
    made: list[asyncio.Transport] = []

    class Curious(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)

    listener = network.listen(Curious)
    with socket.create_connection((listener.host, listener.port)) as client:
        while not network.call(lambda: made):
            pass
        transport = made[0]

        def ask() -> None:
            assert transport.get_extra_info("peername") == client.getsockname()
            assert transport.get_extra_info("nothing", 7) == 7
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert transport.can_write_eof()
            transport.set_write_buffer_limits(high=10, low=5)
            assert transport.get_write_buffer_limits() == (5, 10)
            assert isinstance(transport.get_protocol(), Curious)
            transport.pause_reading()
            assert not transport.is_reading()
            transport.resume_reading()
            assert transport.is_reading()
            transport.writelines([b"a", b"b", b"c"])
            assert not transport.is_closing()
            transport.close()
            assert transport.is_closing()

        network.call(ask)
        assert client.recv(10) == b"abc"


def test_flow_control_reaches_the_protocol(network, contexts):
    """asyncio pauses a protocol whose client does not read, and resumes it when it does."""
    seen: list[str] = []

    class Watched(Echo):
        def pause_writing(self):
            seen.append("pause")

        def resume_writing(self):
            seen.append("resume")

    client = Client(network.listen(Watched), contexts)
    line = b"x" * 20_000_000
    client.sock.settimeout(30)
    client.ask(line)
    client.quit()
    assert seen
    assert seen[:2] == ["pause", "resume"]
