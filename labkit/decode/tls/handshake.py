"""Handshake messages, field by field: RFC 8446 section 4 for TLS 1.3, RFC 5246 section 7.4 for what came before.

The format of some messages depends on what the hellos agreed on, so every message is cut in a Context: the version, the
cipher suite, and who is speaking.
"""

from collections.abc import Callable
from dataclasses import dataclass

from labkit.decode.fields import Cutter
from labkit.decode.meanings import meaning_of, own_meaning
from labkit.decode.spans import Span
from labkit.decode.tls import names
from labkit.decode.tls.certificate import certificate
from labkit.decode.tls.extensions import Place, extensions, numbers
from labkit.decode.tls.hello import RETRY_RANDOM, TLS12, is_tls13
from labkit.decode.tls.names import name_of, naming, suite_name, version_name
from labkit.texts import _


@dataclass(frozen=True, slots=True)
class Context:
    """What a message's format depends on. version: the agreed one, 0 when unknown. suite: the agreed one's name, or ""."""

    version: int
    suite: str

    @property
    def tls13(self) -> bool:
        """Whether TLS 1.3 was agreed on."""
        return is_tls13(self.version)

    @property
    def key_exchange(self) -> str:
        """The suite's key exchange and signature, such as "ECDHE_RSA"."""
        return self.suite.removeprefix("TLS_").partition("_WITH_")[0] if "_WITH_" in self.suite else ""


def message_span(message: bytes, context: Context) -> Span:
    """A handshake message with its header as one span over [0, len(message)). message: at least one octet."""
    retry = message[:1] == b"\x02" and message[6:38] == RETRY_RANDOM
    name = "HelloRetryRequest" if retry else name_of(names.HANDSHAKE_TYPES, message[0], 2)
    meaning, source = meaning_of(f"tls.message.{name}")
    if not context.tls13:
        source = own_meaning(f"tls.message.{name}.tls12").source or source
    cut = Cutter(message, 0, len(message), source)

    def inside(inner: Cutter) -> str:
        inner.number(1, "tls.handshake.type", lambda _number: name)
        inner.number(3, "tls.handshake.length")
        if body := _BODIES.get(message[0]):
            body(inner, context)
        else:
            inner.rest("tls.handshake.body")
        return name

    cut.group(len(message), "tls.handshake", inside, meaning=meaning, source=source)
    return cut.spans[0]


def _client_hello(cut: Cutter, context: Context) -> None:
    _hello_start(cut, "tls.client_hello")
    cut.vector(2, "tls.client_hello.cipher_suites", _suites)
    _numbers(cut, 1, 1, "tls.client_hello.compression_method", naming(names.COMPRESSION_METHODS, 2))
    extensions(cut, Place.CLIENT_HELLO, "tls.client_hello")


def _server_hello(cut: Cutter, context: Context) -> None:
    retry = cut.peek(34)[2:] == RETRY_RANDOM
    _hello_start(cut, "tls.server_hello")
    number = int.from_bytes(cut.peek(2), "big")
    meaning = _("The cipher suite that the server chose.") + " " + suite_meaning(suite_name(number))
    cut.number(2, "tls.server_hello.cipher_suite", suite_name, meaning=meaning)
    cut.number(1, "tls.server_hello.compression_method", naming(names.COMPRESSION_METHODS, 2))
    extensions(cut, Place.RETRY if retry else Place.SERVER_HELLO, "tls.server_hello")


def _hello_start(cut: Cutter, field: str) -> None:
    cut.number(2, f"{field}.version", version_name)
    row = "tls.hello.retry" if cut.peek(32) == RETRY_RANDOM else "tls.hello.random"
    cut.take(32, f"{field}.random", meaning=meaning_of(row).sentence)
    cut.opaque(1, f"{field}.session_id")


def _suites(cut: Cutter) -> str:
    count = cut.left // 2
    while cut.left:
        name = suite_name(int.from_bytes(cut.peek(2), "big"))
        cut.number(2, "tls.client_hello.cipher_suite", suite_name, meaning=suite_meaning(name))
    return _("1 suite") if count == 1 else _("{count} suites").format(count=count)


def suite_meaning(name: str) -> str:
    """One sentence on what a suite protects, from its name."""
    exchange, _with, cipher = name.removeprefix("TLS_").partition("_WITH_")
    if name == "GREASE":
        return _("A number that means nothing, sent so that servers learn to ignore what they do not know.")
    if name == "TLS_EMPTY_RENEGOTIATION_INFO_SCSV":
        return _("Not a suite: the client's sign that it knows safe renegotiation (RFC 5746 section 3.3).")
    if name == "TLS_FALLBACK_SCSV":
        return _("Not a suite: the client says that it has come down from a higher version (RFC 7507).")
    if not name.startswith("TLS_"):
        return ""
    if "NULL" in cipher or name in ("TLS_SHA256_SHA256", "TLS_SHA384_SHA384"):
        return _("No encryption at all: everybody on the way can read what is sent.")
    if "anon" in exchange:
        return _("No certificate: somebody in the middle can pretend to be the server.")
    if "EXPORT" in exchange:
        return _("Weakened on purpose, for the export rules of the 1990s: easily broken today.")
    if not _with or exchange.startswith(("ECDHE", "DHE", "PSK_DHE", "ECCPWD")):
        return _("Fresh keys for every session: who steals the server's key later still cannot open recordings.")
    if exchange == "RSA":
        return _(
            "The session's key travels under the server's RSA key: who gets that key later can open every recording."
        )
    return ""


def _certificate(cut: Cutter, context: Context) -> None:
    if context.tls13:
        cut.opaque(1, "tls.certificate.context")

    def each(inner: Cutter) -> str:
        subjects: list[str] = []
        while inner.left:
            size = 3 + int.from_bytes(inner.peek(3), "big")
            if context.tls13:
                after = inner.data[inner.position + size : min(inner.position + size + 2, inner.end)]
                size += 2 + int.from_bytes(after, "big")
            inner.group(size, "tls.certificate.entry", lambda inmost: _entry(inmost, context, subjects))
        return " / ".join(subjects)

    cut.vector(3, "tls.certificate.list", each)


def _entry(cut: Cutter, context: Context, subjects: list[str]) -> str:
    subjects.append(cut.vector(3, "tls.certificate.data", certificate))
    if context.tls13:
        extensions(cut, Place.OTHER, "tls.certificate")
    return subjects[-1]


def _server_key_exchange(cut: Cutter, context: Context) -> None:
    exchange = context.key_exchange
    if "PSK" in exchange:
        cut.opaque(2, "tls.key_exchange.psk_hint")
    if exchange.startswith("EC"):
        curve = cut.number(1, "tls.key_exchange.curve_type")
        if curve != 3:
            cut.rest("tls.key_exchange.parameters")
            return
        cut.number(2, "tls.key_exchange.curve", naming(names.GROUPS))
        cut.opaque(1, "tls.key_exchange.public_key")
    elif exchange.startswith(("DHE", "DH_anon", "PSK_DHE")):
        cut.opaque(2, "tls.key_exchange.prime")
        cut.opaque(2, "tls.key_exchange.generator")
        cut.opaque(2, "tls.key_exchange.public_key")
    else:
        return
    if "anon" not in exchange and "PSK" not in exchange:
        _signature(cut, context)


def _signature(cut: Cutter, context: Context) -> None:
    if context.version >= TLS12:
        cut.number(2, "tls.signature.algorithm", naming(names.SIGNATURES))
    cut.opaque(2, "tls.signature.value")


def _client_key_exchange(cut: Cutter, context: Context) -> None:
    exchange = context.key_exchange
    if "PSK" in exchange:
        cut.opaque(2, "tls.key_exchange.psk_identity")
    if exchange.startswith("EC"):
        cut.opaque(1, "tls.key_exchange.public_key", meaning=_("The client's public key for this session alone."))
    elif exchange.startswith(("DH", "PSK_DHE")):
        cut.opaque(2, "tls.key_exchange.public_key", meaning=_("The client's public key for this session alone."))
    elif exchange.startswith("RSA"):
        cut.opaque(2, "tls.key_exchange.encrypted_premaster_secret")


def _certificate_request(cut: Cutter, context: Context) -> None:
    if context.tls13:
        cut.opaque(1, "tls.certificate_request.context")
        extensions(cut, Place.OTHER, "tls.certificate_request")
        return

    _numbers(cut, 1, 1, "tls.certificate_request.type", naming(names.CLIENT_CERTIFICATE_TYPES, 2))
    if context.version >= TLS12:
        _numbers(cut, 2, 2, "tls.certificate_request.algorithm", naming(names.SIGNATURES))

    def authorities(inner: Cutter) -> str:
        while inner.left:
            inner.opaque(2, "tls.certificate_request.authority")
        return ""

    cut.vector(2, "tls.certificate_request.authorities", authorities)


def _numbers(cut: Cutter, width: int, item: int, field: str, say: Callable[[int], str]) -> None:
    cut.vector(width, f"{field}s", lambda inner: numbers(inner, item, field, say))


def _new_session_ticket(cut: Cutter, context: Context) -> None:
    cut.number(4, "tls.ticket.lifetime")
    if context.tls13:
        cut.number(4, "tls.ticket.age_add")
        cut.opaque(1, "tls.ticket.nonce")
    cut.opaque(2, "tls.ticket.ticket")
    if context.tls13:
        extensions(cut, Place.OTHER, "tls.ticket")


def _certificate_status(cut: Cutter, context: Context) -> None:
    cut.number(1, "tls.certificate_status.type", lambda number: "ocsp" if number == 1 else str(number))
    cut.opaque(3, "tls.certificate_status.response")


def _compressed_certificate(cut: Cutter, context: Context) -> None:
    cut.number(2, "tls.compressed_certificate.algorithm", naming(names.CERTIFICATE_COMPRESSIONS))
    cut.number(3, "tls.compressed_certificate.uncompressed_length")
    cut.opaque(3, "tls.compressed_certificate.data")


def _empty(cut: Cutter, context: Context) -> None:
    """A message without a body."""


# How to cut a message's body, by its type.
_BODIES: dict[int, Callable[[Cutter, Context], object]] = {
    0: _empty,
    1: _client_hello,
    2: _server_hello,
    4: _new_session_ticket,
    5: _empty,
    8: lambda cut, _context: extensions(cut, Place.OTHER, "tls.encrypted_extensions"),
    11: _certificate,
    12: _server_key_exchange,
    13: _certificate_request,
    14: _empty,
    15: _signature,
    16: _client_key_exchange,
    20: lambda cut, _context: cut.rest("tls.finished.verify_data"),
    22: _certificate_status,
    24: lambda cut, _context: cut.number(1, "tls.key_update.request"),
    25: _compressed_certificate,
}
