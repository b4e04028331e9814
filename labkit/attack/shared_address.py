"""A shared address: somebody sends from behind an address whose owner has just read mail, in a POP-before-SMTP window.

The server knows addresses, not people. Everybody behind one router has one address to it, and an address that was somebody's
a minute ago can be another's now; so while the window is open, whoever has the address may send, in any name.
"""

import errno
from dataclasses import dataclass

from labkit.attack.result import AttackResult
from labkit.attack.victim import SPEECHES, connection, expect_provider
from labkit.decode.protocols import SMTP
from labkit.errors import LabError
from labkit.mail.policy import Security
from labkit.mail.sample import sample_message
from labkit.provider import Provider
from labkit.texts import N_, _
from labkit.wire.loopback import HOST

ELSEWHERE = "127.0.0.7"  # loopback as well, and another client to the server (on Linux without any set-up)


@dataclass(frozen=True, repr=False)
class SentWithoutLogin(AttackResult):
    """What became of a message from somebody who never logged in."""

    heading = N_("A message from somebody who never logged in")

    same_address: bool
    sender: str
    answer: str
    accepted: bool

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        return (
            (_("spoken from"), _("the same address") if self.same_address else _("another address")),
            (_("in the name of"), self.sender),
            (_("the server's answer"), self.answer),
        )

    @property
    def conclusion(self) -> str:
        if self.accepted:
            return _("The server accepted it: it asked for no name and no password, and it does not know who sent.")
        return _("The server refused it: it does not let this address send now.")


def shared_address(provider: Provider, *, same_address: bool = True) -> SentWithoutLogin:
    """Send a message in the first account's name without any login, from this machine's usual address or from another.

    Raises LabError where the system has no second loopback address, and for a provider that wants TLS.
    """
    expect_provider(provider)
    if provider.policy.security is not Security.NONE:
        message = _("The policy {policy} wants TLS: take a provider without it, such as one with pop-before-smtp.")
        raise LabError(message.format(policy=provider.policy.name))
    sender, recipient = (list(provider.accounts.values()) * 2)[:2]
    content = sample_message(sender, recipient).as_bytes()
    try:
        with connection(provider, SPEECHES[SMTP], source=HOST if same_address else ELSEWHERE) as line:
            line.reply()
            line.say("EHLO neighbour.example")
            for command in (f"MAIL FROM:<{sender.address}> BODY=8BITMIME", f"RCPT TO:<{recipient.address}>", "DATA"):
                reply = line.say(command)
                if not reply.positive:
                    break
            else:
                line.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
                reply = line.reply()
            line.say("QUIT")
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        message = _(
            "This system has only one loopback address, so nobody can speak from another: try it with the same address."
        )
        raise LabError(message) from None
    return SentWithoutLogin(same_address, sender.address, reply.first, reply.positive)
