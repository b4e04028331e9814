"""POP3 (RFC 1939) as a table and the machine that carries it out.

Theory of operation. A POP3 session (RFC 1939 section 3) begins in AUTHORIZATION; a good login locks the account's
maildrop and leads to TRANSACTION, where messages are listed, read and marked; QUIT leads to UPDATE, and only there are
marked messages deleted. However else a session ends, nothing is deleted and the lock is released. Three states refine
this: PASSWORD (a name was given, and PASS must follow at once), EXCHANGE (a SASL mechanism's challenges and responses)
and NEGOTIATION (STLS was accepted, TLS is about to begin). CLOSED is every end that is not UPDATE.

TABLE is the whole protocol: (state, verb) → what the argument looks like, who does the work, and where each status leads.
What is not in the table, or has the wrong argument, is refused and changes nothing, except that it ends PASSWORD;
Status.ENOUGH always leads to CLOSED. Lines, time and TLS are `labkit.mail.server`'s affair.
"""

import asyncio
import hashlib
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from types import MappingProxyType

from labkit.mail import sasl
from labkit.mail.accounts import Account
from labkit.mail.maildrop import Maildrop, Message, has_utf8_header, header_end
from labkit.mail.policy import Security
from labkit.mail.server import FAILED_LOGINS, UNKNOWN_COMMANDS, Machine, ServerConnection, Want, address_of, is_http
from labkit.mail.service import MailService

AUTOLOGOUT = 600.0  # seconds; RFC 1939 section 3 wants at least 10 minutes
COMMAND_LIMIT = 255  # octets with CRLF; RFC 2449 section 4

CRLF = b"\r\n"


class Pop3State(StrEnum):
    """Where a session is."""

    AUTHORIZATION = "AUTHORIZATION"
    PASSWORD = "PASSWORD"  # AUTHORIZATION, and the previous command was an accepted USER
    EXCHANGE = "EXCHANGE"  # AUTHORIZATION, between AUTH and its outcome
    NEGOTIATION = "NEGOTIATION"  # between the +OK to STLS and the end of the TLS handshake
    TRANSACTION = "TRANSACTION"
    UPDATE = "UPDATE"
    CLOSED = "CLOSED"


class Status(Enum):
    """What a command came to; the table says where each leads."""

    OK = auto()
    TOLD = auto()  # a positive answer that changes nothing: AUTH's list of mechanisms logs nobody in
    ERR = auto()
    MORE = auto()  # a SASL challenge (RFC 5034 section 4)
    ENOUGH = auto()  # refused, and the server ends the session


INDICATORS: Mapping[Status, bytes] = MappingProxyType(
    {Status.OK: b"+OK", Status.TOLD: b"+OK", Status.ERR: b"-ERR", Status.MORE: b"+", Status.ENOUGH: b"-ERR"}
)


@dataclass(frozen=True, slots=True)
class Argument:
    """What may follow a verb and its blank: a pattern for all of it, and the same for people."""

    pattern: re.Pattern[bytes]
    usage: str


def _argument(pattern: bytes, usage: str = "") -> Argument:
    return Argument(re.compile(pattern, re.DOTALL), usage)


NOTHING = _argument(rb" *")
TEXT = _argument(rb"(.+)", " text")  # a name or a password may contain blanks, also at its end
NUMBER = _argument(rb"([0-9]{1,20}) *", " message")
MAYBE_NUMBER = _argument(rb"([0-9]{1,20})? *", " [message]")
TWO_NUMBERS = _argument(rb"([0-9]{1,20}) +([0-9]{1,20}) *", " message lines")
NAME_AND_DIGEST = _argument(rb"(.+) ([0-9A-Fa-f]{32}) *", " name digest")
MECHANISM = _argument(rb"(?:([^ ]+)(?: +([^ ]+))?)? *", " [mechanism [initial-response]]")
RESPONSE = _argument(rb"(.*)")


@dataclass(frozen=True, slots=True)
class Pop3Transition:
    """One row of the table: the argument's rule, the machine's method that does the work, and where each status leads.

    login: outside TLS it is refused where the policy asks for TLS.
    """

    argument: Argument
    handler: str
    ok: Pop3State
    err: Pop3State
    login: bool = False

    def leads_to(self, status: Status) -> Pop3State:
        """The state after a command that came to this."""
        states = {
            Status.OK: self.ok,
            Status.TOLD: self.err,
            Status.ERR: self.err,
            Status.MORE: Pop3State.EXCHANGE,
            Status.ENOUGH: Pop3State.CLOSED,
        }
        return states[status]


def _rows() -> Iterator[tuple[tuple[Pop3State, str], Pop3Transition]]:
    before, named, during = Pop3State.AUTHORIZATION, Pop3State.PASSWORD, Pop3State.TRANSACTION
    for state in (before, named):  # any command but PASS makes the session forget the name (RFC 1939 section 7, PASS)
        yield (state, "USER"), Pop3Transition(TEXT, "user", ok=named, err=before, login=True)
        yield (state, "APOP"), Pop3Transition(NAME_AND_DIGEST, "apop", ok=during, err=before, login=True)
        yield (state, "AUTH"), Pop3Transition(MECHANISM, "auth", ok=during, err=before, login=True)
        yield (state, "CAPA"), Pop3Transition(NOTHING, "capa", ok=before, err=before)
        yield (state, "STLS"), Pop3Transition(NOTHING, "stls", ok=Pop3State.NEGOTIATION, err=before)
        yield (state, "UTF8"), Pop3Transition(NOTHING, "utf8", ok=before, err=before)
        yield (state, "QUIT"), Pop3Transition(NOTHING, "leave", ok=Pop3State.CLOSED, err=before)
    yield (before, "PASS"), Pop3Transition(TEXT, "password_without_name", ok=before, err=before, login=True)
    yield (named, "PASS"), Pop3Transition(TEXT, "password", ok=during, err=before)
    yield (
        (Pop3State.EXCHANGE, ""),
        Pop3Transition(RESPONSE, "advance", ok=during, err=before),
    )  # a line here has no verb
    yield (during, "STAT"), Pop3Transition(NOTHING, "stat", ok=during, err=during)
    yield (during, "LIST"), Pop3Transition(MAYBE_NUMBER, "list", ok=during, err=during)
    yield (during, "UIDL"), Pop3Transition(MAYBE_NUMBER, "uidl", ok=during, err=during)
    yield (during, "RETR"), Pop3Transition(NUMBER, "retr", ok=during, err=during)
    yield (during, "TOP"), Pop3Transition(TWO_NUMBERS, "top", ok=during, err=during)
    yield (during, "DELE"), Pop3Transition(NUMBER, "dele", ok=during, err=during)
    yield (during, "NOOP"), Pop3Transition(NOTHING, "noop", ok=during, err=during)
    yield (during, "RSET"), Pop3Transition(NOTHING, "rset", ok=during, err=during)
    yield (during, "CAPA"), Pop3Transition(NOTHING, "capa", ok=during, err=during)
    yield (during, "QUIT"), Pop3Transition(NOTHING, "update", ok=Pop3State.UPDATE, err=Pop3State.UPDATE)


TABLE: Mapping[tuple[Pop3State, str], Pop3Transition] = MappingProxyType(dict(_rows()))
AFTER_A_REFUSAL: Mapping[Pop3State, Pop3State] = MappingProxyType({Pop3State.PASSWORD: Pop3State.AUTHORIZATION})
_WANTS: Mapping[Pop3State, Want] = MappingProxyType(
    {
        Pop3State.EXCHANGE: Want.RESPONSE,
        Pop3State.NEGOTIATION: Want.TLS,
        Pop3State.UPDATE: Want.NOTHING,
        Pop3State.CLOSED: Want.NOTHING,
    }
)
VERBS = frozenset(verb for _state, verb in TABLE if verb)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its outcome, the rest of its first line, and for a multi-line answer the stuffed lines that follow."""

    status: Status
    text: str
    lines: bytes | None = None

    def __bytes__(self) -> bytes:
        first = b"%b %b\r\n" % (INDICATORS[self.status], self.text.encode())
        return first if self.lines is None else b"".join((first, self.lines, b".\r\n"))


def _ok(text: str, lines: bytes | None = None) -> Response:
    return Response(Status.OK, text, lines)


def _err(text: str) -> Response:
    return Response(Status.ERR, text)


TOO_LONG = _err("Line too long")
TOO_MANY_UNKNOWN = Response(Status.ENOUGH, "Too many unknown commands")
NOT_HTTP = Response(Status.ENOUGH, "This is POP3 and not HTTP")
NO_SUCH_MESSAGE = _err("No such message")
# RFC 3206 section 4 keeps [AUTH] for credentials that are wrong: a client that reads it asks its user for a new password.
LOGIN_FAILURES: Mapping[sasl.Reason, str] = MappingProxyType(
    {
        sasl.Reason.CREDENTIALS: "[AUTH] Login failed",
        sasl.Reason.MALFORMED: "That response does not belong to this mechanism",
        sasl.Reason.NOT_BASE64: "That is not base64",
        sasl.Reason.CANCELLED: "AUTH cancelled",
        sasl.Reason.TOO_LONG: "Line too long",
        sasl.Reason.SERVER_FIRST: "In this mechanism the server speaks first: send no initial response",
    }
)


class Pop3Machine(Machine):
    """One session of a mail program with the provider's POP3 server. can_start_tls: there is a certificate to start it with.

    The maildrop's lock is free after QUIT's reply and after `close`, which may be called at any time.
    """

    command_limit = COMMAND_LIMIT
    state = Pop3State.AUTHORIZATION
    _negotiation: sasl.Negotiation

    def __init__(self, service: MailService, *, can_start_tls: bool = False) -> None:
        self.patience = AUTOLOGOUT
        self._service = service
        self._policy = service.policy
        self._can_start_tls = can_start_tls
        self._failures = 0
        self._unknown = 0
        self._utf8 = False
        self._name = ""
        self._drop: Maildrop | None = None
        self._messages: tuple[Message, ...] = ()
        self._marked: set[int] = set()

    @property
    def wants(self) -> Want:
        return _WANTS.get(self.state, Want.COMMAND)

    def begin(self, transport: asyncio.BaseTransport) -> None:
        self._peer = address_of(transport)
        self._secured = transport.get_extra_info("ssl_object") is not None
        self.state = Pop3State.AUTHORIZATION

    def greeting(self) -> bytes:
        """Commands may have come already: POP3 may be pipelined (RFC 2449 section 6.6), and is, when spoken from a file."""
        self._timestamp = self._service.nonces.challenge(self._service.hostname)
        return bytes(_ok(f"POP3 server ready {self._timestamp}"))

    async def answer(self, said: bytes, cut: bool) -> bytes:
        return bytes(self.respond(said, cut))

    def respond(self, line: bytes, cut: bool = False) -> Response:
        """The work of one line."""
        verb, argument = self._split(line)
        transition = TABLE.get((self.state, verb))
        match = transition.argument.pattern.fullmatch(argument) if transition else None
        if transition is not None and match is not None and (not cut or self.state is Pop3State.EXCHANGE):
            handler: Callable[[re.Match[bytes]], Response] = getattr(self, transition.handler)
            response = (transition.login and self._refuse_in_the_clear()) or handler(match)
            self.state = transition.leads_to(response.status)
        else:
            response = TOO_LONG if cut and not is_http(line) else self._refusal(line, verb, transition)
            self.state = AFTER_A_REFUSAL.get(self.state, self.state)
        if response.status is Status.ENOUGH:
            self.close()
        return response

    def close(self) -> None:
        """The connection is gone or must go: delete nothing, free the lock."""
        if self.state is not Pop3State.UPDATE:
            self.state = Pop3State.CLOSED
        self._release()

    def _release(self) -> None:
        if self._drop is not None:
            self._drop.release()
            self._drop = None

    def _split(self, line: bytes) -> tuple[str, bytes]:
        if self.state is Pop3State.EXCHANGE:
            return "", line
        verb, _blank, argument = line.partition(b" ")
        return verb.upper().decode("ascii", "replace"), argument

    def _refusal(self, line: bytes, verb: str, transition: Pop3Transition | None) -> Response:
        if is_http(line):
            return NOT_HTTP
        if transition is not None:
            return _err(f"Syntax: {verb}{transition.argument.usage}")
        if verb in VERBS:
            return _err(f"{verb} is not possible in the {self.state} state")
        self._unknown += 1
        return _err("Unknown command") if self._unknown < UNKNOWN_COMMANDS else TOO_MANY_UNKNOWN

    # AUTHORIZATION

    def user(self, match: re.Match[bytes]) -> Response:
        """USER: take any name, so that nobody learns which exist (RFC 1939 section 7)."""
        self._name = match[1].decode("utf-8", "replace")
        return _ok("Now the password")

    def password(self, match: re.Match[bytes]) -> Response:
        """PASS, right after USER."""
        accounts = self._service.accounts
        return self._log_in(accounts.verify(self._name, match[1], accounts.secret(self._name).encode()))

    def password_without_name(self, match: re.Match[bytes]) -> Response:
        """PASS, but not right after an accepted USER."""
        return _err("PASS comes right after USER")

    def apop(self, match: re.Match[bytes]) -> Response:
        """APOP: the digest is MD5 over the greeting's timestamp and the password (RFC 1939 section 7)."""
        name, digest = match[1].decode("utf-8", "replace"), match[2].lower()
        shared = (self._timestamp + self._service.accounts.secret(name)).encode()
        expected = hashlib.md5(shared, usedforsecurity=False).hexdigest().encode()
        return self._log_in(self._service.accounts.verify(name, digest, expected))

    def auth(self, match: re.Match[bytes]) -> Response:
        """AUTH with a mechanism (RFC 5034). Without one, list them: older mail programs ask that way before CAPA existed."""
        if not self._policy.mechanisms:
            return _err("AUTH is not offered here")
        if match[1] is None:
            return Response(Status.TOLD, "Mechanisms follow", _listing(self._policy.mechanisms))
        mechanism = match[1].upper().decode("ascii", "replace")
        if mechanism not in self._policy.mechanisms:
            return _err("Mechanism not offered")
        self._negotiation = self._service.negotiation(mechanism)
        return self._advance(self._negotiation.begin(match[2]))

    def advance(self, match: re.Match[bytes]) -> Response:
        """A response inside AUTH."""
        return self._advance(self._negotiation.take(match[1]))

    def _advance(self, step: sasl.Step) -> Response:
        match step:
            case sasl.Challenge(line=line):
                return Response(Status.MORE, line)
            case sasl.Success(account):
                return self._log_in(account)
            case sasl.Failure(reason):
                return self._failed(LOGIN_FAILURES[reason])

    def stls(self, match: re.Match[bytes]) -> Response:
        """STLS (RFC 2595 section 4). Anything that arrived behind it was not said inside TLS and must not be believed."""
        if not self._offers_tls():
            return _err("TLS is already active" if self._secured else "STLS is not offered here")
        if self._utf8:
            return _err("STLS comes before UTF8")  # RFC 6856 section 2.1
        if self.pipelined:
            return Response(Status.ENOUGH, "Wait for the answer to STLS before you say more")
        return _ok("Begin TLS")

    def utf8(self, match: re.Match[bytes]) -> Response:
        """UTF8: the client can read UTF-8 in message headers (RFC 6856 section 2)."""
        self._utf8 = True
        return _ok("UTF8 enabled")

    def leave(self, match: re.Match[bytes]) -> Response:
        """QUIT before login: there is nothing to update."""
        return _ok("Bye")

    def _refuse_in_the_clear(self) -> Response | None:
        if self._secured or self._policy.security is Security.NONE:
            return None
        return _err("Encryption required: use STLS first" if self._offers_tls() else "Encryption required")

    def _offers_tls(self) -> bool:
        return self._policy.security is Security.STARTTLS and self._can_start_tls and not self._secured

    def _log_in(self, account: Account | None) -> Response:
        if account is None:
            return self._failed(LOGIN_FAILURES[sasl.Reason.CREDENTIALS])
        drop = self._service.maildrops[account.local_part]
        if not drop.acquire():
            return _err("[IN-USE] Another session has this maildrop open")
        self._drop = drop
        try:
            self._messages = drop.messages()
        except OSError:
            self._release()
            return _err("[SYS/TEMP] The maildrop cannot be read")
        self._service.popped(self._peer)
        return _ok(self._summary())

    def _failed(self, text: str) -> Response:
        self._failures += 1
        return Response(Status.ENOUGH if self._failures >= FAILED_LOGINS else Status.ERR, text)

    # TRANSACTION

    def stat(self, match: re.Match[bytes]) -> Response:
        """STAT: how many messages, how many octets, without the marked ones."""
        present = self._present()
        return _ok(f"{len(present)} {_size(present.values())}")

    def list(self, match: re.Match[bytes]) -> Response:
        """LIST: octets of each message or of one."""
        return self._scan(match[1], lambda message: len(message.content))

    def uidl(self, match: re.Match[bytes]) -> Response:
        """UIDL: the name of each message or of one that stays the same from session to session."""
        return self._scan(match[1], lambda message: message.uid)

    def retr(self, match: re.Match[bytes]) -> Response:
        """RETR: a whole message."""
        return self._deliver(match[1], lambda content: content)

    def top(self, match: re.Match[bytes]) -> Response:
        """TOP: a message's header, the blank line, and the first lines of its body."""
        return self._deliver(match[1], lambda content: top(content, int(match[2])))

    def dele(self, match: re.Match[bytes]) -> Response:
        """DELE: mark a message; only QUIT deletes it."""
        if self._message(match[1]) is None:
            return NO_SUCH_MESSAGE
        self._marked.add(int(match[1]))
        return _ok("Marked for deletion")

    def noop(self, match: re.Match[bytes]) -> Response:
        """NOOP: nothing."""
        return _ok("Still here")

    def rset(self, match: re.Match[bytes]) -> Response:
        """RSET: take all marks back."""
        self._marked.clear()
        return _ok(self._summary())

    def update(self, match: re.Match[bytes]) -> Response:
        """QUIT after login: delete what is marked, free the lock (RFC 1939 section 6)."""
        assert self._drop is not None  # noqa: S101 - the table leads here only from TRANSACTION
        try:
            self._drop.delete([self._messages[number - 1].uid for number in sorted(self._marked)])
        except OSError:
            return _err("[SYS/TEMP] Some marked messages were not deleted")
        finally:
            self._release()
        return _ok("Bye")

    def _present(self) -> dict[int, Message]:
        """The messages that are not marked, by number."""
        return {n: message for n, message in enumerate(self._messages, 1) if n not in self._marked}

    def _message(self, number: bytes) -> Message | None:
        """The message of this number, if there is one that is not marked."""
        n = int(number)
        return self._messages[n - 1] if 0 < n <= len(self._messages) and n not in self._marked else None

    def _summary(self) -> str:
        present = self._present()
        return f"{len(present)} {'message' if len(present) == 1 else 'messages'} ({_size(present.values())} octets)"

    def _scan(self, number: bytes | None, fact: Callable[[Message], object]) -> Response:
        if number is None:
            listing = _listing(f"{n} {fact(message)}" for n, message in self._present().items())
            return _ok(self._summary(), listing)
        message = self._message(number)
        return _ok(f"{int(number)} {fact(message)}") if message else NO_SUCH_MESSAGE

    def _deliver(self, number: bytes, part: Callable[[bytes], bytes]) -> Response:
        message = self._message(number)
        if message is None:
            return NO_SUCH_MESSAGE
        if not self._utf8 and has_utf8_header(message.content):
            return _err("[UTF8] This message's header is in UTF-8: say UTF8 before login")  # RFC 6856 section 6
        content = part(message.content)
        return _ok(f"{len(content)} octets", stuff(content))

    # Any state

    def capa(self, match: re.Match[bytes]) -> Response:
        """CAPA (RFC 2449 section 5): what this server can do, inside or outside TLS as it is now."""
        return _ok("Capability list follows", _listing(self._capabilities()))

    def _capabilities(self) -> Iterator[str]:
        yield from ("TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "UTF8")
        if not self._refuse_in_the_clear():
            yield "USER"
            if self._policy.mechanisms:
                yield "SASL " + " ".join(self._policy.mechanisms)
        if self._offers_tls():
            yield "STLS"
        yield "IMPLEMENTATION labkit"


# Messages as they cross the wire. A stored message ends every line with CRLF, so its size is its size on the wire before
# stuffing, which is what RFC 1939 section 11 wants to see counted.


def _size(messages: Iterable[Message]) -> int:
    return sum(len(message.content) for message in messages)


def stuff(content: bytes) -> bytes:
    """A message as the lines of a multi-line answer: one that begins with a dot gets another (RFC 1939 section 3)."""
    opening = b"." if content.startswith(b".") else b""
    return opening + content.replace(b"\r\n.", b"\r\n..")


def top(content: bytes, lines: int) -> bytes:
    """Header, blank line and so many lines of the body (RFC 1939 section 7, TOP); everything if there are not so many."""
    begin = header_end(content)
    # Possessive: nothing is remembered of the lines, of which there may be millions.
    wanted = re.compile(rb"(?:[^\n]*+\n){0,%d}+" % min(lines, len(content)))
    match = wanted.match(content, begin)
    return content[: match.end()] if match else content


def _listing(lines: Iterable[str]) -> bytes:
    return b"".join(line.encode() + CRLF for line in lines)


def pop3_factory(service: MailService, tls_context: ssl.SSLContext | None = None) -> Callable[[], ServerConnection]:
    """What a network calls for each connection."""
    return lambda: ServerConnection(Pop3Machine(service, can_start_tls=tls_context is not None), tls_context)
