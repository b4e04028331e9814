"""Lesson 09, set up your client: how the wire answers what its notebook asks."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

from labkit.attack import Login, logins
from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.decode.exposure import Fact, Verdict
from labkit.errors import LabError
from labkit.lessons import puzzles
from labkit.lessons.answers import Labels, Made, WrongSetting
from labkit.lessons.evidence import (
    Evidence,
    Missing,
    first_of,
    in_words,
    lines_of,
    login_lines,
    password,
    policy_on_the_wire,
    pop3_turns,
    value,
    verdict,
)
from labkit.lessons.programs import PROGRAMS, STRANGER, CompatibilityMatrix, MailProgram, try_out
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.mail.client import MailClient
from labkit.mail.policy import MECHANISMS, POLICIES, LoginFormat
from labkit.mail.sample import sample_message
from labkit.mail.settings import Settings
from labkit.probing import Grade, probe
from labkit.provider import Provider
from labkit.texts import N_, _

_ENCRYPTED = ("STARTTLS", "SSL", "SSL + SCRAM")
_OPEN = (Verdict.READABLE, Verdict.ENCODED, Verdict.GUESSABLE)
_FILE = "invoice.exe"
_POP3_LOGINS = {"USER", "PASS", "APOP"}
_WORDS = (*POLICIES, *LoginFormat, *(name.casefold() for name in (*MECHANISMS, "USER/PASS", "APOP")), *Verdict)

STEPS: tuple[Step, ...] = (
    Experiment(
        "09-1",
        takes=(Provider, Provider, Provider),
        found=lambda seen: _("letters in taro's maildrop: company {0}, campus {1}, shop {2}.").format(
            *(len(provider.maildrops["taro"].messages()) for provider in seen.all(Provider))
        ),
    ),
    Exercise(
        "09-2",
        needs="09-1",
        answer=WrongSetting(
            lambda seen: puzzles.settings("company", seen.provider),
            lambda seen: seen.provider.settings("hanako"),
            mistakes={
                "mechanism": lambda answer, _seen: answer == "mechanism",
                "login-name": lambda answer, _seen: answer == "login",
                "switch": lambda answer, _seen: answer == "outgoing_requires_authentication",
            },
        ),
        why=N_("Without STARTTLS nothing is offered: this server takes logins only inside TLS."),
        says={
            "mechanism": N_("No mechanism would help: the server offers no login at all on this connection. Why?"),
            "login-name": N_("The login name is the whole address, as the letter wants it. It was not even sent."),
            "switch": N_("The switch is on, as it must be: that is why the program asked for a way to log in."),
        },
        hints=(
            N_("Compare the table line by line with the letter of `company`."),
            N_("What has to happen on a STARTTLS connection before the server offers any login?"),
        ),
        where=N_("the error of `company`: what does the server offer?"),
    ),
    Exercise(
        "09-3",
        needs="09-1",
        answer=WrongSetting(
            lambda seen: puzzles.settings("campus", _campus(seen)),
            lambda seen: _campus(seen).settings("hanako", mechanism=_campus(seen).policy.mechanisms[0]),
            mistakes={
                "security": lambda answer, _seen: answer == "security",
                "password": lambda answer, _seen: answer == "password",
                "name": lambda answer, _seen: answer in {"login", "server"},
            },
        ),
        why=N_("The login again, but another cause: here TLS was up, and the offer did not have PLAIN in it."),
        says={
            "security": N_("Here the server did offer a login, so TLS was up. Which one did it offer?"),
            "password": N_("The password was never sent: the program stopped before it logged in."),
            "name": N_("That is as the letter of `campus` says. The program got as far as reading the server's offer."),
        },
        hints=(
            N_("The error says what the server offers on this connection."),
            N_("One line of the table names how to log in."),
        ),
        where=N_("the error of `campus`, its last words."),
    ),
    Exercise(
        "09-4",
        needs="09-1",
        answer=Made(
            Settings,
            lambda settings, seen: _arrives(settings, _shop(seen)) and _safe(settings),
            mistakes={
                "check-off": lambda settings, seen: (
                    settings.security == _shop(seen).policy.security and (not _safe(settings))
                ),
                "unchanged": lambda settings, seen: settings == puzzles.settings("shop", _shop(seen)),
                "other-security": lambda settings, seen: settings.security != _shop(seen).policy.security,
                "still-refused": lambda _settings, _seen: True,
            },
        ),
        why=N_("The letter arrived, and the program knows whom it spoke with: name and certificate fit."),
        says={
            "check-off": N_(
                "So it would arrive at anybody who shows any certificate at all (lesson 07). Leave the check on."
            ),
            "unchanged": N_("These are the settings as they were typed. One value has to be another."),
            "other-security": N_("`shop` speaks TLS from the first byte: it is no use to ask for anything else."),
            "still-refused": N_(
                "No letter arrived with these settings: the certificate is still another's, or the login is refused."
            ),
        },
        hints=(
            N_("The error says what is wrong with the certificate: it is made out to another name than the one typed."),
            N_("`replace(typed, server=…)`, with the name that the letter of `shop` gives."),
        ),
        where=N_("the error of `shop`, and the server's name in its letter."),
    ),
    Experiment(
        "09-5",
        takes=(CompatibilityMatrix,),
        truth=lambda seen: _who_leaks(seen.all(CompatibilityMatrix)[0]),
        found=lambda seen: _("Something is given away by: {names}.").format(
            names="; ".join(_leaking(seen.all(CompatibilityMatrix)[0])) or _("none")
        ),
        replies={
            "a": N_("The program of 2005 encrypts, but does not ask for whom: it serves the stranger as well."),
            "c": N_("Today's program rather does nothing than to send it in the clear or to a stranger."),
        },
    ),
    Exercise(
        "09-6",
        needs="09-5",
        answer=Made(
            MailProgram,
            lambda program, _seen: _trouble(program) == "",
            mistakes={
                "serves-the-stranger": lambda program, _seen: _trouble(program) == "stranger",
                "goes-in-the-clear": lambda program, _seen: _trouble(program) == "clear",
                "no-starttls": lambda program, _seen: _trouble(program) == "STARTTLS",
                "no-ssl": lambda program, _seen: _trouble(program) == "SSL",
                "no-scram": lambda program, _seen: _trouble(program) == "SSL + SCRAM",
            },
        ),
        why=N_("It talks where it can be safe, and nowhere else. That is what an update has to achieve."),
        says={
            "serves-the-stranger": N_(
                "It does not check certificates, so a stranger in between reads everything (lesson 07): encryption "
                "without the check protects from listeners only."
            ),
            "goes-in-the-clear": N_(
                "It still talks in the clear where no TLS is offered. Being able to do less is the point here."
            ),
            "no-starttls": N_("It gives nothing away, but it cannot use the provider with STARTTLS."),
            "no-ssl": N_("It gives nothing away, but it cannot use the provider with SSL."),
            "no-scram": N_(
                "It cannot send at the strictest provider, which takes no password, only a proof with SCRAM-SHA-256."
            ),
        },
        hints=(
            N_(
                "`replace(old, verify_certificate=True)` changes one thing. Three have to change: separate them by "
                "commas."
            ),
            N_('`security=("ssl", "starttls")`, and add "SCRAM-SHA-256" to its `mechanisms`.'),
        ),
        where=N_("the row of 2005 in the table: which doors should say something else?"),
    ),
    Experiment(
        "09-7",
        takes=(Provider,),
        truth=lambda seen: _unseen(seen.provider),
        found=lambda seen: _("The card cannot tell: {names}.").format(names=", ".join(_unknown_rows(seen.provider))),
        replies={
            "a": N_("A program has to know how to log in before it does, so the server lists that for everybody."),
            "c": N_("Anybody can try the port and be answered. Only what is said inside is hidden from others."),
        },
    ),
    Exercise(
        "09-8",
        needs="09-7",
        answer=Labels(
            lambda seen: _form_lines(seen.provider),
            ("none", "starttls", "ssl", "25", "110", "465", "587", "995", "on", "off"),
            mistakes={
                "ssl": lambda answer, seen: answer[0] == "ssl" != seen.provider.policy.security,
                "none": lambda answer, _seen: answer[0] == "none",
                "server-port": lambda answer, _seen: answer[1] == "25",
                "pop3s-port": lambda answer, seen: answer[2] == "995" != _form_lines(seen.provider)[2][1],
                "switch-off": lambda answer, _seen: answer[3] == "off",
            },
        ),
        why=N_("That is all it takes. Your own provider's help page has the same four values."),
        says={
            "ssl": N_("SSL would be best, but this provider does not have it: the card found no such port."),
            "none": N_("Without encryption this provider takes no login, and everybody could read along."),
            "server-port": N_(
                "Port 25 is where mail servers hand mail to each other. Programs have a port of their own."
            ),
            "pop3s-port": N_(
                "That port is for TLS from the first byte. With STARTTLS, reading begins on POP3's old port."
            ),
            "switch-off": N_("Then nobody would know who sends, and the server would answer 530 (lesson 03)."),
        },
        hints=(
            N_("The last part of the card says it line by line."),
            N_('The first two values are "starttls" and "587".'),
        ),
        where=N_("the card's last part, “In your mail program”."),
    ),
    Experiment(
        "09-9",
        takes=(Provider, Capture),
        truth=lambda seen: _readers(seen.provider, seen.capture),
        found=lambda seen: _("On the way the text is {verdict}; the provider holds: `{subject}`.").format(
            verdict=in_words(seen.capture, Fact.TEXT), subject=_at_provider(seen.provider)
        ),
        replies={
            "a": N_("TLS ends at her provider. Its servers hold the letter as it is, and pass it on."),
            "c": N_("On that stretch everything was encrypted: that is what all her settings are for."),
        },
    ),
    Exercise(
        "09-10",
        needs="09-9",
        answer=Labels(
            lambda seen: _dangers(seen.provider, seen.capture),
            ("stopped", "stays"),
            mistakes={
                "all-solved": lambda answer, _seen: set(answer) == {"stopped"},
                "nothing-helps": lambda answer, _seen: set(answer) == {"stays"},
                "provider-cannot-read": lambda answer, _seen: answer[1] == "stopped",
                "metadata-hidden": lambda answer, _seen: answer[4] == "stopped",
                "malware-stopped": lambda answer, _seen: answer[2] == "stopped",
                "thief-stopped": lambda answer, _seen: answer[5] == "stopped",
            },
        ),
        why=N_("The settings close the way to the provider. The rest takes other remedies."),
        says={
            "all-solved": N_(
                "That would be fine! But the cell above shows a thief who sends, and a file that arrives."
            ),
            "nothing-helps": N_("So much was not in vain: look at what the capture gives away of password and letter."),
            "provider-cannot-read": N_("TLS ends at the provider: the printed subject came out of its own queue."),
            "metadata-hidden": N_(
                "Whom she calls, when, and how much she says is seen by everybody on the way (lesson 05)."
            ),
            "malware-stopped": N_("TLS carries whatever it is given, and keeps it unchanged: also what does harm."),
            "thief-stopped": N_("Whoever has the password is hanako, as far as the provider can tell."),
        },
        hints=(
            N_("Ask of each: does it happen on the way between program and provider?"),
            N_("Two of the six are stopped."),
        ),
        where=N_("the printed lines above, and `way.exposure`."),
    ),
    Experiment(
        "09-11",
        found=lambda seen: _("somebody logged in, and a letter by {sender} was taken.").format(
            sender=value(seen.capture, Fact.SENDER)
        ),
        lines=lambda seen: _login_as_sent(seen.capture),
    ),
    Exercise(
        "09-12",
        needs="09-11",
        answer=Labels(
            lambda seen: _identity(seen.capture),
            tuple(dict.fromkeys(map(str, _WORDS))),
            mistakes={
                "wrong-policy": lambda answer, seen: answer[0] != policy_on_the_wire(seen.capture),
                "undecoded-name": lambda answer, seen: answer[1] != _identity(seen.capture)[1][1],
                "base64-is-plain": lambda answer, seen: answer[2] == "plain" != _identity(seen.capture)[2][1],
                "encoded-for-guessable": lambda answer, seen: (
                    answer[3] in {"encoded", "readable"} and password(seen.capture) is Verdict.GUESSABLE
                ),
                "safe": lambda answer, _seen: answer[3] in {"hidden", "not sent", "size only"},
            },
        ),
        why=lambda seen: _("Identified. So would anybody else on the way: {name} should choose SSL/TLS.").format(
            name=_login(seen.capture).name
        ),
        says={
            "wrong-policy": N_(
                "Look at what comes before MAIL: a login by AUTH, one by POP3 in another connection, TLS, or nothing."
            ),
            "undecoded-name": N_(
                "Decode the name that was sent at the login and compare it with the sender's address."
            ),
            "base64-is-plain": N_(
                "Base64 alone does not make it PLAIN: nearly all logins are spelled so. The word after AUTH says it."
            ),
            "encoded-for-guessable": N_(
                "What the client sent is a digest: it cannot be read. But words can be tried (lesson 08)."
            ),
            "safe": N_("Nothing is encrypted here, and somebody logged in: something of the password can be used."),
        },
        hints=(
            N_("The policy: `list(labkit.POLICIES)`. The mechanism: the word after AUTH."),
            N_("`base64.b64decode` shows the login name. The mark beside it says how much leaked."),
        ),
        where=N_("the marked lines that the cell above shows."),
    ),
)


def _campus(seen: Evidence) -> Provider:
    return seen.all(Provider)[1]


def _shop(seen: Evidence) -> Provider:
    return seen.all(Provider)[2]


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


def _leaking(met: CompatibilityMatrix) -> list[str]:
    return [name for name in met.programs if any(item.leaks in _OPEN for item in met.of(name).values())]


def _who_leaks(met: CompatibilityMatrix) -> str:
    leaking, names = _leaking(met), [profile.name for profile in PROGRAMS]
    if list(met.programs) != names:
        raise Missing(_("These are not the course's five programs."))
    return {tuple(names): "c", tuple(names[:-1]): "b", tuple(names[:-2]): "a"}.get(tuple(leaking), "b")


def _trouble(program: MailProgram) -> str:
    """What is wrong with a program: "stranger", "clear", or the door where it cannot do both; "" when nothing is."""
    tried = _tried_out(program).of(program.name)
    if (
        not program.verify_certificate or tried[STRANGER].leaks in _OPEN
    ):  # whom it does not meet here, it would elsewhere
        return "stranger"
    if any(item.leaks in _OPEN for item in tried.values()):
        return "clear"
    return next((door for door in _ENCRYPTED if not (tried[door].sends and tried[door].reads)), "")


_tried_out = lru_cache(maxsize=4)(try_out)


def _unknown_rows(provider: Provider) -> list[str]:
    return [row.name for row in probe(provider).rows if row.grade is Grade.UNKNOWN]


def _unseen(provider: Provider) -> str:
    letters = {"SMTP AUTH": "a", "POP before SMTP": "b", "SMTP over SSL": "c"}
    return next(letters[name] for name in _unknown_rows(provider) if name in letters)


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


def _readers(provider: Provider, way: Capture) -> str:
    if verdict(way, Fact.TEXT) in _OPEN:
        return "c"
    return "b" if _at_provider(provider) else "a"


def _at_provider(provider: Provider) -> str:
    """The subject of a letter that the provider has to pass on."""
    lines = [line for mail in provider.outgoing for line in mail.content.decode(errors="replace").splitlines()]
    subjects = (line for line in lines if line.startswith("Subject:"))
    return first_of(subjects, _("No letter to another provider was sent."))


def _dangers(provider: Provider, way: Capture) -> Sequence[tuple[str, str]]:
    """Six dangers, and whether what was recorded shows them stopped."""
    received = [message.content for message in provider.maildrops["taro"].messages()]
    as_hanako = [mail for mail in provider.outgoing if mail.sender == provider.accounts["hanako"].address]
    dangers = (
        (_("Somebody in the café reads the letter."), verdict(way, Fact.TEXT) in _OPEN),
        (_("Her provider can read the letter."), bool(_at_provider(provider))),
        (_("A file that does harm reaches taro."), any(_FILE.encode() in content for content in received)),
        (_("Somebody in the café gets the password."), password(way) in _OPEN),
        (_("Somebody in the café sees which provider she uses."), verdict(way, Fact.SERVER_NAME) in _OPEN),
        (_("A thief who has the password sends as hanako."), len(as_hanako) > 1),
    )
    return [(danger, "stays" if happens else "stopped") for danger, happens in dangers]


def _login(capture: Capture) -> Login:
    return first_of(logins(capture), _("Nobody can be seen logging in in this capture."))


def _login_as_sent(capture: Capture) -> Sequence[Line]:
    mechanism = _login(capture).mechanism
    if mechanism in MECHANISMS:
        return login_lines(capture, mechanism)
    return lines_of(pop3_turns(capture, *_POP3_LOGINS))


def _identity(capture: Capture) -> Sequence[tuple[str, str]]:
    """Four questions to a recording, and what it answers itself."""
    login, sender = _login(capture), value(capture, Fact.SENDER)
    names = {sender: LoginFormat.ADDRESS, sender.rpartition("@")[0]: LoginFormat.LOCAL_PART}
    return (
        (_("the provider's policy"), policy_on_the_wire(capture)),
        (_("the kind of login name: local-part, address or separate"), names.get(login.name, LoginFormat.SEPARATE)),
        (_("the mechanism"), login.mechanism.casefold()),
        (_("the password, to somebody on the way: readable, encoded, guessable or hidden"), password(capture).value),
    )
