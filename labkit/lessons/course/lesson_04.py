"""Lesson 04, POP before SMTP: how the wire answers what its notebook asks."""

from collections.abc import Iterable, Sequence

from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.decode.exposure import Fact
from labkit.lessons.answers import Made, Number, Order, laid_before
from labkit.lessons.evidence import (
    Missing,
    Sending,
    Turn,
    card,
    first_of,
    lines_of,
    pop3_turns,
    sendings,
    smtp_flows,
    turns,
    value,
    was_sent,
)
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.provider import Provider
from labkit.texts import N_, _

_AUTH_CARD = "C: AUTH PLAIN AGhhbmFrbwBzYWt1cmE="
_NO_LETTER_CARD = "S: 530 5.7.0 Authentication required"

STEPS: tuple[Step, ...] = (
    Experiment(
        "04-1",
        truth=lambda seen: _outcome(_sending(seen.capture)),
        found=lambda seen: (
            _("The server took the letter.")
            if _sending(seen.capture).taken
            else _("The server refused as soon as the program named the sender: `{reply}`.").format(
                reply=_sending(seen.capture).mail.answered.text
            )
        ),
        lines=lambda seen: _sending(seen.capture).mail.lines,
        replies={
            "a": N_("It cannot ask, true: but it can refuse whoever it has not seen reading."),
            "c": N_("Here SMTP has no login: the server's list of offers, after `ehlo`, names no AUTH."),
        },
    ),
    Exercise(
        "04-2",
        needs="04-1",
        answer=Made(
            Capture,
            lambda capture, _seen: was_sent(capture) and _has_read(capture) and _is_hers(capture),
            mistakes={
                "wrong-password": lambda capture, _seen: any(turn.code == "-ER" for turn in _passes(capture)),
                "read-only": lambda capture, _seen: _has_read(capture) and not sendings(capture),
                "still-shut": lambda capture, _seen: any(sending.refused for sending in sendings(capture)),
                "another-reader": lambda capture, _seen: was_sent(capture) and _has_read(capture),
                "nobody-read": lambda capture, _seen: was_sent(capture),
            },
        ),
        why=N_("USER and PASS open the door at one server, and the other one takes the letter."),
        says={
            "wrong-password": N_("Reading was refused: the password does not fit. A failed login opens nothing."),
            "read-only": N_("She has read, but sent nothing: the door is open, and nobody went through."),
            "still-shut": N_("The server still answers 530: the switch that reads first is off."),
            "another-reader": N_(
                "The letter was taken, but it was not hanako who read. That this is enough is what part 2 is about; "
                "here let her own program do both."
            ),
            "nobody-read": N_(
                "The letter was taken, but nobody read in this capture: let her program do both, one after the other."
            ),
        },
        hints=(
            N_("Take the line that sent in the first experiment, and leave out the setting that switches reading off."),
            N_('`provider.client("hanako")` is a program that is set up as the provider wants it.'),
        ),
        where=N_("the first connection of your capture: it should be POP3, with USER and PASS."),
    ),
    Experiment(
        "04-3",
        truth=lambda seen: "b" if _door(seen.capture).mail.code == "250" else "a",
        found=lambda seen: _door_in_words(seen.capture),
        lines=lambda seen: [*_reading_lines(seen.capture), *_door(seen.capture).mail.lines],
        replies={
            "a": N_("The SMTP server was not told who read. It knows from where."),
            "c": N_("Reading and sending are always two connections here. What they have in common is the address."),
        },
    ),
    Exercise(
        "04-4",
        needs="04-3",
        answer=Order(
            lambda seen: _cards(seen.capture),
            (_AUTH_CARD, _NO_LETTER_CARD),
            mistakes={
                "auth-at-smtp": lambda answer, _seen: _AUTH_CARD in answer,
                "refused-all-the-same": lambda answer, _seen: _NO_LETTER_CARD in answer,
                "send-before-read": lambda answer, seen: laid_before(answer, _cards(seen.capture), 4, 2),
                "password-before-name": lambda answer, seen: laid_before(answer, _cards(seen.capture), 2, 0),
            },
        ),
        why=N_("The password is said to the POP3 server alone. What SMTP gets to see is an address."),
        says={
            "auth-at-smtp": N_(
                "AUTH is SMTP AUTH's way (lesson 03). This server does not offer it, and nobody says it."
            ),
            "refused-all-the-same": N_(
                "The sender was accepted, so no refusal belongs there; and this server never asks for authentication."
            ),
            "send-before-read": N_("MAIL comes before the password in your order: then the window is still closed."),
            "password-before-name": N_("POP3 asks for the name first (USER), then for the password (PASS)."),
        },
        hints=(
            N_("First all of POP3, then all of SMTP."),
            N_("Each line of the client (C) is answered by one of the server (S)."),
        ),
        where=N_("the dialogue of this part's experiment: its two blocks are the two connections."),
    ),
    Experiment(
        "04-5",
        takes=(Provider, Capture),
        truth=lambda seen: {(True, True): "a", (True, False): "b", (False, False): "c"}.get(
            _two_letters(seen.capture), ""
        ),
        found=lambda seen: _clock_in_words(seen.provider, seen.capture),
        lines=lambda seen: lines_of(sending.mail for sending in sendings(seen.capture)),
        replies={
            "a": N_("Sending proves nothing, so it opens nothing: the time counts from the last reading."),
            "c": N_("One reading serves for every letter within the window."),
        },
    ),
    Exercise(
        "04-6",
        needs="04-5",
        answer=Number(
            lambda seen: 10 + _window(seen.provider),
            mistakes={
                "from-the-first": lambda answer, seen: answer == _window(seen.provider),
                "from-the-letter": lambda answer, seen: answer == 20 + _window(seen.provider),
                "added-up": lambda answer, seen: answer > 10 + _window(seen.provider),
                "time-left": lambda answer, seen: answer == _window(seen.provider) - 10,
                "too-early": lambda answer, seen: answer < 10 + _window(seen.provider),
            },
        ),
        why=N_("Each reading starts the window anew, and sending does not."),
        says={
            "from-the-first": N_(
                "That counts from the first reading. The second one at 12:10 started the window anew."
            ),
            "from-the-letter": N_("That counts from the letter. But sending opens nothing, as you have seen."),
            "added-up": N_("That adds too much up. A new reading replaces the old window, it does not lengthen it."),
            "time-left": N_("That is how much was left at the second reading. It started a whole new window."),
            "too-early": N_(
                "That is too early: when she read for the last time, the window was opened for its whole length."
            ),
        },
        hints=(
            N_("What counts is the last successful reading."),
            N_("The last reading was at 12:10, and the window of `quarter` is as long as in the experiment."),
        ),
        where=N_("the experiment above; or try it out with `quarter.clock.advance(minutes=10)`."),
    ),
    Exercise(
        "04-7",
        answer=Made(
            Capture,
            lambda capture, _seen: _story(capture) == ("read", "taken", "refused"),
            mistakes={
                "read-again": lambda capture, _seen: _story(capture).count("read") > 1,
                "never-closed": lambda capture, _seen: "taken" in _story(capture) and "refused" not in _story(capture),
                "never-open": lambda capture, _seen: "refused" in _story(capture) and "taken" not in _story(capture),
            },
        ),
        why=N_(
            "One reading, and then the clock alone decided. Was it 29:59 and 30:01? The server never asked who sends."
        ),
        says={
            "read-again": N_(
                "Her program read before each letter, and so opened the window anew: switch `check_mail_first` off "
                "for sending."
            ),
            "never-closed": N_(
                "Nothing was refused: the clock was not moved past the end of the window. `provider` gives 30 minutes."
            ),
            "never-open": N_("Nothing was taken: read first, and send before you move the clock too far."),
        },
        hints=(
            N_(
                'Begin with `hers = provider.client("hanako", check_mail_first=False)`, and do with `hers` and '
                "`provider` what the experiment does with `hanako` and `quarter`."
            ),
            N_("Read; advance by minutes=29, seconds=59; send; advance by seconds=2; send."),
        ),
        where=N_("the 530 that ends your capture, and what comes before it."),
    ),
    Experiment(
        "04-8",
        truth=lambda seen: _outcome(_after_a_wrong_password(seen.capture)),
        found=lambda seen: _("After `{refused}` the letter was answered `{reply}`.").format(
            refused=_passes(seen.capture)[-1].answered.text,
            reply=_after_a_wrong_password(seen.capture).mail.answered.text,
        ),
        lines=lambda seen: [*_reading_lines(seen.capture), *_sending(seen.capture).mail.lines],
        replies={
            "a": N_("Then everybody could open it. Only a login that succeeded counts."),
            "c": N_("The SMTP server has no way to ask: it offers no AUTH."),
        },
    ),
    Experiment(
        "04-9",
        truth=lambda seen: {"a": "b", "b": "a", "c": "c"}[_outcome(_strangers(seen.capture))],
        found=lambda seen: _stranger_in_words(seen.capture),
        lines=lambda seen: _all_turns(_strangers(seen.capture)),
        replies={
            "a": N_("hanako has, and to the server her address is the stranger's too."),
            "c": N_("It never asks anybody: the address is all that it looks at."),
        },
    ),
    Exercise(
        "04-10",
        needs="04-9",
        answer=Made(
            Capture,
            lambda capture, _seen: _in_the_name_of(capture, "taro") and not _proofs(capture),
            mistakes={
                "read-first": lambda capture, _seen: bool(_proofs(capture)),
                "shut": lambda capture, _seen: any(sending.refused for sending in sendings(capture)),
                "in-hanakos-name": lambda capture, _seen: _in_the_name_of(capture, "hanako"),
                "not-sent": lambda capture, _seen: bool(smtp_flows(capture)),
            },
        ),
        why=N_("taro never sent this. The server knows an address, and no person."),
        says={
            "read-first": N_("Somebody logged in here. The neighbour has no password and needs none: send only."),
            "shut": N_(
                "The window is closed (530). Let hanako read her mail again, outside your capture, and then send."
            ),
            "in-hanakos-name": N_("Taken, but in hanako's name. Any name will do: take taro's."),
            "not-sent": N_(
                "There was a conversation, but no letter was taken: it takes MAIL, RCPT, DATA and the letter."
            ),
        },
        hints=(
            N_('A letter from taro is `labkit.sample_message(provider.accounts["taro"])`.'),
            N_(
                'Open `smtplib.SMTP(provider.host, provider.smtp_port, "neighbour.example")` in a `with`, and call '
                "its `send_message`."
            ),
        ),
        where=N_("the experiment of this part, and the by-hand session of part 2."),
    ),
    Experiment(
        "04-11",
        found=lambda seen: _("the window was open, the server was started again, and it answers {code}.").format(
            code=_sending(seen.capture).mail.code
        ),
        lines=lambda seen: _sending(seen.capture).mail.lines,
    ),
    Exercise(
        "04-12",
        answer=Made(
            Capture,
            lambda capture, _seen: _story(capture) == ("read", "refused") and _offers_auth(capture),
            mistakes={
                "inside-tls": lambda capture, _seen: any(flow.tls for flow in capture.flows),
                "nobody-read": lambda capture, _seen: not _has_read(capture),
                "no-neighbour": lambda capture, _seen: not sendings(capture),
                "still-open": lambda capture, _seen: "taken" in _story(capture),
                "only-too-late": lambda capture, _seen: "refused" in _story(capture) and not _offers_auth(capture),
            },
        ),
        why=N_(
            "With SMTP AUTH it does not help the neighbour that hanako has read: each connection has to prove who "
            "sends."
        ),
        says={
            "inside-tls": N_(
                "hanako reads inside TLS here, where this recording cannot show it, and the neighbour speaks no TLS. "
                "Take a policy without TLS that asks for a login at every sending."
            ),
            "nobody-read": N_("Nobody has read here, so there was no window that the neighbour could have used."),
            "no-neighbour": N_(
                "hanako has read, but the neighbour did not try: call `attack.shared_address` with your provider."
            ),
            "still-open": N_("The neighbour's letter was taken: this policy does not ask who sends."),
            "only-too-late": N_(
                "Refused, but only because the window has closed: the next reading opens it for the neighbour again."
            ),
        },
        hints=(
            N_("No clock helps: the policy has to be another one, one that asks for a login at every sending."),
            N_("The policy is `smtp-auth`; the two lines that read and attack stay the same."),
        ),
        where=N_("the server's offers after EHLO in your capture: is AUTH among them?"),
    ),
)


def _sending(capture: Capture) -> Sending:
    """The last letter that somebody tried to send. Raises Missing."""
    return first_of(reversed(sendings(capture)), _("In this capture nobody tried to send a letter."))


def _outcome(sending: Sending) -> str:
    """What became of a letter, by the letters of 04-1."""
    if sending.logged_in:
        return "c"
    return "a" if sending.taken else "b"


def _passes(capture: Capture) -> tuple[Turn, ...]:
    """Every password that was said to a POP3 server, with the answer."""
    return pop3_turns(capture, "PASS")


def _has_read(capture: Capture) -> bool:
    return any(turn.code == "+OK" for turn in _passes(capture))


def _is_hers(capture: Capture) -> bool:
    return capture.findings[Fact.LOGIN_NAME].value == "hanako"


def _door(capture: Capture) -> Sending:
    """The sender who was named after somebody had read. Raises Missing."""
    if not _has_read(capture):
        raise Missing(_("In this capture nobody read mail."))
    return _sending(capture)


def _door_in_words(capture: Capture) -> str:
    door, addresses = _door(capture), {flow.client.address for flow in capture.flows if flow.commands}
    text = _(
        "{reader} read, {sender} was named, and the answer was {code}. Both connections came from {address}, and the "
        "second one said no name and no password."
    )
    if len(addresses) != 1 or door.logged_in:
        raise Missing(_("The two connections in this capture have more or less in common than an address."))
    told = {"reader": value(capture, Fact.LOGIN_NAME), "sender": door.sender.partition("@")[0]}
    return text.format(code=door.mail.code, address=addresses.pop(), **told)


def _reading_lines(capture: Capture) -> list[Line]:
    return lines_of(pop3_turns(capture, "USER", "PASS"))


def _cards(capture: Capture) -> Sequence[str]:
    """The login at the POP3 server and the sender at the SMTP server, each with its answer. Raises Missing."""
    told = pop3_turns(capture, "USER", "PASS")
    if [turn.verb for turn in told] != ["USER", "PASS"]:
        raise Missing(_("This capture does not hold one POP3 login with USER and PASS."))
    return tuple(map(card, lines_of([*told, _door(capture).mail])))


def _two_letters(capture: Capture) -> tuple[bool, bool]:
    found = sendings(capture)
    if len(found) != 2 or not _has_read(capture):
        raise Missing(_("This capture does not hold one reading and two letters."))
    return found[0].taken, found[1].taken


def _clock_in_words(provider: Provider, capture: Capture) -> str:
    outcomes = [_("taken") if taken else _("refused") for taken in _two_letters(capture)]
    text = _("The window of this provider is {minutes} minutes. The first letter was {first}, the second {second}.")
    return text.format(minutes=_window(provider), first=outcomes[0], second=outcomes[1])


def _window(provider: Provider) -> int:
    """The window in minutes. Raises Missing for a provider without one."""
    window = provider.policy.pop_window
    if window is None:
        raise Missing(_("This provider has no window: it does not use POP before SMTP."))
    return int(window.total_seconds()) // 60


def _story(capture: Capture) -> tuple[str, ...]:
    """What happened, connection by connection: read, taken, refused."""
    story = []
    for flow in capture.flows:
        verbs = {command.verb for command in flow.commands}
        codes = {reply.code for reply in flow.replies}
        if "PASS" in verbs and "-ERR" not in codes:
            story.append("read")
        elif "MAIL" in verbs:
            story.append("refused" if "530" in codes else "taken")
    return tuple(story)


def _after_a_wrong_password(capture: Capture) -> Sending:
    passes = _passes(capture)
    if not passes or any(turn.code == "+OK" for turn in passes):
        raise Missing(_("In this capture nobody tried a wrong password, or a right one was said as well."))
    return _sending(capture)


def _strangers(capture: Capture) -> Sending:
    """A letter from somebody who read nothing. Raises Missing."""
    if _has_read(capture):
        raise Missing(_("Somebody read mail in this capture: record the stranger alone."))
    return _sending(capture)


def _stranger_in_words(capture: Capture) -> str:
    sending = _strangers(capture)
    text = _("A client called `{client}` said no name and no password, and the letter from {sender} was {outcome}.")
    outcome = _("taken") if sending.taken else _("refused")
    return text.format(client=value(capture, Fact.CLIENT_NAME), sender=sending.sender, outcome=outcome)


def _all_turns(sending: Sending) -> Iterable[Line]:
    lines = lines_of(turn for turn in sending.turns if turn.verb in {"MAIL", "RCPT", "DATA"})
    return [*lines, sending.accepted] if sending.accepted else lines


def _in_the_name_of(capture: Capture, name: str) -> bool:
    return any(sending.taken and sending.sender.partition("@")[0] == name for sending in sendings(capture))


def _proofs(capture: Capture) -> list[Turn]:
    """Every attempt to log in."""
    return [turn for turn in (*pop3_turns(capture), *turns(capture)) if turn.verb in {"USER", "PASS", "APOP", "AUTH"}]


def _offers_auth(capture: Capture) -> bool:
    offers = (line for flow in smtp_flows(capture) for reply in flow.replies for line in reply.text.splitlines())
    return any(line.upper().startswith("AUTH ") for line in offers)
