"""What must never come twice: the challenges and nonces of APOP, CRAM-MD5 and SCRAM.

A provider takes random ones. A lesson's provider counts instead, so that what its sessions look like repeats everywhere;
that is safe for nothing but a lesson: whoever knows the next challenge can prepare for it.
"""

import itertools
import secrets


class Nonces:
    """Random ones. Numbers have a fixed width, so that an exchange has the same length in every recording."""

    def number(self) -> int:
        """Ten digits, the first not 0."""
        return secrets.randbelow(9 * 10**9) + 10**9

    def challenge(self, hostname: str) -> str:
        """For APOP (RFC 1939 section 7) and CRAM-MD5 (RFC 2195 section 2): digits, a dot, digits, at the host's name."""
        return f"<{self.number()}.{self.number()}@{hostname}>"

    def nonce(self) -> str:
        """For SCRAM (RFC 5802 section 5.1): printable text without a comma."""
        return secrets.token_urlsafe(18)


class Counted(Nonces):
    """The same ones in every run."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def number(self) -> int:
        return 10**9 + next(self._count)

    def nonce(self) -> str:
        return f"lesson.nonce.{self.number()}"
