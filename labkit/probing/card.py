"""The report card: each answer graded, and what to switch on in the mail program.

It is worked out from the offers alone, without a connection. A row answers one question for all ports of a protocol; the
row of a login is as bad as the worst way to log in that is offered in the clear. The advice names encrypted settings only.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from markupsafe import Markup

from labkit.decode.protocols import POP3, SMTP
from labkit.decode.sasl import Gives, mechanism_called
from labkit.mail.policy import Security
from labkit.probing.offer import Offer
from labkit.show.safe import block, grid, visible
from labkit.show.view import View, table
from labkit.texts import N_, _


class Grade(StrEnum):
    """How good an answer is for who reads mail there."""

    GOOD = N_("good")
    CAREFUL = N_("careful")
    BAD = N_("bad")
    ABSENT = N_("no")
    UNKNOWN = N_("unknown")


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
        smtp, pop3 = ([offer for offer in offers if offer.record is protocol] for protocol in (SMTP, POP3))
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
        self.advice = tuple(dict.fromkeys(_advice(offers)))

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
        card = [(row.name, f"{_MARKS[row.grade]} {_(row.grade.value)}", row.answer) for row in self.rows]
        advice = [(str(number), sentence) for number, sentence in enumerate(self.advice, 1)]
        return (
            table(self.title, (_("What"), _("Grade"), _("Answer")), card)
            + table(_("Port by port"), (_("Port"), _("What it offers")), map(self._port, self.offers))
            + table(_("In your mail program"), (_("Step"), _("What to do")), advice)
        )

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
        return f"{offer.port} {offer.record.label}", "; ".join(parts)


def _listed(ways: Iterable[str]) -> str:
    return ", ".join(ways) or _("no login offered")


def _in_clear(offer: Offer) -> str:
    """The ways to log in that it offers in the clear. A POP3 server need not know CAPA, which RFC 1939 has not."""
    if offer.record is POP3 and not offer.clear and not offer.auth_in_clear:
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


# From the worst on: what a way to log in in the clear gives to whoever reads the connection.
_DANGERS = {
    Gives.PASSWORD: (Grade.BAD, N_("a password can be read on the way")),
    Gives.TOKEN: (Grade.BAD, N_("a token that is as good as the password can be read on the way")),
    Gives.DIGEST: (Grade.CAREFUL, N_("a simple password can be guessed from that")),
    Gives.NOTHING: (Grade.CAREFUL, N_("no password is sent, but everything else can be read on the way")),
    Gives.UNKNOWN: (Grade.CAREFUL, N_("what that gives away on the way is not known here")),
}
_OF_POP3 = {"USER": Gives.PASSWORD, "APOP": Gives.DIGEST}  # ways to log in that are commands, and no mechanism


def _worst(clear: Iterable[str]) -> tuple[Grade, list[str], str]:
    """Of ways to log in in the clear: how bad the worst ones are, which they are, and what they give away."""
    gives = {way: _OF_POP3.get(way) or mechanism_called(way).gives for way in clear}
    worst = min(gives.values(), key=list(_DANGERS).index)
    grade, danger = _DANGERS[worst]
    return grade, [way for way, given in gives.items() if given is worst], _(danger)


def _logins(offers: Sequence[Offer], name: str, in_clear: str, inside: str, neither: Row) -> Row:
    """Where a login can be read on the way. in_clear, inside: what is said of the ways to log in."""
    answered = _answered(offers)
    if not answered:
        return _unanswered(name, offers)
    clear = dict.fromkeys(way for offer in answered for way in offer.auth_in_clear)
    hidden = dict.fromkeys(way for offer in answered for way in offer.auth_inside)
    if clear:
        grade, worst, danger = _worst(clear)
        return Row(name, grade, in_clear.format(ways=_listed(worst), danger=danger))
    return Row(name, Grade.GOOD, inside.format(ways=_listed(hidden))) if hidden else neither


def _smtp_auth(smtp: Sequence[Offer]) -> Row:
    absent = _("not offered: it cannot know who sends, or knows it in another way")
    return _logins(
        smtp,
        "SMTP AUTH",
        _("yes, and {ways} even in the clear: {danger}"),
        _("yes, only inside TLS: {ways}"),
        Row("SMTP AUTH", Grade.ABSENT, absent),
    )


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
    name = _("POP3 login")
    if {way for offer in pop3 for way in offer.auth_in_clear} == {"APOP"}:
        # The greeting comes before TLS, and nothing tells whether the server waits for TLS before it accepts the login.
        answer = _("{ways} in the greeting: if it is accepted without TLS, a simple password can be guessed from it")
        return Row(name, Grade.CAREFUL, answer.format(ways="APOP"))
    unknown = Row(name, Grade.UNKNOWN, _("it does not say how"))
    return _logins(pop3, name, _("{ways} in the clear: {danger}"), _("only inside TLS: {ways}"), unknown)


def _certificates(offers: Sequence[Offer]) -> Row:
    name, shown = _("certificate"), [offer.certificate for offer in offers if offer.certificate is not None]
    if not shown:
        return Row(name, Grade.ABSENT if _answered(offers) else Grade.UNKNOWN, _("none was shown"))
    if whys := dict.fromkeys(certificate.refused for certificate in shown if certificate.refused):
        return Row(name, Grade.BAD, _("would be refused: {whys}").format(whys="; ".join(whys)))
    until = min(certificate.valid_until for certificate in shown)
    return Row(name, Grade.GOOD, _("accepted, valid until {date}").format(date=until))


_SETTINGS = {
    SMTP: N_("Outgoing server (SMTP): port {port}, connection security {security}."),
    POP3: N_("Incoming server (POP3): port {port}, connection security {security}."),
}
_NOT_ENCRYPTED = {
    SMTP: N_("No encrypted way to send was found: mail and password can be read on the way. Ask the provider."),
    POP3: N_("No encrypted way to read mail was found: the password can be read on the way. Ask the provider."),
}


def _advice(offers: Sequence[Offer]) -> Iterator[str]:
    """What to switch on: the best of what is encrypted, and nothing without."""
    for protocol in (SMTP, POP3):
        answered = [offer for offer in _answered(offers) if offer.record is protocol]
        if secure := [offer for offer in answered if offer.inside is not None]:
            yield from _settings(min(secure, key=_order))
        elif answered:
            yield _(_NOT_ENCRYPTED[protocol])
    if not _answered(offers):
        yield _("No mail server answered: check the name, and which ports the provider names.")


def _is_refused(offer: Offer) -> bool:
    return offer.certificate is not None and bool(offer.certificate.refused)


def _order(offer: Offer) -> tuple[bool, bool]:
    """A good certificate first, then TLS from the first byte before STARTTLS (RFC 8314 section 3)."""
    return _is_refused(offer), offer.security is not Security.SSL


def _settings(best: Offer) -> Iterator[str]:
    """What to enter for this port."""
    security = "SSL/TLS" if best.security is Security.SSL else "STARTTLS"
    yield _(_SETTINGS[best.record]).format(port=best.port, security=security)
    if best.security is Security.STARTTLS:
        yield _("Choose STARTTLS as required, never “if available”: an offer can be removed on the way.")
    if _is_refused(best):
        yield _(
            "Do not log in there and do not switch the check off: the certificate on port {port} would be refused. Ask "
            "the provider."
        ).format(port=best.port)
    elif best.record is SMTP and best.auth_inside:
        yield _("Switch on “my outgoing server requires authentication”, with your login name and password.")
