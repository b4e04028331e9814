"""The lab's certificates: what a client that checks them finds, and what crosses the wire."""

import ssl
import stat
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from labkit.files import KeyLogFile
from labkit.mail.certificates import NAMES, SHIPPED, Authority, Certificate, Shipped, authority, ship
from labkit.mail.issuer import Issuer


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> tuple[ssl.SSLObject, bytes]:
    """A handshake in memory: the client's end, and what the server sent after its last handshake message."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    return ends[0], to_client.read()


@pytest.mark.parametrize("name", NAMES)
def test_a_good_certificate_is_good_for_every_name_of_the_lab(name: str) -> None:
    client, _ = handshake(authority().server_context(), authority().client_context(), name)
    assert client.version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("certificate", "code"),
    [(Certificate.WRONG_NAME, 62), (Certificate.EXPIRED, 10), (Certificate.UNKNOWN_ISSUER, 20)],
)
def test_the_others_are_wrong_in_one_way_each(certificate: Certificate, code: int) -> None:
    server = authority().server_context(certificate)
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        handshake(server, authority().client_context())
    assert refused.value.verify_code == code
    handshake(server, authority().client_context(verify=False))


def test_a_wrong_name_is_right_elsewhere() -> None:
    handshake(authority().server_context(Certificate.WRONG_NAME), authority().client_context(), "other.example")


def shown(source: Authority, certificate: Certificate = Certificate.GOOD) -> x509.Certificate:
    """The certificate that a server shows."""
    client, _ = handshake(source.server_context(certificate), source.client_context(verify=False))
    return x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")


def test_keys_are_rsa_and_names_common() -> None:
    certificate = shown(authority())
    assert isinstance(certificate.public_key(), rsa.RSAPublicKey)
    (common,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert common.value == "mail.example"


def test_a_process_has_one_authority_and_one_certificate_of_a_kind() -> None:
    assert authority() is authority()
    assert shown(authority()) == shown(authority())


def test_certificates_of_any_two_authorities_have_one_length() -> None:
    lengths = {len(shown(source).public_bytes(Encoding.DER)) for source in (authority(), Authority(Issuer()))}
    assert len(lengths) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_ticket_crosses_the_wire(version: ssl.TLSVersion) -> None:
    client = authority().client_context()
    client.maximum_version = version
    end, rest = handshake(authority().server_context(), client)
    assert rest == b""
    assert end.session is None or not end.session.has_ticket


def test_nothing_older_than_tls_1_2() -> None:
    for context in (
        authority().server_context(),
        authority().client_context(),
        authority().client_context(verify=False),
    ):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_key_log_for_either_end() -> None:
    with closing(KeyLogFile()) as ours, closing(KeyLogFile()) as theirs:
        handshake(authority().server_context(keylog=ours), authority().client_context(keylog=theirs))
    lines = [set(log.text().splitlines()[1:]) for log in (ours, theirs)]
    assert {line.split()[0] for line in lines[0]} >= {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}
    assert lines[0] == lines[1]


def test_a_private_key_is_on_disk_only_while_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modes = []
    load = ssl.SSLContext.load_cert_chain

    def watched(context: ssl.SSLContext, path: str) -> None:
        modes.extend([stat.S_IMODE(Path(path).parent.stat().st_mode), stat.S_IMODE(Path(path).stat().st_mode)])
        load(context, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    authority().server_context()
    assert modes == [0o700, 0o600]
    assert list(tmp_path.iterdir()) == []


def test_shipped_certificates_are_those_that_were_made(tmp_path: Path) -> None:
    ship(Issuer(), tmp_path / "certificates.json")
    one, other = (Authority(Shipped(tmp_path / "certificates.json")) for _copy in range(2))
    handshake(one.server_context(), other.client_context())
    for certificate in Certificate:
        assert shown(one, certificate) == shown(other, certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(one.server_context(Certificate.UNKNOWN_ISSUER), other.client_context())


def test_nothing_is_shipped_with_the_source() -> None:
    assert not SHIPPED.exists()
