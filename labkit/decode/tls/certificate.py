"""An X.509 certificate (RFC 5280) in DER, octet by octet: every tag, length and value, down to names, validity and key.

DER is one pattern all through: a tag says what follows, a length says how much of it. So a reader of tags and lengths that
trusts neither, and a table of what stands inside what, explain every octet of a certificate, of a broken one too.
"""

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from ipaddress import ip_address

from labkit.decode.fields import Cutter, hexadecimal, octets, text
from labkit.decode.meanings import own_meaning
from labkit.decode.registries import REGISTRIES
from labkit.texts import _

BOOLEAN, INTEGER, BIT_STRING, OID, UTC_TIME, GENERALIZED_TIME, BMP_STRING = 1, 2, 3, 6, 23, 24, 30
# What stands inside an element: (tag it must have, or 0; name). The last one may come again and again.
_INSIDE: dict[str, tuple[tuple[int, str], ...]] = {
    "certificate": ((0, "tbs"), (0, "signature_algorithm"), (0, "signature")),
    "tbs": (
        (0xA0, "version"),
        (0, "serial"),
        (0, "tbs.signature_algorithm"),
        (0, "issuer"),
        (0, "validity"),
        (0, "subject"),
        (0, "public_key"),
        (0xA3, "extensions"),
        (0, "unique_id"),
    ),
    "version": ((0, "version.integer"),),
    "signature_algorithm": ((0, "signature_algorithm.name"), (0, "signature_algorithm.parameters")),
    "tbs.signature_algorithm": ((0, "tbs.signature_algorithm.name"), (0, "tbs.signature_algorithm.parameters")),
    "issuer": ((0, "name.rdn"),),
    "subject": ((0, "name.rdn"),),
    "name.rdn": ((0, "name.attribute"),),
    "name.attribute": ((0, "name.type"), (0, "name.value")),
    "validity": ((0, "not_before"), (0, "not_after")),
    "public_key": ((0, "key.algorithm"), (0, "key")),
    "key.algorithm": ((0, "key.name"), (OID, "key.curve"), (0, "key.parameters")),
    "rsa": ((0, "rsa.modulus"), (0, "rsa.exponent")),
    "extensions": ((0, "extension_list"),),
    "extension_list": ((0, "extension"),),
    "extension": ((0, "extension.name"), (BOOLEAN, "extension.critical"), (0, "extension.value")),
    "general_names": ((0, "general_name"),),
    "purposes": ((0, "purpose"),),
    "constraints": ((BOOLEAN, "is_authority"), (INTEGER, "path_length")),
}
# What an element says, where that is not all that stands in it with commas between: which inner elements, and between them.
_SAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "certificate": ("", ("tbs",)),
    "tbs": ("", ("subject",)),
    "signature_algorithm": ("", ("signature_algorithm.name",)),
    "tbs.signature_algorithm": ("", ("tbs.signature_algorithm.name",)),
    "name.attribute": ("=", ("name.type", "name.value")),
    "name.rdn": ("+", ("name.attribute",)),
    "validity": (" – ", ("not_before", "not_after")),
    "public_key": (" ", ("key.algorithm", "key")),  # of an RSA key how long it is
    "key.algorithm": (" ", ("key.name", "key.curve")),
    "rsa": ("", ("rsa.modulus",)),
    "extension": (": ", ("extension.name", "extension.value")),
}
# What the content of an extension is; every other one is shown as its octets.
_EXTENSIONS = {"subjectAltName": "general_names", "extKeyUsage": "purposes", "basicConstraints": "constraints"}
_LONGEST_OID = 64  # octets; a hostile one must not become a number of thousands of digits


@cache
def _names() -> dict[str, str]:
    with (files(__package__) / "object_identifiers.csv").open(encoding="utf-8") as file:
        return {row["oid"]: row["name"] for row in csv.DictReader(file)}


def oid(content: bytes) -> str:
    """An object identifier in dotted decimal (X.690 section 8.19)."""
    numbers: list[int] = []
    number = 0
    for octet in content[:_LONGEST_OID]:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    if not numbers:
        return "?"
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def certificate(cut: Cutter) -> str:
    """Explain one certificate (RFC 5280 section 4.1); the value is its subject."""
    return _element(cut, "certificate")


def _element(cut: Cutter, name: str, about: str = "") -> str:
    """One DER element: tag and length as a span, then its content; returns its value.

    about: what the element before it said, which decides how this one is read.
    """
    head = cut.peek(6)
    header, length = _header(head)
    field = f"x509.{name}"

    def inside(inner: Cutter) -> str:
        words = _("DER: the tag says {tag}, the length says {length}.")
        words = words.format(tag=_tag(head[0]), length=octets(length))
        inner.take(header, f"{field}.der", meaning=words, source="X.690 section 8.1")
        if head[0] == BIT_STRING:
            inner.take(1, "x509.unused_bits")
            if name == "key" and about.startswith("rsaEncryption"):
                return _element(inner, "rsa")
        if name == "extension.value" and about in _EXTENSIONS and inner.left:
            return _element(inner, _EXTENSIONS[about])
        value = _together(inner, name) if name in _INSIDE else _value(inner, name, head[0])
        return "" if name == "key" else value

    meaning = own_meaning(f"x509.extension.{about}").sentence if name == "extension.value" else ""
    source = "X.690 section 8.19" if head[:1] == bytes([OID]) else ""
    return cut.group(header + length, field, inside, meaning=meaning, source=source)


def _header(head: bytes) -> tuple[int, int]:
    """Octets of tag and length, and the length they announce; a length in more than four octets is not believed."""
    if len(head) < 2 or head[1] < 0x80:
        return 2, head[1] if len(head) > 1 else 0
    count = head[1] & 0x7F
    return 2 + count, int.from_bytes(head[2 : 2 + count], "big") if count <= 4 else 0


def _tag(tag: int) -> str:
    return f"[{tag & 0x1F}]" if tag & 0xC0 == 0x80 else REGISTRIES["asn1_tags"].get(tag, f"0x{tag:02X}")


def _together(cut: Cutter, name: str) -> str:
    """What an element says whose content is other elements, as `_INSIDE` names them."""
    expected = list(_INSIDE[name])
    said: list[tuple[str, str]] = []
    while cut.left:
        while len(expected) > 1 and expected[0][0] and cut.peek(1)[0] != expected[0][0]:
            expected.pop(0)
        inner = expected[0][1]
        said.append((inner, _element(cut, inner, said[0][1] if said else "")))
        if len(expected) > 1:
            expected.pop(0)
    if name == "constraints":
        return _("a certificate authority") if ("is_authority", _("yes")) in said else _("not a certificate authority")
    if name in ("extensions", "extension_list"):
        said = [(inner, value.partition(": ")[0]) for inner, value in said]
    between, counting = _SAYS.get(name, (", ", ()))
    return between.join(value for inner, value in said if value and (not counting or inner in counting))


def _value(cut: Cutter, name: str, tag: int) -> str:
    """What an element says that holds no others: by its tag, or by what it is for."""
    content = cut.peek(cut.left)
    value = _SAY.get(name, _BY_TAG.get(tag, text if name.startswith("name.") else hexadecimal))(content)
    cut.rest(f"x509.{name}.content", oid if tag == OID else lambda _octets: value)
    return value


def _object(content: bytes) -> str:
    dotted = oid(content)
    return _names().get(dotted, dotted)


def _number(content: bytes) -> str:
    return str(int.from_bytes(content, "big")) if len(content) <= 8 else hexadecimal(content)


def _yes_or_no(content: bytes) -> str:
    return _("no") if content == b"\0" else _("yes")


def _time(content: bytes) -> str:
    """UTCTime (two digits of the year: 50 to 99 are 19xx) or GeneralizedTime, as a person reads it."""
    digits = text(content)
    if len(digits) == 13:
        digits = ("19" if digits >= "5" else "20") + digits
    try:
        moment = datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return text(content)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


_BY_TAG: dict[int, Callable[[bytes], str]] = {
    BOOLEAN: _yes_or_no,
    INTEGER: _number,
    OID: _object,
    UTC_TIME: _time,
    GENERALIZED_TIME: _time,
    BMP_STRING: lambda content: content.decode("utf-16-be", "backslashreplace"),
    0x81: text,  # in a general name (RFC 5280 section 4.2.1.6): e-mail address, host name, URI, IP address
    0x82: text,
    0x86: text,
    0x87: lambda content: str(ip_address(content)) if len(content) in (4, 16) else hexadecimal(content),
}
_SAY: dict[str, Callable[[bytes], str]] = {
    "serial": bytes.hex,
    "version.integer": lambda content: f"v{int.from_bytes(content[:4], 'big') + 1}",
    "rsa.modulus": lambda content: _("{bits} bits").format(bits=int.from_bytes(content, "big").bit_length()),
}
