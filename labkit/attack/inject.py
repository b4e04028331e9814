"""Injecting: a command slipped in behind STARTTLS, in the clear, before the handshake.

Somebody in the middle can add a line to the packet that carries STARTTLS or STLS. A careless server keeps that line in its
buffer and carries it out inside TLS, as if the client had said it there (CVE-2011-0411 and many later ones).
"""

import ssl
from dataclasses import dataclass

from labkit.attack.result import AttackResult
from labkit.attack.victim import SPEECHES, connection, expect_provider
from labkit.decode.protocols import by_name
from labkit.errors import BadSetting, LabError
from labkit.mail.accounts import DOMAIN
from labkit.mail.certificates import authority
from labkit.mail.lineclient import LineClient
from labkit.mail.policy import Security
from labkit.provider import Provider
from labkit.texts import N_, _


@dataclass(frozen=True, repr=False)
class Injected(AttackResult):
    """What the server did with an injected command. inside: how each reply inside TLS began.

    Two replies are expected there, one for each command that was said inside; another one is the injected command's.
    """

    heading = N_("A command injected before the handshake")

    upgrade: str
    command: str
    answer: str
    upgraded: bool
    inside: tuple[str, ...]

    @property
    def executed(self) -> bool:
        """Whether the server carried it out inside TLS."""
        return len(self.inside) > 2

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        return (
            (_("sent in one piece"), f"{self.upgrade} / {self.command}"),
            (_("the server's answer"), self.answer),
            (_("replies inside TLS"), " / ".join(self.inside) or _("none")),
        )

    @property
    def conclusion(self) -> str:
        if self.executed:
            return _("The server carried the injected command out inside TLS: an attacker can speak for the client.")
        if self.upgraded:
            return _(
                "Inside TLS the server answered only what was said inside TLS: it threw the injected command away."
            )
        return _("The server saw that something came too early, and did not start TLS at all: nothing was carried out.")


def inject(provider: Provider, command: str = "NOOP", *, protocol: str = "smtp") -> Injected:
    """Send STARTTLS (pop3: STLS) and another command in one piece, start TLS, and see what is answered inside.

    Raises LabError for a provider whose policy is not STARTTLS, BadSetting for a protocol that is not smtp or pop3.
    """
    expect_provider(provider)
    known = by_name(protocol)
    if known not in SPEECHES:
        raise BadSetting(_("The protocol is smtp or pop3, not {name!r}.").format(name=protocol))
    if provider.policy.security is not Security.STARTTLS:
        message = _(
            "The policy {policy} does not upgrade connections to TLS: start a provider with the policy starttls."
        )
        raise LabError(message.format(policy=provider.policy.name))
    speech = SPEECHES[known]
    with connection(provider, speech) as line:
        line.reply()
        for hello in speech.hello:
            line.say(hello)
        line.send(f"{known.upgrade}\r\n{command}\r\n".encode())
        answer = line.reply()
        inside = _inside(line, *(speech.hello or ("NOOP",))) if answer.positive else ()
    return Injected(known.upgrade, command, answer.first, answer.positive, inside)


def _inside(line: LineClient, command: str) -> tuple[str, ...]:
    """How each reply begins, up to the end of the connection: first the injected command's, if there is one."""
    line.start_tls(authority().client_context(), DOMAIN)
    replies = [line.say(command).first]
    line.send(b"QUIT\r\n")
    try:
        while True:
            replies.append(line.reply().first)
    except (ConnectionError, ssl.SSLEOFError):  # the server has closed
        return tuple(replies)
