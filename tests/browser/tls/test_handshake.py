"""Handshakes: versions, suites, the lab's certificates, pieces, and session keys."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from labkit.browser.tls import engine
from labkit.mail.certificates import NAMES, Certificate
from tests.browser.tls.ends import (
    BOTH_WAYS_ROUND,
    VERSIONS,
    Connection,
    client_context,
    same_as_openssl,
    server_context,
)

T12, T13 = VERSIONS
RANGES = [(T12, T12), (T12, T13), (T13, T13)]


def limited(context: Any, lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> Any:
    """A context for these versions."""
    context.minimum_version, context.maximum_version = lowest, highest
    return context


@pytest.mark.parametrize("client", RANGES)
@pytest.mark.parametrize("server", RANGES)
def test_versions_are_agreed_on_or_refused(client: tuple[Any, Any], server: tuple[Any, Any]) -> None:
    same_as_openssl(
        lambda mine, yours: Connection(
            limited(client_context(mine), *client), limited(server_context(yours), *server)
        ).handshake()
    )


def test_no_version_at_all() -> None:
    context = limited(client_context("ours"), T12, ssl.TLSVersion.TLSv1_1)
    with pytest.raises(ssl.SSLError, match="NO_PROTOCOLS_AVAILABLE"):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="mail.example")


@pytest.mark.parametrize(
    ("certificate", "name"),
    [(Certificate.GOOD, name) for name in NAMES]
    + [(bad, name) for bad in Certificate if bad is not Certificate.GOOD for name in ("localhost", "127.0.0.1")],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_certificate_of_the_lab_is_judged_alike(
    certificate: Certificate, version: ssl.TLSVersion, name: str
) -> None:
    same_as_openssl(
        lambda client, server: Connection(
            limited(client_context(client), T12, version), server_context(server, certificate), name=name
        ).handshake()
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_who_does_not_check_accepts_every_certificate(version: ssl.TLSVersion) -> None:
    def play(client: str, server: str) -> Connection:
        context = limited(client_context(client), T12, version)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return Connection(context, server_context(server, Certificate.UNKNOWN_ISSUER)).handshake()

    same_as_openssl(play)
    assert play("ours", "openssl").client.tls.getpeercert() == {}


SUITES = [
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-AES128-SHA256",
]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("openssl_is", ["client", "server"])
def test_suites_of_tls_1_2(suite: str, openssl_is: str) -> None:
    contexts = {"client": client_context, "server": server_context}
    made = {end: make("openssl" if end == openssl_is else "ours") for end, make in contexts.items()}
    limited(made[openssl_is], T12, T12).set_ciphers(f"{suite}:@SECLEVEL=0")
    connection = Connection(made["client"], made["server"]).handshake()
    cipher = suite, "TLSv1.2", 256 if "AES256" in suite else 128
    assert [end.tls.cipher() for end in (connection.client, connection.server)] == [cipher, cipher]
    exchange(connection)


@pytest.mark.parametrize(
    ("cipher", "suite"), [("aes256gcm", "TLS_AES_256_GCM_SHA384"), ("aes128gcm", "TLS_AES_128_GCM_SHA256")]
)
@pytest.mark.parametrize(("client", "server"), BOTH_WAYS_ROUND)
def test_suites_of_tls_1_3(cipher: str, suite: str, client: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CIPHERS", (cipher,))
    connection = Connection(client_context(client), server_context(server)).handshake()
    assert [end.tls.cipher()[0] for end in (connection.client, connection.server)] == [suite, suite]
    exchange(connection)


def exchange(connection: Connection) -> None:
    """Data cross both ways."""
    connection.client.tls.write(b"to the server")
    connection.server.tls.write(b"to the client")
    connection.until_done((connection.client, "read", (100,)), (connection.server, "read", (100,)))
    assert connection.client.said[-1] == ("read", b"to the client")
    assert connection.server.said[-1] == ("read", b"to the server")


def test_nothing_in_common() -> None:
    for client, server in (("openssl", "ours"), ("openssl", "openssl")):
        context = limited(client_context(client), T12, T12)
        context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        connection = Connection(context, server_context(server)).handshake()
        error = ("SSLError", 1, "SSLV3_ALERT_HANDSHAKE_FAILURE", None, None)
        assert connection.client.said == [("do_handshake", error)]
        assert connection.server.said == [("do_handshake", ("SSLError", 1, "NO_SHARED_CIPHER", None, None))]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 7, 1460])
def test_a_handshake_in_pieces(version: ssl.TLSVersion, size: int) -> None:
    same_as_openssl(
        lambda client, server: Connection(
            limited(client_context(client), T12, version), server_context(server), size=size
        ).handshake()
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("client", "server"), BOTH_WAYS_ROUND)
def test_both_ends_log_the_same_keys(version: ssl.TLSVersion, client: str, server: str, tmp_path: Path) -> None:
    logs = tmp_path / "client", tmp_path / "server"
    mine = limited(client_context(client, keylog=logs[0]), T12, version)
    Connection(mine, server_context(server, keylog=logs[1])).handshake()
    lines = [{line for line in log.read_text().splitlines() if not line.startswith("#")} for log in logs]
    names = {line.split()[0] for line in lines[0]}
    assert lines[0] == lines[1]
    assert names == (
        {"CLIENT_RANDOM"}
        if version == T12
        else {"EXPORTER_SECRET"}
        | {f"{end}_{kind}" for end in ("CLIENT", "SERVER") for kind in ("HANDSHAKE_TRAFFIC_SECRET", "TRAFFIC_SECRET_0")}
    )


def test_a_key_log_that_cannot_be_written(tmp_path: Path) -> None:
    for library in ("openssl", "ours"):
        with pytest.raises(FileNotFoundError):
            client_context(library, keylog=tmp_path / "missing" / "keys")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_told_of_the_certificate(version: ssl.TLSVersion) -> None:
    told = []
    for client in ("openssl", "ours"):
        end = Connection(limited(client_context(client), T12, version), server_context("openssl")).handshake().client
        told.append((end.tls.getpeercert(), end.tls.getpeercert(binary_form=True)))
    assert told[0] == told[1]


def test_a_key_log_whose_name_is_taken_away_is_written_on(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for library in ("openssl", "ours"):
        context = client_context(library, keylog=path)
        with path.open() as file:
            path.unlink()
            Connection(context, server_context("openssl")).handshake()
            assert "CLIENT_TRAFFIC_SECRET_0" in file.read()
        assert not path.exists()
