"""Which protocol a flow speaks, the order of its lines, and how it turns into TLS."""

import ssl
from pathlib import Path

import pytest

from labkit.decode import pop3
from labkit.decode.dissection import Dissection, LineKind, dissect
from labkit.decode.protocol import Protocol
from labkit.decode.protocols import POP3, POP3S, SMTP, SMTPS, TLS, UNKNOWN
from labkit.decode.spans import Visibility, leaves, untiled
from labkit.decode.tls.decrypt import KeyLog, parse_keylog
from labkit.wire import pcap
from labkit.wire.flows import Flow, Gap, Side, reassemble
from tests.decode.conftest import C, S, flow_from, flow_of
from tests.decode.handshakes import Maker

CLIENT_HELLO = b"\x16\x03\x01\x00\x02\x01\x00"

SMTP_INSIDE = (
    (C, b"EHLO client.example\r\n"),
    (S, b"250-mail.example\r\n250 AUTH PLAIN\r\n"),
    (C, b"AUTH PLAIN AGhhbmFrbwBzZWNyZXQ=\r\n"),
    (S, b"235 2.7.0 OK\r\n"),
    (C, b"MAIL FROM:<hanako@mail.example>\r\n"),
    (S, b"250 2.1.0 OK\r\n"),
    (C, b"QUIT\r\n"),
    (S, b"221 2.0.0 bye\r\n"),
)


@pytest.mark.parametrize(
    ("port", "said", "protocol"),
    [
        (9999, [(S, b"220 x ESMTP\r\n"), (C, b"EHLO x\r\n")], SMTP),
        (9999, [(S, b"220 x ESMTP\r\n")], SMTP),
        (110, [(S, b"220 x\r\n"), (C, b"helo x\r\n")], SMTP),
        (9999, [(S, b"220 FTP ready\r\n"), (C, b"USER anonymous\r\n")], UNKNOWN),
        (9999, [(S, b"+OK ready\r\n"), (C, b"USER x\r\n")], POP3),
        (25, [(S, b"+OK ready\r\n"), (C, b"CAPA\r\n")], POP3),
        (9999, [(C, b"MAIL FROM:<a@b>\r\n")], SMTP),
        (9999, [(C, b"GET / HTTP/1.1\r\n"), (S, b"HTTP/1.1 200 OK\r\n")], UNKNOWN),
        (9999, [(S, b"* OK IMAP4\r\n"), (C, b"a1 LOGIN x y\r\n")], UNKNOWN),
        (9999, [(C, CLIENT_HELLO)], TLS),
        (465, [(C, CLIENT_HELLO)], SMTPS),
        (995, [(C, CLIENT_HELLO)], POP3S),
        (465, [(C, CLIENT_HELLO), (S, b"220 x ready\r\n")], SMTP),
        (465, [(S, b"220-x\r\n220 x\r\n"), (C, CLIENT_HELLO)], SMTP),
        (9999, [(C, CLIENT_HELLO), (S, b"220 x ESMTP\r\n")], SMTP),
        (9999, [(C, CLIENT_HELLO), (S, b"220 FTP ready\r\n")], TLS),
        (995, [(C, CLIENT_HELLO), (S, b"+OK ready\r\n")], POP3),
        (25, [], SMTP),
        (587, [], SMTP),
        (2525, [(S, b"554 no\r\n")], SMTP),
        (110, [], POP3),
    ],
)
def test_the_protocol_is_known_by_content_and_then_by_port(
    port: int, said: list[tuple[Side, bytes]], protocol: Protocol
) -> None:
    assert dissect(flow_of(said, port=port)).protocol is protocol


def test_a_protocol_that_is_asked_for_overrules_both() -> None:
    flow = flow_of([(S, b"+OK\r\n"), (C, b"USER x\r\n")], port=110)
    assert [command.verb for command in dissect(flow, protocol=SMTP).commands] == ["USER"]
    assert dissect(flow, protocol=UNKNOWN).commands == ()
    assert dissect(flow, protocol=SMTPS).tls is not None


def test_lines_are_in_the_order_of_the_wire_even_when_commands_are_pipelined() -> None:
    said = [
        (S, b"220 x\r\n"),
        (C, b"EHLO x\r\nMAIL FROM:<a@b>\r\n"),
        (S, b"250 x\r\n"),
        (S, b"250 ok\r\n"),
        (C, b"QUIT\r\n"),
    ]
    conversation = dissect(flow_of(said, cuts=(3, 11)))
    assert [line.text for line in conversation.lines] == [
        "220 x",
        "EHLO x",
        "MAIL FROM:<a@b>",
        "250 x",
        "250 ok",
        "QUIT",
    ]
    assert [line.packet for line in conversation.lines] == sorted(line.packet for line in conversation.lines)


def test_a_client_that_speaks_tls_to_a_server_in_the_clear() -> None:
    said = [(S, b"220 x ESMTP\r\n"), (C, CLIENT_HELLO), (S, b"402 4.5.2 what?\r\n")]
    conversation = dissect(flow_of(said, port=465))
    assert [(line.text.split(",")[0], line.visibility) for line in conversation.lines] == [
        ("220 x ESMTP", Visibility.READABLE),
        ("ClientHello", Visibility.HANDSHAKE),
        ("402 4.5.2 what?", Visibility.READABLE),
    ]
    assert [reply.code for reply in conversation.replies] == ["220", "402"]


def test_the_streams_of_pop3_are_scanned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scanned, scan = [], pop3.Pop3Scanner.read
    monkeypatch.setattr(pop3.Pop3Scanner, "read", lambda scanner: scanned.append(scanner) or scan(scanner))
    conversation = dissect(flow_of([(S, b"+OK\r\n"), (C, b"STAT\r\n"), (S, b"+OK 0 0\r\n")], port=110))
    assert [command.verb for command in conversation.commands] == ["STAT"]
    assert [reply.code for reply in conversation.replies] == ["+OK", "+OK"]
    assert len(scanned) == 1


def test_an_unknown_protocol_is_told_in_a_line_for_each_side() -> None:
    conversation = dissect(flow_of([(C, b"GET / HTTP/1.1\r\n"), (S, b"x")], port=9999))
    assert [(line.side, line.text) for line in conversation.lines] == [
        (C, "unknown protocol: 16 octets"),
        (S, "unknown protocol: 1 octet"),
    ]


def test_what_is_no_tls_record_is_readable() -> None:
    conversation = dissect(flow_of([(C, CLIENT_HELLO), (S, b"HTTP/1.1 400 no\r\n\r\n")], port=465))
    line = conversation.lines[-1]
    assert (line.text, line.visibility) == ("not a TLS record: 19 octets", Visibility.READABLE)


def test_each_line_and_command_knows_the_packet_that_its_first_byte_came_in() -> None:
    flow = flow_of([(S, b"220 x\r\n"), (C, b"EHLO x\r\n"), (C, b"QUIT\r\n")])
    conversation = dissect(flow)
    assert [(command.verb, command.packet) for command in conversation.commands] == [("EHLO", 5), ("QUIT", 6)]
    for line in conversation.lines:
        assert line.packet == flow.stream(line.side).segment_at(line.start).packet


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("tls"))


def exchange(maker: Maker, version: ssl.TLSVersion, port: int, *, upgrade: bool) -> tuple[Flow, KeyLog]:
    before = (
        (b"EHLO client.example\r\nSTARTTLS\r\n", b"220 x\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n")
        if upgrade
        else (b"", b"")
    )
    talk = SMTP_INSIDE if upgrade else ((S, b"220 mail.example ESMTP\r\n"), *SMTP_INSIDE)
    made = maker.exchange(maker.contexts(version), talk, before=before)
    return flow_from(made.client, made.server, port), parse_keylog(made.keylog)


def check(conversation: Dissection) -> None:
    for side in Side:
        assert untiled(conversation.spans(side), 0, len(conversation.flow.stream(side).data)) == ""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("upgrade", [False, True])
def test_a_session_inside_tls_is_opened_by_its_key_log_alone(
    maker: Maker, version: ssl.TLSVersion, upgrade: bool
) -> None:
    flow, keylog = exchange(maker, version, 587 if upgrade else 465, upgrade=upgrade)
    sealed, conversation = dissect(flow), dissect(flow, keylog=keylog)
    check(sealed)
    assert sealed.opened is None
    assert conversation.tls is not None
    assert conversation.tls.version == {"TLSv1_2": "TLS 1.2", "TLSv1_3": "TLS 1.3"}[version.name]
    assert conversation.tls.server_name == "mail.example"
    assert conversation.tls.started == ("STARTTLS" if upgrade else "implicit")
    assert conversation.lines == sealed.lines
    assert [line.kind for line in conversation.lines].count(LineKind.TLS) == len(conversation.lines) - (
        6 if upgrade else 0
    )
    assert any(line.visibility is Visibility.HIDDEN for line in conversation.lines)
    opened = conversation.opened
    assert opened is not None
    check(opened)
    assert opened.protocol is SMTP
    assert [command.verb for command in opened.commands] == ["EHLO", "AUTH", "MAIL", "QUIT"]
    assert [reply.code for reply in opened.replies] == ([] if upgrade else ["220"]) + ["250", "235", "250", "221"]
    assert "smtp.ehlo.auth.keyword" in {span.field for span in leaves(opened.server_spans)}
    assert {line.packet for line in opened.lines} <= {line.packet for line in conversation.lines}


def test_a_key_log_of_another_session_opens_nothing_and_says_why(maker: Maker) -> None:
    flow, _keylog = exchange(maker, ssl.TLSVersion.TLSv1_3, 465, upgrade=False)
    _flow, other = exchange(maker, ssl.TLSVersion.TLSv1_3, 465, upgrade=False)
    conversation = dissect(flow, keylog=other)
    assert conversation.opened is None
    assert conversation.closed_because
    check(conversation)


def test_a_gap_in_the_plaintext_before_tls_is_survived(maker: Maker) -> None:
    flow, _keylog = exchange(maker, ssl.TLSVersion.TLSv1_3, 587, upgrade=True)
    at = len(b"EHLO client.example\r\n")
    client = type(flow.client_stream)(C, flow.client_stream.data, flow.client_stream.segments, (Gap(at, 40),))
    conversation = dissect(flow_from(client, flow.server_stream, 587))
    check(conversation)
    assert conversation.tls is not None
    assert conversation.tls.version == "TLS 1.3"


def test_decoding_the_public_captures_tiles_every_byte(shared_captures: Path) -> None:
    captures = sorted(shared_captures.glob("*.pcap"))
    assert len(captures) > 15
    for path in captures:
        for flow in reassemble(pcap.read(path).frames):
            check(dissect(flow))
