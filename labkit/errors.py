"""What a person can mend: one sentence saying what happened, why, and what to do next.

Every error that the lab raises for a user's mistake is a LabError. The command line prints it and exits with 2; a
notebook shows it without a traceback. A programming mistake stays an ordinary exception.
"""


class LabError(Exception):
    """Something the user can mend. The message is complete: what, why, what next."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback (its documented hook)."""
        return [f"{type(self).__name__}: {self}"]


class UnknownPolicy(LabError):
    """No policy has that name."""


class EngineUnavailable(LabError):
    """This capture engine cannot run here."""


class PortTaken(LabError):
    """Another program listens on the port that was asked for."""


class BadCapture(LabError):
    """The file is not a capture that can be read, or stops being one at an offset."""


class BadKeyLog(LabError):
    """The file is not a TLS key log (NSS format)."""


class BadSetting(LabError):
    """A mail client's setting is not usable: CR, LF or NUL in a value, or settings that contradict each other."""


class BadAccount(LabError):
    """An account that no mail protocol could serve, or two accounts with one name."""


class MessageRefused(LabError):
    """The provider did not take the message; the server's reply is in the text."""


class LoginRefused(LabError):
    """The provider did not accept the login; the server's reply is in the text."""
