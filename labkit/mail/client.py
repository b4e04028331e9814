"""A mail program: the settings that mail software shows, spoken as SMTP and POP3.

What people see in such a program decides what crosses the network: the security of the connection, "my outgoing server
requires authentication", "check mail before sending". The server's NAME is what certificates are checked against; the
TCP connection goes to `connect_to`, because the lab has no DNS. The client does only what the settings ask for, so that a
recorded session shows nothing else, and it ends every session so that both sides have said goodbye: QUIT, close_notify
(RFC 8446 section 6.1), FIN. The server may be anybody: what it says is bounded in octets and in time.
"""

import base64
import hashlib
import re
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import getaddresses
from smtplib import quoteaddr
from types import TracebackType
from typing import Self, cast

from labkit.errors import BadSetting, LabError, MessageRefused, expect
from labkit.mail import sasl
from labkit.mail.explanations import (
    ascii_upper,
    explained,
    impostor,
    login_refused,
    message_refused,
    no_upgrade,
    refuse_not_offered,
    shown,
)
from labkit.mail.lineclient import LineClient, NegativeReply, ServerReply
from labkit.mail.policy import Security
from labkit.mail.settings import Settings, refuse_line_breaks
from labkit.texts import _

# RFC 5034 section 4: an AUTH command of more than 255 octets with its CRLF goes without its initial response.
SHORT_COMMAND = 253
# What a server may say, because no limit would trust it too far. One reply is `lineclient`'s affair.
LARGEST_MAILDROP = 256 * 1024 * 1024  # octets of all messages read in one session
LONGEST_SESSION = 30  # times the timeout


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
        self._tls = settings.tls_context()

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
            refuse_line_breaks("address", address)
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
                    pop3.ask(f"DELE {number}")
        return messages

    @contextmanager
    def _outgoing(self) -> Iterator["_Outgoing"]:
        with explained(self.settings, self.settings.smtp_port), _Outgoing(self.settings, self._tls) as session:
            session.prepare()
            yield session

    @contextmanager
    def _incoming(self, utf8: bool = False) -> Iterator["_Incoming"]:
        if not self.settings.login or not self.settings.password:
            raise BadSetting(_("Reading mail needs a login name and a password: fill in both settings."))
        with explained(self.settings, self.settings.pop3_port), _Incoming(self.settings, self._tls) as session:
            session.prepare(utf8)
            yield session


class _Injection(LabError):
    """Bytes came behind the answer to STARTTLS or STLS: the session is not to be believed, nothing more is said in it."""


class _NeedsUtf8(LabError):
    """A message can be read only in UTF-8 mode."""


class _Session:
    """One session with a server: a context manager that ends it so that both sides have said goodbye."""

    ok: str  # what the code of a reply begins with, when a command was carried out

    def __init__(self, settings: Settings, port: int, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._tls = tls
        length = LONGEST_SESSION * settings.timeout
        self._line = LineClient(settings.connect_to, port, timeout=settings.timeout, session=length)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """QUIT (only now a POP3 server deletes), but not to who is not to be believed or does not answer."""
        with self._line:
            if error is None:
                self._leave()
            elif isinstance(error, (NegativeReply, LabError)) and not isinstance(error, _Injection):
                with suppress(OSError, NegativeReply):
                    self.ask("QUIT")
            else:
                return
            with suppress(OSError):  # the work is done; how the other side leaves is its own affair
                self._line.close_after_the_server()

    def ask(self, command: str) -> ServerReply:
        """Say a command; its reply. Raises NegativeReply when that is not "ok"."""
        return self._granted(self._line.say(command))

    def _granted(self, reply: ServerReply) -> ServerReply:
        if not reply.code.startswith(self.ok):
            raise NegativeReply(reply)
        return reply

    def _leave(self) -> None:
        self.ask("QUIT")

    def _begin(self) -> ServerReply:
        """TLS from the first byte, if that is wanted, and the greeting."""
        if self._settings.security is Security.SSL:
            self._start_tls()
        return self._granted(self._line.reply())

    def _upgrade(self, command: str) -> None:
        self.ask(command)
        if self._line.something_came_early():
            message = _(
                "Something was said in the clear after the server agreed to start TLS, as if somebody in the middle had put "
                "it there: the connection was given up and nothing secret was sent. Try from another network."
            )
            raise _Injection(message)
        self._start_tls()

    def _start_tls(self) -> None:
        assert self._tls is not None  # noqa: S101 - the settings gave a context where they ask for TLS
        self._line.start_tls(self._tls, self._settings.server)


class _Outgoing(_Session):
    """SMTP, the client's side (RFC 5321, RFC 6409)."""

    ok = "2"

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None) -> None:
        super().__init__(settings, settings.smtp_port, tls)
        self._extensions: dict[str, list[str]] = {}

    def prepare(self) -> None:
        """Everything before the first message: EHLO, STARTTLS, AUTH, as the settings want it."""
        self._begin()
        self._say_hello()
        if self._settings.security is Security.STARTTLS:
            if "STARTTLS" not in self._extensions:
                raise no_upgrade(self._settings, "STARTTLS")
            self._upgrade("STARTTLS")
            self._say_hello()
        if self._settings.outgoing_requires_authentication:
            refuse_not_offered(self._settings, self._settings.mechanism, self._extensions.get("AUTH", []))
            _prove(self._settings, self._settings.mechanism, self._line.say)

    def _leave(self) -> None:
        self._line.say("QUIT")  # the message was accepted: whatever is said now takes nothing back

    def _say_hello(self) -> None:
        try:
            reply = self.ask(f"ehlo {self._settings.client_name}")
            self._extensions = _offers(line[4:] for line in reply.lines[1:])
        except NegativeReply:  # a server from before the extensions
            self.ask(f"helo {self._settings.client_name}")
            self._extensions = {}

    def transmit(self, message: EmailMessage, sender: str, recipients: list[str]) -> None:
        """MAIL, RCPT, DATA."""
        international = not all(address.isascii() for address in (sender, *recipients))
        if international and "SMTPUTF8" not in self._extensions:
            text = _("{server} takes no address outside ASCII (it does not offer SMTPUTF8): use an ASCII address.")
            raise MessageRefused(text.format(server=self._settings.server))
        content = _octets(message, international, "8BITMIME" in self._extensions)
        parameters = [
            *([f"size={len(content)}"] if "SIZE" in self._extensions else []),
            *(["SMTPUTF8"] if international else []),
            *([] if content.isascii() else ["BODY=8BITMIME"]),
        ]
        self._transact(" ".join((f"mail FROM:{quoteaddr(sender)}", *parameters)))
        replies = {recipient: self._line.say(f"rcpt TO:{quoteaddr(recipient)}") for recipient in recipients}
        refused = {recipient: reply for recipient, reply in replies.items() if not reply.code.startswith("2")}
        if len(refused) == len(replies):
            self._line.say("rset")
            raise message_refused(self._settings, *refused.values())
        self._transact("data", ok="3")
        # RFC 5321 section 4.5.2
        self._line.send(re.sub(rb"(?m)^\.", b"..", content).removesuffix(b"\r\n") + b"\r\n.\r\n")
        self._check(self._line.reply(), "2")
        if refused:
            text = _("{server} took the message, but not for {recipients}: {reply}. Check these addresses.")
            said = ", ".join(shown(reply) for reply in refused.values())
            raise MessageRefused(text.format(server=self._settings.server, recipients=", ".join(refused), reply=said))

    def _transact(self, command: str, ok: str = "2") -> None:
        self._check(self._line.say(command), ok)

    def _check(self, reply: ServerReply, ok: str) -> None:
        """Raises MessageRefused for another reply, and takes the message back."""
        if not reply.code.startswith(ok):
            if reply.code != "421":
                self._line.say("rset")
            raise message_refused(self._settings, reply)


class _Incoming(_Session):
    """POP3, the client's side (RFC 1939), with AUTH (RFC 5034), and for lines of any length."""

    ok = "+OK"

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None) -> None:
        super().__init__(settings, settings.pop3_port, tls)
        self._room = LARGEST_MAILDROP

    def prepare(self, utf8: bool) -> None:
        """Everything before the first message: STLS and the login, as the settings want it."""
        greeting = self._begin()
        if self._settings.security is Security.STARTTLS:
            if "STLS" not in self._capabilities():
                raise no_upgrade(self._settings, "STLS")
            self._upgrade("STLS")
        if utf8:
            self.ask("UTF8")
        try:
            self._log_in(greeting)
        except NegativeReply as refusal:
            raise login_refused(self._settings, refusal.reply) from None

    def _capabilities(self) -> dict[str, list[str]]:
        """CAPA (RFC 2449), whatever else a server puts into it; a server without it offers nothing that it would show."""
        reply = self._line.say("CAPA", listing=True)
        return _offers(reply.lines[1:]) if reply.positive else {}

    def count(self) -> int:
        """STAT: how many messages there are."""
        reply = self.ask("STAT")
        found = re.match(r"\+OK ([0-9]{1,9})(?= |$)", reply.first)
        if not found:
            message = _(
                "{server} answered {reply} when it was asked how many messages there are: look into the provider."
            )
            raise LabError(message.format(server=self._settings.server, reply=shown(reply)))
        return int(found[1])

    def _log_in(self, greeting: ServerReply) -> None:
        settings = self._settings
        if settings.pop3_login == "USER":
            self.ask(f"USER {settings.login}")
            self.ask(f"PASS {settings.password}")
        elif settings.pop3_login == "APOP":
            stamp = re.search("<.*>", greeting.first)
            if stamp is None:
                raise NegativeReply(ServerReply("-ERR", (_("the server has no APOP"),)))
            shared = (stamp[0] + settings.password).encode()
            self.ask(f"APOP {settings.login} {hashlib.md5(shared, usedforsecurity=False).hexdigest()}")
        else:
            refuse_not_offered(settings, settings.pop3_login, self._capabilities().get("SASL", []))
            _prove(settings, settings.pop3_login, self._line.say)

    def read(self, number: int) -> bytes:
        """RETR: the message's octets."""
        too_much = _("mail of more than {count:,} octets").format(count=LARGEST_MAILDROP)
        reply = self._line.say(f"RETR {number}", allowance=(self._room, too_much))
        if not reply.positive and "[UTF8]" in reply.first:
            raise _NeedsUtf8
        self._granted(reply)
        content = self._line.content()
        self._room -= len(content)
        return content


def _offers(lines: Iterable[str]) -> dict[str, list[str]]:
    """What EHLO or CAPA lists: parameters by keyword in capital letters. Some servers write AUTH=PLAIN."""
    offers: dict[str, list[str]] = {}
    for line in lines:
        keyword, *parameters = re.split("[ =]+", line.strip()) or [""]
        offers.setdefault(ascii_upper(keyword), []).extend(parameters)
    return offers


def _prove(settings: Settings, mechanism: str, say: Callable[[str], ServerReply]) -> None:
    """Log in by a SASL mechanism: the client's end, in the lines that both protocols carry."""
    steps = sasl.MECHANISMS[mechanism].client(sasl.Credentials(settings.login, settings.password, settings.scram_nonce))
    try:
        initial = next(steps)
        command = f"AUTH {mechanism}" if initial is None else f"AUTH {mechanism} {_base64(initial)}"
        reply = say(command) if len(command) <= SHORT_COMMAND else say(f"AUTH {mechanism}")
        if len(command) > SHORT_COMMAND and _asks_on(reply):
            reply = say(_base64(initial or b""))
        while _asks_on(reply):
            reply = say(_base64(steps.send(base64.b64decode(reply.text)) or b""))
        if reply.positive:
            steps.send(b"")  # SCRAM is not content before it has seen that the server knows the password
    except sasl.Unpreparable:
        message = _("The password has characters that {mechanism} cannot carry (RFC 4013): choose another mechanism.")
        raise BadSetting(message.format(mechanism=mechanism)) from None
    except StopIteration:
        if reply.code in ("235", "+OK"):
            return
        raise impostor(settings, mechanism) from None
    except ValueError:
        raise impostor(settings, mechanism) from None
    raise impostor(settings, mechanism) if reply.positive else login_refused(settings, reply)


def _asks_on(reply: ServerReply) -> bool:
    return reply.code in ("334", "+")


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
