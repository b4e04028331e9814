"""SASL, the server's side: mechanisms written once, spoken by SMTP's AUTH and POP3's AUTH alike (RFC 4422).

A mechanism is a conversation, so each is a generator: it yields a Challenge, is sent the client's response, and returns
Success or Failure. Nothing here knows of reply codes or sockets: the protocols carry the octets, as lines of base64.
"""

import base64
import hmac
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from scramp import ScramException

from labkit.mail.accounts import SCRAM, Account, Accounts, ScramKeys
from labkit.mail.nonces import Nonces


class Reason(StrEnum):
    """Why an exchange failed."""

    CREDENTIALS = "credentials"  # name and proof do not belong together, or no right to act as the authzid
    MALFORMED = "malformed"  # the response is not a message of this mechanism
    SERVER_FIRST = "server-first"  # an initial response, in a mechanism where the server speaks first


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the server says next; a response must follow."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Success:
    """The client is the owner of this account."""

    account: Account


@dataclass(frozen=True, slots=True)
class Failure:
    """The exchange is over without a login."""

    reason: Reason


_Steps = Generator[Challenge, bytes, Success | Failure]
_Mechanism = Callable[[bytes | None, Accounts, str, Nonces], _Steps]

# RFC 4648 section 4. Python's own strict mode takes "=" behind whole groups of four before 3.13.
_OCTETS = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_BASE64 = re.compile(_OCTETS.encode())
# RFC 5802 section 7: client-final-message, whether its nonce and proof are right or not.
_CLIENT_FINAL = re.compile(rf"c={_OCTETS},r=[!-+\--~]+(?:,[A-Za-z]=[^,\0]+)*,p={_OCTETS}")

_LONGEST_FIRST = 1024  # octets of SCRAM's first message: SASLprep (RFC 4013) looks at every character of a name, slowly

_CREDENTIALS = Failure(Reason.CREDENTIALS)
_MALFORMED = Failure(Reason.MALFORMED)


class Exchange:
    """One authentication exchange, from the AUTH command to its outcome."""

    def __init__(self, mechanism: _Mechanism, accounts: Accounts, hostname: str, nonces: Nonces) -> None:
        self._mechanism = mechanism
        self._accounts = accounts
        self._hostname = hostname
        self._nonces = nonces
        self._steps: _Steps | None = None

    def step(self, response: bytes | None) -> Challenge | Success | Failure:
        """Take the client's response (already decoded from base64) and say what follows.

        The first call takes the initial response, or None when the client sent none (RFC 4422 section 3.3); b"" is an
        initial response of no octets. Not to be called again after Success or Failure. Never raises for what a client sends.
        """
        try:
            if self._steps is None:
                self._steps = self._mechanism(response, self._accounts, self._hostname, self._nonces)
                return next(self._steps)
            return self._steps.send(response or b"")
        except StopIteration as end:
            outcome: Success | Failure = end.value
            return outcome


def begin(mechanism: str, accounts: Accounts, hostname: str, nonces: Nonces) -> Exchange:
    """Start an exchange. mechanism: its name in capital letters. The hostname stands in CRAM-MD5's challenge."""
    return Exchange(_MECHANISMS[mechanism], accounts, hostname, nonces)


def unbase64(line: bytes) -> bytes:
    """The octets of a response as both protocols carry it. Raises ValueError for what is not base64 to the last octet."""
    if not _BASE64.fullmatch(line):
        raise ValueError("not base64")
    return base64.b64decode(line)


def _outcome(account: Account | None) -> Success | Failure:
    return Success(account) if account else _CREDENTIALS


def _plain(initial: bytes | None, accounts: Accounts, hostname: str, nonces: Nonces) -> _Steps:
    """RFC 4616: authzid NUL authcid NUL password, in one message."""
    message = (yield Challenge(b"")) if initial is None else initial
    try:
        authzid, authcid, password = message.decode().split("\0")
    except ValueError:  # not UTF-8, or not three parts
        return _MALFORMED
    if not authcid:
        return _MALFORMED
    account = accounts.check_password(authcid, password)
    return _outcome(account if authzid in ("", authcid) else None)


def _login(initial: bytes | None, accounts: Accounts, hostname: str, nonces: Nonces) -> _Steps:
    """draft-murchison-sasl-login: two prompts, two answers."""
    name = (yield Challenge(b"Username:")) if initial is None else initial
    password = yield Challenge(b"Password:")
    try:
        return _outcome(accounts.check_password(name.decode(), password.decode()))
    except UnicodeDecodeError:
        return _MALFORMED


def _cram_md5(initial: bytes | None, accounts: Accounts, hostname: str, nonces: Nonces) -> _Steps:
    """RFC 2195: the client returns its name and the keyed digest of a challenge that is never used twice."""
    if initial is not None:
        return Failure(Reason.SERVER_FIRST)
    challenge = nonces.challenge(hostname).encode()
    response = yield Challenge(challenge)
    name, space, digest = response.rpartition(b" ")
    try:
        login = name.decode()
    except UnicodeDecodeError:
        return _MALFORMED
    if not space or len(digest) != 32 or digest.strip(b"0123456789abcdefABCDEF"):
        return _MALFORMED
    expected = hmac.new(accounts.secret(login).encode(), challenge, "md5").hexdigest()
    return _outcome(accounts.verify(login, digest.lower(), expected.encode()))


def _scram_sha_256(initial: bytes | None, accounts: Accounts, hostname: str, nonces: Nonces) -> _Steps:
    """RFC 5802 and 7677: both sides prove that they know the password, and neither sends it."""
    claimed = ""

    def keys(name: str) -> ScramKeys:
        nonlocal claimed
        claimed = name
        return accounts.scram_keys(name)

    server = SCRAM.make_server(keys, s_nonce=nonces.nonce())  # type: ignore[no-untyped-call]
    client_first = (yield Challenge(b"")) if initial is None else initial
    if len(client_first) > _LONGEST_FIRST:
        return _MALFORMED
    try:
        header, bare = _Header.split(client_first.decode())
        server.set_client_first(f"{header.flag},,{bare}")
        server.gs2_header = header
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
    account = accounts.by_login(claimed)  # scramp compared the proof, in constant time
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


_MECHANISMS: Mapping[str, _Mechanism] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram_md5,
    "SCRAM-SHA-256": _scram_sha_256,
}
