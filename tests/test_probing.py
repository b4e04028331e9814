"""What a provider offers: the lab's policies and certificates, servers that misbehave, and what the probe itself says."""

import asyncio
import datetime
import json
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

import labkit
from labkit import cli
from labkit.attack import StripStartTls
from labkit.errors import BadSetting
from labkit.mail import lineclient
from labkit.mail.certificates import Certificate, authority
from labkit.mail.policy import POLICIES, Security
from labkit.probing import Offer
from labkit.probing.certificate import judged, trusting
from labkit.wire.loopback import HOST
from labkit.wire.network import Network
from tests.mail.conftest import quiet
from tests.scripted import Scripted

__all__ = ["quiet"]

Serve = Callable[..., int]
CA = authority().ca_pem.decode()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that says its parts: the first at once, then one for each line it hears; after the last it closes."""
    with Network() as network:

        def served(*parts: bytes, tls: ssl.SSLContext | None = None, stay: bool = False) -> int:
            return network.listen(lambda: Scripted(parts, stay=stay), tls=tls).port

        yield served


def smtp(port: int, **more: Any) -> Offer:
    """What the probe finds on one SMTP port."""
    (offer,) = labkit.probe(HOST, smtp_ports=[port], pop3_ports=[], **({"timeout": 2} | more)).offers
    return offer


def pop3(port: int) -> Offer:
    (offer,) = labkit.probe(HOST, smtp_ports=[], pop3_ports=[port], timeout=2).offers
    return offer


def grades(card: labkit.ReportCard) -> dict[str, str]:
    return {row.name: row.grade.value for row in card.rows}


# SMTP AUTH, SMTP over SSL, POP over SSL, STARTTLS, STLS, POP3 login, certificate
EXPECTED = {
    "plaintext": "no no no no no bad no",
    "smtp-auth": "bad no no no no bad no",
    "pop-before-smtp": "no no no no no bad no",
    "starttls": "good no no good good careful good",
    "ssl": "good good good no no good good",
}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_labs_policies(policy: str) -> None:
    with labkit.Provider(policy, keylog=True) as provider:
        with provider.capture() as capture:
            card = labkit.probe(provider)
        found = grades(card)
        assert found.pop("POP before SMTP") == "unknown"
        assert " ".join(found.values()) == EXPECTED[policy]
        assert all(offer.trouble == "" for offer in card.offers)
        assert card.text() == labkit.probe(provider).text()
    # One connection to each port, and nothing in them that is secret or begins a message: inside TLS neither.
    opened = capture.unlock() if capture.keylog else capture
    assert len(capture.flows) == 2
    said = [
        command.verb
        for flow in opened.flows
        for conversation in (flow, flow.opened)
        if conversation
        for command in conversation.commands
    ]
    assert set(said) <= {"EHLO", "STARTTLS", "CAPA", "STLS", "QUIT"}
    assert said.count("QUIT") == 2


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (Certificate.GOOD, ""),
        (Certificate.WRONG_NAME, "it is for other.example, not for mail.example"),
        (Certificate.EXPIRED, "it has expired on 2021-01-01"),
        (Certificate.UNKNOWN_ISSUER, "nobody here trusts its issuer"),
    ],
)
@pytest.mark.parametrize("policy", ["starttls", "ssl"])
def test_the_labs_certificates(policy: str, certificate: Certificate, why: str) -> None:
    with labkit.Provider(policy, certificate=certificate) as provider, provider.capture() as capture:
        card = labkit.probe(provider)
    assert len(capture.flows) == 2  # a bad certificate costs no second connection
    for offer in card.offers:
        assert offer.certificate is not None
        assert offer.certificate.refused == why
        assert offer.auth_inside  # and hides nothing of what is offered
    assert grades(card)["certificate"] == ("bad" if why else "good")
    assert why in card.text()
    assert ("do not switch the check off" in card.text()) == bool(why)
    assert ("with your login name and password" in card.text()) == (not why)  # never both


def test_through_somebody_who_strips_the_offer() -> None:
    with labkit.Provider("starttls") as provider, StripStartTls(provider) as middle:
        card = labkit.probe(provider, smtp_ports=[middle.smtp_port], pop3_ports=[middle.pop3_port])
    assert grades(card)["STARTTLS (SMTP)"] == grades(card)["STLS (POP3)"] == "no"
    assert grades(card)["SMTP AUTH"] == "bad"


def test_a_port_of_unknown_use_is_tried_with_tls_when_nobody_greets() -> None:
    with labkit.Provider("ssl") as provider:
        offer = smtp(provider.smtp_port, timeout=1, trusted_ca=CA)
    assert offer.security is Security.SSL
    assert offer.certificate is not None
    assert offer.certificate.refused == ""


# Whether a certificate would be refused: OpenSSL's own handshake is the judge


@pytest.mark.parametrize("name", ["mail.example", "www.mail.example", "127.0.0.1", "other.example"])
@pytest.mark.parametrize("kind", ["good", "expired", "intermediate", "lonely", "self-signed", "stranger"])
def test_the_verdict_on_a_certificate_is_openssls(kind: str, name: str) -> None:
    # An RSA key takes long to make: one kind has them.
    key = trustme.KeyType.RSA if (kind, name) == ("intermediate", "mail.example") else trustme.KeyType.ECDSA
    ca = trustme.CA(key_type=key)
    issuer = ca.create_child_ca(key_type=key) if kind in ("intermediate", "lonely") else ca
    issuer = trustme.CA(key_type=key) if kind == "stranger" else issuer
    past = datetime.datetime(2021, 1, 1) if kind == "expired" else None  # noqa: DTZ001 (UTC)
    leaf = issuer.issue_cert("mail.example", "*.mail.example", "127.0.0.1", not_after=past, key_type=key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    sent = leaf.cert_chain_pems[:1] if kind == "lonely" else leaf.cert_chain_pems
    if kind == "self-signed":
        sent = [ca.cert_pem]
        key_pem = ca.private_key_pem
    else:
        key_pem = leaf.private_key_pem
    with trustme.Blob(key_pem.bytes() + b"".join(blob.bytes() for blob in sent)).tempfile() as path:
        server.load_cert_chain(path)
    trusted = trustme.CA(key_type=key).cert_pem if kind == "self-signed" else ca.cert_pem
    expected = _handshake(server, ssl.create_default_context(cadata=trusted.bytes().decode()), name)
    chain = [ssl.PEM_cert_to_DER_cert(blob.bytes().decode()) for blob in sent]
    shown = judged(chain, name, trusting(trusted.bytes().decode()))
    assert shown is not None
    assert bool(shown.refused) == bool(expected), (shown.refused, expected)
    if kind in ("good", "intermediate"):
        assert bool(expected) == (name == "other.example")
    else:
        assert expected


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """Why a real client refuses a real server, in memory; empty when it does not."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return ""


@pytest.mark.parametrize("chain", [[b""], [b"\x30\x03\x02\x01\x00"], [b"\xff" * 70000]])
def test_a_certificate_that_is_none(chain: list[bytes]) -> None:
    shown = judged(chain, "mail.example", trusting(CA))
    assert shown is not None
    assert "cannot be read" in shown.refused


# Servers that are none, or hostile


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind((HOST, 0))
        offer = smtp(free.getsockname()[1])
    assert offer.trouble == "nothing listens there"


def test_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: Any, **_more: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    card = labkit.probe("mail.example")
    assert [offer.port for offer in card.offers] == [587, 465, 110, 995]
    assert {offer.trouble for offer in card.offers} == {"no server of that name can be found"}
    assert set(grades(card).values()) == {"unknown"}
    assert card.advice == ("No mail server answered: check the name, and which ports the provider names.",)


@pytest.mark.parametrize(
    ("listens", "trouble", "grade", "answer"),
    [
        (False, "nothing listens there", "no", "not found"),
        (True, "no answer within 5 seconds", "unknown", "could not be asked (465: no answer within 5 seconds)"),
    ],
)
def test_what_could_not_be_asked_is_not_denied(listens: bool, trouble: str, grade: str, answer: str) -> None:
    submission = Offer("smtp", 587, greeting="220 x", clear=("AUTH PLAIN",))
    card = labkit.ReportCard("x", [submission, Offer("smtp", 465, trouble=trouble, listens=listens)])
    assert next((row.grade, row.answer) for row in card.rows if row.name == "SMTP over SSL") == (grade, answer)
    over_ssl = Offer("smtp", 465, Security.SSL, greeting="220 x", inside=("AUTH PLAIN",))
    card = labkit.ReportCard("x", [Offer("smtp", 587, trouble=trouble, listens=listens), over_ssl])
    assert grades(card)["STARTTLS (SMTP)"] == grade


def test_a_refused_connection_denies_nothing_when_nobody_answers() -> None:
    with socket.socket() as free:
        free.bind((HOST, 0))
        card = labkit.probe(HOST, smtp_ports=[free.getsockname()[1]], pop3_ports=[])
    assert not card.offers[0].listens
    assert set(grades(card).values()) == {"unknown"}


@pytest.mark.parametrize(
    ("ways", "grade", "named", "danger"),
    [
        ("PLAIN XOAUTH2 CRAM-MD5", "bad", "PLAIN", "a password can be read on the way"),
        ("CRAM-MD5 XOAUTH2 OAUTHBEARER", "bad", "XOAUTH2, OAUTHBEARER", "a token that is as good as the password"),
        ("GSSAPI CRAM-MD5", "careful", "CRAM-MD5", "a simple password can be guessed from that"),
        ("GSSAPI EXTERNAL", "careful", "GSSAPI, EXTERNAL", "no password is sent"),
        ("X-OWN", "careful", "X-OWN", "is not known here"),
    ],
)
def test_what_each_way_to_log_in_gives_away(ways: str, grade: str, named: str, danger: str) -> None:
    smtp = Offer("smtp", 587, clear=(f"AUTH {ways}",))
    pop3 = Offer("pop3", 110, clear=(f"SASL {ways}",))
    rows = {row.name: row for row in labkit.ReportCard("x", [smtp, pop3]).rows}
    for row in (rows["SMTP AUTH"], rows["POP3 login"]):
        assert row.grade == grade
        assert f"{named} " in row.answer
        assert danger in row.answer


@pytest.mark.parametrize(
    ("parts", "trouble"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n",), "no SMTP greeting: HTTP/1.1 400 Bad Request"),
        ((b"554 go away\r\n",), "no SMTP greeting: 554 go away"),
        ((b"+OK POP3\r\n",), "no SMTP greeting: +OK POP3"),
        ((b"\r\n",), "no SMTP greeting: "),
        ((b"220 hello\r\n",), "the server closed the connection"),
        ((b"220 " + b"x" * 100_000,), "a reply of more than 65,536 octets"),
        ((b"220-hello\r\n" * 10_000,), "a reply of more than 65,536 octets"),
        ((b"220 hello\r\n", b"250-x\r\n" * 10_000), "a reply of more than 65,536 octets"),
        (
            (b"220 hello\r\n", b"250-x\r\n250 STARTTLS\r\n", b"454 not now\r\n"),
            "it offers STARTTLS and then refuses it: 454 not now",
        ),
        (
            (b"220 hello\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n250 injected\r\n"),
            "something came in the clear behind the answer to STARTTLS",
        ),
        ((b"220 hello\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n", *[b"rubbish\r\n"] * 9), "TLS failed"),
    ],
)
def test_servers_that_misbehave(serve: Serve, parts: tuple[bytes, ...], trouble: str) -> None:
    assert smtp(serve(*parts)).trouble.startswith(trouble)


def test_capabilities_are_kept_when_the_upgrade_fails(serve: Serve) -> None:
    offer = smtp(serve(b"220 hello\r\n", b"250-x\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n", b"454 no\r\n", b"221 bye\r\n"))
    assert offer.auth_in_clear == ("PLAIN",)
    card = labkit.ReportCard("mail.example", [offer])
    assert grades(card)["STARTTLS (SMTP)"] == "bad"


def test_servers_that_know_little(serve: Serve) -> None:
    offer = smtp(serve(b"220 hello\r\n", b"500 what?\r\n", b"221 bye\r\n"))
    assert (offer.clear, offer.trouble) == ((), "")
    offer = pop3(serve(b"+OK hello\r\n", b"-ERR what?\r\n", b"+OK bye\r\n"))
    assert (offer.clear, offer.trouble) == ((), "")
    card = labkit.ReportCard("x", [offer])
    assert grades(card)["POP3 login"] == "unknown"
    assert "in the clear: it does not say how to log in" in card.text()
    assert "no login offered" not in card.text()


@pytest.mark.parametrize(
    ("line", "ways"),
    [
        (b"AUTH PLAIN LOGIN", ("PLAIN", "LOGIN")),
        (b"AUTH=LOGIN CRAM-MD5", ("LOGIN", "CRAM-MD5")),
        (b"auth scram-sha-256", ("SCRAM-SHA-256",)),
        (b"AUTH", ()),
        (b"AUTHORITY PLAIN", ()),
    ],
)
def test_how_servers_write_auth(serve: Serve, line: bytes, ways: tuple[str, ...]) -> None:
    assert smtp(serve(b"220 hello\r\n", b"250-x\r\n250 " + line + b"\r\n", b"221 bye\r\n")).auth_in_clear == ways


def test_hostile_bytes_are_shown_and_do_nothing(serve: Serve) -> None:
    evil = b"\x1b[2J\x00\x9b<script>\xff\xe2\x80\xae"
    port = serve(
        b"220 " + evil + b"\r\n", b"250-x\r\n250-" + evil + b"\r\n250 AUTH PLAIN " + evil + b"\r\n", b"221\r\n"
    )
    card = labkit.probe(HOST, smtp_ports=[port], pop3_ports=[], timeout=2)
    for face in (card.text(), card.html(), json.dumps(card.report())):
        assert not any(character in face for character in "\x1b\x00\x9b\u202e")
    assert "<script>" not in card.html()
    assert card.offers[0].auth_in_clear[0] == "PLAIN"


@pytest.mark.parametrize("greeting", [b"", b"220 hel"])
def test_a_silent_server_takes_no_longer_than_the_timeout(serve: Serve, greeting: bytes) -> None:
    offer = smtp(serve(greeting, stay=True), timeout=0.4)
    assert offer.trouble == "no answer within 0.4 seconds"


def test_a_server_that_drips_takes_no_longer_than_the_timeout() -> None:
    class Dripping(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = transport
            self._drip()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()

        def _drip(self) -> None:
            self._transport.write(b"2")  # type: ignore[attr-defined]
            self._timer = asyncio.get_running_loop().call_later(0.02, self._drip)

    with Network() as network:
        offer = smtp(network.listen(Dripping).port, timeout=0.4)
    assert offer.trouble == "no answer within 0.4 seconds"


def test_all_addresses_of_a_name_share_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of seven answers: together they are waited for as long as the time-out says, and each gets its share."""
    now, waits = [0.0], []

    def deaf(_address: object, timeout: float, _source: object) -> None:
        waits.append(timeout)
        now[0] += timeout
        raise TimeoutError

    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{last}", 587)) for last in range(1, 8)]
    monkeypatch.setattr(lineclient.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(lineclient.socket, "getaddrinfo", lambda *_arguments, **_more: addresses)
    monkeypatch.setattr(lineclient.socket, "create_connection", deaf)
    with pytest.raises(TimeoutError):
        lineclient.LineClient("many.example", 587, timeout=2)
    assert waits == pytest.approx([2 / 7] * 7)


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with labkit.Provider("plaintext") as provider:
        known = socket.getaddrinfo

        def two(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
            if host != "mail.example":
                return known(host, port, *rest, **more)
            return known("127.0.0.99", 1, *rest, **more) + known(HOST, port, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", two)
        assert labkit.probe("mail.example", smtp_ports=[provider.smtp_port], pop3_ports=[]).answered


@pytest.mark.parametrize(
    "parts", [(b"220 hello\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n", said) for said in (b"\x15\x03\x03", b"")]
)
def test_no_place_in_pythons_source_is_told(serve: Serve, parts: tuple[bytes, ...]) -> None:
    assert "_ssl.c" not in smtp(serve(*parts)).trouble
    with pytest.raises(BadSetting) as refused:
        labkit.probe("localhost", trusted_ca="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "_ssl.c" not in str(refused.value)


# What cannot be asked


@pytest.mark.parametrize(
    "host", ["", "mail example", "mail.example:587", "smtp://mail.example", "a\r\nb", "x" * 70, "[::1]"]
)
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(BadSetting, match="not a server's name"):
        labkit.probe(host)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"smtp_ports": [0]}, "not a port"),
        ({"pop3_ports": [65536]}, "not a port"),
        ({"smtp_ports": "25"}, "'2' is not a port"),
        ({"smtp_ports": 25}, r"^25 does not belong here: give ports as a list"),
        ({"smtp_ports": [], "pop3_ports": []}, "no port"),
        ({"timeout": 0}, "timeout"),
        ({"trusted_ca": "nonsense"}, "trusted_ca"),
        ({"trusted_ca": ""}, "trusted_ca"),
        ({"trusted_ca": "é"}, "trusted_ca holds no certificate in PEM"),
    ],
)
def test_what_cannot_be_asked(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(BadSetting, match=why):
        labkit.probe("localhost", **wrong)


def test_a_host_is_a_name_or_a_provider() -> None:
    with pytest.raises(BadSetting, match=r"^25 does not belong here: give a server's name"):
        labkit.probe(25)  # type: ignore[arg-type]


def test_a_provider_that_does_not_run() -> None:
    with pytest.raises(BadSetting, match="start"):
        labkit.probe(labkit.Provider("ssl"))


# The command line


def test_the_command_ends_with_1_when_nobody_could_be_asked() -> None:
    with socket.socket() as free:
        free.bind((HOST, 0))
        ports = ["--smtp-port", str(free.getsockname()[1]), "--pop3-port", str(free.getsockname()[1])]
        done = CliRunner().invoke(cli.main, ["probe", HOST, *ports])
    assert done.exit_code == 1
    assert "No mail server answered" in done.output


def test_the_command(tmp_path: Any) -> None:
    with labkit.Provider("starttls") as provider:
        ports = ["--smtp-port", str(provider.smtp_port), "--pop3-port", str(provider.pop3_port)]
        common = ["probe", "localhost", *ports, "--ca", str(provider.ca_file)]
        told = CliRunner().invoke(cli.main, [*common, "--format", "json"])
        shown = CliRunner().invoke(cli.main, common)
    assert told.exit_code == shown.exit_code == 0
    report = json.loads(told.output)
    assert [port["security"] for port in report["ports"]] == ["starttls", "starttls"]
    assert {row["name"]: row["grade"] for row in report["card"]}["certificate"] == "good"
    assert report["ports"][0]["auth_inside"] == ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"]
    assert "POP before SMTP  cannot be seen from outside" in shown.output


@pytest.mark.parametrize(
    "arguments", [["a b"], ["localhost", "--ca", "no-such-file.pem"], ["localhost", "--ca", sys.executable]]
)
def test_the_command_says_in_one_sentence_what_cannot_be_done(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli.main, ["probe", *arguments])
    assert done.exit_code == 2
    assert done.output.startswith("labkit: ")
    assert done.output.count("\n") == 1
