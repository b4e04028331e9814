"""Real TLS byte streams, made by OpenSSL on both ends: in memory through ssl.MemoryBIO, or by its own programs."""

import contextlib
import re
import socket
import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from labkit.wire.flows import Segment, Side, Stream
from tests.conftest import require

NAME = "mail.example"
GREETING = ((Side.CLIENT, b"EHLO client.example\r\n"), (Side.SERVER, b"250 mail.example\r\n"))
NO_ENCRYPT_THEN_MAC = 1 << 19  # SSL_OP_NO_ENCRYPT_THEN_MAC has no name in Python


class Recorder:
    """Two streams under construction, packets numbered in the order of what was added."""

    def __init__(self) -> None:
        self.data = {Side.CLIENT: b"", Side.SERVER: b""}
        self.segments: dict[Side, list[Segment]] = {Side.CLIENT: [], Side.SERVER: []}
        self.packet = 0
        self.changed = threading.Condition()

    def add(self, side: Side, data: bytes) -> None:
        with self.changed:
            if data:
                self.packet += 1
                start = len(self.data[side])
                self.data[side] += data
                self.segments[side].append(Segment(self.packet, self.packet * 1000, start, start + len(data)))
            self.changed.notify_all()

    def stream(self, side: Side) -> Stream:
        return Stream(side, self.data[side], tuple(self.segments[side]))

    def streams(self) -> tuple[Stream, Stream]:
        return self.stream(Side.CLIENT), self.stream(Side.SERVER)


@dataclass
class Exchange:
    """What two ends said under TLS, and what each knows of the session."""

    client: Stream
    server: Stream
    version: str | None
    cipher: str
    keylog: str
    session: ssl.SSLSession | None
    reused: bool | None


@dataclass
class Maker:
    """Makes exchanges with one certificate and a key log in `folder`."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)
    kind: trustme.KeyType = trustme.KeyType.RSA

    def __post_init__(self) -> None:
        self.certificate = self.authority.issue_cert(NAME, "192.0.2.1", common_name=NAME, key_type=self.kind)

    def contexts(
        self, version: ssl.TLSVersion, ciphers: str = "", options: int = 0
    ) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """A client's and a server's context for exactly this version."""
        client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(server)
        self.authority.configure_trust(client)
        for context in (client, server):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.0 and 1.1 are what is tested
                context.minimum_version = context.maximum_version = version
            context.set_ciphers(f"{ciphers or 'ALL'}:@SECLEVEL=0")
            context.options |= options
        return client, server

    def exchange(
        self,
        contexts: tuple[ssl.SSLContext, ssl.SSLContext],
        talk: Sequence[tuple[Side, bytes]] = GREETING,
        session: ssl.SSLSession | None = None,
        before: tuple[bytes, bytes] = (b"", b""),
    ) -> Exchange:
        """One session from handshake to close_notify; `before` is what each side said in clear first."""
        log = self.folder / "keys.log"
        log.unlink(missing_ok=True)
        contexts[0].keylog_filename = str(log)
        recorder = Recorder()
        recorder.add(Side.SERVER, before[1])
        recorder.add(Side.CLIENT, before[0])
        into = {side: ssl.MemoryBIO() for side in Side}
        out = {side: ssl.MemoryBIO() for side in Side}
        ends = {
            Side.CLIENT: contexts[0].wrap_bio(
                into[Side.CLIENT], out[Side.CLIENT], server_hostname=NAME, session=session
            ),
            Side.SERVER: contexts[1].wrap_bio(into[Side.SERVER], out[Side.SERVER], server_side=True),
        }

        def carry() -> None:
            for side, other in ((Side.CLIENT, Side.SERVER), (Side.SERVER, Side.CLIENT)):
                data = out[side].read()
                recorder.add(side, data)
                into[other].write(data)

        waiting = set(ends)
        while waiting:
            for side in sorted(waiting):
                with contextlib.suppress(ssl.SSLWantReadError):
                    ends[side].do_handshake()
                    waiting.discard(side)
                carry()
        carry()
        for side, data in talk:
            other = Side.SERVER if side is Side.CLIENT else Side.CLIENT
            sent = 0
            while sent < len(data):
                sent += ends[side].write(data[sent : sent + 16000])
                carry()
            received = b""
            while len(received) < len(data):
                received += ends[other].read(len(data))
            assert received == data
        end = ends[Side.CLIENT]
        resumable, version, cipher, reused = end.session, end.version(), end.cipher(), end.session_reused
        for side in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                ends[side].unwrap()
            carry()
        contexts[0].keylog_filename = None
        assert cipher
        return Exchange(*recorder.streams(), version, cipher[0], log.read_text(), resumable, reused)


def cut_again(stream: bytes, sizes: Sequence[int]) -> bytes:
    """The same clear records' payloads in records of other sizes; records that are not handshake stay as they are."""
    result, at, turn = b"", 0, 0
    while at + 5 <= len(stream):
        length = int.from_bytes(stream[at + 3 : at + 5], "big")
        record = stream[at : at + 5 + length]
        at += 5 + length
        if record[0] != 22:
            return result + record + stream[at:]
        payload = record[5:]
        while payload:
            size = sizes[turn % len(sizes)]
            turn += 1
            result += record[:3] + len(payload[:size]).to_bytes(2, "big") + payload[:size]
            payload = payload[size:]
    return result


@contextlib.contextmanager
def _relay(port: int, recorder: Recorder) -> Iterator[int]:
    """Carries one connection to `port` and records what passes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket, side: Side) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                recorder.add(side, data)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        client, _address = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=carry, args=(server, client, Side.SERVER))
            back.start()
            carry(client, server, Side.CLIENT)
            back.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(20)
        listener.close()


def openssl_exchange(
    maker: Maker, server_options: Sequence[str], client_options: Sequence[str], lines: Sequence[str]
) -> tuple[Stream, Stream, str]:
    """OpenSSL's s_client types `lines` to an s_server that answers each reversed. A line "K" or "k" updates the keys."""
    pem, log = maker.folder / "server.pem", maker.folder / "openssl-keys.log"
    maker.certificate.private_key_and_cert_chain_pem.write_to_path(pem)
    log.unlink(missing_ok=True)
    recorder = Recorder()
    serve = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-rev", "-cert", pem, "-key", pem]
    with _program([*serve, *server_options]) as server:
        port = int(_wait_for(server, r"ACCEPT .*:(\d+)"))
        with _relay(port, recorder) as relayed:
            command = [
                "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{relayed}",
                "-keylogfile",
                log,
                "-servername",
                NAME,
            ]
            with _program([*command, *client_options]) as client:
                _wait_for(client, r"(Extended master secret|Verify return code)")
                for line in lines:
                    client.stdin.write(f"{line}\n")
                    client.stdin.flush()
                    _wait_for(client, "KEYUPDATE" if line in ("K", "k") else f"({line[::-1]})")
                client.stdin.write("Q\n")
                client.stdin.close()
                client.stdout.read()
        server.stdin.close()
        server.stdout.read()
    return *recorder.streams(), log.read_text()


def _program(command: Sequence[str | Path]) -> subprocess.Popen[str]:
    require(str(command[0]))
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, bufsize=1)


def _wait_for(process: subprocess.Popen[str], pattern: str) -> str:
    seen = ""
    for line in process.stdout:
        seen += line
        if found := re.search(pattern, line):
            return found[found.re.groups]
    raise AssertionError(f"{pattern!r} never came:\n{seen}")
