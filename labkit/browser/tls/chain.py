"""Whether a certificate is to be believed: its chain ends with somebody trusted, is in time, and it names the server.

A path is built from the server's certificate to a trusted one and then looked at in OpenSSL's order, so that what has
several faults is refused for the same one (RFC 5280 section 6.1; names: RFC 9525 section 6). Pure functions.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from asn1crypto.x509 import Certificate
from tlslite.constants import AlertDescription
from tlslite.x509 import X509

SERVER_AUTHENTICATION = "server_auth"  # RFC 5280 section 4.2.1.12


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a certificate is refused: OpenSSL's code (X509_V_ERR_…) and words, and the alert that tells the server."""

    code: int
    words: str
    alert: int


_NOT_SIGNED = Refusal(7, "certificate signature failure", AlertDescription.decrypt_error)
_NOT_YET = Refusal(9, "certificate is not yet valid", AlertDescription.bad_certificate)
_EXPIRED = Refusal(10, "certificate has expired", AlertDescription.certificate_expired)
_SELF_SIGNED = Refusal(18, "self-signed certificate", AlertDescription.unknown_ca)
_SELF_SIGNED_ABOVE = Refusal(19, "self-signed certificate in certificate chain", AlertDescription.unknown_ca)
_NO_ISSUER = Refusal(20, "unable to get local issuer certificate", AlertDescription.unknown_ca)
_NO_AUTHORITY = Refusal(79, "invalid CA certificate", AlertDescription.unknown_ca)
_OTHER_PURPOSE = Refusal(26, "unsuitable certificate purpose", AlertDescription.unsupported_certificate)


def refusal(
    shown: Sequence[bytes], trusted: Sequence[Certificate], server_name: str | None, now: datetime
) -> Refusal | None:
    """Why the certificates that a server shows, its own first, are refused; None when they are accepted.

    shown: DER. server_name: a name or an IP address; None asks for no name. Raises ValueError or TypeError for what is no
    certificate.
    """
    leaf, *others = (Certificate.load(der, strict=True) for der in shown)
    path = [leaf]
    refused = _complete(path, others, trusted) or _unfit(path) or _misnamed(leaf, server_name)
    return refused or next(filter(None, (_untimely_or_unsigned(*pair, now) for pair in _from_the_top(path))), None)


def _complete(path: list[Certificate], others: list[Certificate], trusted: Sequence[Certificate]) -> Refusal | None:
    """Lengthen a path of one certificate until it ends with a trusted one."""
    known = {certificate.dump() for certificate in trusted}
    while path[-1].dump() not in known:
        last = path[-1]
        issuer = _issuer(last, trusted)
        if issuer is None and _may_have_issued(last, last):
            return _SELF_SIGNED if len(path) == 1 else _SELF_SIGNED_ABOVE
        issuer = issuer or _issuer(last, others)
        if issuer is None:
            return _NO_ISSUER
        if issuer in others:
            others.remove(issuer)  # so that two certificates that vouch for each other come to an end
        path.append(issuer)
    return None


def _issuer(certificate: Certificate, candidates: Sequence[Certificate]) -> Certificate | None:
    return next((candidate for candidate in candidates if _may_have_issued(candidate, certificate)), None)


def _may_have_issued(issuer: Certificate, certificate: Certificate) -> bool:
    wanted, key = certificate.authority_key_identifier, issuer.key_identifier
    return issuer.subject == certificate.issuer and (wanted is None or key is None or wanted == key)


def _unfit(path: list[Certificate]) -> Refusal | None:
    if not all(certificate.ca for certificate in path[1:]):
        return _NO_AUTHORITY
    purposes = path[0].extended_key_usage_value
    if purposes is not None and SERVER_AUTHENTICATION not in purposes.native:
        return _OTHER_PURPOSE
    return None


def _from_the_top(path: list[Certificate]) -> Iterator[tuple[Certificate, Certificate | None]]:
    """Each certificate with its issuer, which the trusted one has no need of."""
    return zip(reversed(path), [None, *reversed(path[1:])], strict=True)


def _untimely_or_unsigned(certificate: Certificate, issuer: Certificate | None, now: datetime) -> Refusal | None:
    if issuer is not None and not _signed(certificate, issuer):
        return _NOT_SIGNED
    if now < certificate.not_valid_before:
        return _NOT_YET
    if now > certificate.not_valid_after:
        return _EXPIRED
    return None


def _signed(certificate: Certificate, issuer: Certificate) -> bool:
    """PKCS #1 v1.5 signatures alone (RFC 8017 section 8.2): what is signed otherwise counts as not signed."""
    algorithm = certificate["signature_algorithm"]
    if algorithm.signature_algo != "rsassa_pkcs1v15" or issuer.public_key.algorithm != "rsa":
        return False
    parsed = X509()
    parsed.parseBinary(bytearray(issuer.dump()))
    signed, signature = certificate["tbs_certificate"].dump(), certificate["signature_value"].native
    return bool(
        parsed.publicKey.hashAndVerify(
            bytearray(signature), bytearray(signed), rsaScheme="PKCS1", hAlg=algorithm.hash_algo
        )
    )


def ip_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a server's name is; None for a domain name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _misnamed(leaf: Certificate, server_name: str | None) -> Refusal | None:
    if server_name is None:
        return None
    address = ip_address(server_name)
    names = leaf.subject_alt_name_value or ()
    if address is not None:
        if any(name.name == "ip_address" and ip_address(name.native) == address for name in names):
            return None
        words = f"IP address mismatch, certificate is not valid for '{server_name}'."
        return Refusal(64, words, AlertDescription.bad_certificate)
    domains = [str(name.native) for name in names if name.name == "dns_name"]
    if any(_matches(domain, server_name) for domain in domains or _common_names(leaf)):
        return None
    words = f"Hostname mismatch, certificate is not valid for '{server_name}'."
    return Refusal(62, words, AlertDescription.bad_certificate)


def _common_names(leaf: Certificate) -> list[str]:
    common = leaf.subject.native.get("common_name", [])
    return [common] if isinstance(common, str) else common


def _matches(domain: str, name: str) -> bool:
    """A wildcard stands for one whole label, the leftmost, and not right above a top level."""
    domain, name = domain.lower(), name.lower()
    star, _dot, rest = domain.partition(".")
    if star == "*" and "." in rest:
        label, _dot, name_rest = name.partition(".")
        return bool(label) and name_rest == rest
    return domain == name
