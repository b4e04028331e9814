"""The extensions of TLS hellos, certificates and tickets, field by field (RFC 8446 section 4.2 and the RFCs of each).

One table says for every extension what it is for, where that is written, and how to cut its content. Where the same
extension looks different in a client's and in a server's message, the function that cuts it asks which one it is in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from labkit.decode.fields import Cutter, hexadecimal, text
from labkit.decode.tls.names import (
    CERTIFICATE_COMPRESSIONS,
    CERTIFICATE_TYPES,
    EXTENSIONS,
    GROUPS,
    MAX_FRAGMENT_LENGTHS,
    POINT_FORMATS,
    PSK_MODES,
    SIGNATURES,
    is_grease,
    name_of,
    version_name,
)
from labkit.texts import _


class Place(Enum):
    """The message that an extension stands in."""

    CLIENT_HELLO = auto()
    SERVER_HELLO = auto()
    RETRY = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Extension:
    """How to cut an extension, what it is for (a function, so that the reader's language is asked each time), its source."""

    cut: Callable[[Cutter, Place], str]
    meaning: Callable[[], str]
    source: str


def extensions(cut: Cutter, place: Place, prefix: str) -> None:
    """A list of extensions with its length in front, where there is one."""
    if not cut.left:
        return

    def each(inner: Cutter) -> str:
        names: list[str] = []
        while inner.left:
            names.append(_extension(inner, place))
        return ", ".join(names)

    cut.vector(
        2,
        f"{prefix}.extensions",
        each,
        meaning=_("What the sender adds to the basic handshake."),
        source="RFC 8446 section 4.2",
    )


def _extension(cut: Cutter, place: Place) -> str:
    head = cut.peek(4)
    number, length = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:4], "big")
    name = name_of(EXTENSIONS, number)
    known = _TABLE.get(number, _UNKNOWN)
    meaning = _grease() if is_grease(number) else known.meaning()

    def inside(inner: Cutter) -> str:
        inner.number(2, "tls.extension.type", lambda _number: name)
        inner.number(2, "tls.extension.length")
        value = known.cut(inner, place) if inner.left else ""
        return f"{name}: {value}" if value else name

    cut.group(
        4 + length,
        f"tls.extension.{name}",
        inside,
        meaning=meaning,
        source="RFC 8701" if is_grease(number) else known.source,
    )
    return name


def _grease() -> str:
    return _("A number that means nothing, sent so that servers learn to ignore what they do not know.")


def numbers(cut: Cutter, width: int, field: str, say: Callable[[int], str]) -> str:
    """All that is left as numbers of `width` octets, each a span of its own; their names joined."""
    names: list[str] = []
    while cut.left:
        found = cut.number(
            width, field, say, meaning=_grease() if width == 2 and is_grease(int.from_bytes(cut.peek(2), "big")) else ""
        )
        names.append(say(found))
    return ", ".join(names)


def _listed(width: int, item: int, field: str, say: Callable[[int], str]) -> Callable[[Cutter, Place], str]:
    """A vector of numbers: `width` octets of length, `item` octets each."""

    def cut_list(cut: Cutter, _place: Place) -> str:
        found = ""

        def inside(inner: Cutter) -> str:
            nonlocal found
            found = numbers(inner, item, field, say)
            return found

        cut.vector(width, f"{field}_list", inside)
        return found

    return cut_list


def _named(table: dict[int, str], digits: int = 4) -> Callable[[int], str]:
    return lambda number: name_of(table, number, digits)


def _opaque(cut: Cutter, _place: Place) -> str:
    return hexadecimal(cut.rest("tls.extension.data"))


def _server_name(cut: Cutter, _place: Place) -> str:
    names: list[str] = []

    def each(inner: Cutter) -> str:
        while inner.left:
            inner.number(1, "tls.sni.type")
            names.append(text(inner.opaque(2, "tls.sni.name", text)))
        return ", ".join(names)

    cut.vector(2, "tls.sni.list", each)
    return ", ".join(names)


def _protocols(cut: Cutter, _place: Place) -> str:
    names: list[str] = []

    def each(inner: Cutter) -> str:
        while inner.left:
            names.append(text(inner.opaque(1, "tls.alpn.protocol", text)))
        return ", ".join(names)

    cut.vector(2, "tls.alpn.list", each)
    return ", ".join(names)


def _supported_versions(cut: Cutter, place: Place) -> str:
    if place is Place.CLIENT_HELLO:
        return _listed(1, 2, "tls.supported_versions.version", version_name)(cut, place)
    return version_name(cut.number(2, "tls.supported_versions.selected", version_name))


def _key_share(cut: Cutter, place: Place) -> str:
    group = _named(GROUPS)
    if place is Place.RETRY:
        meaning = _("The group that the client shall send a key for.")
        return group(cut.number(2, "tls.key_share.group", group, meaning=meaning))
    if place is not Place.CLIENT_HELLO:
        return _share(cut)
    names: list[str] = []

    def entry(inner: Cutter) -> str:
        names.append(_share(inner))
        return names[-1]

    def each(inner: Cutter) -> str:
        while inner.left:
            size = 4 + int.from_bytes(inner.peek(4)[2:], "big")
            inner.group(size, "tls.key_share.entry", entry)
        return ", ".join(names)

    cut.vector(2, "tls.key_share.list", each)
    return ", ".join(names)


def _share(cut: Cutter) -> str:
    group = _named(GROUPS)
    found = cut.number(
        2, "tls.key_share.group", group, meaning=_grease() if is_grease(int.from_bytes(cut.peek(2), "big")) else ""
    )
    cut.opaque(2, "tls.key_share.key")
    return group(found)


def _point_formats(cut: Cutter, place: Place) -> str:
    return _listed(1, 1, "tls.ec_point_formats.format", _named(POINT_FORMATS, 2))(cut, place)


def _status_request(cut: Cutter, place: Place) -> str:
    if place is not Place.CLIENT_HELLO:
        return _opaque(cut, place)
    cut.number(1, "tls.status_request.type", lambda number: "ocsp" if number == 1 else str(number))
    cut.opaque(2, "tls.status_request.responders")
    cut.opaque(2, "tls.status_request.extensions")
    return ""


def _renegotiation(cut: Cutter, _place: Place) -> str:
    proof = cut.opaque(1, "tls.renegotiation_info.data")
    return hexadecimal(proof) if proof else _("first handshake of the connection")


def _session_ticket(cut: Cutter, _place: Place) -> str:
    return hexadecimal(cut.rest("tls.session_ticket.ticket"))


def _cookie(cut: Cutter, _place: Place) -> str:
    return hexadecimal(cut.opaque(2, "tls.cookie.data"))


def _pre_shared_key(cut: Cutter, place: Place) -> str:
    if place is not Place.CLIENT_HELLO:
        return str(cut.number(2, "tls.pre_shared_key.selected"))
    count = 0

    def identities(inner: Cutter) -> str:
        nonlocal count
        while inner.left:
            inner.opaque(2, "tls.pre_shared_key.identity")
            inner.number(4, "tls.pre_shared_key.ticket_age")
            count += 1
        return str(count)

    def binders(inner: Cutter) -> str:
        while inner.left:
            inner.opaque(1, "tls.pre_shared_key.binder")
        return ""

    cut.vector(2, "tls.pre_shared_key.identities", identities)
    cut.vector(2, "tls.pre_shared_key.binders", binders)
    return _("{count} offered").format(count=count)


def _early_data(cut: Cutter, _place: Place) -> str:
    return str(cut.number(4, "tls.early_data.max_size"))


def _fragment_length(cut: Cutter, _place: Place) -> str:
    say = _named(MAX_FRAGMENT_LENGTHS, 2)
    return say(cut.number(1, "tls.max_fragment_length.length", say))


def _record_limit(cut: Cutter, _place: Place) -> str:
    return str(cut.number(2, "tls.record_size_limit.limit"))


def _padding(cut: Cutter, _place: Place) -> str:
    length = cut.left
    cut.rest("tls.padding.zeros")
    return str(length)


def _heartbeat(cut: Cutter, _place: Place) -> str:
    return str(cut.number(1, "tls.heartbeat.mode"))


def _timestamps(cut: Cutter, place: Place) -> str:
    if place is Place.CLIENT_HELLO:
        return _opaque(cut, place)

    def each(inner: Cutter) -> str:
        while inner.left:
            inner.opaque(2, "tls.sct.timestamp")
        return ""

    cut.vector(2, "tls.sct.list", each)
    return ""


def _certificate_type(cut: Cutter, place: Place) -> str:
    say = _named(CERTIFICATE_TYPES, 2)
    if place is Place.CLIENT_HELLO:
        return _listed(1, 1, "tls.certificate_type", say)(cut, place)
    return say(cut.number(1, "tls.certificate_type", say))


def _authorities(cut: Cutter, _place: Place) -> str:
    def each(inner: Cutter) -> str:
        while inner.left:
            inner.opaque(2, "tls.certificate_authorities.name")
        return ""

    cut.vector(2, "tls.certificate_authorities.list", each)
    return ""


_SIGNATURE_LIST = _listed(2, 2, "tls.signature_algorithms.algorithm", _named(SIGNATURES))
_UNKNOWN = Extension(
    _opaque, lambda: _("An extension whose content this lab does not explain."), "RFC 8446 section 4.2"
)
_TABLE = {
    0: Extension(
        _server_name,
        lambda: _(
            "Server Name Indication: which server the client wants. It is not encrypted: everybody on the way learns it."
        ),
        "RFC 6066 section 3",
    ),
    1: Extension(_fragment_length, lambda: _("The client asks for shorter records."), "RFC 6066 section 4"),
    5: Extension(
        _status_request,
        lambda: _("Asks for proof that the certificate is not revoked (OCSP stapling)."),
        "RFC 6066 section 8",
    ),
    10: Extension(
        _listed(2, 2, "tls.supported_groups.group", _named(GROUPS)),
        lambda: _("The groups in which the sender can agree on a key, the preferred one first."),
        "RFC 8446 section 4.2.7",
    ),
    11: Extension(
        _point_formats,
        lambda: _("How points of elliptic curves may be written, for TLS 1.2 and older."),
        "RFC 8422 section 5.1.2",
    ),
    13: Extension(
        _SIGNATURE_LIST,
        lambda: _("The signatures that the sender can check, the preferred one first."),
        "RFC 8446 section 4.2.3",
    ),
    15: Extension(_heartbeat, lambda: _("Heartbeats keep a quiet connection alive."), "RFC 6520 section 2"),
    16: Extension(
        _protocols,
        lambda: _("ALPN: which protocol the client wants to speak inside TLS. In a ClientHello everybody can read it."),
        "RFC 7301 section 3.1",
    ),
    18: Extension(
        _timestamps, lambda: _("Certificate Transparency: signed timestamps of public logs."), "RFC 6962 section 3.3"
    ),
    19: Extension(_certificate_type, lambda: _("The form of the client's certificate."), "RFC 7250 section 3"),
    20: Extension(_certificate_type, lambda: _("The form of the server's certificate."), "RFC 7250 section 3"),
    21: Extension(
        _padding,
        lambda: _("Makes the ClientHello longer, against servers that mishandle some lengths."),
        "RFC 7685 section 3",
    ),
    22: Extension(
        _opaque,
        lambda: _("Encrypt first, then authenticate: repairs the CBC suites of TLS 1.2 and older."),
        "RFC 7366 section 2",
    ),
    23: Extension(
        _opaque,
        lambda: _(
            "Extended master secret: the keys depend on the whole handshake, so that sessions cannot be spliced."
        ),
        "RFC 7627 section 5.1",
    ),
    27: Extension(
        _listed(1, 2, "tls.compress_certificate.algorithm", _named(CERTIFICATE_COMPRESSIONS)),
        lambda: _("How certificates may be compressed."),
        "RFC 8879 section 3",
    ),
    28: Extension(_record_limit, lambda: _("The longest record that the sender will take."), "RFC 8449 section 4"),
    34: Extension(
        _listed(2, 2, "tls.delegated_credential.algorithm", _named(SIGNATURES)),
        lambda: _("The client takes short-lived keys that a certificate's owner signed."),
        "RFC 9345 section 4.1.1",
    ),
    35: Extension(
        _session_ticket,
        lambda: _("Session tickets: empty asks for one, otherwise it resumes an earlier session."),
        "RFC 5077 section 3.2",
    ),
    41: Extension(
        _pre_shared_key,
        lambda: _("Keys that both ends know already, mostly from an earlier session; the server takes at most one."),
        "RFC 8446 section 4.2.11",
    ),
    42: Extension(
        _early_data,
        lambda: _("Application data in the very first flight, before the server has answered."),
        "RFC 8446 section 4.2.10",
    ),
    43: Extension(
        _supported_versions,
        lambda: _("The TLS versions: a client lists what it can, a server says what it chose."),
        "RFC 8446 section 4.2.1",
    ),
    44: Extension(
        _cookie,
        lambda: _("Lets a server forget the client between HelloRetryRequest and the second ClientHello."),
        "RFC 8446 section 4.2.2",
    ),
    45: Extension(
        _listed(1, 1, "tls.psk_key_exchange_modes.mode", _named(PSK_MODES, 2)),
        lambda: _("How a key from an earlier session may be used; psk_dhe_ke adds a fresh key exchange."),
        "RFC 8446 section 4.2.9",
    ),
    47: Extension(
        _authorities, lambda: _("The certificate authorities that the sender believes."), "RFC 8446 section 4.2.4"
    ),
    49: Extension(
        _opaque, lambda: _("The client is willing to show a certificate after the handshake."), "RFC 8446 section 4.2.6"
    ),
    50: Extension(
        _SIGNATURE_LIST,
        lambda: _("The signatures that the sender can check inside certificates."),
        "RFC 8446 section 4.2.3",
    ),
    51: Extension(
        _key_share,
        lambda: _(
            "Public keys for the key exchange: from both of them the two ends, and nobody else, compute the session's keys."
        ),
        "RFC 8446 section 4.2.8",
    ),
    65037: Extension(
        _opaque,
        lambda: _(
            "Encrypted Client Hello: the true ClientHello, sealed for the server; or random bytes that look like it."
        ),
        "RFC 9849 section 5",
    ),
    65281: Extension(
        _renegotiation,
        lambda: _("Ties a renegotiation to the handshake before it, so that nobody can splice in one of his own."),
        "RFC 5746 section 3.2",
    ),
}
