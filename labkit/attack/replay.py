"""Replaying: saying again what somebody else has said.

A login that carries the password is as good the second time. A login that answers a challenge is not, because the server
asks something else each time: that is what challenges are for.
"""

from dataclasses import dataclass

from labkit.attack.logins import APOP, Login, first
from labkit.attack.result import AttackResult
from labkit.attack.victim import SPEECHES, connection, expect_provider, up_to_the_login
from labkit.capture import Capture
from labkit.mail.lineclient import LineClient
from labkit.provider import Provider
from labkit.texts import N_, _


@dataclass(frozen=True, repr=False)
class Replayed(AttackResult):
    """What a replayed login came to. same_challenge: None for a mechanism without a challenge."""

    heading = N_("A captured login, replayed")

    mechanism: str
    login: str
    answer: str
    worked: bool
    same_challenge: bool | None = None

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
        return _("The replay failed: this provider does not accept that login, or not here.")


def replay(capture: Capture, provider: Provider) -> Replayed:
    """Say a captured login again, line by line as it was captured, to a running provider, and see what it answers.

    Of several logins, the first that succeeded. Where the provider has TLS it is said inside: that needs no secret.
    Raises LabError when the capture shows no login, and BadSetting for a provider that is none or does not run.
    """
    expect_provider(provider)
    stolen = first(capture)
    with connection(provider, SPEECHES[stolen.protocol]) as line:
        greeting = up_to_the_login(line, provider, SPEECHES[stolen.protocol])
        asked, answer = _said_again(line, stolen)
        line.say("QUIT")
    if stolen.mechanism == APOP:
        asked = tuple(stamp for stamp in stolen.asked if stamp in greeting)
    return Replayed(
        mechanism=stolen.mechanism,
        login=stolen.name,
        answer=answer,
        worked=answer.startswith(stolen.protocol.accepts),
        same_challenge=None if stolen.carries_the_password else asked == stolen.asked,
    )


def _said_again(line: LineClient, stolen: Login) -> tuple[tuple[str, ...], str]:
    """Each captured line, as long as the server asks on: the challenges that it asked, and its last reply."""
    asked: list[str] = []
    answer = ""
    for said in stolen.sent:
        answer = line.say(said).first
        if stolen.asks_on(answer):
            asked.append(answer)
        elif not answer.startswith(stolen.protocol.accepts):
            return tuple(asked), answer
    if stolen.asks_on(answer):  # and there is nothing more to say (RFC 4954 section 4)
        answer = line.say("*").first
    return tuple(asked), answer
