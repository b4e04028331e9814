"""Lesson 06, STARTTLS and stripping it: what its notebook asks, and how the wire answers."""

from collections.abc import Iterable, Sequence

from labkit.capture import Capture
from labkit.decode.dissection import Dissection, Line, LineKind
from labkit.decode.exposure import Fact, Verdict
from labkit.decode.protocols import POP3S, SMTPS
from labkit.lessons.evidence import (
    Missing,
    holds_a_letter,
    login_lines,
    opened,
    pop3_flows,
    pop3_turns,
    sendings,
    smtp_flows,
    turns,
    value,
    verdict,
)
from labkit.lessons.kinds import Choice, Labels, Number, Proof
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.mail.policy import Security
from labkit.provider import Provider
from labkit.texts import _
from labkit.wire.flows import Side


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (
        _upgrade(),
        _inside(),
        _hasty(),
        _strip(),
        _insist(),
        _cafe(),
        _reason(),
        _inject(),
        _first_byte(),
        _saved(),
        _nothing_to_strip(),
    )
    return Lesson("06", _("Strip STARTTLS"), steps)


# 1 The upgrade


def _upgrade() -> Experiment:
    return Experiment(
        id="06-1",
        section=_("1 Watch a connection change"),
        takes=(Capture,),
        question=_("hanako sends a letter with STARTTLS. What can somebody on the way read?"),
        choices={
            "a": _("Nothing: the connection is encrypted."),
            "b": _("The first lines, up to the server's answer to STARTTLS."),
            "c": _("Everything but the password."),
        },
        truth=_how_much_is_clear,
        found=lambda capture: _("The last line in the clear is `{line}`. The password is {verdict}.").format(
            line=_clear_lines(_upgraded(capture))[-1].text, verdict=_(verdict(capture, Fact.PASSWORD).value)
        ),
        lines=lambda capture: [line for line in _clear_lines(_upgraded(capture)) if _tells_of_the_upgrade(line)],
        replies={
            "a": _("It becomes encrypted. To ask for that, both sides must first talk in the clear."),
            "c": _("Once TLS has begun, all lines are inside it, not only those with secrets."),
        },
    )


def _upgraded(capture: Capture) -> Dissection:
    """The connection that STARTTLS upgraded. Raises Missing."""
    for flow in smtp_flows(capture):
        if flow.tls is not None:
            return flow
    raise Missing(_("No SMTP connection in this capture was upgraded to TLS."))


def _clear_lines(flow: Dissection) -> list[Line]:
    return [line for line in flow.lines if line.kind is not LineKind.TLS]


def _how_much_is_clear(capture: Capture) -> str:
    _upgraded(capture)
    return "b" if verdict(capture, Fact.SENDER) is Verdict.HIDDEN else "c"


def _tells_of_the_upgrade(line: Line) -> bool:
    return "STARTTLS" in line.text or line.text.lower().startswith("ehlo") or line.text.startswith("220 2")


def _inside() -> Exercise:
    return Exercise(
        id="06-2",
        section=_("1 Watch a connection change"),
        needs="06-1",
        task=_("Label what hanako's program said, line by line: clear or TLS."),
        kind=Labels(_said, ("clear", "tls")),
        why=lambda _capture: _("Two lines in the clear, and then everything inside, beginning with a second greeting."),
        misconceptions=(
            Misconception(
                "starttls-inside",
                lambda answer, _capture: answer[1] == "tls",
                _("STARTTLS asks for TLS, so it cannot be inside it yet."),
            ),
            Misconception(
                "only-secrets",
                lambda answer, _capture: "clear" in answer[3:],
                _("TLS does not choose: what comes after the handshake is inside it, line by line, to the end."),
            ),
            Misconception(
                "one-greeting",
                lambda answer, _capture: answer[2] == "clear",
                _("There are two greetings, one on either side of the handshake: the second is inside TLS."),
            ),
        ),
        hints=(
            _("The handshake comes right after STARTTLS and its answer."),
            _("Nothing that was said in the clear counts any more after the handshake, so the program greets again."),
        ),
        where=_("the lines that the experiment showed: they are all that was in the clear."),
    )


def _said(capture: Capture) -> Sequence[tuple[str, str]]:
    """The client's commands in the clear, then those inside TLS, up to the sender."""
    _upgraded(capture)
    clear = [line for line in _clear_lines(_upgraded(capture)) if line.side is Side.CLIENT]
    inside = [line for talk in opened(capture) for line in talk.lines if line.side is Side.CLIENT]
    kinds = {LineKind.COMMAND, LineKind.AUTH}
    pieces = [(line.text, "clear") for line in clear if line.kind in kinds]
    pieces += [(line.text, "tls") for line in inside[:3] if line.kind in kinds]
    if len(pieces) != 5:
        raise Missing(_("This capture does not hold one whole session with STARTTLS."))
    return pieces


# 2 Too hasty


def _hasty() -> Experiment:
    return Experiment(
        id="06-3",
        section=_("2 Be too hasty"),
        takes=(Capture,),
        question=_("A hasty program says AUTH before STARTTLS, and the server refuses. Is the password safe?"),
        choices={
            "a": _("Yes: the server did not take it."),
            "b": _("No: it has crossed the network before the server could refuse."),
            "c": _("Yes: it is spelled in base64."),
        },
        truth=lambda capture: "b" if verdict(capture, Fact.PASSWORD) is not Verdict.NOT_SENT else "a",
        found=_hasty_in_words,
        lines=lambda capture: login_lines(capture, "PLAIN"),
        replies={
            "a": _("The server did not. Whoever listened on the way did."),
            "c": _("Base64 is a spelling and hides nothing (lesson 03)."),
        },
    )


def _hasty_in_words(capture: Capture) -> str:
    answer = login_lines(capture, "PLAIN")[-1].text
    text = _("The server answered `{answer}`, and to somebody on the way the password is {verdict}: {password}.")
    found = verdict(capture, Fact.PASSWORD)
    return text.format(answer=answer, verdict=_(found.value), password=value(capture, Fact.PASSWORD))


# 3 The offer taken away


def _strip() -> Experiment:
    return Experiment(
        id="06-4",
        section=_("3 Take the offer away"),
        takes=(Capture, Capture),
        question=_("The machine in the middle takes the offer of STARTTLS away. What does this program do?"),
        choices={
            "a": _("It notices that something is missing, and stops."),
            "b": _("It logs in without TLS."),
            "c": _("It starts TLS all the same."),
        },
        truth=lambda victim, _provider: _what_it_did(victim),
        found=_strip_in_words,
        lines=lambda victim, _provider: [*_offers(victim), *login_lines(victim, "PLAIN")],
        replies={
            "a": _("To this program nothing is missing: a server without TLS looks just like that."),
            "c": _("It only does so when the server offers it. That is what the word `if` in it says."),
        },
    )


def _what_it_did(victim: Capture) -> str:
    """The letter of 06-4, from what became of the password."""
    found = verdict(victim, Fact.PASSWORD)
    return {Verdict.NOT_SENT: "a", Verdict.HIDDEN: "c"}.get(found, "b")


def _offers(capture: Capture) -> list[Line]:
    """The greetings of the clients, and of what the servers then offer the two things that matter here."""
    lines = [line for flow in smtp_flows(capture) for line in _clear_lines(flow)]
    return [line for line in lines if line.text.startswith(("ehlo", "EHLO", "250-AUTH", "250-STARTTLS"))]


def _strip_in_words(victim: Capture, provider: Capture) -> str:
    text = _(
        "Between program and machine the password is {seen}: {password}. Between machine and provider it is {real}."
    )
    return text.format(
        seen=_(verdict(victim, Fact.PASSWORD).value),
        password=value(victim, Fact.PASSWORD),
        real=_(verdict(provider, Fact.PASSWORD).value),
    )


def _insist() -> Exercise:
    return Exercise(
        id="06-5",
        section=_("3 Take the offer away"),
        needs="06-4",
        task=_("Record a program that insists on TLS: it meets the same machine and says nothing secret."),
        kind=Proof(Capture, _("a capture"), lambda capture, *_before: _insisted(capture)),
        why=lambda *_before: _("It greeted, saw no offer, and left. No mail today, but no password lost either."),
        misconceptions=(
            Misconception(
                "leaked",
                lambda capture, *_before: verdict(capture, Fact.PASSWORD) in {Verdict.READABLE, Verdict.ENCODED},
                _("The password crossed in the clear: the program logged in although nobody had started TLS."),
            ),
            Misconception(
                "went-past",
                lambda capture, *_before: any(flow.tls for flow in capture.flows),
                _("This program was offered TLS, so it spoke with the provider itself: connect to `middle.smtp_port`."),
            ),
            Misconception(
                "named-itself",
                lambda capture, *_before: bool(sendings(capture)),
                _("No password was said, but sender and recipient were on their way: stop before MAIL."),
            ),
            Misconception(
                "no-greeting",
                lambda capture, *_before: not turns(capture) or all(turn.verb == "QUIT" for turn in turns(capture)),
                _("It left before it had asked what the server offers: a program that insists greets first."),
            ),
        ),
        hints=(
            _(
                "Four lines: connect (to `middle.smtp_port`), `ehlo`, `starttls`, `login`. No `if`: let `starttls` raise."
            ),
            _(
                "`smtplib` refuses to go on when STARTTLS is not offered; `suppress(smtplib.SMTPException)` passes "
                "that over."
            ),
        ),
        where=_("the row `password` of `insisted.exposure`: it should say not sent."),
    )


def _insisted(capture: Capture) -> bool:
    greeted = any(turn.verb == "EHLO" for turn in turns(capture))
    said = {turn.verb for turn in turns(capture)}
    return (
        greeted and not any(flow.tls for flow in capture.flows) and said <= {"EHLO", "STARTTLS", "QUIT", "NOOP", "RSET"}
    )


# 4 Taro's warning sign


def _cafe() -> Experiment:
    return Experiment(
        id="06-6",
        section=_("4 Read taro's warning sign"),
        takes=(Provider, Capture),
        found=lambda _provider, capture: _(
            "in the café he reads his mail, and so does everybody else: his password is {verdict}."
        ).format(verdict=_(verdict(capture, Fact.PASSWORD).value)),
        lines=lambda _provider, capture: _pop3_login(capture),
    )


def _pop3_login(capture: Capture) -> Iterable[Line]:
    told = [turn for turn in pop3_turns(capture) if turn.verb in {"USER", "PASS"}]
    if not told:
        raise Missing(_("In this capture nobody logged in to read."))
    return [line for turn in told for line in (turn.asked, turn.answered)]


def _reason() -> Exercise:
    return Exercise(
        id="06-7",
        section=_("4 Read taro's warning sign"),
        needs="06-6",
        task=_("Why does taro's program work in the café, and not at home?"),
        kind=Choice(
            {
                "a": _("At home he mistyped his password."),
                "b": _("The café's network is encrypted, so the provider asks for less."),
                "c": _("Somebody in the café speaks TLS with the provider in his place."),
                "d": _("In the café the provider lets everybody in without TLS."),
            },
            lambda provider, capture: "c" if _needs_tls(provider) and _pop3_login(capture) else "d",
        ),
        why=lambda *_evidence: _(
            "No honest server of this provider takes his login like that. A program that suddenly works is a warning "
            "too."
        ),
        misconceptions=(
            Misconception(
                "password",
                lambda answer, *_evidence: answer == "a",
                _("The password is the same in both places. At home the server refused before he had said it."),
            ),
            Misconception(
                "safe-network",
                lambda answer, *_evidence: answer == "b",
                _("The provider sees nothing of the café's network. And whoever runs that network is inside it."),
            ),
            Misconception(
                "the-provider",
                lambda answer, *_evidence: answer == "d",
                _("The provider's rule is the same everywhere: TLS first. It was kept in the café too, but by whom?"),
            ),
        ),
        hints=(
            _("The provider insists on TLS, taro's program does not speak it, and still they understand each other."),
            _("Who stood between the two in the second half of the cell?"),
        ),
        where=_("the cell of this part: to whose port does the program connect in the café?"),
    )


def _needs_tls(provider: Provider) -> bool:
    return provider.policy.security is not Security.NONE


# 5 Injection


def _inject() -> Experiment:
    return Experiment(
        id="06-8",
        section=_("5 Slip a command in"),
        takes=(Capture, Capture),
        question=_("The NOOP arrives in the clear, behind STARTTLS. What does our server do with it?"),
        choices={
            "a": _("It carries it out inside TLS, as if the program had said it there."),
            "b": _("It never carries it out."),
            "c": _("It answers it in the clear, before TLS begins."),
        },
        truth=lambda smtp, _pop3: _what_became_of_it(smtp),
        found=_inject_in_words,
        lines=lambda smtp, pop3: [*_around(_upgraded(smtp)), *_after_stls(pop3)],
        replies={
            "a": _("A careless server would. This one throws away what came too early."),
            "c": _(
                "After STARTTLS nothing but TLS may come; a server that goes on talking in the clear breaks the "
                "protocol."
            ),
        },
    )


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


# 6 TLS from the first byte


def _first_byte() -> Experiment:
    return Experiment(
        id="06-9",
        section=_("6 Begin with TLS"),
        takes=(Capture, Capture),
        found=_first_byte_in_words,
    )


def _first_byte_in_words(upgraded: Capture, wrapped: Capture) -> str:
    flow = _upgraded(upgraded)
    text = _("with STARTTLS {count} lines of SMTP crossed in the clear, with TLS from the first byte {none}.")
    return text.format(count=len(_clear_lines(flow)), none=len(_clear_lines(_wrapped(wrapped))))


def _wrapped(capture: Capture) -> Dissection:
    """The connection that was TLS from the first byte. Raises Missing."""
    for flow in capture.flows:
        if flow.protocol is SMTPS:
            return flow
    raise Missing(_("No SMTP connection in this capture was inside TLS from the first byte."))


def _saved() -> Exercise:
    return Exercise(
        id="06-10",
        section=_("6 Begin with TLS"),
        needs="06-9",
        task=_("How many round trips does TLS from the first byte save for the same letter?"),
        kind=Number(_trips_saved),
        why=lambda *_captures: _("The first `ehlo`, in the clear, and STARTTLS itself are not needed any more."),
        misconceptions=(
            Misconception(
                "all-of-one",
                lambda answer, upgraded, wrapped: answer in {upgraded.cost.round_trips, wrapped.cost.round_trips},
                _("That is how many one of the two sessions takes. Take the difference."),
            ),
            Misconception(
                "the-wrong-way-round",
                lambda answer, upgraded, wrapped: answer == wrapped.cost.round_trips - upgraded.cost.round_trips,
                _("The other way round: the session that begins in the clear takes more."),
            ),
            Misconception(
                "nothing",
                lambda answer, *_captures: answer == 0,
                _("Both have a handshake, true. But one of them first has to ask for it."),
            ),
            Misconception(
                "one-too-few",
                lambda answer, upgraded, wrapped: answer == _trips_saved(upgraded, wrapped) - 1,
                _("STARTTLS itself is one. But the program asked something else in the clear before it."),
            ),
            Misconception(
                "one-too-many",
                lambda answer, upgraded, wrapped: answer == _trips_saved(upgraded, wrapped) + 1,
                _(
                    "One too many. The program waits for the server's first word in both sessions, and for a handshake too."
                ),
            ),
        ),
        hints=(
            _("`upgraded.cost.round_trips` is one number, `wrapped.cost.round_trips` the other."),
            _("`upgraded.cost.round_trips - wrapped.cost.round_trips`"),
        ),
        where=_("the lines before the handshake in part 1: each question that waits for an answer is one round trip."),
    )


def _trips_saved(upgraded: Capture, wrapped: Capture) -> int:
    return upgraded.cost.round_trips - wrapped.cost.round_trips


def _nothing_to_strip() -> Exercise:
    return Exercise(
        id="06-11",
        section=_("6 Begin with TLS"),
        needs=None,
        task=_("Record hanako sending the letter over a connection that offers nothing to strip."),
        kind=Proof(Capture, _("a capture"), _cannot_be_stripped),
        why=lambda: _(
            "The first byte belongs to TLS already. There is no line in the clear that somebody could take away."
        ),
        misconceptions=(
            Misconception(
                "in-the-clear",
                lambda capture: (
                    verdict(capture, Fact.PASSWORD) in {Verdict.READABLE, Verdict.ENCODED, Verdict.GUESSABLE}
                ),
                _("There is no TLS at all here: the login crossed the network for everybody."),
            ),
            Misconception(
                "upgraded",
                lambda capture: any(flow.tls is not None for flow in smtp_flows(capture)),
                _("The letter was inside TLS, but the offer was made in the clear, and can be taken away."),
            ),
            Misconception(
                "read-instead",
                lambda capture: any(flow.protocol is POP3S for flow in capture.flows),
                _("This connection cannot be stripped, but it only reads: let hanako send."),
            ),
            Misconception(
                "not-sent",
                lambda capture: not holds_a_letter(capture),
                _("There was nothing to strip, and no letter either: the server refused, or the program gave up."),
            ),
        ),
        hints=(
            _("It is another policy of the provider: `list(labkit.POLICIES)` names them."),
            _("The policy is `ssl`, as in the cell of this part's experiment."),
        ),
        where=_("the first line of your capture: who speaks first, and what?"),
    )


def _cannot_be_stripped(capture: Capture) -> bool:
    protocols = {flow.protocol for flow in capture.flows}
    hidden = verdict(capture, Fact.PASSWORD) is Verdict.HIDDEN
    return protocols == {SMTPS} and hidden and holds_a_letter(capture)
