"""Lesson 01, read a plaintext session: how the wire answers what its notebook asks."""

from collections.abc import Sequence
from email.utils import parseaddr

from labkit.capture import Capture
from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.spans import Span
from labkit.lessons.answers import Labels, Made, Number, Order, laid_before
from labkit.lessons.evidence import (
    Missing,
    Turn,
    card,
    first_smtp,
    lines_of,
    pop3_flows,
    pop3_turns,
    smtp_flows,
    spans,
    turns,
    values,
    was_sent,
)
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.texts import N_, _
from labkit.wire.flows import Side

TARO = "taro@mail.example"
_PASSWORD_CARD = "C: PASS sakura"
_READ_CARD = "C: RETR 1"
_LABELS = {
    "pop3.user.verb": "command",
    "pop3.user.name": "login name",
    "pop3.pass.verb": "command",
    "pop3.pass.password": "password",
    "line-end": "line end",
    "pop3.status": "reply",
}

STEPS: tuple[Step, ...] = (
    Experiment(
        "01-1",
        truth=lambda seen: "a" if first_smtp(seen.capture).lines[0].side is Side.SERVER else "b",
        found={
            "a": N_("The server spoke first, and said who it is."),
            "b": N_("In this capture the client spoke first."),
        },
        lines=lambda seen: first_smtp(seen.capture).lines[:6],
        replies={
            "b": N_("So it is on the web. A mail server greets whoever calls, as on the telephone."),
            "c": N_("Then nothing would ever happen. One side has to begin, and the protocol says which."),
        },
    ),
    Experiment(
        "01-2",
        truth=lambda seen: _answered(seen.capture),
        found={
            "a": N_("The server answered while the letter was still coming in."),
            "b": N_("The server answered once, after the line with the dot."),
            "c": N_("The server never answered the letter."),
        },
        lines=lambda seen: _around_the_letter(seen.capture),
        replies={
            "a": N_(
                "In turn, yes, but command by command. The lines of the letter are no commands: the server stays "
                "silent until the dot."
            ),
            "c": N_("The client must know whether the letter has arrived: until then it has to keep its copy."),
        },
    ),
    Exercise(
        "01-3",
        needs="01-2",
        answer=Order(
            lambda seen: _cards(seen.capture),
            (_PASSWORD_CARD, _READ_CARD),
            mistakes={
                "password-given": lambda answer, _seen: _PASSWORD_CARD in answer,
                "reading": lambda answer, _seen: _READ_CARD in answer,
                "client-first": lambda answer, seen: bool(answer) and answer[0] == _cards(seen.capture)[1],
                "recipient-first": lambda answer, seen: laid_before(answer, _cards(seen.capture), 3, 2),
                "letter-too-early": lambda answer, seen: laid_before(answer, _cards(seen.capture), 6, 5),
            },
        ),
        why=N_("A greeting, two names for the envelope, the letter, and a receipt. Nobody was asked for more."),
        says={
            "password-given": N_(
                "This server never asked for a password: look for one in your session. PASS is a word of POP3."
            ),
            "reading": N_("RETR fetches a letter: it belongs to POP3, the protocol for reading."),
            "client-first": N_("The client waits: part 1 showed who speaks first."),
            "recipient-first": N_(
                "The sender is named before the recipient: MAIL opens the envelope, RCPT adds to it."
            ),
            "letter-too-early": N_("The letter has to wait: only after 354 does the server listen for it."),
        },
        hints=(
            N_("The server greets, then the client does (EHLO)."),
            N_("After EHLO: the sender, the recipient, DATA, the server's go on, the letter, the receipt."),
        ),
        where=N_("the dialogue of `by_hand` above, from its first line to its last."),
    ),
    Experiment(
        "01-4",
        truth=lambda seen: "a" if _early(seen.capture).code == "+OK" else "b",
        found={
            "a": N_("The server handed out a letter before anybody had logged in."),
            "b": N_("The server refused: nobody had logged in yet."),
        },
        lines=lambda seen: _early(seen.capture).lines,
        replies={
            "a": N_(
                "Then anybody could read anybody's mail. The maildrop belongs to somebody; a server's letter box does "
                "not."
            ),
            "c": N_(
                "A POP3 server does not begin to ask: it refuses, and the client has to know that USER comes first. "
                "`+OK Now the password` only answers USER."
            ),
        },
    ),
    Exercise(
        "01-5",
        needs="01-4",
        answer=Labels(
            lambda seen: _pieces(seen.capture),
            tuple(dict.fromkeys(_LABELS.values())),
            mistakes={
                "word-for-password": lambda answer, _seen: bool({"password", "login name"} & {answer[0], answer[4]}),
                "swapped": lambda answer, _seen: (answer[1], answer[5]) == ("password", "login name"),
                "server-commands": lambda answer, _seen: answer[3] != "reply",
                "line-end-overlooked": lambda answer, _seen: "line end" not in {answer[2], answer[6]},
            },
        ),
        why=N_("Every byte has its place, and two of the seven pieces open taro's maildrop to anybody."),
        says={
            "word-for-password": N_("USER and PASS are the commands' own words. What they carry comes after them."),
            "swapped": N_("The name goes with USER, the password with PASS."),
            "server-commands": N_("+OK is the server's: it never gives commands, it answers them."),
            "line-end-overlooked": N_("The bytes 0d 0a are seen in no dialogue: they end each line."),
        },
        hints=(
            N_("The left column is each byte in hexadecimal, the right one what it means as a letter."),
            N_("The bytes are those of USER and its answer +OK, and of PASS."),
        ),
        where=N_("the lines USER, +OK and PASS in the dialogue of `reading` above."),
    ),
    Experiment(
        "01-6",
        truth=lambda seen: _seen_as(seen.capture),
        found=lambda seen: _senders_in_words(seen.capture),
        lines=lambda seen: [
            line for flow in pop3_flows(seen.capture) for line in flow.lines if line.text.lower().startswith("from:")
        ],
        replies={
            "a": N_(
                "The envelope is for the servers. taro reads the letter, and whoever writes it fills in its From line."
            ),
            "c": N_("The server does not even look: to SMTP the letter's lines are only something to carry."),
        },
    ),
    Exercise(
        "01-7",
        needs="01-6",
        answer=Made(
            Capture,
            lambda capture, _seen: _from_taro(capture) and _to_taro(capture),
            mistakes={
                "not-taken": lambda capture, _seen: not was_sent(capture),
                "another-reader": lambda capture, _seen: _from_taro(capture),
                "envelope-only": lambda capture, _seen: (
                    TARO in map(_address, values(smtp_flows(capture), "smtp.mail.sender"))
                ),
                "name-only": lambda capture, _seen: any(
                    "taro" in parseaddr(shown)[0].casefold() for shown in values(smtp_flows(capture), "message.from")
                ),
                "unchanged": lambda capture, _seen: was_sent(capture),
            },
        ),
        why=N_("One line of text was all it took. Nothing in the letter proves who wrote it."),
        says={
            "not-taken": N_("The server did not take a letter in this capture."),
            "another-reader": N_(
                "The From line is right, but the letter did not go to taro: the envelope's RCPT decides that."
            ),
            "envelope-only": N_(
                "You changed the envelope. taro never sees it: his program shows the letter's From line."
            ),
            "name-only": N_("The From line has taro's name, but another address between < and >."),
            "unchanged": N_("The letter arrived, but its From line does not hold taro@mail.example."),
        },
        hints=(
            N_("The envelope can stay as it is. Which line of the letter does taro's program show?"),
            N_(
                'In place of `forged` write `forged.replace("president@company.example", "taro@mail.example")`: the '
                "same letter with another address."
            ),
        ),
        where=N_("the line that begins with From: in your letter, not the address that MAIL names."),
    ),
    Experiment(
        "01-8",
        truth=lambda seen: _relay(seen.capture),
        found={
            "a": N_("The server did not take the letter for other providers."),
            "b": N_("It asked for nothing, and now has to carry the letter to the people of other providers."),
            "c": N_("The server did not take the letter for other providers."),
        },
        lines=lambda seen: lines_of(_elsewhere(seen.capture)),
        replies={
            "a": N_("Today nearly every server does. This one is as servers were when the internet was small."),
            "c": N_("Not this one: part 2 showed how much it asks. Part 6 will change that."),
        },
    ),
    Exercise(
        "01-9",
        needs="01-8",
        answer=Number(
            lambda seen: _taken(_elsewhere(seen.capture)),
            mistakes={
                "all-named": lambda answer, seen: answer == len(turns(seen.capture, "RCPT")),
                "taro-too": lambda answer, seen: answer == _taken(turns(seen.capture, "RCPT")),
                "one-letter": lambda answer, _seen: answer == 1,
                "nobody": lambda answer, _seen: answer == 0,
            },
        ),
        why=N_("One letter in, and a copy for each of them out: the server does the work, and gets the blame."),
        says={
            "all-named": N_(
                "So many were named. One of them is unknown here (the reply says so), and one is at home here."
            ),
            "taro-too": N_("So many were accepted, but taro has his maildrop here: nothing has to be carried for him."),
            "one-letter": N_("One letter came in. But it goes to everybody whom a RCPT named."),
            "nobody": N_("The server answered 250 to them: it has promised to carry the letter."),
        },
        hints=(
            N_("Whose address ends in something else than mail.example?"),
            N_("`provider.outgoing[-1].recipients` is what the server would now carry elsewhere."),
        ),
        where=N_("the lines that begin with RCPT above, each with its answer."),
    ),
    Exercise(
        "01-10",
        answer=Made(
            Capture,
            lambda capture, _seen: _asks_who(capture) and not was_sent(capture),
            mistakes={
                "still-open": lambda made, _seen: was_sent(made),
                "nothing-said": lambda capture, _seen: not any(flow.lines for flow in smtp_flows(capture)),
                "no-sender": lambda capture, _seen: "MAIL" not in {turn.verb for turn in turns(capture)},
                "wants-tls": lambda capture, _seen: any(turn.code == "530" for turn in turns(capture)),
                "other-reason": lambda capture, _seen: bool(turns(capture)),
            },
        ),
        why=N_("The server wants to know who you are before it takes any letter: the door is closed to strangers."),
        says={
            "still-open": N_(
                "The letter was taken: this server asks nobody. It is the provider's policy that has to change."
            ),
            "nothing-said": N_(
                "No SMTP in the clear is in this capture. With ssl the server waits for TLS, and `smtplib.SMTP` for a "
                "greeting, until its time is up; and reading mail is POP3's affair."
            ),
            "no-sender": N_("Nobody named a sender, so the server had nothing to refuse."),
            "wants-tls": N_(
                "Refused, but for want of encryption: STARTTLS has to come first. Nobody was asked who sends yet."
            ),
            "other-reason": N_(
                "Something else went wrong here: the reply that you want begins with 530 and follows MAIL."
            ),
        },
        hints=(
            N_("Keep the lines that send. The provider needs a policy that asks who sends, and has no TLS."),
            N_('`labkit.Provider("smtp-auth", repeatable=True)` wants everybody to log in who sends.'),
        ),
        where=N_("the reply to MAIL in your capture."),
    ),
)


def _message_lines(capture: Capture) -> list[int]:
    """Where the lines of letters are in the first SMTP connection. Raises Missing."""
    lines = first_smtp(capture).lines
    places = [n for n, line in enumerate(lines) if line.side is Side.CLIENT and line.kind is LineKind.MESSAGE]
    if not places:
        raise Missing(_("In this capture nobody sent a letter."))
    return places


def _answered(capture: Capture) -> str:
    lines, places = first_smtp(capture).lines, _message_lines(capture)
    replies = [place + 1 for place in places if lines[place + 1 : place + 2] and lines[place + 1].side is Side.SERVER]
    if any(reply + 1 in places for reply in replies):
        return "a"
    return "b" if places[-1] + 1 in replies else "c"


def _around_the_letter(capture: Capture) -> Sequence[Line]:
    """The command that opens the letter with its answer, and the letter's end with its own."""
    lines, places = first_smtp(capture).lines, _message_lines(capture)
    return [*lines[max(0, places[0] - 2) : places[0]], *lines[places[-1] : places[-1] + 2]]


def _cards(capture: Capture) -> Sequence[str]:
    """A session in eight lines: greeting, EHLO, MAIL, RCPT, DATA, 354, the letter's first line, its receipt."""
    lines, places = first_smtp(capture).lines, _message_lines(capture)
    commands = {turn.verb: turn for turn in reversed(turns(capture))}
    if not {"EHLO", "MAIL", "RCPT", "DATA"} <= commands.keys() or _answered(capture) != "b":
        raise Missing(_("The session in this capture is not complete."))
    asked = [commands[verb].asked for verb in ("EHLO", "MAIL", "RCPT", "DATA")]
    shown = [lines[0], *asked, commands["DATA"].answered, lines[places[0]], lines[places[-1] + 1]]
    return tuple(map(card, shown))


def _early(capture: Capture) -> Turn:
    """The first letter that was asked for, if nobody had logged in by then. Raises Missing."""
    for turn in pop3_turns(capture):
        if turn.verb == "RETR":
            return turn
        if turn.verb in {"PASS", "APOP", "AUTH"} and turn.code == "+OK":
            break
    raise Missing(_("In this capture nobody asked for a letter before logging in."))


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


def _seen_as(capture: Capture) -> str:
    envelope, shown = values(smtp_flows(capture), "smtp.mail.sender"), values(pop3_flows(capture), "message.from")
    if envelope and not was_sent(capture):
        return "c"
    if not envelope or not shown:
        raise Missing(_("This capture does not hold both: a letter being sent, and the same letter being read."))
    return "a" if _address(shown[-1]) == _address(envelope[-1]) else "b"


def _senders_in_words(capture: Capture) -> str:
    if _seen_as(capture) == "c":
        return _("The server did not take the letter.")
    text = _("The envelope said `{envelope}`, and taro's program got `{shown}`.")
    envelope, shown = values(smtp_flows(capture), "smtp.mail.sender"), values(pop3_flows(capture), "message.from")
    return text.format(envelope=envelope[-1], shown=shown[-1])


def _address(words: str) -> str:
    return parseaddr(words)[1].casefold()


def _from_taro(capture: Capture) -> bool:
    shown = values(smtp_flows(capture), "message.from")
    return was_sent(capture) and TARO in map(_address, shown)


def _to_taro(capture: Capture) -> bool:
    return any(turn.code == "250" and TARO in turn.asked.text.casefold() for turn in turns(capture, "RCPT"))


def _elsewhere(capture: Capture) -> tuple[Turn, ...]:
    """The recipients of other providers, with the server's answers. Raises Missing when there is none."""
    own = {name.casefold() for name in values(smtp_flows(capture), "smtp.greeting.server")}
    found = tuple(turn for turn in turns(capture, "RCPT") if _domain(turn) not in own)
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


def _taken(found: Sequence[Turn]) -> int:
    return sum(turn.code == "250" for turn in found)


def _asks_who(capture: Capture) -> bool:
    """530 to MAIL for want of a login (RFC 4954 section 6) or of a reading, but not for want of TLS (RFC 3207
    section 4)."""
    refusals = [turn.answered.text for turn in turns(capture, "MAIL") if turn.code == "530"]
    return any("STARTTLS" not in text.upper() for text in refusals)
