"""The lab's mail program and its probe against Postfix and Dovecot: servers that somebody else wrote."""

from collections.abc import Iterator

import pytest

from labkit.errors import LabError
from labkit.mail.certificates import Certificate
from labkit.mail.policy import MECHANISMS, Security
from labkit.mail.sample import sample_message
from tests.peers import own
from tests.peers.clients import Task
from tests.peers.own import card_of, grades
from tests.peers.servers import MailServers, running_servers


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


@pytest.mark.parametrize(("task", "way"), [(task, way) for task, ways in own.WAYS.items() for way in ways])
@pytest.mark.parametrize("security", Security)
def test_what_is_sent_is_stored_and_what_is_stored_is_read(
    servers: MailServers, task: Task, security: Security, way: str
) -> None:
    own.works(servers, task, security, way)


@pytest.mark.parametrize("task", Task)
def test_a_wrong_password_is_refused(servers: MailServers, task: Task) -> None:
    own.wrong_password(servers, task, Security.SSL, "PLAIN")


def test_postfix_wants_to_know_who_sends(servers: MailServers) -> None:
    client = servers.client("hanako", Security.STARTTLS, outgoing_requires_authentication=False)
    with pytest.raises(LabError, match="554"):
        client.send(sample_message())


def test_the_card_of_servers_that_leave_tls_to_the_client(servers: MailServers) -> None:
    assert grades(card_of(servers)) == {name: lax for name, (lax, _strict) in own.CARDS.items()}
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
        for task in Task:
            for security in (Security.STARTTLS, Security.SSL):
                own.bad_certificate(servers, task, security)
            for way in own.WAYS[task]:
                own.no_login_without_tls(servers, task, way)
    assert grades(card) == {name: strict for name, (_lax, strict) in own.CARDS.items()}
    assert "it is for other.example, not for 127.0.0.2" in card.text()
    assert "do not switch the check off" in card.text()
