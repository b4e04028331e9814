"""What a mail program asks its user for: the settings that people know, each checked with a sentence of its own."""

import re
import ssl
from dataclasses import dataclass, field
from types import NoneType
from typing import NoReturn

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
                _refuse(_("The setting {name} is text: put it in quotes."), name=name)
            refuse_line_breaks(name, getattr(self, name))
        for value in (self.server, self.connect_to):
            try:
                value.encode("idna")
            except UnicodeError:
                _refuse(_("{value!r} is not a server's name."), value=value)
        for name, pattern in PATTERNS.items():
            if not pattern.fullmatch(getattr(self, name)):
                _refuse(
                    _("The setting {name} has only letters, digits and signs of ASCII, no space, no comma."), name=name
                )
        for name, known in {"mechanism": MECHANISMS, "pop3_login": POP3_LOGINS, "security": tuple(Security)}.items():
            if (value := getattr(self, name)) not in known:
                message = _("The setting {name} cannot be {value!r}. Choose one of: {known}.")
                _refuse(message, name=name, value=value, known=", ".join(known))
        object.__setattr__(self, "security", Security(self.security))  # a plain "ssl" is meant as Security.SSL
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                _refuse(_("The setting {name} is a switch: it is True (on) or False (off), without quotes."), name=name)
        for name in ("smtp_port", "pop3_port"):
            if not is_port(getattr(self, name)):
                _refuse(_("The setting {name} must be a port: a number from 1 to 65535."), name=name)
        number = isinstance(self.timeout, (int, float)) and not isinstance(self.timeout, bool)
        if not number or not 0 < self.timeout <= LONGEST_TIMEOUT:
            message = _(
                "The setting timeout must be a number of seconds, more than 0 and at most {most}, without quotes."
            )
            _refuse(message, most=LONGEST_TIMEOUT)
        if not isinstance(self.trusted_ca, (str, ssl.SSLContext, NoneType)):
            _refuse(_("The setting trusted_ca is a text of certificates in PEM, or a ready TLS context."))
        for name in ("outgoing_requires_authentication", "check_mail_first"):
            if getattr(self, name) and not (self.login and self.password):
                message = _("The setting {name} needs a login name and a password: fill in both, or switch it off.")
                _refuse(message, name=name)
        if isinstance(self.trusted_ca, ssl.SSLContext) and not self.verify_certificate:
            message = _(
                "The setting verify_certificate is off, but trusted_ca is a ready TLS context with checks of its own: "
                "switch them off there, or give the certificates as PEM text."
            )
            _refuse(message)

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
            _refuse(message, reason=error)
        if not self.verify_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def refuse_line_breaks(name: str, value: str) -> None:
    """Raises BadSetting for a value that would be more than one line, or no text, on the wire."""
    if re.search("[\ud800-\udfff]", value):
        _refuse(_("The setting {name} contains half a character: type it again."), name=name)
    if any(character in value for character in "\r\n\0"):
        message = _(
            "The setting {name} contains CR, LF or NUL, which would smuggle a second command to the server: take it out."
        )
        _refuse(message, name=name)


def _refuse(sentence: str, **values: object) -> NoReturn:
    raise BadSetting(sentence.format(**values)) from None
