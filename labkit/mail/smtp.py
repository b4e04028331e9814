"""The submission protocol: SMTP (RFC 5321) as a provider offers it to its customers' mail programs (RFC 6409).

Built on aiosmtpd: its sessions, envelopes and command methods, with our own reading, parsing and AUTH, where its gaps lie.
`COMMANDS` says what must hold before each command; the policy is asked there and nowhere else. Octets are collected by
the transport's callbacks and taken by one task; replies are sent together when the next octets are awaited, so that a
group of pipelined commands gets one answer (RFC 2920 section 3.2). Only the transport and the loop are used: no socket,
no thread, no executor. A message is stored between two awaits, so nothing that a client does can interrupt it.
"""
# ruff: noqa: N802 (aiosmtpd finds commands by the names of methods)

import asyncio
import logging
import re
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from labkit.mail import sasl
from labkit.mail.accounts import Account
from labkit.mail.maildrop import canonical, has_utf8_header
from labkit.mail.policy import Security
from labkit.mail.server import FAILED_LOGINS, UNKNOWN_COMMANDS, is_http
from labkit.mail.service import MailService

log = logging.getLogger("labkit.mail.smtp")
# Without a handler, logging prints warnings on stderr, in the middle of a notebook. Whoever configures logging sees them.
log.addHandler(logging.NullHandler())
logging.getLogger("mail.log").addHandler(logging.NullHandler())  # aiosmtpd's

SIZE_LIMIT = 2**25  # octets of a message (RFC 1870)
COMMAND_LINE = 2048  # octets; RFC 5321 section 4.5.3.1.4 asks for 512 and each extension for some more
AUTH_LINE = 12288  # octets (RFC 4954 section 4)
RECIPIENTS = 1000  # RFC 5321 section 4.5.3.1.8 asks for 100
# Turns of the loop between a connection and its greeting, in which what was sent too early arrives. A client waits for the
# greeting (RFC 5321 section 4.3.1), and may not send commands in groups before it has seen PIPELINING (RFC 2920).
GREETING_TURNS = 3
TIMEOUT = 300.0  # seconds (RFC 5321 section 4.5.3.2.7)
INPUT_LIMIT = 2**18  # octets taken from a client while it does not take its replies
REPLIES = 2**14  # octets of replies that may wait for the end of a pipelined group

_TERMINATOR = b"\r\n.\r\n"
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# RFC 5321 section 4.1.2, with RFC 6531's letters, and underscores in host names, which people have.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_QUOTED = r'"(?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*"'
_DOMAIN = r"(?:[A-Za-z0-9_\x80-\U0010ffff-]+(?:\.[A-Za-z0-9_\x80-\U0010ffff-]+)*|\[[!-Z^-~]+\])"
_PATH = re.compile(
    rf"(?P<keyword>FROM|TO): *<(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"
    rf"(?P<mailbox>(?:(?:{_ATOM}(?:\.{_ATOM})*|{_QUOTED})@{_DOMAIN}|postmaster)?)>(?P<parameters>(?: .*)?)",
    re.IGNORECASE | re.ASCII,
)
_PARAMETER = re.compile(r"(?P<keyword>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~\x80-\U0010ffff]+))?")
_XTEXT = re.compile(r"<>|(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 4954 section 5; RFC 3461 section 4


class _Gone(Exception):
    """The client will send nothing more."""


class _Refused(Exception):
    """A command cannot be carried out; the text is the reply."""


class SmtpProtocol(SMTP):
    """One connection of a mail program to the provider's submission server.

    tls_context is what STARTTLS starts; it is not needed where the transport brings TLS from the first byte, which is
    recognised by its `ssl_object`. loop: the running one, unless given.
    """

    def __init__(
        self,
        service: MailService,
        *,
        tls_context: ssl.SSLContext | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        super().__init__(
            object(),
            data_size_limit=SIZE_LIMIT,
            enable_SMTPUTF8=True,
            hostname=service.hostname,
            tls_context=tls_context,
            auth_require_tls=False,
            loop=self._loop,
        )
        self.service = service
        self.account: Account | None = None
        self.encrypted = False
        self._session = Session(self._loop)
        self._envelope = Envelope()
        self._connection: asyncio.Transport | None = None
        self._peer = ""
        self._pending = bytearray()
        self._replies = bytearray()
        self._arrival: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._ended = False
        self._closing = False
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._failed_logins = 0
        self._unknown_commands = 0

    def __dir__(self) -> Iterable[str]:
        """The commands only: aiosmtpd searches the dir() of every new connection, which took longer than the greeting."""
        return _METHODS

    # The transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected: greet it."""
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self._start_session(transport)
        self._heard = self._loop.time()
        self._watch = self._loop.call_later(TIMEOUT, self._look_at_the_time)
        self._handler_coroutine = self._loop.create_task(self._handle_client())

    def data_received(self, data: bytes) -> None:
        """Octets arrived: keep them for the task."""
        self._pending += data
        if b"\n" in data:  # a whole line counts, an octet now and then does not
            self._heard = self._loop.time()
        if self._arrival is not None:
            self._wake()
        elif len(self._pending) > INPUT_LIMIT and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more. What it sent is still answered, where TLS does not forbid that."""
        self._ended = True
        self._wake()
        return not self.encrypted

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is over: let the task end."""
        if self._watch is not None:
            self._watch.cancel()
        self._ended = self._closing = True
        self._writable.set()
        self._wake()
        self._connection = self.transport = None

    def pause_writing(self) -> None:
        """The client does not take its replies."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client takes its replies again."""
        self._writable.set()

    def abort(self) -> None:
        """Drop the connection at once, whatever state it is in."""
        if self._connection is not None:
            self._connection.abort()

    # Reading and writing

    def _start_session(self, transport: asyncio.BaseTransport) -> None:
        """A new session: also after STARTTLS, where everything learned before is forgotten (RFC 3207 section 4.2)."""
        self.transport = self._connection = cast(asyncio.Transport, transport)
        self.encrypted = transport.get_extra_info("ssl_object") is not None
        self.session = self._session = Session(self._loop)
        self.session.peer = self._peer
        self.account = None
        self._forget()

    def _forget(self) -> None:
        """No mail transaction is in progress (RFC 5321 section 4.1.1.5)."""
        self.envelope = self._envelope = Envelope()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        self._arrival = None

    def _look_at_the_time(self) -> None:
        silent = self._loop.time() - self._heard
        if silent < TIMEOUT:
            self._watch = self._loop.call_later(TIMEOUT - silent, self._look_at_the_time)
        elif self._connection is not None:
            unread = self._connection.get_write_buffer_size()
            self._reply(f"421 4.4.2 {self.hostname} closes the connection: nothing heard for too long")
            self._send()
            self._closing = True
            # A client that does not read would keep a closing connection open.
            (self._connection.abort if unread else self._connection.close)()

    def _reply(self, *lines: str) -> None:
        self._replies += "".join(f"{line}\r\n" for line in lines).encode()

    def _send(self) -> None:
        if self._replies and self._connection is not None:
            self._connection.write(bytes(self._replies))
        self._replies.clear()

    async def _drain(self) -> None:
        """Send the replies that are due, and wait while the client does not take them."""
        self._send()
        if not self._writable.is_set():
            await self._writable.wait()

    async def _receive(self) -> None:
        """Send the replies that are due and wait for more octets. Raises _Gone when none will come."""
        known = len(self._pending)
        await self._drain()
        if len(self._pending) > known:
            return
        if self._ended or self._connection is None:
            raise _Gone
        if self._paused:
            self._paused = False
            self._connection.resume_reading()
        self._arrival = self._loop.create_future()
        await self._arrival

    async def _line(self) -> bytes:
        """The next line without its line end. Of one that is too long, just so many octets that this can be seen."""
        pending, searched = self._pending, 0
        while (end := pending.find(b"\n", searched)) < 0:
            del pending[AUTH_LINE + 2 :]
            searched = len(pending)
            await self._receive()
        line = bytes(pending[:end])
        del pending[: end + 1]
        return line.removesuffix(b"\r")

    async def _content(self) -> bytes | None:
        """The message that follows DATA, dot-stuffing undone (RFC 5321 section 4.5.2); None if it is over the limit.

        Only CRLF.CRLF ends it. The CRLF that ended the DATA command counts, so an empty message is a lone dot.
        """
        pending, searched, too_large = self._pending, 0, False
        pending[:0] = b"\r\n"
        while (end := pending.find(_TERMINATOR, searched)) < 0:
            # Dot-stuffing makes a message longer by a third at most: one of nothing but dots on lines of their own.
            if too_large or len(pending) > SIZE_LIMIT * 4 // 3 + len(_TERMINATOR):
                too_large = True
                del pending[: -len(_TERMINATOR)]
            searched = max(0, len(pending) - len(_TERMINATOR) + 1)
            await self._receive()
        content = bytes(pending[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]
        del pending[: end + len(_TERMINATOR)]
        return None if too_large or len(content) > SIZE_LIMIT else content

    # The session

    async def _handle_client(self) -> None:
        for _turn in range(GREETING_TURNS):
            await asyncio.sleep(0)
        if self._pending:
            self._reply(self._end("554 5.5.1 Wait for the greeting before you say something"))
        else:
            self._reply(f"220 {self.hostname} ESMTP labkit")
        try:
            while not self._closing:
                await self._command(await self._line())
                if len(self._replies) > REPLIES:
                    await self._drain()
                    await asyncio.sleep(0)  # other clients have their turn
        except _Gone:
            pass
        finally:
            self._send()
            if self._connection is not None:
                self._connection.close()

    async def _command(self, line: bytes) -> None:
        """Carry out one command line."""
        verb, _, argument = line.partition(b" ")
        name = verb.upper().decode("ascii", "replace")
        needs = COMMANDS.get(name)
        try:
            if is_http(line):
                raise _Refused(self._end("421 4.7.0 This is SMTP and not HTTP"))
            if len(line) > (AUTH_LINE if name == "AUTH" else COMMAND_LINE):
                raise _Refused("500 5.5.6 Line too long" if name == "AUTH" else "500 5.5.2 Line too long")
            if needs is None:
                raise _Refused(self._unknown())
            if _CONTROL.search(argument):
                raise _Refused("501 5.5.2 A control character is not allowed in a command")
            for need in needs:
                if refusal := need(self):
                    raise _Refused(refusal)
            await self._smtp_methods[name](argument.decode().strip(" \t"))
        except _Refused as refused:
            self._reply(str(refused))
        except UnicodeDecodeError:
            self._reply("501 5.5.2 That is not UTF-8")
        except _Gone:
            raise
        except Exception:
            log.exception("%s failed", name)
            self._reply("451 4.3.0 Requested action aborted: error in processing")

    def _unknown(self) -> str:
        self._unknown_commands += 1
        if self._unknown_commands < UNKNOWN_COMMANDS:
            return "500 5.5.1 Command not recognized"
        return self._end("421 4.7.0 Too many unknown commands")

    def _end(self, last_words: str) -> str:
        """The session is over when these have been said."""
        self._closing = True
        return last_words

    async def smtp_EHLO(self, hostname: str) -> None:
        """RFC 5321 section 4.1.1.1: who the client says it is, and what this server can do."""
        if not hostname:
            raise _Refused("501 Syntax: EHLO hostname")  # replies to EHLO have no enhanced code (RFC 2034 section 4)
        self._greet(hostname, extended=True)
        *most, last = self._extensions()
        self._reply(f"250-{self.hostname}", *(f"250-{keyword}" for keyword in most), f"250 {last}")

    async def smtp_HELO(self, hostname: str) -> None:
        """RFC 5321 section 4.1.1.1, for clients from before the extensions."""
        if not hostname:
            raise _Refused("501 Syntax: HELO hostname")
        self._greet(hostname, extended=False)
        self._reply(f"250 {self.hostname}")

    def _greet(self, hostname: str, *, extended: bool) -> None:
        self._forget()
        self._session.host_name = hostname
        self._session.extended_smtp = extended

    def _extensions(self) -> list[str]:
        keywords = [f"SIZE {SIZE_LIMIT}", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"]
        if not _starttls_offered(self) and not self.encrypted:
            keywords.append("STARTTLS")
        if not _auth_offered(self) and not _encrypted_for_auth(self):
            keywords.append("AUTH " + " ".join(self.service.policy.mechanisms))
        return [*keywords, "HELP"]

    async def smtp_STARTTLS(self, arg: str) -> None:
        """RFC 3207: the same connection goes on inside TLS, and both sides start again."""
        if arg:
            raise _Refused("501 5.5.4 STARTTLS takes no argument")
        if self.tls_context is None or self._connection is None:
            raise _Refused("454 4.7.0 TLS not available due to temporary reason")
        self._reply("220 2.0.0 Ready to start TLS")
        self._send()
        # Whatever followed the command came in plaintext, perhaps from somebody in the middle: it must not be executed
        # inside TLS. From here until the protocol is replaced there is no await, so nothing can be added.
        self._pending.clear()
        self.encrypted = True  # already for an end that comes with the handshake's last octets: TLS has no half-close
        try:
            secured = await self._loop.start_tls(self._connection, self, self.tls_context, server_side=True)
        except OSError as error:  # ssl.SSLError is one
            raise _Gone from error
        if secured is None:
            raise _Gone
        self._start_session(secured)

    async def smtp_AUTH(self, arg: str) -> None:
        """RFC 4954 section 4: a SASL exchange in base64."""
        mechanism, *initial = _words(arg) or [""]
        if not mechanism or len(initial) > 1:
            raise _Refused("501 5.5.4 Syntax: AUTH mechanism [initial-response]")
        name = mechanism.encode().upper().decode()  # ASCII has capital letters, others have some that look like them
        if name not in self.service.policy.mechanisms:
            raise _Refused("504 5.5.4 Unrecognized authentication type")
        exchange = sasl.begin(name, self.service.accounts, self.hostname, self.service.nonces)
        try:
            self.account = await self._prove(exchange, initial)
        except _Refused as refused:
            raise _Refused(self._failed(str(refused))) from None
        self._session.authenticated = True
        self._reply("235 2.7.0 Authentication successful")

    async def _prove(self, exchange: sasl.Exchange, initial: list[str]) -> Account:
        """Carry an exchange on to its end. Raises _Refused, also when the client gives up or does not say base64."""
        response = None
        if initial:  # "=" is one of no octets
            response = b"" if initial[0] == "=" else _response(initial[0].encode())
        while isinstance(step := exchange.step(response), sasl.Challenge):
            self._reply(f"334 {b64encode(step.data).decode()}")
            line = await self._line()
            if len(line) > AUTH_LINE:
                raise _Refused("500 5.5.6 Authentication exchange line is too long")
            if line == b"*":
                raise _Refused("501 5.7.0 Authentication cancelled")
            response = _response(line)
        if isinstance(step, sasl.Failure):
            raise _Refused(_AUTH_FAILURES[step.reason])
        return step.account

    def _failed(self, reply: str) -> str:
        self._failed_logins += 1
        return reply if self._failed_logins < FAILED_LOGINS else self._end("421 4.7.0 Too many failed logins")

    async def smtp_MAIL(self, arg: str | None) -> None:
        """RFC 5321 section 4.1.1.2: a message begins; this is where it may be returned to."""
        path = _path(
            arg, "FROM", "501 5.5.4 Syntax: MAIL FROM:<address>", "501 5.1.7 Bad sender's mailbox address syntax"
        )
        parameters = _parameters(path["parameters"], extended=self._session.extended_smtp)
        known = _MAIL_PARAMETERS if self.service.policy.mechanisms else _MAIL_PARAMETERS.keys() - {"AUTH"}
        for keyword, value in parameters.items():
            if keyword not in known:
                raise _Refused(f"555 5.5.4 {keyword} is not supported")
            if not _MAIL_PARAMETERS[keyword].fullmatch(value):
                raise _Refused(f"501 5.5.4 Bad value for {keyword}")
        if int(parameters.get("SIZE", 0)) > SIZE_LIMIT:
            raise _Refused(_TOO_LARGE)
        self._envelope.smtp_utf8 = "SMTPUTF8" in parameters
        self._envelope.mail_from = self._mailbox(path["mailbox"])
        self._reply("250 2.1.0 OK")

    async def smtp_RCPT(self, arg: str | None) -> None:
        """RFC 5321 section 4.1.1.3: one recipient."""
        syntax = "501 5.5.4 Syntax: RCPT TO:<address>"
        path = _path(arg, "TO", syntax, "501 5.1.3 Bad destination mailbox address syntax")
        if not path["mailbox"]:
            raise _Refused("501 5.1.3 A recipient cannot be empty")
        for keyword in _parameters(path["parameters"], extended=self._session.extended_smtp):
            raise _Refused(f"555 5.5.4 {keyword} is not supported")
        mailbox = self._mailbox(path["mailbox"])
        if not self.service.accepts(mailbox):
            raise _Refused("550 5.1.1 No such mailbox here")
        if len(self._envelope.rcpt_tos) >= RECIPIENTS:
            raise _Refused("452 4.5.3 Too many recipients")
        self._envelope.rcpt_tos.append(mailbox)
        self._reply("250 2.1.5 OK")

    def _mailbox(self, mailbox: str) -> str:
        if not mailbox.isascii() and not self._envelope.smtp_utf8:
            raise _Refused("553 5.6.7 An address that is not ASCII needs SMTPUTF8 in MAIL")
        return mailbox

    async def smtp_DATA(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.4: the message itself. It is stored before it is accepted."""
        if arg:
            raise _Refused("501 5.5.4 DATA takes no argument")
        envelope = self._envelope
        self._reply("354 End data with <CR><LF>.<CR><LF>")
        content = await self._content()
        self._forget()
        if content is None:
            raise _Refused(_TOO_LARGE)
        content = canonical(content)
        if not envelope.smtp_utf8 and has_utf8_header(content):
            # RFC 6531 section 3.5. Its reader might not know how to ask for it (RFC 6856).
            raise _Refused("554 5.6.9 A header in UTF-8 needs SMTPUTF8 in MAIL")
        try:
            self.service.deliver(envelope.mail_from or "", envelope.rcpt_tos, content)
        except OSError as error:
            log.error("a message could not be stored: %s", error)
            raise _Refused("452 4.3.1 Insufficient system storage") from error
        self._reply("250 2.0.0 OK: message stored")

    async def smtp_RSET(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.5: forget the message that was begun."""
        if arg:
            raise _Refused("501 5.5.4 RSET takes no argument")
        self._forget()
        self._reply("250 2.0.0 OK")

    async def smtp_NOOP(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.9: nothing."""
        self._reply("250 2.0.0 OK")

    async def smtp_VRFY(self, arg: str) -> None:
        """RFC 5321 section 3.5.3: a server that would tell who has a mailbox here would help spammers."""
        if not arg:
            raise _Refused("501 5.5.4 Syntax: VRFY address")
        self._reply("252 2.0.0 Cannot VRFY user, but will accept message and attempt delivery")

    async def smtp_EXPN(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.7: not offered, for the same reason."""
        self._reply("502 5.5.1 EXPN is not offered")

    async def smtp_HELP(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.8."""
        self._reply(f"214 2.0.0 Commands: {' '.join(COMMANDS)}")

    async def smtp_QUIT(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.10: goodbye."""
        if arg:
            raise _Refused("501 5.5.4 QUIT takes no argument")
        self._reply("221 2.0.0 Bye")
        self._closing = True


def smtp_factory(service: MailService, tls_context: ssl.SSLContext | None = None) -> Callable[[], SmtpProtocol]:
    """What a network calls for each connection."""
    return lambda: SmtpProtocol(service, tls_context=tls_context)


def _response(line: bytes) -> bytes:
    """A client's response from base64 (RFC 4954 section 4)."""
    try:
        return sasl.unbase64(line)
    except ValueError:
        raise _Refused("501 5.5.2 Cannot decode that as base64") from None


def _words(text: str) -> list[str]:
    """What stands between spaces, and no other character that looks like one (RFC 5321 section 4.1.2)."""
    return [word for word in text.split(" ") if word]


def _path(argument: str | None, keyword: str, bad_syntax: str, bad_address: str) -> Mapping[str, str]:
    path = _PATH.fullmatch(argument or "")
    if path and path["keyword"].upper() == keyword:
        return path.groupdict()
    well_begun = re.match(rf"{keyword}: *<", argument or "", re.IGNORECASE | re.ASCII)
    raise _Refused(bad_address if well_begun else bad_syntax)


def _parameters(text: str, *, extended: bool) -> dict[str, str]:
    """A command's parameters by upper-case keyword, "" for one without value (RFC 5321 section 4.1.2)."""
    parameters: dict[str, str] = {}
    for part in _words(text):
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None or parameter["keyword"].upper() in parameters:
            raise _Refused("501 5.5.4 Bad or repeated parameter")
        parameters[parameter["keyword"].upper()] = parameter["value"] or ""
    if parameters and not extended:
        raise _Refused("555 5.5.4 Parameters need EHLO")
    return parameters


# What must hold before a command: each of these gives None, or the reply that says what is missing.


def _greeted(smtp: SmtpProtocol) -> str | None:
    return None if smtp._session.host_name else "503 5.5.1 Say EHLO first"


def _extended(smtp: SmtpProtocol) -> str | None:
    return None if smtp._session.extended_smtp else "503 5.5.1 Say EHLO first"


def _secure(smtp: SmtpProtocol) -> str | None:
    needed = smtp.service.policy.security is not Security.NONE and not smtp.encrypted
    return "530 5.7.0 Must issue a STARTTLS command first" if needed else None


def _starttls_offered(smtp: SmtpProtocol) -> str | None:
    return None if smtp.service.policy.security is Security.STARTTLS else "502 5.5.1 STARTTLS is not offered"


def _not_encrypted(smtp: SmtpProtocol) -> str | None:
    return "503 5.5.1 TLS is active already" if smtp.encrypted else None


def _auth_offered(smtp: SmtpProtocol) -> str | None:
    return None if smtp.service.policy.mechanisms else "502 5.5.1 AUTH is not offered"


def _encrypted_for_auth(smtp: SmtpProtocol) -> str | None:
    return _secure(smtp) and "538 5.7.11 Encryption required for requested authentication mechanism"


def _not_authenticated(smtp: SmtpProtocol) -> str | None:
    return "503 5.5.1 Already authenticated" if smtp.account else None


def _authenticated(smtp: SmtpProtocol) -> str | None:
    needed = smtp.service.policy.auth_required and not smtp.account
    return "530 5.7.0 Authentication required" if needed else None


def _has_read_mail(smtp: SmtpProtocol) -> str | None:
    window = smtp.service.policy.pop_window
    if window is None or smtp.service.may_send(smtp._peer):
        return None
    return f"530 5.7.0 Read your mail first: a POP3 login lets this address send for {window.total_seconds() / 60:g} minutes"


def _no_transaction(smtp: SmtpProtocol) -> str | None:
    begun = smtp._envelope.mail_from is not None
    return "503 5.5.1 A mail transaction is in progress" if begun else None


def _sender(smtp: SmtpProtocol) -> str | None:
    return None if _no_transaction(smtp) else "503 5.5.1 Say MAIL first"


def _recipient(smtp: SmtpProtocol) -> str | None:
    return None if smtp._envelope.rcpt_tos else "503 5.5.1 No valid recipients: say RCPT first"


_Need = Callable[[SmtpProtocol], str | None]

COMMANDS: Mapping[str, tuple[_Need, ...]] = MappingProxyType(
    {
        "EHLO": (),
        "HELO": (_secure,),
        "STARTTLS": (_starttls_offered, _extended, _not_encrypted),
        "AUTH": (_auth_offered, _extended, _encrypted_for_auth, _not_authenticated, _no_transaction),
        "MAIL": (_secure, _greeted, _authenticated, _has_read_mail, _no_transaction),
        "RCPT": (_secure, _greeted, _authenticated, _sender),
        "DATA": (_secure, _greeted, _authenticated, _sender, _recipient),
        "RSET": (_secure,),
        "VRFY": (_secure, _authenticated),
        "EXPN": (_secure, _authenticated),
        "HELP": (_secure,),
        "NOOP": (),
        "QUIT": (),
    }
)

_METHODS = tuple(f"smtp_{command}" for command in COMMANDS)

_AUTH_FAILURES: Mapping[sasl.Reason, str] = MappingProxyType(
    {
        sasl.Reason.CREDENTIALS: "535 5.7.8 Authentication credentials invalid",
        sasl.Reason.MALFORMED: "501 5.5.2 That is not a message of this mechanism",
        sasl.Reason.SERVER_FIRST: "501 5.7.0 This mechanism has no initial response: the server speaks first",
    }
)

_MAIL_PARAMETERS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "SIZE": re.compile(r"[0-9]{1,20}"),  # RFC 1870 section 4
        "BODY": re.compile(r"7BIT|8BITMIME", re.IGNORECASE | re.ASCII),  # RFC 6152
        "SMTPUTF8": re.compile(r""),  # RFC 6531 section 3.4
        "AUTH": _XTEXT,  # RFC 4954 section 5
    }
)

_TOO_LARGE = "552 5.3.4 Message size exceeds the maximum that EHLO announced"
