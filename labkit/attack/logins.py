"""The logins in a capture, as an eavesdropper can copy them down: what the client said, what the server asked and answered.

Only what crossed the wire in the clear is here. Whether a login is of any use to a thief depends on its mechanism: some
say the password, some say something that is good for one challenge only.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from labkit.capture import Capture
from labkit.decode import sasl
from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.protocol import Fact, Protocol
from labkit.decode.spans import Span, Visibility, leaves
from labkit.errors import LabError, expect
from labkit.texts import _
from labkit.wire.flows import Side

APOP = "APOP"
_SPOKEN = frozenset({LineKind.COMMAND, LineKind.REPLY, LineKind.AUTH})


@dataclass(frozen=True, slots=True)
class Login:
    """One login. sent: the client's lines. asked: the server's challenges, the timestamp for APOP. answer: the last reply.

    mechanism: a SASL mechanism, "USER/PASS" or "APOP". name: the login name, "" when there is none to be read.
    carries_the_password: it says the password or a token, and no answer to a challenge.
    """

    protocol: Protocol
    mechanism: str
    sent: tuple[str, ...]
    asked: tuple[str, ...]
    answer: str
    name: str
    carries_the_password: bool

    @property
    def accepted(self) -> bool:
        """Whether the server let the client in."""
        return self.answer.startswith(self.protocol.accepts)

    @property
    def responses(self) -> tuple[bytes, ...]:
        """What the client said within AUTH, without base64."""
        words = [*self.sent[0].split()[2:3], *self.sent[1:]]
        return tuple(sasl.unbase64(word.encode()) or b"" for word in words)

    @property
    def challenges(self) -> tuple[bytes, ...]:
        """What the server asked within AUTH, without base64."""
        return tuple(sasl.unbase64(line.partition(" ")[2].encode()) or b"" for line in self.asked)

    def asks_on(self, reply: str) -> bool:
        """Whether a server's reply neither accepts nor refuses, but wants to hear more."""
        return _asks_on(self.protocol, reply)


def logins(capture: Capture) -> tuple[Login, ...]:
    """Every login that can be read in a capture, in order."""
    expect(capture, Capture, _("a capture, such as labkit.Capture.load(path) gives"))
    return tuple(login for dissection in capture.flows for login in _logins(dissection))


def first(capture: Capture, *mechanisms: str) -> Login:
    """The first login with one of the mechanisms, better one that succeeded. Raises LabError when there is none."""
    found = [login for login in logins(capture) if not mechanisms or login.mechanism in mechanisms]
    if not found:
        message = _("Nobody can be seen logging in with {mechanisms} in this capture: record such a login without TLS.")
        raise LabError(message.format(mechanisms=", ".join(mechanisms) or _("any mechanism")))
    return next((login for login in found if login.accepted), found[0])


def _logins(dissection: Dissection) -> Iterator[Login]:
    """A login begins with a command that names its mechanism, and ends with the reply to its last line."""
    lines = [line for line in dissection.lines if line.kind in _SPOKEN]
    said: list[Line] = []
    asked: list[str] = []
    mechanism = ""
    for line in lines:
        if line.side is Side.CLIENT:
            verb, *arguments = line.text.upper().split() or [""]
            if said and (line.kind is LineKind.AUTH or verb == "PASS"):
                said.append(line)
                continue
            mechanism = _mechanism(dissection.protocol, verb, arguments)
            said = [line] if mechanism else []
            asked = [_timestamp(lines)] if mechanism == APOP else []
        elif said and _asks_on(dissection.protocol, line.text):
            asked.append(line.text)
        elif said and not (mechanism == "USER/PASS" and len(said) == 1 and line.text.startswith("+OK")):
            yield _login(dissection, mechanism, said, asked, line.text)
            said = []


def _mechanism(protocol: Protocol, verb: str, arguments: list[str]) -> str:
    """How a command logs in, "" when it does not."""
    if verb not in protocol.begins:
        return ""
    return {"AUTH": arguments[0] if arguments else "", "USER": "USER/PASS", "APOP": APOP}.get(verb, "")


def _asks_on(protocol: Protocol, reply: str) -> bool:
    return not reply.startswith(protocol.accepts + protocol.refuses)


def _login(dissection: Dissection, mechanism: str, said: list[Line], asked: list[str], answer: str) -> Login:
    def told(fact: Fact) -> list[Span]:
        fields = (*dissection.protocol.facts.get(fact, ()), *sasl.FACTS[fact])
        return [span for span in spans if span.field in fields]

    around = (span for span in dissection.client_spans if span.end > said[0].start and span.start < said[-1].end)
    spans = list(leaves(around))
    name = next((span.value for span in told(Fact.LOGIN_NAME)), "")
    plain = any(span.visibility is not Visibility.GUESSABLE for span in told(Fact.PASSWORD))
    sent = tuple(line.text for line in said)
    return Login(dissection.protocol, mechanism, sent, tuple(asked), answer, name, plain)


def _timestamp(lines: list[Line]) -> str:
    """What stands between < and > in the greeting (RFC 1939 section 7)."""
    greeting = next((line.text for line in lines if line.side is Side.SERVER), "")
    start, end = greeting.rfind("<"), greeting.rfind(">")
    return greeting[start : end + 1] if 0 <= start < end else ""
