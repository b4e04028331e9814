"""Who is attacked: a running provider of the lab and nobody else, and how its two protocols are spoken to.

What a protocol is, its record in decode says; what is here is what a client says before it logs in, and how a server says
that it has no TLS.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labkit.decode.protocol import Protocol
from labkit.decode.protocols import POP3, SMTP
from labkit.errors import LabError, expect
from labkit.mail.accounts import DOMAIN
from labkit.mail.certificates import authority
from labkit.mail.lineclient import LineClient
from labkit.mail.policy import Security
from labkit.provider import Provider
from labkit.texts import _


@dataclass(frozen=True, slots=True)
class Speech:
    """How to speak a protocol. hello: what a client says first. port: where a provider's server listens.

    no_tls: the answer of a server that has no TLS. asks: how a server's line begins that is answered with data.
    """

    protocol: Protocol
    hello: tuple[str, ...]
    no_tls: bytes
    asks: tuple[bytes, ...]
    port: Callable[[Provider], int]

    def accepts(self, reply: bytes | str) -> bool:
        """Whether a server's reply accepts."""
        words = reply.decode("ascii", "replace") if isinstance(reply, bytes) else reply
        return words.startswith(self.protocol.accepts)


SPEECHES = {
    speech.protocol: speech
    for speech in (
        Speech(
            SMTP,
            ("EHLO client.example",),
            b"502 5.5.1 STARTTLS is not offered",
            (b"334", b"354"),
            lambda provider: provider.smtp_port,
        ),
        Speech(POP3, (), b"-ERR STLS is not offered here", (b"+ ",), lambda provider: provider.pop3_port),
    )
}


def expect_provider(victim: object) -> None:
    """Raise BadSetting for what is not a provider of the lab, such as the name of a server somewhere."""
    expect(victim, Provider, _("a labkit.Provider, for this lab attacks nobody but its own providers"))


@contextmanager
def connection(provider: Provider, speech: Speech, *, source: str = "") -> Iterator[LineClient]:
    """A connection to a provider's server. What the network raises becomes one sentence for a person.

    source: the address to speak from; that it does not exist is told as it is, by OSError.
    """
    line = LineClient(provider.host, speech.port(provider), source=source)
    try:
        with line:
            yield line
    except OSError as error:
        message = _(
            "The provider ended the conversation before the attack was over ({reason}): start the provider and try again."
        )
        raise LabError(message.format(reason=error.strerror or error or type(error).__name__)) from error


def up_to_the_login(line: LineClient, provider: Provider, speech: Speech) -> str:
    """Say and do all that comes before a login, TLS too; returns the greeting."""
    context, security = authority().client_context(), provider.policy.security
    if security is Security.SSL:
        line.start_tls(context, DOMAIN)
    greeting = line.reply().first
    for command in speech.hello:
        line.say(command)
    if security is Security.STARTTLS:
        line.say(speech.protocol.upgrade)
        line.start_tls(context, DOMAIN)
        for command in speech.hello:
            line.say(command)
    return greeting
