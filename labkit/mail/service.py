"""The mail service behind both servers: accounts, maildrops, outgoing mail, and who may send just now.

The protocols ask it and tell it; it knows neither sockets nor reply codes. Mail for other domains is never sent: it is
kept in `outgoing`, where a learner can look at it. Nothing leaves the machine.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from labkit.errors import LabError, expect
from labkit.mail.accounts import DOMAIN, Account, Accounts, default_accounts
from labkit.mail.clock import Clock
from labkit.mail.maildrop import MaildirMaildrop, Maildrop, canonical
from labkit.mail.nonces import Counted, Nonces
from labkit.mail.policy import Policy, resolve
from labkit.mail.sasl import Negotiation, Verifier
from labkit.texts import _

_LESSON_KEY = b"the salts of a lesson repeat"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that a real provider would now carry to other providers. The sender is "" for a bounce."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class MailService:
    """One provider's mail: what its SMTP server hands in and its POP3 server hands out.

    policy: a Policy or the name of a preset (raises UnknownPolicy). accounts: hanako and taro when none are given; they
    take the policy's login format (raises BadAccount when two accounts then share a login). clock: time for the
    POP-before-SMTP window. maildir: a folder that gets one Maildir per account (raises LabError when that cannot be);
    without it, mail is kept in memory. repeatable: salts, challenges and nonces are the same in every run, and the clock
    stands still until it is advanced, for a lesson.
    """

    def __init__(
        self,
        policy: Policy | str,
        accounts: Mapping[str, Account] | Iterable[Account] | None = None,
        clock: Clock | None = None,
        maildir: Path | None = None,
        repeatable: bool = False,
    ) -> None:
        self.policy = resolve(policy)
        self.hostname = DOMAIN
        self.clock = clock or Clock(still=repeatable)
        self.repeatable = repeatable
        self.nonces = Counted() if repeatable else Nonces()
        self.accounts = Accounts(_in_format(accounts, self.policy), _LESSON_KEY if repeatable else None)
        self.maildrops: Mapping[str, Maildrop] = MappingProxyType(
            {name: _maildrop(name, maildir) for name in self.accounts}
        )
        self.outgoing: list[Outgoing] = []
        self._last_pop: dict[str, float] = {}

    def prepare(self) -> None:
        """Do beforehand what takes long, so that no login waits for it."""
        if "SCRAM-SHA-256" in self.policy.mechanisms:
            self.accounts.derive_scram_keys()

    def negotiation(self, mechanism: str) -> Negotiation:
        """The server's end of a login by a SASL mechanism."""
        return Negotiation(mechanism, Verifier(self.accounts, self.hostname, self.nonces))

    def accepts(self, recipient: str) -> bool:
        """Whether mail for this address has somewhere to go: one of our accounts, or another domain."""
        return self._account(recipient) is not None or not self._is_local(recipient)

    def deliver(self, sender: str, recipients: Sequence[str], content: bytes) -> None:
        """Store a message for every recipient, or for none and raise OSError. When this returns, all of it is stored."""
        content = canonical(content)
        ours = {account.local_part: None for r in recipients if (account := self._account(r))}
        elsewhere = tuple(r for r in recipients if not self._account(r))
        with ExitStack() as undo:
            for maildrop in map(self.maildrops.__getitem__, ours):
                undo.callback(maildrop.delete, (maildrop.append(content),))
            undo.pop_all()
        if elsewhere:
            self.outgoing.append(Outgoing(sender, elsewhere, content))

    def _is_local(self, address: str) -> bool:
        domain = address.rpartition("@")[2].casefold()
        return domain in self.accounts.domains or domain == self.hostname

    def _account(self, address: str) -> Account | None:
        """Who gets mail for this address. Somebody must read postmaster's (RFC 5321 section 4.5.1): the first account."""
        local_part = address.rpartition("@")[0]
        if "postmaster" in (address.casefold(), local_part.casefold()) and (not local_part or self._is_local(address)):
            return self.accounts.by_address(address) or next(iter(self.accounts.values()), None)
        return self.accounts.by_address(address)

    def forget_windows(self) -> None:
        """Nobody may send any more until they read mail again: what a restart of the servers does."""
        self._last_pop.clear()

    def popped(self, client_address: str) -> None:
        """A POP3 login from this address succeeded: its window to send starts again (POP before SMTP)."""
        self._last_pop[_canonical_address(client_address)] = self.clock.now()

    def may_send(self, client_address: str) -> bool:
        """Whether this address read mail within the policy's window; always, when the policy has none."""
        window = self.policy.pop_window
        if window is None:
            return True
        last = self._last_pop.get(_canonical_address(client_address))
        return last is not None and self.clock.now() - last < window.total_seconds()


def _maildrop(name: str, folder: Path | None) -> Maildrop:
    if folder is None:
        return Maildrop()
    try:
        return MaildirMaildrop(folder / quote(name, safe=""))  # a local part may hold a slash (RFC 5322 section 3.2.3)
    except OSError as error:
        message = _(
            "The folder {folder} cannot hold mail ({reason}): give another folder, or one that you may write to."
        )
        raise LabError(message.format(folder=folder, reason=error.strerror)) from error


def _in_format(accounts: Mapping[str, Account] | Iterable[Account] | None, policy: Policy) -> tuple[Account, ...]:
    if accounts is None:
        return default_accounts(policy.login_format)
    expect(accounts, Iterable, _("accounts as a list"))
    given = tuple(accounts.values() if isinstance(accounts, Mapping) else accounts)
    for account in given:
        expect(account, Account, _("accounts made with labkit.Account(address, full_name, password, separate_login)"))
    return tuple(replace(account, login_format=policy.login_format) for account in given)


def _canonical_address(address: str) -> str:
    """One text per client: an IPv4 client of an IPv6 socket is that IPv4 client (RFC 4291 section 2.5.5.2)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
