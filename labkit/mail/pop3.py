"""The POP3 server: a state machine that never touches a socket, and the thin asyncio shell that gives it one.

Theory of operation. A POP3 session (RFC 1939 section 3) begins in AUTHORIZATION; a good login locks the account's
maildrop and leads to TRANSACTION, where messages are listed, read and marked; QUIT leads to UPDATE, and only there are
marked messages deleted. However else a session ends, nothing is deleted and the lock is released. Three states refine
this: PASSWORD (a name was given, and PASS must follow at once), EXCHANGE (a SASL mechanism's challenges and responses)
and NEGOTIATION (STLS was accepted, TLS is about to begin). CLOSED is every end that is not UPDATE.

TABLE is the whole protocol: (state, verb) → what the argument looks like, who does the work, and where each outcome leads.
What is not in the table, or has the wrong argument, is refused and changes nothing, except that it ends PASSWORD and
EXCHANGE; Outcome.ENOUGH always leads to CLOSED. `Machine` turns received bytes into events; `Pop3Protocol` turns events
into calls on its transport. It uses its transport and its loop, nothing else.
"""

import asyncio
import hashlib
import re
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from types import MappingProxyType
from typing import cast

from labkit.mail import sasl
from labkit.mail.accounts import Account
from labkit.mail.maildrop import Maildrop, Message, has_utf8_header, header_end
from labkit.mail.policy import Security
from labkit.mail.server import FAILED_LOGINS, UNKNOWN_COMMANDS, is_http
from labkit.mail.service import MailService

AUTOLOGOUT = 600.0  # seconds; RFC 1939 section 3 wants at least 10 minutes
COMMAND_LIMIT = 255  # octets with CRLF; RFC 2449 section 4
AUTH_LIMIT = 12_288  # octets with CRLF; what RFC 4954 section 4 wants for a base64 line, and room for every mechanism
TURN = 100  # replies to one client, before the others have their turn

CRLF = b"\r\n"


class State(StrEnum):
    """Where a session is."""

    AUTHORIZATION = "AUTHORIZATION"
    PASSWORD = "PASSWORD"  # AUTHORIZATION, and the previous command was an accepted USER
    EXCHANGE = "EXCHANGE"  # AUTHORIZATION, between AUTH and its outcome
    NEGOTIATION = "NEGOTIATION"  # between the +OK to STLS and the end of the TLS handshake
    TRANSACTION = "TRANSACTION"
    UPDATE = "UPDATE"
    CLOSED = "CLOSED"


class Outcome(Enum):
    """What a command came to; the table says where each leads."""

    OK = auto()
    TOLD = auto()  # a positive answer that changes nothing: AUTH's list of mechanisms logs nobody in
    ERR = auto()
    MORE = auto()  # a SASL challenge (RFC 5034 section 4)
    ENOUGH = auto()  # refused, and the server ends the session


INDICATORS: Mapping[Outcome, bytes] = MappingProxyType(
    {Outcome.OK: b"+OK", Outcome.TOLD: b"+OK", Outcome.ERR: b"-ERR", Outcome.MORE: b"+", Outcome.ENOUGH: b"-ERR"}
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
class Transition:
    """One row of the table: the argument's rule, the Machine's method that does the work, and where each outcome leads."""

    argument: Argument
    handler: str
    ok: State
    err: State
    more: State = State.EXCHANGE

    def leads_to(self, outcome: Outcome) -> State:
        """The state after a command that came to this."""
        states = {
            Outcome.OK: self.ok,
            Outcome.TOLD: self.err,
            Outcome.ERR: self.err,
            Outcome.MORE: self.more,
            Outcome.ENOUGH: State.CLOSED,
        }
        return states[outcome]


def _rows() -> Iterator[tuple[tuple[State, str], Transition]]:
    before, named, during = State.AUTHORIZATION, State.PASSWORD, State.TRANSACTION
    for state in (before, named):  # any command but PASS makes the session forget the name (RFC 1939 section 7, PASS)
        yield (state, "USER"), Transition(TEXT, "user", ok=named, err=before)
        yield (state, "APOP"), Transition(NAME_AND_DIGEST, "apop", ok=during, err=before)
        yield (state, "AUTH"), Transition(MECHANISM, "auth", ok=during, err=before)
        yield (state, "CAPA"), Transition(NOTHING, "capa", ok=before, err=before)
        yield (state, "STLS"), Transition(NOTHING, "stls", ok=State.NEGOTIATION, err=before)
        yield (state, "UTF8"), Transition(NOTHING, "utf8", ok=before, err=before)
        yield (state, "QUIT"), Transition(NOTHING, "leave", ok=State.CLOSED, err=before)
    yield (before, "PASS"), Transition(TEXT, "password_without_name", ok=before, err=before)
    yield (named, "PASS"), Transition(TEXT, "password", ok=during, err=before)
    yield (State.EXCHANGE, ""), Transition(RESPONSE, "respond", ok=during, err=before)  # a line here has no verb
    yield (during, "STAT"), Transition(NOTHING, "stat", ok=during, err=during)
    yield (during, "LIST"), Transition(MAYBE_NUMBER, "list", ok=during, err=during)
    yield (during, "UIDL"), Transition(MAYBE_NUMBER, "uidl", ok=during, err=during)
    yield (during, "RETR"), Transition(NUMBER, "retr", ok=during, err=during)
    yield (during, "TOP"), Transition(TWO_NUMBERS, "top", ok=during, err=during)
    yield (during, "DELE"), Transition(NUMBER, "dele", ok=during, err=during)
    yield (during, "NOOP"), Transition(NOTHING, "noop", ok=during, err=during)
    yield (during, "RSET"), Transition(NOTHING, "rset", ok=during, err=during)
    yield (during, "CAPA"), Transition(NOTHING, "capa", ok=during, err=during)
    yield (during, "QUIT"), Transition(NOTHING, "update", ok=State.UPDATE, err=State.UPDATE)


TABLE: Mapping[tuple[State, str], Transition] = MappingProxyType(dict(_rows()))
AFTER_A_REFUSAL: Mapping[State, State] = MappingProxyType(
    {State.PASSWORD: State.AUTHORIZATION, State.EXCHANGE: State.AUTHORIZATION}
)
VERBS = frozenset(verb for _state, verb in TABLE if verb)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its outcome, the rest of its first line, and for a multi-line answer the stuffed lines that follow."""

    outcome: Outcome
    text: str
    lines: bytes | None = None

    def __bytes__(self) -> bytes:
        first = b"%b %b\r\n" % (INDICATORS[self.outcome], self.text.encode())
        return first if self.lines is None else b"".join((first, self.lines, b".\r\n"))


def _ok(text: str, lines: bytes | None = None) -> Reply:
    return Reply(Outcome.OK, text, lines)


def _err(text: str) -> Reply:
    return Reply(Outcome.ERR, text)


@dataclass(frozen=True, slots=True)
class Send:
    """Event: give these bytes to the client."""

    data: bytes


class Signal(Enum):
    """Events without a value."""

    NEED_DATA = auto()
    START_TLS = auto()  # become the server of a TLS handshake, then call tls_started()
    CLOSE = auto()


Event = Send | Signal

TOO_LONG = _err("Line too long")
TOO_MANY_UNKNOWN = Reply(Outcome.ENOUGH, "Too many unknown commands")
NOT_HTTP = Reply(Outcome.ENOUGH, "This is POP3 and not HTTP")
NO_SUCH_MESSAGE = _err("No such message")
# RFC 3206 section 4 keeps [AUTH] for credentials that are wrong: a client that reads it asks its user for a new password.
LOGIN_FAILURES: Mapping[sasl.Reason, str] = MappingProxyType(
    {
        sasl.Reason.CREDENTIALS: "[AUTH] Login failed",
        sasl.Reason.MALFORMED: "That response does not belong to this mechanism",
        sasl.Reason.SERVER_FIRST: "In this mechanism the server speaks first: send no initial response",
    }
)


class Machine:
    """One session's protocol: `receive` bytes, then take `next_event` until it is NEED_DATA or CLOSE.

    timestamp: `<digits.digits@host>`, different for every session (RFC 1939 section 7, APOP).
    secured: the connection is inside TLS. can_start_tls: there is a certificate to start it with.
    Raises nothing for any bytes; the lock is free after QUIT's reply and after `close`, which may be called at any time.
    """

    def __init__(
        self, service: MailService, *, peer: str, timestamp: str, secured: bool = False, can_start_tls: bool = False
    ) -> None:
        self._service = service
        self._policy = service.policy
        self._peer = peer
        self._timestamp = timestamp
        self._secured = secured
        self._can_start_tls = can_start_tls
        self._state = State.AUTHORIZATION
        self._inbox = bytearray()
        self._skipping = False  # inside a line that was refused as too long
        self._greeted = False
        self._failures = 0
        self._unknown = 0
        self._utf8 = False
        self._name = ""
        self._exchange: sasl.Exchange | None = None
        self._drop: Maildrop | None = None
        self._messages: tuple[Message, ...] = ()
        self._marked: set[int] = set()

    @property
    def state(self) -> State:
        """Where the session is."""
        return self._state

    def receive(self, data: bytes) -> None:
        """Take bytes from the client. Bytes between STLS and the handshake are an injection and end the session."""
        if self._state is State.NEGOTIATION:
            self.close()
        else:
            self._inbox += data

    def next_event(self) -> Event:
        """What to do next; the work of one command at most."""
        if not self._greeted:
            self._greeted = True
            return Send(bytes(_ok(f"POP3 server ready {self._timestamp}")))
        if self._state in (State.UPDATE, State.CLOSED):
            return Signal.CLOSE
        if self._state is State.NEGOTIATION:
            return Signal.START_TLS
        line = self._take_line()
        return Signal.NEED_DATA if line is None else Send(bytes(self._answer(line)))

    def tls_started(self) -> None:
        """The handshake succeeded: begin anew inside TLS, knowing nothing of what was said before (RFC 2595 section 4)."""
        self._secured = True
        self._state = State.AUTHORIZATION

    def close(self) -> None:
        """The connection is gone or must go: delete nothing, free the lock."""
        if self._state is not State.UPDATE:
            self._state = State.CLOSED
        self._inbox.clear()
        self._release()

    # Lines

    def _take_line(self) -> bytes | None:
        """The next line without its end; one that is too long comes back cut, its rest is skipped as it arrives."""
        if self._skipping:
            end = self._inbox.find(b"\n")
            self._skipping = end < 0
            del self._inbox[: len(self._inbox) if end < 0 else end + 1]
        if self._skipping:
            return None
        limit = self._limit()
        end = self._inbox.find(b"\n", 0, limit)
        if end < 0 and len(self._inbox) < limit:
            return None
        self._skipping = end < 0
        size = limit if end < 0 else end + 1
        line = bytes(self._inbox[:size])
        del self._inbox[:size]
        return line.removesuffix(b"\n").removesuffix(b"\r")

    def _limit(self) -> int:
        return AUTH_LIMIT if self._state is State.EXCHANGE or self._inbox[:5].upper() == b"AUTH " else COMMAND_LIMIT

    def _answer(self, line: bytes) -> Reply:
        verb, argument = self._split(line)
        transition = TABLE.get((self._state, verb))
        match = transition.argument.pattern.fullmatch(argument) if transition else None
        if self._skipping or transition is None or match is None:
            reply = self._refusal(line, verb, transition)
            self._state = AFTER_A_REFUSAL.get(self._state, self._state)
            if reply.outcome is Outcome.ENOUGH:
                self.close()
            return reply
        handler: Callable[[re.Match[bytes]], Reply] = getattr(self, transition.handler)
        reply = handler(match)
        self._state = transition.leads_to(reply.outcome)
        return reply

    def _split(self, line: bytes) -> tuple[str, bytes]:
        if self._state is State.EXCHANGE:
            return "", line
        verb, _blank, argument = line.partition(b" ")
        return verb.upper().decode("ascii", "replace"), argument

    def _refusal(self, line: bytes, verb: str, transition: Transition | None) -> Reply:
        if is_http(line) and self._state is not State.EXCHANGE:
            return NOT_HTTP
        if self._skipping:
            return self._failed(TOO_LONG.text) if self._state is State.EXCHANGE else TOO_LONG
        if transition is not None:
            return _err(f"Syntax: {verb}{transition.argument.usage}")
        if verb in VERBS:
            return _err(f"{verb} is not possible in the {self._state} state")
        self._unknown += 1
        return _err("Unknown command") if self._unknown < UNKNOWN_COMMANDS else TOO_MANY_UNKNOWN

    # AUTHORIZATION

    def user(self, match: re.Match[bytes]) -> Reply:
        """USER: take any name, so that nobody learns which exist (RFC 1939 section 7)."""
        if refusal := self._refuse_in_the_clear():
            return refusal
        self._name = match[1].decode("utf-8", "replace")
        return _ok("Now the password")

    def password(self, match: re.Match[bytes]) -> Reply:
        """PASS, right after USER."""
        accounts = self._service.accounts
        return self._log_in(accounts.verify(self._name, match[1], accounts.secret(self._name).encode()))

    def password_without_name(self, match: re.Match[bytes]) -> Reply:
        """PASS, but not right after an accepted USER."""
        return self._refuse_in_the_clear() or _err("PASS comes right after USER")

    def apop(self, match: re.Match[bytes]) -> Reply:
        """APOP: the digest is MD5 over the greeting's timestamp and the password (RFC 1939 section 7)."""
        if refusal := self._refuse_in_the_clear():
            return refusal
        name, digest = match[1].decode("utf-8", "replace"), match[2].lower()
        shared = (self._timestamp + self._service.accounts.secret(name)).encode()
        expected = hashlib.md5(shared, usedforsecurity=False).hexdigest().encode()
        return self._log_in(self._service.accounts.verify(name, digest, expected))

    def auth(self, match: re.Match[bytes]) -> Reply:
        """AUTH with a mechanism (RFC 5034). Without one, list them: older mail programs ask that way before CAPA existed."""
        if refusal := self._refuse_in_the_clear():
            return refusal
        if not self._policy.mechanisms:
            return _err("AUTH is not offered here")
        if match[1] is None:
            return Reply(Outcome.TOLD, "Mechanisms follow", _listing(self._policy.mechanisms))
        mechanism = match[1].upper().decode("ascii", "replace")
        if mechanism not in self._policy.mechanisms:
            return _err("Mechanism not offered")
        self._exchange = sasl.begin(mechanism, self._service.accounts, self._service.hostname, self._service.nonces)
        if match[2] is None:
            return self._step(None)
        return self._decode_and_step(b"" if match[2] == b"=" else match[2])

    def respond(self, match: re.Match[bytes]) -> Reply:
        """A response inside AUTH; `*` gives up (RFC 5034 section 4)."""
        if match[1] == b"*":
            self._exchange = None
            return self._failed("AUTH cancelled")
        return self._decode_and_step(match[1])

    def _decode_and_step(self, encoded: bytes) -> Reply:
        try:
            response = sasl.unbase64(encoded)
        except ValueError:
            self._exchange = None
            return self._failed("That is not base64")
        return self._step(response)

    def _step(self, response: bytes | None) -> Reply:
        assert self._exchange is not None  # noqa: S101 - the table leads here only after AUTH began one
        match self._exchange.step(response):
            case sasl.Challenge(data):
                return Reply(Outcome.MORE, b64encode(data).decode())
            case sasl.Success(account):
                self._exchange = None
                return self._log_in(account)
            case sasl.Failure(reason):
                self._exchange = None
                return self._failed(LOGIN_FAILURES[reason])

    def stls(self, match: re.Match[bytes]) -> Reply:
        """STLS (RFC 2595 section 4). Anything that arrived behind it was not said inside TLS and must not be believed."""
        if not self._offers_tls():
            return _err("TLS is already active" if self._secured else "STLS is not offered here")
        if self._utf8:
            return _err("STLS comes before UTF8")  # RFC 6856 section 2.1
        if self._inbox:
            return Reply(Outcome.ENOUGH, "Wait for the answer to STLS before you say more")
        return _ok("Begin TLS")

    def utf8(self, match: re.Match[bytes]) -> Reply:
        """UTF8: the client can read UTF-8 in message headers (RFC 6856 section 2)."""
        self._utf8 = True
        return _ok("UTF8 enabled")

    def leave(self, match: re.Match[bytes]) -> Reply:
        """QUIT before login: there is nothing to update."""
        return _ok("Bye")

    def _refuse_in_the_clear(self) -> Reply | None:
        if self._secured or self._policy.security is Security.NONE:
            return None
        return _err("Encryption required: use STLS first" if self._offers_tls() else "Encryption required")

    def _offers_tls(self) -> bool:
        return self._policy.security is Security.STARTTLS and self._can_start_tls and not self._secured

    def _log_in(self, account: Account | None) -> Reply:
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

    def _failed(self, text: str) -> Reply:
        self._failures += 1
        return Reply(Outcome.ENOUGH if self._failures >= FAILED_LOGINS else Outcome.ERR, text)

    # TRANSACTION

    def stat(self, match: re.Match[bytes]) -> Reply:
        """STAT: how many messages, how many octets, without the marked ones."""
        present = self._present()
        return _ok(f"{len(present)} {_size(present.values())}")

    def list(self, match: re.Match[bytes]) -> Reply:
        """LIST: octets of each message or of one."""
        return self._scan(match[1], lambda message: len(message.content))

    def uidl(self, match: re.Match[bytes]) -> Reply:
        """UIDL: the name of each message or of one that stays the same from session to session."""
        return self._scan(match[1], lambda message: message.uid)

    def retr(self, match: re.Match[bytes]) -> Reply:
        """RETR: a whole message."""
        return self._deliver(match[1], lambda content: content)

    def top(self, match: re.Match[bytes]) -> Reply:
        """TOP: a message's header, the blank line, and the first lines of its body."""
        return self._deliver(match[1], lambda content: top(content, int(match[2])))

    def dele(self, match: re.Match[bytes]) -> Reply:
        """DELE: mark a message; only QUIT deletes it."""
        if self._message(match[1]) is None:
            return NO_SUCH_MESSAGE
        self._marked.add(int(match[1]))
        return _ok("Marked for deletion")

    def noop(self, match: re.Match[bytes]) -> Reply:
        """NOOP: nothing."""
        return _ok("Still here")

    def rset(self, match: re.Match[bytes]) -> Reply:
        """RSET: take all marks back."""
        self._marked.clear()
        return _ok(self._summary())

    def update(self, match: re.Match[bytes]) -> Reply:
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

    def _scan(self, number: bytes | None, fact: Callable[[Message], object]) -> Reply:
        if number is None:
            listing = _listing(f"{n} {fact(message)}" for n, message in self._present().items())
            return _ok(self._summary(), listing)
        message = self._message(number)
        return _ok(f"{int(number)} {fact(message)}") if message else NO_SUCH_MESSAGE

    def _deliver(self, number: bytes, part: Callable[[bytes], bytes]) -> Reply:
        message = self._message(number)
        if message is None:
            return NO_SUCH_MESSAGE
        if not self._utf8 and has_utf8_header(message.content):
            return _err("[UTF8] This message's header is in UTF-8: say UTF8 before login")  # RFC 6856 section 6
        content = part(message.content)
        return _ok(f"{len(content)} octets", stuff(content))

    # Any state

    def capa(self, match: re.Match[bytes]) -> Reply:
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

    def _release(self) -> None:
        if self._drop is not None:
            self._drop.release()
            self._drop = None


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


class Pop3Protocol(asyncio.Protocol):
    """The machine on a transport, one per connection.

    Serves STLS with `tls_context`, through its loop's `start_tls`; without one, STLS is not offered. Inside implicit TLS
    the transport says so itself (extra info `ssl_object`). A reply is one write. While the client does not read, nothing
    more of what it asked for is prepared, and nothing more is read from it; nor while others have their turn.
    """

    _transport: asyncio.Transport
    _machine: Machine

    def __init__(
        self,
        service: MailService,
        *,
        tls_context: ssl.SSLContext | None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._service = service
        self._tls_context = tls_context
        self._loop = loop or asyncio.get_running_loop()
        self._writable = True
        self._upgrade: asyncio.Task[None] | None = None
        self._handshaking = False
        self._early = bytearray()  # said inside TLS before start_tls returned to us
        self._last_heard = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._machine = Machine(
            self._service,
            peer=str(peer[0]) if peer else "",
            timestamp=self._service.nonces.challenge(self._service.hostname),
            secured=transport.get_extra_info("ssl_object") is not None,
            can_start_tls=self._tls_context is not None,
        )
        self._last_heard = self._loop.time()
        self._look_at_the_clock()
        self._pump()

    def data_received(self, data: bytes) -> None:
        """Take what the client said, and answer."""
        if b"\n" in data:  # a command counts, an octet now and then does not (RFC 1939 section 3)
            self._last_heard = self._loop.time()
        if self._handshaking:
            self._early += data
            return
        self._machine.receive(data)
        self._pump()

    def pause_writing(self) -> None:
        """The client does not read: wait for it."""
        self._writable = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again: go on with what it asked for."""
        self._writable = True
        self._last_heard = self._loop.time()
        # Not at once: asyncio's transport calls this in the middle of a write and does not expect close() there.
        self._loop.call_soon(self._pump)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the lock, whatever the session was doing."""
        self._machine.close()
        if self._watch is not None:
            self._watch.cancel()

    def _pump(self) -> None:
        for _ in range(TURN):
            if not self._writable or self._transport.is_closing():
                return
            match self._machine.next_event():
                case Send(data):
                    self._transport.write(data)
                case Signal.NEED_DATA:
                    self._transport.resume_reading()
                    return
                case Signal.START_TLS:
                    if self._upgrade is None:
                        self._transport.pause_reading()
                        self._upgrade = self._loop.create_task(self._start_tls())
                    return
                case Signal.CLOSE:
                    self._transport.close()
        self._transport.pause_reading()
        self._loop.call_soon(self._pump)

    async def _start_tls(self) -> None:
        """Become a TLS server on the same connection. A handshake that fails closes it (start_tls does)."""
        assert self._tls_context is not None  # noqa: S101 - otherwise the machine does not offer STLS
        if self._machine.state is not State.NEGOTIATION:
            return
        self._handshaking = True  # from here on data_received is called from inside TLS
        try:
            secure = await self._loop.start_tls(self._transport, self, self._tls_context, server_side=True)
        except OSError:
            secure = None
        if secure is None:  # also what start_tls returns when the client leaves during the handshake
            self.connection_lost(None)
            return
        self._transport = secure
        self._handshaking = False
        self._machine.tls_started()
        self._machine.receive(bytes(self._early))
        self._early.clear()
        self._pump()

    def _look_at_the_clock(self) -> None:
        """Autologout (RFC 1939 section 3): after ten silent minutes, close without a word and delete nothing."""
        idle = self._loop.time() - self._last_heard
        if idle < AUTOLOGOUT:
            self._watch = self._loop.call_later(AUTOLOGOUT - idle, self._look_at_the_clock)
            return
        self._machine.close()
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # close() would wait for the client to read
        else:
            self._transport.close()
