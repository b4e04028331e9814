"""SASL (RFC 4422): each mechanism is one record with both its ends, spoken by SMTP's AUTH, POP3's AUTH and the mail program.

A mechanism is a conversation, so each end is a generator. The server's yields a Challenge, is sent the client's response,
and returns Success or Failure; the client's yields a response (None where the server speaks first) and is sent the
challenge. Nothing here knows of reply codes or sockets. `Negotiation` is the server's end in the lines of base64 that both
protocols carry. To add a mechanism, add its record to MECHANISMS.
"""

import base64
import hmac
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from scramp import ScramClient, ScramException

from labkit.mail.accounts import SCRAM, Account, Accounts, ScramKeys
from labkit.mail.nonces import Nonces


class Reason(StrEnum):
    """Why a negotiation failed."""

    CREDENTIALS = "credentials"  # name and proof do not belong together, or no right to act as the authzid
    MALFORMED = "malformed"  # the response is not a message of this mechanism
    SERVER_FIRST = "server-first"  # an initial response, in a mechanism where the server speaks first
    NOT_BASE64 = "not-base64"
    CANCELLED = "cancelled"
    TOO_LONG = "too-long"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the server says next; a response must follow."""

    data: bytes

    @property
    def line(self) -> str:
        """As both protocols carry it."""
        return base64.b64encode(self.data).decode()


@dataclass(frozen=True, slots=True)
class Success:
    """The client is the owner of this account."""

    account: Account


@dataclass(frozen=True, slots=True)
class Failure:
    """The negotiation is over without a login."""

    reason: Reason


Step = Challenge | Success | Failure


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server's end knows. hostname: stands in CRAM-MD5's challenge."""

    accounts: Accounts
    hostname: str
    nonces: Nonces


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client's end knows. nonce: SCRAM's, a random one when empty."""

    login: str
    password: str = field(repr=False)
    nonce: str = field(default="", repr=False)


class Unpreparable(ValueError):
    """The password has characters that the mechanism cannot carry (RFC 4013)."""


_ServerSteps = Generator[Challenge, bytes, Success | Failure]
ClientSteps = Generator[bytes | None, bytes, None]


@dataclass(frozen=True, slots=True)
class SaslMechanism:
    """One mechanism. server, client: its ends. The client's raises ValueError for a server that does not keep to it."""

    name: str
    server: Callable[[bytes | None, Verifier], _ServerSteps]
    client: Callable[[Credentials], ClientSteps]


LONGEST_LINE = 12_288  # octets without CRLF (RFC 4954 section 4)
# RFC 4648 section 4. Python's own strict mode takes "=" behind whole groups of four before 3.13.
_OCTETS = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_BASE64 = re.compile(_OCTETS.encode())
# RFC 5802 section 7: client-final-message, whether its nonce and proof are right or not.
_CLIENT_FINAL = re.compile(rf"c={_OCTETS},r=[!-+\--~]+(?:,[A-Za-z]=[^,\0]+)*,p={_OCTETS}")
_LONGEST_FIRST = 1024  # octets of SCRAM's first message: SASLprep (RFC 4013) looks at every character of a name, slowly
_MOST_ITERATIONS = 1_000_000  # of SCRAM: the server names the number, the client does the work

_CREDENTIALS = Failure(Reason.CREDENTIALS)
_MALFORMED = Failure(Reason.MALFORMED)


class Negotiation:
    """The server's end of one exchange, from the AUTH command to its outcome.

    Not to be given more after Success or Failure. It raises nothing for what a client sends.
    """

    def __init__(self, mechanism: str, verifier: Verifier) -> None:
        self._mechanism = MECHANISMS[mechanism]
        self._verifier = verifier
        self._steps: _ServerSteps | None = None

    def begin(self, initial: bytes | None) -> Step:
        """Take the AUTH command's initial response, in base64; None when there is none, "=" for one of no octets."""
        return self.step(None) if initial is None else self.take(b"" if initial == b"=" else initial)

    def take(self, line: bytes) -> Step:
        """Take a line of the client; `*` gives up (RFC 4954 section 4, RFC 5034 section 4)."""
        if len(line) > LONGEST_LINE or line == b"*":
            return Failure(Reason.CANCELLED if line == b"*" else Reason.TOO_LONG)
        if not _BASE64.fullmatch(line):
            return Failure(Reason.NOT_BASE64)
        return self.step(base64.b64decode(line))

    def step(self, response: bytes | None) -> Step:
        """Take the octets of a response; the first may be None (RFC 4422 section 3.3), and b"" is one of no octets."""
        try:
            if self._steps is None:
                self._steps = self._mechanism.server(response, self._verifier)
                return next(self._steps)
            return self._steps.send(response or b"")
        except StopIteration as end:
            outcome: Success | Failure = end.value
            return outcome


def _outcome(account: Account | None) -> Success | Failure:
    return Success(account) if account else _CREDENTIALS


# RFC 4616: authzid NUL authcid NUL password, in one message.


def _plain_server(initial: bytes | None, verifier: Verifier) -> _ServerSteps:
    message = (yield Challenge(b"")) if initial is None else initial
    try:
        authzid, authcid, password = message.decode().split("\0")
    except ValueError:  # not UTF-8, or not three parts
        return _MALFORMED
    if not authcid:
        return _MALFORMED
    account = verifier.accounts.check_password(authcid, password)
    return _outcome(account if authzid in ("", authcid) else None)


def _plain_client(credentials: Credentials) -> ClientSteps:
    yield f"\0{credentials.login}\0{credentials.password}".encode()


# draft-murchison-sasl-login: two prompts, two answers.


def _login_server(initial: bytes | None, verifier: Verifier) -> _ServerSteps:
    name = (yield Challenge(b"Username:")) if initial is None else initial
    password = yield Challenge(b"Password:")
    try:
        return _outcome(verifier.accounts.check_password(name.decode(), password.decode()))
    except UnicodeDecodeError:
        return _MALFORMED


def _login_client(credentials: Credentials) -> ClientSteps:
    yield None
    yield credentials.login.encode()
    yield credentials.password.encode()


# RFC 2195: the client returns its name and the keyed digest of a challenge that is never used twice.


def _cram_md5_server(initial: bytes | None, verifier: Verifier) -> _ServerSteps:
    if initial is not None:
        return Failure(Reason.SERVER_FIRST)
    challenge = verifier.nonces.challenge(verifier.hostname).encode()
    response = yield Challenge(challenge)
    name, space, digest = response.rpartition(b" ")
    try:
        login = name.decode()
    except UnicodeDecodeError:
        return _MALFORMED
    if not space or len(digest) != 32 or digest.strip(b"0123456789abcdefABCDEF"):
        return _MALFORMED
    expected = hmac.new(verifier.accounts.secret(login).encode(), challenge, "md5").hexdigest()
    return _outcome(verifier.accounts.verify(login, digest.lower(), expected.encode()))


def _cram_md5_client(credentials: Credentials) -> ClientSteps:
    challenge = yield None
    yield f"{credentials.login} {hmac.new(credentials.password.encode(), challenge, 'md5').hexdigest()}".encode()


# RFC 5802 and 7677: both sides prove that they know the password, and neither sends it.


def _scram_server(initial: bytes | None, verifier: Verifier) -> _ServerSteps:
    claimed = ""

    def keys(name: str) -> ScramKeys:
        nonlocal claimed
        claimed = name
        return verifier.accounts.scram_keys(name)

    server = SCRAM.make_server(keys, s_nonce=verifier.nonces.nonce())  # type: ignore[no-untyped-call]
    client_first = (yield Challenge(b"")) if initial is None else initial
    if len(client_first) > _LONGEST_FIRST:
        return _MALFORMED
    try:
        header, bare = _Header.split(client_first.decode())
        server.set_client_first(f"{header.flag},,{bare}")
        server.gs2_header = header  # no public name: see _Header
        client_final = (yield Challenge(server.get_server_first().encode())).decode()
    except (UnicodeDecodeError, ScramException):
        return _MALFORMED
    try:
        server.set_client_final(client_final)
    except ScramException:  # another exchange's nonce is no better than a wrong proof (RFC 5802 section 5.1)
        return _CREDENTIALS if _CLIENT_FINAL.fullmatch(client_final) else _MALFORMED
    # SMTP and POP3 have no field for data beside success: server-final is a challenge, and an empty response follows
    # (RFC 4422 section 3.6, RFC 4954 section 4).
    if (yield Challenge(server.get_server_final().encode())):
        return _MALFORMED
    account = verifier.accounts.by_login(claimed)  # scramp compared the proof, in constant time
    return _outcome(account if header.authzid in ("", claimed) else None)


@dataclass(frozen=True, slots=True)
class _Header:
    """What comes before the client's first message (RFC 5802 section 5.1, gs2-header).

    scramp knows it without an authzid only. It takes the rest of the message, and asks this for what the client's last
    message has to repeat.
    """

    flag: str
    authzid: str
    octets: bytes

    @classmethod
    def split(cls, message: str) -> tuple["_Header", str]:
        """The header and the rest. Raises ScramException."""
        found = re.fullmatch(r"(([^,]*),(?:a=([^,]+))?,)(.*)", message, re.DOTALL)
        if not found:
            raise ScramException("a gs2-header has two commas")  # type: ignore[no-untyped-call]
        authzid = (found[3] or "").replace("=2C", ",").replace("=3D", "=")
        return cls(found[2], authzid, found[1].encode()), found[4]

    def make_cbind_input(self, _channel_binding: object) -> bytes:
        """What scramp compares the client's `c=` with."""
        return self.octets


def _scram_client(credentials: Credentials) -> ClientSteps:
    """The last step checks the server's own proof and answers with nothing."""
    names, nonce = [SCRAM.name], credentials.nonce or None
    try:
        client = ScramClient(names, credentials.login, credentials.password, c_nonce=nonce)  # type: ignore[no-untyped-call]
    except ScramException as error:
        raise Unpreparable from error
    try:
        server_first = (yield client.get_client_first().encode()).decode()  # type: ignore[no-untyped-call]
        if int(server_first.rpartition("i=")[2]) > _MOST_ITERATIONS:
            raise ValueError("the server asks for more work than a login is worth")
        client.set_server_first(server_first)  # type: ignore[no-untyped-call]
        server_final = yield client.get_client_final().encode()  # type: ignore[no-untyped-call]
        client.set_server_final(server_final.decode())  # type: ignore[no-untyped-call]
    except ScramException as error:
        raise ValueError(str(error)) from error
    yield b""


MECHANISMS: Mapping[str, SaslMechanism] = MappingProxyType(
    {
        mechanism.name: mechanism
        for mechanism in (
            SaslMechanism("PLAIN", _plain_server, _plain_client),
            SaslMechanism("LOGIN", _login_server, _login_client),
            SaslMechanism("CRAM-MD5", _cram_md5_server, _cram_md5_client),
            SaslMechanism("SCRAM-SHA-256", _scram_server, _scram_client),
        )
    }
)
