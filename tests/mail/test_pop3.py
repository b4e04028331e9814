"""The POP3 server on its transport: writes, patience, TLS, clients that vanish, and mail programs that others wrote."""

import asyncio
import itertools
import poplib
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.mail.certificates import authority
from labkit.mail.policy import POLICIES, Security
from labkit.mail.pop3 import AUTOLOGOUT, pop3_factory
from labkit.mail.server import TURN
from labkit.mail.service import MailService
from labkit.wire.network import Listener, Network
from tests.conftest import require, returns
from tests.mail.conftest import InMemory, a_service

PASSWORD = "correct horse"
LOGIN = f"USER hanako\r\nPASS {PASSWORD}\r\n".encode()
LETTER = b"Subject: hello\r\n\r\n.a dot first\r\n..two\r\n.\r\n" + b"y" * 998 + b"\r\nend\r\n"
LARGE = b"Subject: large\r\n\r\n" + b".a line of a large message\r\n" * 100_000

Serve = Callable[..., Listener]


@pytest.fixture
def serve(network: Network) -> Serve:
    """Serve a service's POP3 as its policy wants."""

    def serve(service: MailService) -> Listener:
        security = service.policy.security
        context = None if security is Security.NONE else authority().server_context()
        return network.listen(pop3_factory(service, context), tls=context if security is Security.SSL else None)

    return serve


def holding(service: MailService, *contents: bytes) -> MailService:
    for content in contents:
        service.maildrops["hanako"].append(content)
    return service


def is_free(service: MailService) -> bool:
    drop = service.maildrops["hanako"]
    if not drop.acquire():
        return False
    drop.release()
    return True


def wait_until(network: Network, condition: Callable[[], bool]) -> None:
    """Give the network's loop turns until the condition holds there."""
    deadline = time.monotonic() + 10
    while not network.call(condition):
        assert time.monotonic() < deadline, "the server did not come to rest"


def nobody_is_connected(network: Network) -> bool:
    return not network.taps.live and len(asyncio.all_tasks()) <= 1  # the one that asks


# On a transport without a network


def pop3_session(service: MailService) -> InMemory:
    """A session on a Memory transport."""
    return InMemory(service, pop3=True)


def test_two_greetings_differ_and_have_one_length() -> None:
    with pop3_session(a_service()) as one, pop3_session(a_service()) as other:
        (first,), (second,) = one.transport.writes, other.transport.writes
    assert first != second
    assert len(first) == len(second)


def test_replies_to_a_pipelined_group_leave_together() -> None:
    """RFC 2449 section 6.6."""
    with pop3_session(holding(a_service(), LETTER, LETTER)) as session:
        (answer,) = session.feed(b"CAPA\r\n" + LOGIN + b"LIST\r\nUIDL\r\nRETR 1\r\nTOP 2 1\r\nQUIT\r\n")
        assert len(re.findall(rb"^\+OK", answer, re.MULTILINE)) == 8
        assert session.transport.closed == "closed"


def test_a_client_that_does_not_read_is_waited_for() -> None:
    with pop3_session(holding(a_service(), LETTER)) as session:
        session.feed(LOGIN)
        session.protocol.pause_writing()
        assert session.feed(b"RETR 1\r\n") == session.feed(b"RETR 1\r\nQUIT\r\n") == []
        session.protocol.resume_writing()
        session.rest()
        assert session.transport.closed == "closed"


def test_a_write_that_fills_the_buffer_holds_back_the_next_reply() -> None:
    with pop3_session(holding(a_service(), LARGE)) as session:
        session.feed(LOGIN)
        keep = session.transport.write

        def write(data: bytes) -> None:
            keep(data)
            session.protocol.pause_writing()

        session.transport.write = write  # type: ignore[method-assign,assignment]
        assert len(session.feed(b"RETR 1\r\n" * 10)) == 1
        before = len(session.transport.writes)
        session.protocol.resume_writing()
        session.rest()
        assert len(session.transport.writes) == before + 1


def test_a_flood_of_commands_lets_other_clients_have_their_turn() -> None:
    with pop3_session(a_service()) as session:
        session.protocol.data_received(b"CAPA\r\n" * 250)
        answers = []
        for _turn in range(20):
            session.rest(turns=1)
            answers.append(b"".join(session.transport.writes).count(b"IMPLEMENTATION"))
        assert max(later - earlier for earlier, later in itertools.pairwise(answers)) <= TURN < 250
        assert answers[-1] == 250


def test_autologout_closes_without_a_word_and_deletes_nothing() -> None:
    service = holding(a_service(), LETTER)
    with pop3_session(service) as session:
        session.feed(LOGIN + b"DELE 1\r\n")
        session.loop.ahead += AUTOLOGOUT - 5
        session.rest()
        session.feed(b"NOOP\r\n")
        session.loop.ahead += AUTOLOGOUT - 5
        session.rest()
        assert not session.transport.closed
        said = len(session.transport.writes)
        session.loop.ahead += 6
        session.rest()
        assert session.transport.closed == "closed"
        assert len(session.transport.writes) == said
        assert len(service.maildrops["hanako"].messages()) == 1
        assert is_free(service)
    assert AUTOLOGOUT >= 600


def test_autologout_does_not_wait_for_a_client_that_never_reads() -> None:
    with pop3_session(a_service()) as session:
        session.transport.unsent = 1000
        session.loop.ahead += AUTOLOGOUT + 1
        session.rest()
        assert session.transport.closed == "aborted"


# On the network


def connect(listener: Listener) -> socket.socket:
    return socket.create_connection((listener.host, listener.port), timeout=10)


def read_reply(sock: socket.socket) -> bytes:
    """One line."""
    line = b""
    while not line.endswith(b"\n") and (octet := sock.recv(1)):
        line += octet
    return line


def open_poplib(listener: Listener, security: Security) -> poplib.POP3:
    context = authority().client_context()
    if security is Security.SSL:
        return poplib.POP3_SSL("localhost", listener.port, timeout=10, context=context)
    session = poplib.POP3("localhost", listener.port, timeout=10)
    if security is Security.STARTTLS:
        assert "STLS" in session.capa()
        session.stls(context)
        assert "STLS" not in session.capa()
        assert "SASL" in session.capa()
    return session


@pytest.mark.parametrize("policy", POLICIES)
def test_poplib_reads_deletes_and_leaves(policy: str, network: Network, serve: Serve) -> None:
    service = holding(a_service(policy), LETTER, b"", LARGE)
    session = open_poplib(serve(service), service.policy.security)
    session.apop("hanako", PASSWORD) if policy == "smtp-auth" else (session.user("hanako"), session.pass_(PASSWORD))
    assert session.stat() == (3, len(LETTER) + len(LARGE))
    assert session.list()[1] == [f"{n} {len(c)}".encode() for n, c in enumerate((LETTER, b"", LARGE), 1)]
    received = [b"".join(line + b"\r\n" for line in session.retr(n)[1]) for n in (3, 1, 2)]
    assert received == [LARGE, LETTER, b""]
    session.dele(1)
    session.quit()
    assert [message.content for message in service.maildrops["hanako"].messages()] == [b"", LARGE]
    assert service.may_send("127.0.0.1")
    wait_until(network, lambda: nobody_is_connected(network))
    assert is_free(service)


def test_what_comes_together_with_the_end_of_the_handshake_is_answered(serve: Serve) -> None:
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority().client_context().wrap_bio(arriving, leaving, server_hostname="localhost")
    with connect(serve(a_service("starttls"))) as sock:
        read_reply(sock)
        sock.sendall(b"STLS\r\n")
        assert read_reply(sock).startswith(b"+OK ")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(leaving.read())
                arriving.write(sock.recv(65536))
        tls.write(b"NOOP\r\nCAPA\r\n")
        sock.sendall(leaving.read())  # Finished and both commands, in one segment
        answer = b""
        while not answer.endswith(b"\r\n.\r\n"):
            try:
                answer += tls.read()
            except ssl.SSLWantReadError:
                arriving.write(sock.recv(65536))
    assert answer.startswith(b"-ERR NOOP is not possible in the AUTHORIZATION state\r\n+OK ")
    assert b"\r\nUSER\r\n" in answer


CLIENT_HELLO_BEGINS = bytes.fromhex("1603010200010001fc0303")
MOMENTS = {
    "greeted": b"",
    "named": b"USER hanako\r\n",
    "half a line": b"USER han",
    "in an exchange": b"AUTH CRAM-MD5\r\n",
    "logged in": LOGIN,
    "marked": LOGIN + b"DELE 1\r\n",
    "not reading": LOGIN + b"RETR 2\r\n" * 20,
    "STLS": b"STLS\r\n",
}


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_client_may_vanish_at_any_moment(moment: str, reset: bool, network: Network, serve: Serve) -> None:
    service = holding(a_service("starttls" if moment == "STLS" else "smtp-auth"), LETTER, LARGE)
    sock = connect(serve(service))
    read_reply(sock)
    sock.sendall(MOMENTS[moment])
    if MOMENTS[moment].endswith(b"\r\n"):
        read_reply(sock)
    if moment == "STLS":
        sock.sendall(CLIENT_HELLO_BEGINS)
    if moment in ("logged in", "marked", "not reading"):
        wait_until(network, lambda: not is_free(service))
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    wait_until(network, lambda: nobody_is_connected(network))
    assert is_free(service)
    assert len(service.maildrops["hanako"].messages()) == 2


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("policy", ["starttls", "ssl"])
def test_a_client_may_vanish_inside_tls(policy: str, reset: bool, network: Network, serve: Serve) -> None:
    service = holding(a_service(policy), LETTER)
    session = open_poplib(serve(service), service.policy.security)
    session.user("hanako")
    session.pass_(PASSWORD)
    session.dele(1)
    assert not is_free(service)
    if reset:
        session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    session.file.close()
    session.sock.close()
    wait_until(network, lambda: nobody_is_connected(network))
    assert is_free(service)
    assert len(service.maildrops["hanako"].messages()) == 1


@pytest.mark.parametrize("said", [b"STLS\r\n", LOGIN], ids=["handshake", "logged in"])
def test_the_network_stops_with_sessions_open(said: bytes, network: Network, serve: Serve) -> None:
    service = a_service("starttls" if said.startswith(b"STLS") else "smtp-auth")
    with connect(serve(service)) as sock:
        read_reply(sock)
        sock.sendall(said)
        read_reply(sock)
        returns(network.stop)
    assert is_free(service)


def test_an_answer_larger_than_any_buffer_arrives_whole(serve: Serve) -> None:
    service = holding(a_service(), LARGE)
    with connect(serve(service)) as sock, sock.makefile("rb") as answers:
        sock.sendall(LOGIN + b"RETR 1\r\n" * 5 + b"QUIT\r\n")
        everything = answers.read()
    assert everything.count(b"\r\n..a line of a large message") == 500_000
    assert everything.endswith(b"\r\n.\r\n+OK Bye\r\n")


# Mail programs that others wrote


def run(*command: str | Path, stdin: str = "") -> str:
    """Run a program that must be installed; its standard output."""
    require(str(command[0]))
    done = subprocess.run(command, input=stdin.encode(), capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("latin-1")


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority().ca_pem)
    return path


SECURED = pytest.mark.parametrize("policy", ["smtp-auth", "starttls", "ssl"])


@pytest.mark.parametrize("policy", ["starttls", "ssl"])
def test_openssl_reads(policy: str, ca: Path, serve: Serve) -> None:
    listener = serve(holding(a_service(policy), LETTER))
    starttls = ("-starttls", "pop3") if policy == "starttls" else ()
    check = ("-CAfile", ca, "-verify_return_error", "-verify_hostname", "localhost")
    said = f"USER hanako\nPASS {PASSWORD}\nRETR 1\nQUIT\n"
    answer = run(
        *("openssl", "s_client", "-connect", f"localhost:{listener.port}", *starttls, "-crlf", "-quiet", *check),
        stdin=said,
    )
    assert f"+OK {len(LETTER)} octets\r\n" in answer
    assert "\r\n..a dot first\r\n...two\r\n..\r\n" in answer
