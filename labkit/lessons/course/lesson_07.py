"""Lesson 07, certificates: how the wire answers what its notebook asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.decode.exposure import Fact, Verdict
from labkit.decode.protocols import POP3, SMTP
from labkit.lessons.answers import Labels, Made, WrongSetting
from labkit.lessons.evidence import Missing, every_span, login_lines, password, tls_lines, tls_version, value
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.mail.accounts import DOMAIN
from labkit.mail.certificates import authority
from labkit.mail.settings import Settings
from labkit.provider import Provider
from labkit.texts import N_, _

_MENDED = ("server", "security", "login", "password", "verify_certificate", "outgoing_requires_authentication")

STEPS: tuple[Step, ...] = (
    Experiment(
        "07-1",
        takes=(Capture, Capture, Capture),
        truth=lambda seen: _how_far(*seen.captures),
        found=lambda seen: _how_far_in_words(*seen.captures),
        lines=lambda seen: [line for capture in seen.captures for line in _alerts(capture)],
        replies={
            "a": N_("The check comes within the handshake, before the first word of SMTP."),
            "c": N_("Then anybody could switch the encryption off by showing a bad certificate."),
        },
    ),
    Experiment("07-2", takes=(Capture, Capture, Capture, Capture), found=lambda seen: _look_in_words(*seen.captures)),
    Exercise(
        "07-3",
        needs="07-2",
        answer=Labels(
            lambda seen: _pieces(*seen.captures),
            ("good", "wrong name", "expired", "unknown issuer"),
            mistakes={
                "name-and-issuer": lambda answer, seen: _taken_for(
                    answer, seen.captures, "unknown issuer", "wrong name"
                ),
                "old-is-good": lambda answer, seen: _taken_for(answer, seen.captures, "expired", "good"),
                "any-issuer": lambda answer, seen: _taken_for(answer, seen.captures, "unknown issuer", "good"),
                "any-name": lambda answer, seen: _taken_for(answer, seen.captures, "wrong name", "good"),
            },
        ),
        why=N_("Three questions, and one wrong answer is enough: for whom, until when, issued by whom?"),
        says={
            "name-and-issuer": N_(
                "The name that counts is whom the certificate is *for*. Who issued it is another question."
            ),
            "old-is-good": N_("One of those you call good was good once. Compare its last day with today."),
            "any-issuer": N_("One of those you call good was issued by somebody whom hanako's program does not know."),
            "any-name": N_("One of those you call good belongs to another server. Her program asked for mail.example."),
        },
        hints=(
            N_("Each of the three wrong ones differs from the good one in a single part."),
            N_("hanako's program wants mail.example, and trusts The lab's certificate authority alone."),
        ),
        where=N_("the table that this check shows while the answer is blank, line by line."),
    ),
    Experiment(
        "07-4",
        takes=(Provider, Capture),
        truth=lambda seen: _how_much(seen.capture),
        found=lambda seen: _(
            "The stranger has the password, {password}, and the letter, {subject!r}. Letters that arrived: {count}."
        ).format(
            password=value(seen.capture, Fact.PASSWORD),
            subject=value(seen.capture, Fact.SUBJECT),
            count=sum(len(maildrop.messages()) for maildrop in seen.provider.maildrops.values()),
        ),
        lines=lambda seen: login_lines(seen.capture, "PLAIN"),
        replies={
            "a": N_("TLS encrypts for whoever is at the other end, and that is the stranger."),
            "b": N_(
                "That is what a listener gets. The stranger does more than listen: it is the one that the program "
                "talks to."
            ),
        },
    ),
    Exercise(
        "07-5",
        needs="07-4",
        answer=Made(
            Capture,
            lambda capture, _seen: _reads_of(capture, "taro"),
            mistakes={
                "wrong-port": lambda capture, _seen: password(capture) is Verdict.NOT_SENT and not _alerts(capture),
                "check-on": lambda capture, _seen: password(capture) is Verdict.NOT_SENT,
                "listener": lambda capture, _seen: password(capture) is Verdict.HIDDEN,
                "sending": lambda capture, _seen: any(flow.protocol is SMTP for flow in capture.flows),
                "hanakos": lambda capture, _seen: _reads_of(capture, "hanako"),
            },
        ),
        why=N_("Another certificate, another protocol, and the same end: who does not check is robbed."),
        says={
            "wrong-port": N_(
                "No certificate stopped it: a program that reads met a server for sending, or the other way round."
            ),
            "check-on": N_("The stranger read nothing: taro's program still checks, and left during the handshake."),
            "listener": N_("That is what a listener sees. What the stranger reads is in `middle.read`."),
            "sending": N_("Somebody sent here. Reading is POP3: `receive`, through `middle.pop3_port`."),
            "hanakos": N_("This is hanako again. It is taro's turn."),
        },
        hints=(
            N_("It is the line of the experiment with another name, `receive()` for `send(letter)`, and another port."),
            N_('`provider.client("taro", pop3_port=middle.pop3_port, verify_certificate=False).receive()`'),
        ),
        where=N_("the rows login name and password of `robbed.exposure`."),
    ),
    Experiment(
        "07-6",
        takes=(Capture, Capture),
        truth=lambda seen: _difference(*seen.captures),
        found=lambda seen: _difference_in_words(*seen.captures),
        replies={
            "a": N_("It is, all the way to the stranger."),
            "b": N_("The stranger can speak the newest TLS there is. That makes nobody the provider."),
        },
    ),
    Exercise(
        "07-7",
        needs="07-6",
        answer=Made(
            Capture,
            lambda capture, _seen: bool(_alerts(capture)) and password(capture) is Verdict.NOT_SENT,
            mistakes={
                "check-off": lambda capture, _seen: password(capture) in {Verdict.READABLE, Verdict.ENCODED},
                "the-provider": lambda capture, _seen: password(capture) is Verdict.HIDDEN,
            },
        ),
        why=N_("A handshake, an alert, and nothing to read. No mail today, and nothing lost."),
        says={
            "check-off": N_("The stranger has read the password again: the check is still off."),
            "the-provider": N_(
                "This login went through, unread: it is a listener's view of a session. Hand over `middle.read`."
            ),
        },
        hints=(
            N_("The check is on unless somebody switches it off."),
            N_(
                '`provider.client("hanako", smtp_port=middle.smtp_port).send(letter)` raises a LabError, which '
                "`suppress` passes over."
            ),
        ),
        where=N_("the last line of `met`: which alert does it show?"),
    ),
    Exercise(
        "07-8",
        needs="07-4",
        answer=WrongSetting(
            lambda seen: seen.provider.settings("taro", server="smtp.mail.example"),
            lambda seen: seen.provider.settings("taro"),
            mistakes={
                "security": lambda answer, _seen: answer == "security",
                "password": lambda answer, _seen: answer == "password",
                "login": lambda answer, _seen: answer == "login",
            },
        ),
        why=N_("The certificate is for mail.example. A name that is nearly right is another name."),
        says={
            "security": N_(
                "SSL is what the provider wants. Without it the warning would be gone, and the protection with it."
            ),
            "password": N_("The password has nothing to do with it: the handshake ended before it was said."),
            "login": N_(
                "A wrong login name is refused by the server, inside TLS. Here the program refused, before that."
            ),
        },
        hints=(
            N_("The program says: made out to another name. Which of the settings is the name that it compared?"),
            N_("Compare the table with the provider's letter, letter by letter."),
        ),
        where=N_("the provider's letter, and the table that this check shows while the answer is blank."),
    ),
    Exercise(
        "07-9",
        needs="07-4",
        answer=Made(
            Settings,
            lambda settings, seen: all(
                getattr(settings, name) == getattr(seen.provider.settings("taro"), name) for name in _MENDED
            ),
            mistakes={
                "silenced": lambda settings, _seen: not settings.verify_certificate,
                "no-tls": lambda settings, seen: settings.security != seen.provider.policy.security,
                "still-wrong": lambda settings, seen: settings.server != seen.provider.settings("taro").server,
                "not-taros": lambda settings, seen: settings.login != seen.provider.accounts["taro"].login,
            },
        ),
        why=N_("The right name, TLS, and the check on: if a warning comes now, it is worth listening to."),
        says={
            "silenced": N_("No warning will come any more, not even when a stranger answers: the check is off."),
            "no-tls": N_("Without TLS from the first byte no certificate is shown, and this provider does not answer."),
            "still-wrong": N_(
                "The server's name is still not the one in the certificate: the warning will come again."
            ),
            "not-taros": N_("Safe, but not taro's: these settings belong to another account."),
        },
        hints=(
            N_("Change the setting that 07-8 found, and no other."),
            N_('`provider.settings("taro")` has what the provider wants; what you add in the brackets overrules it.'),
        ),
        where=N_("`mended.server` and `mended.verify_certificate`."),
    ),
)


def _how_far(*captures: Capture) -> str:
    if not all(flow.tls for capture in captures for flow in capture.flows) or not all(c.flows for c in captures):
        raise Missing(_("One of these captures does not hold a TLS handshake."))
    found = {password(capture) for capture in captures}
    if found == {Verdict.NOT_SENT}:
        return "b"
    return "a" if found <= {Verdict.NOT_SENT, Verdict.HIDDEN} else "c"


def _how_far_in_words(*captures: Capture) -> str:
    if _how_far(*captures) != "b":
        return _("The program went on: her login was sent.")
    return _("{count} handshakes, each ended by the program. To somebody on the way her password is {verdict}.").format(
        count=len(captures), verdict=_(Verdict.NOT_SENT.value)
    )


def _alerts(capture: Capture) -> list[Line]:
    return [tls.line for tls in tls_lines(capture) if tls.is_alert]


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a certificate on the wire says of itself."""

    names: tuple[str, ...]
    issuer: str
    until: str

    @property
    def words(self) -> str:
        text = _("for {names}, until {until}, issued by {issuer}")
        return text.format(names=" ".join(self.names), issuer=self.issuer, until=self.until)

    @property
    def label(self) -> str:
        """What a program finds that wants DOMAIN and trusts the lab's authority alone."""
        if self.issuer != _trusted():
            return "unknown issuer"
        if DOMAIN not in self.names:
            return "wrong name"
        return "expired" if self.until < datetime.now(UTC).date().isoformat() else "good"


def _trusted() -> str:
    """The name of the authority that the lab's mail programs trust."""
    subject = x509.load_pem_x509_certificate(authority().ca_pem).subject
    return str(subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)[0].value)


def _shown(capture: Capture) -> _Shown:
    """The first certificate that can be read in a capture (RFC 5280 section 4.1). Raises Missing."""
    said: dict[str, str] = {}
    for span in every_span(*capture.flows):
        said.setdefault(span.field, span.value)
    try:
        names, issuer, until = said["x509.general_names"], said["x509.issuer"], said["x509.not_after"]
    except KeyError:
        raise Missing(_("No certificate can be read in this capture: TLS 1.3 encrypts it, TLS 1.2 does not.")) from None
    domains = tuple(name for name in names.split(", ") if "." in name and not name.replace(".", "").isdigit())
    return _Shown(domains, issuer.rpartition("=")[2], until[:10])


def _look_in_words(*captures: Capture) -> str:
    shown = [_shown(capture) for capture in captures]
    text = _("{count} certificates in the clear, so anybody on the way can read them. The first one says: {words}.")
    return text.format(count=len(shown), words=shown[0].words)


def _pieces(*captures: Capture) -> Sequence[tuple[str, str]]:
    """The certificates in another order than they were shown, the same for everybody."""
    shown = sorted(map(_shown, captures), key=lambda one: (one.until, one.names, one.issuer))
    return [(one.words, one.label) for one in shown]


def _taken_for(answer: Sequence[str], captures: Sequence[Capture], truth: str, label: str) -> bool:
    pairs = zip(answer, _pieces(*captures), strict=True)
    return any(piece[1] == truth and given == label for given, piece in pairs)


def _how_much(read: Capture) -> str:
    return {Verdict.NOT_SENT: "a", Verdict.HIDDEN: "b", Verdict.SIZE_ONLY: "b"}.get(password(read), "c")


def _reads_of(capture: Capture, name: str) -> bool:
    reading = bool(capture.flows) and all(flow.protocol is POP3 for flow in capture.flows)
    known = capture.findings[Fact.LOGIN_NAME].value == name
    return reading and known and password(capture) is Verdict.READABLE


def _difference(seen: Capture, safe: Capture) -> str:
    versions = [tls_version(seen), tls_version(safe)]
    if versions[0] != versions[1]:
        return "b"
    same = all(seen.findings[fact].verdict is safe.findings[fact].verdict for fact in Fact)
    return "c" if same else "a"


def _difference_in_words(seen: Capture, safe: Capture) -> str:
    text = _(
        "{seen} here, {safe} there; the verdicts on {same} of {count} facts agree. The password is {verdict} in both."
    )
    same = sum(seen.findings[fact].verdict is safe.findings[fact].verdict for fact in Fact)
    found = password(seen)
    if found is not password(safe):
        raise Missing(_("In one of these captures the password is exposed, in the other it is not."))
    return text.format(
        seen=tls_version(seen), safe=tls_version(safe), same=same, count=len(Fact), verdict=_(found.value)
    )
