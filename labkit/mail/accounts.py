"""Accounts, the three login-name formats, and the one place that compares a credential.

Passwords are kept in the clear because CRAM-MD5, APOP and SCRAM need them and because a lab shows them; a real provider
keeps a salted hash and gives up the first two for it. Comparison takes the same time and path for an unknown user.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from scramp import ScramException, ScramMechanism

from labkit.errors import BadAccount
from labkit.texts import _

DOMAIN = "mail.example"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00a1-\U0010ffff-]+"
_LABEL = r"[A-Za-z0-9\u00a1-\U0010ffff](?:[A-Za-z0-9\u00a1-\U0010ffff-]*[A-Za-z0-9\u00a1-\U0010ffff])?"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


class LoginFormat(StrEnum):
    """The three account-name formats that providers use."""

    LOCAL_PART = "local-part"  # hanako
    ADDRESS = "address"  # hanako@mail.example
    SEPARATE = "separate"  # a login name that has nothing to do with the address


@dataclass(frozen=True, slots=True)
class Account:
    """One person's account. `login` is the name that this account's provider wants at login.

    Raises BadAccount for a control character in any value, an address that is not local-part@domain (RFC 5321 section
    4.1.2, without quotes), an empty password, and an empty login name or one with a space in it (RFC 1939 section 3).
    """

    address: str
    full_name: str
    password: str
    separate_login: str
    login_format: LoginFormat = LoginFormat.LOCAL_PART

    def __post_init__(self) -> None:
        for field in ("address", "full_name", "password", "separate_login"):
            if _CONTROL.search(getattr(self, field)):
                message = _(
                    "The account {address!r} has a control character in its {field}, which mail protocols cannot carry. "
                    "Leave it out."
                )
                raise BadAccount(message.format(address=self.address, field=field))
        if not _ADDRESS.fullmatch(self.address):
            message = _("{address!r} is not a mail address. Write it as name@domain, such as hanako@mail.example.")
            raise BadAccount(message.format(address=self.address))
        if not self.login or " " in self.login:
            message = _(
                "The account {address!r} has the login name {login!r}. Choose one that has no space and is not empty."
            )
            raise BadAccount(message.format(address=self.address, login=self.login))
        if not self.password:
            message = _("The account {address!r} has an empty password, which no login could prove. Choose one.")
            raise BadAccount(message.format(address=self.address))

    @property
    def local_part(self) -> str:
        """The address before its last @ (RFC 5321 section 4.1.2)."""
        return self.address.rpartition("@")[0]

    @property
    def domain(self) -> str:
        """The address after its last @, in lower case: domains have no case (RFC 5321 section 2.4)."""
        return self.address.rpartition("@")[2].casefold()

    @property
    def login(self) -> str:
        """The account name in the format that the provider uses."""
        return self.login_name(self.login_format)

    def login_name(self, login_format: LoginFormat) -> str:
        """The account name in one of the three formats."""
        names = {
            LoginFormat.LOCAL_PART: self.local_part,
            LoginFormat.ADDRESS: self.address,
            LoginFormat.SEPARATE: self.separate_login,
        }
        return names[login_format]


def random_password() -> str:
    """Sixteen hexadecimal digits: never a dash in front, which a command line would read as an option."""
    return secrets.token_hex(8)


# What a server keeps of a password for SCRAM (RFC 5802 section 3): salt, StoredKey, ServerKey, iteration count.
ScramKeys = tuple[bytes, bytes, bytes, int]
SCRAM = ScramMechanism("SCRAM-SHA-256")  # type: ignore[no-untyped-call]
_ITERATIONS = 4096  # RFC 7677 section 4


def default_accounts(login_format: LoginFormat = LoginFormat.LOCAL_PART) -> tuple[Account, ...]:
    """hanako and taro at mail.example, each with a fresh random password."""
    return tuple(
        Account(f"{name}@{DOMAIN}", full_name, random_password(), login, login_format)
        for name, full_name, login in (("hanako", "Hanako Yamada", "m1001-hy"), ("taro", "Taro Suzuki", "m1002-ts"))
    )


class Accounts(Mapping[str, Account]):
    """A provider's accounts by local part, found at login by the name in the provider's format.

    key: what salts and comparisons are made with, random when not given. Raises BadAccount when two accounts share a local
    part or a login name.
    """

    def __init__(self, accounts: Iterable[Account], key: bytes | None = None) -> None:
        self._by_name: dict[str, Account] = {}
        self._by_login: dict[str, Account] = {}
        self._by_address: dict[str, Account] = {}
        local_parts: set[str] = set()
        for account in accounts:
            if account.local_part.casefold() in local_parts or account.login in self._by_login:
                message = _(
                    "Two accounts are called {name!r}: the provider could not tell them apart. Rename one of them."
                )
                raise BadAccount(message.format(name=account.local_part))
            local_parts.add(account.local_part.casefold())
            self._by_name[account.local_part] = account
            self._by_login[account.login] = account
            self._by_address[account.address.casefold()] = account
        self._domains = frozenset(account.domain for account in self._by_name.values())
        self._key = key or secrets.token_bytes(32)
        self._nobody = random_password()

    def __getitem__(self, name: str) -> Account:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def domains(self) -> frozenset[str]:
        """The domains that these accounts receive mail for, in lower case."""
        return self._domains

    def by_address(self, address: str) -> Account | None:
        """The account that receives mail for this address, if it is one of ours."""
        return self._by_address.get(address.casefold())

    def by_login(self, login: str) -> Account | None:
        """The account with this login name."""
        return self._by_login.get(login)

    def secret(self, login: str) -> str:
        """The password for a challenge-response mechanism; a random one for an unknown login, so that both fail alike."""
        account = self._by_login.get(login)
        return account.password if account else self._nobody

    def salt(self, login: str) -> bytes:
        """A SCRAM salt of 16 octets: the same for a login each time, known or not, so that it tells nobody which exist."""
        return self._digest(login.encode())[:16]

    def scram_keys(self, login: str) -> ScramKeys:
        """An account's SCRAM keys; for an unknown login such as nobody could prove, in the same time."""
        stored, server = (self._digest(kind + login.encode()) for kind in (b"stored ", b"server "))
        return self._scram_keys.get(login) or (self.salt(login), stored, server, _ITERATIONS)

    def derive_scram_keys(self) -> None:
        """Derive all SCRAM keys now: PBKDF2 is slow on purpose, and a server would keep everybody waiting for it."""
        _ = self._scram_keys

    @cached_property
    def _scram_keys(self) -> Mapping[str, ScramKeys]:
        keys = {}
        for login, account in self._by_login.items():
            with suppress(ScramException):  # a password that SASLprep forbids (RFC 4013) opens nothing by SCRAM
                keys[login] = SCRAM.make_auth_info(account.password, _ITERATIONS, self.salt(login))  # type: ignore[no-untyped-call]
        return keys

    def verify(self, login: str, proof: bytes, expected: bytes) -> Account | None:
        """The account, if it exists and the proof equals what its password gives; compared in constant time."""
        account = self._by_login.get(login)
        # compare_digest returns at once for different lengths: digests under a secret key are all of one length.
        equal = hmac.compare_digest(self._digest(proof), self._digest(expected))
        return account if equal else None

    def check_password(self, login: str, password: str) -> Account | None:
        """The account, if login and password are right."""
        return self.verify(login, password.encode(errors="surrogatepass"), self.secret(login).encode())

    def _digest(self, value: bytes) -> bytes:
        return hashlib.blake2b(value, key=self._key, digest_size=32).digest()
