"""What one port of a provider offers: the facts, as a visit found them.

An Offer keeps what the server said and showed, and derives from that which ways to log in there are with and without TLS.
Nothing is graded here: that is the card's part.
"""

import re
from dataclasses import dataclass

from labkit.decode.protocol import UNKNOWN, Protocol
from labkit.decode.protocols import POP3, by_name
from labkit.mail.policy import Security


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """What a server showed. valid_from, valid_until: ISO dates in UTC.

    refused: why a mail program that checks would stop, else "".
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    valid_from: str
    valid_until: str
    refused: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What one port offers. security: as it was entered, "starttls" only when the upgrade worked.

    clear, inside: capabilities as the server lists them, before and after TLS began; None when there was nothing to ask.
    trouble: why the conversation came to nothing or ended early, else "". listens: False when the connection was refused.
    """

    protocol: str
    port: int
    security: Security = Security.NONE
    greeting: str = ""
    clear: tuple[str, ...] | None = None
    inside: tuple[str, ...] | None = None
    tls_version: str = ""
    cipher: str = ""
    certificate: ShownCertificate | None = None
    trouble: str = ""
    listens: bool = True

    @property
    def record(self) -> Protocol:
        """What its protocol is."""
        return by_name(self.protocol) or UNKNOWN

    @property
    def answered(self) -> bool:
        """Whether it is a mail server that could be asked."""
        return self.clear is not None or self.inside is not None

    @property
    def starts_tls(self) -> bool:
        """Whether it offers to upgrade the connection."""
        return self.record.upgrade in {line.upper() for line in self.clear or ()}

    @property
    def auth_in_clear(self) -> tuple[str, ...]:
        """Ways to log in that it offers without TLS."""
        return self._ways(self.clear)

    @property
    def auth_inside(self) -> tuple[str, ...]:
        """Ways to log in that it offers inside TLS."""
        return self._ways(self.inside)

    def _ways(self, capabilities: tuple[str, ...] | None) -> tuple[str, ...]:
        if capabilities is None:
            return ()
        # Old servers write AUTH=PLAIN for programs that are older still.
        words = [line.upper().replace("=", " ").split() for line in capabilities if line.strip()]
        ways = [way for first, *rest in words if first in ("AUTH", "SASL") for way in rest]
        if self.record is POP3:  # where a way to log in may be a command of its own (RFC 1939 section 7)
            ways += ["USER"] if ["USER"] in words else []
            ways += ["APOP"] if re.search(r"<[^<>\s]+@[^<>\s]+>\s*$", self.greeting) else []
        return tuple(dict.fromkeys(ways))
