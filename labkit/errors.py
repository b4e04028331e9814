"""What a person can mend: one sentence saying what happened, why, and what to do next.

Every error that the lab raises for a user's mistake is a LabError. The command line prints it and exits with 2; a
notebook shows it without a traceback. A programming mistake stays an ordinary exception.
"""

from labkit.texts import _


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


def expect(given: object, kind: type | tuple[type, ...], wanted: str) -> None:
    """Raise BadSetting for an argument of another kind. wanted: what belongs there, in the reader's language."""
    if not isinstance(given, kind):
        shown = repr(given).partition("\n")[0][:60]
        raise BadSetting(_("{given} does not belong here: give {wanted}.").format(given=shown, wanted=wanted))


def is_port(given: object, lowest: int = 1) -> bool:
    """Whether it is the number of a port. lowest: 0 where that takes any free one."""
    return isinstance(given, int) and not isinstance(given, bool) and lowest <= given < 65536
