"""The lab's mail program and its probe against Postfix and Dovecot: servers that somebody else wrote."""

from collections.abc import Iterator

import pytest

import labkit
from labkit.errors import LabError, LoginRefused
from labkit.mail.certificates import Certificate, authority
from labkit.mail.policy import MECHANISMS, Security
from labkit.mail.sample import sample_message
from tests.peers.servers import MailServers, running_servers

LETTER = sample_message().as_bytes()
CA = authority().ca_pem.decode()


@pytest.fixture(scope="module")
def mail_servers() -> Iterator[MailServers]:
    """Postfix and Dovecot as they are often set up: TLS if the client wants it."""
    with running_servers() as servers:
        yield servers


@pytest.fixture
def servers(mail_servers: MailServers) -> Iterator[MailServers]:
    """Both servers, with empty maildrops."""
    mail_servers.empty()
    yield mail_servers
    mail_servers.empty()


def card_of(servers: MailServers, host: str = "localhost") -> labkit.ReportCard:
    """What the probe finds; the ports are not standard ones, so it has to find out how they begin."""
    smtp, pop3 = (servers.smtp_port, servers.smtps_port), (servers.pop3_port, servers.pop3s_port)
    return labkit.probe(host, smtp_ports=smtp, pop3_ports=pop3, timeout=2, trusted_ca=CA)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("security", Security)
def test_postfix_takes_what_the_client_sends(servers: MailServers, security: Security, mechanism: str) -> None:
    servers.client("hanako", security, mechanism=mechanism).send(sample_message())
    (stored,) = servers.delivered("taro")
    assert stored.replace(b"\r\n", b"\n").endswith(LETTER.replace(b"\r\n", b"\n"))
    by = {Security.NONE: b"ESMTPA "}.get(security, b"ESMTPSA ")  # RFC 3848: how it came, in the Received field
    assert b" with " + by in stored


@pytest.mark.parametrize("login", ["USER", "APOP", *MECHANISMS])
@pytest.mark.parametrize("security", Security)
def test_dovecot_hands_out_what_is_stored(servers: MailServers, security: Security, login: str) -> None:
    folder = servers.folder / "mail" / "taro" / "new"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.letter").write_bytes(LETTER.replace(b"\r\n", b"\n"))
    for path in (servers.folder / "mail" / "taro", folder):
        path.chmod(0o777)
    (folder / "1.letter").chmod(0o666)
    assert servers.client("taro", security, pop3_login=login).receive(delete=True) == [LETTER]
    assert servers.client("taro", security, pop3_login=login).check() == 0


def test_a_wrong_password_is_refused_by_both(servers: MailServers) -> None:
    client = servers.client("hanako", Security.SSL, password="wrong")
    with pytest.raises(LoginRefused, match="535"):
        client.send(sample_message())
    with pytest.raises(LoginRefused, match="AUTH"):
        client.check()


def test_postfix_wants_to_know_who_sends(servers: MailServers) -> None:
    client = servers.client("hanako", Security.STARTTLS, outgoing_requires_authentication=False)
    with pytest.raises(LabError, match="554"):
        client.send(sample_message())


def test_the_card_of_servers_that_leave_tls_to_the_client(servers: MailServers) -> None:
    grades = {row.name: row.grade.value for row in card_of(servers).rows}
    assert grades == {
        "SMTP AUTH": "bad",  # PLAIN in the clear
        "POP before SMTP": "unknown",
        "SMTP over SSL": "good",
        "POP over SSL": "good",
        "STARTTLS (SMTP)": "good",
        "STLS (POP3)": "good",
        "POP3 login": "bad",
        "certificate": "good",
    }
    smtp, smtps, pop3, pop3s = card_of(servers).offers
    assert [offer.security for offer in (smtp, smtps, pop3, pop3s)] == ["starttls", "ssl", "starttls", "ssl"]
    assert set(smtp.auth_in_clear) == set(smtp.auth_inside) == set(smtps.auth_inside) == set(MECHANISMS)
    assert set(pop3s.auth_inside) == {"USER", "APOP", *MECHANISMS}
    assert "Dovecot" in pop3.greeting
    assert "Postfix" in smtp.greeting
    # Neither server saw anything but a polite visitor.
    log = (servers.folder / "postfix.log").read_text()
    assert "ehlo=2 starttls=1 quit=1 commands=4" in log
    assert "ehlo=1 quit=1 commands=2" in log


def test_the_card_of_servers_that_insist_on_tls() -> None:
    with running_servers(strict=True, certificate=Certificate.WRONG_NAME) as servers:
        card = card_of(servers, servers.host)
        grades = {row.name: row.grade.value for row in card.rows}
        with pytest.raises(LabError, match="certificate"):
            servers.client("hanako", Security.SSL).check()
        with pytest.raises(LabError, match="certificate"):
            servers.client("hanako", Security.STARTTLS).send(sample_message())
    assert (grades["SMTP AUTH"], grades["certificate"]) == ("good", "bad")
    assert grades["POP3 login"] == "careful"  # APOP's timestamp is in the greeting, before TLS
    assert "it is for other.example, not for 127.0.0.2" in card.text()
    assert "do not switch the check off" in card.text()
