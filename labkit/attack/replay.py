"""Replaying: saying again what somebody else has said.

A login that carries the password is as good the second time. A login that answers a challenge is not, because the server
asks something else each time: that is what challenges are for.
"""

from dataclasses import dataclass

from labkit.attack.logins import Login, first
from labkit.attack.outcome import Outcome, explained, refuse_strangers
from labkit.capture import Capture
from labkit.decode.protocol import Service
from labkit.mail.accounts import DOMAIN
from labkit.mail.certificates import authority
from labkit.mail.lineclient import LineClient
from labkit.mail.policy import Security
from labkit.provider import Provider
from labkit.texts import _


@dataclass(frozen=True, repr=False)
class Replayed(Outcome):
    """What a replayed login came to. same_challenge: None for a mechanism without a challenge."""

    protocol: str
    mechanism: str
    login: str
    answer: str
    worked: bool
    same_challenge: bool | None = None

    @property
    def title(self) -> str:  # type: ignore[override]
        return _("A captured login, replayed")

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        return (
            (_("login name"), self.login),
            (_("mechanism"), self.mechanism),
            (_("the server's answer"), self.answer),
        )

    @property
    def conclusion(self) -> str:
        if self.worked and self.same_challenge:
            return _("The replay worked, because this server asked the same challenge twice: it never should.")
        if self.worked:
            return _(
                "The replay worked: whoever has seen this login can log in, without decoding or guessing anything."
            )
        if self.same_challenge is False:
            return _("The replay failed: the server asked another challenge, so the old answer is worth nothing.")
        return _("The replay failed: this provider does not take that login, or not here.")


def replay(capture: Capture, provider: Provider) -> Replayed:
    """Say a captured login again, line by line as it was captured, to a running provider, and see what it answers.

    Of several logins, the first that succeeded. Where the provider has TLS it is said inside: that needs no secret.
    Raises LabError when the capture shows no login, and BadSetting for a provider that is none or does not run.
    """
    refuse_strangers(provider)
    stolen = first(capture)
    smtp = stolen.protocol.service is Service.SENDING
    with explained(), LineClient(provider.host, provider.smtp_port if smtp else provider.pop3_port) as talk:
        greeting = _prepared(talk, provider, smtp)
        asked, answer = _said_again(talk, stolen)
        talk.say("QUIT")
    if stolen.mechanism == "APOP":
        asked = tuple(stamp for stamp in stolen.asked if stamp in greeting)
    same = asked == stolen.asked if _asks_anew(stolen) else None
    return Replayed(
        protocol=stolen.protocol.label,
        mechanism=stolen.mechanism,
        login=stolen.name,
        answer=answer,
        worked=answer.startswith(("235", "+OK")),
        same_challenge=same,
    )


def _asks_anew(login: Login) -> bool:
    """Whether the mechanism lives on a challenge that is new each time."""
    return login.mechanism not in {"PLAIN", "LOGIN", "USER/PASS"}


def _prepared(talk: LineClient, provider: Provider, smtp: bool) -> str:
    """Everything up to the login; returns the greeting."""
    context, security = authority().client_context(), provider.policy.security
    if security is Security.SSL:
        talk.start_tls(context, DOMAIN)
    greeting = talk.reply().first
    if smtp:
        talk.say("EHLO client.example")
    if security is Security.STARTTLS:
        talk.say("STARTTLS" if smtp else "STLS")
        talk.start_tls(context, DOMAIN)
        if smtp:
            talk.say("EHLO client.example")
    return greeting


def _said_again(talk: LineClient, stolen: Login) -> tuple[tuple[str, ...], str]:
    """Each captured line, as long as the server asks on: the challenges that it asked, and its last reply."""
    asked: list[str] = []
    answer = ""
    for line in stolen.sent:
        reply = talk.say(line)
        answer = reply.first
        if reply.code in ("334", "+"):
            asked.append(answer)
        elif not reply.positive:
            return tuple(asked), answer
    if reply.code in ("334", "+"):  # it asks on, and there is nothing more to say (RFC 4954 section 4)
        answer = talk.say("*").first
    return tuple(asked), answer
