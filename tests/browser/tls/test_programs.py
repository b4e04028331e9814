"""smtplib, poplib and asyncio run on it unmodified: over loopback, at either end, with OpenSSL at the other."""

import contextlib
import poplib
import smtplib
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.mail.certificates import Certificate
from labkit.mail.pop3 import pop3_factory
from labkit.mail.sample import sample_message
from labkit.mail.service import MailService
from labkit.mail.smtp import smtp_factory
from labkit.wire.network import Network
from tests.browser.tls.ends import BOTH_WAYS_ROUND, LIBRARIES, client_context, server_context
from tests.mail.conftest import ACCOUNTS

HANAKO = ACCOUNTS[0]


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def smtp_at(network: Network, context: Any, *, implicit: bool) -> int:
    """An SMTP server's port."""
    if implicit:
        return network.listen(smtp_factory(MailService("ssl", ACCOUNTS)), tls=context).port
    return network.listen(smtp_factory(MailService("starttls", ACCOUNTS), context)).port


@pytest.mark.parametrize(("client", "server"), BOTH_WAYS_ROUND)
def test_smtplib_over_ssl(network: Network, client: str, server: str) -> None:
    port = smtp_at(network, server_context(server), implicit=True)
    with smtplib.SMTP_SSL("localhost", port, context=client_context(client), timeout=10) as smtp:
        smtp.login("hanako", HANAKO.password)
        assert smtp.send_message(sample_message(HANAKO), HANAKO.address, [HANAKO.address]) == {}
        assert smtp.sock.version() == "TLSv1.3"


@pytest.mark.parametrize(("client", "server"), BOTH_WAYS_ROUND)
def test_smtplib_upgrades(network: Network, client: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "asyncio.base_events.ssl", LIBRARIES[server]
    )  # start_tls asks whether it is given an SSLContext
    port = smtp_at(network, server_context(server), implicit=False)
    with smtplib.SMTP("localhost", port, timeout=10) as smtp:
        smtp.starttls(context=client_context(client))
        smtp.login("hanako", HANAKO.password)
        assert smtp.noop()[0] == 250


@pytest.mark.parametrize(("client", "server"), BOTH_WAYS_ROUND)
def test_poplib(network: Network, client: str, server: str) -> None:
    service = MailService("smtp-auth", ACCOUNTS)
    service.maildrops["hanako"].append(b"Subject: x\r\n\r\n" + b"a line of a long message\r\n" * 2_000)
    port = network.listen(pop3_factory(service), tls=server_context(server)).port
    with contextlib.closing(poplib.POP3_SSL("localhost", port, context=client_context(client), timeout=10)) as pop3:
        pop3.user("hanako")
        pop3.pass_(HANAKO.password)
        _reply, lines, _octets = pop3.retr(1)
        assert len(lines) == 2_002


@pytest.mark.parametrize("server", ["openssl", "ours"])
def test_a_refused_certificate_closes_the_connection(network: Network, server: str) -> None:
    port = smtp_at(network, server_context(server, Certificate.EXPIRED), implicit=True)
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        smtplib.SMTP_SSL("localhost", port, context=client_context("ours"), timeout=10)
    assert refused.value.verify_code == 10


def test_plain_text_where_tls_is_expected(network: Network) -> None:
    port = smtp_at(network, server_context("ours"), implicit=False)
    with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
        smtplib.SMTP_SSL("localhost", port, context=client_context("ours"), timeout=10)
