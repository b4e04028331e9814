"""Lesson 02, explain every byte: what its notebook asks, and how the wire answers."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from labkit.capture import Capture
from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.headers import frame_spans
from labkit.decode.spans import Span, leaves
from labkit.lessons.evidence import Missing, every_span, smtp_flows, turns, was_sent
from labkit.lessons.kinds import Labels, Number, Proof
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.provider import Provider
from labkit.texts import _
from labkit.wire.flows import Side
from labkit.wire.frames import Frame


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (
        _before_the_first_word(),
        _envelopes(),
        _first_number(),
        _friday(),
        _pieces(),
        _honest(),
        _dot(),
        _dots_labelled(),
        _three_dots(),
    )
    return Lesson("02", _("Explain every byte"), steps)


# 1 The first packets


def _before_the_first_word() -> Experiment:
    return Experiment(
        id="02-1",
        section=_("1 Count the packets before the first word"),
        takes=(Capture,),
        question=_("How many packets cross the network before the server can say its first word?"),
        choices={
            "a": _("None: the greeting is in the first packet."),
            "b": _("One: the client asks."),
            "c": _("Three: both sides first agree to talk."),
        },
        truth=lambda capture: {0: "a", 1: "b", 3: "c"}.get(_silent_packets(capture), ""),
        found=lambda capture: _("{count} packets without a byte of mail, then the greeting.").format(
            count=_silent_packets(capture)
        ),
        lines=lambda capture: _flow(capture).lines[:1],
        replies={
            "a": _("The client must call before the server can answer."),
            "b": _("The server answers, and then it waits once more: it wants to see that its answer arrives."),
        },
    )


def _flow(capture: Capture) -> Dissection:
    """The first SMTP connection. Raises Missing."""
    flows = smtp_flows(capture)
    if not flows:
        raise Missing(_("In this capture nobody spoke SMTP in the clear."))
    return flows[0]


class _Packet(NamedTuple):
    """A packet between the addresses that people know, and the fields of its headers."""

    data: bytes
    fields: dict[str, Span]

    def octets(self, field: str) -> bytes:
        """A field as it is on the wire; empty where the packet has none."""
        span = self.fields.get(field)
        return self.data[span.start : span.end] if span else b""

    def number(self, field: str) -> int:
        return int.from_bytes(self.octets(field), "big")


def _packets(capture: Capture) -> Sequence[_Packet]:
    """The packets of the first SMTP connection."""
    found = []
    for number in _flow(capture).flow.packets:
        data = bytes(capture.packets[number - 1])
        spans = frame_spans(Frame(0, data, len(data), capture.frames[number - 1].link))
        found.append(_Packet(data, {span.field: span for span in leaves(spans)}))
    return found


def _silent_packets(capture: Capture) -> int:
    """How many packets come before the first that carries data."""
    for count, packet in enumerate(_packets(capture)):
        if packet.octets("tcp.payload"):
            return count
    raise Missing(_("In this capture nobody said anything."))


# 2 The headers

_LABELS = ("ethernet", "ip", "tcp", "smtp")

# The pieces to label, in the order in which they lie on the table: the span's field, its label, what is said of its value.
_PIECES: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("ip.destination", "ip", lambda: "{value}"),
    ("ethernet.type", "ethernet", lambda: _("next comes {value}")),
    ("tcp.destination_port", "tcp", lambda: "{value}"),
    ("tcp.payload", "smtp", lambda: "{value}"),
    ("ip.protocol", "ip", lambda: _("next comes {value}")),
    ("ethernet.destination", "ethernet", lambda: "{value}"),
)


def _envelopes() -> Exercise:
    ethernet, ip, tcp, _smtp = _LABELS
    return Exercise(
        id="02-2",
        section=_("2 Open the envelopes"),
        needs="02-1",
        task=_("Label these six pieces of the packet: ethernet, ip, tcp or smtp."),
        kind=Labels(_header_pieces, _LABELS),
        why=lambda _capture: _(
            "Each envelope has addresses of its own, and Ethernet and IP also say what comes next inside."
        ),
        misconceptions=(
            Misconception(
                "names-the-next",
                lambda answer, _capture: answer[1] == ip or answer[4] == tcp,
                _(
                    "What says “next comes …” stands in the envelope around it: otherwise nobody would know how to read on."
                ),
            ),
            Misconception(
                "port-in-ip",
                lambda answer, _capture: answer[2] == ip,
                _("IP finds the machine. Which of its programs is meant, the port says, and ports are TCP's."),
            ),
            Misconception(
                "one-kind-of-address",
                lambda answer, _capture: answer[0] == ethernet or answer[5] == ip,
                _("There are two kinds: six bytes for a network card, four for a machine anywhere in the world."),
            ),
            Misconception(
                "letter-in-tcp",
                lambda answer, _capture: answer[3] == tcp,
                _("TCP carries these bytes but does not know what they mean: the two mail programs do."),
            ),
        ),
        hints=(
            _("The first cell of this part prints all the values, each beside its envelope."),
            _("The number of the next envelope stands in the one before: 08 00 is Ethernet's, 06 is IP's."),
        ),
        where=_("the lines that the cell of this part printed."),
    )


def _header_pieces(capture: Capture) -> Sequence[tuple[str, str]]:
    packet = _first_of_the_client(capture)
    pieces = []
    for field, label, words in _PIECES:
        octets = packet.octets(field)[:6]
        if not octets:
            raise Missing(_("The packets of this capture have other headers than those of the lesson."))
        pieces.append((f"{octets.hex(' ')}  ({words().format(value=_value(packet, field))})", label))
    return pieces


def _value(packet: _Packet, field: str) -> str:
    return packet.octets(field)[:6].decode("ascii", "replace") if field == "tcp.payload" else packet.fields[field].value


def _client_packets(capture: Capture) -> Sequence[_Packet]:
    """What the client sent, in order, the packets without data too."""
    packets = _packets(capture)
    return [packet for packet in packets if packet.octets("tcp.source_port") == packets[0].octets("tcp.source_port")]


def _first_of_the_client(capture: Capture) -> _Packet:
    for packet in _client_packets(capture):
        if packet.octets("tcp.payload"):
            return packet
    raise Missing(_("In this capture the client said nothing."))


# 3 The numbers


def _first_number() -> Experiment:
    return Experiment(
        id="02-3",
        section=_("3 Number every byte"),
        takes=(Capture,),
        question=_(
            "Call the number in the client's SYN 0. Which number has its first byte of mail, the `e` of `ehlo`?"
        ),
        choices={
            "a": "0.",
            "b": "1.",
            "c": _("It depends on how much the server has said by then."),
        },
        truth=lambda capture: {0: "a", 1: "b"}.get(_number_of_the_first_byte(capture), "c"),
        found=lambda capture: _("The client's first byte of mail has the number {number}.").format(
            number=_number_of_the_first_byte(capture)
        ),
        lines=lambda capture: [line for line in _flow(capture).lines if line.side is Side.CLIENT][:1],
        replies={
            "a": _("Nearly: but SYN takes a number too, as if it were a byte, so that it can be acknowledged."),
            "c": _("Each direction counts for itself."),
        },
    )


def _number_of_the_first_byte(capture: Capture) -> int:
    begin = _client_packets(capture)[0].number("tcp.sequence")
    return int((_first_of_the_client(capture).number("tcp.sequence") - begin) % (1 << 32))


_WORD = b"Friday"


def _friday() -> Exercise:
    return Exercise(
        id="02-4",
        section=_("3 Number every byte"),
        needs="02-3",
        task=_("Which number has the first byte of the word Friday?"),
        kind=Number(_number_of_friday),
        why=lambda _capture: _("Every byte has its number, so no byte can be lost, doubled or out of place unseen."),
        misconceptions=(
            Misconception(
                "syn-not-counted",
                lambda answer, capture: answer == _number_of_friday(capture) - 1,
                _("That is its place in the stream, counted from 0. But number 0 is the SYN's."),
            ),
            Misconception(
                "start-of-packet",
                lambda answer, capture: answer == _number_of_friday(capture) - _inside_the_letter(capture),
                _("That is the number of the packet's first byte; Friday stands further inside."),
            ),
            Misconception(
                "within-letter",
                lambda answer, capture: answer - _inside_the_letter(capture) in {0, 1},
                _("That is its place in the letter. The client had said something before: that is counted too."),
            ),
        ),
        hints=(
            _('`stream.find(b"Friday")`, with the b, tells how many bytes come before it.'),
            _("Compare with the first line above: `stream` has its e at place 0, and TCP gives it the number 1."),
        ),
        where=_("the numbers printed above, and `stream`, all that the client sent."),
    )


def _number_of_friday(capture: Capture) -> int:
    place = _flow(capture).client_stream.data.find(_WORD)
    if place < 0:
        raise Missing(_("In this capture nobody writes of Friday."))
    return place + _number_of_the_first_byte(capture)


def _inside_the_letter(capture: Capture) -> int:
    """How far the word stands inside the message."""
    flow = _flow(capture)
    begin = next((line.start for line in flow.lines if line.kind is LineKind.MESSAGE), 0)
    return flow.client_stream.data.find(_WORD) - begin


# 4 The stream


def _pieces() -> Experiment:
    return Experiment(
        id="02-5",
        section=_("4 Cut a command in pieces"),
        takes=(Capture,),
        question=_("The command arrives in three pieces, a moment apart. What does the server do?"),
        choices={
            "a": _("It answers each piece, and finds all three wrong."),
            "b": _("It waits until the line has ended, and answers once."),
            "c": _("It closes the connection."),
        },
        truth=_answer_to_pieces,
        found=lambda capture: _("The server understood `{command}` and answered with {code}.").format(
            command=_first_turn(capture)[0].text, code=_first_turn(capture)[1].text[:3]
        ),
        lines=_first_turn,
        replies={
            "a": _("The server does not see packets, only the stream, and in it no line has ended yet."),
            "c": _("Nothing is wrong: a slow network may cut a line like that any time."),
        },
    )


def _first_turn(capture: Capture) -> tuple[Line, Line]:
    """The client's first line and the first line of the answer. Raises Missing."""
    found = turns(capture)
    if not found:
        raise Missing(_("In this capture no command is answered."))
    return found[0].asked, found[0].answered


def _answer_to_pieces(capture: Capture) -> str:
    asked, answered = _first_turn(capture)
    if answered.text.startswith("421"):
        return "c"
    return "b" if asked.text.upper().startswith(("EHLO", "HELO")) and answered.text.startswith("250") else "a"


# 6 Two recordings


def _honest() -> Experiment:
    return Experiment(
        id="02-6",
        section=_("6 Ask whether the tap is honest"),
        takes=(Capture, Capture),
        found=_compared,
        lines=lambda _best, tapped: _flow(tapped).lines,
    )


def _compared(best: Capture, tapped: Capture) -> str:
    one, other = _flow(best).flow, _flow(tapped).flow
    streams = [(flow.client_stream.data, flow.server_stream.data) for flow in (one, other)]
    order = [[(burst.side, burst.start, burst.end) for burst in flow.bursts] for flow in (one, other)]
    if streams[0] != streams[1] or order[0] != order[1]:
        return _("the two recordings differ.")
    text = _("{client} bytes of the client and {server} of the server, the same in both recordings, in the same order.")
    return text.format(client=len(other.client_stream.data), server=len(other.server_stream.data))


# 7 Dots

_STUFFING, _TERMINATOR = "message.stuffing", "message.terminator"


def _dot() -> Experiment:
    return Experiment(
        id="02-7",
        section=_("7 Send a line with a single dot"),
        takes=(Provider, Capture),
        question=_(
            "A line with a single dot ends a letter. hanako's letter has such a line in the middle. What happens?"
        ),
        choices={
            "a": _("The letter ends there; the rest is lost."),
            "b": _("On the way the line has two dots, in the maildrop one."),
            "c": _("The letter is refused."),
        },
        truth=_fate_of_the_dot,
        found=_dots_in_words,
        lines=lambda _provider, capture: [line for line in _flow(capture).lines if line.kind is LineKind.MESSAGE],
        replies={
            "a": _("So it would be if the client sent the line as it is. smtplib knows better."),
            "c": _("Any text can be sent: the rules of the protocol have to look after that."),
        },
    )


def _fate_of_the_dot(provider: Provider, capture: Capture) -> str:
    if not was_sent(capture):
        return "c"
    wanted = _as_meant(capture)
    stored = any(message.content == wanted for drop in provider.maildrops.values() for message in drop.messages())
    return "b" if stored and _added(capture) else "a"


def _dots_in_words(_provider: Provider, capture: Capture) -> str:
    text = _("Dots added on the way: {count}. The maildrop holds the letter {how}.")
    whole = _fate_of_the_dot(_provider, capture) == "b"
    return text.format(count=_added(capture), how=_("as hanako wrote it") if whole else _("in another form"))


def _added(capture: Capture) -> int:
    """How many dots were put in front of lines."""
    return sum(span.field == _STUFFING for span in _client_leaves(capture))


def _client_leaves(capture: Capture) -> Iterator[Span]:
    return leaves(_flow(capture).spans(Side.CLIENT))


def _as_meant(capture: Capture) -> bytes:
    """The first letter without the added dots and without its end."""
    data = _flow(capture).client_stream.data
    content = next((span for span in every_span(*capture.flows) if span.field == "smtp.content"), None)
    if content is None:
        raise Missing(_("In this capture nobody sent a letter."))
    kept = (span for span in leaves([content]) if span.field not in {_STUFFING, _TERMINATOR})
    return b"".join(data[span.start : span.end] for span in kept)


_DOT_LABELS = ("letter", "added", "end", "command")


def _dots_labelled() -> Exercise:
    letter, added, end, _command = _DOT_LABELS
    return Exercise(
        id="02-8",
        section=_("7 Send a line with a single dot"),
        needs="02-7",
        task=_("Label what the client sent from the text of the letter on: letter, added, end or command."),
        kind=Labels(lambda _provider, capture: _dot_pieces(capture), _DOT_LABELS),
        why=lambda _provider, _capture: _(
            "Only a dot that is alone on its line ends the letter, and only added dots are taken off."
        ),
        misconceptions=(
            Misconception(
                "first-dot-ends",
                lambda answer, _provider, _capture: end in answer[:-2],
                _("The letter does not end there: on the wire that line begins with two dots."),
            ),
            Misconception(
                "end-is-letter",
                lambda answer, _provider, _capture: answer[-2] in {letter, added},
                _("The last single dot is alone on its line and nobody added it to a line of hanako's: it is the end."),
            ),
            Misconception(
                "dots-all-hers",
                lambda answer, _provider, _capture: added not in answer,
                _("Compare with what hanako wrote: she has fewer dots than the wire. Somebody added some."),
            ),
        ),
        hints=(
            _("Put the pieces together, and compare them with the text that hanako sent."),
            _("Each line of hers that begins with a dot got one more in front."),
        ),
        where=_("the lines of the letter above, beside the text in the cell that sent it."),
    )


def _dot_pieces(capture: Capture) -> Sequence[tuple[str, str]]:
    """The client's bytes from the letter's text on, cut where their meaning changes."""
    letter, added, end, command = _DOT_LABELS
    labels = {"message.text": letter, _STUFFING: added, _TERMINATOR: end}
    data = _flow(capture).client_stream.data
    pieces: list[tuple[bytes, str]] = []
    for span in _client_leaves(capture):
        label = labels.get(span.field, command if pieces else "")
        octets = data[span.start : span.end]
        if pieces and pieces[-1][1] == label and label == command:
            pieces[-1] = (pieces[-1][0] + octets, label)
        elif label:
            pieces.append((octets, label))
    if [label for _octets, label in pieces][-2:] != [end, command]:
        raise Missing(_("This capture does not hold one letter of plain text, sent to its end."))
    return [(repr(octets)[2:-1], label) for octets, label in pieces]


def _three_dots() -> Exercise:
    return Exercise(
        id="02-9",
        section=_("7 Send a line with a single dot"),
        needs=None,
        task=_("Record hanako sending a letter to which exactly three dots are added on the way."),
        kind=Proof(Capture, _("a capture"), lambda capture: was_sent(capture) and _added(capture) == 3),
        why=lambda: _("One for each line that begins with a dot, wherever else there are dots."),
        misconceptions=(
            Misconception(
                "not-sent",
                lambda capture: not was_sent(capture),
                _("In this capture no letter was sent and accepted."),
            ),
            Misconception(
                "dots-elsewhere",
                lambda capture: not _added(capture),
                _("No dot was added: only a dot at the beginning of a line needs one."),
            ),
            Misconception(
                "dots-in-one-line",
                lambda capture: _added(capture) == 1,
                _("One was added: a line gets one dot, however many it begins with."),
            ),
            Misconception(
                "end-counted",
                lambda capture: _added(capture) == 2,
                _("Two were added. The dot that ends the letter is not an added one: it belongs to every letter."),
            ),
            Misconception(
                "too-many",
                lambda capture: _added(capture) > 3,
                _("More than three were added: every line that begins with a dot gets one."),
            ),
        ),
        hints=(
            _("A line that begins with a dot gets one more. How many such lines do you need?"),
            _('A text such as `"Subject: Dots\\r\\n\\r\\n.one\\r\\n.two\\r\\n"` has two such lines.'),
        ),
        where=_("the lines of your letter in `three`: which of them begin with two dots?"),
    )
