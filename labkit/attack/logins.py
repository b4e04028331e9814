"""The logins in a capture, as an eavesdropper can copy them down: what the client said, what the server asked and answered.

Only what crossed the wire in the clear is here. Whether a login is of any use to a thief depends on its mechanism: some
say the password, some say something that is good for one challenge only.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from labkit.capture import Capture
from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.protocol import Protocol
from labkit.decode.protocols import POP3
from labkit.decode.sasl import unbase64
from labkit.errors import LabError, expect
from labkit.texts import _
from labkit.wire.flows import Side


@dataclass(frozen=True, slots=True)
class Login:
    """One login. sent: the client's lines. asked: the server's challenges, the timestamp for APOP. answer: the last reply.

    mechanism: a SASL mechanism, "USER/PASS" or "APOP".
    """

    protocol: Protocol
    mechanism: str
    sent: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    answer: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the server let the client in."""
        return self.answer.startswith(("235", "+OK"))

    @property
    def responses(self) -> tuple[bytes, ...]:
        """What the client said within AUTH, without base64."""
        words = [word for first in self.sent[:1] for word in first.split()[2:3]] + list(self.sent[1:])
        return tuple(unbase64(word.encode()) or b"" for word in words)

    @property
    def challenges(self) -> tuple[bytes, ...]:
        """What the server asked within AUTH, without base64."""
        return tuple(unbase64(line.partition(" ")[2].encode()) or b"" for line in self.asked)

    @property
    def name(self) -> str:
        """The login name, "" when there is none to be read."""
        find = _NAMES.get(self.mechanism)
        return find(self) if find else ""


def logins(capture: Capture) -> tuple[Login, ...]:
    """Every login that can be read in a capture, in order."""
    expect(capture, Capture, _("a capture, such as labkit.Capture.load(path) gives"))
    return tuple(login for conversation in capture.flows for login in _logins(conversation))


def first(capture: Capture, *mechanisms: str) -> Login:
    """The first login with one of the mechanisms, better one that succeeded. Raises LabError when there is none."""
    found = [login for login in logins(capture) if not mechanisms or login.mechanism in mechanisms]
    if not found:
        message = _("Nobody can be seen logging in with {mechanisms} in this capture: record such a login without TLS.")
        raise LabError(message.format(mechanisms=", ".join(mechanisms) or _("any mechanism")))
    return next((login for login in found if login.accepted), found[0])


def _logins(conversation: Dissection) -> Iterator[Login]:
    protocol = conversation.protocol
    lines = [line for line in conversation.lines if line.kind in {LineKind.COMMAND, LineKind.REPLY, LineKind.AUTH}]
    timestamp = _timestamp(lines) if protocol is POP3 else ""
    under_way: Login | None = None
    for line in lines:
        if line.side is Side.CLIENT:
            under_way = _said(under_way, line, protocol, timestamp)
        elif under_way is not None:
            if line.text.startswith(("334", "+ ")) or line.text == "+":
                under_way = replace(under_way, asked=(*under_way.asked, line.text))
            elif under_way.sent[-1].upper().startswith("USER") and line.text.startswith("+OK"):
                continue  # the password follows
            else:
                yield replace(under_way, answer=line.text)
                under_way = None


def _said(login: Login | None, line: Line, protocol: Protocol, timestamp: str) -> Login | None:
    words = line.text.split()
    verb = words[0].upper() if words else ""
    if login is not None and (line.kind is LineKind.AUTH or verb == "PASS"):
        return replace(login, sent=(*login.sent, line.text))
    if verb == "AUTH" and len(words) > 1:
        return Login(protocol, words[1].upper(), (line.text,))
    if verb == "USER" and protocol is POP3:
        return Login(protocol, "USER/PASS", (line.text,))
    if verb == "APOP" and timestamp:
        return Login(protocol, "APOP", (line.text,), (timestamp,))
    return None


def _timestamp(lines: Sequence[Line]) -> str:
    """What stands between < and > in the greeting (RFC 1939 section 7)."""
    greeting = next((line.text for line in lines if line.side is Side.SERVER), "")
    start, end = greeting.rfind("<"), greeting.rfind(">")
    return greeting[start : end + 1] if 0 <= start < end else ""


def _part(octets: Sequence[bytes], index: int, *cut: tuple[bytes, int]) -> str:
    """One of the messages; of it the piece that each separator and index choose."""
    piece = octets[index] if index < len(octets) else b""
    for separator, number in cut:
        pieces = piece.split(separator)
        piece = pieces[number] if -len(pieces) <= number < len(pieces) else b""
    return piece.decode("utf-8", "backslashreplace")


def _scram_name(login: Login) -> str:
    bare = _part(login.responses, 0).partition("n=")[2].partition(",")[0]
    return bare.replace("=2C", ",").replace("=3D", "=")


_NAMES: dict[str, Callable[[Login], str]] = {
    "PLAIN": lambda login: _part(login.responses, 0, (b"\0", 1)),
    "LOGIN": lambda login: _part(login.responses, 0),
    "CRAM-MD5": lambda login: _part(login.responses, 0).rpartition(" ")[0],
    "SCRAM-SHA-256": _scram_name,
    "USER/PASS": lambda login: login.sent[0].partition(" ")[2],
    "APOP": lambda login: login.sent[0].partition(" ")[2].rpartition(" ")[0],
}
