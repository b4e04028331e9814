"""A mail program: the settings that mail software shows, spoken through smtplib and poplib.

What people see in such a program decides what crosses the network: the security of the connection, "my outgoing server
requires authentication", "check mail before sending". The server's NAME is what certificates are checked against; the
TCP connection goes to `connect_to`, because the lab has no DNS. The client does only what the settings ask for, so that a
recorded session shows nothing else, and it ends every session so that both sides have said goodbye: QUIT, close_notify
(RFC 8446 section 6.1), FIN. The server may be anybody: what it says is bounded in octets and in time.
"""

import base64
import poplib
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import getaddresses
from io import BufferedReader
from types import NoneType
from typing import Any, cast

from labkit.errors import BadSetting, LabError, LoginRefused, MessageRefused, expect, is_port
from labkit.mail import sasl
from labkit.mail.hearing import Hearing
from labkit.mail.policy import MECHANISMS, Security
from labkit.mail.talk import Unruly
from labkit.texts import _

SWITCHES = ("outgoing_requires_authentication", "check_mail_first", "verify_certificate")
TEXTS = ("server", "connect_to", "login", "password", "client_name", "mechanism", "pop3_login", "scram_nonce")
# What EHLO says is a word (RFC 5321 section 4.1.1.1), and so is a nonce (RFC 5802 section 7).
PATTERNS = {"client_name": re.compile(r"[!-+\--~]+"), "scram_nonce": re.compile(r"[!-+\--~]*")}
LONGEST_TIMEOUT = 86400  # seconds
POP3_LOGINS = ("USER", "APOP", *MECHANISMS)
# RFC 5034 section 4: an AUTH command of more than 255 octets with its CRLF goes without its initial response.
SHORT_COMMAND = 253
# What a server may say, because no limit would trust it too far. (poplib's own, 2,048 octets a line, would lose mail.)
LONGEST_REPLY = 64 * 1024  # octets, with all its lines
LARGEST_MAILDROP = 256 * 1024 * 1024  # octets of all messages read in one session
LONGEST_SESSION = 30  # times the timeout
LONGEST_QUOTE = 300  # characters of a reply that a sentence repeats
# OpenSSL's numbers for what a check of a certificate can find (X509_V_ERR_…); its words differ between versions.
_NOT_YET, _EXPIRED, _OTHER_NAME, _UNKNOWN_ISSUER = {9}, {10}, {62, 64}, {2, 18, 19, 20, 21}


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
            _refuse_line_breaks(name, getattr(self, name))
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


class MailClient:
    """A mail program with these settings.

    Every method opens a connection, does its work and closes it. They raise LoginRefused, MessageRefused, or another
    LabError that says what stood in the way: nobody listening, a certificate that does not fit, a server without STARTTLS,
    or one that talks without an end: more than 64 KiB in a reply, 256 MiB of mail, or for thirty times the timeout.
    With security STARTTLS nothing secret is sent before TLS is up.
    """

    def __init__(self, settings: Settings) -> None:
        expect(settings, Settings, _("settings, such as provider.settings(name) gives, or take provider.client(name)"))
        self.settings = settings
        self._tls = None if settings.security is Security.NONE else _tls_context(settings)

    def send(self, message: EmailMessage, sender: str | None = None, recipients: Iterable[str] | None = None) -> None:
        """Send a message. Without a sender and recipients of its own, the envelope takes those in the header.

        Bcc fields are left out (RFC 5322 section 3.6.3). Text that is not ASCII goes as 8BITMIME where the server has that,
        addresses that are not as SMTPUTF8. Raises MessageRefused, also when only some recipients were refused.
        """
        envelope_from = _header_sender(message) if sender is None else sender
        envelope_to = _header_recipients(message) if recipients is None else list(recipients)
        if not envelope_to:
            raise BadSetting(_("The message has no recipient: add a To field, or name the recipients."))
        for address in (envelope_from, *envelope_to):
            _refuse_line_breaks("address", address)
        if self.settings.check_mail_first:
            self.check()
        with self._outgoing() as smtp:
            smtp.transmit(message, envelope_from, envelope_to)

    def check(self) -> int:
        """Look into the maildrop without reading it: how many messages are there."""
        with self._incoming() as pop3:
            return pop3.count()

    def receive(self, delete: bool = False) -> list[bytes]:
        """Every message in the maildrop, oldest first, octet by octet as the server has it (lines end with CRLF).

        delete: remove them from the server afterwards.
        """
        try:
            return self._receive(delete, utf8=False)
        except _NeedsUtf8:  # RFC 6856 section 6: ask again, in UTF-8 mode, which only a new session can enter
            return self._receive(delete, utf8=True)

    def _receive(self, delete: bool, utf8: bool) -> list[bytes]:
        with self._incoming(utf8) as pop3:
            numbers = range(1, pop3.count() + 1)
            messages = [pop3.read(number) for number in numbers]
            if delete:
                for number in numbers:
                    pop3.dele(number)
        return messages

    @contextmanager
    def _outgoing(self) -> Iterator["_Smtp"]:
        settings = self.settings
        with _explained(settings, settings.smtp_port):
            smtp = _Smtp(settings, self._tls)
            try:
                smtp.prepare()
                yield smtp
            except _Injection:
                raise
            except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused, LabError):
                with suppress(OSError):
                    smtp.say_goodbye()
                raise
            else:
                smtp.say_goodbye()
            finally:
                smtp.close()

    @contextmanager
    def _incoming(self, utf8: bool = False) -> Iterator["_Pop3"]:
        settings = self.settings
        if not settings.login or not settings.password:
            raise BadSetting(_("Reading mail needs a login name and a password: fill in both settings."))
        with _explained(settings, settings.pop3_port):
            pop3 = _Pop3(settings, self._tls)
            try:
                pop3.prepare(utf8)
                yield pop3
            except _Injection:
                raise
            except (poplib.error_proto, LabError):
                with suppress(OSError, EOFError, poplib.error_proto):
                    pop3.say_goodbye()
                raise
            else:
                pop3.say_goodbye()
            finally:
                pop3.close()


class _Injection(LabError):
    """Bytes came behind the answer to STARTTLS or STLS: the session is not to be believed, nothing more is said in it."""


class _NeedsUtf8(LabError):
    """A message can be read only in UTF-8 mode."""


class _Heard:
    """A client that hears its server through bounds: what smtplib and poplib read from is replaced."""

    sock: Any  # ours are sockets; smtplib's may be None

    def _begin(self, settings: Settings, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._tls = tls
        self._file: BufferedReader | None = None
        self._hearing = Hearing(settings.timeout, LONGEST_SESSION * settings.timeout)
        self._allow_a_reply()

    @property
    def file(self) -> Any:
        """What the two libraries read from."""
        return self._file

    @file.setter
    def file(self, reader: BufferedReader | None) -> None:
        self._file = reader and self._hearing.through(reader, self.sock)

    def _allow_a_reply(self) -> None:
        self._hearing.allow(LONGEST_REPLY, _("a reply of more than {count:,} octets").format(count=LONGEST_REPLY))

    def _close_both_ways(self) -> None:
        """The server, which was told QUIT, closes first and we follow: with close_notify inside TLS (RFC 8446 section 6.1).

        So nothing is reset, and the order of what crosses the network is the same in every recording.
        """
        with suppress(OSError):  # the work is done; how the other side leaves is its own affair
            while self.file.read1():
                pass
            if isinstance(self.sock, ssl.SSLSocket):
                self.sock.unwrap()


class _Smtp(_Heard, smtplib.SMTP):
    """smtplib, connected to an address but talking to a name."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None) -> None:
        self._begin(settings, tls)
        super().__init__(
            settings.server, settings.smtp_port, local_hostname=settings.client_name, timeout=settings.timeout
        )

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return _connected(self._settings, port, self._tls)

    def putcmd(self, cmd: str, args: str = "") -> None:
        """As smtplib's, but in one spelling: "mail FROM:" has become "mail from:" in its newer versions."""
        word, colon, rest = args.partition(":")
        super().putcmd(cmd, word.upper() + colon + rest if cmd in ("mail", "rcpt") else args)

    def getreply(self) -> tuple[int, bytes]:
        """As smtplib's, but bounded: lines without an end would fill the memory."""
        self._allow_a_reply()
        return super().getreply()

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        """As smtplib's, but nothing may come behind the answer to STARTTLS."""
        code, reply = super().docmd(cmd, args)
        if cmd.upper() == "STARTTLS" and code == 220:
            _refuse_early_bytes(self.sock, self.file)
        return code, reply

    def prepare(self) -> None:
        """Everything before the first message: EHLO, STARTTLS, AUTH, as the settings want it."""
        self.ehlo_or_helo_if_needed()
        if self._settings.security is Security.STARTTLS:
            if not self.has_extn("starttls"):
                raise _no_upgrade(self._settings, "STARTTLS")
            self.starttls(context=self._tls)
            self.ehlo_or_helo_if_needed()
        if self._settings.outgoing_requires_authentication:
            offered = self.esmtp_features.get("auth", "").split()
            _refuse_not_offered(self._settings, self._settings.mechanism, offered)
            _prove(self._settings, self._settings.mechanism, self._say)

    def _say(self, line: str) -> bytes | None:
        code, reply = self.docmd(line)
        if code == 334:
            return base64.b64decode(reply)
        if code == 235:
            return None
        raise _login_refused(self._settings, b"%d %b" % (code, reply))

    def transmit(self, message: EmailMessage, sender: str, recipients: list[str]) -> None:
        """MAIL, RCPT, DATA."""
        international = not all(address.isascii() for address in (sender, *recipients))
        if international and not self.has_extn("smtputf8"):
            text = _("{server} takes no address outside ASCII (it does not offer SMTPUTF8): use an ASCII address.")
            raise MessageRefused(text.format(server=self._settings.server))
        octets = _octets(message, international, self.has_extn("8bitmime"))
        options = ["SMTPUTF8"] if international else []
        if not octets.isascii():
            options.append("BODY=8BITMIME")
        refused = self.sendmail(sender, recipients, octets, options)
        if refused:
            text = _("{server} took the message, but not for {recipients}: {reply}. Check these addresses.")
            replies = ", ".join(_shown(b"%d %b" % reply) for reply in refused.values())
            raise MessageRefused(
                text.format(server=self._settings.server, recipients=", ".join(refused), reply=replies)
            )

    def say_goodbye(self) -> None:
        """QUIT, then wait until the server has closed its side."""
        self.docmd("QUIT")
        self._close_both_ways()


class _Pop3(_Heard, poplib.POP3):
    """poplib, connected to an address but talking to a name, with AUTH, and for lines of any length."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None) -> None:
        self._begin(settings, tls)
        self._room = LARGEST_MAILDROP
        try:
            super().__init__(settings.server, settings.pop3_port, settings.timeout)
        except BaseException:
            if self.file is not None:  # poplib leaves the connection open when the greeting is not one
                self.close()
            raise

    def _create_socket(self, timeout: float) -> socket.socket:
        return _connected(self._settings, self._settings.pop3_port, self._tls)

    def _getline(self) -> tuple[bytes, int]:
        line: bytes = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line.removesuffix(b"\n").removesuffix(b"\r"), len(line)

    def _putcmd(self, line: str) -> None:
        self._allow_a_reply()
        super()._putcmd(line)  # type: ignore[misc]

    def _shortcmd(self, line: str) -> bytes:
        reply = cast(bytes, super()._shortcmd(line))  # type: ignore[misc]
        if line == "STLS":
            _refuse_early_bytes(self.sock, self.file)
        return reply

    def prepare(self, utf8: bool) -> None:
        """Everything before the first message: STLS and the login, as the settings want it."""
        if self._settings.security is Security.STARTTLS:
            try:
                self.stls(self._tls)  # asks CAPA first
            except poplib.error_proto:
                raise _no_upgrade(self._settings, "STLS") from None
        if utf8:
            self.utf8()
        try:
            self._log_in()
        except poplib.error_proto as refusal:
            raise _login_refused(self._settings, refusal.args[0]) from None

    def capa(self) -> dict[str, list[str]]:
        """CAPA (RFC 2449), whatever else a server puts into it."""
        lines: list[bytes] = self._longcmd("CAPA")[1]  # type: ignore[attr-defined]
        offers = (line.decode("ascii", "replace").split() for line in lines)
        return {name.upper(): parameters for name, *parameters in filter(None, offers)}

    def count(self) -> int:
        """STAT: how many messages there are."""
        reply = self._shortcmd("STAT")
        found = re.match(rb"\+OK ([0-9]{1,9})(?= |$)", reply)
        if not found:
            message = _(
                "{server} answered {reply} when it was asked how many messages there are: look into the provider."
            )
            raise LabError(message.format(server=self._settings.server, reply=_shown(reply)))
        return int(found[1])

    def _mechanisms(self) -> list[str]:
        try:
            return self.capa().get("SASL", [])
        except poplib.error_proto:  # a server without CAPA offers nothing that CAPA would show
            return []

    def _log_in(self) -> None:
        settings = self._settings
        if settings.pop3_login == "USER":
            self.user(settings.login)
            self.pass_(settings.password)
        elif settings.pop3_login == "APOP":
            self.apop(settings.login, settings.password)
        else:
            _refuse_not_offered(settings, settings.pop3_login, self._mechanisms())
            _prove(settings, settings.pop3_login, self._say)

    def _say(self, line: str) -> bytes | None:
        reply = self._shortcmd(line)
        return None if reply.startswith(b"+OK") else base64.b64decode(reply[1:])

    def read(self, number: int) -> bytes:
        """RETR: the message's octets."""
        self._putcmd(f"RETR {number}")
        self._hearing.allow(self._room, _("mail of more than {count:,} octets").format(count=LARGEST_MAILDROP))
        try:
            self._getresp()  # type: ignore[attr-defined]
        except poplib.error_proto as refusal:
            if "[UTF8]" in _shown(refusal.args[0]):
                raise _NeedsUtf8 from None
            raise
        octets = bytearray()
        while (line := self._getline()[0]) != b".":
            octets += line.removeprefix(b".") + b"\r\n"  # RFC 1939 section 3
        self._room -= len(octets)
        return bytes(octets)

    def say_goodbye(self) -> None:
        """QUIT (only now the server deletes), then wait until the server has closed its side."""
        self._shortcmd("QUIT")
        self._close_both_ways()

    def close(self) -> None:
        """Close the connection, also one whose TLS handshake failed, where poplib would stumble over its own socket."""
        with suppress(OSError):
            super().close()


def _prove(settings: Settings, mechanism: str, say: Callable[[str], bytes | None]) -> None:
    """Run a mechanism. `say` sends a line and returns the server's challenge, or None when the server is satisfied."""
    credentials = sasl.Credentials(settings.login, settings.password, settings.scram_nonce)
    steps = sasl.MECHANISMS[mechanism].client(credentials)
    try:
        initial = next(steps)
    except sasl.Unpreparable:
        message = _("The password has characters that {mechanism} cannot carry (RFC 4013): choose another mechanism.")
        raise BadSetting(message.format(mechanism=mechanism)) from None
    try:
        challenge = _open(mechanism, initial, say)
        while challenge is not None:
            challenge = say(_base64(steps.send(challenge) or b""))
    except (StopIteration, ValueError):
        raise _impostor(settings, mechanism) from None
    if not _finished(steps):
        raise _impostor(settings, mechanism)


def _open(mechanism: str, initial: bytes | None, say: Callable[[str], bytes | None]) -> bytes | None:
    if initial is None:
        return say(f"AUTH {mechanism}")
    command = f"AUTH {mechanism} {_base64(initial)}"
    if len(command) <= SHORT_COMMAND:
        return say(command)
    challenge = say(f"AUTH {mechanism}")
    return challenge if challenge is None else say(_base64(initial))


def _finished(steps: sasl.ClientSteps) -> bool:
    """Whether the mechanism is content too: SCRAM is not before it has seen that the server knows the password."""
    try:
        steps.send(b"")
    except StopIteration:
        return True
    except ValueError:
        return False
    return False


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


# Messages


def _header_sender(message: EmailMessage) -> str:
    """Sender, or else From (RFC 5322 section 3.6.2)."""
    addresses = _addresses(message, "Sender") or _addresses(message, "From")
    if not addresses:
        raise BadSetting(_("The message has no sender: add a From field, or name the sender."))
    return addresses[0]


def _header_recipients(message: EmailMessage) -> list[str]:
    return [address for name in ("To", "Cc", "Bcc") for address in _addresses(message, name)]


def _addresses(message: EmailMessage, name: str) -> list[str]:
    values = [str(value) for value in message.get_all(name, [])]
    return [address for _name, address in getaddresses(values) if address]


def _octets(message: EmailMessage, international: bool, eight_bit: bool) -> bytes:
    copied = copy(message)
    del copied["Bcc"]
    cte_type = "8bit" if eight_bit or international else "7bit"
    policy = cast(EmailPolicy, message.policy)
    return copied.as_bytes(policy=policy.clone(linesep="\r\n", utf8=international, cte_type=cte_type))


# Connections


def _tls_context(settings: Settings) -> ssl.SSLContext:
    if isinstance(settings.trusted_ca, ssl.SSLContext):
        return settings.trusted_ca
    try:
        if settings.trusted_ca == "":
            raise ValueError(_("it is empty"))
        context = ssl.create_default_context(cadata=settings.trusted_ca)
    except (ssl.SSLError, ValueError, TypeError) as error:
        message = _(
            "The setting trusted_ca holds no certificate in PEM ({reason}): give the text of the provider's CA."
        )
        raise BadSetting(message.format(reason=error)) from None
    if not settings.verify_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _connected(settings: Settings, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    sock = socket.create_connection((settings.connect_to, port), settings.timeout)
    # After STARTTLS the client speaks twice in a row (Finished, then EHLO), and would wait 40 ms for the ACK in between.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.security is not Security.SSL or tls is None:
        return sock
    try:
        return tls.wrap_socket(sock, server_hostname=settings.server)
    except BaseException:
        sock.close()
        raise


def _refuse_early_bytes(sock: socket.socket, file: BufferedReader) -> None:
    """What came behind the answer to STARTTLS was not said inside TLS: somebody put it there (CVE-2011-0411's kind)."""
    patience = sock.gettimeout()
    sock.setblocking(False)
    early = file.peek(1)
    sock.settimeout(patience)
    if early:
        message = _(
            "Something was said in the clear after the server agreed to start TLS, as if somebody in the middle had put it "
            "there: the connection was given up and nothing secret was sent. Try from another network."
        )
        raise _Injection(message)


# What went wrong, in one sentence


def _refuse_line_breaks(name: str, value: str) -> None:
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


def _refuse_not_offered(settings: Settings, mechanism: str, offered: list[str]) -> None:
    if not offered:
        message = _(
            "{server} offers no login with AUTH on this connection: choose the connection security that the provider "
            "names, for many offer it only inside TLS."
        )
        raise LoginRefused(message.format(server=settings.server))
    if mechanism not in (name.upper() for name in offered):
        message = _(
            "{server} does not offer the login {mechanism} on this connection, it offers {offered}: choose one of those, "
            "or ask the provider."
        )
        names = _shown(", ".join(offered))
        raise LoginRefused(message.format(server=settings.server, mechanism=mechanism, offered=names))


def _no_upgrade(settings: Settings, command: str) -> LabError:
    message = _(
        "{server} does not offer {command}, or somebody in the middle removed the offer: nothing secret was sent. Choose "
        "the connection security that the provider names, and do not go on without encryption."
    )
    return LabError(message.format(server=settings.server, command=command))


def _login_refused(settings: Settings, reply: bytes | str) -> LoginRefused:
    message = _("{server} did not accept the login {login!r}: {reply}. Check the login name and the password.")
    return LoginRefused(message.format(server=settings.server, login=settings.login, reply=_shown(reply)))


def _impostor(settings: Settings, mechanism: str) -> LoginRefused:
    message = _(
        "{server} did not keep to {mechanism}, so it has not shown that it is the provider: do not use this connection, "
        "check the server's name and the connection security."
    )
    return LoginRefused(message.format(server=settings.server, mechanism=mechanism))


def _message_refused(settings: Settings, *replies: tuple[int, bytes]) -> MessageRefused:
    if any(code == 530 for code, _text in replies):  # RFC 4954 section 6
        message = _(
            "{server} did not take the message: {reply}. It wants to know who sends: switch on "
            "outgoing_requires_authentication, or check_mail_first where the provider counts on POP before SMTP."
        )
    else:
        message = _("{server} did not take the message: {reply}. Its reply says what to change.")
    said = ", ".join(dict.fromkeys(_shown(b"%d %b" % reply) for reply in replies))
    return MessageRefused(message.format(server=settings.server, reply=said))


def _shown(reply: bytes | str) -> str:
    """A server's reply on one line, with anything unprintable escaped: a server may be hostile."""
    text = reply.decode("utf-8", "backslashreplace") if isinstance(reply, bytes) else reply
    words = " ".join(text.split()).removesuffix(".")
    quoted = words if len(words) <= LONGEST_QUOTE else words[:LONGEST_QUOTE] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in quoted)


@contextmanager
def _explained(settings: Settings, port: int) -> Iterator[None]:
    """Turn what smtplib, poplib, ssl and the system raise into one sentence for a person."""
    try:
        yield
    except (OSError, EOFError, poplib.error_proto) as error:  # smtplib's exceptions are OSErrors too
        raise _explanation(settings, port, error) from error


def _explanation(settings: Settings, port: int, error: Exception) -> LabError:
    reason: object = error
    match error:
        case smtplib.SMTPSenderRefused() | smtplib.SMTPDataError():
            return _message_refused(settings, (error.smtp_code, _bytes(error.smtp_error)))
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            return _message_refused(settings, *refused.values())
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=text):
            reason = _shown(b"%d %b" % (code, _bytes(text)))
            message = _("{server}, port {port}, refused: {reason}. Its reply says what to change.")
        case poplib.error_proto(args=(text, *_rest)):
            reason = _shown(text)
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
        case Unruly(args=(reason,)) | smtplib.SMTPServerDisconnected(__context__=Unruly(args=(reason,))):
            message = _(
                "{server}, port {port}, comes to no end ({reason}): the connection was given up. This may not be the "
                "provider: check the server's name and port."
            )
        case TimeoutError() | smtplib.SMTPServerDisconnected(__context__=TimeoutError()):
            reason = settings.timeout
            message = _(
                "{server}, port {port}, did not answer in time (seconds allowed: {reason}). Check that port and connection "
                "security belong together, or allow more time."
            )
        case EOFError():
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


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text
