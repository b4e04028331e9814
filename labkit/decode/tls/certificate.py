"""An X.509 certificate (RFC 5280) in DER, octet by octet: every tag, length and value, down to names, validity and key.

DER is one pattern all through: a tag says what follows, a length says how much of it. A reader of tags and lengths that
trusts neither is enough to explain every octet of a certificate, of a broken one too.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from labkit.decode.fields import Cutter, hexadecimal, octets, text
from labkit.texts import _

_TAGS = {
    0x01: "BOOLEAN",
    0x02: "INTEGER",
    0x03: "BIT STRING",
    0x04: "OCTET STRING",
    0x05: "NULL",
    0x06: "OBJECT IDENTIFIER",
    0x0C: "UTF8String",
    0x13: "PrintableString",
    0x14: "TeletexString",
    0x16: "IA5String",
    0x17: "UTCTime",
    0x18: "GeneralizedTime",
    0x1E: "BMPString",
    0x30: "SEQUENCE",
    0x31: "SET",
}

OIDS = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.42": "GN",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
    "1.2.840.113549.1.1.1": "rsaEncryption",
    "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.2.840.10040.4.1": "DSA",
    "1.2.840.10045.2.1": "ecPublicKey",
    "1.2.840.10045.3.1.7": "secp256r1",
    "1.3.132.0.10": "secp256k1",
    "1.3.132.0.34": "secp384r1",
    "1.3.132.0.35": "secp521r1",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
    "2.5.29.9": "subjectDirectoryAttributes",
    "2.5.29.14": "subjectKeyIdentifier",
    "2.5.29.15": "keyUsage",
    "2.5.29.16": "privateKeyUsagePeriod",
    "2.5.29.17": "subjectAltName",
    "2.5.29.18": "issuerAltName",
    "2.5.29.19": "basicConstraints",
    "2.5.29.30": "nameConstraints",
    "2.5.29.31": "cRLDistributionPoints",
    "2.5.29.32": "certificatePolicies",
    "2.5.29.35": "authorityKeyIdentifier",
    "2.5.29.37": "extKeyUsage",
    "1.3.6.1.5.5.7.1.1": "authorityInfoAccess",
    "1.3.6.1.5.5.7.1.24": "tlsFeature",
    "1.3.6.1.4.1.11129.2.4.2": "signedCertificateTimestampList",
    "2.16.840.1.113730.1.1": "netscapeCertType",
    "2.16.840.1.113730.1.13": "netscapeComment",
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
}

Explain = Callable[[Cutter], str]
_LONGEST_OID = 64  # octets; a hostile one must not become a number of thousands of digits


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
    found: dict[str, str] = {}

    def inside(cut: Cutter) -> str:
        element(cut, "x509.tbs", lambda inner: _tbs(inner, found))
        _algorithm(cut, "x509.signature_algorithm", _("How the issuer signed."), "RFC 5280 section 4.1.1.2")
        element(cut, "x509.signature", _bits)
        return found.get("subject", "")

    element(cut, "x509.certificate", inside)
    return found.get("subject", "")


def element(cut: Cutter, field: str, explain: Explain, *, meaning: str = "", source: str = "") -> None:
    """One DER element: tag and length as a span, then the content, cut by `explain`, whose result is the value."""
    header, length = _header(cut.peek(6))

    def inside(inner: Cutter) -> str:
        tag = inner.peek(1)[0]
        inner.take(
            header,
            f"{field}.der",
            meaning=_("DER: the tag says {tag}, the length says {length}.").format(
                tag=_tag(tag), length=octets(length)
            ),
            source="X.690 section 8.1",
        )
        return explain(inner)

    cut.group(header + length, field, inside, meaning=meaning, source=source)


def _header(head: bytes) -> tuple[int, int]:
    """Octets of tag and length, and the length they announce; a length in more than four octets is not believed."""
    if len(head) < 2 or head[1] < 0x80:
        return 2, head[1] if len(head) > 1 else 0
    count = head[1] & 0x7F
    return 2 + count, int.from_bytes(head[2 : 2 + count], "big") if count <= 4 else 0


def _tag(tag: int) -> str:
    if tag & 0xC0 == 0x80:
        return f"[{tag & 0x1F}]"
    return _TAGS.get(tag, f"0x{tag:02X}")


def _tbs(cut: Cutter, found: dict[str, str]) -> str:
    if cut.peek(1) == b"\xa0":
        element(cut, "x509.version", _version)
    element(cut, "x509.serial", _integer)
    _algorithm(cut, "x509.tbs.signature_algorithm", _("How the issuer signs."), "RFC 5280 section 4.1.2.3")
    element(cut, "x509.issuer", _name)
    element(cut, "x509.validity", _validity)

    def subject(inner: Cutter) -> str:
        found["subject"] = _name(inner)
        return found["subject"]

    element(cut, "x509.subject", subject)
    element(cut, "x509.public_key", _public_key)
    while cut.left:
        if cut.peek(1) == b"\xa3":
            element(cut, "x509.extensions", _extensions)
        else:
            element(cut, "x509.unique_id", _bytes)
    return found.get("subject", "")


def _bytes(cut: Cutter) -> str:
    return hexadecimal(cut.rest("x509.octets"))


def _bits(cut: Cutter) -> str:
    cut.take(1, "x509.unused_bits")
    return hexadecimal(cut.rest("x509.bits"))


def _integer(cut: Cutter) -> str:
    return cut.rest("x509.integer").hex()


def _small(cut: Cutter) -> str:
    octets = cut.rest("x509.integer")
    return str(int.from_bytes(octets, "big")) if len(octets) <= 8 else hexadecimal(octets)


def _version(cut: Cutter) -> str:
    number = 0

    def inside(inner: Cutter) -> str:
        nonlocal number
        number = int.from_bytes(inner.take(min(inner.left, 4), "x509.version.number"), "big")
        return f"v{number + 1}"

    element(cut, "x509.version.integer", inside)
    return f"v{number + 1}"


def _oid(cut: Cutter, field: str) -> str:
    """An object identifier; its name where it has a common one."""
    found = ""

    def inside(inner: Cutter) -> str:
        nonlocal found
        dotted = oid(inner.peek(inner.left))
        found = OIDS.get(dotted, dotted)
        inner.rest(f"{field}.oid", lambda _octets: dotted)
        return found

    element(cut, field, inside, source="X.690 section 8.19")
    return found


def _algorithm(cut: Cutter, field: str, meaning: str, source: str) -> None:
    def inside(inner: Cutter) -> str:
        name = _oid(inner, f"{field}.name")
        if inner.left:
            element(inner, f"{field}.parameters", _bytes)
        return name

    element(cut, field, inside, meaning=meaning, source=source)


def _name(cut: Cutter) -> str:
    """A distinguished name (RFC 5280 section 4.1.2.4), as RFC 4514 writes it but in the order of the certificate."""
    parts: list[str] = []

    def attribute(inner: Cutter) -> str:
        kind = _oid(inner, "x509.name.type")
        value = ""

        def string(inmost: Cutter) -> str:
            nonlocal value
            wide = inmost.data[inmost.position - 2 : inmost.position - 1] == b"\x1e"
            value = inmost.rest("x509.name.text", text).decode("utf-16-be" if wide else "utf-8", "backslashreplace")
            return value

        element(inner, "x509.name.value", string)
        parts.append(f"{kind}={value}")
        return parts[-1]

    def one_set(inner: Cutter) -> str:
        before = len(parts)
        while inner.left:
            element(inner, "x509.name.attribute", attribute)
        return "+".join(parts[before:])

    while cut.left:
        element(cut, "x509.name.rdn", one_set)
    return ", ".join(parts)


def _validity(cut: Cutter) -> str:
    ends: list[str] = []

    def time(inner: Cutter) -> str:
        ends.append(_time(inner.rest("x509.time", text)))
        return ends[-1]

    element(cut, "x509.not_before", time)
    element(cut, "x509.not_after", time)
    return " – ".join(ends)


def _time(octets: bytes) -> str:
    """UTCTime (two digits of the year: 50 to 99 are 19xx) or GeneralizedTime, as a person reads it."""
    digits = octets.decode("ascii", "replace")
    for form in ("%y%m%d%H%M%SZ", "%Y%m%d%H%M%SZ"):
        try:
            moment = datetime.strptime(digits, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        if len(digits) == 13:
            century = 1900 if moment.year % 100 >= 50 else 2000
            moment = moment.replace(year=century + moment.year % 100)
        return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    return text(octets)


def _public_key(cut: Cutter) -> str:
    algorithm: list[str] = []

    def inside(inner: Cutter) -> str:
        algorithm.append(_oid(inner, "x509.key.name"))
        if inner.left:
            if inner.peek(1) == b"\x06":
                algorithm.append(_oid(inner, "x509.key.curve"))
            else:
                element(inner, "x509.key.parameters", _bytes)
        return " ".join(algorithm)

    def bits(inner: Cutter) -> str:
        inner.take(1, "x509.unused_bits")
        if algorithm[:1] != ["rsaEncryption"]:
            return hexadecimal(inner.rest("x509.key.bits"))
        element(inner, "x509.rsa", rsa)
        return ""

    def rsa(inner: Cutter) -> str:
        modulus = b""

        def whole(inmost: Cutter) -> str:
            nonlocal modulus
            modulus = inmost.rest("x509.rsa.modulus.octets")
            return hexadecimal(modulus)

        element(inner, "x509.rsa.modulus", whole)
        element(inner, "x509.rsa.exponent", _small)
        algorithm.append(_("{bits} bits").format(bits=int.from_bytes(modulus, "big").bit_length()))
        return algorithm[-1]

    element(cut, "x509.key.algorithm", inside)
    element(cut, "x509.key", bits)
    return " ".join(algorithm)


def _extensions(cut: Cutter) -> str:
    names: list[str] = []

    def one(inner: Cutter) -> str:
        name = _oid(inner, "x509.extension.name")
        names.append(name)
        if inner.peek(1) == b"\x01":
            element(inner, "x509.extension.critical", _boolean)
        value = ""

        def content(inmost: Cutter) -> str:
            nonlocal value
            value = _EXTENSIONS.get(name, _bytes)(inmost)
            return value

        element(inner, "x509.extension.value", content, meaning=_extension_meaning(name))
        return f"{name}: {value}" if value else name

    def many(inner: Cutter) -> str:
        while inner.left:
            element(inner, "x509.extension", one)
        return ", ".join(names)

    element(cut, "x509.extension_list", many)
    return ", ".join(names)


def _extension_meaning(name: str) -> str:
    if name == "subjectAltName":
        return _("The names that the key is for. In clear up to TLS 1.2: they tell everybody which server answered.")
    if name == "signedCertificateTimestampList":
        return _("Promises of public logs to list this certificate, where anybody can look it up.")
    return ""


def _boolean(cut: Cutter) -> str:
    return _("no") if cut.rest("x509.boolean") == b"\0" else _("yes")


def _alternative_names(cut: Cutter) -> str:
    names: list[str] = []

    def one(inner: Cutter) -> str:
        tag = inner.data[inner.position - 2]
        octets = inner.rest("x509.general_name.octets", text)
        if tag == 0x87 and len(octets) in (4, 16):
            names.append(_address(octets))
        else:
            names.append(text(octets) if tag in (0x81, 0x82, 0x86) else hexadecimal(octets))
        return names[-1]

    def many(inner: Cutter) -> str:
        while inner.left:
            short = len(inner.peek(2)) == 2 and inner.peek(2)[1] < 0x80
            element(inner, "x509.general_name", one if short else _bytes)
        return ", ".join(names)

    element(cut, "x509.general_names", many)
    return ", ".join(names)


def _address(octets: bytes) -> str:
    if len(octets) == 4:
        return ".".join(map(str, octets))
    return ":".join(f"{int.from_bytes(octets[at : at + 2], 'big'):x}" for at in range(0, 16, 2))


def _usages(cut: Cutter) -> str:
    names: list[str] = []

    def many(inner: Cutter) -> str:
        while inner.left:
            names.append(_oid(inner, "x509.purpose"))
        return ", ".join(names)

    element(cut, "x509.purposes", many)
    return ", ".join(names)


def _constraints(cut: Cutter) -> str:
    value = _("not a certificate authority")

    def inside(inner: Cutter) -> str:
        nonlocal value
        if inner.peek(1) == b"\x01":
            if inner.peek(3)[2:] not in (b"", b"\0"):
                value = _("a certificate authority")
            element(inner, "x509.is_authority", _boolean)
        if inner.left:
            element(inner, "x509.path_length", _small)
        return value

    element(cut, "x509.constraints", inside)
    return value


_EXTENSIONS: dict[str, Explain] = {
    "subjectAltName": _alternative_names,
    "extKeyUsage": _usages,
    "basicConstraints": _constraints,
}
