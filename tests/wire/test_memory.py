"""The memory carrier: connections without sockets, loops without threads, and waits that nobody can end."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from labkit.wire import memory
from labkit.wire.memory import SWITCHBOARD, MemoryCarrier, MemoryLoop
from labkit.wire.memory_ends import WINDOW
from labkit.wire.network import Network


class Served(asyncio.Protocol):
    """A protocol that writes down what happens to it."""

    def __init__(self, greeting: bytes = b"", *, echo: bool = False, half_close: bool = False) -> None:
        self.greeting, self.echo, self.half_close = greeting, echo, half_close
        self.happened: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.greeting:
            transport.write(self.greeting)

    def data_received(self, data: bytes) -> None:
        self.happened.append(data)
        if self.echo:
            self.transport.write(data)

    def eof_received(self) -> bool:
        self.happened.append("eof")
        return self.half_close

    def connection_lost(self, exc: Exception | None) -> None:
        self.happened.append(type(exc).__name__ if exc else "lost")

    def pause_writing(self) -> None:
        self.happened.append("pause")

    def resume_writing(self) -> None:
        self.happened.append("resume")


Serve = Callable[[Served], tuple[str, int]]


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop(SWITCHBOARD)
    SWITCHBOARD.add(loop)
    yield loop
    SWITCHBOARD.remove(loop)
    loop.close()


@pytest.fixture
def serve(loop: MemoryLoop) -> Serve:
    """Serve a protocol: where."""
    return lambda protocol: (memory.HOST, SWITCHBOARD.listen(loop, lambda: protocol, 0))


def test_a_cell_talks_to_a_server(serve: Serve) -> None:
    protocol = Served(b"hello", echo=True)
    with socket.create_connection(serve(protocol), timeout=9) as sock:
        assert sock.recv(2, socket.MSG_PEEK) == b"he"
        assert sock.recv(2) + sock.recv(100) == b"hello"
        sock.sendall(b"one")
        assert sock.recv(100) == b"one"
        with sock.makefile("rwb") as file:
            file.write(b"a line\nanother\n")
            file.flush()
            assert file.readline() == b"a line\n"
    SWITCHBOARD.pump()
    assert protocol.happened == [b"one", b"a line\nanother\n", "eof", "lost"]


def test_what_nobody_can_end_times_out_at_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: pytest.fail("slept"))
    for patience in (None, 3600.0):
        with socket.create_connection(serve(Served()), timeout=patience) as sock:
            with pytest.raises(TimeoutError):
                sock.recv(1)
            with pytest.raises(TimeoutError), sock.makefile("rb") as file:
                file.readline()


def test_what_a_timer_brings_is_waited_for(serve: Serve, loop: MemoryLoop) -> None:
    protocol = Served(b"hello")
    with socket.create_connection(serve(protocol), timeout=9) as sock:
        assert sock.recv(5) == b"hello"
        loop.call_later(0.02, protocol.transport.write, b"later")
        assert sock.recv(5) == b"later"
        loop.call_later(60, protocol.transport.write, b"much later")
        sock.settimeout(5)
        with pytest.raises(TimeoutError):
            sock.recv(5)


def test_a_socket_that_does_not_wait(serve: Serve) -> None:
    with socket.create_connection(serve(Served(b"hello"))) as sock:
        sock.setblocking(False)
        assert sock.gettimeout() == 0
        assert sock.recv(5) == b"hello"
        with pytest.raises(BlockingIOError) as error:
            sock.recv(5)
        assert error.value.errno == errno.EAGAIN


class TestClosing:
    def test_the_server_closes(self, serve: Serve) -> None:
        protocol = Served(b"bye")
        with socket.create_connection(serve(protocol)) as sock:
            protocol.transport.close()
            protocol.transport.write(b"too late")
            assert sock.recv(100) == b"bye"
            assert sock.recv(100) == b""
            sock.sendall(b"hello?")  # nobody hears it, and the next one is told so
            with pytest.raises(BrokenPipeError):
                sock.sendall(b"hello?")
            assert sock.recv(100) == b""
        assert protocol.happened == ["lost"]

    def test_half_closed_the_server_goes_on(self, serve: Serve) -> None:
        protocol = Served(half_close=True)
        with socket.create_connection(serve(protocol)) as sock:
            sock.shutdown(socket.SHUT_WR)
            with pytest.raises(BrokenPipeError):
                sock.sendall(b"x")
            protocol.transport.write(b"still here")
            protocol.transport.close()
            assert sock.recv(100) == b"still here"
        assert protocol.happened == ["eof", "lost"]

    def test_half_closed_the_other_way_the_client_goes_on(self, serve: Serve) -> None:
        protocol = Served()
        with socket.create_connection(serve(protocol)) as sock:
            protocol.transport.write_eof()
            assert sock.recv(100) == b""
            sock.sendall(b"still here")
        assert protocol.happened == [b"still here", "eof", "lost"]

    def test_what_was_not_read_resets_the_connection(self, serve: Serve) -> None:
        protocol = Served(b"unread")
        socket.create_connection(serve(protocol)).close()
        assert protocol.happened == ["ConnectionResetError"]

    def test_lingering_for_no_time_resets_it_too(self, serve: Serve) -> None:
        protocol = Served()
        with socket.create_connection(serve(protocol)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert protocol.happened == ["ConnectionResetError"]

    def test_a_server_that_leaves_octets_unread_resets_it(self, serve: Serve) -> None:
        protocol = Served()
        with socket.create_connection(serve(protocol)) as sock:
            protocol.transport.pause_reading()
            sock.sendall(b"unread")
            protocol.transport.abort()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)

    def test_a_closed_socket_says_so(self, serve: Serve) -> None:
        sock = socket.create_connection(serve(Served()))
        file = sock.makefile("rb")
        sock.close()
        assert sock.gettimeout() is None
        sock.sendall(b"the file keeps it open")
        file.close()
        with pytest.raises(OSError) as error:  # noqa: PT011 (its number is looked at)
            sock.sendall(b"x")
        assert error.value.errno == errno.EBADF

    def test_who_leaves_after_the_network_has_stopped(self) -> None:
        with Network(MemoryCarrier()) as network:
            listener = network.listen(Served)
            sock = socket.create_connection((listener.host, listener.port))
        assert sock.recv(1) == b""
        sock.close()


class TestBackpressure:
    def test_a_server_waits_for_a_client_that_does_not_read(self, serve: Serve) -> None:
        protocol = Served()
        with socket.create_connection(serve(protocol)) as sock:
            protocol.transport.write(bytes(3 * WINDOW))
            assert protocol.happened == ["pause"]
            assert protocol.transport.get_write_buffer_size() == 2 * WINDOW
            got = b""
            while len(got) < 3 * WINDOW:
                got += sock.recv(10_000)
            assert protocol.happened == ["pause", "resume"]
            assert protocol.transport.get_write_buffer_size() == 0

    def test_a_client_waits_for_a_server_that_does_not_read(self, serve: Serve, loop: MemoryLoop) -> None:
        protocol = Served()
        with socket.create_connection(serve(protocol)) as sock:
            protocol.transport.pause_reading()
            with pytest.raises(TimeoutError):
                sock.sendall(bytes(WINDOW + 1))
            loop.call_later(0.01, protocol.transport.resume_reading)
            sock.sendall(bytes(2 * WINDOW))
        assert sum(len(data) for data in protocol.happened if isinstance(data, bytes)) == 3 * WINDOW

    def test_what_was_written_before_the_close_arrives(self, serve: Serve) -> None:
        protocol = Served()
        with socket.create_connection(serve(protocol)) as sock, sock.makefile("rb") as file:
            protocol.transport.write(bytes(5 * WINDOW))
            protocol.transport.close()
            assert len(file.read()) == 5 * WINDOW


class TestPorts:
    def test_a_port_is_served_once(self, serve: Serve, loop: MemoryLoop) -> None:
        _host, port = serve(Served())
        with pytest.raises(OSError) as error:  # noqa: PT011 (its number is looked at)
            SWITCHBOARD.listen(loop, Served, port)
        assert error.value.errno == errno.EADDRINUSE

    def test_addresses(self, serve: Serve) -> None:
        protocol = Served()
        where = serve(protocol)
        with socket.create_connection(where, source_address=("127.0.0.7", 0)) as sock:
            assert sock.getpeername() == where == protocol.transport.get_extra_info("sockname")
            assert sock.getsockname() == protocol.transport.get_extra_info("peername")
            assert sock.getsockname()[0] == "127.0.0.7"

    def test_what_is_elsewhere_goes_elsewhere(self, serve: Serve) -> None:
        serve(Served())
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as sock,
        ):
            assert isinstance(sock, socket.socket)

    def test_nothing_is_left_behind(self) -> None:
        assert socket.create_connection is not memory.create_connection

    def test_a_port_nobody_serves(self, loop: MemoryLoop) -> None:
        with pytest.raises(ConnectionRefusedError):
            SWITCHBOARD.run(loop, loop.create_connection(Served, memory.HOST, 1))


def test_a_loop_connects_to_another(serve: Serve, loop: MemoryLoop) -> None:
    where = serve(Served(echo=True))
    other = MemoryLoop(SWITCHBOARD)
    SWITCHBOARD.add(other)
    with contextlib.closing(other):

        async def talk() -> bytes:
            reader = asyncio.StreamReader()
            transport, _protocol = await other.create_connection(lambda: asyncio.StreamReaderProtocol(reader), *where)
            transport.write(b"hello")
            answer = await reader.readexactly(5)
            transport.close()
            return answer

        assert SWITCHBOARD.run(other, talk()) == b"hello"
        SWITCHBOARD.remove(other)


def test_the_kernels_loop_and_task_are_set_aside_and_come_back(serve: Serve) -> None:
    """A cell runs inside the kernel's loop, and must not disturb it."""

    async def cell() -> bytes:
        before = asyncio.get_running_loop(), asyncio.current_task()
        with socket.create_connection(serve(Served(b"hello"))) as sock:
            heard = sock.recv(5)
        assert (asyncio.get_running_loop(), asyncio.current_task()) == before
        await asyncio.sleep(0)
        return heard

    assert asyncio.run(cell()) == b"hello"


def test_a_cell_can_be_interrupted_while_it_waits(
    serve: Serve, loop: MemoryLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    protocol = Served()
    with socket.create_connection(serve(protocol)) as sock:
        loop.call_later(0.1, protocol.transport.write, b"later")
        with monkeypatch.context() as patched:
            patched.setattr("time.sleep", interrupted)
            with pytest.raises(KeyboardInterrupt):
                sock.recv(5)
        assert sock.recv(5) == b"later"
