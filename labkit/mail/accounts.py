"""Accounts, the three login-name formats, and the one place that compares a credential.

Passwords are kept in the clear because CRAM-MD5, APOP and SCRAM need them and because a lab shows them; a real provider
keeps a salted hash and gives up the first two for it. Comparison takes the same time and path for an unknown user.
"""

import hmac
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from labkit.mail.policy import LoginFormat

DOMAIN = "mail.example"


@dataclass(frozen=True, slots=True)
class Account:
    """One person's account. `login` is the name that this account's provider wants at login."""

    address: str
    full_name: str
    password: str
    separate_login: str
    login_format: LoginFormat = LoginFormat.LOCAL_PART

    @property
    def local_part(self) -> str:
        """The address before its last @ (RFC 5321 section 4.1.2)."""
        return self.address.rpartition("@")[0]

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


def default_accounts(login_format: LoginFormat = LoginFormat.LOCAL_PART) -> tuple[Account, ...]:
    """hanako and taro at mail.example, each with a fresh random password."""
    return tuple(
        Account(f"{name}@{DOMAIN}", full_name, secrets.token_urlsafe(12), login, login_format)
        for name, full_name, login in (("hanako", "Hanako Yamada", "m1001-hy"), ("taro", "Taro Suzuki", "m1002-ts"))
    )


class Accounts(Mapping[str, Account]):
    """A provider's accounts by local part, found at login by the name in the provider's format."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._by_name = {account.local_part: account for account in accounts}
        self._by_login = {account.login: account for account in self._by_name.values()}
        self._by_address = {account.address.casefold(): account for account in self._by_name.values()}
        self._nobody = secrets.token_urlsafe(12)

    def __getitem__(self, name: str) -> Account:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def by_address(self, address: str) -> Account | None:
        """The account that receives mail for this address, if it is one of ours."""
        return self._by_address.get(address.casefold())

    def secret(self, login: str) -> str:
        """The password for a challenge-response mechanism; a random one for an unknown login, so that both fail alike."""
        account = self._by_login.get(login)
        return account.password if account else self._nobody

    def verify(self, login: str, proof: bytes, expected: bytes) -> Account | None:
        """The account, if it exists and the proof equals what its password gives; compared in constant time."""
        account = self._by_login.get(login)
        equal = hmac.compare_digest(proof, expected)
        return account if equal else None

    def check_password(self, login: str, password: str) -> Account | None:
        """The account, if login and password are right."""
        return self.verify(login, password.encode(), self.secret(login).encode())
