"""What does a provider offer? One polite connection to each port, as a mail program would open it, and a report card.

It reads the greeting and the capabilities, starts TLS where that is offered, reads the capabilities again inside, looks at
the certificate, and says QUIT. It never sends a credential and never begins a message. Whatever stands behind a port may be
hostile or no mail server at all: every octet and every second is bounded, and what goes wrong is a row of the card.
"""

import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from markupsafe import Markup

from labkit.errors import BadSetting, expect, is_port
from labkit.mail.accounts import DOMAIN
from labkit.mail.lineclient import LineClient
from labkit.mail.policy import Security
from labkit.provider import STANDARD_PORTS, Provider
from labkit.show.safe import block, grid, visible
from labkit.show.view import View, render
from labkit.texts import _

# Where customers send and read mail (RFC 6409, RFC 8314, RFC 1939). Port 25 is for servers among themselves.
SMTP_PORTS = (587, 465)
POP3_PORTS = (110, 995)
_IMPLICIT = {25: False, 587: False, 110: False, 465: True, 995: True}
# What the ways to log in give to whoever reads the connection; what is in none of these sets is not known here.
_TELLING = {"PLAIN", "LOGIN", "USER"}  # the password
_TOKENS = {"XOAUTH2", "OAUTHBEARER"}  # RFC 7628: a token that opens the account as the password does
_GUESSABLE = {"APOP", "CRAM-MD5", "DIGEST-MD5", "NTLM", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"}
_WITHOUT_PASSWORD = {"ANONYMOUS", "EXTERNAL", "GSSAPI", "GS2-KRB5"}  # RFC 4505, RFC 4422 appendix A, RFC 4752, RFC 5801


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """What a server showed. from, until: ISO dates in UTC. refused: why a mail program that checks would stop, else ""."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    valid_from: str
    valid_until: str
    refused: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What one port offers. security: as it was entered, "starttls" only when the upgrade worked.

    clear, inside: capabilities as the server lists them, before and after TLS began; None when there was nothing to ask.
    trouble: why the conversation came to nothing or ended early, else "". listens: False when the connection was refused.
    """

    protocol: str
    port: int
    security: Security = Security.NONE
    greeting: str = ""
    clear: tuple[str, ...] | None = None
    inside: tuple[str, ...] | None = None
    tls_version: str = ""
    cipher: str = ""
    certificate: ShownCertificate | None = None
    trouble: str = ""
    listens: bool = True

    @property
    def answered(self) -> bool:
        """Whether it is a mail server that could be asked."""
        return self.clear is not None or self.inside is not None

    @property
    def starts_tls(self) -> bool:
        """Whether it offers to upgrade the connection."""
        word = "STARTTLS" if self.protocol == "smtp" else "STLS"
        return word in {line.upper() for line in self.clear or ()}

    @property
    def auth_in_clear(self) -> tuple[str, ...]:
        """Ways to log in that it offers without TLS."""
        return self._ways(self.clear)

    @property
    def auth_inside(self) -> tuple[str, ...]:
        """Ways to log in that it offers inside TLS."""
        return self._ways(self.inside)

    def _ways(self, capabilities: tuple[str, ...] | None) -> tuple[str, ...]:
        if capabilities is None:
            return ()
        # Old servers write AUTH=PLAIN for programs that are older still.
        words = [line.upper().replace("=", " ").split() for line in capabilities if line.strip()]
        ways = [way for first, *rest in words if first in ("AUTH", "SASL") for way in rest]
        if self.protocol == "pop3":
            ways += ["USER"] if ["USER"] in words else []
            ways += ["APOP"] if re.search(r"<[^<>\s]+@[^<>\s]+>\s*$", self.greeting) else []  # RFC 1939 section 7
        return tuple(dict.fromkeys(ways))


class Grade(StrEnum):
    """How good an answer is for who reads mail there."""

    GOOD = "good"
    CAREFUL = "careful"
    BAD = "bad"
    ABSENT = "no"
    UNKNOWN = "unknown"


_MARKS = {Grade.GOOD: "✓", Grade.CAREFUL: "!", Grade.BAD: "✗", Grade.ABSENT: "–", Grade.UNKNOWN: "?"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the card: what was looked for, the grade, and the answer."""

    name: str
    grade: Grade
    answer: str


class ReportCard(View):
    """What a provider offers, graded, with what to switch on in the mail program. `offers` holds the facts by port."""

    def __init__(self, host: str, offers: Sequence[Offer]) -> None:
        self.host = host
        self.offers = tuple(offers)
        self.title = _("What {host} offers").format(host=visible(host))
        smtp, pop3 = ([offer for offer in offers if offer.protocol == name] for name in ("smtp", "pop3"))
        self.rows = (
            _smtp_auth(smtp),
            Row("POP before SMTP", Grade.UNKNOWN, _("cannot be seen from outside; historical, do not rely on it")),
            _over_ssl("SMTP over SSL", smtp),
            _over_ssl("POP over SSL", pop3),
            _upgrade("STARTTLS (SMTP)", smtp),
            _upgrade("STLS (POP3)", pop3),
            _pop3_passwords(pop3),
            _certificates(self.offers),
        )
        self.advice = tuple(dict.fromkeys(_advice(smtp, pop3)))

    def report(self) -> dict[str, Any]:
        """All of it as plain data, for JSON."""
        return {
            "host": self.host,
            "ports": [
                asdict(offer) | {"auth_in_clear": offer.auth_in_clear, "auth_inside": offer.auth_inside}
                for offer in self.offers
            ],
            "card": [asdict(row) for row in self.rows],
            "advice": list(self.advice),
        }

    def text(self) -> str:
        card = [(_MARKS[row.grade], row.name, row.answer) for row in self.rows]
        ports = [self._port(offer) for offer in self.offers]
        return block(
            [
                self.title,
                *(f"  {line}" for line in grid(card, (1, 20, 110))),
                _("Port by port"),
                *(f"  {line}" for line in grid(ports, (12, 110))),
                _("In your mail program"),
                *(f"  {visible(sentence)}" for sentence in self.advice),
            ]
        )

    def body(self) -> Markup:
        card = [(row.name, (f"{_MARKS[row.grade]} {_(row.grade.value)}", row.answer)) for row in self.rows]
        ports = [(name, (words,)) for name, words in map(self._port, self.offers)]
        advice = [(str(number), (sentence,)) for number, sentence in enumerate(self.advice, 1)]
        tables = (
            (self.title, (_("What"), _("Grade"), _("Answer")), card),
            (_("Port by port"), (_("Port"), _("What it offers")), ports),
            (_("In your mail program"), (_("Step"), _("What to do")), advice),
        )
        parts = [render("progress.html", {"title": name, "head": head, "rows": rows}) for name, head, rows in tables]
        return Markup("").join(parts)

    @property
    def answered(self) -> bool:
        """Whether there was a mail server that could be asked."""
        return bool(_answered(self.offers))

    @staticmethod
    def _port(offer: Offer) -> tuple[str, str]:
        parts = [offer.trouble] if offer.trouble else []
        if offer.clear is not None:
            parts.append(_("in the clear: {ways}").format(ways=_in_clear(offer)))
        if offer.inside is not None:
            parts.append(_("inside {tls}: {ways}").format(tls=offer.tls_version, ways=_listed(offer.auth_inside)))
        return f"{offer.port} {offer.protocol.upper()}", "; ".join(parts)


def probe(
    host: str | Provider,
    *,
    smtp_ports: Iterable[int] | None = None,
    pop3_ports: Iterable[int] | None = None,
    timeout: float = 5.0,
    trusted_ca: str | None = None,
) -> ReportCard:
    """Ask a mail provider what it offers: 587 and 465 to send, 110 and 995 to read, unless other ports are given.

    host: a name or an address, or a running Provider, whose own ports, name and authority are then taken. timeout: seconds
    in all, whatever the number of ports and addresses: all ports are asked at once. trusted_ca: certificates in PEM to
    trust instead of the system's. On a port whose use is not known, TLS is tried when the server has not greeted within
    half of the time. Raises BadSetting for a host, a port or a certificate that cannot be one; everything else is told in
    the card.
    """
    if timeout <= 0:
        raise BadSetting(_("The timeout must be more than 0 seconds."))
    for given_ports in (smtp_ports, pop3_ports):
        expect(given_ports, (Iterable, type(None)), _("ports as a list, such as [2525]"))
    doors: list[tuple[Offer, int, bool | None]] = []
    if isinstance(host, Provider):
        security = host.policy.security
        address, name, trusted_ca = host.host, DOMAIN, trusted_ca or host.ca_pem
        given = [("smtp", smtp_ports or (host.smtp_port,)), ("pop3", pop3_ports or (host.pop3_port,))]
        for (protocol, ports), standard in zip(given, STANDARD_PORTS[security], strict=True):
            doors += [(Offer(protocol, standard), _port(port), security is Security.SSL) for port in ports]
    else:
        address = name = _host(host)
        wanted = [("smtp", SMTP_PORTS if smtp_ports is None else smtp_ports)]
        wanted.append(("pop3", POP3_PORTS if pop3_ports is None else pop3_ports))
        for protocol, ports in wanted:
            doors += [(Offer(protocol, _port(port)), port, _IMPLICIT.get(port)) for port in ports]
    trust = _trust(trusted_ca)

    def visit(door: tuple[Offer, int, bool | None]) -> Offer:
        offer, port, implicit = door
        return _Visit(offer, name, trust).made(address, port, implicit, timeout)

    if not doors:
        raise BadSetting(_("There is no port to ask: name at least one."))
    with ThreadPoolExecutor(len(doors)) as pool:
        return ReportCard(name, list(pool.map(visit, doors)))


def _host(host: str) -> str:
    expect(host, (str, Provider), _("a server's name such as mail.example, or a running labkit.Provider"))
    if "@" in host:
        message = _(
            "{host!r} is a mail address, and does not tell which servers its provider has: look them up in the "
            "provider's help, and give the name of one, such as mail.example."
        )
        raise BadSetting(message.format(host=host))
    try:
        if not host or re.search(r"[\s/\x00-\x1f\x7f]", host) or (":" in host and not _is_ipv6(host)):
            raise UnicodeError
        host.encode("idna")
    except UnicodeError:
        message = _("{host!r} is not a server's name: give a name such as mail.example, without a port or a scheme.")
        raise BadSetting(message.format(host=host)) from None
    return host


def _is_ipv6(host: str) -> bool:
    try:
        return bool(socket.inet_pton(socket.AF_INET6, host))
    except OSError:
        return False


def _port(port: int) -> int:
    if not is_port(port):
        raise BadSetting(_("{port!r} is not a port: give a number from 1 to 65535.").format(port=port))
    return port


def _trust(trusted_ca: str | None) -> ssl.SSLContext:
    try:
        if trusted_ca == "":
            raise ValueError(_("it is empty"))
        context = ssl.create_default_context(cadata=trusted_ca)
    except (ssl.SSLError, ValueError, TypeError) as error:  # a TypeError also for text that is not ASCII
        message = _("trusted_ca holds no certificate in PEM ({reason}): give the text of the authority's certificate.")
        reason = _openssls(error) if isinstance(error, ssl.SSLError) else str(error)
        raise BadSetting(message.format(reason=reason)) from None
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the certificate is still sent in the clear: see _refused
    return context


class _NotMail(Exception):
    """What answers is no mail server of this protocol, or not to be believed; the text says why."""


class _Visit:
    """One connection to one port. What was learned is kept, however the visit ends."""

    def __init__(self, offer: Offer, name: str, trust: ssl.SSLContext) -> None:
        self._offer = offer
        self._name = name
        self._trust = trust
        self._smtp = offer.protocol == "smtp"
        # Whatever is shown is looked at: nothing secret will be said.
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def made(self, address: str, port: int, implicit: bool | None, timeout: float) -> Offer:
        try:
            with LineClient(address, port, timeout=timeout) as talk:
                self._look(talk, implicit)
        except _NotMail as why:
            self._learn(trouble=str(why))
        except OSError as error:
            self._learn(trouble=_trouble(error, timeout), listens=not isinstance(error, ConnectionRefusedError))
        return self._offer

    def _learn(self, **facts: Any) -> None:
        self._offer = replace(self._offer, **facts)

    def _look(self, talk: LineClient, implicit: bool | None) -> None:
        if implicit or (implicit is None and not talk.greeted()):
            self._start_tls(talk, Security.SSL)
        greeting = talk.reply()
        self._learn(greeting=greeting.first)
        if greeting.code != ("220" if self._smtp else "+OK"):
            raise _NotMail(
                _("no {protocol} greeting: {words}").format(
                    protocol=self._offer.protocol.upper(), words=greeting.first[:80]
                )
            )
        offered = self._capabilities(talk)
        if self._offer.security is Security.SSL:
            self._learn(inside=offered)
        else:
            self._learn(clear=offered)
            if self._offer.starts_tls:
                self._upgrade(talk)
        talk.say("QUIT")

    def _capabilities(self, talk: LineClient) -> tuple[str, ...]:
        if self._smtp:
            reply = talk.say(f"EHLO {talk.own_address}")
            return tuple(line[4:] for line in reply.lines[1:]) if reply.positive else ()
        reply = talk.say("CAPA", listing=True)
        return reply.lines[1:] if reply.positive else ()

    def _upgrade(self, talk: LineClient) -> None:
        command = "STARTTLS" if self._smtp else "STLS"
        answer = talk.say(command)
        if not answer.positive:
            raise _NotMail(
                _("it offers {command} and then refuses it: {words}").format(command=command, words=answer.first[:80])
            )
        if talk.something_came_early():
            raise _NotMail(_("something came in the clear behind the answer to {command}").format(command=command))
        self._start_tls(talk, Security.STARTTLS)
        self._learn(inside=self._capabilities(talk))

    def _start_tls(self, talk: LineClient, security: Security) -> None:
        sock = talk.start_tls(self._tls, self._name)
        cipher = sock.cipher()
        self._learn(
            security=security,
            tls_version=(sock.version() or "").replace("TLSv", "TLS "),
            cipher=cipher[0] if cipher else "",
            certificate=_certificate(_chain(sock), self._name, self._trust),
        )


def _trouble(error: OSError, timeout: float) -> str:
    match error:
        case ConnectionRefusedError():
            return _("nothing listens there")
        case TimeoutError():
            return _("no answer within {seconds:g} seconds").format(seconds=timeout)
        case socket.gaierror():
            return _("no server of that name can be found")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return _("the server closed the connection in the middle of TLS")
        case ssl.SSLError():
            return _("TLS failed ({reason})").format(reason=_openssls(error))
    return error.strerror or str(error) or type(error).__name__


def _openssls(error: ssl.SSLError) -> str:
    """OpenSSL's reason in lower case, without the place in Python's own source that str(error) has."""
    return (error.reason or type(error).__name__).replace("_", " ").lower()


# The certificate


def _chain(sock: ssl.SSLSocket) -> list[bytes]:
    """The certificates that the server sent, its own first, in DER."""
    if hasattr(sock, "get_unverified_chain"):  # from Python 3.13 on
        return list(sock.get_unverified_chain())
    sent = sock._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in sent]


def _certificate(chain: list[bytes], name: str, trust: ssl.SSLContext) -> ShownCertificate | None:
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
        return -1, _("it is not accepted ({reason})").format(reason=_openssls(error))
    return None


def _handshake(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


# The card


def _listed(ways: Iterable[str]) -> str:
    return ", ".join(ways) or _("no login offered")


def _in_clear(offer: Offer) -> str:
    """The ways to log in that it offers in the clear. A POP3 server need not know CAPA, which RFC 1939 has not."""
    if offer.protocol == "pop3" and not offer.clear and not offer.auth_in_clear:
        return _("it does not say how to log in")
    return _listed(offer.auth_in_clear)


def _ports(offers: Iterable[Offer]) -> str:
    return ", ".join(dict.fromkeys(str(offer.port) for offer in offers))


def _answered(offers: Iterable[Offer]) -> list[Offer]:
    return [offer for offer in offers if offer.answered]


def _missed(offers: Sequence[Offer]) -> list[Offer]:
    """Those that may have what no other has. A port where nothing listens has not, if there is a server at all."""
    return [offer for offer in offers if not offer.answered and (offer.listens or not _answered(offers))]


def _unanswered(name: str, offers: Sequence[Offer]) -> Row:
    whys = ", ".join(f"{offer.port}: {offer.trouble}" for offer in offers) or _("not asked")
    return Row(name, Grade.UNKNOWN, _("could not be asked ({whys})").format(whys=whys))


def _worst(clear: Iterable[str]) -> tuple[Grade, list[str], str]:
    """Of ways to log in in the clear: how bad the worst ones are, which they are, and what they give away."""
    kinds = (
        (Grade.BAD, _TELLING, _("a password can be read on the way")),
        (Grade.BAD, _TOKENS, _("a token that is as good as the password can be read on the way")),
        (Grade.CAREFUL, _GUESSABLE, _("a simple password can be guessed from that")),
        (Grade.CAREFUL, _WITHOUT_PASSWORD, _("no password is sent, but everything else can be read on the way")),
    )
    for grade, kind, danger in kinds:
        if ways := [way for way in clear if way in kind]:
            return grade, ways, danger
    return Grade.CAREFUL, list(clear), _("what that gives away on the way is not known here")


def _smtp_auth(smtp: Sequence[Offer]) -> Row:
    name, answered = "SMTP AUTH", _answered(smtp)
    if not answered:
        return _unanswered(name, smtp)
    inside = dict.fromkeys(way for offer in answered for way in offer.auth_inside)
    clear = dict.fromkeys(way for offer in answered for way in offer.auth_in_clear)
    if clear:
        grade, ways, danger = _worst(clear)
        answer = _("yes, and {ways} even in the clear: {danger}")
        return Row(name, grade, answer.format(ways=_listed(ways), danger=danger))
    if inside:
        return Row(name, Grade.GOOD, _("yes, only inside TLS: {ways}").format(ways=_listed(inside)))
    return Row(name, Grade.ABSENT, _("not offered: it cannot know who sends, or knows it in another way"))


def _over_ssl(name: str, offers: Sequence[Offer]) -> Row:
    found = [offer for offer in offers if offer.security is Security.SSL and offer.inside is not None]
    if found:
        return Row(name, Grade.GOOD, _("yes, port {ports}").format(ports=_ports(found)))
    if missed := _missed(offers):
        return _unanswered(name, missed)
    return Row(name, Grade.ABSENT, _("not found")) if offers else Row(name, Grade.UNKNOWN, _("not asked"))


def _upgrade(name: str, offers: Sequence[Offer]) -> Row:
    plain = [offer for offer in offers if offer.clear is not None]
    found = [offer for offer in plain if offer.starts_tls]
    missed = _missed(offers)
    if missed and not found:
        return _unanswered(name, missed)
    if not plain:
        return Row(name, Grade.ABSENT if offers else Grade.UNKNOWN, _("no server that begins in the clear"))
    if not found:
        return Row(name, Grade.ABSENT, _("not offered on port {ports}").format(ports=_ports(plain)))
    broken = [offer for offer in found if offer.inside is None]
    if broken:
        answer = _("offered on port {ports}, but it failed: {why}")
        return Row(name, Grade.BAD, answer.format(ports=_ports(broken), why=broken[0].trouble))
    return Row(name, Grade.GOOD, _("yes, port {ports}").format(ports=_ports(found)))


def _pop3_passwords(pop3: Sequence[Offer]) -> Row:
    name, answered = _("POP3 login"), _answered(pop3)
    if not answered:
        return _unanswered(name, pop3)
    clear = dict.fromkeys(way for offer in answered for way in offer.auth_in_clear)
    inside = dict.fromkeys(way for offer in answered for way in offer.auth_inside)
    if list(clear) == ["APOP"]:
        # The greeting comes before TLS, and nothing tells whether the server waits for TLS before it takes the login.
        answer = _("{ways} in the greeting: if it is taken without TLS, a simple password can be guessed from it")
        return Row(name, Grade.CAREFUL, answer.format(ways="APOP"))
    if clear:
        grade, ways, danger = _worst(clear)
        answer = _("{ways} in the clear: {danger}")
        return Row(name, grade, answer.format(ways=_listed(ways), danger=danger))
    if inside:
        return Row(name, Grade.GOOD, _("only inside TLS: {ways}").format(ways=_listed(inside)))
    return Row(name, Grade.UNKNOWN, _("it does not say how"))


def _certificates(offers: Sequence[Offer]) -> Row:
    shown = [offer for offer in offers if offer.certificate is not None]
    bad = [
        (offer.port, offer.certificate.refused) for offer in shown if offer.certificate and offer.certificate.refused
    ]
    if bad:
        whys = "; ".join(dict.fromkeys(why for _port, why in bad))
        return Row(_("certificate"), Grade.BAD, _("would be refused: {whys}").format(whys=whys))
    if not shown:
        grade = Grade.ABSENT if _answered(offers) else Grade.UNKNOWN
        return Row(_("certificate"), grade, _("none was shown"))
    until = min(offer.certificate.valid_until for offer in shown if offer.certificate)
    return Row(_("certificate"), Grade.GOOD, _("accepted, valid until {date}").format(date=until))


def _advice(smtp: Sequence[Offer], pop3: Sequence[Offer]) -> Iterator[str]:
    """What to switch on: TLS from the first byte before STARTTLS (RFC 8314 section 3), and nothing without."""
    for offers, outgoing in ((smtp, True), (pop3, False)):
        secure = sorted(
            (offer for offer in offers if offer.inside is not None),
            key=lambda offer: (
                bool(offer.certificate and offer.certificate.refused),
                offer.security is not Security.SSL,
            ),
        )
        if secure:
            best = secure[0]
            chosen = "SSL/TLS" if best.security is Security.SSL else "STARTTLS"
            sentence = (
                _("Outgoing server (SMTP): port {port}, connection security {security}.")
                if outgoing
                else _("Incoming server (POP3): port {port}, connection security {security}.")
            )
            yield sentence.format(port=best.port, security=chosen)
            if best.security is Security.STARTTLS:
                yield _("Choose STARTTLS as required, never “if available”: an offer can be removed on the way.")
            if best.certificate and best.certificate.refused:
                yield _(
                    "Do not log in there and do not switch the check off: the certificate on port {port} would be "
                    "refused. Ask the provider."
                ).format(port=best.port)
            elif outgoing and best.auth_inside:
                yield _("Switch on “my outgoing server requires authentication”, with your login name and password.")
        elif _answered(offers):
            yield (
                _("No encrypted way to send was found: mail and password can be read on the way. Ask the provider.")
                if outgoing
                else _(
                    "No encrypted way to read mail was found: the password can be read on the way. Ask the provider."
                )
            )
    if not _answered([*smtp, *pop3]):
        yield _("No mail server answered: check the name, and which ports the provider names.")
