"""What follows a handshake: data in any pieces, the close, ends that come too early, alerts, and what is not TLS."""

import socket
import ssl
from collections.abc import Callable

import pytest

from tests.browser.tls.ends import NAME, VERSIONS, Connection, End, client_context, same_as_openssl, server_context


def connected(client: str, server: str, version: ssl.TLSVersion, *, size: int | None = None) -> Connection:
    """A connection after its handshake."""
    context = client_context(client)
    context.maximum_version = version
    connection = Connection(context, server_context(server), size=size).handshake()
    assert connection.client.said == connection.server.said == [("do_handshake", None)]
    return connection


@pytest.mark.parametrize("version", VERSIONS)
class TestData:
    @pytest.mark.parametrize("size", [None, 1, 100])
    def test_data_cross_whole_in_any_pieces(self, version: ssl.TLSVersion, size: int | None) -> None:
        def play(client: str, server: str) -> Connection:
            connection = connected(client, server, version, size=size)
            for end, far in ((connection.client, connection.server), (connection.server, connection.client)):
                end.attempt("write", b"to " + far.name.encode())
                end.attempt("write", memoryview(b"and more"))
                connection.until_done((far, "read", (5,)), (far, "read", (100,)), (far, "read", (100,)))
                far.attempt("pending")
            return connection

        same_as_openssl(play)

    @pytest.mark.parametrize("length", [0, 1, 2**14, 2**14 + 1, 50_000])
    def test_lengths(self, version: ssl.TLSVersion, length: int) -> None:
        def play(client: str, server: str) -> Connection:
            connection = connected(client, server, version)
            connection.client.attempt("write", bytes(length))
            connection.client.attempt("write", b"end")
            connection.carry(connection.client)
            while connection.server.attempt("read", 20_000):
                pass
            return connection

        same_as_openssl(play)

    def test_a_buffer_is_filled(self, version: ssl.TLSVersion) -> None:
        def play(client: str, server: str) -> Connection:
            connection = connected(client, server, version)
            connection.server.attempt("write", b"0123456789")
            connection.carry(connection.server)
            buffer = bytearray(4)
            connection.client.attempt("read", 4, buffer)
            connection.client.said.append(("buffer", bytes(buffer)))
            return connection

        same_as_openssl(play)


def tells_an_end_from_a_goodbye() -> bool:
    """Whether this Python's `ssl` does so: 3.11.2, which Debian 12 has, takes an end of the octets for a close_notify."""
    incoming = ssl.MemoryBIO()
    tls = client_context("openssl").wrap_bio(incoming, ssl.MemoryBIO(), server_hostname=NAME)
    incoming.write_eof()
    try:
        tls.do_handshake()
    except ssl.SSLZeroReturnError:
        return False
    except ssl.SSLError:
        pass
    return True


an_end_is_an_error = pytest.mark.skipif(
    not tells_an_end_from_a_goodbye(), reason="this Python takes an end without close_notify for one with it"
)


@pytest.mark.parametrize("version", VERSIONS)
class TestClosing:
    def test_one_after_the_other(self, version: ssl.TLSVersion) -> None:
        def play(client: str, server: str) -> Connection:
            connection = connected(client, server, version)
            connection.until_done((connection.client, "unwrap", ()), (connection.server, "read", (10,)))
            connection.server.attempt("read", 10)
            return connection.until_done((connection.client, "unwrap", ()), (connection.server, "unwrap", ()))

        same_as_openssl(play)

    def test_both_at_once(self, version: ssl.TLSVersion) -> None:
        def play(client: str, server: str) -> Connection:
            connection = connected(client, server, version)
            connection.until_done((connection.client, "unwrap", ()), (connection.server, "unwrap", ()))
            for end in (connection.client, connection.server):
                end.attempt("read", 10)
                end.attempt("write", b"too late")
            return connection

        same_as_openssl(play)

    def test_one_direction_may_end_before_the_other(self, version: ssl.TLSVersion) -> None:
        """RFC 8446 section 6.1; OpenSSL does so in TLS 1.2 as well."""

        def play(client: str, server: str) -> Connection:
            connection = connected(client, server, version)
            connection.client.attempt("unwrap")
            connection.carry(connection.client)
            connection.server.attempt("read", 10)
            connection.server.attempt("write", b"still here")
            connection.carry(connection.server)
            connection.client.attempt("unwrap")
            return connection

        same_as_openssl(play)

    @an_end_is_an_error
    def test_an_end_without_close_notify_is_an_error(self, version: ssl.TLSVersion) -> None:
        def play(client: str, server: str) -> Connection:
            connection = connected(client, server, version)
            connection.client.incoming.write_eof()
            connection.client.attempt("read", 10)
            return connection

        same_as_openssl(play)

    @an_end_is_an_error
    def test_an_end_in_the_middle_of_a_handshake(self, version: ssl.TLSVersion) -> None:
        def play(client: str, server: str) -> Connection:
            connection = Connection(client_context(client), server_context(server))
            connection.client.attempt("do_handshake")
            connection.carry(connection.client, lambda octets: octets[:50])
            connection.server.incoming.write_eof()
            connection.server.attempt("do_handshake")
            return connection

        same_as_openssl(play)


def flipped(at: int) -> Callable[[bytes], bytes]:
    """One bit changed on the way."""
    return lambda octets: octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "change",
    [flipped(10), lambda octets: b"\x17\x03\x03\xff\xff" + octets, lambda octets: b"\x09" + octets, flipped(0)],
    ids=["a changed octet", "a length beyond all bounds", "a type that is none", "another type"],
)
def test_a_record_that_was_meddled_with_ends_the_connection(
    version: ssl.TLSVersion, change: Callable[[bytes], bytes]
) -> None:
    def play(client: str, server: str) -> Connection:
        connection = connected(client, server, version)
        connection.client.attempt("write", b"0123456789")
        connection.carry(connection.client, change)
        connection.server.attempt("read", 10)
        connection.carry(connection.server)
        connection.client.attempt("read", 10)
        method, (kind, *_reason) = connection.server.said.pop()  # releases of OpenSSL word the reason otherwise
        connection.server.said.append((method, kind))
        return connection

    same_as_openssl(play)


@pytest.mark.parametrize(
    "plain", [b"220 mail.example ESMTP\r\n", b"EHLO client.example\r\n", b"\x16\x02\x00\x00\x05hello"]
)
@pytest.mark.parametrize("role", ["client", "server"])
def test_what_is_not_tls_is_told_at_once(plain: bytes, role: str) -> None:
    def play(client: str, server: str) -> Connection:
        connection = Connection(client_context(client), server_context(server))
        end: End = getattr(connection, role)
        end.attempt("do_handshake")
        end.incoming.write(plain)
        end.attempt("do_handshake")
        return connection

    same_as_openssl(play)


def test_before_the_handshake() -> None:
    def play(client: str, server: str) -> Connection:
        connection = Connection(client_context(client), server_context(server))
        connection.client.attempt("unwrap")
        return connection

    same_as_openssl(play)


def test_a_failure_is_final() -> None:
    end = Connection(client_context("ours"), server_context("ours")).client
    end.attempt("do_handshake")
    end.incoming.write(b"220 mail.example ESMTP\r\n")
    for _again in range(2):
        end.attempt("do_handshake")
    assert end.said[0] == end.said[1]


def test_a_name_is_needed_where_it_is_checked() -> None:
    for library in ("openssl", "ours"):
        with socket.socket() as sock, pytest.raises(ValueError, match="check_hostname requires server_hostname"):
            client_context(library).wrap_socket(sock)
