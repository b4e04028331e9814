"""A certificate that was shown: what it says, and whether a mail program that checks would accept it.

The verdict is OpenSSL's own, so that it is the one that a mail program would come to. It is asked for in memory, after the
visit: whoever refuses a certificate while connecting cannot go on, and would have to connect again.
"""

import ssl

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from labkit.errors import BadSetting
from labkit.probing.offer import ShownCertificate
from labkit.texts import _


def trusting(trusted_ca: str | None) -> ssl.SSLContext:
    try:
        if trusted_ca == "":
            raise ValueError(_("it is empty"))
        context = ssl.create_default_context(cadata=trusted_ca)
    except (ssl.SSLError, ValueError, TypeError) as error:  # a TypeError also for text that is not ASCII
        message = _("trusted_ca holds no certificate in PEM ({reason}): give the text of the authority's certificate.")
        reason = openssl_reason(error) if isinstance(error, ssl.SSLError) else str(error)
        raise BadSetting(message.format(reason=reason)) from None
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the certificate is still sent in the clear: see _refused
    return context


def openssl_reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason in lower case, without the place in Python's own source that str(error) has."""
    return (error.reason or type(error).__name__).replace("_", " ").lower()


def chain_of(sock: ssl.SSLSocket) -> list[bytes]:
    """The certificates that the server sent, its own first, in DER."""
    if hasattr(sock, "get_unverified_chain"):  # from Python 3.13 on
        return list(sock.get_unverified_chain())
    sent = sock._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in sent]


def judged(chain: list[bytes], name: str, trust: ssl.SSLContext) -> ShownCertificate | None:
    if not chain:
        return None
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        names = _names(leaf)
        told = _told(leaf.subject), _told(leaf.issuer)
        dates = [moment.date().isoformat() for moment in (leaf.not_valid_before_utc, leaf.not_valid_after_utc)]
        has_rsa = isinstance(leaf.public_key(), rsa.RSAPublicKey)
    except Exception as error:  # a hostile certificate may fail in any way
        unreadable = _("it cannot be read ({reason})").format(reason=type(error).__name__)
        return ShownCertificate("", "", (), "", "", unreadable)
    refused = _refused(chain, has_rsa, name, trust)
    reasons = {
        9: _("it is not valid before {date}").format(date=dates[0]),
        10: _("it has expired on {date}").format(date=dates[1]),
        18: _("it vouches for itself (self-signed)"),
        19: _("nobody here trusts its issuer"),
        20: _("nobody here trusts its issuer"),
        21: _("nobody here trusts its issuer"),
        62: _("it is for {names}, not for {name}").format(names=", ".join(names) or _("nobody"), name=name),
        64: _("it is for {names}, not for {name}").format(names=", ".join(names) or _("nobody"), name=name),
    }
    why = "" if refused is None else reasons.get(refused[0], refused[1])
    return ShownCertificate(told[0], told[1], names, dates[0], dates[1], why)


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found)


def _told(name: x509.Name) -> str:
    """The common name, or else the whole name."""
    common = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def _refused(chain: list[bytes], has_rsa: bool, name: str, trust: ssl.SSLContext) -> tuple[int, str] | None:
    """OpenSSL's verdict on a chain that was seen: its code and words, or None when it would be accepted.

    A client that checks while it connects cannot go on after a refusal, and would have to come twice. So the check is made
    afterwards and in memory: a client of its own is given these certificates in the opening of a TLS 1.2 handshake
    (RFC 5246 sections 7.4.1.3 and 7.4.2), and judges them before it waits for what would follow.
    """
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(arriving, leaving, server_hostname=name)
    suite = b"\xc0\x2f" if has_rsa else b"\xc0\x2b"  # ECDHE with AES_128_GCM, signed with RSA or ECDSA (RFC 5289)
    hello = b"\x03\x03" + bytes(32) + b"\0" + suite + b"\0" + b"\0\x05\xff\x01\0\x01\0"  # RFC 5746: renegotiation_info
    listed = b"".join(len(der).to_bytes(3, "big") + der for der in chain)
    said = _handshake(2, hello) + _handshake(11, len(listed).to_bytes(3, "big") + listed)
    for at in range(0, len(said), 2**14):
        piece = said[at : at + 2**14]
        arriving.write(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece)
    try:
        client.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_code, error.verify_message
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLError as error:
        return -1, _("it is not accepted ({reason})").format(reason=openssl_reason(error))
    return None


def _handshake(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body
