"""Handshake messages, field by field: RFC 8446 section 4 for TLS 1.3, RFC 5246 section 7.4 for what came before.

The format of some messages depends on what the hellos agreed on, so every message is cut in a Context: the version, the
cipher suite, and who is speaking.
"""

from collections.abc import Callable
from dataclasses import dataclass

from labkit.decode.fields import Cutter, hexadecimal
from labkit.decode.spans import Span
from labkit.decode.tls.certificate import certificate
from labkit.decode.tls.extensions import Place, extensions, numbers
from labkit.decode.tls.hello import RETRY_RANDOM, TLS12, is_tls13
from labkit.decode.tls.names import (
    CERTIFICATE_COMPRESSIONS,
    CLIENT_CERTIFICATE_TYPES,
    COMPRESSION_METHODS,
    GROUPS,
    HANDSHAKE_TYPES,
    SIGNATURES,
    name_of,
    suite_name,
    version_name,
)
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
    name = "HelloRetryRequest" if retry else name_of(HANDSHAKE_TYPES, message[0], 2)
    kind = _MESSAGES.get(message[0], _Kind(_unknown, _unexplained, "RFC 8446 section 4", "RFC 5246 section 7.4"))
    source = kind.source13 if context.tls13 or not kind.source12 else kind.source12
    meaning = _retry() if retry else kind.meaning()
    cut = Cutter(message, 0, len(message), source)

    def inside(inner: Cutter) -> str:
        inner.number(1, "tls.handshake.type", _("Which handshake message this is."), lambda _number: name)
        inner.number(3, "tls.handshake.length", _("How many octets the message has after this."))
        kind.cut(inner, context)
        return name

    cut.group(len(message), "tls.handshake", inside, meaning)
    return cut.spans[0]


def _unexplained() -> str:
    return _("A handshake message that this lab does not explain further.")


def _unknown(cut: Cutter, _context: Context) -> None:
    cut.rest("tls.handshake.body")


def _retry() -> str:
    return _("The server asks for another ClientHello, mostly with a key for another group.")


def _client_hello(cut: Cutter, context: Context) -> None:
    _hello_start(
        cut,
        "tls.client_hello",
        _("The highest version offered, up to TLS 1.2; later ones are offered in an extension."),
    )
    suites = _(
        "The cipher suites that the client can use, the preferred one first. The choice is typical of the program."
    )
    cut.vector(2, "tls.client_hello.cipher_suites", _suites, suites)
    methods = _("Compression methods: only “null” is safe, and TLS 1.3 allows nothing else.")

    def compressions(inner: Cutter) -> str:
        return numbers(inner, 1, "tls.client_hello.compression_method", _compression)

    cut.vector(1, "tls.client_hello.compression_methods", compressions, methods)
    extensions(cut, Place.CLIENT_HELLO, "tls.client_hello")


def _server_hello(cut: Cutter, context: Context) -> None:
    retry = cut.peek(34)[2:] == RETRY_RANDOM
    _hello_start(
        cut,
        "tls.server_hello",
        _("The chosen version; for TLS 1.3 it says TLS 1.2 here and the truth in an extension."),
    )
    number = int.from_bytes(cut.peek(2), "big")
    meaning = _("The cipher suite that the server chose.") + " " + suite_meaning(suite_name(number))
    cut.number(2, "tls.server_hello.cipher_suite", meaning, suite_name)
    cut.number(1, "tls.server_hello.compression_method", _("The chosen compression method."), _compression)
    extensions(cut, Place.RETRY if retry else Place.SERVER_HELLO, "tls.server_hello")


def _hello_start(cut: Cutter, field: str, version: str) -> None:
    cut.number(2, f"{field}.version", version, version_name)
    if cut.peek(32) == RETRY_RANDOM:
        cut.take(
            32, f"{field}.random", _("This fixed value (the SHA-256 of “HelloRetryRequest”) marks a HelloRetryRequest.")
        )
    else:
        cut.take(
            32,
            f"{field}.random",
            _(
                "Random octets, new in every session: they go into the keys. A key log names the session by the client's."
            ),
        )
    cut.opaque(
        1, f"{field}.session_id", _("Names a session that can be resumed; in TLS 1.3 it only serves compatibility.")
    )


def _compression(number: int) -> str:
    return name_of(COMPRESSION_METHODS, number, 2)


def _suites(cut: Cutter) -> str:
    count = cut.left // 2
    while cut.left:
        name = suite_name(int.from_bytes(cut.peek(2), "big"))
        cut.number(2, "tls.client_hello.cipher_suite", suite_meaning(name), suite_name)
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
        cut.opaque(1, "tls.certificate.context", _("Which request this answers; empty in the handshake itself."))

    def each(inner: Cutter) -> str:
        subjects: list[str] = []
        while inner.left:
            size = 3 + int.from_bytes(inner.peek(3), "big")
            if context.tls13:
                after = inner.data[inner.position + size : min(inner.position + size + 2, inner.end)]
                size += 2 + int.from_bytes(after, "big")
            inner.group(size, "tls.certificate.entry", lambda inmost: _entry(inmost, context, subjects))
        return " / ".join(subjects)

    meaning = _("The certificates: the sender's own first, then those that vouch for it.")
    cut.vector(3, "tls.certificate.list", each, meaning)


def _entry(cut: Cutter, context: Context, subjects: list[str]) -> str:
    subject = ""

    def inside(inner: Cutter) -> str:
        nonlocal subject
        subject = certificate(inner)
        return subject

    cut.vector(3, "tls.certificate.data", inside, source="RFC 5280 section 4.1")
    if context.tls13:
        extensions(cut, Place.OTHER, "tls.certificate")
    subjects.append(subject)
    return subject


def _server_key_exchange(cut: Cutter, context: Context) -> None:
    exchange = context.key_exchange
    if "PSK" in exchange:
        cut.opaque(2, "tls.key_exchange.psk_hint", _("A hint which shared key to use."), source="RFC 4279 section 2")
    if exchange.startswith("EC"):
        curve = cut.number(
            1, "tls.key_exchange.curve_type", _("3: a curve with a number of its own."), source="RFC 8422 section 5.4"
        )
        if curve != 3:
            cut.rest("tls.key_exchange.parameters")
            return
        cut.number(
            2, "tls.key_exchange.curve", _("The group of the key exchange."), lambda number: name_of(GROUPS, number)
        )
        cut.opaque(1, "tls.key_exchange.public_key", _("The server's public key for this session alone."))
    elif exchange.startswith(("DHE", "DH_anon", "PSK_DHE")):
        cut.opaque(2, "tls.key_exchange.prime", _("The prime of the Diffie-Hellman group."))
        cut.opaque(2, "tls.key_exchange.generator", _("The generator of the group."))
        cut.opaque(2, "tls.key_exchange.public_key", _("The server's public key for this session alone."))
    else:
        return
    if "anon" not in exchange and "PSK" not in exchange:
        _signature(cut, context)


def _signature(cut: Cutter, context: Context) -> None:
    if context.version >= TLS12:
        cut.number(2, "tls.signature.algorithm", _("How it is signed."), lambda number: name_of(SIGNATURES, number))
    cut.opaque(
        2, "tls.signature.value", _("A signature with the certificate's private key: only its owner can make it.")
    )


def _client_key_exchange(cut: Cutter, context: Context) -> None:
    exchange = context.key_exchange
    if "PSK" in exchange:
        cut.opaque(
            2, "tls.key_exchange.psk_identity", _("The name of the shared key, in clear."), source="RFC 4279 section 2"
        )
    if exchange.startswith("EC"):
        cut.opaque(1, "tls.key_exchange.public_key", _("The client's public key for this session alone."))
    elif exchange.startswith(("DH", "PSK_DHE")):
        cut.opaque(2, "tls.key_exchange.public_key", _("The client's public key for this session alone."))
    elif exchange.startswith("RSA"):
        secret = _("The secret that the keys come from, encrypted for the server's RSA key.")
        cut.opaque(2, "tls.key_exchange.encrypted_premaster_secret", secret)


def _certificate_request(cut: Cutter, context: Context) -> None:
    if context.tls13:
        cut.opaque(1, "tls.certificate_request.context", _("Names this request."))
        extensions(cut, Place.OTHER, "tls.certificate_request")
        return

    def types(inner: Cutter) -> str:
        return numbers(
            inner, 1, "tls.certificate_request.type", lambda number: name_of(CLIENT_CERTIFICATE_TYPES, number, 2)
        )

    def algorithms(inner: Cutter) -> str:
        return numbers(inner, 2, "tls.certificate_request.algorithm", lambda number: name_of(SIGNATURES, number))

    def authorities(inner: Cutter) -> str:
        while inner.left:
            inner.opaque(2, "tls.certificate_request.authority", _("The distinguished name of an authority, in DER."))
        return ""

    cut.vector(1, "tls.certificate_request.types", types, _("The kinds of key that a client may show."))
    if context.version >= TLS12:
        cut.vector(2, "tls.certificate_request.algorithms", algorithms, _("The signatures that the server can check."))
    cut.vector(2, "tls.certificate_request.authorities", authorities, _("The authorities that the server believes."))


def _certificate_verify(cut: Cutter, context: Context) -> None:
    _signature(cut, context)


def _new_session_ticket(cut: Cutter, context: Context) -> None:
    cut.number(4, "tls.ticket.lifetime", _("For how many seconds the ticket may be used; up to TLS 1.2 only a hint."))
    if context.tls13:
        cut.number(4, "tls.ticket.age_add", _("Masks the ticket's age when it is used."))
        cut.opaque(1, "tls.ticket.nonce", _("Makes the key of each ticket another one."))
    ticket = _("What resumes this session later; only the server that made it can read it.")
    cut.opaque(2, "tls.ticket.ticket", ticket)
    if context.tls13:
        extensions(cut, Place.OTHER, "tls.ticket")


def _encrypted_extensions(cut: Cutter, context: Context) -> None:
    extensions(cut, Place.OTHER, "tls.encrypted_extensions")


def _certificate_status(cut: Cutter, context: Context) -> None:
    cut.number(1, "tls.certificate_status.type", "", lambda number: "ocsp" if number == 1 else str(number))
    cut.opaque(3, "tls.certificate_status.response", _("A signed answer, in DER, that the certificate is not revoked."))


def _compressed_certificate(cut: Cutter, context: Context) -> None:
    cut.number(2, "tls.compressed_certificate.algorithm", "", lambda number: name_of(CERTIFICATE_COMPRESSIONS, number))
    cut.number(3, "tls.compressed_certificate.uncompressed_length", _("How many octets it has uncompressed."))
    cut.opaque(3, "tls.compressed_certificate.data", _("The Certificate message, compressed."))


def _finished(cut: Cutter, context: Context) -> None:
    proof = _("Proof that the sender saw the same handshake: a keyed sum over all of its messages.")
    cut.rest("tls.finished.verify_data", proof, hexadecimal)


def _key_update(cut: Cutter, context: Context) -> None:
    cut.number(1, "tls.key_update.request", _("1 asks the other side for new keys too."))


def _empty(cut: Cutter, context: Context) -> None:
    """A message without a body."""


@dataclass(frozen=True, slots=True)
class _Kind:
    cut: Callable[[Cutter, Context], None]
    meaning: Callable[[], str]  # a function, so that the reader's language is asked each time
    source13: str
    source12: str = ""


_MESSAGES = {
    0: _Kind(_empty, lambda: _("The server asks for a new handshake."), "RFC 5246 section 7.4.1.1"),
    1: _Kind(
        _client_hello,
        lambda: _("The client says what it can, and to whom it wants to speak. Never encrypted."),
        "RFC 8446 section 4.1.2",
        "RFC 5246 section 7.4.1.2",
    ),
    2: _Kind(
        _server_hello,
        lambda: _("The server chooses version and cipher suite."),
        "RFC 8446 section 4.1.3",
        "RFC 5246 section 7.4.1.3",
    ),
    4: _Kind(
        _new_session_ticket,
        lambda: _("A ticket that makes the next handshake shorter."),
        "RFC 8446 section 4.6.1",
        "RFC 5077 section 3.3",
    ),
    5: _Kind(_empty, lambda: _("The client's early data ends here."), "RFC 8446 section 4.5"),
    8: _Kind(
        _encrypted_extensions,
        lambda: _("The server's answers to extensions that need not be known to everybody."),
        "RFC 8446 section 4.3.1",
    ),
    11: _Kind(
        _certificate,
        lambda: _("The sender's certificate. TLS 1.3 encrypts it; up to TLS 1.2 everybody can read the names in it."),
        "RFC 8446 section 4.4.2",
        "RFC 5246 section 7.4.2",
    ),
    12: _Kind(
        _server_key_exchange,
        lambda: _("The server's half of the key exchange, signed."),
        "RFC 5246 section 7.4.3",
    ),
    13: _Kind(
        _certificate_request,
        lambda: _("The server asks the client for a certificate."),
        "RFC 8446 section 4.3.2",
        "RFC 5246 section 7.4.4",
    ),
    14: _Kind(_empty, lambda: _("The server waits for the client now."), "RFC 5246 section 7.4.5"),
    15: _Kind(
        _certificate_verify,
        lambda: _("The sender proves that the certificate's key is its own, by signing the handshake."),
        "RFC 8446 section 4.4.3",
        "RFC 5246 section 7.4.8",
    ),
    16: _Kind(_client_key_exchange, lambda: _("The client's half of the key exchange."), "RFC 5246 section 7.4.7"),
    20: _Kind(
        _finished,
        lambda: _("The sender has finished the handshake and proves that nobody changed it."),
        "RFC 8446 section 4.4.4",
        "RFC 5246 section 7.4.9",
    ),
    22: _Kind(_certificate_status, lambda: _("Proof that the certificate is not revoked."), "RFC 6066 section 8"),
    24: _Kind(_key_update, lambda: _("The sender's next record uses a new key."), "RFC 8446 section 4.6.3"),
    25: _Kind(_compressed_certificate, lambda: _("The sender's certificate, compressed."), "RFC 8879 section 4"),
}
