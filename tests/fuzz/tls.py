"""What is fuzzed of labkit.browser.tls: both ends of a handshake, with hellos and certificates that are nearly right."""

import ssl
import tempfile
from functools import cache
from pathlib import Path

from labkit.browser import tls
from labkit.mail.certificates import authority

CUT = b"\x1f"


@cache
def _contexts() -> tuple[tls.SSLContext, tls.SSLContext]:
    client = tls.create_default_context(cadata=authority().ca_pem.decode())
    server = tls.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key")
        path.write_bytes(authority().key_and_chain())
        server.load_cert_chain(path)
    return client, server


def handshake(data: bytes) -> None:
    """Whatever comes, either end raises what `ssl` raises, and agrees on nothing with nobody."""
    incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = _contexts()
    ends = (
        client.wrap_bio(incoming[0], ssl.MemoryBIO(), server_hostname="mail.example"),
        server.wrap_bio(incoming[1], ssl.MemoryBIO(), server_side=True),
    )
    for bio, end in zip(incoming, ends, strict=True):
        for piece in data.split(CUT):
            bio.write(piece)
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                break
            raise AssertionError("a handshake with nobody")


def _sized(octets: bytes, size: int = 2) -> bytes:
    return len(octets).to_bytes(size, "big") + octets


def _record(*messages: tuple[int, bytes]) -> bytes:
    return b"\x16\x03\x03" + _sized(b"".join(bytes([kind]) + _sized(body, 3) for kind, body in messages))


def _extensions(*pairs: tuple[int, bytes]) -> bytes:
    return _sized(b"".join(kind.to_bytes(2, "big") + _sized(body) for kind, body in pairs))


_RANDOM, _POINT = bytes(range(32)), _sized(b"\x09" + bytes(31))
_COMMON = (0, _sized(b"\0" + _sized(b"mail.example"))), (10, _sized(b"\0\x1d\0\x17")), (13, _sized(b"\4\1\x08\x04"))
_CLIENT = b"\x03\x03" + _RANDOM + b"\0" + _sized(b"\x13\x02\xc0\x30\xc0\x2f") + b"\1\0"
_HELLOS = (
    _record((1, _CLIENT + _extensions(*_COMMON, (43, b"\2\3\4"), (51, _sized(b"\0\x1d" + _POINT)), (45, b"\1\1")))),
    _record((1, _CLIENT + _extensions(*_COMMON, (11, b"\1\0"), (23, b""), (0xFF01, b"\0")))),
)
_SERVER = b"\x03\x03" + _RANDOM + b"\0"
_FLIGHTS = (
    _record((2, _SERVER + b"\x13\x02\0" + _extensions((43, b"\3\4"), (51, b"\0\x1d" + _POINT)))),
    _record(
        (2, _SERVER + b"\xc0\x2f\0" + _extensions((0xFF01, b"\0"))),
        (11, _sized(_sized(b"\x30\x03\x02\x01\x01", 3), 3)),
        (12, b"\3\0\x1d" + _POINT[1:] + b"\4\1" + _sized(bytes(256))),
        (14, b""),
    ),
)
SEEDS = (*_HELLOS, *_FLIGHTS, *(CUT.join((hello[:20], hello[20:])) for hello in _HELLOS))
WORDS = (
    *(b"\x16\x03\x03", b"\x16\x03\x01", b"\x15\x03\x03\0\2\2\x28", b"\x15\x03\x03\0\2\1\0", b"\x14\x03\x03\0\1\1"),
    *(
        b"\x17\x03\x03\0\5hello",
        b"\1\0\0\x2f",
        b"\2\0\0\x2c",
        b"\x0b\0\0\7\0\0\4\0\0\1\x30",
        b"\x0e\0\0\0",
        CUT,
        b"\xff\xff",
    ),
    *(
        b"\0\x2b\0\3\2\3\4",
        b"\0\x33",
        b"\0\x0a",
        b"\0\x0d",
        b"\x03\x04",
        b"\0\0",
        _RANDOM,
        _POINT,
        b"220 mail.example\r\n",
    ),
)
