"""Lesson 06, STARTTLS and stripping it: how the wire answers what its notebook asks."""

from collections.abc import Iterable, Sequence

from labkit.capture import Capture
from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.exposure import Fact, Verdict
from labkit.decode.protocols import POP3S, SMTPS
from labkit.lessons.answers import Choice, Labels, Made, Number
from labkit.lessons.evidence import (
    Evidence,
    Missing,
    commands,
    first_of,
    holds_a_letter,
    in_words,
    lines_of,
    login_lines,
    opened,
    password,
    pop3_flows,
    pop3_turns,
    sendings,
    smtp_flows,
    turns,
    value,
    verdict,
)
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.mail.policy import Security
from labkit.provider import Provider
from labkit.texts import N_, _
from labkit.wire.flows import Side

STEPS: tuple[Step, ...] = (
    Experiment(
        "06-1",
        truth=lambda seen: "b" if _upgraded(seen.capture) and _hides_the_sender(seen.capture) else "c",
        found=lambda seen: _("The last line in the clear is `{line}`. The password is {verdict}.").format(
            line=_clear_lines(_upgraded(seen.capture))[-1].text, verdict=in_words(seen.capture, Fact.PASSWORD)
        ),
        lines=lambda seen: [line for line in _clear_lines(_upgraded(seen.capture)) if _tells_of_the_upgrade(line)],
        replies={
            "a": N_("It becomes encrypted. To ask for that, both sides must first talk in the clear."),
            "c": N_("Once TLS has begun, all lines are inside it, not only those with secrets."),
        },
    ),
    Exercise(
        "06-2",
        needs="06-1",
        answer=Labels(
            lambda seen: _said(seen.capture),
            ("clear", "tls"),
            mistakes={
                "starttls-inside": lambda answer, _seen: answer[1] == "tls",
                "only-secrets": lambda answer, _seen: "clear" in answer[3:],
                "one-greeting": lambda answer, _seen: answer[2] == "clear",
            },
        ),
        why=N_("Two lines in the clear, and then everything inside, beginning with a second greeting."),
        says={
            "starttls-inside": N_("STARTTLS asks for TLS, so it cannot be inside it yet."),
            "only-secrets": N_(
                "TLS does not choose: what comes after the handshake is inside it, line by line, to the end."
            ),
            "one-greeting": N_(
                "There are two greetings, one on either side of the handshake: the second is inside TLS."
            ),
        },
        hints=(
            N_("The handshake comes right after STARTTLS and its answer."),
            N_("Nothing that was said in the clear counts any more after the handshake, so the program greets again."),
        ),
        where=N_("the lines that the experiment showed: they are all that was in the clear."),
    ),
    Experiment(
        "06-3",
        truth=lambda seen: "b" if password(seen.capture) is not Verdict.NOT_SENT else "a",
        found=lambda seen: _(
            "The server answered `{answer}`, and to somebody on the way the password is {verdict}: {password}."
        ).format(
            answer=login_lines(seen.capture, "PLAIN")[-1].text,
            verdict=in_words(seen.capture, Fact.PASSWORD),
            password=value(seen.capture, Fact.PASSWORD),
        ),
        lines=lambda seen: login_lines(seen.capture, "PLAIN"),
        replies={
            "a": N_("The server did not. Whoever listened on the way did."),
            "c": N_("Base64 is a spelling and hides nothing (lesson 03)."),
        },
    ),
    Experiment(
        "06-4",
        takes=(Capture, Capture),
        truth=lambda seen: {Verdict.NOT_SENT: "a", Verdict.HIDDEN: "c"}.get(password(seen.capture), "b"),
        found=lambda seen: _(
            "Between program and machine the password is {seen}: {password}. Between machine and provider it is {real}."
        ).format(
            seen=in_words(seen.capture, Fact.PASSWORD),
            password=value(seen.capture, Fact.PASSWORD),
            real=in_words(seen.captures[1], Fact.PASSWORD),
        ),
        lines=lambda seen: [*_offers(seen.capture), *login_lines(seen.capture, "PLAIN")],
        replies={
            "a": N_("To this program nothing is missing: a server without TLS looks just like that."),
            "c": N_("It only does so when the server offers it. That is what the word `if` in it says."),
        },
    ),
    Exercise(
        "06-5",
        needs="06-4",
        answer=Made(
            Capture,
            lambda capture, _seen: _insisted(capture),
            mistakes={
                "leaked": lambda capture, _seen: password(capture) in {Verdict.READABLE, Verdict.ENCODED},
                "went-past": lambda capture, _seen: any(flow.tls for flow in capture.flows),
                "named-itself": lambda capture, _seen: bool(sendings(capture)),
                "no-greeting": lambda capture, _seen: (
                    not turns(capture) or all(turn.verb == "QUIT" for turn in turns(capture))
                ),
            },
        ),
        why=N_("It greeted, saw no offer, and left. No mail today, but no password lost either."),
        says={
            "leaked": N_("The password crossed in the clear: the program logged in although nobody had started TLS."),
            "went-past": N_(
                "This program was offered TLS, so it spoke with the provider itself: connect to `middle.smtp_port`."
            ),
            "named-itself": N_("No password was said, but sender and recipient were on their way: stop before MAIL."),
            "no-greeting": N_(
                "It left before it had asked what the server offers: a program that insists greets first."
            ),
        },
        hints=(
            N_(
                "Four lines: connect (to `middle.smtp_port`), `ehlo`, `starttls`, `login`. No `if`: let `starttls` "
                "raise."
            ),
            N_(
                "`smtplib` refuses to go on when STARTTLS is not offered; `suppress(smtplib.SMTPException)` passes "
                "that over."
            ),
        ),
        where=N_("the row `password` of `insisted.exposure`: it should say not sent."),
    ),
    Experiment(
        "06-6",
        takes=(Provider, Capture),
        found=lambda seen: _(
            "in the café he reads his mail, and so does everybody else: his password is {verdict}."
        ).format(verdict=in_words(seen.capture, Fact.PASSWORD)),
        lines=lambda seen: _pop3_login(seen.capture),
    ),
    Exercise(
        "06-7",
        needs="06-6",
        answer=Choice(
            lambda seen: (
                "c" if seen.provider.policy.security is not Security.NONE and _pop3_login(seen.capture) else "d"
            ),
            "abcd",
            mistakes={
                "password": lambda answer, _seen: answer == "a",
                "safe-network": lambda answer, _seen: answer == "b",
                "the-provider": lambda answer, _seen: answer == "d",
            },
        ),
        why=N_(
            "No honest server of this provider takes his login like that. A program that suddenly works is a warning "
            "too."
        ),
        says={
            "password": N_(
                "The password is the same in both places. At home the server refused before he had said it."
            ),
            "safe-network": N_(
                "The provider sees nothing of the café's network. And whoever runs that network is inside it."
            ),
            "the-provider": N_(
                "The provider's rule is the same everywhere: TLS first. It was kept in the café too, but by whom?"
            ),
        },
        hints=(
            N_("The provider insists on TLS, taro's program does not speak it, and still they understand each other."),
            N_("Who stood between the two in the second half of the cell?"),
        ),
        where=N_("the cell of this part: to whose port does the program connect in the café?"),
    ),
    Experiment(
        "06-8",
        takes=(Capture, Capture),
        truth=lambda seen: _what_became_of_it(seen.capture),
        found=lambda seen: _inject_in_words(*seen.captures),
        lines=lambda seen: [*_around(_upgraded(seen.capture)), *_after_stls(seen.captures[1])],
        replies={
            "a": N_("A careless server would. This one throws away what came too early."),
            "c": N_(
                "After STARTTLS nothing but TLS may come; a server that goes on talking in the clear breaks the "
                "protocol."
            ),
        },
    ),
    Experiment("06-9", takes=(Capture, Capture), found=lambda seen: _first_byte_in_words(*seen.captures)),
    Exercise(
        "06-10",
        needs="06-9",
        answer=Number(
            lambda seen: _trips(seen, 0) - _trips(seen, 1),
            mistakes={
                "all-of-one": lambda answer, seen: answer in {_trips(seen, 0), _trips(seen, 1)},
                "the-wrong-way-round": lambda answer, seen: answer == _trips(seen, 1) - _trips(seen, 0),
                "nothing": lambda answer, _seen: answer == 0,
                "one-too-few": lambda answer, seen: answer == _trips(seen, 0) - _trips(seen, 1) - 1,
                "one-too-many": lambda answer, seen: answer == _trips(seen, 0) - _trips(seen, 1) + 1,
            },
        ),
        why=N_("The first `ehlo`, in the clear, and STARTTLS itself are not needed any more."),
        says={
            "all-of-one": N_("That is how many one of the two sessions takes. Take the difference."),
            "the-wrong-way-round": N_("The other way round: the session that begins in the clear takes more."),
            "nothing": N_("Both have a handshake, true. But one of them first has to ask for it."),
            "one-too-few": N_("STARTTLS itself is one. But the program asked something else in the clear before it."),
            "one-too-many": N_(
                "One too many. The program waits for the server's first word in both sessions, and for a handshake too."
            ),
        },
        hints=(
            N_("`upgraded.cost.round_trips` is one number, `wrapped.cost.round_trips` the other."),
            N_("`upgraded.cost.round_trips - wrapped.cost.round_trips`"),
        ),
        where=N_("the lines before the handshake in part 1: each question that waits for an answer is one round trip."),
    ),
    Exercise(
        "06-11",
        answer=Made(
            Capture,
            lambda capture, _seen: (
                {flow.protocol for flow in capture.flows} == {SMTPS}
                and password(capture) is Verdict.HIDDEN
                and holds_a_letter(capture)
            ),
            mistakes={
                "in-the-clear": lambda capture, _seen: (
                    password(capture) in {Verdict.READABLE, Verdict.ENCODED, Verdict.GUESSABLE}
                ),
                "upgraded": lambda capture, _seen: any(flow.tls for flow in smtp_flows(capture)),
                "read-instead": lambda capture, _seen: any(flow.protocol is POP3S for flow in capture.flows),
                "not-sent": lambda capture, _seen: not holds_a_letter(capture),
            },
        ),
        why=N_("The first byte belongs to TLS already. There is no line in the clear that somebody could take away."),
        says={
            "in-the-clear": N_("There is no TLS at all here: the login crossed the network for everybody."),
            "upgraded": N_("The letter was inside TLS, but the offer was made in the clear, and can be taken away."),
            "read-instead": N_("This connection cannot be stripped, but it only reads: let hanako send."),
            "not-sent": N_(
                "There was nothing to strip, and no letter either: the server refused, or the program gave up."
            ),
        },
        hints=(
            N_("It is another policy of the provider: `list(labkit.POLICIES)` names them."),
            N_("The policy is `ssl`, as in the cell of this part's experiment."),
        ),
        where=N_("the first line of your capture: who speaks first, and what?"),
    ),
)


def _upgraded(capture: Capture) -> Dissection:
    """The connection that STARTTLS upgraded. Raises Missing."""
    upgraded = (flow for flow in smtp_flows(capture) if flow.tls is not None)
    return first_of(upgraded, _("No SMTP connection in this capture was upgraded to TLS."))


def _hides_the_sender(capture: Capture) -> bool:
    return verdict(capture, Fact.SENDER) is Verdict.HIDDEN


def _clear_lines(flow: Dissection) -> list[Line]:
    return [line for line in flow.lines if line.kind is not LineKind.TLS]


def _tells_of_the_upgrade(line: Line) -> bool:
    return "STARTTLS" in line.text or line.text.lower().startswith("ehlo") or line.text.startswith("220 2")


def _said(capture: Capture) -> Sequence[tuple[str, str]]:
    """The client's commands in the clear, then those inside TLS, up to the sender."""
    pieces = [(line.text, "clear") for line in commands(_upgraded(capture))]
    inside = [line for talk in opened(capture) for line in commands(talk)]
    pieces += [(line.text, "tls") for line in inside[:3]]
    if len(pieces) != 5:
        raise Missing(_("This capture does not hold one whole session with STARTTLS."))
    return pieces


def _offers(capture: Capture) -> list[Line]:
    """The greetings of the clients, and of what the servers then offer the two things that matter here."""
    lines = [line for flow in smtp_flows(capture) for line in _clear_lines(flow)]
    return [line for line in lines if line.text.startswith(("ehlo", "EHLO", "250-AUTH", "250-STARTTLS"))]


def _insisted(capture: Capture) -> bool:
    said = {turn.verb for turn in turns(capture)}
    innocent = "EHLO" in said and said <= {"EHLO", "STARTTLS", "QUIT", "NOOP", "RSET"}
    return innocent and not any(flow.tls for flow in capture.flows)


def _pop3_login(capture: Capture) -> Iterable[Line]:
    told = pop3_turns(capture, "USER", "PASS")
    if not told:
        raise Missing(_("In this capture nobody logged in to read."))
    return lines_of(told)


def _around(flow: Dissection) -> list[Line]:
    """What was said in the clear from STARTTLS on."""
    lines = _clear_lines(flow)
    at = next(n for n, line in enumerate(lines) if line.text.upper() == "STARTTLS")
    return lines[at:]


def _after_stls(capture: Capture) -> list[Line]:
    lines = [line for flow in pop3_flows(capture) for line in _clear_lines(flow)]
    at = next((n for n, line in enumerate(lines) if line.text.upper() == "STLS"), len(lines))
    return lines[at:]


def _what_became_of_it(capture: Capture) -> str:
    said = _around(_upgraded(capture))
    if sum(line.side is Side.CLIENT for line in said) < 2:
        raise Missing(_("In this capture nothing was said in the clear behind STARTTLS."))
    if sum(line.side is Side.SERVER for line in said) > 1:
        return "c"
    commands, replies = _counted(capture)
    return "a" if replies > commands else "b"


def _counted(capture: Capture) -> tuple[int, int]:
    """How many commands and replies were inside TLS."""
    inside = opened(capture)
    return sum(len(talk.commands) for talk in inside), sum(len(talk.replies) for talk in inside)


def _inject_in_words(smtp: Capture, pop3: Capture) -> str:
    commands, replies = _counted(smtp)
    refused = [line.text for line in _after_stls(pop3) if line.side is Side.SERVER]
    if not refused:
        raise Missing(_("In the second capture nobody said STLS."))
    text = _(
        "Inside TLS there were {commands} commands and {replies} replies, none of them to the NOOP. The POP3 server "
        "did not even start TLS: `{refused}`."
    )
    if commands != replies:
        raise Missing(_("Commands and replies inside TLS do not match in this capture."))
    return text.format(commands=commands, replies=replies, refused=refused[0])


def _first_byte_in_words(upgraded: Capture, wrapped: Capture) -> str:
    flow = _upgraded(upgraded)
    text = _("with STARTTLS {count} lines of SMTP crossed in the clear, with TLS from the first byte {none}.")
    return text.format(count=len(_clear_lines(flow)), none=len(_clear_lines(_wrapped(wrapped))))


def _wrapped(capture: Capture) -> Dissection:
    """The connection that was TLS from the first byte. Raises Missing."""
    wrapped = (flow for flow in capture.flows if flow.protocol is SMTPS)
    return first_of(wrapped, _("No SMTP connection in this capture was inside TLS from the first byte."))


def _trips(seen: Evidence, number: int) -> int:
    return seen.captures[number].cost.round_trips
