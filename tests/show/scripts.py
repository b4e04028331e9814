"""Sessions written down as a script, so that views can be tested without a network: who says what, in order.

TLS is real: two ends of Python's ssl shake hands in memory, so its sizes are this machine's. That is the point: what the
views show must not depend on them.
"""

import ssl
from collections.abc import Iterable

from labkit.decode.cost import cost
from labkit.decode.dissection import Dissection, dissect
from labkit.decode.exposure import expose
from labkit.decode.protocol import Protocol
from labkit.mail.certificates import authority
from labkit.show.comparison import ShownSession
from labkit.wire.endpoints import Endpoint
from labkit.wire.flows import Burst, Flow, Segment, Side, Stream

Script = list[tuple[Side, bytes]]
CLIENT, SERVER = Endpoint("192.0.2.10", 49152, "client.example"), "mail.example"

LETTER = (
    "From: Hanako Yamada <hanako@mail.example>\n"
    "To: Taro Suzuki <taro@mail.example>\n"
    "Subject: Lunch on Friday?\n"
    "MIME-Version: 1.0\n"
    'Content-Type: multipart/mixed; boundary="=_b"\n\n'
    "--=_b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    "Noon at the station?\n正午に駅前で。\n"
    '--=_b\nContent-Type: image/png\nContent-Disposition: attachment; filename="map.png"\n'
    "Content-Transfer-Encoding: base64\n\niVBORw0KGgoAAAANSUhEUgAAACAAAAAgAgMAAAAOFJJnAAAADFBMVEX39Oy0ucSPyY/EPQ8n\n"
    "--=_b--\n.\n"
).encode()


def script(*lines: str | bytes) -> Script:
    """Lines that start with "C: " or "S: "; a line end is CRLF, also where the script has a bare LF."""
    said: Script = []
    for line in lines:
        raw = line.encode() if isinstance(line, str) else line
        side = Side.CLIENT if raw.startswith(b"C: ") else Side.SERVER
        said.append((side, raw[3:].replace(b"\n", b"\r\n") + (b"" if raw.endswith(b"\n") else b"\r\n")))
    return said


def flow(said: Iterable[tuple[Side, bytes]], port: int, number: int = 1) -> Flow:
    """The flow of a script; each entry is one packet and, with its like neighbours, one burst."""
    data = {Side.CLIENT: b"", Side.SERVER: b""}
    segments: dict[Side, list[Segment]] = {Side.CLIENT: [], Side.SERVER: []}
    bursts: list[Burst] = []
    for packet, (side, octets) in enumerate(said, 4):
        start, end = len(data[side]), len(data[side]) + len(octets)
        data[side] += octets
        segments[side].append(Segment(packet, packet, start, end))
        if bursts and bursts[-1].side is side:
            bursts[-1] = bursts[-1]._replace(end=end)
        else:
            bursts.append(Burst(side, start, end, packet, packet))
    client, server = (Stream(side, data[side], tuple(segments[side])) for side in (Side.CLIENT, Side.SERVER))
    packets = tuple(range(1, len(segments[Side.CLIENT]) + len(segments[Side.SERVER]) + 4))
    return Flow(
        number, CLIENT, Endpoint("192.0.2.25", port, SERVER), client, server, packets, True, "fin", tuple(bursts)
    )


def inside_tls(said: Script, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, alpn: tuple[str, ...] = ()) -> Script:
    """The same script as TLS records, after a handshake of two ends in memory. alpn: makes the ClientHello longer."""
    ends = {Side.CLIENT: (ssl.MemoryBIO(), ssl.MemoryBIO()), Side.SERVER: (ssl.MemoryBIO(), ssl.MemoryBIO())}
    server_context = authority().server_context()
    client_context = ssl.create_default_context(cadata=authority().ca_pem.decode())
    client_context.minimum_version = client_context.maximum_version = version
    client_context.set_alpn_protocols(alpn)
    client = client_context.wrap_bio(*ends[Side.CLIENT], server_hostname=SERVER)
    server = server_context.wrap_bio(*ends[Side.SERVER], server_side=True)
    wire: Script = []

    def carry(side: Side) -> bool:
        octets = ends[side][1].read()
        if octets:
            other = Side.SERVER if side is Side.CLIENT else Side.CLIENT
            ends[other][0].write(octets)
            wire.append((side, octets))
        return bool(octets)

    shaken: set[Side] = set()
    while len(shaken) < 2:
        for side, end in ((Side.CLIENT, client), (Side.SERVER, server)):
            try:
                end.do_handshake()
                shaken.add(side)
            except ssl.SSLWantReadError:
                pass
            carry(side)
    for side, octets in said:
        (client if side is Side.CLIENT else server).write(octets)
        carry(side)
    return wire


SENDING = (
    "S: 220 mail.example ESMTP",
    "C: EHLO client.example",
    "S: 250-mail.example\n250-SIZE 33554432\n250-8BITMIME\n250-PIPELINING\n250 SMTPUTF8",
)
LETTER_SENT = (
    "C: MAIL FROM:<hanako@mail.example> BODY=8BITMIME",
    "S: 250 2.1.0 OK",
    "C: RCPT TO:<taro@mail.example>",
    "S: 250 2.1.5 OK",
    "C: DATA",
    "S: 354 End data with <CR><LF>.<CR><LF>",
    b"C: " + LETTER,
    "S: 250 2.0.0 OK",
    "C: QUIT",
    "S: 221 2.0.0 Bye",
)
AUTH_SENDING = (
    *SENDING[:2],
    "S: 250-mail.example\n250-SIZE 33554432\n250-8BITMIME\n250-AUTH PLAIN LOGIN CRAM-MD5\n250 SMTPUTF8",
    "C: AUTH PLAIN AGhhbmFrbwBzYWt1cmE=",
    "S: 235 2.7.0 Authentication successful",
)
LOGIN = ("S: +OK POP3 ready", "C: USER taro", "S: +OK", "C: PASS fuji3776", "S: +OK maildrop locked and ready")
READING = (
    *LOGIN,
    "C: STAT",
    "S: +OK 1 712",
    "C: RETR 1",
    b"S: +OK 712 octets\n" + LETTER,
    "C: QUIT",
    "S: +OK bye",
)
CHALLENGED = (
    *AUTH_SENDING[:3],
    "C: AUTH CRAM-MD5",
    "S: 334 PDE4OTYuNjk3MTcwOTUyQG1haWwuZXhhbXBsZT4=",
    "C: aGFuYWtvIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw",
    "S: 235 2.7.0 Authentication successful",
)


def session(title: str, *flows: tuple[int, Script]) -> ShownSession:
    """A session from (server port, script) pairs."""
    conversations = tuple(dissect(flow(said, port, number)) for number, (port, said) in enumerate(flows, 1))
    measured = cost(conversation.flow for conversation in conversations)
    return ShownSession(title, conversations, expose(conversations), measured)


def four_sessions() -> tuple[ShownSession, ...]:
    """The four situations of the course; the last one with a fresh TLS handshake."""
    sending, reading = script(*SENDING, *LETTER_SENT), script(*READING)
    proven = script(*AUTH_SENDING, *LETTER_SENT)
    return (
        session("Plaintext", (25, sending), (110, reading)),
        session("SMTP AUTH", (25, proven), (110, reading)),
        session("POP before SMTP", (110, script(*LOGIN, *READING[-2:])), (25, sending), (110, reading)),
        session("SSL (implicit TLS)", (465, inside_tls(proven)), (995, inside_tls(reading))),
    )


def conversation(*lines: str | bytes, port: int = 25, protocol: Protocol | None = None) -> Dissection:
    """One conversation from a script."""
    return dissect(flow(script(*lines), port), protocol=protocol)
