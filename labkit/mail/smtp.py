"""The submission protocol: SMTP (RFC 5321) as a provider offers it to its customers' mail programs (RFC 6409).

Theory of operation. TABLE is the whole protocol: (state, verb) → what must hold before the
command, and where a 2xx and a 3xx reply lead. The policy is asked there and nowhere else. A reply of 4xx or 5xx changes
nothing, except that it ends EXCHANGE and CONTENT; 421 ends the session.

aiosmtpd is what this server is built on. It owns the session, the envelope, the handler with its hooks, and every command
that it carries out as RFC 5321 has it: HELO, NOOP, RSET, EXPN. `SmtpMachine` overrides the others; each override says
which gap of aiosmtpd it closes, and tests/mail/test_aiosmtpd.py shows the gap. aiosmtpd's connection is not used: what it
does with lines, time and TLS is `labkit.mail.server`'s, for both protocols.
"""
# ruff: noqa: N802 (aiosmtpd finds commands by the names of methods)

import asyncio
import inspect
import logging
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from aiosmtpd.smtp import MISSING, SMTP, Envelope, Session

from labkit.errors import BadSetting
from labkit.mail import sasl
from labkit.mail.accounts import Account
from labkit.mail.maildrop import canonical, has_utf8_header
from labkit.mail.policy import Security
from labkit.mail.server import FAILED_LOGINS, UNKNOWN_COMMANDS, Machine, ServerConnection, Want, address_of, is_http
from labkit.mail.service import MailService
from labkit.mail.smtp_syntax import Refused, mail_parameters, parse_parameters, parse_path, with_enhanced_code, words
from labkit.texts import _

log = logging.getLogger("labkit.mail.smtp")
# Without a handler, logging prints warnings on stderr, in the middle of a notebook. Whoever configures logging sees them.
log.addHandler(logging.NullHandler())
logging.getLogger("mail.log").addHandler(logging.NullHandler())  # aiosmtpd's

SIZE_LIMIT = 2**25  # octets of a message (RFC 1870)
COMMAND_LIMIT = 2048 + 2  # octets with CRLF; RFC 5321 section 4.5.3.1.4 asks for 512 and each extension for some more
RECIPIENTS = 1000  # RFC 5321 section 4.5.3.1.8 asks for 100
TIMEOUT = 300.0  # seconds (RFC 5321 section 4.5.3.2.7)

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

NULL_PATH = "<>"  # what aiosmtpd's envelopes and hooks have for the null reverse-path (RFC 5321 section 4.5.5)


class SmtpState(StrEnum):
    """Where a session is."""

    START = "START"  # before EHLO or HELO, and again inside TLS
    READY = "READY"
    SENDER = "SENDER"  # a mail transaction: MAIL was accepted
    RECIPIENTS = "RECIPIENTS"  # and RCPT, at least once
    CONTENT = "CONTENT"  # and DATA: the message follows
    EXCHANGE = "EXCHANGE"  # between AUTH and its outcome
    NEGOTIATION = "NEGOTIATION"  # between the reply to STARTTLS and the end of the TLS handshake
    CLOSED = "CLOSED"


class SmtpMachine(SMTP, Machine):
    """One session of a mail program with the provider's submission server.

    can_start_tls: there is a certificate to start it with. handler: an aiosmtpd handler, whose hooks are called with this
    object, aiosmtpd's session and its envelope; `handle_DATA` takes the place of storing the message.
    """

    command_limit = COMMAND_LIMIT
    session: Session
    envelope: Envelope
    _negotiation: sasl.Negotiation

    def __init__(
        self,
        service: MailService,
        *,
        can_start_tls: bool = False,
        handler: object | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(
            object() if handler is None else handler,
            data_size_limit=SIZE_LIMIT,
            enable_SMTPUTF8=True,
            hostname=service.hostname,
            loop=loop or asyncio.get_running_loop(),
        )
        self.service = service
        self.state = SmtpState.START
        self.content_limit = SIZE_LIMIT
        self.patience = TIMEOUT
        self.last_words = f"421 4.4.2 {self.hostname} closes the connection: nothing heard for too long\r\n".encode()
        self._can_start_tls = can_start_tls
        self._verb = ""
        self._replies: list[str] = []
        self._failed_logins = 0
        self._unknown_commands = 0

    def __dir__(self) -> Iterable[str]:
        """Gap: aiosmtpd searches the dir() of every new connection for commands, which took longer than the greeting."""
        return _METHODS

    # What the connection asks

    @property
    def wants(self) -> Want:
        return _WANTS.get(self.state, Want.COMMAND)

    def begin(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.encrypted = transport.get_extra_info("ssl_object") is not None
        self.session = Session(self.loop)
        self.session.peer = transport.get_extra_info("peername")
        self.client_address = address_of(transport)
        self.envelope = Envelope()
        self.account: Account | None = None
        started = self.state is SmtpState.NEGOTIATION
        self.state = SmtpState.START
        if self.encrypted:
            self.session.ssl = {name: transport.get_extra_info(name) for name in _TLS_FACTS}
        hook = getattr(self.event_handler, "handle_STARTTLS", None) if started else None
        if hook is not None and not hook(self, self.session, self.envelope):  # aiosmtpd does not await this one
            self.close()

    def greeting(self) -> bytes:
        if self.pipelined:
            # A client waits for the greeting (RFC 5321 section 4.3.1), and may not send commands in groups before it has
            # seen PIPELINING (RFC 2920 section 3.1).
            self.close()
            return b"554 5.5.1 Wait for the greeting before you say something\r\n"
        return f"220 {self.hostname} ESMTP labkit\r\n".encode()

    async def answer(self, said: bytes, cut: bool) -> bytes:
        self._replies.clear()
        self._verb, state = "", self.state
        try:
            match state:
                case SmtpState.CONTENT:
                    await self._store(said, cut)
                case SmtpState.EXCHANGE:
                    await self._advance(self._negotiation.take(said))
                case _:
                    await self._command(said, cut)
            if not self._replies:
                raise RuntimeError("the handler has no reply")
        except Refused as refused:
            await self.push(str(refused))
        except Exception as error:
            await self.push(await self.handle_exception(error))
        if self.state is state:
            self.state = TABLE[state, self._verb].leads_to(self._replies[-1]) if (state, self._verb) in TABLE else state
        if self._replies[-1].startswith("421 "):
            self.close()
        return "".join(f"{line}\r\n" for line in self._replies).encode()

    def close(self) -> None:
        self.state = SmtpState.CLOSED

    async def push(self, status: str | bytes) -> None:
        """Gap: aiosmtpd writes and waits for each reply, and its replies have no enhanced status code (RFC 2034)."""
        reply = status.decode() if isinstance(status, bytes) else status
        self._replies.append(reply if self._verb in ("EHLO", "HELO") else with_enhanced_code(reply, self._verb))

    async def handle_exception(self, error: Exception) -> str:
        """Gap: aiosmtpd's reply is the exception's text, which tells too much and may have line breaks."""
        if hasattr(self.event_handler, "handle_exception"):
            return await super().handle_exception(error)
        log.error("%s failed", self._verb or self.state, exc_info=error)
        return "451 4.3.0 Requested action aborted: error in processing"

    async def _hook(self, name: str, *arguments: object) -> Any:
        """What the handler says to this, or MISSING."""
        hook = getattr(self.event_handler, f"handle_{name}", None)
        return MISSING if hook is None else await hook(self, self.session, self.envelope, *arguments)

    # Commands

    async def _command(self, line: bytes, cut: bool) -> None:
        verb, _, argument = line.partition(b" ")
        self._verb = verb.upper().decode("ascii", "replace")
        if is_http(line):
            raise Refused("421 4.7.0 This is SMTP and not HTTP")
        if cut:
            raise Refused("500 5.5.6 Line too long" if self._verb == "AUTH" else "500 5.5.2 Line too long")
        if self._verb not in COMMANDS:
            self._unknown_commands += 1
            enough = self._unknown_commands >= UNKNOWN_COMMANDS
            raise Refused("421 4.7.0 Too many unknown commands" if enough else "500 5.5.1 Command not recognized")
        if _CONTROL.search(argument):
            raise Refused("501 5.5.2 A control character is not allowed in a command")
        for need in TABLE[self.state, self._verb].needs:
            if not need.holds(self):
                raise Refused(need.otherwise.format(policy=self.service.policy))
        try:
            text = argument.decode().strip(" \t")
        except UnicodeDecodeError:
            raise Refused("501 5.5.2 That is not UTF-8") from None
        await getattr(self, f"smtp_{self._verb}")(text)

    async def smtp_EHLO(self, hostname: str) -> None:
        """Gap: aiosmtpd does not offer PIPELINING and ENHANCEDSTATUSCODES, nor AUTH as a policy wants it."""
        if not hostname:
            raise Refused("501 Syntax: EHLO hostname")
        self.envelope = Envelope()
        self.session.extended_smtp = True
        *most, last = self._extensions()
        lines = [f"250-{self.hostname}", *(f"250-{keyword}" for keyword in most), f"250 {last}"]
        changed = await self._hook("EHLO", hostname, lines)
        if changed is MISSING:
            self.session.host_name = hostname
        for line in lines if changed is MISSING else changed:
            await self.push(line)

    def _extensions(self) -> Iterator[str]:
        yield from (f"SIZE {SIZE_LIMIT}", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES")
        if STARTTLS_OFFERED.holds(self) and not self.encrypted:
            yield "STARTTLS"
        if AUTH_OFFERED.holds(self) and AUTH_IS_SECURE.holds(self):
            yield "AUTH " + " ".join(self.service.policy.mechanisms)
        yield "HELP"

    async def smtp_STARTTLS(self, arg: str) -> None:
        """Gap: aiosmtpd builds asyncio's TLS by hand, and takes a second one inside TLS (RFC 3207)."""
        if arg:
            raise Refused("501 5.5.4 STARTTLS takes no argument")
        if not self._can_start_tls:
            raise Refused("454 4.7.0 TLS not available due to temporary reason")
        await self.push("220 2.0.0 Ready to start TLS")

    async def smtp_AUTH(self, arg: str) -> None:
        """Gap: aiosmtpd has PLAIN and LOGIN only, without authzid, and any number of tries (RFC 4954 section 4)."""
        mechanism, *initial = words(arg) or [""]
        if not mechanism or len(initial) > 1:
            raise Refused("501 5.5.4 Syntax: AUTH mechanism [initial-response]")
        name = mechanism.encode().upper().decode()  # ASCII has capital letters, others have some that look like them
        if name not in self.service.policy.mechanisms:
            raise Refused("504 5.5.4 Unrecognized authentication type")
        self._negotiation = self.service.negotiation(name)
        await self._advance(self._negotiation.begin(initial[0].encode() if initial else None))

    async def _advance(self, step: sasl.Step) -> None:
        match step:
            case sasl.Challenge(line=line):
                await self.push(f"334 {line}")
            case sasl.Failure(reason):
                self._failed_logins += 1
                enough = self._failed_logins >= FAILED_LOGINS
                await self.push("421 4.7.0 Too many failed logins" if enough else _AUTH_FAILURES[reason])
            case sasl.Success(account):
                self.account = account
                vars(self.session).update(auth_data=account, authenticated=True)
                await self.push("235 2.7.0 Authentication successful")

    async def smtp_MAIL(self, arg: str | None) -> None:
        """Gap: aiosmtpd's parser decodes encoded words, raises for `<`, and knows no AUTH parameter (RFC 5321 4.1.1.2)."""
        path = parse_path(
            arg, "FROM", "501 5.5.4 Syntax: MAIL FROM:<address>", "501 5.1.7 Bad sender's mailbox address syntax"
        )
        extended, auth = self.session.extended_smtp, AUTH_OFFERED.holds(self)
        parameters = mail_parameters(path["parameters"], extended=extended, auth=auth)
        if int(parameters.get("SIZE", 0)) > SIZE_LIMIT:
            raise Refused(_TOO_LARGE)
        self.envelope.smtp_utf8 = "SMTPUTF8" in parameters
        mailbox = self._mailbox(path["mailbox"]) or NULL_PATH
        options = path["parameters"].upper().split()
        status = await self._hook("MAIL", mailbox, options)
        if status is MISSING:
            self.envelope.mail_from = mailbox
            self.envelope.mail_options.extend(options)
            status = "250 OK"
        await self.push(status)

    async def smtp_RCPT(self, arg: str | None) -> None:
        """Gap: as MAIL's, and aiosmtpd takes UTF-8 without SMTPUTF8 and any number of recipients (RFC 5321 4.1.1.3)."""
        syntax = "501 5.5.4 Syntax: RCPT TO:<address>"
        path = parse_path(arg, "TO", syntax, "501 5.1.3 Bad destination mailbox address syntax")
        if not path["mailbox"]:
            raise Refused("501 5.1.3 A recipient cannot be empty")
        for keyword in parse_parameters(path["parameters"], extended=self.session.extended_smtp):
            raise Refused(f"555 5.5.4 {keyword} is not supported")
        mailbox = self._mailbox(path["mailbox"])
        if len(self.envelope.rcpt_tos) >= RECIPIENTS:
            raise Refused("452 4.5.3 Too many recipients")
        status = await self._hook("RCPT", mailbox, [])
        if status is MISSING:
            if not self.service.accepts(mailbox):
                raise Refused("550 5.1.1 No such mailbox here")
            self.envelope.rcpt_tos.append(mailbox)
            status = "250 OK"
        await self.push(status)

    def _mailbox(self, mailbox: str) -> str:
        if not mailbox.isascii() and not self.envelope.smtp_utf8:
            raise Refused("553 5.6.7 An address that is not ASCII needs SMTPUTF8 in MAIL")
        return mailbox

    async def smtp_DATA(self, arg: str) -> None:
        """Gap: aiosmtpd refuses lines over 1,001 octets, keeps an object a line, and loses what a client leaves early."""
        if arg:
            raise Refused("501 5.5.4 DATA takes no argument")
        await self.push("354 End data with <CR><LF>.<CR><LF>")

    async def _store(self, content: bytes, too_large: bool) -> None:
        """RFC 5321 section 4.1.1.4: the message is stored before it is accepted, between two awaits."""
        envelope = self.envelope
        try:
            if too_large:
                raise Refused(_TOO_LARGE)
            content = canonical(content)
            if not envelope.smtp_utf8 and has_utf8_header(content):
                # RFC 6531 section 3.5. Its reader might not know how to ask for it (RFC 6856).
                raise Refused("554 5.6.9 A header in UTF-8 needs SMTPUTF8 in MAIL")
            envelope.content = envelope.original_content = content
            status = await self._hook("DATA")
        finally:
            self.envelope = Envelope()
        if status is MISSING:
            status = self._delivered(envelope, content)
        await self.push(status)

    def _delivered(self, envelope: Envelope, content: bytes) -> str:
        sender = "" if envelope.mail_from in (None, NULL_PATH) else envelope.mail_from
        try:
            self.service.deliver(sender or "", envelope.rcpt_tos, content)
        except OSError as error:
            log.error("a message could not be stored: %s", error)
            return "452 4.3.1 Insufficient system storage"
        return "250 2.0.0 OK: message stored"

    async def smtp_VRFY(self, arg: str) -> None:
        """Gap: aiosmtpd's address parser raises for many arguments. Nobody is told who has a mailbox (RFC 5321 3.5.3)."""
        if not arg:
            raise Refused("501 5.5.4 Syntax: VRFY address")
        status = await self._hook("VRFY", arg)
        usual = "252 Cannot VRFY user, but will accept message and attempt delivery"
        await self.push(usual if status is MISSING else status)

    async def smtp_HELP(self, arg: str) -> None:
        """Gap: aiosmtpd's reply has code 250 and not 214 (RFC 5321 section 4.3.2)."""
        await self.push(f"214 Commands: {' '.join(COMMANDS)}")

    async def smtp_QUIT(self, arg: str) -> None:
        """Gap: aiosmtpd cancels its own task and closes, which is the connection's affair here."""
        if arg:
            raise Refused("501 5.5.4 QUIT takes no argument")
        status = await self._hook("QUIT")
        await self.push("221 Bye" if status is MISSING else status)


def smtp_factory(
    service: MailService, tls: ssl.SSLContext | None = None, handler: object | None = None
) -> Callable[[], ServerConnection]:
    """What a network calls for each connection. handler: an aiosmtpd handler that `check_handler` has nothing against."""
    return lambda: ServerConnection(SmtpMachine(service, can_start_tls=tls is not None, handler=handler), tls)


# aiosmtpd's hooks that have no place here: logins are the policy's affair, and nothing stands in front of the servers.
NOT_CALLED = ("handle_AUTH", "handle_PROXY", "process_message")


def check_handler(handler: object) -> None:
    """Raises BadSetting for an aiosmtpd handler with hooks that would never be called."""
    ehlo = getattr(handler, "handle_EHLO", None)
    if ehlo is not None and len(inspect.signature(ehlo).parameters) != 5:
        raise BadSetting(_("handle_EHLO takes five arguments: server, session, envelope, hostname, responses."))
    hooks = [name for name in dir(handler) if name in NOT_CALLED or name.startswith("auth_")]
    if hooks:
        message = _(
            "The handler has {hook}, which the lab does not call: the policy says who may log in. Leave it out."
        )
        raise BadSetting(message.format(hook=hooks[0]))


@dataclass(frozen=True, slots=True)
class Need:
    """What must hold before a command, and the reply when it does not."""

    holds: Callable[[SmtpMachine], bool]
    otherwise: str


def _out_of_order(reply: str) -> Need:
    """The command has no place in this state, whatever else holds."""
    return Need(lambda _smtp: False, reply)


def _is_secure(smtp: SmtpMachine) -> bool:
    return smtp.encrypted or smtp.service.policy.security is Security.NONE


SECURE = Need(_is_secure, "530 5.7.0 Must issue a STARTTLS command first")
STARTTLS_OFFERED = Need(
    lambda smtp: smtp.service.policy.security is Security.STARTTLS, "502 5.5.1 STARTTLS is not offered"
)
NOT_ENCRYPTED = Need(lambda smtp: not smtp.encrypted, "503 5.5.1 TLS is active already")
EXTENDED = Need(lambda smtp: smtp.session.extended_smtp, "503 5.5.1 Say EHLO first")
AUTH_OFFERED = Need(lambda smtp: bool(smtp.service.policy.mechanisms), "502 5.5.1 AUTH is not offered")
AUTH_IS_SECURE = Need(_is_secure, "538 5.7.11 Encryption required for requested authentication mechanism")
NOT_AUTHENTICATED = Need(lambda smtp: smtp.account is None, "503 5.5.1 Already authenticated")
AUTHENTICATED = Need(
    lambda smtp: smtp.account is not None or not smtp.service.policy.auth_required, "530 5.7.0 Authentication required"
)
HAS_READ_MAIL = Need(
    lambda smtp: smtp.service.may_send(smtp.client_address),
    "530 5.7.0 Read your mail first: a POP3 login lets this address send for {policy.window_minutes:g} minutes",
)
HAS_RECIPIENT = Need(lambda smtp: bool(smtp.envelope.rcpt_tos), "503 5.5.1 No valid recipients: say RCPT first")
GREET_FIRST = _out_of_order("503 5.5.1 Say EHLO first")
IN_TRANSACTION = _out_of_order("503 5.5.1 A mail transaction is in progress")
MAIL_FIRST = _out_of_order("503 5.5.1 Say MAIL first")
RCPT_FIRST = _out_of_order("503 5.5.1 No valid recipients: say RCPT first")


@dataclass(frozen=True, slots=True)
class SmtpTransition:
    """One row of the table: what must hold, looked at in this order, and where replies of 2xx, 3xx and 4xx or 5xx lead."""

    needs: tuple[Need, ...]
    ok: SmtpState
    more: SmtpState
    err: SmtpState

    @property
    def possible(self) -> bool:
        """Whether the command has a place in this state at all."""
        return not {GREET_FIRST, IN_TRANSACTION, MAIL_FIRST, RCPT_FIRST} & set(self.needs)

    def leads_to(self, reply: str) -> SmtpState:
        """The state after a command that got this reply (its last line)."""
        return {"2": self.ok, "3": self.more}.get(reply[:1], self.err)


_Row = tuple[tuple[SmtpState, str], SmtpTransition]


def _row(state: SmtpState, verb: str, *needs: Need, ok: SmtpState | None = None, more: SmtpState | None = None) -> _Row:
    return (state, verb), SmtpTransition(needs, ok or state, more or state, state)


def _rows() -> Iterator[_Row]:
    start, ready, sender, recipients = SmtpState.START, SmtpState.READY, SmtpState.SENDER, SmtpState.RECIPIENTS
    begun = (SECURE, AUTHENTICATED)
    may_log_in = (AUTH_OFFERED, EXTENDED, AUTH_IS_SECURE, NOT_AUTHENTICATED)
    for state in (start, ready, sender, recipients):
        in_order = {start: (GREET_FIRST,), ready: ()}.get(state, (IN_TRANSACTION,))
        yield _row(state, "EHLO", ok=ready)
        yield _row(state, "HELO", SECURE, ok=ready)
        yield _row(state, "STARTTLS", STARTTLS_OFFERED, EXTENDED, NOT_ENCRYPTED, ok=SmtpState.NEGOTIATION)
        yield _row(state, "AUTH", *may_log_in, *in_order, more=SmtpState.EXCHANGE)
        yield _row(state, "RSET", SECURE, ok=start if state is start else ready)
        yield _row(state, "VRFY", SECURE, AUTHENTICATED)
        yield _row(state, "EXPN", SECURE, AUTHENTICATED)
        yield _row(state, "HELP", SECURE)
        yield _row(state, "NOOP")
        yield _row(state, "QUIT", ok=SmtpState.CLOSED)
    for verb in ("MAIL", "RCPT", "DATA"):
        yield _row(start, verb, SECURE, GREET_FIRST)
    yield _row(ready, "MAIL", *begun, HAS_READ_MAIL, ok=sender)
    yield _row(ready, "RCPT", *begun, MAIL_FIRST)
    yield _row(ready, "DATA", *begun, MAIL_FIRST)
    for state in (sender, recipients):
        yield _row(state, "MAIL", *begun, HAS_READ_MAIL, IN_TRANSACTION)
        yield _row(state, "RCPT", *begun, ok=recipients)
    yield _row(sender, "DATA", *begun, RCPT_FIRST)
    yield _row(recipients, "DATA", *begun, HAS_RECIPIENT, more=SmtpState.CONTENT)
    # What is said here is no command, and whatever comes of it, commands follow.
    yield (SmtpState.EXCHANGE, ""), SmtpTransition((), ok=ready, more=SmtpState.EXCHANGE, err=ready)
    yield (SmtpState.CONTENT, ""), SmtpTransition((), ok=ready, more=ready, err=ready)


TABLE: Mapping[tuple[SmtpState, str], SmtpTransition] = MappingProxyType(dict(_rows()))
COMMANDS = tuple(dict.fromkeys(verb for _state, verb in TABLE if verb))
_METHODS = tuple(f"smtp_{command}" for command in COMMANDS)
_WANTS: Mapping[SmtpState, Want] = MappingProxyType(
    {
        SmtpState.EXCHANGE: Want.RESPONSE,
        SmtpState.CONTENT: Want.CONTENT,
        SmtpState.NEGOTIATION: Want.TLS,
        SmtpState.CLOSED: Want.NOTHING,
    }
)
_TLS_FACTS = ("sslcontext", "ssl_object", "peercert", "cipher", "compression")  # asyncio's names for what TLS came to

_AUTH_FAILURES: Mapping[sasl.Reason, str] = MappingProxyType(
    {
        sasl.Reason.CREDENTIALS: "535 5.7.8 Authentication credentials invalid",
        sasl.Reason.MALFORMED: "501 5.5.2 That is not a message of this mechanism",
        sasl.Reason.NOT_BASE64: "501 5.5.2 Cannot decode that as base64",
        sasl.Reason.CANCELLED: "501 5.7.0 Authentication cancelled",
        sasl.Reason.TOO_LONG: "500 5.5.6 Authentication exchange line is too long",
        sasl.Reason.SERVER_FIRST: "501 5.7.0 This mechanism has no initial response: the server speaks first",
    }
)

_TOO_LARGE = "552 5.3.4 Message size exceeds the maximum that EHLO announced"
