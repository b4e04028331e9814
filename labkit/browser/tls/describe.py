"""Certificates and cipher suites in the words of `ssl`."""

from datetime import datetime
from ipaddress import IPv6Address
from typing import Any

from asn1crypto.x509 import Certificate, Name

_KINDS = {"dns_name": "DNS", "ip_address": "IP Address"}


def suite(iana: str, version: str) -> tuple[str, str, int] | None:
    """OpenSSL's name of a suite, the version of TLS, and the bits of its key; None before there is a suite."""
    if not iana:
        return None
    bits = 128 if "AES_128" in iana else 256
    if "_WITH_" not in iana:
        return iana, version, bits
    exchange, _with, cipher = iana.removeprefix("TLS_").partition("_WITH_")
    cipher = cipher.replace("AES_", "AES").replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305").replace("_CBC", "")
    return f"{exchange}-{cipher}".replace("_", "-"), version, bits


def certificate(der: bytes) -> dict[str, Any]:
    """What `getpeercert()` says of a certificate, without the addresses of its issuer's services."""
    parsed = Certificate.load(der)
    serial = f"{parsed.serial_number:X}"
    told: dict[str, Any] = {
        "subject": _name(parsed.subject),
        "issuer": _name(parsed.issuer),
        "version": int(parsed["tbs_certificate"]["version"].native.removeprefix("v")),
        "serialNumber": serial.zfill(len(serial) + len(serial) % 2),
        "notBefore": _moment(parsed.not_valid_before),
        "notAfter": _moment(parsed.not_valid_after),
    }
    names = tuple(
        (_KINDS[name.name], _plain(name.native)) for name in parsed.subject_alt_name_value or () if name.name in _KINDS
    )
    return told | ({"subjectAltName": names} if names else {})


def _name(name: Name) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple(
        tuple((_camel_case(part["type"].native), part["value"].native) for part in relative) for relative in name.chosen
    )


def _plain(name: str) -> str:
    """A name as OpenSSL writes it, which shortens no IPv6 address."""
    if ":" not in name:
        return name
    return ":".join(f"{int(group, 16):X}" for group in IPv6Address(name).exploded.split(":"))


def _camel_case(words: str) -> str:
    first, *others = words.split("_")
    return first + "".join(map(str.capitalize, others))


def _moment(moment: datetime) -> str:
    return f"{moment:%b} {moment.day:2} {moment:%H:%M:%S %Y} GMT"
