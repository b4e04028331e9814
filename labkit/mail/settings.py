"""What a mail program asks its user for: the settings that people know, each checked with a sentence of its own."""

import re
import ssl
from dataclasses import dataclass, field
from types import NoneType

from labkit.errors import BadSetting, is_port
from labkit.mail.policy import MECHANISMS, Security
from labkit.texts import _

SWITCHES = ("outgoing_requires_authentication", "check_mail_first", "verify_certificate")
TEXTS = ("server", "connect_to", "login", "password", "client_name", "mechanism", "pop3_login", "scram_nonce")
# What EHLO says is a word (RFC 5321 section 4.1.1.1), and so is a nonce (RFC 5802 section 7).
PATTERNS = {"client_name": re.compile(r"[!-+\--~]+"), "scram_nonce": re.compile(r"[!-+\--~]*")}
LONGEST_TIMEOUT = 86400  # seconds
POP3_LOGINS = ("USER", "APOP", *MECHANISMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a mail program asks its user for.

    server: the provider's name, as its certificate should have it. connect_to: the address that is really connected.
    security: of both connections. outgoing_requires_authentication: log in to SMTP with `mechanism`. check_mail_first: log
    in to POP3 before every sending. pop3_login: USER (with PASS), APOP or a SASL mechanism. trusted_ca: certificates in PEM
    to trust instead of the system's, or a ready context that is used as it is. client_name: what EHLO says. scram_nonce:
    a random one when empty; a lesson fixes it, so that its outputs repeat. timeout: how long to wait for the server, in
    seconds; the client listens thirty times as long to all that it says in one session. Raises BadSetting for CR, LF or NUL
    in a value, unknown names, and settings that contradict each other.
    """

    smtp_port: int
    pop3_port: int
    server: str = "mail.example"
    connect_to: str = "127.0.0.1"
    security: Security = Security.NONE
    login: str = ""
    password: str = field(default="", repr=False)
    outgoing_requires_authentication: bool = False
    check_mail_first: bool = False
    mechanism: str = "PLAIN"
    pop3_login: str = "USER"
    verify_certificate: bool = True
    trusted_ca: str | ssl.SSLContext | None = field(default=None, repr=False)
    client_name: str = "client.example"
    scram_nonce: str = field(default="", repr=False)
    timeout: float = 10.0

    def __post_init__(self) -> None:
        for name in TEXTS:
            if not isinstance(getattr(self, name), str):
                raise BadSetting(_("The setting {name} is text: put it in quotes.").format(name=name))
            refuse_line_breaks(name, getattr(self, name))
        for value in (self.server, self.connect_to):
            try:
                value.encode("idna")
            except UnicodeError:
                raise BadSetting(_("{value!r} is not a server's name.").format(value=value)) from None
        for name, pattern in PATTERNS.items():
            if not pattern.fullmatch(getattr(self, name)):
                message = _(
                    "The setting {name} has letters, digits and signs of ASCII only, without a space or a comma."
                )
                raise BadSetting(message.format(name=name))
        _refuse_unknown("mechanism", self.mechanism, MECHANISMS)
        _refuse_unknown("pop3_login", self.pop3_login, POP3_LOGINS)
        _refuse_unknown("security", self.security, tuple(Security))
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                message = _("The setting {name} is a switch: it is True (on) or False (off), without quotes.")
                raise BadSetting(message.format(name=name))
        object.__setattr__(self, "security", Security(self.security))  # a plain "ssl" is meant as Security.SSL
        for name in ("smtp_port", "pop3_port"):
            if not is_port(getattr(self, name)):
                raise BadSetting(_("The setting {name} must be a port: a number from 1 to 65535.").format(name=name))
        if (
            not isinstance(self.timeout, (int, float))
            or isinstance(self.timeout, bool)
            or not 0 < self.timeout <= LONGEST_TIMEOUT
        ):
            message = _(
                "The setting timeout must be a number of seconds, more than 0 and at most {most}, without quotes."
            )
            raise BadSetting(message.format(most=LONGEST_TIMEOUT))
        if not isinstance(self.trusted_ca, (str, ssl.SSLContext, NoneType)):
            raise BadSetting(_("The setting trusted_ca is a text of certificates in PEM, or a ready TLS context."))
        if not self.login or not self.password:
            for name in ("outgoing_requires_authentication", "check_mail_first"):
                if getattr(self, name):
                    message = _("The setting {name} needs a login name and a password: fill in both, or switch it off.")
                    raise BadSetting(message.format(name=name))
        if isinstance(self.trusted_ca, ssl.SSLContext) and not self.verify_certificate:
            message = _(
                "The setting verify_certificate is off, but trusted_ca is a ready TLS context with checks of its own: "
                "switch them off there, or give the certificates as PEM text."
            )
            raise BadSetting(message)

    def tls_context(self) -> ssl.SSLContext | None:
        """What a client speaks TLS with under these settings, None without TLS. Raises BadSetting for no certificate."""
        if self.security is Security.NONE:
            return None
        if isinstance(self.trusted_ca, ssl.SSLContext):
            return self.trusted_ca
        try:
            if self.trusted_ca is not None and not (self.trusted_ca and self.trusted_ca.isascii()):
                raise ValueError(_("it is empty, or not ASCII"))
            context = ssl.create_default_context(cadata=self.trusted_ca)
        except (ssl.SSLError, ValueError) as error:
            message = _(
                "The setting trusted_ca holds no certificate in PEM ({reason}): give the text of the provider's CA."
            )
            raise BadSetting(message.format(reason=error)) from None
        if not self.verify_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def refuse_line_breaks(name: str, value: str) -> None:
    """Raises BadSetting for a value that would be more than one line, or no text, on the wire."""
    if re.search("[\ud800-\udfff]", value):
        raise BadSetting(_("The setting {name} contains half a character: type it again.").format(name=name))
    if any(character in value for character in "\r\n\0"):
        message = _(
            "The setting {name} contains CR, LF or NUL, which would smuggle a second command to the server: take it out."
        )
        raise BadSetting(message.format(name=name))


def _refuse_unknown(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        message = _("The setting {name} cannot be {value!r}. Choose one of: {known}.")
        raise BadSetting(message.format(name=name, value=value, known=", ".join(known)))
