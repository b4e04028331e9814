"""Lesson 05, wrap it in TLS: what its notebook asks, and how the wire answers."""

from collections.abc import Sequence

from labkit.capture import Capture
from labkit.decode.dissection import Line, LineKind
from labkit.decode.exposure import Fact, Verdict, expose
from labkit.decode.protocols import POP3S, SMTP, SMTPS
from labkit.decode.tls.session import Record
from labkit.lessons.evidence import Missing, every_span, opened, opened_turns, verdict
from labkit.lessons.kinds import Choice, Order, Proof, Text
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.texts import _
from labkit.wire.flows import Side


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (
        _first(),
        _certificate(),
        _order(),
        _key(),
        _attachment(),
        _leaks(),
        _nameless(),
        _sizes(),
        _secret(),
        _weighed(),
        _reading(),
    )
    return Lesson("05", _("Wrap it in TLS"), steps)


# 1 The first byte


def _first() -> Experiment:
    return Experiment(
        id="05-1",
        section=_("1 Begin with TLS"),
        takes=(Capture,),
        question=_("hanako sends her letter through port 465. What crosses the wire first?"),
        choices={
            "a": _("The server's greeting, as on port 25."),
            "b": _("The client's first TLS message."),
            "c": _("The client's `ehlo`."),
        },
        truth=_who_begins,
        found=_beginning_in_words,
        lines=lambda capture: _begin(capture)[:2],
        replies={
            "a": _("On port 25 it does. On port 465 the server waits until the tunnel stands, and greets inside it."),
            "c": _("That comes too, but later, and inside the tunnel, where nobody else can read it."),
        },
    )


def _begin(capture: Capture) -> Sequence[Line]:
    """The lines of the first connection that said anything."""
    lines = next((flow.lines for flow in capture.flows if flow.lines), ())
    if not lines:
        raise Missing(_("In this capture nobody said anything."))
    return lines


def _who_begins(capture: Capture) -> str:
    first = _begin(capture)[0]
    if first.side is Side.SERVER:
        return "a"
    return "b" if first.kind is LineKind.TLS else "c"


def _beginning_in_words(capture: Capture) -> str:
    return {
        "a": _("The server greets, in the clear."),
        "b": _("The client says a TLS message, and the server answers with one."),
        "c": _("The client says a command, in the clear."),
    }[_who_begins(capture)]


# 2 The handshake


def _certificate() -> Experiment:
    return Experiment(
        id="05-2",
        section=_("2 Read the handshake"),
        takes=(Capture, Capture),
        question=_("Who on the way can read the certificate?"),
        choices={
            "a": _("Everybody, both times."),
            "b": _("Everybody with TLS 1.2, nobody with TLS 1.3."),
            "c": _("Nobody: a certificate is secret."),
        },
        truth=_who_reads_the_certificate,
        found=_certificate_in_words,
        lines=lambda newer, older: [*_answers(newer)[:2], *_answers(older)[:2]],
        replies={
            "a": _(
                "TLS 1.3 encrypts everything that comes after the two hellos, and the certificate comes after them."
            ),
            "c": _(
                "It cannot be secret: every client that connects is shown it. It may only be hidden from listeners."
            ),
        },
    )


def _who_reads_the_certificate(newer: Capture, older: Capture) -> str:
    if _version(newer) != "TLS 1.3" or _version(older) != "TLS 1.2":
        raise Missing(_("This takes two captures: first one with TLS 1.3, then one with TLS 1.2."))
    return {(True, True): "a", (False, True): "b"}.get((bool(_subject(newer)), bool(_subject(older))), "c")


def _version(capture: Capture) -> str:
    versions = [flow.tls.version for flow in capture.flows if flow.tls]
    return (versions or [None])[0] or ""


def _subject(capture: Capture) -> str:
    """Whom the certificate in the capture names, as everybody could read it."""
    spans = every_span(*capture.flows)
    return next((span.value for span in spans if span.field == "x509.subject"), "")


def _certificate_in_words(newer: Capture, older: Capture) -> str:
    text = _("TLS 1.3 shows a listener {newer}, TLS 1.2 shows {older}.")
    shown = [
        _("the certificate of `{subject}`").format(subject=found.rpartition("CN=")[2]) if found else _("no certificate")
        for found in (_subject(newer), _subject(older))
    ]
    return text.format(newer=shown[0], older=shown[1])


def _answers(capture: Capture) -> Sequence[Line]:
    """What the server says in its first handshake, each kind of line once and ChangeCipherSpec not at all."""
    flow = next((flow for flow in capture.flows if flow.tls), None)
    lines = flow.lines if flow else ()
    kinds = {line.text: line for line in reversed(lines) if line.side is Side.SERVER and line.kind is LineKind.TLS}
    return [line for text, line in reversed(kinds.items()) if not text.startswith("ChangeCipherSpec")]


_STARTTLS = "C: STARTTLS"
_PRIVATE_KEY = "S: PrivateKey of mail.example"


def _order() -> Exercise:
    return Exercise(
        id="05-3",
        section=_("2 Read the handshake"),
        needs="05-2",
        task=_("Lay these lines of the TLS 1.2 session in order; what was inside TLS is shown opened."),
        kind=Order(_cards, (_STARTTLS, _PRIVATE_KEY)),
        why=lambda _newer, _older: _(
            "Hello, hello, certificate, key exchange; then the tunnel stands, and SMTP begins as if it were alone."
        ),
        misconceptions=(
            Misconception(
                "asked-for",
                lambda answer, *_captures: _STARTTLS in answer,
                _("Nobody asks for TLS here: on port 465 it is there from the first byte. STARTTLS is lesson 06."),
            ),
            Misconception(
                "key-sent",
                lambda answer, *_captures: _PRIVATE_KEY in answer,
                _("A private key never crosses the wire: the server only signs with it."),
            ),
            Misconception(
                "mail-before-keys",
                lambda answer, newer, older: _laid_too_early(answer, _cards(newer, older), 5),
                _("That line of SMTP was inside TLS, so the keys must be agreed on before it."),
            ),
            Misconception(
                "server-first",
                lambda answer, newer, older: _laid_too_early(answer, _cards(newer, older), 1, 1),
                _("The server answers a hello: in TLS the client speaks first."),
            ),
        ),
        hints=(
            _("The handshake that you printed has the first five cards, in order."),
            _("Inside TLS the session is an ordinary one: there the server greets first."),
        ),
        where=_("the handshake printed above, and for the lines of SMTP a session of lesson 03."),
    )


def _cards(_newer: Capture, older: Capture) -> Sequence[str]:
    """Five messages of the handshake, then greeting, first command and login out of the tunnel."""
    flow = next((flow for flow in older.flows if flow.tls), None)
    inside = [line for line in opened(older)[0].lines if line.kind in {LineKind.REPLY, LineKind.COMMAND, LineKind.AUTH}]
    greeting = next((line for line in inside if line.side is Side.SERVER), None)
    commands = [line for line in inside if line.side is Side.CLIENT][:2]
    if flow is None or greeting is None or len(commands) < 2:
        raise Missing(_("In this capture nobody logged in inside TLS."))
    return (
        *(f"{'C' if side is Side.CLIENT else 'S'}: {name}" for side, name in _short_handshake(flow.lines)),
        f"S: {greeting.text}",
        *(f"C: {line.text}" for line in commands),
    )


def _short_handshake(lines: Sequence[Line]) -> Sequence[tuple[Side, str]]:
    """Side and name of the five messages that matter most, as they came. Raises Missing when one is not there."""
    wanted = {
        (Side.CLIENT, "ClientHello"),
        (Side.SERVER, "ServerHello"),
        (Side.SERVER, "Certificate"),
        (Side.CLIENT, "ClientKeyExchange"),
        (Side.CLIENT, _("encrypted handshake message")),
    }
    said = dict.fromkeys((line.side, line.text.partition(",")[0]) for line in lines if line.kind is LineKind.TLS)
    found = [message for message in said if message in wanted]
    if len(found) != len(wanted):
        raise Missing(_("This capture does not show a whole handshake of TLS 1.2."))
    return found


def _laid_too_early(answer: Sequence[str], cards: Sequence[str], first: int, count: int = 3) -> bool:
    """Whether one of `count` cards from place `first` on was laid before one that belongs before all of them."""
    late, early = cards[first : first + count], cards[:first]
    places = {card: place for place, card in enumerate(answer)}
    return any(places[a] < places[b] for a in late if a in places for b in early if b in places)


# 3 The keys


def _key() -> Experiment:
    return Experiment(
        id="05-4",
        section=_("3 Open it with the keys"),
        takes=(Capture,),
        question=_("Somebody has recorded `wrapped`. What would open the recording?"),
        choices={
            "a": _("The private key of the server's certificate."),
            "b": _("The keys of this one session."),
            "c": _("hanako's password."),
        },
        truth=lambda capture: "b" if opened(capture) else "",
        found=lambda capture: _("{count} lines of mail came out of the tunnel.").format(
            count=sum(len(talk.lines) for talk in opened(capture))
        ),
        lines=lambda capture: [
            line for talk in opened(capture) for line in talk.lines if line.kind in {LineKind.COMMAND, LineKind.AUTH}
        ],
        replies={
            "a": _("That key only sealed (signed) the handshake. The session's own keys cannot be had from it."),
            "c": _("The password is in the tunnel; it is not what locks it."),
        },
    )


def _attachment() -> Exercise:
    return Exercise(
        id="05-5",
        section=_("3 Open it with the keys"),
        needs="05-4",
        task=_("Write down the name of the file that hanako attached."),
        kind=Text(_file_name),
        why=lambda _capture: _("Attachments travel inside the letter, so what hides the letter hides them too."),
        misconceptions=(
            Misconception(
                "type",
                lambda answer, _capture: "/" in answer,
                _("That says what kind of file it is. Its name stands in another header of the same part."),
            ),
            Misconception(
                "boundary",
                lambda answer, _capture: "=_" in answer,
                _("That is the boundary, the line that separates the parts of the letter."),
            ),
            Misconception(
                "whole-line",
                lambda answer, capture: _file_name(capture) in answer and answer != _file_name(capture),
                _("The name is in there. Leave out what stands around it, the quotes too."),
            ),
        ),
        hints=(
            _("An attachment begins with headers of its own. One of them is `Content-Disposition`."),
            _('`[text for text in lines if "filename" in text]` leaves one line.'),
        ),
        where=_("the lines of the message in `opened`, between `data` and `QUIT`."),
    )


def _file_name(capture: Capture) -> str:
    for span in every_span(*opened(capture)):
        if span.field == "message.attachment":
            return span.value.partition(",")[0]
    raise Missing(_("In this capture nobody sent an attachment."))


# 4 Names


def _leaks() -> Experiment:
    return Experiment(
        id="05-6",
        section=_("4 See who is called"),
        takes=(Capture,),
        question=_("What does somebody on the way still learn from `wrapped`?"),
        choices={
            "a": _("Nothing at all."),
            "b": _("Which server hanako uses, and about how large her letter is."),
            "c": _("Who writes to whom, but not what."),
        },
        truth=_learned,
        found=lambda capture: _("The server's name is {name}, of the message size {size}.").format(
            name=_("given away") if verdict(capture, Fact.SERVER_NAME) is Verdict.READABLE else _("hidden"),
            size=_("there is an estimate")
            if verdict(capture, Fact.MESSAGE_SIZE) is Verdict.SIZE_ONLY
            else _("nothing"),
        ),
        lines=lambda capture: [line for line in _begin(capture) if line.text.startswith("ClientHello")],
        replies={
            "a": _(
                "The client must say whom it calls before there are keys; and encrypted bytes can still be counted."
            ),
            "c": _("Sender and recipients are commands of SMTP, and those are inside TLS."),
        },
    )


def _learned(capture: Capture) -> str:
    _begin(capture)
    if verdict(capture, Fact.SENDER) is not Verdict.HIDDEN:
        return "c"
    told = verdict(capture, Fact.SERVER_NAME), verdict(capture, Fact.MESSAGE_SIZE)
    return "a" if told == (Verdict.HIDDEN, Verdict.HIDDEN) else "b"


def _nameless() -> Exercise:
    return Exercise(
        id="05-7",
        section=_("4 See who is called"),
        needs=None,
        task=_("Record hanako sending so that `nameless.exposure` says of the server name: hidden."),
        kind=Proof(Capture, _("a capture"), lambda capture: _sends(capture) and _hides_its_name(capture)),
        why=lambda: _(
            "A number is not a name, so it goes into no ClientHello (RFC 6066), and TLS 1.3 hides the certificate. It works "
            "here because the lab's certificate holds the number too; and that number is still in every packet's header."
        ),
        misconceptions=(
            Misconception(
                "in-the-clear",
                lambda capture: any(not flow.tls for flow in capture.flows),
                _("This session is in the clear: the server says its name in the first line."),
            ),
            Misconception(
                "nobody-sent",
                lambda capture: not _sends(capture),
                _("Nobody sent anything in this capture."),
            ),
            Misconception(
                "still-called-by-name",
                lambda capture: any(flow.tls and flow.tls.server_name for flow in capture.flows),
                _("The ClientHello still says whom it calls."),
            ),
            Misconception(
                "another-number",
                _left_the_handshake,
                _(
                    "The ClientHello says no name now, but her program left: that number is not in the certificate. (The "
                    "numbers of lesson 02 stand only in the packets that the lab writes.) This server's is in "
                    "`provider.host`."
                ),
            ),
            Misconception(
                "certificate-tells",
                lambda capture: bool(_subject(capture)),
                _("The ClientHello is silent now, but with TLS 1.2 the certificate says the name."),
            ),
        ),
        hints=(
            _("The program puts its setting `server` into the ClientHello if it is a name. A number it leaves out."),
            _('`provider.client("hanako", server=provider.host)` calls the server by its number.'),
        ),
        where=_("the first line of `nameless`: what does the ClientHello say?"),
    )


def _sends(capture: Capture) -> bool:
    return any(flow.protocol in {SMTP, SMTPS} for flow in capture.flows)


def _left_the_handshake(capture: Capture) -> bool:
    return verdict(capture, Fact.PASSWORD) is Verdict.NOT_SENT and any(flow.tls for flow in capture.flows)


def _hides_its_name(capture: Capture) -> bool:
    return verdict(capture, Fact.SERVER_NAME) is Verdict.HIDDEN


# 5 Sizes


def _answer_texts() -> dict[str, str]:
    return {
        "a": "Yes, gladly.",
        "b": "No, I am away on Friday.",
        "c": "Perhaps. I have to ask at home first.",
    }


def _sizes() -> Experiment:
    return Experiment(
        id="05-8",
        section=_("5 Weigh what you cannot read"),
        takes=(Capture, Capture, Capture),
        question=_("Can somebody on the way who knows the three texts tell which one taro sends?"),
        choices={
            "a": _("No: encrypted bytes look the same whatever they say."),
            "b": _("Yes: by how many bytes he sends."),
            "c": _("Yes: the same text always gives the same encrypted bytes."),
        },
        truth=_what_tells,
        found=_sizes_in_words,
        lines=lambda *captures: [_largest_line(capture) for capture in captures],
        replies={
            "a": _("They look alike, but they can be counted: TLS adds the same few bytes to every text."),
            "c": _("The keys are new in every session, so the same text never looks the same twice."),
        },
    )


def _what_tells(first: Capture, again: Capture, other: Capture) -> str:
    if _secret_text(first) != _secret_text(again) or _secret_text(first) == _secret_text(other):
        raise Missing(_("This takes three captures: the same text twice, then another one."))
    if _bytes(first) == _bytes(again):
        return "c"
    return "b" if _size(first) == _size(again) != _size(other) else "a"


def _sizes_in_words(first: Capture, again: Capture, other: Capture) -> str:
    text = _("The same text: {first} and {again} bytes. Another text: {other} bytes. The encrypted bytes are {alike}.")
    alike = _("the same") if _bytes(first) == _bytes(again) else _("different each time")
    return text.format(first=_size(first), again=_size(again), other=_size(other), alike=alike)


def _largest(capture: Capture) -> tuple[Record, Line, bytes]:
    """The largest encrypted record that a client sent: that is the letter. With its line and its bytes."""
    found = [
        (record, line, flow.client_stream.data[record.start : record.end])
        for flow in capture.flows
        if flow.session
        for record in flow.session.records
        for line in flow.lines
        if record.application and record.side is Side.CLIENT and (line.side, line.start) == (Side.CLIENT, record.start)
    ]
    if not found:
        raise Missing(_("In this capture nobody sent anything inside TLS."))
    return max(found, key=lambda entry: entry[0].end - entry[0].start)


def _largest_line(capture: Capture) -> Line:
    return _largest(capture)[1]


def _bytes(capture: Capture) -> bytes:
    return _largest(capture)[2]


def _size(capture: Capture) -> int:
    """As the dialogue tells it: without the record's header."""
    return len(_bytes(capture)) - 5


def _secret_text(capture: Capture) -> str:
    """The text of the letter, read with the key log, as nobody on the way could. Raises Missing."""
    for span in every_span(*opened(capture)):
        if span.field == "message.text":
            return span.value.strip()
    raise Missing(_("In this capture nobody sent a letter."))


def _secret() -> Experiment:
    return Experiment(
        id="05-9",
        section=_("5 Weigh what you cannot read"),
        takes=(Capture,),
        found=lambda capture: _("the letter is in one record of {size} bytes.").format(size=_size(capture)),
        lines=lambda capture: [_largest_line(capture)],
    )


def _weighed() -> Exercise:
    return Exercise(
        id="05-10",
        section=_("5 Weigh what you cannot read"),
        needs="05-9",
        task=_("Which of the three texts is in `secret`? Find out without opening it."),
        kind=Choice(_answer_texts(), _which_text),
        why=lambda _capture: _(
            "That is traffic analysis: size, order and time of what is sent stay open, and often they are enough."
        ),
        misconceptions=(
            Misconception(
                "shorter",
                lambda answer, capture: _length(answer) < _length(_which_text(capture)),
                _("That text is shorter than what was sent: its record would be smaller."),
            ),
            Misconception(
                "longer",
                lambda answer, capture: _length(answer) > _length(_which_text(capture)),
                _("That text is longer than what was sent: its record would be larger."),
            ),
        ),
        hints=(
            _("The first experiment of this part told the sizes for the texts a and c."),
            _('`record(texts["b"])` records the one in between; its timeline shows the size.'),
        ),
        where=_("the highest bar of the client in `secret.timeline()`."),
    )


def _which_text(capture: Capture) -> str:
    found = _secret_text(capture)
    for letter, text in _answer_texts().items():
        if text == found:
            return letter
    raise Missing(_("The letter in this capture holds none of the three texts."))


def _length(letter: str) -> int:
    return len(_answer_texts()[letter])


# 6 Reading


def _reading() -> Exercise:
    return Exercise(
        id="05-11",
        section=_("6 Read inside TLS too"),
        needs=None,
        task=_("Record taro fetching a letter with `poplib`, from the first byte inside TLS."),
        kind=Proof(Capture, _("a capture"), lambda capture: _inside(capture) and _fetched(capture)),
        why=lambda: _(
            "POP3S hides login and letter on the way to the reader, as SMTPS does on the way from the sender."
        ),
        misconceptions=(
            Misconception(
                "sent-instead",
                lambda capture: bool(capture.flows) and all(flow.protocol is SMTPS for flow in capture.flows),
                _("This is a letter being sent, through port 465. To read is POP3's affair, on port 995."),
            ),
            Misconception(
                "in-the-clear",
                lambda capture: not _inside(capture),
                _("This session is not inside TLS from its first byte: anybody on the way reads it."),
            ),
            Misconception(
                "not-taros",
                lambda capture: not _is_taros(capture),
                _("This is somebody else's maildrop: it is taro who reads."),
            ),
            Misconception(
                "refused",
                lambda capture: any(turn.code == "-ER" for turn in opened_turns(capture)),
                _("The server refused something. Is the password taro's, and is there a letter of this number?"),
            ),
            Misconception(
                "only-looked",
                lambda capture: not _fetched(capture),
                _("taro logged in, but he fetched nothing: no RETR was answered with a letter."),
            ),
        ),
        hints=(
            _("Log in with `user` and `pass_`, fetch with `retr(1)`, and end with `quit()`."),
            _('`provider.accounts["taro"]` knows his `login` and `password`.'),
        ),
        where=_("`reading.unlock()` shows what you said, from inside the tunnel."),
    )


def _inside(capture: Capture) -> bool:
    return bool(capture.flows) and all(flow.protocol is POP3S for flow in capture.flows)


def _is_taros(capture: Capture) -> bool:
    return expose(opened(capture))[Fact.LOGIN_NAME].value == "taro"


def _fetched(capture: Capture) -> bool:
    answers = {turn.code for turn in opened_turns(capture) if turn.verb == "RETR"}
    return _is_taros(capture) and "+OK" in answers
