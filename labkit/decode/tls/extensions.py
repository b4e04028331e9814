"""The extensions of TLS hellos, certificates and tickets, field by field (RFC 8446 section 4.2 and the RFCs of each).

One table says for every extension what it is for, where that is written, and how to cut its content. Where the same
extension looks different in a client's and in a server's message, the function that cuts it asks which one it is in.
"""

from collections.abc import Callable
from enum import Enum, auto

from labkit.decode.fields import Cutter, hexadecimal, text
from labkit.decode.meanings import meaning_of
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
    field = f"tls.extension.{name}"
    meaning, source = (_grease(), "RFC 8701") if is_grease(number) else meaning_of(field)

    def inside(inner: Cutter) -> str:
        inner.number(2, "tls.extension.type", lambda _number: name)
        inner.number(2, "tls.extension.length")
        value = _CONTENTS.get(number, _opaque)(inner, place) if inner.left else ""
        return f"{name}: {value}" if value else name

    cut.group(4 + length, field, inside, meaning=meaning, source=source)
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
# How to cut an extension's content, by its number; one that is not here is a run of octets.
_CONTENTS: dict[int, Callable[[Cutter, Place], str]] = {
    0: _server_name,
    1: _fragment_length,
    5: _status_request,
    10: _listed(2, 2, "tls.supported_groups.group", _named(GROUPS)),
    11: _point_formats,
    13: _SIGNATURE_LIST,
    15: _heartbeat,
    16: _protocols,
    18: _timestamps,
    19: _certificate_type,
    20: _certificate_type,
    21: _padding,
    27: _listed(1, 2, "tls.compress_certificate.algorithm", _named(CERTIFICATE_COMPRESSIONS)),
    28: _record_limit,
    34: _listed(2, 2, "tls.delegated_credential.algorithm", _named(SIGNATURES)),
    35: _session_ticket,
    41: _pre_shared_key,
    42: _early_data,
    43: _supported_versions,
    44: _cookie,
    45: _listed(1, 1, "tls.psk_key_exchange_modes.mode", _named(PSK_MODES, 2)),
    47: _authorities,
    50: _SIGNATURE_LIST,
    51: _key_share,
    65281: _renegotiation,
}
