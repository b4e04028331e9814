"""Lesson 05, wrap it in TLS: how the wire answers what its notebook asks."""

from collections.abc import Sequence

from labkit.capture import Capture
from labkit.decode.dissection import Line, LineKind
from labkit.decode.exposure import Fact, Verdict, expose
from labkit.decode.protocols import POP3S, SMTPS
from labkit.decode.tls.names import CHANGE_CIPHER_SPEC, HANDSHAKE
from labkit.lessons.answers import Choice, Made, Order, Text, laid_before
from labkit.lessons.evidence import (
    Missing,
    TlsLine,
    card,
    commands,
    first_of,
    first_span,
    opened,
    opened_turns,
    password,
    sends,
    tls_lines,
    tls_version,
    values,
    verdict,
)
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.texts import N_, _
from labkit.wire.flows import Side

_STARTTLS = "C: STARTTLS"
_PRIVATE_KEY = "S: PrivateKey of mail.example"

_TEXTS = {"a": "Yes, gladly.", "b": "No, I am away on Friday.", "c": "Perhaps. I have to ask at home first."}

STEPS: tuple[Step, ...] = (
    Experiment(
        "05-1",
        truth=lambda seen: _who_begins(seen.capture),
        found={
            "a": N_("The server greets, in the clear."),
            "b": N_("The client says a TLS message, and the server answers with one."),
            "c": N_("The client says a command, in the clear."),
        },
        lines=lambda seen: _begin(seen.capture)[:2],
        replies={
            "a": N_("On port 25 it does. On port 465 the server waits until the tunnel stands, and greets inside it."),
            "c": N_("That comes too, but later, and inside the tunnel, where nobody else can read it."),
        },
    ),
    Experiment(
        "05-2",
        takes=(Capture, Capture),
        truth=lambda seen: _who_reads_the_certificate(*seen.captures),
        found=lambda seen: _certificate_in_words(*seen.captures),
        lines=lambda seen: [*_answers(seen.captures[0])[:2], *_answers(seen.captures[1])[:2]],
        replies={
            "a": N_(
                "TLS 1.3 encrypts everything that comes after the two hellos, and the certificate comes after them."
            ),
            "c": N_(
                "It cannot be secret: every client that connects is shown it. It may only be hidden from listeners."
            ),
        },
    ),
    Exercise(
        "05-3",
        needs="05-2",
        answer=Order(
            lambda seen: _cards(seen.captures[1]),
            (_STARTTLS, _PRIVATE_KEY),
            mistakes={
                "asked-for": lambda answer, _seen: _STARTTLS in answer,
                "key-sent": lambda answer, _seen: _PRIVATE_KEY in answer,
                "mail-before-keys": lambda answer, seen: _too_early(answer, _cards(seen.captures[1]), 5, 8),
                "server-first": lambda answer, seen: _too_early(answer, _cards(seen.captures[1]), 1, 2),
            },
        ),
        why=N_("Hello, hello, certificate, key exchange; then the tunnel stands, and SMTP begins as if it were alone."),
        says={
            "asked-for": N_(
                "Nobody asks for TLS here: on port 465 it is there from the first byte. STARTTLS is lesson 06."
            ),
            "key-sent": N_("A private key never crosses the wire: the server only signs with it."),
            "mail-before-keys": N_("That line of SMTP was inside TLS, so the keys must be agreed on before it."),
            "server-first": N_("The server answers a hello: in TLS the client speaks first."),
        },
        hints=(
            N_("The handshake that you printed has the first five cards, in order."),
            N_("Inside TLS the session is an ordinary one: there the server greets first."),
        ),
        where=N_("the handshake printed above, and for the lines of SMTP a session of lesson 03."),
    ),
    Experiment(
        "05-4",
        truth=lambda seen: "b" if opened(seen.capture) else "",
        found=lambda seen: _("{count} lines of mail came out of the tunnel.").format(
            count=sum(len(talk.lines) for talk in opened(seen.capture))
        ),
        lines=lambda seen: [line for talk in opened(seen.capture) for line in commands(talk)],
        replies={
            "a": N_("That key only sealed (signed) the handshake. The session's own keys cannot be had from it."),
            "c": N_("The password is in the tunnel; it is not what locks it."),
        },
    ),
    Exercise(
        "05-5",
        needs="05-4",
        answer=Text(
            lambda seen: _file_name(seen.capture),
            mistakes={
                "type": lambda answer, _seen: "/" in answer,
                "boundary": lambda answer, _seen: "=_" in answer,
                "whole-line": lambda answer, seen: (
                    _file_name(seen.capture) in answer and answer != _file_name(seen.capture)
                ),
            },
        ),
        why=N_("Attachments travel inside the letter, so what hides the letter hides them too."),
        says={
            "type": N_("That says what kind of file it is. Its name stands in another header of the same part."),
            "boundary": N_("That is the boundary, the line that separates the parts of the letter."),
            "whole-line": N_("The name is in there. Leave out what stands around it, the quotes too."),
        },
        hints=(
            N_("An attachment begins with headers of its own. One of them is `Content-Disposition`."),
            N_('`[text for text in lines if "filename" in text]` leaves one line.'),
        ),
        where=N_("the lines of the message in `opened`, between `data` and `QUIT`."),
    ),
    Experiment(
        "05-6",
        truth=lambda seen: _learned(seen.capture),
        found=lambda seen: _("The server's name is {name}, of the message size {size}.").format(
            name=_("given away") if verdict(seen.capture, Fact.SERVER_NAME) is Verdict.READABLE else _("hidden"),
            size=_("there is an estimate")
            if verdict(seen.capture, Fact.MESSAGE_SIZE) is Verdict.SIZE_ONLY
            else _("nothing"),
        ),
        lines=lambda seen: _begin(seen.capture)[:1],
        replies={
            "a": N_(
                "The client must say whom it calls before there are keys; and encrypted bytes can still be counted."
            ),
            "c": N_("Sender and recipients are commands of SMTP, and those are inside TLS."),
        },
    ),
    Exercise(
        "05-7",
        answer=Made(
            Capture,
            lambda capture, _seen: sends(capture) and verdict(capture, Fact.SERVER_NAME) is Verdict.HIDDEN,
            mistakes={
                "in-the-clear": lambda capture, _seen: any(not flow.tls for flow in capture.flows),
                "nobody-sent": lambda capture, _seen: not sends(capture),
                "still-called-by-name": lambda capture, _seen: any(
                    flow.tls and flow.tls.server_name for flow in capture.flows
                ),
                "another-number": lambda capture, _seen: (
                    password(capture) is Verdict.NOT_SENT and any(flow.tls for flow in capture.flows)
                ),
                "certificate-tells": lambda capture, _seen: bool(_subject(capture)),
            },
        ),
        why=N_(
            "A number is not a name, so it goes into no ClientHello (RFC 6066), and TLS 1.3 hides the certificate. It "
            "works here because the lab's certificate holds the number too; and that number is still in every "
            "packet's header."
        ),
        says={
            "in-the-clear": N_("This session is in the clear: the server says its name in the first line."),
            "nobody-sent": N_("Nobody sent anything in this capture."),
            "still-called-by-name": N_("The ClientHello still says whom it calls."),
            "another-number": N_(
                "The ClientHello says no name now, but her program left: that number is not in the certificate. (The "
                "numbers of lesson 02 stand only in the packets that the lab writes.) This server's is in "
                "`provider.host`."
            ),
            "certificate-tells": N_("The ClientHello is silent now, but with TLS 1.2 the certificate says the name."),
        },
        hints=(
            N_("The program puts its setting `server` into the ClientHello if it is a name. A number it leaves out."),
            N_('`provider.client("hanako", server=provider.host)` calls the server by its number.'),
        ),
        where=N_("the first line of `nameless`: what does the ClientHello say?"),
    ),
    Experiment(
        "05-8",
        takes=(Capture, Capture, Capture),
        truth=lambda seen: _what_tells(*seen.captures),
        found=lambda seen: _sizes_in_words(*seen.captures),
        lines=lambda seen: [_largest(capture).line for capture in seen.captures],
        replies={
            "a": N_("They look alike, but they can be counted: TLS adds the same few bytes to every text."),
            "c": N_("The keys are new in every session, so the same text never looks the same twice."),
        },
    ),
    Experiment(
        "05-9",
        found=lambda seen: _("the letter is in one record of {size} bytes.").format(size=_size(seen.capture)),
        lines=lambda seen: [_largest(seen.capture).line],
    ),
    Exercise(
        "05-10",
        needs="05-9",
        answer=Choice(
            lambda seen: _letter_of(seen.capture),
            "abc",
            mistakes={
                "shorter": lambda answer, seen: len(_TEXTS[answer]) < len(_secret_text(seen.capture)),
                "longer": lambda answer, seen: len(_TEXTS[answer]) > len(_secret_text(seen.capture)),
            },
        ),
        why=N_("That is traffic analysis: size, order and time of what is sent stay open, and often they are enough."),
        says={
            "shorter": N_("That text is shorter than what was sent: its record would be smaller."),
            "longer": N_("That text is longer than what was sent: its record would be larger."),
        },
        hints=(
            N_("The first experiment of this part told the sizes for the texts a and c."),
            N_('`record(texts["b"])` records the one in between; its timeline shows the size.'),
        ),
        where=N_("the highest bar of the client in `secret.timeline()`."),
    ),
    Exercise(
        "05-11",
        answer=Made(
            Capture,
            lambda capture, _seen: _inside(capture) and _fetched(capture),
            mistakes={
                "sent-instead": lambda capture, _seen: (
                    bool(capture.flows) and all(flow.protocol is SMTPS for flow in capture.flows)
                ),
                "in-the-clear": lambda capture, _seen: not _inside(capture),
                "not-taros": lambda capture, _seen: not _is_taros(capture),
                "refused": lambda capture, _seen: any(turn.code == "-ER" for turn in opened_turns(capture)),
                "only-looked": lambda capture, _seen: not _fetched(capture),
            },
        ),
        why=N_("POP3S hides login and letter on the way to the reader, as SMTPS does on the way from the sender."),
        says={
            "sent-instead": N_("This is a letter being sent, through port 465. To read is POP3's affair, on port 995."),
            "in-the-clear": N_("This session is not inside TLS from its first byte: anybody on the way reads it."),
            "not-taros": N_("This is somebody else's maildrop: it is taro who reads."),
            "refused": N_(
                "The server refused something. Is the password taro's, and is there a letter of this number?"
            ),
            "only-looked": N_("taro logged in, but he fetched nothing: no RETR was answered with a letter."),
        },
        hints=(
            N_("Log in with `user` and `pass_`, fetch with `retr(1)`, and end with `quit()`."),
            N_('`provider.accounts["taro"]` knows his `login` and `password`.'),
        ),
        where=N_("`reading.unlock()` shows what you said, from inside the tunnel."),
    ),
)


def _begin(capture: Capture) -> Sequence[Line]:
    """The lines of the first connection that said anything."""
    return first_of(filter(None, (flow.lines for flow in capture.flows)), _("In this capture nobody said anything."))


def _who_begins(capture: Capture) -> str:
    first = _begin(capture)[0]
    if first.side is Side.SERVER:
        return "a"
    return "b" if first.kind is LineKind.TLS else "c"


def _who_reads_the_certificate(newer: Capture, older: Capture) -> str:
    if tls_version(newer) != "TLS 1.3" or tls_version(older) != "TLS 1.2":
        raise Missing(_("This takes two captures: first one with TLS 1.3, then one with TLS 1.2."))
    return {(True, True): "a", (False, True): "b"}.get((bool(_subject(newer)), bool(_subject(older))), "c")


def _subject(capture: Capture) -> str:
    """Whom the certificate in the capture names, as everybody could read it."""
    return next(iter(values(capture.flows, "x509.subject")), "")


def _certificate_in_words(newer: Capture, older: Capture) -> str:
    text = _("TLS 1.3 shows a listener {newer}, TLS 1.2 shows {older}.")
    shown = [
        _("the certificate of `{subject}`").format(subject=found.rpartition("CN=")[2]) if found else _("no certificate")
        for found in (_subject(newer), _subject(older))
    ]
    return text.format(newer=shown[0], older=shown[1])


def _answers(capture: Capture) -> Sequence[Line]:
    """What the server says in its handshake, each kind of line once and ChangeCipherSpec not at all."""
    said = [tls for tls in tls_lines(capture) if tls.record.side is Side.SERVER]
    kinds = {tls.line.text: tls.line for tls in reversed(said) if tls.record.content_type != CHANGE_CIPHER_SPEC}
    return list(reversed(kinds.values()))


def _cards(older: Capture) -> Sequence[str]:
    """Five messages of the handshake, then greeting, first command and login out of the tunnel."""
    inside = opened(older)[0]
    greeting, said = [line for line in inside.lines if line.kind is LineKind.REPLY][:1], commands(inside)[:2]
    if not greeting or len(said) < 2:
        raise Missing(_("In this capture nobody logged in inside TLS."))
    return (*_short_handshake(older), *map(card, (*greeting, *said)))


_HANDSHAKE = (
    (Side.CLIENT, "ClientHello"),
    (Side.SERVER, "ServerHello"),
    (Side.SERVER, "Certificate"),
    (Side.CLIENT, "ClientKeyExchange"),
)


def _short_handshake(capture: Capture) -> Sequence[str]:
    """The five messages that matter most, as they came. Raises Missing when one is not there."""
    said = list(tls_lines(capture))
    clear = dict.fromkeys((tls.record.side, name) for tls in said for name in tls.messages)
    finished = [tls.line for tls in said if tls.record.encrypted and tls.record.content_type == HANDSHAKE]
    found = [f"{'C' if side is Side.CLIENT else 'S'}: {name}" for side, name in clear if (side, name) in _HANDSHAKE]
    if len(found) != len(_HANDSHAKE) or not finished or finished[0].side is not Side.CLIENT:
        raise Missing(_("This capture does not show a whole handshake of TLS 1.2."))
    return [*found, card(finished[0])]


def _too_early(answer: Sequence[str], cards: Sequence[str], first: int, end: int) -> bool:
    """Whether one of the cards from place `first` up to `end` was laid before one that belongs before all of them."""
    return any(laid_before(answer, cards, late, early) for late in range(first, end) for early in range(first))


def _file_name(capture: Capture) -> str:
    """What Content-Disposition calls the attachment (RFC 2183 section 2.3). Raises Missing."""
    missing = _("In this capture nobody sent an attachment.")
    parameter = first_span(opened(capture), "message.content-disposition.parameter", missing)
    return parameter.value.partition("=")[2].strip('"')


def _learned(capture: Capture) -> str:
    _begin(capture)
    if verdict(capture, Fact.SENDER) is not Verdict.HIDDEN:
        return "c"
    told = verdict(capture, Fact.SERVER_NAME), verdict(capture, Fact.MESSAGE_SIZE)
    return "a" if told == (Verdict.HIDDEN, Verdict.HIDDEN) else "b"


def _what_tells(first: Capture, again: Capture, other: Capture) -> str:
    if _secret_text(first) != _secret_text(again) or _secret_text(first) == _secret_text(other):
        raise Missing(_("This takes three captures: the same text twice, then another one."))
    if _largest(first).octets == _largest(again).octets:
        return "c"
    return "b" if _size(first) == _size(again) != _size(other) else "a"


def _sizes_in_words(first: Capture, again: Capture, other: Capture) -> str:
    text = _("The same text: {first} and {again} bytes. Another text: {other} bytes. The encrypted bytes are {alike}.")
    alike = _("the same") if _largest(first).octets == _largest(again).octets else _("different each time")
    return text.format(first=_size(first), again=_size(again), other=_size(other), alike=alike)


def _largest(capture: Capture) -> TlsLine:
    """The largest encrypted record that a client sent: that is the letter. Raises Missing."""
    said = [tls for tls in tls_lines(capture) if tls.record.application and tls.record.side is Side.CLIENT]
    if not said:
        raise Missing(_("In this capture nobody sent anything inside TLS."))
    return max(said, key=lambda tls: len(tls.octets))


def _size(capture: Capture) -> int:
    """As the dialogue tells it: without the record's header."""
    return len(_largest(capture).octets) - 5


def _secret_text(capture: Capture) -> str:
    """The text of the letter, read with the key log, as nobody on the way could. Raises Missing."""
    return first_span(opened(capture), "message.text", _("In this capture nobody sent a letter.")).value.strip()


def _letter_of(capture: Capture) -> str:
    fitting = (letter for letter, text in _TEXTS.items() if text == _secret_text(capture))
    return first_of(fitting, _("The letter in this capture holds none of the three texts."))


def _inside(capture: Capture) -> bool:
    return bool(capture.flows) and all(flow.protocol is POP3S for flow in capture.flows)


def _is_taros(capture: Capture) -> bool:
    return expose(opened(capture))[Fact.LOGIN_NAME].value == "taro"


def _fetched(capture: Capture) -> bool:
    answers = {turn.code for turn in opened_turns(capture) if turn.verb == "RETR"}
    return _is_taros(capture) and "+OK" in answers
