"""Key logs, on sessions that OpenSSL made: every kind of suite, resumption, retry, key update, STARTTLS; tshark agrees."""

import ssl
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.decode.dissection import dissect
from labkit.decode.spans import Visibility, leaves, untiled
from labkit.decode.tls import decrypt
from labkit.decode.tls import session as tls
from labkit.decode.tls.spans import handshake_spans
from labkit.errors import BadKeyLog
from labkit.wire import pcap
from labkit.wire.flows import Gap, Side, Stream, reassemble
from tests.conftest import examples, output_of
from tests.decode.conftest import flow_from
from tests.decode.handshakes import NO_ENCRYPT_THEN_MAC, Exchange, Maker, openssl_exchange

SAID, ANSWERED = b"EHLO client.example\r\n", b"250 mail.example\r\n"
V12 = ssl.TLSVersion.TLSv1_2
V10, V11, V13 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_3
SUITES = [
    (V12, "AES128-GCM-SHA256", 0),
    (V12, "ECDHE-RSA-AES256-GCM-SHA384", 0),
    (V12, "ECDHE-RSA-CHACHA20-POLY1305", 0),
    (V12, "AES128-CCM", 0),
    (V12, "AES256-CCM8", 0),
    (V12, "AES128-SHA", 0),
    (V12, "ECDHE-RSA-AES128-SHA256", 0),
    (V12, "AES256-SHA256", NO_ENCRYPT_THEN_MAC),
    (V12, "ECDHE-RSA-AES256-SHA384", NO_ENCRYPT_THEN_MAC),
    (V11, "ECDHE-RSA-AES128-SHA", 0),
    (V11, "AES256-SHA", NO_ENCRYPT_THEN_MAC),
    (V10, "ECDHE-RSA-AES256-SHA", 0),
    (V10, "AES128-SHA", NO_ENCRYPT_THEN_MAC),
]


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("decrypt"))


@pytest.fixture(scope="module")
def modern(maker: Maker) -> Exchange:
    return maker.exchange(maker.contexts(V13))


def opened(client: Stream, server: Stream, keylog: str, client_start: int = 0, server_start: int = 0) -> decrypt.Opened:
    session = tls.read(client, server, client_start, server_start)
    return decrypt.open_session(session, client, server, decrypt.parse_keylog(keylog))


@pytest.mark.parametrize(("version", "suite", "options"), SUITES)
def test_every_kind_of_suite(maker: Maker, version: ssl.TLSVersion, suite: str, options: int) -> None:
    exchange = maker.exchange(maker.contexts(version, suite, options))
    assert exchange.cipher == suite
    found = opened(exchange.client, exchange.server, exchange.keylog)
    assert (found.client.data, found.server.data, found.hidden) == (SAID, ANSWERED, ())
    segment = found.server.segments[0]
    assert (segment.start, segment.end) == (0, len(ANSWERED))
    record = next(record for record in tls.read(exchange.client, exchange.server).records if record.application)
    assert found.client.segments[0].packet == exchange.client.segment_at(record.start).packet
    assert found.client.segments[0].time == exchange.client.segment_at(record.start).time


@pytest.mark.parametrize(
    "suite", ["AES_128_GCM_SHA256", "CHACHA20_POLY1305_SHA256", "AES_128_CCM_SHA256", "AES_128_CCM_8_SHA256"]
)
def test_every_suite_of_tls_13(maker: Maker, suite: str) -> None:
    options = ["-tls1_3", "-ciphersuites", f"TLS_{suite}"]
    client, server, keylog = openssl_exchange(maker, options, options, ["hello"])
    session = tls.read(client, server)
    assert session.cipher == f"TLS_{suite}"
    found = opened(client, server, keylog)
    assert (found.client.data, found.server.data, found.hidden) == (b"hello\n", b"olleh\n", ())


def test_key_updates_by_either_side(maker: Maker) -> None:
    lines = ["before", "k", "middle", "K", "end"]
    client, server, keylog = openssl_exchange(maker, ["-tls1_3"], ["-tls1_3"], lines)
    found = opened(client, server, keylog)
    assert found.client.data == b"before\nmiddle\nend\n"
    assert found.server.data == b"erofeb\nelddim\ndne\n"
    assert found.hidden == ()
    assert found.client_handshake.data.count(b"\x18\x00\x00\x01") == 2


def test_hello_retry_request(maker: Maker) -> None:
    client, server, keylog = openssl_exchange(maker, ["-groups", "P-384"], ["-groups", "X25519:P-384"], ["hello"])
    session = tls.read(client, server)
    hellos = [record.about for record in session.records if "Hello" in record.about]
    assert [about.split(",")[0] for about in hellos] == [
        "ClientHello",
        "HelloRetryRequest",
        "ClientHello",
        "ServerHello",
    ]
    assert opened(client, server, keylog).client.data == b"hello\n"


@pytest.mark.parametrize("version", [V12, V13])
def test_resumption(maker: Maker, version: ssl.TLSVersion) -> None:
    contexts = maker.contexts(version)
    first = maker.exchange(contexts)
    second = maker.exchange(contexts, session=first.session)
    assert second.reused
    found = opened(second.client, second.server, second.keylog)
    assert (found.client.data, found.server.data, found.hidden) == (SAID, ANSWERED, ())


@pytest.mark.parametrize("version", [V12, V13])
def test_starttls_in_mid_flow(maker: Maker, version: ssl.TLSVersion) -> None:
    before = (b"EHLO a\r\nSTARTTLS\r\n", b"220 mail.example\r\n250 STARTTLS\r\n220 go\r\n")
    exchange = maker.exchange(maker.contexts(version), before=before)
    starts = len(before[0]), len(before[1])
    session = tls.read(exchange.client, exchange.server, *starts)
    assert untiled(session.client_spans, starts[0], len(exchange.client.data)) == ""
    assert untiled(session.server_spans, starts[1], len(exchange.server.data)) == ""
    found = opened(exchange.client, exchange.server, exchange.keylog, *starts)
    assert (found.client.data, found.server.data, found.hidden) == (SAID, ANSWERED, ())


@pytest.mark.parametrize("version", [V12, V13])
def test_a_long_talk_in_both_directions(maker: Maker, version: ssl.TLSVersion) -> None:
    letter = bytes(range(256)) * 500
    talk = [(Side.CLIENT, SAID), (Side.SERVER, ANSWERED), (Side.CLIENT, letter), (Side.SERVER, letter[::-1])] * 2
    exchange = maker.exchange(maker.contexts(version), talk)
    found = opened(exchange.client, exchange.server, exchange.keylog)
    assert found.client.data == (SAID + letter) * 2
    assert found.server.data == (ANSWERED + letter[::-1]) * 2
    ends = [segment.end for segment in found.client.segments]
    assert [segment.start for segment in found.client.segments] == [0, *ends[:-1]]


def test_the_encrypted_handshake_can_be_explained(modern: Exchange) -> None:
    session = tls.read(modern.client, modern.server)
    found = opened(modern.client, modern.server, modern.keylog)
    spans = handshake_spans(found.server_handshake, session.context)
    assert untiled(spans, 0, len(found.server_handshake.data)) == ""
    names = [span.value for span in spans]
    assert names[:4] == ["EncryptedExtensions", "Certificate", "CertificateVerify", "Finished"]
    assert set(names[4:]) == {"NewSessionTicket"}
    assert {leaf.visibility for leaf in leaves(spans)} == {Visibility.HIDDEN}
    assert not [leaf for leaf in leaves(spans) if leaf.field.endswith(".rest")]
    shaken = dissect(
        flow_from(modern.client, modern.server, 465), keylog=decrypt.parse_keylog(modern.keylog)
    ).opened_handshake
    assert shaken is not None
    assert shaken.spans(Side.SERVER) == spans
    assert [span.value for span in shaken.spans(Side.CLIENT)][-1:] == ["Finished"]


# What stays hidden, and why


def changed(stream: Stream, at: int) -> Stream:
    octets = bytearray(stream.data)
    octets[at] ^= 1
    return Stream(stream.side, bytes(octets), stream.segments)


def test_a_wrong_key_opens_nothing(modern: Exchange) -> None:
    wrong = "\n".join(line[:-4] + ("0000" if line[-4:] != "0000" else "1111") for line in modern.keylog.splitlines())
    found = opened(modern.client, modern.server, wrong)
    assert (found.client.data, found.server.data) == (b"", b"")
    assert {reason for _side, _start, reason in found.hidden} == {
        "No key in the key log opens this record: the key is wrong, or the record was changed on the way."
    }


def test_the_key_log_of_another_session_says_what_is_missing(maker: Maker, modern: Exchange) -> None:
    other = maker.exchange(maker.contexts(V12))
    for exchange, keylog, label in (
        (modern, other.keylog, "TRAFFIC_SECRET_0"),
        (other, modern.keylog, "CLIENT_RANDOM"),
    ):
        found = opened(exchange.client, exchange.server, keylog)
        encrypted = [record for record in tls.read(exchange.client, exchange.server).records if record.encrypted]
        assert {(side, start) for side, start, _ in found.hidden} == {
            (record.side, record.start) for record in encrypted
        }
        assert all(f"{label} for this session" in reason for _side, _start, reason in found.hidden)


@pytest.mark.parametrize("version", [V12, V13])
def test_a_changed_record_stays_hidden_and_the_next_opens(maker: Maker, version: ssl.TLSVersion) -> None:
    talk = [(Side.CLIENT, SAID), (Side.CLIENT, b"second\r\n"), (Side.CLIENT, b"third\r\n")]
    exchange = maker.exchange(maker.contexts(version), talk)
    records = [record for record in tls.read(exchange.client, exchange.server).records if record.side is Side.CLIENT]
    second = [record for record in records if record.application][1]
    found = opened(changed(exchange.client, second.end - 1), exchange.server, exchange.keylog)
    assert found.client.data == SAID + b"third\r\n"
    assert [(side, start) for side, start, _ in found.hidden] == [(Side.CLIENT, second.start)]
    assert [gap.at for gap in found.client.gaps] == [len(SAID)]


@pytest.mark.parametrize(
    ("version", "suite", "options", "after"),
    [
        (V13, "", 0, b"line 6\r\nline 7\r\n"),
        (V12, "ECDHE-RSA-AES128-GCM-SHA256", 0, b"line 6\r\nline 7\r\n"),
        (V12, "AES128-SHA", 0, b"line 6\r\nline 7\r\n"),
        # TLS 1.0 sends an empty record before each line. It takes its IV from the record before, and where only the
        # ciphertext is authenticated nothing vouches for an IV that was left by a record with a hole.
        (V10, "AES128-SHA", NO_ENCRYPT_THEN_MAC, b"line 5\r\nline 6\r\nline 7\r\n"),
        (V10, "AES128-SHA", 0, b"line 6\r\nline 7\r\n"),
    ],
)
def test_opening_goes_on_after_lost_records(
    maker: Maker, version: ssl.TLSVersion, suite: str, options: int, after: bytes
) -> None:
    lines = [(Side.CLIENT, f"line {number}\r\n".encode()) for number in range(8)]
    exchange = maker.exchange(maker.contexts(version, suite, options), lines)
    records = tls.read(exchange.client, exchange.server).records
    ours = [record for record in records if record.side is Side.CLIENT and record.application]
    each = len(ours) // len(lines)
    lost = range(ours[2 * each].start + 9, ours[5 * each].start + 3)  # the end of one, whole ones, the beginning of one
    data = exchange.client.data[: lost.start] + exchange.client.data[lost.stop :]
    found = opened(Stream(Side.CLIENT, data, (), (Gap(lost.start, len(lost)),)), exchange.server, exchange.keylog)
    assert found.client.data == b"line 0\r\nline 1\r\n" + after


def test_without_hellos_the_reason_is_told(modern: Exchange) -> None:
    first = next(record for record in tls.read(modern.client, modern.server).records if record.encrypted)
    start = first.start if first.side is Side.SERVER else 0
    found = opened(Stream(Side.CLIENT, b""), Stream(Side.SERVER, modern.server.data[start:]), modern.keylog)
    assert found.server.data == b""
    assert "both hellos" in found.hidden[0][2]


@settings(max_examples=examples(25), deadline=None)
@given(data=st.data())
def test_damaged_sessions_never_raise_and_never_lie(modern_sessions: list[Exchange], data: st.DataObject) -> None:
    exchange = data.draw(st.sampled_from(modern_sessions))
    streams = []
    for stream in (exchange.client, exchange.server):
        octets = bytearray(stream.data)
        for at, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(octets) - 1), st.integers(0, 255)), max_size=5)
        ):
            octets[at] = value
        streams.append(Stream(stream.side, bytes(octets[: data.draw(st.integers(0, len(octets)))])))
    found = opened(*streams, exchange.keylog)
    assert found.client.data in (SAID, b"")
    assert found.server.data in (ANSWERED, b"")


@pytest.fixture(scope="module")
def modern_sessions(maker: Maker, modern: Exchange) -> list[Exchange]:
    cbc = [maker.exchange(maker.contexts(V12, "AES128-SHA", options)) for options in (0, NO_ENCRYPT_THEN_MAC)]
    return [modern, *cbc]


# Key logs


def test_comments_unknown_labels_and_damaged_lines_are_passed_over() -> None:
    random, secret = "ab" * 32, "cd" * 48
    lines = ["# made by hand", "", "RSA 0011 2233", f"EXPORTER_SECRET {random} {secret}"]
    text = "\r\n".join([*lines, f"CLIENT_RANDOM {random} {secret}", f"CLIENT_RANDOM {random}"])
    keylog = decrypt.parse_keylog(text)
    assert keylog.secret("CLIENT_RANDOM", bytes.fromhex(random)) == bytes.fromhex(secret)
    assert len(keylog.secrets) == 1
    assert secret not in repr(keylog)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("# x\n\nhello\n", "Line 3 "),
        ("CLIENT_RANDOM abc def\n", "Line 1 "),
        ("\x00\xff", "Line 1 "),
    ],
)
def test_what_is_no_key_log(text: str, told: str) -> None:
    with pytest.raises(BadKeyLog, match=told) as raised:
        decrypt.parse_keylog(text)
    assert "CLIENT_RANDOM" in str(raised.value)


# Captures of others


@pytest.mark.parametrize(
    ("capture", "keys", "options"),
    [
        ("illustrated-tls13_capture.pcap", "illustrated-tls13_keylog.txt", ["-d", "tcp.port==8400,tls"]),
        ("zeek_tls12-decryption.pcap", "zeek_tls12-decryption.keys.txt", []),
    ],
)
def test_opened_bytes_are_those_that_tshark_opens(
    shared_captures: Path, capture: str, keys: str, options: list[str]
) -> None:
    path, keylog = shared_captures / capture, shared_captures / keys
    (flow,) = [flow for flow in reassemble(pcap.read(path).frames) if flow.client_stream.data]
    found = opened(flow.client_stream, flow.server_stream, keylog.read_text())
    assert found.hidden == ()
    raw = output_of("tshark", "-r", path, *options, "-o", f"tls.keylog_file:{keylog}", "-q", "-z", "follow,tls,raw,0")
    lines = [line for line in raw.splitlines() if line and set(line.strip()) <= set("0123456789abcdef")]
    theirs = [b"".join(bytes.fromhex(line) for line in lines if line.startswith("\t") is tab) for tab in (True, False)]
    assert sorted(theirs) == sorted([found.client.data, found.server.data])  # tshark may swap the two


def test_a_long_message_is_opened_whole(maker: Maker) -> None:
    message = bytes(1_500_000)
    exchange = maker.exchange(maker.contexts(V13), [(Side.CLIENT, message)])
    assert opened(exchange.client, exchange.server, exchange.keylog).client.data == message
