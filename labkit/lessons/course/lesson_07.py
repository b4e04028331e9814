"""Lesson 07, certificates: what its notebook asks, and how the wire answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from labkit.capture import Capture
from labkit.decode.dissection import Line, LineKind
from labkit.decode.exposure import Fact, Verdict
from labkit.decode.protocols import POP3, SMTP
from labkit.lessons.evidence import Missing, every_span, login_lines, value, verdict
from labkit.lessons.kinds import Labels, Proof, WrongSetting
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.mail.accounts import DOMAIN
from labkit.mail.certificates import authority
from labkit.mail.settings import Settings
from labkit.provider import Provider
from labkit.texts import _


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (
        _refused(),
        _look(),
        _four(),
        _stranger(),
        _robbed(),
        _padlock(),
        _met(),
        _setting(),
        _mended(),
    )
    return Lesson("07", _("Break certificate checks"), steps)


# 1 Three wrong certificates


def _refused() -> Experiment:
    return Experiment(
        id="07-1",
        section=_("1 Show a wrong certificate"),
        takes=(Capture, Capture, Capture),
        question=_("The server's certificate is wrong, and hanako's program checks it. How far does the program get?"),
        choices={
            "a": _("It logs in, and warns her afterwards."),
            "b": _("It ends the handshake, and nothing of hers is sent."),
            "c": _("It goes on without encryption."),
        },
        truth=_how_far,
        found=_how_far_in_words,
        lines=lambda *captures: [line for capture in captures for line in _alerts(capture)],
        replies={
            "a": _("The check comes within the handshake, before the first word of SMTP."),
            "c": _("Then anybody could switch the encryption off by showing a bad certificate."),
        },
    )


def _how_far(*captures: Capture) -> str:
    if not all(flow.tls for capture in captures for flow in capture.flows) or not all(c.flows for c in captures):
        raise Missing(_("One of these captures does not hold a TLS handshake."))
    found = {verdict(capture, Fact.PASSWORD) for capture in captures}
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
    lines = [line for flow in capture.flows for line in flow.lines]
    return [line for line in lines if line.kind is LineKind.TLS and line.text.startswith("alert")]


# 2 Four certificates


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


def _look() -> Experiment:
    return Experiment(
        id="07-2",
        section=_("2 Read four certificates"),
        takes=(Capture, Capture, Capture, Capture),
        found=_look_in_words,
    )


def _look_in_words(*captures: Capture) -> str:
    shown = [_shown(capture) for capture in captures]
    text = _("{count} certificates in the clear, so anybody on the way can read them. The first one says: {words}.")
    return text.format(count=len(shown), words=shown[0].words)


def _four() -> Exercise:
    return Exercise(
        id="07-3",
        section=_("2 Read four certificates"),
        needs="07-2",
        task=_("Label the four certificates: good, wrong name, expired or unknown issuer."),
        kind=Labels(_pieces, ("good", "wrong name", "expired", "unknown issuer")),
        why=lambda *_captures: _(
            "Three questions, and one wrong answer is enough: for whom, until when, issued by whom?"
        ),
        misconceptions=(
            Misconception(
                "name-and-issuer",
                lambda answer, *captures: _taken_for(answer, captures, "unknown issuer", "wrong name"),
                _("The name that counts is whom the certificate is *for*. Who issued it is another question."),
            ),
            Misconception(
                "old-is-good",
                lambda answer, *captures: _taken_for(answer, captures, "expired", "good"),
                _("One of those you call good was good once. Compare its last day with today."),
            ),
            Misconception(
                "any-issuer",
                lambda answer, *captures: _taken_for(answer, captures, "unknown issuer", "good"),
                _("One of those you call good was issued by somebody whom hanako's program does not know."),
            ),
            Misconception(
                "any-name",
                lambda answer, *captures: _taken_for(answer, captures, "wrong name", "good"),
                _("One of those you call good belongs to another server. Her program asked for mail.example."),
            ),
        ),
        hints=(
            _("Each of the three wrong ones differs from the good one in a single part."),
            _("hanako's program wants mail.example, and trusts The lab's certificate authority alone."),
        ),
        where=_("the table that this check shows while the answer is blank, line by line."),
    )


def _pieces(*captures: Capture) -> Sequence[tuple[str, str]]:
    """The certificates in another order than they were shown, the same for everybody."""
    shown = sorted(map(_shown, captures), key=lambda one: (one.until, one.names, one.issuer))
    return [(one.words, one.label) for one in shown]


def _taken_for(answer: Sequence[str], captures: Sequence[Capture], truth: str, label: str) -> bool:
    pairs = zip(answer, _pieces(*captures), strict=True)
    return any(piece[1] == truth and given == label for given, piece in pairs)


# 3 The stranger


def _stranger() -> Experiment:
    return Experiment(
        id="07-4",
        section=_("3 Let a stranger in between"),
        takes=(Provider, Capture),
        question=_(
            "The stranger shows a certificate that it made itself. hanako's program does not check. All is encrypted. "
            "What does the stranger read?"
        ),
        choices={
            "a": _("Nothing: TLS encrypts."),
            "b": _("Names and sizes, but not the password."),
            "c": _("Everything."),
        },
        truth=lambda _provider, read: _how_much(read),
        found=_read_in_words,
        lines=lambda _provider, read: login_lines(read, "PLAIN"),
        replies={
            "a": _("TLS encrypts for whoever is at the other end, and that is the stranger."),
            "b": _(
                "That is what a listener gets. The stranger does more than listen: it is the one that the program talks to."
            ),
        },
    )


def _how_much(read: Capture) -> str:
    return {Verdict.NOT_SENT: "a", Verdict.HIDDEN: "b", Verdict.SIZE_ONLY: "b"}.get(verdict(read, Fact.PASSWORD), "c")


def _read_in_words(provider: Provider, read: Capture) -> str:
    password, subject = value(read, Fact.PASSWORD), value(read, Fact.SUBJECT)
    arrived = sum(len(maildrop.messages()) for maildrop in provider.maildrops.values())
    text = _("The stranger has the password, {password}, and the letter, {subject!r}. Letters that arrived: {count}.")
    return text.format(password=password, subject=subject, count=arrived)


def _robbed() -> Exercise:
    return Exercise(
        id="07-5",
        section=_("3 Let a stranger in between"),
        needs="07-4",
        task=_("Let taro's careless program read his mail through the stranger, and hand over what the stranger read."),
        kind=Proof(Capture, _("a capture"), lambda capture, *_before: _reads_of(capture, "taro")),
        why=lambda *_before: _(
            "Another certificate, another protocol, and the same end: who does not check is robbed."
        ),
        misconceptions=(
            Misconception(
                "wrong-port",
                lambda capture, *_before: verdict(capture, Fact.PASSWORD) is Verdict.NOT_SENT and not _alerts(capture),
                _("No certificate stopped it: a program that reads met a server for sending, or the other way round."),
            ),
            Misconception(
                "check-on",
                lambda capture, *_before: verdict(capture, Fact.PASSWORD) is Verdict.NOT_SENT,
                _("The stranger read nothing: taro's program still checks, and left during the handshake."),
            ),
            Misconception(
                "listener",
                lambda capture, *_before: verdict(capture, Fact.PASSWORD) is Verdict.HIDDEN,
                _("That is what a listener sees. What the stranger reads is in `middle.read`."),
            ),
            Misconception(
                "sending",
                lambda capture, *_before: any(flow.protocol is SMTP for flow in capture.flows),
                _("Somebody sent here. Reading is POP3: `receive`, through `middle.pop3_port`."),
            ),
            Misconception(
                "hanakos",
                lambda capture, *_before: _reads_of(capture, "hanako"),
                _("This is hanako again. It is taro's turn."),
            ),
        ),
        hints=(
            _("It is the line of the experiment with another name, `receive()` for `send(letter)`, and another port."),
            _('`provider.client("taro", pop3_port=middle.pop3_port, verify_certificate=False).receive()`'),
        ),
        where=_("the rows login name and password of `robbed.exposure`."),
    )


def _reads_of(capture: Capture, name: str) -> bool:
    reading = bool(capture.flows) and all(flow.protocol is POP3 for flow in capture.flows)
    known = capture.findings[Fact.LOGIN_NAME].value == name
    return reading and known and verdict(capture, Fact.PASSWORD) is Verdict.READABLE


# 4 The padlock


def _padlock() -> Experiment:
    return Experiment(
        id="07-6",
        section=_("4 Distrust the padlock"),
        takes=(Capture, Capture),
        question=_(
            "A listener sees both: the session with the stranger, and a safe one with the provider. What is different?"
        ),
        choices={
            "a": _("The one with the stranger is not encrypted."),
            "b": _("The one with the stranger uses an older TLS."),
            "c": _("Nothing that the exposure tells: both look equally safe."),
        },
        truth=lambda seen, safe: _difference(seen, safe),
        found=_difference_in_words,
        replies={
            "a": _("It is, all the way to the stranger."),
            "b": _("The stranger can speak the newest TLS there is. That makes nobody the provider."),
        },
    )


def _difference(seen: Capture, safe: Capture) -> str:
    versions = [_version(seen), _version(safe)]
    if versions[0] != versions[1]:
        return "b"
    same = all(seen.findings[fact].verdict is safe.findings[fact].verdict for fact in Fact)
    return "c" if same else "a"


def _version(capture: Capture) -> str:
    found = next((flow.tls.version for flow in capture.flows if flow.tls and flow.tls.version), None)
    if found is None:
        raise Missing(_("One of these captures does not hold a TLS handshake."))
    return found


def _difference_in_words(seen: Capture, safe: Capture) -> str:
    text = _(
        "{seen} here, {safe} there; the verdicts on {same} of {count} facts agree. The password is {verdict} in both."
    )
    same = sum(seen.findings[fact].verdict is safe.findings[fact].verdict for fact in Fact)
    found = verdict(seen, Fact.PASSWORD)
    if found is not verdict(safe, Fact.PASSWORD):
        raise Missing(_("In one of these captures the password is exposed, in the other it is not."))
    return text.format(seen=_version(seen), safe=_version(safe), same=same, count=len(Fact), verdict=_(found.value))


def _met() -> Exercise:
    return Exercise(
        id="07-7",
        section=_("4 Distrust the padlock"),
        needs="07-6",
        task=_("Let hanako's program meet the same stranger with its check on, and hand over what the stranger read."),
        kind=Proof(Capture, _("a capture"), lambda capture, *_before: _met_in_vain(capture)),
        why=lambda *_before: _("A handshake, an alert, and nothing to read. No mail today, and nothing lost."),
        misconceptions=(
            Misconception(
                "check-off",
                lambda capture, *_before: verdict(capture, Fact.PASSWORD) in {Verdict.READABLE, Verdict.ENCODED},
                _("The stranger has read the password again: the check is still off."),
            ),
            Misconception(
                "the-provider",
                lambda capture, *_before: verdict(capture, Fact.PASSWORD) is Verdict.HIDDEN,
                _("This login went through, unread: it is a listener's view of a session. Hand over `middle.read`."),
            ),
        ),
        hints=(
            _("The check is on unless somebody switches it off."),
            _(
                '`provider.client("hanako", smtp_port=middle.smtp_port).send(letter)` raises a LabError, which '
                "`suppress` passes over."
            ),
        ),
        where=_("the last line of `met`: which alert does it show?"),
    )


def _met_in_vain(capture: Capture) -> bool:
    return bool(_alerts(capture)) and verdict(capture, Fact.PASSWORD) is Verdict.NOT_SENT


# 5 A warning mended


def _setting() -> Exercise:
    return Exercise(
        id="07-8",
        section=_("5 Mend a warning"),
        needs="07-4",
        task=_("Which of taro's settings is wrong?"),
        kind=WrongSetting(
            lambda provider, _read: provider.settings("taro", server="smtp.mail.example"),
            lambda provider, _read: provider.settings("taro"),
        ),
        why=lambda *_evidence: _("The certificate is for mail.example. A name that is nearly right is another name."),
        misconceptions=(
            Misconception(
                "security",
                lambda answer, *_evidence: answer == "security",
                _("SSL is what the provider wants. Without it the warning would be gone, and the protection with it."),
            ),
            Misconception(
                "password",
                lambda answer, *_evidence: answer == "password",
                _("The password has nothing to do with it: the handshake ended before it was said."),
            ),
            Misconception(
                "login",
                lambda answer, *_evidence: answer == "login",
                _("A wrong login name is refused by the server, inside TLS. Here the program refused, before that."),
            ),
        ),
        hints=(
            _("The program says: made out to another name. Which of the settings is the name that it compared?"),
            _("Compare the table with the provider's letter, letter by letter."),
        ),
        where=_("the provider's letter, and the table that this check shows while the answer is blank."),
    )


def _mended() -> Exercise:
    return Exercise(
        id="07-9",
        section=_("5 Mend a warning"),
        needs="07-4",
        task=_("Write settings with which taro's program sends safely: the warning is mended, not silenced."),
        kind=Proof(Settings, _('settings, as `provider.settings("taro")` makes them'), _is_mended),
        why=lambda *_evidence: _(
            "The right name, TLS, and the check on: if a warning comes now, it is worth listening to."
        ),
        misconceptions=(
            Misconception(
                "silenced",
                lambda settings, *_evidence: not settings.verify_certificate,
                _("No warning will come any more, not even when a stranger answers: the check is off."),
            ),
            Misconception(
                "no-tls",
                lambda settings, provider, _read: settings.security != provider.policy.security,
                _("Without TLS from the first byte no certificate is shown, and this provider does not answer."),
            ),
            Misconception(
                "still-wrong",
                lambda settings, provider, _read: settings.server != provider.settings("taro").server,
                _("The server's name is still not the one in the certificate: the warning will come again."),
            ),
            Misconception(
                "not-taros",
                lambda settings, provider, _read: settings.login != provider.accounts["taro"].login,
                _("Safe, but not taro's: these settings belong to another account."),
            ),
        ),
        hints=(
            _("Change the setting that 07-8 found, and no other."),
            _('`provider.settings("taro")` has what the provider wants; what you add in the brackets overrules it.'),
        ),
        where=_("`mended.server` and `mended.verify_certificate`."),
    )


def _is_mended(settings: Settings, provider: Provider, _read: Capture) -> bool:
    wanted = provider.settings("taro")
    names = ("server", "security", "login", "password", "verify_certificate", "outgoing_requires_authentication")
    return all(getattr(settings, name) == getattr(wanted, name) for name in names)
