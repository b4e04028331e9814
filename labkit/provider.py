"""Provider: a mail service put on a wire. The one place where mail meets wire.

`start` puts the service's two protocols on a loopback network of their own, with the certificates that its policy needs;
`capture` records what crosses that network. The authority's certificate lies in a private folder while it runs, for other
programs; TLS session keys have no name in the file system (labkit/files.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from labkit import files
from labkit.capture import Capture
from labkit.decode.protocols import POP3, SMTP
from labkit.errors import BadSetting
from labkit.files import KeyLogFile, PrivateFolder
from labkit.mail.accounts import DOMAIN, Account, Accounts
from labkit.mail.certificates import Certificate, authority
from labkit.mail.client import MailClient
from labkit.mail.clock import Clock
from labkit.mail.maildrop import Maildrop
from labkit.mail.policy import Policy, Security
from labkit.mail.pop3 import pop3_factory
from labkit.mail.sample import LESSON_ACCOUNTS
from labkit.mail.service import MailService, Outgoing
from labkit.mail.settings import Settings
from labkit.mail.smtp import check_handler, smtp_factory
from labkit.startable import Startable
from labkit.texts import _
from labkit.wire.endpoints import RecordedNames
from labkit.wire.loopback import HOST
from labkit.wire.network import Network

# The standard ports of both servers.
STANDARD_PORTS = {
    Security.NONE: (SMTP.ports.clear, POP3.ports.clear),
    Security.STARTTLS: (SMTP.ports.upgraded, POP3.ports.upgraded),
    Security.SSL: (SMTP.ports.tls, POP3.ports.tls),
}
CLIENT = "client.example"  # as people know whoever calls (RFC 2606)


class Provider(Startable):
    """A mail provider on this machine: SMTP and POP3 on 127.0.0.1, accounts, a policy. A context manager.

    policy: a preset's name or a Policy. accounts: hanako and taro with fresh random passwords when none are given.
    maildir: a folder that keeps the mail; without it, mail is in memory. smtp_port, pop3_port: 0 takes a free one.
    certificate: which of the lab's certificates it shows. keylog: write the TLS session keys, so that its captures can be
    opened. repeatable: fixed accounts and challenges, and a clock that only `clock.advance` moves, so that a lesson's
    outputs are the same everywhere; its passwords are public, so every user of the machine may log in. handler: an aiosmtpd
    handler; its hooks (handle_EHLO, handle_RCPT, handle_DATA …) are called with aiosmtpd's session and envelope, and
    handle_DATA takes the place of storing the message.
    Raises UnknownPolicy and BadSetting at once, PortTaken from `start`.
    """

    host = HOST

    def __init__(
        self,
        policy: Policy | str = "plaintext",
        *,
        accounts: Mapping[str, Account] | Iterable[Account] | None = None,
        maildir: Path | str | None = None,
        smtp_port: int = 0,
        pop3_port: int = 0,
        certificate: Certificate | str = Certificate.GOOD,
        keylog: bool = False,
        repeatable: bool = False,
        handler: object | None = None,
    ) -> None:
        check_handler(handler)
        self._handler = handler
        self._service = MailService(
            policy,
            LESSON_ACCOUNTS if repeatable and accounts is None else accounts,
            maildir=None if maildir is None else Path(maildir),
            repeatable=repeatable,
        )
        self._certificate = _certificate(certificate)
        self._asked_ports = smtp_port, pop3_port
        self._with_keylog = keylog
        self._network = Network()
        self._folder: PrivateFolder | None = None
        self._keylog: KeyLogFile | None = None
        self._ports: tuple[int, int] | None = None

    def __repr__(self) -> str:
        state = _("running") if self._ports else _("stopped")
        return _("<Provider {policy}, {state}>").format(policy=self.policy.name, state=state)

    def start(self) -> None:
        """Listen. Harmless when it runs already. What an earlier run knew of POP-before-SMTP windows is forgotten."""
        if self._ports:
            return
        self._service.forget_windows()
        self._service.prepare()
        self._keylog = KeyLogFile() if self._with_keylog else None
        try:
            self._network.start()
            self._ports = self._listen()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop listening, drop every connection, leave nothing behind: in less than two seconds. Harmless when stopped."""
        self._network.stop()
        self._ports = None
        if self._folder is not None:
            self._folder.remove()
            self._folder = None
        if self._keylog is not None:
            self._keylog.close()

    def _listen(self) -> tuple[int, int]:
        security = self.policy.security
        tls = None if security is Security.NONE else authority().server_context(self._certificate, keylog=self._keylog)
        implicit = tls if security is Security.SSL else None
        smtp, pop3 = self._asked_ports
        smtp_listener = self._network.listen(smtp_factory(self._service, tls, self._handler), smtp, implicit)
        pop3_listener = self._network.listen(pop3_factory(self._service, tls), pop3, implicit)
        return smtp_listener.port, pop3_listener.port

    @property
    def policy(self) -> Policy:
        """What it demands."""
        return self._service.policy

    @property
    def accounts(self) -> Accounts:
        """Its accounts by local part."""
        return self._service.accounts

    @property
    def maildrops(self) -> Mapping[str, Maildrop]:
        """What arrived, by local part."""
        return self._service.maildrops

    @property
    def outgoing(self) -> list[Outgoing]:
        """What a real provider would now carry to other providers. Nothing leaves this machine."""
        return self._service.outgoing

    @property
    def clock(self) -> Clock:
        """Its clock, which a lesson can advance."""
        return self._service.clock

    @property
    def smtp_port(self) -> int:
        """Where its SMTP server listens."""
        return self._running()[0]

    @property
    def pop3_port(self) -> int:
        """Where its POP3 server listens."""
        return self._running()[1]

    @property
    def ca_pem(self) -> str:
        """The lab's certificate authority in PEM: what a mail program must trust."""
        return authority().ca_pem.decode()

    @property
    def ca_file(self) -> Path | None:
        """The same as a file, for other programs, while it runs; None when the policy has no TLS."""
        if self.policy.security is Security.NONE or self._ports is None:
            return None
        if self._folder is None:
            self._folder = PrivateFolder()
            files.write(self._folder.path / "ca.pem", self.ca_pem)
        return self._folder.path / "ca.pem"

    @property
    def turned_away(self) -> int:
        """Connections that were closed at once, because as many as this process can serve were open."""
        return self._network.turned_away

    def settings(self, name: str, **overrides: Any) -> Settings:
        """What the owner of an account has to enter into a mail program; `overrides` are the switches set otherwise.

        Raises BadSetting.
        """
        account = self.accounts.get(name) if isinstance(name, str) else None
        if account is None:
            message = _("This provider has no account {name}. It has: {names}.")
            raise BadSetting(message.format(name=repr(name)[:40], names=", ".join(map(repr, self.accounts))))
        right: dict[str, Any] = {
            "smtp_port": self.smtp_port,
            "pop3_port": self.pop3_port,
            "server": self._service.hostname,
            "connect_to": self.host,
            "security": self.policy.security,
            "login": account.login,
            "password": account.password,
            "outgoing_requires_authentication": self.policy.auth_required,
            "check_mail_first": self.policy.pop_window is not None,
            "scram_nonce": "lesson.client" if self._service.repeatable else "",
            "trusted_ca": None if self.policy.security is Security.NONE else self.ca_pem,
        }
        known = [setting.name for setting in fields(Settings)]
        for unknown in sorted(overrides.keys() - known):
            message = _("A mail program has no setting {name!r}. It has: {names}.")
            raise BadSetting(message.format(name=unknown, names=", ".join(known)))
        return Settings(**(right | overrides))

    def client(self, name: str, **overrides: Any) -> MailClient:
        """A mail program that is set up for an account; `overrides` are the switches set otherwise."""
        return MailClient(self.settings(name, **overrides))

    def capture(self, engine: str = "auto") -> Capture:
        """Record what crosses this provider's network: `with provider.capture() as capture: ...`.

        engine: "live" (the kernel's packets), "tap" (the bytes at the servers' sockets), or "auto": LABKIT_CAPTURE's, else
        live where the system allows it, else tap. Raises EngineUnavailable.
        """
        names = known_names(self.policy, self._running())
        return Capture(self._network.record(engine), names, keylog_file=self._keylog)

    def _running(self) -> tuple[int, int]:
        if self._ports is None:
            raise BadSetting(_("This provider does not run: use it in a `with` block, or call start() first."))
        return self._ports


def known_names(policy: Policy, ports: tuple[int, int]) -> RecordedNames:
    """By which names and standard ports people know a provider that listens on these ports for SMTP and POP3."""
    services = {(HOST, port): standard for port, standard in zip(ports, STANDARD_PORTS[policy.security], strict=True)}
    return RecordedNames(services, server=DOMAIN, client=CLIENT)


def _certificate(name: Certificate | str) -> Certificate:
    try:
        return Certificate(name)
    except ValueError:
        message = _("The lab has no certificate {name!r}: choose one of {names}.")
        raise BadSetting(message.format(name=name, names=", ".join(Certificate))) from None
