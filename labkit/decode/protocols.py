"""The protocols that the decoder knows: whoever wants to know something of one asks here, and adds one with a line here."""

from labkit.decode.pop3 import POP3
from labkit.decode.protocol import TLS, UNKNOWN, Protocol
from labkit.decode.smtp import SMTP
from labkit.decode.tls.session import looks_like_tls
from labkit.wire.flows import Flow

PROTOCOLS = (SMTP, POP3)
SMTPS, POP3S = SMTP.over_tls, POP3.over_tls
_BY_NAME = {known.name: known for plain in PROTOCOLS for known in (plain, plain.over_tls)} | {
    "tls": TLS,
    "unknown": UNKNOWN,
}

__all__ = ["POP3", "POP3S", "PROTOCOLS", "SMTP", "SMTPS", "TLS", "UNKNOWN", "by_name", "by_port", "recognise"]


def by_name(name: str) -> Protocol | None:
    """The protocol of this name: smtp, smtps and so on; None when there is none."""
    return _BY_NAME.get(name)


def by_port(port: int, *, tls: bool = False) -> Protocol:
    """What a server's port says: in the clear, or inside TLS from the first octet."""
    if tls:
        return next((known.over_tls for known in PROTOCOLS if port == known.ports.tls), TLS)
    return next((known for known in PROTOCOLS if port in known.ports.in_clear), UNKNOWN)


def recognise(flow: Flow) -> Protocol:
    """The protocol of a flow: by what was said first, then by the server's port."""
    client, server, port = flow.client_stream.data, flow.server_stream.data, flow.server.port
    sealed = looks_like_tls(client) or (not client and looks_like_tls(server))
    expected = by_port(port, tls=sealed)
    said = b"" if sealed else client  # a server may answer TLS in the clear: mostly to a client with the wrong port
    spoken = (known for known in PROTOCOLS if known.recognise(said, server, known in (expected, expected.inside)))
    return next(spoken, expected)
