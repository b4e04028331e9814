"""TLS in clear: against tshark on captures of others, against OpenSSL on its own sessions, and against any bytes at all."""

import re
import ssl
from itertools import pairwise
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.decode.fields import Cutter
from labkit.decode.spans import Span, Visibility, leaves, untiled
from labkit.decode.tls import session as tls
from labkit.decode.tls.certificate import certificate
from labkit.decode.tls.names import CIPHER_SUITES, EXTENSIONS, HANDSHAKE_TYPES
from labkit.wire import pcap
from labkit.wire.flows import Flow, Gap, Side, Stream, reassemble
from tests.conftest import examples, output_of
from tests.decode.handshakes import NAME, Exchange, Maker, cut_again
from tests.decode.tshark import rows

# capture, TCP port of the server, how tshark is told
CAPTURES = {
    "illustrated-tls13_capture.pcap": ["-d", "tcp.port==8400,tls"],
    "zeek_tls12-decryption.pcap": [],
    "zeek_hrr.pcap": ["-d", "tcp.port==1-65535,tls"],
    "zeek_smtp-starttls.pcap": ["-d", "tcp.port==25,smtp", "-d", "tcp.port==587,smtp"],
    "sv_smtp-tls-protodetect.pcap": ["-d", "tcp.port==1-65535,tls"],
}


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def exchanges(maker: Maker) -> dict[str, Exchange]:
    versions = {
        "TLS 1.3": (ssl.TLSVersion.TLSv1_3, ""),
        "TLS 1.2": (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-GCM-SHA256"),
    }
    versions["TLS 1.0"] = (ssl.TLSVersion.TLSv1, "AES128-SHA")
    return {name: maker.exchange(maker.contexts(*version)) for name, version in versions.items()}


def session_in(flow: Flow) -> tls.TlsSession:
    """The TLS session of a flow, which may begin after STARTTLS."""
    client, server = flow.client_stream, flow.server_stream
    if tls.looks_like_tls(client.data):
        return tls.read(client, server)
    asked = client.data.upper().find(b"STARTTLS\r\n") + len(b"STARTTLS\r\n")
    answered = server.data.index(b"\r\n", server.data.rindex(b"\n220", 0, server.data.index(b"\x16\x03"))) + 2
    return tls.read(client, server, asked, answered)


def flows_of(path: Path) -> tuple[Flow, ...]:
    return reassemble(pcap.read(path).frames)


def tshark(path: Path, options: list[str], *fields: str, only: str = "tls") -> list[list[str]]:
    """tshark's fields, several values of one joined with |."""
    found = rows(path, only, *fields, options=["-o", "tcp.reassemble_out_of_order:TRUE", *options])
    return [["|".join(values) for values in row] for row in found]


def of_field(spans: tuple[Span, ...], field: str) -> list[Span]:
    found = [span for span in spans if span.field == field]
    return found + [inner for span in spans for inner in of_field(span.children, field)]


def check_spans(session: tls.TlsSession) -> None:
    """The contract of spans, on both sides, and that every leaf says what it is and where that is written."""
    for spans, stream, start in (
        (session.client_spans, session.client, session.client_start),
        (session.server_spans, session.server, session.server_start),
    ):
        assert untiled(spans, start, len(stream.data)) == ""
        for leaf in leaves(spans):
            assert leaf.meaning, leaf
            assert leaf.source, leaf


# Against tshark


def numbers(told: str) -> tuple[int, ...]:
    return tuple(int(number, 0) for number in told.split("|") if number)


@pytest.mark.parametrize("name", CAPTURES)
def test_what_tshark_says_of_the_hellos(shared_captures: Path, name: str) -> None:
    path, options = shared_captures / name, CAPTURES[name]
    ours = [session_in(flow) for flow in flows_of(path) if b"\x16\x03" in flow.client_stream.data]
    client = tshark(
        path,
        options,
        "tls.handshake.extensions_server_name",
        "tls.handshake.ciphersuite",
        "tls.handshake.extension.type",
        "tls.handshake.random",
        only="tls.handshake.type==1",
    )
    first = {row[3].split("|")[0]: row for row in reversed(client)}  # a HelloRetryRequest makes a second one
    assert len(ours) == len(first)
    for session in ours:
        row = first[session.client_random.hex()]
        hello = session.client_hello
        assert hello
        assert (session.server_name or "") == row[0]
        assert [hello.suites, tuple(kind for kind, _content in hello.extensions)] == [numbers(row[1]), numbers(row[2])]
    server = tshark(
        path,
        options,
        "tls.handshake.ciphersuite",
        "tls.handshake.version",
        "tls.handshake.extensions.supported_version",
        only="tls.handshake.type==2",
    )
    expected = []
    for suite, version, supported in server:
        expected.append(
            (CIPHER_SUITES[int(suite, 0)], {"0x0303": "TLS 1.2", "0x0304": "TLS 1.3"}[supported or version])
        )
    assert [(session.cipher, session.version) for session in ours if session.version] == expected[: len(ours)]


@pytest.mark.parametrize("name", CAPTURES)
def test_the_handshake_in_the_order_that_tshark_sees(shared_captures: Path, name: str) -> None:
    path, options = shared_captures / name, CAPTURES[name]
    expected: dict[str, list[str]] = {}
    for types, source in tshark(path, options, "tls.handshake.type", "tcp.srcport", only="tls.handshake.type"):
        expected.setdefault(source, []).extend(HANDSHAKE_TYPES[int(number)] for number in types.split("|") if number)
    for flow in flows_of(path):
        if b"\x16\x03" not in flow.client_stream.data:
            continue
        session = session_in(flow)
        for spans, endpoint in ((session.client_spans, flow.client), (session.server_spans, flow.server)):
            names = [
                span.value.replace("HelloRetryRequest", "ServerHello") for span in of_field(spans, "tls.handshake")
            ]
            assert names == expected.get(str(endpoint.port), [])
        check_spans(session)


@pytest.mark.parametrize("name", CAPTURES)
def test_every_extension_that_tshark_sees(shared_captures: Path, name: str) -> None:
    path, options = shared_captures / name, CAPTURES[name]
    rows = tshark(path, options, "tls.handshake.extension.type", only="tls.handshake.type==1")
    expected = [EXTENSIONS[int(number)] for row in rows for number in row[0].split("|") if number]
    found = [
        span.value
        for flow in flows_of(path)
        if b"\x16\x03" in flow.client_stream.data
        for span in of_field(session_in(flow).client_spans, "tls.extension.type")
    ]
    assert found == expected


def test_certificates_as_tshark_reads_them(shared_captures: Path) -> None:
    path = shared_captures / "zeek_tls12-decryption.pcap"
    (row,) = tshark(path, [], "x509ce.dNSName", "x509af.serialNumber", only="tls.handshake.type==11")
    (flow,) = [flow for flow in flows_of(path) if flow.client_stream.data]
    spans = session_in(flow).server_spans
    serials = [span.value.lstrip("0") for span in of_field(spans, "x509.serial")]
    assert serials == [serial.removeprefix("0x").replace(":", "").lstrip("0") for serial in row[1].split("|")]
    names = [span.value for span in of_field(spans, "x509.general_names")]
    assert ", ".join(names) == row[0].replace("|", ", ")
    subjects = [span.value for span in of_field(spans, "x509.subject")]
    assert subjects == ["CN=heise.de", "C=US, O=Let's Encrypt, CN=R3"]


# Against OpenSSL


@pytest.mark.parametrize("version", ["TLS 1.3", "TLS 1.2", "TLS 1.0"])
def test_what_both_ends_agreed_on(exchanges: dict[str, Exchange], version: str) -> None:
    exchange = exchanges[version]
    session = tls.read(exchange.client, exchange.server)
    assert tls.looks_like_tls(exchange.client.data)
    assert tls.looks_like_tls(exchange.server.data)
    assert session.version == version
    assert session.server_name == NAME
    assert {"TLS 1.3": exchange.cipher, "TLS 1.2": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}.get(
        version, "TLS_RSA_WITH_AES_128_CBC_SHA"
    ) == session.cipher
    assert session.client_random.hex() in exchange.keylog
    check_spans(session)


@pytest.mark.parametrize("version", ["TLS 1.3", "TLS 1.2"])
def test_where_application_data_begins(exchanges: dict[str, Exchange], version: str) -> None:
    exchange = exchanges[version]
    session = tls.read(exchange.client, exchange.server)
    theirs = [record for record in session.records if record.application and record.side is Side.CLIENT]
    assert len(theirs) == (2 if version == "TLS 1.3" else 1)  # TLS 1.3 disguises close_notify as well
    before = session.records[: session.records.index(theirs[0])]
    assert {record.side for record in before} == set(Side)
    assert not [record for record in before if record.application and record.side is Side.CLIENT]
    assert theirs[0].about == f"application data, {theirs[0].end - theirs[0].start - 5} bytes"


def test_records_are_in_the_order_of_the_wire(exchanges: dict[str, Exchange]) -> None:
    for exchange in exchanges.values():
        records = tls.read(exchange.client, exchange.server).records
        streams = {Side.CLIENT: exchange.client, Side.SERVER: exchange.server}
        packets = [streams[record.side].segment_at(record.start).packet for record in records]
        assert packets == sorted(packets)
        assert len(set(packets)) > 4


def test_hidden_is_what_is_encrypted(exchanges: dict[str, Exchange]) -> None:
    for exchange in exchanges.values():
        session = tls.read(exchange.client, exchange.server)
        for side, spans in ((Side.CLIENT, session.client_spans), (Side.SERVER, session.server_spans)):
            hidden = {span.start for span in spans if span.visibility is Visibility.HIDDEN}
            assert hidden == {record.start for record in session.records if record.encrypted and record.side is side}
            assert hidden


def test_certificate_is_hidden_only_by_tls_13(exchanges: dict[str, Exchange]) -> None:
    for version, visible in (("TLS 1.3", False), ("TLS 1.2", True)):
        session = tls.read(exchanges[version].client, exchanges[version].server)
        assert bool(of_field(session.server_spans, "x509.subject")) is visible


def test_every_suite_has_the_name_that_openssl_gives_it() -> None:
    listed = output_of("openssl", "ciphers", "-V", "-stdname", "ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    found = re.findall(r"0x(..),0x(..) - (\S+)", listed)
    assert len(found) > 50
    assert {int(high + low, 16): name for high, low, name in found}.items() <= CIPHER_SUITES.items()


@pytest.mark.parametrize("kind", ["RSA", "ECDSA"])
def test_certificate_fields_as_cryptography_reads_them(tmp_path: Path, kind: str) -> None:
    made = Maker(tmp_path, kind=trustme.KeyType[kind]).certificate
    theirs = x509.load_pem_x509_certificate(made.cert_chain_pems[0].bytes())
    data = theirs.public_bytes(Encoding.DER)
    cut = Cutter(data, 0, len(data), "RFC 5280")
    certificate(cut)
    spans = tuple(cut.spans)
    assert untiled(spans, 0, len(data)) == ""

    def value(field: str) -> str:
        return of_field(spans, field)[0].value

    assert int(value("x509.serial"), 16) == theirs.serial_number
    for field, name in (("x509.subject", theirs.subject), ("x509.issuer", theirs.issuer)):
        assert value(field) == ", ".join(f"{part.rfc4514_attribute_name}={part.value}" for part in name)
    for field, moment in (
        ("x509.not_before", theirs.not_valid_before_utc),
        ("x509.not_after", theirs.not_valid_after_utc),
    ):
        assert value(field) == moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    alternative = theirs.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert value("x509.general_names") == ", ".join(str(name.value) for name in alternative)
    assert value("x509.public_key") == ("rsaEncryption 2048 bits" if kind == "RSA" else "ecPublicKey secp256r1")


# However the bytes were cut


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=6), version=st.sampled_from(["TLS 1.3", "TLS 1.2"]))
def test_messages_split_over_records(exchanges: dict[str, Exchange], sizes: list[int], version: str) -> None:
    exchange = exchanges[version]
    whole = tls.read(exchange.client, exchange.server)
    cut = tls.read(
        Stream(Side.CLIENT, cut_again(exchange.client.data, sizes)),
        Stream(Side.SERVER, cut_again(exchange.server.data, sizes)),
    )
    for field in ("version", "cipher", "server_name", "client_random", "client_hello"):
        assert getattr(cut, field) == getattr(whole, field)
    check_spans(cut)

    assert explained(cut) == explained(whole)


def explained(session: tls.TlsSession) -> list[tuple[str, str]]:
    """What the leaves say, records aside; the pieces of a leaf that was split say it once."""
    spans = (*session.client_spans, *session.server_spans)
    said = [(leaf.field, leaf.value) for leaf in leaves(spans) if not leaf.field.startswith("tls.record")]
    return list(dict.fromkeys(said))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_sessions_are_still_tiled(exchanges: dict[str, Exchange], data: st.DataObject) -> None:
    exchange = exchanges[data.draw(st.sampled_from(list(exchanges)))]
    streams = []
    for stream in (exchange.client, exchange.server):
        octets = bytearray(stream.data)
        for at, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(octets) - 1), st.integers(0, 255)), max_size=8)
        ):
            octets[at] = value
        end = data.draw(st.integers(0, len(octets)))
        gap = st.tuples(st.integers(0, end), st.integers(1, 5000))
        gaps = data.draw(st.lists(gap, max_size=3, unique_by=lambda gap: gap[0]))
        streams.append(Stream(stream.side, bytes(octets[:end]), (), tuple(Gap(*gap) for gap in sorted(gaps))))
    start = min(data.draw(st.integers(0, 40)), len(streams[0].data))
    session = tls.read(streams[0], streams[1], start, 0)
    assert untiled(session.client_spans, start, len(streams[0].data)) == ""
    assert untiled(session.server_spans, 0, len(streams[1].data)) == ""
    for stream, first in ((streams[0], start), (streams[1], 0)):
        edges = [first] + [record.end for record in session.records if record.side is stream.side]
        starts = [record.start for record in session.records if record.side is stream.side]
        assert starts == edges[:-1]
        assert edges[-1] == len(stream.data)


@settings(max_examples=examples(60), deadline=None)
@given(client=st.binary(max_size=300), server=st.binary(max_size=300), kind=st.integers(0, 30))
def test_any_bytes_are_tiled(client: bytes, server: bytes, kind: int) -> None:
    body = bytes([kind]) + len(server).to_bytes(3, "big") + server
    crafted = b"\x16\x03\x03" + len(body).to_bytes(2, "big") + body + server
    tls.looks_like_tls(client)
    session = tls.read(Stream(Side.CLIENT, client), Stream(Side.SERVER, crafted))
    assert untiled(session.client_spans, 0, len(client)) == ""
    assert untiled(session.server_spans, 0, len(crafted)) == ""


def test_any_der_is_tiled() -> None:
    @settings(max_examples=examples(80), deadline=None)
    @given(data=st.binary(min_size=1, max_size=200))
    def tiled(data: bytes) -> None:
        for wrapped in (data, b"\x30\x82" + len(data).to_bytes(2, "big") + data):
            cut = Cutter(wrapped, 0, len(wrapped))
            certificate(cut)
            cut.rest("rest")
            assert untiled(tuple(cut.spans), 0, len(wrapped)) == ""

    tiled()


def test_reading_goes_on_after_a_gap(exchanges: dict[str, Exchange]) -> None:
    """Lost: the end of the certificate and the beginning of what follows. The records after that are found again."""
    exchange = exchanges["TLS 1.2"]
    whole = tls.read(exchange.client, exchange.server)
    theirs = [record for record in whole.records if record.side is Side.SERVER]
    middle, after = next(pair for pair in pairwise(theirs) if pair[0].about == "Certificate")
    lost = range(middle.end - 100, after.start + 50)
    data = exchange.server.data[: lost.start] + exchange.server.data[lost.stop :]
    cut = tls.read(exchange.client, Stream(Side.SERVER, data, (), (Gap(lost.start, len(lost)),)))
    found = [record for record in cut.records if record.side is Side.SERVER]
    assert [record.missing for record in found if record.about == "Certificate"] == [100]
    assert [record.about for record in found][-3:] == [record.about for record in theirs][-3:]
    assert untiled(cut.server_spans, 0, len(data)) == ""


def test_alerts_say_what_happened() -> None:
    session = tls.read(Stream(Side.CLIENT, b""), Stream(Side.SERVER, b"\x15\x03\x01\x00\x02\x02\x28"))
    (record,) = session.records
    assert record.about == "alert: fatal, handshake_failure"
    assert [span.value for span in leaves(session.server_spans)][-2:] == ["fatal", "handshake_failure"]


OTHERS = [b"", b"\x16\x03", b"220 mail.example\r\n", b"EHLO client.example\r\n", b"\x16\x05\x01\x00\x05\x01"]


@pytest.mark.parametrize("data", OTHERS)
def test_other_protocols_do_not_look_like_tls(data: bytes) -> None:
    assert not tls.looks_like_tls(data)
