"""Lesson 01, read a plaintext session: what its notebook asks, and how the wire answers."""

from collections.abc import Sequence
from email.utils import parseaddr

from labkit.capture import Capture
from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.spans import Span
from labkit.lessons.evidence import (
    Missing,
    Turn,
    every_span,
    pop3_flows,
    pop3_turns,
    smtp_flows,
    spans,
    turns,
    was_sent,
)
from labkit.lessons.kinds import Labels, Number, Order, Proof
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.texts import _
from labkit.wire.flows import Side

TARO = "taro@mail.example"


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (
        _first_word(),
        _letter(),
        _order(),
        _too_early(),
        _labels(),
        _two_senders(),
        _as_taro(),
        _relayed(),
        _reached(),
        _closed(),
    )
    return Lesson("01", _("Read a plaintext session"), steps)


def _both(found: Sequence[Turn]) -> list[Line]:
    return [line for turn in found for line in (turn.asked, turn.answered)]


def _values(flows: Sequence[Dissection], field: str) -> list[str]:
    """What a field holds in these connections, in order."""
    found: list[Span] = [span for span in every_span(*(flow for flow in flows)) if span.field == field]
    return [span.value for span in found]


def _smtp(capture: Capture) -> Dissection:
    """The first SMTP connection in which something was said. Raises Missing."""
    found = next((flow for flow in smtp_flows(capture) if flow.lines), None)
    if found is None:
        raise Missing(_("In this capture nobody spoke SMTP in the clear."))
    return found


# 1 Connect


def _first_word() -> Experiment:
    return Experiment(
        id="01-1",
        section=_("1 Connect"),
        takes=(Capture,),
        question=_("You open a connection to the SMTP server and keep silent. Who speaks first?"),
        choices={
            "a": _("The server."),
            "b": _("The client: it wants something, so it has to ask."),
            "c": _("Nobody: each waits for the other."),
        },
        truth=lambda capture: "a" if _smtp(capture).lines[0].side is Side.SERVER else "b",
        found=lambda capture: (
            _("The server spoke first, and said who it is.")
            if _smtp(capture).lines[0].side is Side.SERVER
            else _("In this capture the client spoke first.")
        ),
        lines=lambda capture: _smtp(capture).lines[:6],
        replies={
            "b": _("So it is on the web. A mail server greets whoever calls, as on the telephone."),
            "c": _("Then nothing would ever happen. One side has to begin, and the protocol says which."),
        },
    )


# 2 A letter by hand


def _letter() -> Experiment:
    return Experiment(
        id="01-2",
        section=_("2 Send a letter by hand"),
        takes=(Capture,),
        question=_("The letter has several lines. When does the server answer?"),
        choices={
            "a": _("After each line of the letter."),
            "b": _("Once, after the whole letter."),
            "c": _("Not at all: it only stores the letter."),
        },
        truth=_answered,
        found=lambda capture: {
            "a": _("The server answered while the letter was still coming in."),
            "b": _("The server answered once, after the line with the dot."),
            "c": _("The server never answered the letter."),
        }[_answered(capture)],
        lines=lambda capture: [line for pair in _around_the_letter(capture) for line in pair],
        replies={
            "a": _(
                "In turn, yes, but command by command. The lines of the letter are no commands: the server stays silent "
                "until the dot."
            ),
            "c": _("The client must know whether the letter has arrived: until then it has to keep its copy."),
        },
    )


def _message_lines(capture: Capture) -> list[int]:
    """Where the lines of letters are in the first SMTP connection. Raises Missing."""
    lines = _smtp(capture).lines
    places = [n for n, line in enumerate(lines) if line.side is Side.CLIENT and line.kind is LineKind.MESSAGE]
    if not places:
        raise Missing(_("In this capture nobody sent a letter."))
    return places


def _answered(capture: Capture) -> str:
    lines, places = _smtp(capture).lines, _message_lines(capture)
    replies = [place + 1 for place in places if lines[place + 1 : place + 2] and lines[place + 1].side is Side.SERVER]
    if any(reply + 1 in places for reply in replies):
        return "a"
    return "b" if places[-1] + 1 in replies else "c"


def _around_the_letter(capture: Capture) -> tuple[Sequence[Line], Sequence[Line]]:
    """The command that opens the letter with its answer, and the letter's end with its own."""
    lines, places = _smtp(capture).lines, _message_lines(capture)
    return lines[max(0, places[0] - 2) : places[0]], lines[places[-1] : places[-1] + 2]


_PASSWORD_CARD = "C: PASS sakura"
_READ_CARD = "C: RETR 1"


def _order() -> Exercise:
    return Exercise(
        id="01-3",
        section=_("2 Send a letter by hand"),
        needs="01-2",
        task=_("Lay the lines of your session in order. Some lines are left out, two cards do not belong there."),
        kind=Order(_cards, (_PASSWORD_CARD, _READ_CARD)),
        why=lambda _capture: _(
            "A greeting, two names for the envelope, the letter, and a receipt. Nobody was asked for more."
        ),
        misconceptions=(
            Misconception(
                "password-given",
                lambda answer, _capture: _PASSWORD_CARD in answer,
                _("This server never asked for a password: look for one in your session. PASS is a word of POP3."),
            ),
            Misconception(
                "reading",
                lambda answer, _capture: _READ_CARD in answer,
                _("RETR fetches a letter: it belongs to POP3, the protocol for reading."),
            ),
            Misconception(
                "client-first",
                lambda answer, capture: bool(answer) and answer[0] == _cards(capture)[1],
                _("The client waits: part 1 showed who speaks first."),
            ),
            Misconception(
                "recipient-first",
                lambda answer, capture: _comes_before(answer, capture, 3, 2),
                _("The sender is named before the recipient: MAIL opens the envelope, RCPT adds to it."),
            ),
            Misconception(
                "letter-too-early",
                lambda answer, capture: _comes_before(answer, capture, 6, 5),
                _("The letter has to wait: only after 354 does the server listen for it."),
            ),
        ),
        hints=(
            _("The server greets, then the client does (EHLO)."),
            _("After EHLO: the sender, the recipient, DATA, the server's go on, the letter, the receipt."),
        ),
        where=_("the dialogue of `by_hand` above, from its first line to its last."),
    )


def _cards(capture: Capture) -> Sequence[str]:
    """A session in eight lines: greeting, EHLO, MAIL, RCPT, DATA, 354, the letter's first line, its receipt."""
    lines, places = _smtp(capture).lines, _message_lines(capture)
    commands = {turn.verb: turn for turn in reversed(turns(capture))}
    if not {"EHLO", "MAIL", "RCPT", "DATA"} <= commands.keys() or _answered(capture) != "b":
        raise Missing(_("The session in this capture is not complete."))
    asked = [commands[verb].asked for verb in ("EHLO", "MAIL", "RCPT", "DATA")]
    shown = [lines[0], *asked, commands["DATA"].answered, lines[places[0]], lines[places[-1] + 1]]
    return tuple(f"{'C' if line.side is Side.CLIENT else 'S'}: {line.text}" for line in shown)


def _comes_before(answer: Sequence[str], capture: Capture, early: int, late: int) -> bool:
    """Whether the card that comes at place `early` was laid before the one at `late`; a missing card is not before any."""
    cards = _cards(capture)
    first, second = cards[early], cards[late]
    return first in answer and second in answer and answer.index(first) < answer.index(second)


# 3 POP3 by hand


def _too_early() -> Experiment:
    return Experiment(
        id="01-4",
        section=_("3 Read by hand"),
        takes=(Capture,),
        question=_("A program connects to the POP3 server and asks for the first letter at once. What happens?"),
        choices={
            "a": _("It gets the letter: nobody asked the sender for a password either."),
            "b": _("It is refused."),
            "c": _("The server asks for a password and then hands out the letter."),
        },
        truth=lambda capture: "a" if _early(capture).code == "+OK" else "b",
        found=lambda capture: (
            _("The server handed out a letter before anybody had logged in.")
            if _early(capture).code == "+OK"
            else _("The server refused: nobody had logged in yet.")
        ),
        lines=lambda capture: _both([_early(capture)]),
        replies={
            "a": _(
                "Then anybody could read anybody's mail. The maildrop belongs to somebody; a server's letter box does not."
            ),
            "c": _(
                "A POP3 server does not begin to ask: it refuses, and the client has to know that USER comes first. "
                "`+OK Now the password` only answers USER."
            ),
        },
    )


def _early(capture: Capture) -> Turn:
    """The first letter that was asked for, if nobody had logged in by then. Raises Missing."""
    for turn in pop3_turns(capture):
        if turn.verb == "RETR":
            return turn
        if turn.verb in {"PASS", "APOP", "AUTH"} and turn.code == "+OK":
            break
    raise Missing(_("In this capture nobody asked for a letter before logging in."))


_LABELS = {
    "pop3.user.verb": "command",
    "pop3.user.name": "login name",
    "pop3.pass.verb": "command",
    "pop3.pass.password": "password",
    "line-end": "line end",
    "pop3.status": "reply",
}


def _labels() -> Exercise:
    command, name, _command, password, end, reply = _LABELS.values()
    return Exercise(
        id="01-5",
        section=_("3 Read by hand"),
        needs="01-4",
        task=_("Label these bytes: command, login name, password, line end or reply."),
        kind=Labels(_pieces, (command, name, password, end, reply)),
        why=lambda _capture: _(
            "Every byte has its place, and two of the seven pieces open taro's maildrop to anybody."
        ),
        misconceptions=(
            Misconception(
                "word-for-password",
                lambda answer, _capture: password in {answer[0], answer[4]} or name in {answer[0], answer[4]},
                _("USER and PASS are the commands' own words. What they carry comes after them."),
            ),
            Misconception(
                "swapped",
                lambda answer, _capture: (answer[1], answer[5]) == (password, name),
                _("The name goes with USER, the password with PASS."),
            ),
            Misconception(
                "server-commands",
                lambda answer, _capture: answer[3] != reply,
                _("+OK is the server's: it never gives commands, it answers them."),
            ),
            Misconception(
                "line-end-overlooked",
                lambda answer, _capture: end not in {answer[2], answer[6]},
                _("The bytes 0d 0a are seen in no dialogue: they end each line."),
            ),
        ),
        hints=(
            _("The left column is each byte in hexadecimal, the right one what it means as a letter."),
            _("The bytes are those of USER and its answer +OK, and of PASS."),
        ),
        where=_("the lines USER, +OK and PASS in the dialogue of `reading` above."),
    )


def _pieces(capture: Capture) -> Sequence[tuple[str, str]]:
    """The pieces of USER, its answer's first word, and PASS, each with its label. Raises Missing."""
    for flow in pop3_flows(capture):
        said = {turn.verb: turn for turn in pop3_turns(capture) if turn.asked in flow.lines}
        if {"USER", "PASS"} <= said.keys():
            lines = [said["USER"].asked, said["USER"].answered, said["PASS"].asked]
            user, answer, password = spans(capture, lines)
            status = [span for span in answer if span.field == "pop3.status"]
            told = [*((Side.CLIENT, span) for span in user), *((Side.SERVER, span) for span in status)]
            told += [(Side.CLIENT, span) for span in password]
            found = [(_shown(flow, side, span), _LABELS[span.field]) for side, span in told if span.field in _LABELS]
            if len(found) == 7:
                return found
    raise Missing(_("In this capture nobody gave a name and a password to read mail."))


def _shown(flow: Dissection, side: Side, span: Span) -> str:
    """A span's bytes in hexadecimal and as letters."""
    stream = flow.client_stream if side is Side.CLIENT else flow.server_stream
    data = stream.data[span.start : span.end]
    return f"{data.hex(' '):24} {data.decode('ascii', 'backslashreplace')!r}"


# 4 Two senders


def _two_senders() -> Experiment:
    return Experiment(
        id="01-6",
        section=_("4 Send as the president"),
        takes=(Capture,),
        question=_(
            "The envelope names hanako, the letter names the president. Whom does taro's program show as the sender?"
        ),
        choices={
            "a": _("hanako, whom the server was told."),
            "b": _("The president."),
            "c": _("Nobody: the server sees the contradiction and refuses the letter."),
        },
        truth=_seen_as,
        found=_seen_in_words,
        lines=lambda capture: [
            line for flow in pop3_flows(capture) for line in flow.lines if line.text.lower().startswith("from:")
        ],
        replies={
            "a": _(
                "The envelope is for the servers. taro reads the letter, and whoever writes it fills in its From line."
            ),
            "c": _("The server does not even look: to SMTP the letter's lines are only something to carry."),
        },
    )


def _seen_as(capture: Capture) -> str:
    envelope, shown = _values(smtp_flows(capture), "smtp.mail.sender"), _values(pop3_flows(capture), "message.from")
    if envelope and not was_sent(capture):
        return "c"
    if not envelope or not shown:
        raise Missing(_("This capture does not hold both: a letter being sent, and the same letter being read."))
    return "a" if _address(shown[-1]) == _address(envelope[-1]) else "b"


def _seen_in_words(capture: Capture) -> str:
    if _seen_as(capture) == "c":
        return _("The server did not take the letter.")
    text = _("The envelope said `{envelope}`, and taro's program got `{shown}`.")
    values = {
        "envelope": _values(smtp_flows(capture), "smtp.mail.sender")[-1],
        "shown": _values(pop3_flows(capture), "message.from")[-1],
    }
    return text.format(**values)


def _address(words: str) -> str:
    return parseaddr(words)[1].casefold()


def _as_taro() -> Exercise:
    return Exercise(
        id="01-7",
        section=_("4 Send as the president"),
        needs="01-6",
        task=_("Record taro getting a letter that seems to come from himself, taro@mail.example."),
        kind=Proof(Capture, _("a capture"), lambda capture, _president: _from_taro(capture) and _to_taro(capture)),
        why=lambda _president: _("One line of text was all it took. Nothing in the letter proves who wrote it."),
        misconceptions=(
            Misconception(
                "not-taken",
                lambda capture, _president: not was_sent(capture),
                _("The server did not take a letter in this capture."),
            ),
            Misconception(
                "another-reader",
                lambda capture, _president: _from_taro(capture),
                _("The From line is right, but the letter did not go to taro: the envelope's RCPT decides that."),
            ),
            Misconception(
                "envelope-only",
                lambda capture, _president: TARO in map(_address, _values(smtp_flows(capture), "smtp.mail.sender")),
                _("You changed the envelope. taro never sees it: his program shows the letter's From line."),
            ),
            Misconception(
                "name-only",
                lambda capture, _president: any(
                    "taro" in parseaddr(shown)[0].casefold() for shown in _values(smtp_flows(capture), "message.from")
                ),
                _("The From line has taro's name, but another address between < and >."),
            ),
            Misconception(
                "unchanged",
                lambda capture, _president: was_sent(capture),
                _("The letter arrived, but its From line does not hold taro@mail.example."),
            ),
        ),
        hints=(
            _("The envelope can stay as it is. Which line of the letter does taro's program show?"),
            _(
                'In place of `forged` write `forged.replace("president@company.example", "taro@mail.example")`: the same '
                "letter with another address."
            ),
        ),
        where=_("the line that begins with From: in your letter, not the address that MAIL names."),
    )


def _from_taro(capture: Capture) -> bool:
    shown = _values(smtp_flows(capture), "message.from")
    return was_sent(capture) and TARO in map(_address, shown)


def _to_taro(capture: Capture) -> bool:
    return any(
        turn.verb == "RCPT" and turn.code == "250" and TARO in turn.asked.text.casefold() for turn in turns(capture)
    )


# 5 An open server


def _relayed() -> Experiment:
    return Experiment(
        id="01-8",
        section=_("5 Use an open server"),
        takes=(Capture,),
        question=_(
            "Two of the addresses belong to other providers. What does the server of mail.example do with them?"
        ),
        choices={
            "a": _("It refuses them: they are none of its people."),
            "b": _("It takes the letter and will carry it to them."),
            "c": _("It first asks the stranger for a password."),
        },
        truth=_relay,
        found=_relay_in_words,
        lines=lambda capture: _both(_elsewhere(capture)),
        replies={
            "a": _("Today nearly every server does. This one is as servers were when the internet was small."),
            "c": _("Not this one: part 2 showed how much it asks. Part 6 will change that."),
        },
    )


def _elsewhere(capture: Capture) -> tuple[Turn, ...]:
    """The recipients of other providers, with the server's answers. Raises Missing when there is none."""
    own = {name.casefold() for name in _values(smtp_flows(capture), "smtp.greeting.server")}
    found = tuple(turn for turn in turns(capture) if turn.verb == "RCPT" and _domain(turn) not in own)
    if not found:
        raise Missing(_("In this capture no letter was meant for people at other providers."))
    return found


def _domain(turn: Turn) -> str:
    return turn.asked.text.rpartition("@")[2].partition(">")[0].casefold()


def _relay(capture: Capture) -> str:
    codes = {turn.code for turn in _elsewhere(capture)}
    if "530" in codes:
        return "c"
    return "b" if "250" in codes and was_sent(capture) else "a"


def _relay_in_words(capture: Capture) -> str:
    if _relay(capture) != "b":
        return _("The server did not take the letter for other providers.")
    return _("It asked for nothing, and now has to carry the letter to the people of other providers.")


def _taken(found: Sequence[Turn]) -> int:
    return sum(turn.code == "250" for turn in found)


def _recipients(capture: Capture) -> tuple[Turn, ...]:
    return tuple(turn for turn in turns(capture) if turn.verb == "RCPT")


def _reached() -> Exercise:
    return Exercise(
        id="01-9",
        section=_("5 Use an open server"),
        needs="01-8",
        task=_(
            "The stranger sent the letter once. To how many people of other providers must the server now carry it?"
        ),
        kind=Number(lambda capture: _taken(_elsewhere(capture))),
        why=lambda _capture: _(
            "One letter in, and a copy for each of them out: the server does the work, and gets the blame."
        ),
        misconceptions=(
            Misconception(
                "all-named",
                lambda answer, capture: answer == len(_recipients(capture)),
                _("So many were named. One of them is unknown here (the reply says so), and one is at home here."),
            ),
            Misconception(
                "taro-too",
                lambda answer, capture: answer == _taken(_recipients(capture)),
                _("So many were accepted, but taro has his maildrop here: nothing has to be carried for him."),
            ),
            Misconception(
                "one-letter",
                lambda answer, _capture: answer == 1,
                _("One letter came in. But it goes to everybody whom a RCPT named."),
            ),
            Misconception(
                "nobody",
                lambda answer, _capture: answer == 0,
                _("The server answered 250 to them: it has promised to carry the letter."),
            ),
        ),
        hints=(
            _("Whose address ends in something else than mail.example?"),
            _("`provider.outgoing[-1].recipients` is what the server would now carry elsewhere."),
        ),
        where=_("the lines that begin with RCPT above, each with its answer."),
    )


# 6 A server that asks


def _closed() -> Exercise:
    return Exercise(
        id="01-10",
        section=_("6 Close the door"),
        needs=None,
        task=_("Record a server refusing the president's letter because it does not know who sends."),
        kind=Proof(Capture, _("a capture"), lambda capture: _asks_who(capture) and not was_sent(capture)),
        why=lambda: _(
            "The server wants to know who you are before it takes any letter: the door is closed to strangers."
        ),
        misconceptions=(
            Misconception(
                "still-open",
                was_sent,
                _("The letter was taken: this server asks nobody. It is the provider's policy that has to change."),
            ),
            Misconception(
                "nothing-said",
                lambda capture: not any(flow.lines for flow in smtp_flows(capture)),
                _(
                    "No SMTP in the clear is in this capture. With ssl the server waits for TLS, and `smtplib.SMTP` for a "
                    "greeting, until its time is up; and reading mail is POP3's affair."
                ),
            ),
            Misconception(
                "no-sender",
                lambda capture: "MAIL" not in {turn.verb for turn in turns(capture)},
                _("Nobody named a sender, so the server had nothing to refuse."),
            ),
            Misconception(
                "wants-tls",
                lambda capture: any(turn.code == "530" for turn in turns(capture)),
                _("Refused, but for want of encryption: STARTTLS has to come first. Nobody was asked who sends yet."),
            ),
            Misconception(
                "other-reason",
                lambda capture: bool(turns(capture)),
                _("Something else went wrong here: the reply that you want begins with 530 and follows MAIL."),
            ),
        ),
        hints=(
            _("Keep the lines that send. The provider needs a policy that asks who sends, and has no TLS."),
            _('`labkit.Provider("smtp-auth", repeatable=True)` wants everybody to log in who sends.'),
        ),
        where=_("the reply to MAIL in your capture."),
    )


def _asks_who(capture: Capture) -> bool:
    """530 to MAIL for want of a login (RFC 4954 section 6) or of a reading, but not for want of TLS (RFC 3207 section 4)."""
    refusals = [turn.answered.text for turn in turns(capture) if turn.verb == "MAIL" and turn.code == "530"]
    return any("STARTTLS" not in text.upper() for text in refusals)
