"""Lesson 09, set up your client: what its notebook asks, and how the wire answers."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

from labkit.attack import Login, logins
from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.decode.exposure import Fact, Verdict
from labkit.errors import LabError
from labkit.lessons import cases
from labkit.lessons.evidence import Missing, login_lines, policy_on_the_wire, pop3_turns, value, verdict
from labkit.lessons.kinds import Labels, Proof, WrongSetting
from labkit.lessons.profiles import PROFILES, STRANGER, Meetings, Profile, meet
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.mail.client import MailClient
from labkit.mail.policy import MECHANISMS, POLICIES, LoginFormat
from labkit.mail.sample import sample_message
from labkit.mail.settings import Settings
from labkit.probing import Grade, probe
from labkit.provider import Provider
from labkit.texts import _

_ENCRYPTED = ("STARTTLS", "SSL", "SSL + SCRAM")
_OPEN = (Verdict.READABLE, Verdict.ENCODED, Verdict.GUESSABLE)


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (
        _three_programs(),
        _company(),
        _campus(),
        _shop(),
        _matrix(),
        _update(),
        _card(),
        _form(),
        _beyond(),
        _solved(),
        _unknown(),
        _identify(),
    )
    return Lesson("09", _("Set up your client"), steps)


# 1 The wrong setting


def _three_programs() -> Experiment:
    return Experiment(
        id="09-1",
        section=_("1 Find the wrong setting"),
        takes=(Provider, Provider, Provider),
        found=lambda *three: _("letters in taro's maildrop: company {0}, campus {1}, shop {2}.").format(
            *(len(provider.maildrops["taro"].messages()) for provider in three)
        ),
    )


def _company() -> Exercise:
    return Exercise(
        id="09-2",
        section=_("1 Find the wrong setting"),
        needs="09-1",
        task=_("Which setting is wrong at `company`?"),
        kind=WrongSetting(
            lambda company, *_others: cases.settings("company", company),
            lambda company, *_others: company.settings("hanako"),
        ),
        why=lambda *_three: _("Without STARTTLS nothing is offered: this server takes logins only inside TLS."),
        misconceptions=(
            Misconception(
                "mechanism",
                lambda answer, *_three: answer == "mechanism",
                _("No mechanism would help: the server offers no login at all on this connection. Why?"),
            ),
            Misconception(
                "login-name",
                lambda answer, *_three: answer == "login",
                _("The login name is the whole address, as the letter wants it. It was not even sent."),
            ),
            Misconception(
                "switch",
                lambda answer, *_three: answer == "outgoing_requires_authentication",
                _("The switch is on, as it must be: that is why the program asked for a way to log in."),
            ),
        ),
        hints=(
            _("Compare the table line by line with the letter of `company`."),
            _("What has to happen on a STARTTLS connection before the server offers any login?"),
        ),
        where=_("the error of `company`: what does the server offer?"),
    )


def _campus() -> Exercise:
    return Exercise(
        id="09-3",
        section=_("1 Find the wrong setting"),
        needs="09-1",
        task=_("Which setting is wrong at `campus`?"),
        kind=WrongSetting(
            lambda _company, campus, _shop: cases.settings("campus", campus),
            lambda _company, campus, _shop: campus.settings("hanako", mechanism=campus.policy.mechanisms[0]),
        ),
        why=lambda *_three: _(
            "The login again, but another cause: here TLS was up, and the offer did not have PLAIN in it."
        ),
        misconceptions=(
            Misconception(
                "security",
                lambda answer, *_three: answer == "security",
                _("Here the server did offer a login, so TLS was up. Which one did it offer?"),
            ),
            Misconception(
                "password",
                lambda answer, *_three: answer == "password",
                _("The password was never sent: the program stopped before it logged in."),
            ),
            Misconception(
                "name",
                lambda answer, *_three: answer in {"login", "server"},
                _("That is as the letter of `campus` says. The program got as far as reading the server's offer."),
            ),
        ),
        hints=(
            _("The error says what the server offers on this connection."),
            _("One line of the table names how to log in."),
        ),
        where=_("the error of `campus`, its last words."),
    )


def _shop() -> Exercise:
    return Exercise(
        id="09-4",
        section=_("1 Find the wrong setting"),
        needs="09-1",
        task=_("Mend one setting of the program at `shop`, so that hanako's letter arrives, and safely."),
        kind=Proof(
            Settings, _("a Settings object"), lambda settings, *three: _arrives(settings, three[2]) and _safe(settings)
        ),
        why=lambda *_three: _(
            "The letter arrived, and the program knows whom it spoke with: name and certificate fit."
        ),
        misconceptions=(
            Misconception(
                "check-off",
                lambda settings, *three: settings.security == three[2].policy.security and not _safe(settings),
                _("So it would arrive at anybody who shows any certificate at all (lesson 07). Leave the check on."),
            ),
            Misconception(
                "unchanged",
                lambda settings, *three: settings == cases.settings("shop", three[2]),
                _("These are the settings as they were typed. One value has to be another."),
            ),
            Misconception(
                "other-security",
                lambda settings, *three: settings.security != three[2].policy.security,
                _("`shop` speaks TLS from the first byte: it is no use to ask for anything else."),
            ),
            Misconception(
                "still-refused",
                lambda *_answer_and_three: True,
                _(
                    "No letter arrived with these settings: the certificate is still another's, or the login is refused."
                ),
            ),
        ),
        hints=(
            _("The error says what is wrong with the certificate: it is made out to another name than the one typed."),
            _("`replace(typed, server=…)`, with the name that the letter of `shop` gives."),
        ),
        where=_("the error of `shop`, and the server's name in its letter."),
    )


def _safe(settings: Settings) -> bool:
    return settings.verify_certificate and settings.trusted_ca is not None


def _arrives(settings: Settings, provider: Provider) -> bool:
    """Send a letter with these settings, to this provider and to nobody else."""
    there = (provider.host, provider.smtp_port, provider.pop3_port, provider.policy.security)
    if (settings.connect_to, settings.smtp_port, settings.pop3_port, settings.security) != there:
        return False
    before = len(provider.maildrops["taro"].messages())
    with suppress(LabError):
        MailClient(settings).send(sample_message())
    return len(provider.maildrops["taro"].messages()) > before


# 2 Programs against providers


def _matrix() -> Experiment:
    return Experiment(
        id="09-5",
        section=_("2 Try five programs at seven doors"),
        takes=(Meetings,),
        question=_(
            "Which programs give password or letter away, to somebody on the way or to the stranger, at one door at least?"
        ),
        choices={
            "a": _("Those without TLS, of 1998, 1999 and 2001."),
            "b": _("All but today's."),
            "c": _("All five: a password has to be sent."),
        },
        truth=lambda met: _who_leaks(met),
        found=lambda met: _("Something is given away by: {names}.").format(names="; ".join(_leaking(met)) or _("none")),
        replies={
            "a": _("The program of 2005 encrypts, but does not ask for whom: it serves the stranger as well."),
            "c": _("Today's program rather does nothing than to send it in the clear or to a stranger."),
        },
    )


def _leaking(met: Meetings) -> list[str]:
    return [name for name in met.programs if any(item.leaks in _OPEN for item in met.of(name).values())]


def _who_leaks(met: Meetings) -> str:
    leaking, names = _leaking(met), [profile.name for profile in PROFILES]
    if list(met.programs) != names:
        raise Missing(_("These are not the course's five programs."))
    return {tuple(names): "c", tuple(names[:-1]): "b", tuple(names[:-2]): "a"}.get(tuple(leaking), "b")


def _update() -> Exercise:
    return Exercise(
        id="09-6",
        section=_("2 Try five programs at seven doors"),
        needs="09-5",
        task=_(
            "Update `old` until it sends and reads at the three doors that encrypt, and gives nothing away anywhere."
        ),
        kind=Proof(Profile, _("a Profile"), lambda profile, _met: _trouble(profile) == ""),
        why=lambda _met: _("It talks where it can be safe, and nowhere else. That is what an update has to achieve."),
        misconceptions=(
            Misconception(
                "serves-the-stranger",
                lambda profile, _met: _trouble(profile) == "stranger",
                _(
                    "It does not check certificates, so a stranger in between reads everything (lesson 07): encryption "
                    "without the check protects from listeners only."
                ),
            ),
            Misconception(
                "goes-in-the-clear",
                lambda profile, _met: _trouble(profile) == "clear",
                _("It still talks in the clear where no TLS is offered. Being able to do less is the point here."),
            ),
            Misconception(
                "no-starttls",
                lambda profile, _met: _trouble(profile) == "STARTTLS",
                _("It gives nothing away, but it cannot use the provider with STARTTLS."),
            ),
            Misconception(
                "no-ssl",
                lambda profile, _met: _trouble(profile) == "SSL",
                _("It gives nothing away, but it cannot use the provider with SSL."),
            ),
            Misconception(
                "no-scram",
                lambda profile, _met: _trouble(profile) == "SSL + SCRAM",
                _(
                    "It cannot send at the strictest provider, which takes no password, only a proof with SCRAM-SHA-256."
                ),
            ),
        ),
        hints=(
            _(
                "`replace(old, verify_certificate=True)` changes one thing. Three have to change: separate them by commas."
            ),
            _('`security=("ssl", "starttls")`, and add "SCRAM-SHA-256" to its `mechanisms`.'),
        ),
        where=_("the row of 2005 in the table: which doors should say something else?"),
    )


@lru_cache(maxsize=4)
def _trouble(profile: Profile) -> str:
    """What is wrong with a profile: "stranger", "clear", or the door where it cannot do both; "" when nothing is."""
    met = meet(profile).of(profile.name)
    if not profile.verify_certificate or met[STRANGER].leaks in _OPEN:  # whom it does not meet here, it would elsewhere
        return "stranger"
    if any(item.leaks in _OPEN for item in met.values()):
        return "clear"
    return next((door for door in _ENCRYPTED if not (met[door].sends and met[door].reads)), "")


# 3 What a provider offers


def _card() -> Experiment:
    return Experiment(
        id="09-7",
        section=_("3 Ask what your provider offers"),
        takes=(Provider,),
        question=_("Somebody asks a server what it offers, without logging in. Which of the four cannot be seen so?"),
        choices={
            "a": _("SMTP AUTH: only customers may know."),
            "b": _("POP before SMTP: the server does not announce it."),
            "c": _("SMTP over SSL: what is encrypted cannot be seen."),
        },
        truth=_unseen,
        found=lambda provider: _("The card cannot tell: {names}.").format(names=", ".join(_unknown_rows(provider))),
        replies={
            "a": _("A program has to know how to log in before it does, so the server lists that for everybody."),
            "c": _("Anybody can try the port and be answered. Only what is said inside is hidden from others."),
        },
    )


def _unknown_rows(provider: Provider) -> list[str]:
    return [row.name for row in probe(provider).rows if row.grade is Grade.UNKNOWN]


def _unseen(provider: Provider) -> str:
    letters = {"SMTP AUTH": "a", "POP before SMTP": "b", "SMTP over SSL": "c"}
    return next(letters[name] for name in _unknown_rows(provider) if name in letters)


def _form() -> Exercise:
    return Exercise(
        id="09-8",
        section=_("3 Ask what your provider offers"),
        needs="09-7",
        task=_("Fill in a mail program's form for `company` from the card. The check shows its four lines."),
        kind=Labels(_form_lines, ("none", "starttls", "ssl", "25", "110", "465", "587", "995", "on", "off")),
        why=lambda _provider: _("That is all it takes. Your own provider's help page has the same four values."),
        misconceptions=(
            Misconception(
                "ssl",
                lambda answer, provider: answer[0] == "ssl" != provider.policy.security,
                _("SSL would be best, but this provider does not have it: the card found no such port."),
            ),
            Misconception(
                "none",
                lambda answer, _provider: answer[0] == "none",
                _("Without encryption this provider takes no login, and everybody could read along."),
            ),
            Misconception(
                "server-port",
                lambda answer, _provider: answer[1] == "25",
                _("Port 25 is where mail servers hand mail to each other. Programs have a port of their own."),
            ),
            Misconception(
                "pop3s-port",
                lambda answer, provider: answer[2] == "995" != _form_lines(provider)[2][1],
                _("That port is for TLS from the first byte. With STARTTLS, reading begins on POP3's old port."),
            ),
            Misconception(
                "switch-off",
                lambda answer, _provider: answer[3] == "off",
                _("Then nobody would know who sends, and the server would answer 530 (lesson 03)."),
            ),
        ),
        hints=(
            _("The last part of the card says it line by line."),
            _('The first two values are "starttls" and "587".'),
        ),
        where=_("the card's last part, “In your mail program”."),
    )


def _form_lines(provider: Provider) -> Sequence[tuple[str, str]]:
    """What a mail program asks, and what the provider's own answers make right."""
    offers = {offer.protocol: offer for offer in probe(provider).offers if offer.inside is not None}
    if set(offers) != {"smtp", "pop3"}:
        raise Missing(_("This provider offers nothing encrypted: take `company`."))
    switch = "on" if offers["smtp"].auth_inside else "off"
    return (
        (_("connection security"), offers["smtp"].security.value),
        (_("port of the outgoing server"), str(offers["smtp"].port)),
        (_("port of the incoming server"), str(offers["pop3"].port)),
        (_("my outgoing server requires authentication"), switch),
    )


# 4 What stays


_FILE = "invoice.exe"


def _beyond() -> Experiment:
    return Experiment(
        id="09-9",
        section=_("4 Know what it does not solve"),
        takes=(Provider, Capture),
        question=_("hanako does everything right. Who can still read her letter to ken?"),
        choices={
            "a": _("Nobody but ken."),
            "b": _("Her provider, and perhaps others on the way from there to ken."),
            "c": _("Somebody in the café, on the way to her provider."),
        },
        truth=lambda provider, way: _readers(provider, way),
        found=lambda provider, way: _("On the way the text is {verdict}; the provider holds: `{subject}`.").format(
            verdict=_(verdict(way, Fact.TEXT).value), subject=_at_provider(provider)
        ),
        replies={
            "a": _("TLS ends at her provider. Its servers hold the letter as it is, and pass it on."),
            "c": _("On that stretch everything was encrypted: that is what all her settings are for."),
        },
    )


def _readers(provider: Provider, way: Capture) -> str:
    if verdict(way, Fact.TEXT) in _OPEN:
        return "c"
    return "b" if _at_provider(provider) else "a"


def _at_provider(provider: Provider) -> str:
    """The subject of a letter that the provider has to pass on."""
    lines = [line for mail in provider.outgoing for line in mail.content.decode(errors="replace").splitlines()]
    subject = next((line for line in lines if line.startswith("Subject:")), None)
    if subject is None:
        raise Missing(_("No letter to another provider was sent."))
    return subject


def _solved() -> Exercise:
    stopped, stays = "stopped", "stays"
    return Exercise(
        id="09-10",
        section=_("4 Know what it does not solve"),
        needs="09-9",
        task=_("Label what the check lists: stopped by the right settings, or stays."),
        kind=Labels(_dangers, (stopped, stays)),
        why=lambda *_evidence: _("The settings close the way to the provider. The rest takes other remedies."),
        misconceptions=(
            Misconception(
                "all-solved",
                lambda answer, *_evidence: set(answer) == {stopped},
                _("That would be fine! But the cell above shows a thief who sends, and a file that arrives."),
            ),
            Misconception(
                "nothing-helps",
                lambda answer, *_evidence: set(answer) == {stays},
                _("So much was not in vain: look at what the capture gives away of password and letter."),
            ),
            Misconception(
                "provider-cannot-read",
                lambda answer, *_evidence: answer[1] == stopped,
                _("TLS ends at the provider: the printed subject came out of its own queue."),
            ),
            Misconception(
                "metadata-hidden",
                lambda answer, *_evidence: answer[4] == stopped,
                _("Whom she calls, when, and how much she says is seen by everybody on the way (lesson 05)."),
            ),
            Misconception(
                "malware-stopped",
                lambda answer, *_evidence: answer[2] == stopped,
                _("TLS carries whatever it is given, and keeps it unchanged: also what does harm."),
            ),
            Misconception(
                "thief-stopped",
                lambda answer, *_evidence: answer[5] == stopped,
                _("Whoever has the password is hanako, as far as the provider can tell."),
            ),
        ),
        hints=(
            _("Ask of each: does it happen on the way between program and provider?"),
            _("Two of the six are stopped."),
        ),
        where=_("the printed lines above, and `way.exposure`."),
    )


def _dangers(provider: Provider, way: Capture) -> Sequence[tuple[str, str]]:
    """Six dangers, and whether what was recorded shows them stopped."""
    received = [message.content for message in provider.maildrops["taro"].messages()]
    as_hanako = [mail for mail in provider.outgoing if mail.sender == provider.accounts["hanako"].address]
    dangers = (
        (_("Somebody in the café reads the letter."), verdict(way, Fact.TEXT) in _OPEN),
        (_("Her provider can read the letter."), bool(_at_provider(provider))),
        (_("A file that does harm reaches taro."), any(_FILE.encode() in content for content in received)),
        (_("Somebody in the café gets the password."), verdict(way, Fact.PASSWORD) in _OPEN),
        (_("Somebody in the café sees which provider she uses."), verdict(way, Fact.SERVER_NAME) in _OPEN),
        (_("A thief who has the password sends as hanako."), len(as_hanako) > 1),
    )
    return [(danger, "stays" if happens else "stopped") for danger, happens in dangers]


# 5 The unknown recording


def _unknown() -> Experiment:
    return Experiment(
        id="09-11",
        section=_("5 Identify a recording"),
        takes=(Capture,),
        found=lambda capture: _("somebody logged in, and a letter by {sender} was taken.").format(
            sender=value(capture, Fact.SENDER)
        ),
        lines=_login_as_sent,
    )


_POP3_LOGINS = {"USER", "PASS", "APOP"}


def _login(capture: Capture) -> Login:
    found = logins(capture)
    if not found:
        raise Missing(_("Nobody can be seen logging in in this capture."))
    return found[0]


def _login_as_sent(capture: Capture) -> Sequence[Line]:
    mechanism = _login(capture).mechanism
    if mechanism in MECHANISMS:
        return login_lines(capture, mechanism)
    said = (turn for turn in pop3_turns(capture) if turn.verb in _POP3_LOGINS)
    return [line for turn in said for line in (turn.asked, turn.answered)]


def _identify() -> Exercise:
    words = (*POLICIES, *LoginFormat, *(name.casefold() for name in (*MECHANISMS, "USER/PASS", "APOP")), *Verdict)
    return Exercise(
        id="09-12",
        section=_("5 Identify a recording"),
        needs="09-11",
        task=_(
            "Identify `unknown`: the policy, the kind of login name, the mechanism, and how much of the password leaked."
        ),
        kind=Labels(_identity, tuple(dict.fromkeys(map(str, words)))),
        why=lambda capture: _("Identified. So would anybody else on the way: {name} should choose SSL/TLS.").format(
            name=_login(capture).name
        ),
        misconceptions=(
            Misconception(
                "wrong-policy",
                lambda answer, capture: answer[0] != policy_on_the_wire(capture),
                _(
                    "Look at what comes before MAIL: a login by AUTH, one by POP3 in another connection, TLS, or nothing."
                ),
            ),
            Misconception(
                "undecoded-name",
                lambda answer, capture: answer[1] != _identity(capture)[1][1],
                _("Decode the name that was sent at the login and compare it with the sender's address."),
            ),
            Misconception(
                "base64-is-plain",
                lambda answer, capture: answer[2] == "plain" != _identity(capture)[2][1],
                _(
                    "Base64 alone does not make it PLAIN: nearly all logins are spelled so. The word after AUTH says it."
                ),
            ),
            Misconception(
                "encoded-for-guessable",
                lambda answer, capture: answer[3] in {"encoded", "readable"} and _leak(capture) is Verdict.GUESSABLE,
                _("What the client sent is a digest: it cannot be read. But words can be tried (lesson 08)."),
            ),
            Misconception(
                "safe",
                lambda answer, _capture: answer[3] in {"hidden", "not sent", "size only"},
                _("Nothing is encrypted here, and somebody logged in: something of the password can be used."),
            ),
        ),
        hints=(
            _("The policy: `list(labkit.POLICIES)`. The mechanism: the word after AUTH."),
            _("`base64.b64decode` shows the login name. The mark beside it says how much leaked."),
        ),
        where=_("the marked lines that the cell above shows."),
    )


def _leak(capture: Capture) -> Verdict:
    return verdict(capture, Fact.PASSWORD)


def _identity(capture: Capture) -> Sequence[tuple[str, str]]:
    """Four questions to a recording, and what it answers itself."""
    login, sender = _login(capture), value(capture, Fact.SENDER)
    names = {sender: LoginFormat.ADDRESS, sender.rpartition("@")[0]: LoginFormat.LOCAL_PART}
    return (
        (_("the provider's policy"), policy_on_the_wire(capture)),
        (_("the kind of login name: local-part, address or separate"), names.get(login.name, LoginFormat.SEPARATE)),
        (_("the mechanism"), login.mechanism.casefold()),
        (_("the password, to somebody on the way: readable, encoded, guessable or hidden"), _leak(capture).value),
    )
