"""What stood between a mail program and its server, in one sentence: what happened, why, and what to do next."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from labkit.errors import LabError, LoginRefused, MessageRefused
from labkit.mail.lineclient import NegativeReply, ProtocolViolation, ServerReply
from labkit.mail.settings import Settings
from labkit.texts import _

LONGEST_QUOTE = 300  # characters of a reply that a sentence repeats
# OpenSSL's numbers for what a check of a certificate can find (X509_V_ERR_…); its words differ between versions.
_NOT_YET, _EXPIRED, _OTHER_NAME, _UNKNOWN_ISSUER = {9}, {10}, {62, 64}, {2, 18, 19, 20, 21}


def refuse_not_offered(settings: Settings, mechanism: str, offered: list[str]) -> None:
    """Raises LoginRefused for a mechanism that is not among those that the server offers."""
    if not offered:
        message = _(
            "{server} offers no login with AUTH on this connection: choose the connection security that the provider "
            "names, for many offer it only inside TLS."
        )
        raise LoginRefused(message.format(server=settings.server))
    if mechanism not in map(ascii_upper, offered):
        message = _(
            "{server} does not offer the login {mechanism} on this connection, it offers {offered}: choose one of those, "
            "or ask the provider."
        )
        names = shown(", ".join(offered))
        raise LoginRefused(message.format(server=settings.server, mechanism=mechanism, offered=names))


def no_upgrade(settings: Settings, command: str) -> LabError:
    """For a server that does not offer STARTTLS or STLS."""
    message = _(
        "{server} does not offer {command}, or somebody in the middle removed the offer: nothing secret was sent. Choose "
        "the connection security that the provider names, and do not go on without encryption."
    )
    return LabError(message.format(server=settings.server, command=command))


def login_refused(settings: Settings, reply: ServerReply) -> LoginRefused:
    """For a reply that refuses a login."""
    message = _("{server} did not accept the login {login!r}: {reply}. Check the login name and the password.")
    return LoginRefused(message.format(server=settings.server, login=settings.login, reply=shown(reply)))


def impostor(settings: Settings, mechanism: str) -> LoginRefused:
    """For a server that does not keep to a mechanism, or does not know the password."""
    message = _(
        "{server} did not keep to {mechanism}, so it has not shown that it is the provider: do not use this connection, "
        "check the server's name and the connection security."
    )
    return LoginRefused(message.format(server=settings.server, mechanism=mechanism))


def message_refused(settings: Settings, *replies: ServerReply) -> MessageRefused:
    """For replies that refuse a message."""
    if any(reply.code == "530" for reply in replies):  # RFC 4954 section 6
        message = _(
            "{server} did not take the message: {reply}. It wants to know who sends: switch on "
            "outgoing_requires_authentication, or check_mail_first where the provider counts on POP before SMTP."
        )
    else:
        message = _("{server} did not take the message: {reply}. Its reply says what to change.")
    said = ", ".join(dict.fromkeys(shown(reply) for reply in replies))
    return MessageRefused(message.format(server=settings.server, reply=said))


def ascii_upper(word: str) -> str:
    """A keyword in capital letters: only ASCII has some, others have letters that become them."""
    return word.encode().upper().decode()


def shown(reply: ServerReply | str) -> str:
    """What a server said, on one line, with anything unprintable escaped: a server may be hostile."""
    text = reply if isinstance(reply, str) else f"{reply.code} {reply.text}"
    words = " ".join(text.split()).removesuffix(".")
    quoted = words if len(words) <= LONGEST_QUOTE else words[:LONGEST_QUOTE] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in quoted)


@contextmanager
def explained(settings: Settings, port: int) -> Iterator[None]:
    """Turn what the server, ssl and the system say into one sentence for a person."""
    try:
        yield
    except (OSError, NegativeReply) as error:
        raise _explanation(settings, port, error) from error


def _explanation(settings: Settings, port: int, error: Exception) -> LabError:
    reason: object = error
    match error:
        case NegativeReply(reply=reply):
            reason = shown(reply)
            message = _("{server}, port {port}, refused: {reason}. Its reply says what to change.")
        case ssl.SSLCertVerificationError(verify_code=code, verify_message=words):
            reason = _found(code) or words
            message = _(
                "The certificate of {server} was not accepted ({reason}): this may not be the provider. "
                "Nothing secret was sent. Check the server's name and the trusted certificates, and keep the check on."
            )
        case ssl.SSLError(reason=reason):
            message = _(
                "TLS with {server}, port {port}, failed ({reason}). Check that port and connection security belong "
                "together: SSL speaks TLS from the first byte, STARTTLS begins in the clear."
            )
        case ConnectionRefusedError():
            message = _("Nothing listens at {server}, port {port}. Start the provider, or correct the port.")
        case ProtocolViolation(args=(reason,)):
            message = _(
                "{server}, port {port}, comes to no end ({reason}): the connection was given up. This may not be the "
                "provider: check the server's name and port."
            )
        case TimeoutError():
            reason = settings.timeout
            message = _(
                "{server}, port {port}, did not answer in time (seconds allowed: {reason}). Check that port and connection "
                "security belong together, or allow more time."
            )
        case ConnectionAbortedError():
            message = _(
                "{server}, port {port}, closed the connection. Try again, and look into the provider if it repeats."
            )
        case _other:
            message = _("The connection to {server}, port {port}, failed ({reason}). Check the address and try again.")
    return LabError(message.format(server=settings.server, port=port, reason=reason))


def _found(code: int) -> str:
    """What is wrong with a certificate, in our own words; "" for what is rare."""
    words = (
        (_EXPIRED, _("it has expired")),
        (_NOT_YET, _("it is not valid yet")),
        (_OTHER_NAME, _("it is made out to another name")),
        (_UNKNOWN_ISSUER, _("nobody whom this program trusts has issued it")),
    )
    return next((found for codes, found in words if code in codes), "")
