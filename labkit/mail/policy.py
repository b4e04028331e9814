"""Policies as data: what a provider demands before it accepts or hands out mail.

A policy is a frozen set of facts; the servers read it and never branch on its name. The five presets are the article's
four situations and today's submission port. Compose your own with `dataclasses.replace(POLICIES["ssl"], ...)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from labkit.errors import BadSetting, UnknownPolicy
from labkit.mail import sasl
from labkit.mail.accounts import LoginFormat
from labkit.texts import _


class Security(StrEnum):
    """How a connection is protected: RFC 8314's words, as mail programs show them."""

    NONE = "none"
    STARTTLS = "starttls"  # plaintext first, upgraded in place (RFC 3207, RFC 2595)
    SSL = "ssl"  # TLS from the first byte (RFC 8314 section 3)


MECHANISMS = tuple(sasl.MECHANISMS)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a provider demands.

    security: protection of both servers' connections. With STARTTLS, authentication is refused before the upgrade.
    auth_required: MAIL is answered 530 5.7.0 until SMTP AUTH succeeded (RFC 4954 section 6).
    mechanisms: SASL mechanisms offered, in the order advertised; empty means that AUTH is not offered.
    pop_window: MAIL is answered 530 5.7.0 unless this client address logged in by POP3 within the window.
    login_format: which of an account's three names its owner logs in with.
    """

    name: str
    title: str
    security: Security = Security.NONE
    auth_required: bool = False
    mechanisms: tuple[str, ...] = ()
    pop_window: timedelta | None = None
    login_format: LoginFormat = LoginFormat.LOCAL_PART

    @property
    def window_minutes(self) -> float:
        """How long a POP3 login lets an address send; 0 where that is not asked for."""
        return self.pop_window.total_seconds() / 60 if self.pop_window else 0

    def __post_init__(self) -> None:
        """Plain words are welcome: security="ssl" is Security.SSL. Raises BadSetting for what no policy can demand."""
        try:
            object.__setattr__(self, "security", Security(self.security))
            object.__setattr__(self, "login_format", LoginFormat(self.login_format))
        except ValueError as error:
            raise BadSetting(_("A policy cannot be made like this: {why}.").format(why=error)) from None
        unknown = [name for name in self.mechanisms if name not in MECHANISMS]
        if unknown:
            message = _("The lab has no mechanism {name!r}: choose among {names}.")
            raise BadSetting(message.format(name=unknown[0], names=", ".join(MECHANISMS)))
        if self.auth_required and not self.mechanisms:
            raise BadSetting(_("A policy that requires authentication must offer a mechanism: add one to mechanisms."))


_PRESETS = (
    Policy("plaintext", "Plaintext"),
    Policy("smtp-auth", "SMTP AUTH", auth_required=True, mechanisms=MECHANISMS),
    Policy("pop-before-smtp", "POP before SMTP", pop_window=timedelta(minutes=30)),
    Policy("starttls", "STARTTLS", Security.STARTTLS, auth_required=True, mechanisms=MECHANISMS),
    Policy("ssl", "SSL (implicit TLS)", Security.SSL, auth_required=True, mechanisms=MECHANISMS),
)
POLICIES: Mapping[str, Policy] = MappingProxyType({policy.name: policy for policy in _PRESETS})


def resolve(policy: Policy | str) -> Policy:
    """The policy meant by a name, or the policy itself. Raises UnknownPolicy."""
    if isinstance(policy, Policy):
        return policy
    found = POLICIES.get(policy) if isinstance(policy, str) else None
    if found is None:
        message = _("There is no policy {name}. Choose one of: {names}.")
        raise UnknownPolicy(message.format(name=repr(policy)[:40], names=", ".join(map(repr, POLICIES))))
    return found


__all__ = ["MECHANISMS", "POLICIES", "LoginFormat", "Policy", "Security", "replace", "resolve"]
