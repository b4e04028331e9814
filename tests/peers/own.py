"""The lab's own client and probe at Postfix and Dovecot: the tests try one thing at a time, `make peers` all of it."""

import re
import subprocess

import pytest

import labkit
from labkit.errors import LabError
from labkit.mail.certificates import authority
from labkit.mail.policy import MECHANISMS, Security
from labkit.mail.sample import sample_message
from tests.peers.clients import APOP, USER_PASS, Refusal, Task
from tests.peers.servers import MailServers

LETTER = sample_message().as_bytes()
WAYS = {Task.SEND: MECHANISMS, Task.READ: (USER_PASS, APOP, *MECHANISMS)}
NAMES = {Task.SEND: "Postfix", Task.READ: "Dovecot"}
CERTIFICATES = (Refusal.WRONG_NAME, Refusal.EXPIRED, Refusal.UNKNOWN_ISSUER)
# What the probe's card says of servers that leave TLS to the client, and of such as insist on it and show a wrong name.
CARDS = {
    "SMTP AUTH": ("bad", "good"),  # PLAIN in the clear
    "POP before SMTP": ("unknown", "unknown"),
    "SMTP over SSL": ("good", "good"),
    "POP over SSL": ("good", "good"),
    "STARTTLS (SMTP)": ("good", "good"),
    "STLS (POP3)": ("good", "good"),
    "POP3 login": ("bad", "careful"),  # APOP's timestamp is in the greeting, before TLS
    "certificate": ("good", "bad"),
}


def version(task: Task) -> str:
    """What the server tells of its version."""
    command = ["postconf", "-d", "mail_version"] if task is Task.SEND else ["dovecot", "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(?:\.\d+)+", told)
    return found[0] if found else "?"


def works(servers: MailServers, task: Task, security: Security, way: str) -> None:
    """What the client sends is stored, what is stored it reads and deletes; raises AssertionError or LabError."""
    servers.empty()
    if task is Task.READ:
        _reads(servers, security, "USER" if way == USER_PASS else way)
        return
    servers.client("hanako", security, mechanism=way).send(sample_message())
    (stored,) = servers.delivered("taro")
    assert stored.replace(b"\r\n", b"\n").endswith(LETTER.replace(b"\r\n", b"\n"))
    by = {Security.NONE: b"ESMTPA "}.get(security, b"ESMTPSA ")  # RFC 3848: how it came, in the Received field
    assert b" with " + by in stored


def _reads(servers: MailServers, security: Security, login: str) -> None:
    folder = servers.folder / "mail" / "taro" / "new"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.letter").write_bytes(LETTER.replace(b"\r\n", b"\n"))
    for path in (servers.folder / "mail" / "taro", folder):
        path.chmod(0o777)
    (folder / "1.letter").chmod(0o666)
    assert servers.client("taro", security, pop3_login=login).receive(delete=True) == [LETTER]
    assert servers.client("taro", security, pop3_login=login).check() == 0


def wrong_password(servers: MailServers, task: Task, security: Security, way: str) -> None:
    """The server refuses it, and the client says so."""
    words = "535" if task is Task.SEND else "AUTH"
    _refused(servers, task, security, words, password="wrong", **_way(task, way))


def no_login_without_tls(servers: MailServers, task: Task, way: str) -> None:
    """A server that insists on TLS offers no login without, and the client gives none."""
    _refused(servers, task, Security.NONE, "offer|until SSL/TLS is enabled|on non-secure", **_way(task, way))


def bad_certificate(servers: MailServers, task: Task, security: Security) -> None:
    """The client goes no further than the certificate."""
    _refused(servers, task, security, "certificate .* was not accepted")


def _way(task: Task, way: str) -> dict[str, str]:
    return {"mechanism": way} if task is Task.SEND else {"pop3_login": "USER" if way == USER_PASS else way}


def _refused(servers: MailServers, task: Task, security: Security, words: str, **settings: str) -> None:
    client = servers.client("hanako", security, **settings)
    with pytest.raises(LabError, match=words):
        client.send(sample_message()) if task is Task.SEND else client.receive()


def card_of(servers: MailServers, host: str = "localhost") -> labkit.ReportCard:
    """What the probe finds; the ports are not standard ones, so it has to find out how they begin."""
    smtp, pop3 = (servers.smtp_port, servers.smtps_port), (servers.pop3_port, servers.pop3s_port)
    return labkit.probe(host, smtp_ports=smtp, pop3_ports=pop3, timeout=2, trusted_ca=authority().ca_pem.decode())


def grades(card: labkit.ReportCard) -> dict[str, str]:
    """The card's grades by what was asked."""
    return {row.name: row.grade.value for row in card.rows}
