"""Certificates: what OpenSSL says of a chain, ours says, in code, words and alert."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labkit.browser import tls as ours
from labkit.browser.tls.chain import refusal

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@cache
def key(owner: str) -> rsa.RSAPrivateKey:
    """A key of somebody."""
    del owner
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class Plan:
    """A certificate to be made."""

    subject: str = "mail.example"
    issuer: str = "Root"
    signer: str = "root"  # whose key signs
    owner: str = "leaf"  # whose key is in it
    names: tuple[str, ...] = ("mail.example",)
    addresses: tuple[str, ...] = ()
    authority: bool = False
    since: timedelta = -DAY
    until: timedelta = DAY
    purpose: x509.ObjectIdentifier | None = None
    names_its_issuers_key: bool = True

    def made(self) -> x509.Certificate:
        """The certificate."""
        return _made(self)


@cache
def _made(plan: Plan) -> x509.Certificate:
    public = key(plan.owner).public_key()
    builder = (
        x509.CertificateBuilder(_name(plan.issuer), _name(plan.subject), public, x509.random_serial_number())
        .not_valid_before(NOW + plan.since)
        .not_valid_after(NOW + plan.until)
        .add_extension(x509.BasicConstraints(plan.authority, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in plan.names]
    names += [x509.IPAddress(ip_address(address)) for address in plan.addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if plan.names_its_issuers_key:
        known = x509.AuthorityKeyIdentifier.from_issuer_public_key(key(plan.signer).public_key())
        builder = builder.add_extension(known, critical=False)
    if plan.purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([plan.purpose]), critical=False)
    return builder.sign(key(plan.signer), hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


LEAF = Plan()
ROOT = Plan("Root", "Root", "root", "root", (), authority=True)
MIDDLE = Plan("Middle", "Root", "root", "middle", (), authority=True)
BELOW = replace(LEAF, issuer="Middle", signer="middle")
ALONE = replace(LEAF, issuer="mail.example", signer="leaf")
LATE = {"until": -timedelta(hours=1)}

CHAINS: dict[str, tuple[Sequence[Plan], Sequence[Plan], str]] = {  # shown, trusted, the server's name
    "good": ([LEAF], [ROOT], "mail.example"),
    "good, root shown": ([LEAF, ROOT], [ROOT], "mail.example"),
    "good, upper case": ([LEAF], [ROOT], "MAIL.Example"),
    "good, by a middle one": ([BELOW, MIDDLE], [ROOT], "mail.example"),
    "good, much else shown": ([BELOW, ALONE, LEAF, MIDDLE, MIDDLE], [ROOT], "mail.example"),
    "the middle one is missing": ([BELOW], [ROOT], "mail.example"),
    "the middle one is trusted": ([BELOW], [MIDDLE], "mail.example"),
    "the server's own is trusted": ([LEAF], [LEAF], "mail.example"),
    "the middle one is expired": ([BELOW, replace(MIDDLE, **LATE)], [ROOT], "mail.example"),
    "the middle one is no authority": ([BELOW, replace(MIDDLE, authority=False)], [ROOT], "mail.example"),
    "nobody is trusted": ([LEAF], [replace(ROOT, subject="Other", issuer="Other")], "mail.example"),
    "the root shown is not trusted": ([LEAF, ROOT], [MIDDLE], "mail.example"),
    "self-signed": ([ALONE], [ROOT], "mail.example"),
    "self-signed and trusted": ([ALONE], [ALONE], "mail.example"),
    "self-signed, expired, another name": ([replace(ALONE, **LATE)], [ROOT], "other.example"),
    "expired": ([replace(LEAF, **LATE)], [ROOT], "mail.example"),
    "expired and another name": ([replace(LEAF, **LATE)], [ROOT], "other.example"),
    "not yet valid": ([replace(LEAF, since=timedelta(hours=1))], [ROOT], "mail.example"),
    "the root is expired": ([LEAF], [replace(ROOT, **LATE)], "mail.example"),
    "another signer, same names": ([replace(LEAF, signer="impostor")], [ROOT], "mail.example"),
    "another signer, no key named": (
        [replace(LEAF, signer="impostor", names_its_issuers_key=False)],
        [ROOT],
        "mail.example",
    ),
    "for clients": ([replace(LEAF, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)], [ROOT], "mail.example"),
    "for servers": ([replace(LEAF, purpose=ExtendedKeyUsageOID.SERVER_AUTH)], [ROOT], "mail.example"),
    "for clients, another name": (
        [replace(LEAF, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)],
        [ROOT],
        "other.example",
    ),
    "another name": ([LEAF], [ROOT], "other.example"),
    "a name below": ([LEAF], [ROOT], "sub.mail.example"),
    "only a common name": ([replace(LEAF, names=())], [ROOT], "mail.example"),
    "only another common name": ([replace(LEAF, names=())], [ROOT], "other.example"),
    "a common name beside names": ([replace(LEAF, names=("other.example",))], [ROOT], "mail.example"),
    "a common name beside addresses": ([replace(LEAF, names=(), addresses=("192.0.2.1",))], [ROOT], "mail.example"),
    "a wildcard": ([replace(LEAF, names=("*.mail.example",))], [ROOT], "a.mail.example"),
    "a wildcard for two labels": ([replace(LEAF, names=("*.mail.example",))], [ROOT], "a.b.mail.example"),
    "a wildcard for none": ([replace(LEAF, names=("*.mail.example",))], [ROOT], "mail.example"),
    "a wildcard above all": ([replace(LEAF, names=("*.example",))], [ROOT], "mail.example"),
    "a wildcard in a label": ([replace(LEAF, names=("m*.mail.example",))], [ROOT], "ma.mail.example"),
    "a wildcard further right": ([replace(LEAF, names=("a.*.example",))], [ROOT], "a.mail.example"),
    "an address": ([replace(LEAF, addresses=("192.0.2.1",))], [ROOT], "192.0.2.1"),
    "an address of version 6": ([replace(LEAF, addresses=("2001:db8::1",))], [ROOT], "2001:db8:0:0::1"),
    "another address": ([replace(LEAF, addresses=("192.0.2.1",))], [ROOT], "192.0.2.2"),
    "an address as a name": ([replace(LEAF, names=("192.0.2.1",))], [ROOT], "192.0.2.1"),
}


def verdict(library: Any, shown: Sequence[Plan], trusted: Sequence[Plan], name: str) -> tuple[object, ...]:
    """What a client says when a TLS 1.2 server shows it these certificates: its error and its alert."""
    context = library.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if library is ssl:  # the same on every release of Python: partial chains, and no RFC 5280 to the letter
        context.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata="".join(plan.made().public_bytes(Encoding.PEM).decode() for plan in trusted))
    ders = [plan.made().public_bytes(Encoding.DER) for plan in shown]
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    outgoing.read()
    incoming.write(flight(ders))
    try:
        client.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_code, error.verify_message, outgoing.read()
    except ssl.SSLWantReadError:
        return ("accepted",)
    raise AssertionError("neither accepted nor refused")


def flight(ders: Sequence[bytes]) -> bytes:
    """ServerHello and Certificate (RFC 5246 sections 7.4.1.3 and 7.4.2)."""
    hello = b"\x03\x03" + bytes(32) + b"\0" + b"\xc0\x2f" + b"\0" + b"\0\x05\xff\x01\0\x01\0"
    listed = b"".join(len(der).to_bytes(3, "big") + der for der in ders)
    certificates = len(listed).to_bytes(3, "big") + listed
    said = b"".join(
        bytes((kind,)) + len(body).to_bytes(3, "big") + body for kind, body in ((2, hello), (11, certificates))
    )
    return b"\x16\x03\x03" + len(said).to_bytes(2, "big") + said


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_is_judged_as_openssl_judges_it(chain: str) -> None:
    assert verdict(ours, *CHAINS[chain]) == verdict(ssl, *CHAINS[chain])


def test_the_table_has_every_verdict() -> None:
    """A table in which all is accepted would pass as well."""
    codes = {verdict(ours, *chain)[0] for chain in CHAINS.values()}
    assert codes >= {"accepted", 7, 9, 10, 18, 19, 20, 26, 62, 64}


def test_certificates_that_vouch_for_each_other_come_to_an_end() -> None:
    one = Plan("A", "B", "b", "a", authority=True)
    other = Plan("B", "A", "a", "b", authority=True)
    ders = [plan.made().public_bytes(Encoding.DER) for plan in (one, other, one, other)]
    found = refusal(ders, [], None, NOW)
    assert found is not None
    assert found.code == 20


@pytest.mark.parametrize("cadata", ["", "nothing of the kind", b"\x30\x03\x02\x01", b"", "パスワード", None])
def test_what_is_no_certificate_is_not_trusted(cadata: str | bytes | None) -> None:
    kinds: list[Any] = []
    for library in (ssl, ours):
        context: Any = library.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises((ValueError, TypeError, ssl.SSLError)) as error:
            context.load_verify_locations(cadata=cadata)
        kinds.append(error.type)
    assert kinds[0] is kinds[1] or issubclass(kinds[0], ssl.SSLError)
