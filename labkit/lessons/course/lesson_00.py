"""Lesson 00, spot the password: what its notebook asks, and how the wire answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.capture import Capture
from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.exposure import SOURCES, Fact, Verdict, expose
from labkit.decode.protocols import POP3, POP3S, SMTP, SMTPS
from labkit.decode.spans import Span, Visibility
from labkit.lessons.evidence import Missing, every_span, login_lines, pop3_flows, smtp_flows, value, verdict
from labkit.lessons.kinds import Number, Proof, Text
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.texts import _
from labkit.wire.flows import Side


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (_who_gives(), _taros(), _encoded(), _hanakos(), _commands(), _count(), _what_is_left(), _mine())
    return Lesson("00", _("Spot the password"), steps)


def _told(flows: Sequence[Dissection], fact: Fact) -> tuple[Span, ...]:
    """Where a fact crossed these connections, in order."""
    spans = every_span(*(flow for flow in flows))
    return tuple(span for span in spans if span.field in SOURCES[fact])


def _first(flows: Sequence[Dissection], fact: Fact) -> str:
    """The first value of a fact in these connections. Raises Missing."""
    found = next((span.value for span in _told(flows, fact) if span.visibility is not Visibility.GUESSABLE), None)
    if found is None:
        raise Missing(_("The {fact} cannot be read in this capture.").format(fact=_(fact.value)))
    return found


# 1 Plaintext


def _who_gives() -> Experiment:
    return Experiment(
        id="00-1",
        section=_("1 Plaintext"),
        takes=(Capture,),
        question=_("Who has to give this provider a password?"),
        choices={
            "a": _("Only hanako, to send her letter."),
            "b": _("Only taro, to read it."),
            "c": _("Both of them."),
        },
        truth=_asked,
        found=_asked_in_words,
        replies={
            "a": _(
                "It is the other way round: this server takes a letter from anybody, and hands it out only to taro."
            ),
            "c": _("So one would think, but this server takes a letter from anybody at all."),
        },
    )


def _asked(capture: Capture) -> str:
    sending = bool(_told(smtp_flows(capture), Fact.PASSWORD))
    reading = bool(_told(pop3_flows(capture), Fact.PASSWORD))
    if not sending and not reading:
        raise Missing(_("In this capture no password crossed the network in the clear."))
    return "c" if sending and reading else "a" if sending else "b"


def _asked_in_words(capture: Capture) -> str:
    return {
        "a": _("A password crossed the network with SMTP, for sending, and none with POP3."),
        "b": _("A password crossed the network with POP3, for reading, and none with SMTP."),
        "c": _("A password crossed the network with SMTP, for sending, and one with POP3, for reading."),
    }[_asked(capture)]


def _taros() -> Exercise:
    return Exercise(
        id="00-2",
        section=_("1 Plaintext"),
        needs="00-1",
        task=_("Write down taro's password, as it stands in the figure."),
        kind=Text(lambda capture: _first(pop3_flows(capture), Fact.PASSWORD)),
        why=lambda _capture: _("Nothing had to be broken: taro's program said it aloud, and you were listening."),
        misconceptions=(
            Misconception(
                "login-name",
                lambda answer, capture: answer == _first(pop3_flows(capture), Fact.LOGIN_NAME),
                _("That is his login name, which the command USER carries. The password comes two arrows later."),
            ),
            Misconception(
                "whole-line",
                lambda answer, capture: _first(pop3_flows(capture), Fact.PASSWORD) in answer,
                _("You found the line. Its first word is the command; only what comes after it is the password."),
            ),
            Misconception(
                "command",
                lambda answer, _capture: answer.upper() == "PASS",
                _("PASS is the command, short for password. The password itself comes right after it."),
            ),
        ),
        hints=(
            _("It is in the lower half of the figure, where POP3 is spoken."),
            _("Look for the arrow whose text begins with PASS."),
        ),
        where=_("the figure above, lower half, the arrows that go from the client to the server."),
    )


# 2 SMTP AUTH


def _encoded() -> Experiment:
    return Experiment(
        id="00-3",
        section=_("2 SMTP AUTH"),
        takes=(Capture,),
        question=_("Can somebody on the way read hanako's password too?"),
        choices={
            "a": _("No: her program makes it unreadable."),
            "b": _("Yes: it stands there as it is."),
            "c": _("Yes, once its spelling is undone, which anybody can."),
        },
        truth=lambda capture: {Verdict.READABLE: "b", Verdict.ENCODED: "c"}.get(_sending(capture), "a"),
        found=lambda capture: _("When hanako sends, her password is {verdict}.").format(
            verdict=_(_sending(capture).value)
        ),
        lines=lambda capture: login_lines(capture, "PLAIN"),
        replies={
            "a": _("It only looks so. Anybody can undo that spelling, and you will do it next."),
            "b": _("Not as it is: the line looks like nonsense, but nothing in it is secret."),
        },
    )


def _sending(capture: Capture) -> Verdict:
    """How much of the password is given away by sending alone."""
    found = expose(flow for flow in smtp_flows(capture))[Fact.PASSWORD].verdict
    if found is Verdict.NOT_SENT:
        raise Missing(_("Nobody logged in to send in this capture."))
    return found


def _hanakos() -> Exercise:
    return Exercise(
        id="00-4",
        section=_("2 SMTP AUTH"),
        needs="00-3",
        task=_("Decode the last word of the AUTH line, and write down hanako's password."),
        kind=Text(lambda capture: _first(smtp_flows(capture), Fact.PASSWORD)),
        why=lambda _capture: _("One call of a function that every computer has: that is all the protection there was."),
        misconceptions=(
            Misconception(
                "still-encoded",
                lambda answer, capture: bool(answer) and answer in login_lines(capture, "PLAIN")[0].text,
                _("That is still base64. Put it between the quotes of `b64decode` and run the cell."),
            ),
            Misconception(
                "login-name",
                lambda answer, capture: answer == _first(smtp_flows(capture), Fact.LOGIN_NAME),
                _("That is her login name. The password is the last part."),
            ),
            Misconception(
                "whole-message",
                lambda answer, capture: _first(smtp_flows(capture), Fact.PASSWORD) in answer,
                _(
                    "It is in there, and more. `\\x00` is a zero byte that separates the parts: take the last part alone."
                ),
            ),
            Misconception(
                "taros",
                lambda answer, capture: answer == _first(pop3_flows(capture), Fact.PASSWORD),
                _("That is taro's, which he gives to read. hanako's is in the AUTH line."),
            ),
        ),
        hints=(
            _("Copy the last word of the AUTH line, with the = at its end, between the two quotes of `b64decode`."),
            _("What is printed has two parts, each after a zero byte, `\\x00`: a login name and a password."),
        ),
        where=_("the line that begins with AUTH PLAIN, shown by the reveal above."),
    )


# 3 POP before SMTP


def _commands() -> Experiment:
    return Experiment(
        id="00-5",
        section=_("3 POP before SMTP"),
        takes=(Capture,),
        found=lambda capture: _("over {count} connections ({names}) the programs said this.").format(
            count=len(_clear(capture)), names=", ".join(flow.protocol.label for flow in _clear(capture))
        ),
        lines=lambda capture: [line for flow in _clear(capture) for line in _said(flow)],
    )


def _clear(capture: Capture) -> tuple[Dissection, ...]:
    """The connections in the clear, in order. Raises Missing when there is none."""
    flows = tuple(flow for flow in capture.flows if flow.protocol in {SMTP, POP3})
    if not flows:
        raise Missing(_("In this capture nobody spoke SMTP or POP3 in the clear."))
    return flows


def _said(flow: Dissection) -> list[Line]:
    """The client's commands and logins."""
    return [line for line in flow.lines if line.side is Side.CLIENT and line.kind in {LineKind.COMMAND, LineKind.AUTH}]


def _passwords(capture: Capture) -> int:
    return len(_told(_clear(capture), Fact.PASSWORD))


def _count() -> Exercise:
    return Exercise(
        id="00-6",
        section=_("3 POP before SMTP"),
        needs="00-5",
        task=_("How many passwords can somebody on the way read in these lines?"),
        kind=Number(_passwords),
        why=lambda _capture: _(
            "Each of the two gave one in order to read; hanako did so only because she wanted to send."
        ),
        misconceptions=(
            Misconception(
                "each-connection",
                lambda answer, capture: answer == len(_clear(capture)),
                _("So many connections there are, but the SMTP one in the middle carries no password."),
            ),
            Misconception(
                "names-too",
                lambda answer, capture: answer == _passwords(capture) + len(_told(_clear(capture), Fact.LOGIN_NAME)),
                _("That counts the names too: USER carries a login name, PASS the password."),
            ),
            Misconception(
                "taro-alone",
                lambda answer, _capture: answer == 1,
                _("There is more than taro's: hanako's program read mail as well, before it sent."),
            ),
            Misconception(
                "none",
                lambda answer, _capture: answer == 0,
                _("All these lines crossed the network as they are. What does PASS carry?"),
            ),
        ),
        hints=(
            _("A line that carries a password begins with PASS here."),
            _("Count the lines that begin with PASS."),
        ),
        where=_("the lines of part 3, from the first USER to the last QUIT."),
    )


# 4 SSL


def _what_is_left() -> Experiment:
    return Experiment(
        id="00-7",
        section=_("4 SSL"),
        takes=(Capture,),
        question=_("What can somebody on the way still learn?"),
        choices={
            "a": _("Nothing at all, not even that mail was sent."),
            "b": _("Which server was called, and how much was said."),
            "c": _("The passwords, but not the letter."),
        },
        truth=_left,
        found=_left_in_words,
        replies={
            "a": _("Encryption hides what is said. It does not hide that somebody talks, to whom, or how much."),
            "c": _("The passwords travel inside, like the letter."),
        },
    )


def _left(capture: Capture) -> str:
    password = verdict(capture, Fact.PASSWORD)
    if password is Verdict.NOT_SENT:
        raise Missing(_("In this capture nobody gave a password, not even inside TLS."))
    if password is not Verdict.HIDDEN:
        return "c"
    return "b" if verdict(capture, Fact.SERVER_NAME) is Verdict.READABLE else "a"


def _left_in_words(capture: Capture) -> str:
    if _left(capture) == "a":
        return _("The passwords are hidden, and so is the server's name.")
    text = _("The passwords are {password}; the server's name, `{server}`, is {name}; of the letter, {size}.")
    return text.format(
        password=_(verdict(capture, Fact.PASSWORD).value),
        server=value(capture, Fact.SERVER_NAME),
        name=_(verdict(capture, Fact.SERVER_NAME).value),
        size=_(verdict(capture, Fact.MESSAGE_SIZE).value),
    )


@dataclass(frozen=True, slots=True)
class _Recorded(Proof):
    """A capture, or the exchange that holds one: whoever forgot `.capture` has recorded all the same."""

    def read(self, answer: Any, *evidence: Any) -> Any:
        return Proof.read(self, getattr(answer, "capture", answer), *evidence)


def _mine() -> Exercise:
    return Exercise(
        id="00-8",
        section=_("4 SSL"),
        needs=None,
        task=_("Record an exchange of your own in which nobody on the way gets a password."),
        kind=_Recorded(Capture, _("a capture"), _unseen),
        why=lambda: _(
            "The same letter, the same passwords, and no sign of them. In a mail program look for SSL/TLS, the ssl of this "
            "lab: with starttls somebody on the way can take the offer of encryption away (lesson 06)."
        ),
        misconceptions=(
            Misconception(
                "encoded",
                lambda capture: bool(_told(smtp_flows(capture), Fact.PASSWORD)),
                _("In this one hanako's password is spelled in base64, and taro's stands there as it is."),
            ),
            Misconception(
                "read-first",
                lambda capture: len(pop3_flows(capture)) > 1,
                _("In this one hanako reads first, and so both passwords cross the network as they are."),
            ),
            Misconception(
                "readable",
                lambda capture: bool(_told(pop3_flows(capture), Fact.PASSWORD)),
                _("In this one taro's password can be read by anybody on the way."),
            ),
            Misconception(
                "nobody-logged-in",
                lambda capture: verdict(capture, Fact.PASSWORD) is Verdict.NOT_SENT,
                _("No password crossed the network because nobody gave one: no mail was read in this capture."),
            ),
            Misconception(
                "half",
                lambda capture: verdict(capture, Fact.PASSWORD) is Verdict.HIDDEN,
                _("The password is hidden, but that is half of an exchange: hanako is to send, and taro to read."),
            ),
        ),
        hints=(
            _("Which of the four bars in the figure is closed? Its policy has a short name."),
            _('Keep the whole of `labkit.exchange("plaintext").capture`, and change only the word between the quotes.'),
        ),
        where=_("the figure above, and the names in the text below it."),
    )


def _unseen(capture: Capture) -> bool:
    spoken = {flow.protocol for flow in capture.flows}
    both = spoken & {SMTP, SMTPS} and spoken & {POP3, POP3S}
    return bool(both) and verdict(capture, Fact.PASSWORD) is Verdict.HIDDEN
