"""The extensions of TLS hellos, certificates and tickets, field by field (RFC 8446 section 4.2 and the RFCs of each).

One table says for every extension what it is for, where that is written, and how to cut its content. Where the same
extension looks different in a client's and in a server's message, the function that cuts it asks which one it is in.
"""

from collections.abc import Callable
from enum import Enum, auto

from labkit.decode.fields import Cutter, hexadecimal, text
from labkit.decode.meanings import meaning_of
from labkit.decode.tls import names
from labkit.decode.tls.names import is_grease, name_of, naming, version_name
from labkit.texts import N_, _


class Place(Enum):
    """The message that an extension stands in."""

    CLIENT_HELLO = auto()
    SERVER_HELLO = auto()
    RETRY = auto()
    OTHER = auto()


Cut = Callable[[Cutter, Place], str]  # cuts what it knows, and says its value


def extensions(cut: Cutter, place: Place, prefix: str) -> None:
    """A list of extensions with its length in front, where there is one."""
    if cut.left:
        about = _("What the sender adds to the basic handshake.")
        each = _repeated(_extension)
        cut.vector(
            2, f"{prefix}.extensions", lambda inner: each(inner, place), meaning=about, source="RFC 8446 section 4.2"
        )


def _extension(cut: Cutter, place: Place) -> str:
    head = cut.peek(4)
    number, length = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:4], "big")
    name = name_of(names.EXTENSIONS, number)
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


# --- what contents are made of ---------------------------------------------------------------------------------------


def numbers(cut: Cutter, width: int, field: str, say: Callable[[int], str]) -> str:
    """All that is left as numbers of `width` octets, each a span of its own; their names joined."""
    return _repeated(_number(width, field, say))(cut, Place.OTHER)


def _repeated(item: Cut) -> Cut:
    """One item after the other, until nothing is left; their values with commas between."""

    def each(cut: Cutter, place: Place) -> str:
        values: list[str] = []
        while cut.left:
            values.append(item(cut, place))
        return ", ".join(filter(None, values))

    return each


def _list(width: int, field: str, item: Cut) -> Cut:
    """A vector of items: `width` octets of length first."""
    each = _repeated(item)
    return lambda cut, place: cut.vector(width, field, lambda inner: each(inner, place))


def _number(width: int, field: str, say: Callable[[int], str] = str, meaning: str = "") -> Cut:
    def cut_number(cut: Cutter, _place: Place) -> str:
        grease = width == 2 and is_grease(int.from_bytes(cut.peek(2), "big"))
        return say(cut.number(width, field, say, meaning=_grease() if grease else _(meaning) if meaning else ""))

    return cut_number


def _octets(width: int, field: str, say: Callable[[bytes], str] = hexadecimal) -> Cut:
    return lambda cut, _place: say(cut.opaque(width, field, say))


def _rest(field: str, say: Callable[[bytes], str] = hexadecimal) -> Cut:
    """All that is left."""
    return lambda cut, _place: say(cut.rest(field))


_opaque = _rest("tls.extension.data")


def _unsaid(*parts: Cut) -> Cut:
    """Several parts, of which none is the value."""

    def cut_parts(cut: Cutter, place: Place) -> str:
        for part in parts:
            part(cut, place)
        return ""

    return cut_parts


def _by_place(client: Cut, others: Cut) -> Cut:
    """A content that differs between a ClientHello and every other message."""
    return lambda cut, place: (client if place is Place.CLIENT_HELLO else others)(cut, place)


def _listed(width: int, item: int, field: str, say: Callable[[int], str]) -> Cut:
    """A vector of numbers: `width` octets of length, `item` octets each."""
    return _list(width, f"{field}_list", _number(item, field, say))


# --- the contents that are not made of these alone -------------------------------------------------------------------


def _server_name(cut: Cutter, _place: Place) -> str:
    cut.number(1, "tls.sni.type")
    return text(cut.opaque(2, "tls.sni.name", text))


def _share(cut: Cutter, place: Place) -> str:
    group = _number(2, "tls.key_share.group", naming(names.GROUPS))(cut, place)
    cut.opaque(2, "tls.key_share.key")
    return group


def _share_entry(cut: Cutter, place: Place) -> str:
    size = 4 + int.from_bytes(cut.peek(4)[2:], "big")
    return cut.group(size, "tls.key_share.entry", lambda inner: _share(inner, place))


def _key_share(cut: Cutter, place: Place) -> str:
    if place is Place.RETRY:
        about = N_("The group that the client shall send a key for.")
        return _number(2, "tls.key_share.group", naming(names.GROUPS), about)(cut, place)
    return _by_place(_list(2, "tls.key_share.list", _share_entry), _share)(cut, place)


def _renegotiation(cut: Cutter, _place: Place) -> str:
    proof = cut.opaque(1, "tls.renegotiation_info.data")
    return hexadecimal(proof) if proof else _("first handshake of the connection")


def _identity(cut: Cutter, _place: Place) -> str:
    cut.opaque(2, "tls.pre_shared_key.identity")
    cut.number(4, "tls.pre_shared_key.ticket_age")
    return "1"


def _offered_keys(cut: Cutter, place: Place) -> str:
    count = _list(2, "tls.pre_shared_key.identities", _identity)(cut, place).count("1")
    _list(2, "tls.pre_shared_key.binders", _octets(1, "tls.pre_shared_key.binder"))(cut, place)
    return _("{count} offered").format(count=count)


_SIGNATURES = _listed(2, 2, "tls.signature_algorithms.algorithm", naming(names.SIGNATURES))
_CERTIFICATE = _by_place(
    _listed(1, 1, "tls.certificate_type", naming(names.CERTIFICATE_TYPES, 2)),
    _number(1, "tls.certificate_type", naming(names.CERTIFICATE_TYPES, 2)),
)
# How to cut an extension's content, by its number; one that is not here is a run of octets.
_CONTENTS: dict[int, Cut] = {
    0: _list(2, "tls.sni.list", _server_name),
    1: _number(1, "tls.max_fragment_length.length", naming(names.MAX_FRAGMENT_LENGTHS, 2)),
    5: _by_place(
        _unsaid(
            _number(1, "tls.status_request.type", lambda number: "ocsp" if number == 1 else str(number)),
            _octets(2, "tls.status_request.responders"),
            _octets(2, "tls.status_request.extensions"),
        ),
        _opaque,
    ),
    10: _listed(2, 2, "tls.supported_groups.group", naming(names.GROUPS)),
    11: _listed(1, 1, "tls.ec_point_formats.format", naming(names.POINT_FORMATS, 2)),
    13: _SIGNATURES,
    15: _number(1, "tls.heartbeat.mode"),
    16: _list(2, "tls.alpn.list", _octets(1, "tls.alpn.protocol", text)),
    18: _by_place(_opaque, _unsaid(_list(2, "tls.sct.list", _unsaid(_octets(2, "tls.sct.timestamp"))))),
    19: _CERTIFICATE,
    20: _CERTIFICATE,
    21: _rest("tls.padding.zeros", lambda zeros: str(len(zeros))),
    27: _listed(1, 2, "tls.compress_certificate.algorithm", naming(names.CERTIFICATE_COMPRESSIONS)),
    28: _number(2, "tls.record_size_limit.limit"),
    34: _listed(2, 2, "tls.delegated_credential.algorithm", naming(names.SIGNATURES)),
    35: _rest("tls.session_ticket.ticket"),
    41: _by_place(_offered_keys, _number(2, "tls.pre_shared_key.selected")),
    42: _number(4, "tls.early_data.max_size"),
    43: _by_place(
        _listed(1, 2, "tls.supported_versions.version", version_name),
        _number(2, "tls.supported_versions.selected", version_name),
    ),
    44: _octets(2, "tls.cookie.data"),
    45: _listed(1, 1, "tls.psk_key_exchange_modes.mode", naming(names.PSK_MODES, 2)),
    47: _unsaid(_list(2, "tls.certificate_authorities.list", _unsaid(_octets(2, "tls.certificate_authorities.name")))),
    50: _SIGNATURES,
    51: _key_share,
    65281: _renegotiation,
}
