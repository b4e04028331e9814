"""Lesson 02, explain every byte: how the wire answers what its notebook asks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from labkit.capture import Capture
from labkit.decode.dissection import LineKind
from labkit.decode.headers import frame_spans
from labkit.decode.spans import Span, leaves
from labkit.lessons.answers import Labels, Made, Number
from labkit.lessons.evidence import Missing, Turn, first_of, first_smtp, first_span, turns, was_sent
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.provider import Provider
from labkit.texts import N_, _
from labkit.wire.flows import Side
from labkit.wire.frames import Frame

# The pieces to label, in the order in which they lie on the table: the span's field, and its label.
_PIECES = {
    "ip.destination": "ip",
    "ethernet.type": "ethernet",
    "tcp.destination_port": "tcp",
    "tcp.payload": "smtp",
    "ip.protocol": "ip",
    "ethernet.destination": "ethernet",
}
_NAMES_THE_NEXT = {"ethernet.type", "ip.protocol"}
_WORD = b"Friday"
_STUFFING, _TERMINATOR = "message.stuffing", "message.terminator"
_DOT_LABELS = {"message.text": "letter", _STUFFING: "added", _TERMINATOR: "end"}

STEPS: tuple[Step, ...] = (
    Experiment(
        "02-1",
        truth=lambda seen: {0: "a", 1: "b", 3: "c"}.get(_silent_packets(seen.capture), ""),
        found=lambda seen: _("{count} packets without a byte of mail, then the greeting.").format(
            count=_silent_packets(seen.capture)
        ),
        lines=lambda seen: first_smtp(seen.capture).lines[:1],
        replies={
            "a": N_("The client must call before the server can answer."),
            "b": N_("The server answers, and then it waits once more: it wants to see that its answer arrives."),
        },
    ),
    Exercise(
        "02-2",
        needs="02-1",
        answer=Labels(
            lambda seen: _header_pieces(seen.capture),
            ("ethernet", "ip", "tcp", "smtp"),
            mistakes={
                "names-the-next": lambda answer, _seen: answer[1] == "ip" or answer[4] == "tcp",
                "port-in-ip": lambda answer, _seen: answer[2] == "ip",
                "one-kind-of-address": lambda answer, _seen: answer[0] == "ethernet" or answer[5] == "ip",
                "letter-in-tcp": lambda answer, _seen: answer[3] == "tcp",
            },
        ),
        why=N_("Each envelope has addresses of its own, and Ethernet and IP also say what comes next inside."),
        says={
            "names-the-next": N_(
                "What says “next comes …” stands in the envelope around it: otherwise nobody would know how to read on."
            ),
            "port-in-ip": N_(
                "IP finds the machine. Which of its programs is meant, the port says, and ports are TCP's."
            ),
            "one-kind-of-address": N_(
                "There are two kinds: six bytes for a network card, four for a machine anywhere in the world."
            ),
            "letter-in-tcp": N_("TCP carries these bytes but does not know what they mean: the two mail programs do."),
        },
        hints=(
            N_("The first cell of this part prints all the values, each beside its envelope."),
            N_("The number of the next envelope stands in the one before: 08 00 is Ethernet's, 06 is IP's."),
        ),
        where=N_("the lines that the cell of this part printed."),
    ),
    Experiment(
        "02-3",
        truth=lambda seen: {0: "a", 1: "b"}.get(_number_of_the_first_byte(seen.capture), "c"),
        found=lambda seen: _("The client's first byte of mail has the number {number}.").format(
            number=_number_of_the_first_byte(seen.capture)
        ),
        lines=lambda seen: [line for line in first_smtp(seen.capture).lines if line.side is Side.CLIENT][:1],
        replies={
            "a": N_("Nearly: but SYN takes a number too, as if it were a byte, so that it can be acknowledged."),
            "c": N_("Each direction counts for itself."),
        },
    ),
    Exercise(
        "02-4",
        needs="02-3",
        answer=Number(
            lambda seen: _number_of_friday(seen.capture),
            mistakes={
                "syn-not-counted": lambda answer, seen: answer == _number_of_friday(seen.capture) - 1,
                "start-of-packet": lambda answer, seen: (
                    answer == _number_of_friday(seen.capture) - _inside_the_letter(seen.capture)
                ),
                "within-letter": lambda answer, seen: answer - _inside_the_letter(seen.capture) in {0, 1},
            },
        ),
        why=N_("Every byte has its number, so no byte can be lost, doubled or out of place unseen."),
        says={
            "syn-not-counted": N_("That is its place in the stream, counted from 0. But number 0 is the SYN's."),
            "start-of-packet": N_("That is the number of the packet's first byte; Friday stands further inside."),
            "within-letter": N_(
                "That is its place in the letter. The client had said something before: that is counted too."
            ),
        },
        hints=(
            N_('`stream.find(b"Friday")`, with the b, tells how many bytes come before it.'),
            N_("Compare with the first line above: `stream` has its e at place 0, and TCP gives it the number 1."),
        ),
        where=N_("the numbers printed above, and `stream`, all that the client sent."),
    ),
    Experiment(
        "02-5",
        truth=lambda seen: _answer_to_pieces(seen.capture),
        found=lambda seen: _("The server understood `{command}` and answered with {code}.").format(
            command=_first_turn(seen.capture).asked.text, code=_first_turn(seen.capture).code
        ),
        lines=lambda seen: _first_turn(seen.capture).lines,
        replies={
            "a": N_("The server does not see packets, only the stream, and in it no line has ended yet."),
            "c": N_("Nothing is wrong: a slow network may cut a line like that any time."),
        },
    ),
    Experiment(
        "02-6",
        takes=(Capture, Capture),
        found=lambda seen: _compared(*seen.captures),
        lines=lambda seen: first_smtp(seen.captures[1]).lines,
    ),
    Experiment(
        "02-7",
        takes=(Provider, Capture),
        truth=lambda seen: _became_of_the_dot(seen.provider, seen.capture),
        found=lambda seen: _dots_in_words(seen.provider, seen.capture),
        lines=lambda seen: [line for line in first_smtp(seen.capture).lines if line.kind is LineKind.MESSAGE],
        replies={
            "a": N_("So it would be if the client sent the line as it is. smtplib knows better."),
            "c": N_("Any text can be sent: the rules of the protocol have to look after that."),
        },
    ),
    Exercise(
        "02-8",
        needs="02-7",
        answer=Labels(
            lambda seen: _dot_pieces(seen.capture),
            (*_DOT_LABELS.values(), "command"),
            mistakes={
                "first-dot-ends": lambda answer, _seen: "end" in answer[:-2],
                "end-is-letter": lambda answer, _seen: answer[-2] in {"letter", "added"},
                "dots-all-hers": lambda answer, _seen: "added" not in answer,
            },
        ),
        why=N_("Only a dot that is alone on its line ends the letter, and only added dots are taken off."),
        says={
            "first-dot-ends": N_("The letter does not end there: on the wire that line begins with two dots."),
            "end-is-letter": N_(
                "The last single dot is alone on its line and nobody added it to a line of hanako's: it is the end."
            ),
            "dots-all-hers": N_(
                "Compare with what hanako wrote: she has fewer dots than the wire. Somebody added some."
            ),
        },
        hints=(
            N_("Put the pieces together, and compare them with the text that hanako sent."),
            N_("Each line of hers that begins with a dot got one more in front."),
        ),
        where=N_("the lines of the letter above, beside the text in the cell that sent it."),
    ),
    Exercise(
        "02-9",
        answer=Made(
            Capture,
            lambda capture, _seen: was_sent(capture) and _added(capture) == 3,
            mistakes={
                "not-sent": lambda capture, _seen: not was_sent(capture),
                "dots-elsewhere": lambda capture, _seen: not _added(capture),
                "dots-in-one-line": lambda capture, _seen: _added(capture) == 1,
                "end-counted": lambda capture, _seen: _added(capture) == 2,
                "too-many": lambda capture, _seen: _added(capture) > 3,
            },
        ),
        why=N_("One for each line that begins with a dot, wherever else there are dots."),
        says={
            "not-sent": N_("In this capture no letter was sent and accepted."),
            "dots-elsewhere": N_("No dot was added: only a dot at the beginning of a line needs one."),
            "dots-in-one-line": N_("One was added: a line gets one dot, however many it begins with."),
            "end-counted": N_(
                "Two were added. The dot that ends the letter is not an added one: it belongs to every letter."
            ),
            "too-many": N_("More than three were added: every line that begins with a dot gets one."),
        },
        hints=(
            N_("A line that begins with a dot gets one more. How many such lines do you need?"),
            N_('A text such as `"Subject: Dots\\r\\n\\r\\n.one\\r\\n.two\\r\\n"` has two such lines.'),
        ),
        where=N_("the lines of your letter in `three`: which of them begin with two dots?"),
    ),
)


class _NamedPacket(NamedTuple):
    """A packet between the addresses that people know, and the fields of its headers."""

    data: bytes
    fields: dict[str, Span]

    def octets(self, field: str) -> bytes:
        """A field as it is on the wire; empty where the packet has none."""
        span = self.fields.get(field)
        return self.data[span.start : span.end] if span else b""

    def number(self, field: str) -> int:
        return int.from_bytes(self.octets(field), "big")


def _packets(capture: Capture) -> Sequence[_NamedPacket]:
    """The packets of the first SMTP connection."""
    found = []
    for number in first_smtp(capture).flow.packets:
        data = bytes(capture.packets[number - 1])
        spans = frame_spans(Frame(0, data, len(data), capture.frames[number - 1].link))
        found.append(_NamedPacket(data, {span.field: span for span in leaves(spans)}))
    return found


def _silent_packets(capture: Capture) -> int:
    """How many packets come before the first that carries data."""
    said = (count for count, packet in enumerate(_packets(capture)) if packet.octets("tcp.payload"))
    return first_of(said, _("In this capture nobody said anything."))


def _header_pieces(capture: Capture) -> Sequence[tuple[str, str]]:
    packet = _first_of_the_client(capture)
    pieces = []
    for field, label in _PIECES.items():
        octets = packet.octets(field)[:6]
        if not octets:
            raise Missing(_("The packets of this capture have other headers than those of the lesson."))
        value = octets.decode("ascii", "replace") if field == "tcp.payload" else packet.fields[field].value
        told = _("next comes {value}").format(value=value) if field in _NAMES_THE_NEXT else value
        pieces.append((f"{octets.hex(' ')}  ({told})", label))
    return pieces


def _client_packets(capture: Capture) -> Sequence[_NamedPacket]:
    """What the client sent, in order, the packets without data too."""
    packets = _packets(capture)
    return [packet for packet in packets if packet.octets("tcp.source_port") == packets[0].octets("tcp.source_port")]


def _first_of_the_client(capture: Capture) -> _NamedPacket:
    said = (packet for packet in _client_packets(capture) if packet.octets("tcp.payload"))
    return first_of(said, _("In this capture the client said nothing."))


def _number_of_the_first_byte(capture: Capture) -> int:
    begin = _client_packets(capture)[0].number("tcp.sequence")
    return int((_first_of_the_client(capture).number("tcp.sequence") - begin) % (1 << 32))


def _number_of_friday(capture: Capture) -> int:
    place = first_smtp(capture).client_stream.data.find(_WORD)
    if place < 0:
        raise Missing(_("In this capture nobody writes of Friday."))
    return place + _number_of_the_first_byte(capture)


def _inside_the_letter(capture: Capture) -> int:
    """How far the word stands inside the message."""
    flow = first_smtp(capture)
    begin = next((line.start for line in flow.lines if line.kind is LineKind.MESSAGE), 0)
    return flow.client_stream.data.find(_WORD) - begin


def _first_turn(capture: Capture) -> Turn:
    """The client's first line and the first line of the answer. Raises Missing."""
    return first_of(turns(capture), _("In this capture no command is answered."))


def _answer_to_pieces(capture: Capture) -> str:
    turn = _first_turn(capture)
    if turn.code == "421":
        return "c"
    return "b" if turn.verb in {"EHLO", "HELO"} and turn.code == "250" else "a"


def _compared(best: Capture, tapped: Capture) -> str:
    one, other = first_smtp(best).flow, first_smtp(tapped).flow
    streams = [(flow.client_stream.data, flow.server_stream.data) for flow in (one, other)]
    order = [[(burst.side, burst.start, burst.end) for burst in flow.bursts] for flow in (one, other)]
    if streams[0] != streams[1] or order[0] != order[1]:
        return _("the two recordings differ.")
    text = _("{client} bytes of the client and {server} of the server, the same in both recordings, in the same order.")
    return text.format(client=len(other.client_stream.data), server=len(other.server_stream.data))


def _became_of_the_dot(provider: Provider, capture: Capture) -> str:
    if not was_sent(capture):
        return "c"
    wanted = _as_meant(capture)
    stored = any(message.content == wanted for drop in provider.maildrops.values() for message in drop.messages())
    return "b" if stored and _added(capture) else "a"


def _dots_in_words(provider: Provider, capture: Capture) -> str:
    text = _("Dots added on the way: {count}. The maildrop holds the letter {how}.")
    whole = _became_of_the_dot(provider, capture) == "b"
    return text.format(count=_added(capture), how=_("as hanako wrote it") if whole else _("in another form"))


def _added(capture: Capture) -> int:
    """How many dots were put in front of lines."""
    return sum(span.field == _STUFFING for span in _client_leaves(capture))


def _client_leaves(capture: Capture) -> Iterator[Span]:
    return leaves(first_smtp(capture).spans(Side.CLIENT))


def _as_meant(capture: Capture) -> bytes:
    """The first letter without the added dots and without its end."""
    data = first_smtp(capture).client_stream.data
    content = first_span(capture.flows, "smtp.content", _("In this capture nobody sent a letter."))
    kept = (span for span in leaves([content]) if span.field not in {_STUFFING, _TERMINATOR})
    return b"".join(data[span.start : span.end] for span in kept)


def _dot_pieces(capture: Capture) -> Sequence[tuple[str, str]]:
    """The client's bytes from the letter's text on, cut where their meaning changes."""
    data = first_smtp(capture).client_stream.data
    pieces: list[tuple[bytes, str]] = []
    for span in _client_leaves(capture):
        label = _DOT_LABELS.get(span.field, "command" if pieces else "")
        octets = data[span.start : span.end]
        if pieces and pieces[-1][1] == label == "command":
            pieces[-1] = (pieces[-1][0] + octets, label)
        elif label:
            pieces.append((octets, label))
    if [label for _octets, label in pieces][-2:] != ["end", "command"]:
        raise Missing(_("This capture does not hold one letter of plain text, sent to its end."))
    return [(repr(octets)[2:-1], label) for octets, label in pieces]
