"""Lesson 00, spot the password: how the wire answers what its notebook asks."""

from collections.abc import Sequence

from labkit.capture import Capture
from labkit.decode.dissection import Dissection
from labkit.decode.exposure import SOURCES, Fact, Verdict, expose
from labkit.decode.protocols import POP3, POP3S, SMTP, SMTPS
from labkit.decode.spans import Span
from labkit.lessons.answers import Made, Number, Text
from labkit.lessons.evidence import (
    Missing,
    commands,
    every_span,
    in_words,
    known,
    login_lines,
    password,
    pop3_flows,
    smtp_flows,
    value,
    verdict,
)
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.texts import N_, _

STEPS: tuple[Step, ...] = (
    Experiment(
        "00-1",
        truth=lambda seen: _asked(seen.capture),
        found={
            "a": N_("A password crossed the network with SMTP, for sending, and none with POP3."),
            "b": N_("A password crossed the network with POP3, for reading, and none with SMTP."),
            "c": N_("A password crossed the network with SMTP, for sending, and one with POP3, for reading."),
        },
        replies={
            "a": N_(
                "It is the other way round: this server takes a letter from anybody, and hands it out only to taro."
            ),
            "c": N_("So one would think, but this server takes a letter from anybody at all."),
        },
    ),
    Exercise(
        "00-2",
        needs="00-1",
        answer=Text(
            lambda seen: known(expose(pop3_flows(seen.capture)), Fact.PASSWORD),
            mistakes={
                "login-name": lambda answer, seen: answer == known(expose(pop3_flows(seen.capture)), Fact.LOGIN_NAME),
                "whole-line": lambda answer, seen: known(expose(pop3_flows(seen.capture)), Fact.PASSWORD) in answer,
                "command": lambda answer, _seen: answer.upper() == "PASS",
            },
        ),
        why=N_("Nothing had to be broken: taro's program said it aloud, and you were listening."),
        says={
            "login-name": N_(
                "That is his login name, which the command USER carries. The password comes two arrows later."
            ),
            "whole-line": N_(
                "You found the line. Its first word is the command; only what comes after it is the password."
            ),
            "command": N_("PASS is the command, short for password. The password itself comes right after it."),
        },
        hints=(
            N_("It is in the lower half of the figure, where POP3 is spoken."),
            N_("Look for the arrow whose text begins with PASS."),
        ),
        where=N_("the figure above, lower half, the arrows that go from the client to the server."),
    ),
    Experiment(
        "00-3",
        truth=lambda seen: {Verdict.READABLE: "b", Verdict.ENCODED: "c"}.get(_sending(seen.capture), "a"),
        found=lambda seen: _("When hanako sends, her password is {verdict}.").format(
            verdict=_(_sending(seen.capture).value)
        ),
        lines=lambda seen: login_lines(seen.capture, "PLAIN"),
        replies={
            "a": N_("It only looks so. Anybody can undo that spelling, and you will do it next."),
            "b": N_("Not as it is: the line looks like nonsense, but nothing in it is secret."),
        },
    ),
    Exercise(
        "00-4",
        needs="00-3",
        answer=Text(
            lambda seen: known(expose(smtp_flows(seen.capture)), Fact.PASSWORD),
            mistakes={
                "still-encoded": lambda answer, seen: (
                    bool(answer) and answer in login_lines(seen.capture, "PLAIN")[0].text
                ),
                "login-name": lambda answer, seen: answer == known(expose(smtp_flows(seen.capture)), Fact.LOGIN_NAME),
                "whole-message": lambda answer, seen: known(expose(smtp_flows(seen.capture)), Fact.PASSWORD) in answer,
                "taros": lambda answer, seen: answer == known(expose(pop3_flows(seen.capture)), Fact.PASSWORD),
            },
        ),
        why=N_("One call of a function that every computer has: that is all the protection there was."),
        says={
            "still-encoded": N_("That is still base64. Put it between the quotes of `b64decode` and run the cell."),
            "login-name": N_("That is her login name. The password is the last part."),
            "whole-message": N_(
                "It is in there, and more. `\\x00` is a zero byte that separates the parts: take the last part alone."
            ),
            "taros": N_("That is taro's, which he gives to read. hanako's is in the AUTH line."),
        },
        hints=(
            N_("Copy the last word of the AUTH line, with the = at its end, between the two quotes of `b64decode`."),
            N_("What is printed has two parts, each after a zero byte, `\\x00`: a login name and a password."),
        ),
        where=N_("the line that begins with AUTH PLAIN, shown by the reveal above."),
    ),
    Experiment(
        "00-5",
        found=lambda seen: _("over {count} connections ({names}) the programs said this.").format(
            count=len(_clear(seen.capture)), names=", ".join(flow.protocol.label for flow in _clear(seen.capture))
        ),
        lines=lambda seen: [line for flow in _clear(seen.capture) for line in commands(flow)],
    ),
    Exercise(
        "00-6",
        needs="00-5",
        answer=Number(
            lambda seen: _passwords(seen.capture),
            mistakes={
                "each-connection": lambda answer, seen: answer == len(_clear(seen.capture)),
                "names-too": lambda answer, seen: (
                    answer == _passwords(seen.capture) + len(_told(_clear(seen.capture), Fact.LOGIN_NAME))
                ),
                "taro-alone": lambda answer, _seen: answer == 1,
                "none": lambda answer, _seen: answer == 0,
            },
        ),
        why=N_("Each of the two gave one in order to read; hanako did so only because she wanted to send."),
        says={
            "each-connection": N_("So many connections there are, but the SMTP one in the middle carries no password."),
            "names-too": N_("That counts the names too: USER carries a login name, PASS the password."),
            "taro-alone": N_("There is more than taro's: hanako's program read mail as well, before it sent."),
            "none": N_("All these lines crossed the network as they are. What does PASS carry?"),
        },
        hints=(
            N_("A line that carries a password begins with PASS here."),
            N_("Count the lines that begin with PASS."),
        ),
        where=N_("the lines of part 3, from the first USER to the last QUIT."),
    ),
    Experiment(
        "00-7",
        truth=lambda seen: _left(seen.capture),
        found=lambda seen: _left_in_words(seen.capture),
        replies={
            "a": N_("Encryption hides what is said. It does not hide that somebody talks, to whom, or how much."),
            "c": N_("The passwords travel inside, like the letter."),
        },
    ),
    Exercise(
        "00-8",
        answer=Made(
            Capture,
            lambda capture, _seen: _unseen(capture),
            mistakes={
                "encoded": lambda capture, _seen: bool(_told(smtp_flows(capture), Fact.PASSWORD)),
                "read-first": lambda capture, _seen: len(pop3_flows(capture)) > 1,
                "readable": lambda capture, _seen: bool(_told(pop3_flows(capture), Fact.PASSWORD)),
                "nobody-logged-in": lambda capture, _seen: password(capture) is Verdict.NOT_SENT,
                "half": lambda capture, _seen: password(capture) is Verdict.HIDDEN,
            },
        ),
        why=N_(
            "The same letter, the same passwords, and no sign of them. In a mail program look for SSL/TLS, the ssl of "
            "this lab: with starttls somebody on the way can take the offer of encryption away (lesson 06)."
        ),
        says={
            "encoded": N_("In this one hanako's password is spelled in base64, and taro's stands there as it is."),
            "read-first": N_("In this one hanako reads first, and so both passwords cross the network as they are."),
            "readable": N_("In this one taro's password can be read by anybody on the way."),
            "nobody-logged-in": N_(
                "No password crossed the network because nobody gave one: no mail was read in this capture."
            ),
            "half": N_("The password is hidden, but that is half of an exchange: hanako is to send, and taro to read."),
        },
        hints=(
            N_("Which of the four bars in the figure is closed? Its policy has a short name."),
            N_(
                'Keep the whole of `labkit.exchange("plaintext").capture`, and change only the word between the quotes.'
            ),
        ),
        where=N_("the figure above, and the names in the text below it."),
    ),
)


def _told(flows: Sequence[Dissection], fact: Fact) -> tuple[Span, ...]:
    """Where a fact crossed these connections, in order."""
    spans = every_span(*flows)
    return tuple(span for span in spans if span.field in SOURCES[fact])


def _asked(capture: Capture) -> str:
    sending = bool(_told(smtp_flows(capture), Fact.PASSWORD))
    reading = bool(_told(pop3_flows(capture), Fact.PASSWORD))
    if not sending and not reading:
        raise Missing(_("In this capture no password crossed the network in the clear."))
    return "c" if sending and reading else "a" if sending else "b"


def _sending(capture: Capture) -> Verdict:
    """How much of the password is given away by sending alone."""
    found = expose(smtp_flows(capture))[Fact.PASSWORD].verdict
    if found is Verdict.NOT_SENT:
        raise Missing(_("Nobody logged in to send in this capture."))
    return found


def _clear(capture: Capture) -> tuple[Dissection, ...]:
    """The connections in the clear, in order. Raises Missing when there is none."""
    flows = tuple(flow for flow in capture.flows if flow.protocol in {SMTP, POP3})
    if not flows:
        raise Missing(_("In this capture nobody spoke SMTP or POP3 in the clear."))
    return flows


def _passwords(capture: Capture) -> int:
    return len(_told(_clear(capture), Fact.PASSWORD))


def _left(capture: Capture) -> str:
    leaks = password(capture)
    if leaks is Verdict.NOT_SENT:
        raise Missing(_("In this capture nobody gave a password, not even inside TLS."))
    if leaks is not Verdict.HIDDEN:
        return "c"
    return "b" if verdict(capture, Fact.SERVER_NAME) is Verdict.READABLE else "a"


def _left_in_words(capture: Capture) -> str:
    if _left(capture) == "a":
        return _("The passwords are hidden, and so is the server's name.")
    text = _("The passwords are {password}; the server's name, `{server}`, is {name}; of the letter, {size}.")
    return text.format(
        password=in_words(capture, Fact.PASSWORD),
        server=value(capture, Fact.SERVER_NAME),
        name=in_words(capture, Fact.SERVER_NAME),
        size=in_words(capture, Fact.MESSAGE_SIZE),
    )


def _unseen(capture: Capture) -> bool:
    spoken = {flow.protocol for flow in capture.flows}
    both = spoken & {SMTP, SMTPS} and spoken & {POP3, POP3S}
    return bool(both) and password(capture) is Verdict.HIDDEN
