"""Lesson 04, POP before SMTP: what its notebook asks, and how the wire answers."""

from collections.abc import Iterable, Iterator, Sequence

from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.decode.exposure import Fact
from labkit.lessons.evidence import Missing, Sending, Turn, pop3_turns, sendings, smtp_flows, turns, value, was_sent
from labkit.lessons.kinds import Number, Order, Proof
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.provider import Provider
from labkit.texts import _


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (
        _knock(),
        _read_first(),
        _by_hand(),
        _order(),
        _clock(),
        _minutes(),
        _half_hour(),
        _wrong_password(),
        _neighbour(),
        _forged(),
        _restart(),
        _shut_out(),
    )
    return Lesson("04", _("Open the POP-before-SMTP window"), steps)


# 1 A closed door


def _knock() -> Experiment:
    return Experiment(
        id="04-1",
        section=_("1 Knock at a closed door"),
        takes=(Capture,),
        question=_("hanako sends a letter without reading her mail first. What does the server do?"),
        choices={
            "a": _("It takes the letter: it has no way to ask who sends."),
            "b": _("It refuses until she has read her mail."),
            "c": _("It asks for her password."),
        },
        truth=lambda capture: _fate(_sending(capture)),
        found=_knock_in_words,
        lines=lambda capture: _both(_sending(capture).mail),
        replies={
            "a": _("It cannot ask, true: but it can refuse whoever it has not seen reading."),
            "c": _("Here SMTP has no login: the server's list of offers, after `ehlo`, names no AUTH."),
        },
    )


def _sending(capture: Capture) -> Sending:
    """The last letter that somebody tried to send. Raises Missing."""
    found = sendings(capture)
    if not found:
        raise Missing(_("In this capture nobody tried to send a letter."))
    return found[-1]


def _fate(sending: Sending) -> str:
    """What became of a letter, by the letters of 04-1."""
    if sending.logged_in:
        return "c"
    return "a" if sending.taken else "b"


def _knock_in_words(capture: Capture) -> str:
    sending = _sending(capture)
    if sending.taken:
        return _("The server took the letter.")
    return _("The server refused as soon as the program named the sender: `{reply}`.").format(
        reply=sending.mail.answered.text
    )


def _both(turn: Turn) -> tuple[Line, Line]:
    return turn.asked, turn.answered


def _read_first() -> Exercise:
    return Exercise(
        id="04-2",
        section=_("1 Knock at a closed door"),
        needs="04-1",
        task=_("Record a capture in which hanako's program reads her mail and then sends the letter."),
        kind=Proof(Capture, _("a capture"), lambda capture, _before: was_sent(capture) and _hanako_read(capture)),
        why=lambda _before: _("USER and PASS open the door at one server, and the other one takes the letter."),
        misconceptions=(
            Misconception(
                "wrong-password",
                lambda capture, _before: any(turn.code == "-ER" for turn in _passes(capture)),
                _("Reading was refused: the password does not fit. A failed login opens nothing."),
            ),
            Misconception(
                "read-only",
                lambda capture, _before: _has_read(capture) and not sendings(capture),
                _("She has read, but sent nothing: the door is open, and nobody went through."),
            ),
            Misconception(
                "still-shut",
                lambda capture, _before: any(sending.refused for sending in sendings(capture)),
                _("The server still answers 530: the switch that reads first is off."),
            ),
            Misconception(
                "another-reader",
                lambda capture, _before: was_sent(capture) and _has_read(capture),
                _(
                    "The letter was taken, but it was not hanako who read. That this is enough is what part 2 is about; "
                    "here let her own program do both."
                ),
            ),
            Misconception(
                "nobody-read",
                lambda capture, _before: was_sent(capture),
                _(
                    "The letter was taken, but nobody read in this capture: let her program do both, one after the "
                    "other."
                ),
            ),
        ),
        hints=(
            _("Take the line that sent in the first experiment, and leave out the setting that switches reading off."),
            _('`provider.client("hanako")` is a program that is set up as the provider wants it.'),
        ),
        where=_("the first connection of your capture: it should be POP3, with USER and PASS."),
    )


def _passes(capture: Capture) -> tuple[Turn, ...]:
    """Every password that was said to a POP3 server, with the answer."""
    return tuple(turn for turn in pop3_turns(capture) if turn.verb == "PASS")


def _has_read(capture: Capture) -> bool:
    return any(turn.code == "+OK" for turn in _passes(capture))


def _hanako_read(capture: Capture) -> bool:
    return _has_read(capture) and capture.findings[Fact.LOGIN_NAME].value == "hanako"


# 2 What opens it


def _by_hand() -> Experiment:
    return Experiment(
        id="04-3",
        section=_("2 See what opens it"),
        takes=(Capture,),
        question=_(
            "hanako reads her mail. Then somebody at the same computer names taro as the sender. What is answered?"
        ),
        choices={
            "a": _("No: it was hanako who read, and not taro."),
            "b": _("Yes: the server looks only at the network address."),
            "c": _("No: this is another connection, and nobody has read in it."),
        },
        truth=lambda capture: "b" if _door(capture).mail.code == "250" else "a",
        found=_door_in_words,
        lines=lambda capture: [*_reading_lines(capture), *_both(_door(capture).mail)],
        replies={
            "a": _("The SMTP server was not told who read. It knows from where."),
            "c": _("Reading and sending are always two connections here. What they have in common is the address."),
        },
    )


def _door(capture: Capture) -> Sending:
    """The sender who was named after somebody had read. Raises Missing."""
    if not _has_read(capture):
        raise Missing(_("In this capture nobody read mail."))
    return _sending(capture)


def _door_in_words(capture: Capture) -> str:
    reading, sending = _door_addresses(capture)
    text = _(
        "{reader} read, {sender} was named, and the answer was {code}. Both connections came from {address}, and the "
        "second one said no name and no password."
    )
    if reading != sending or _door(capture).logged_in:
        raise Missing(_("The two connections in this capture have more or less in common than an address."))
    values = {"reader": value(capture, Fact.LOGIN_NAME), "sender": _door(capture).sender.partition("@")[0]}
    return text.format(code=_door(capture).mail.code, address=sending, **values)


def _door_addresses(capture: Capture) -> tuple[str, str]:
    flows = [flow for flow in capture.flows if flow.commands]
    return flows[0].client.address, flows[-1].client.address


def _reading_lines(capture: Capture) -> list[Line]:
    return [line for turn in pop3_turns(capture) if turn.verb in {"USER", "PASS"} for line in _both(turn)]


_AUTH_CARD = "C: AUTH PLAIN AGhhbmFrbwBzYWt1cmE="
_NO_LETTER_CARD = "S: 530 5.7.0 Authentication required"


def _order() -> Exercise:
    return Exercise(
        id="04-4",
        section=_("2 See what opens it"),
        needs="04-3",
        task=_(
            "Lay these lines of the two connections in order. Some lines are left out, two cards do not belong there."
        ),
        kind=Order(_cards, (_AUTH_CARD, _NO_LETTER_CARD)),
        why=lambda _capture: _("The password is said to the POP3 server alone. What SMTP gets to see is an address."),
        misconceptions=(
            Misconception(
                "auth-at-smtp",
                lambda answer, _capture: _AUTH_CARD in answer,
                _("AUTH is SMTP AUTH's way (lesson 03). This server does not offer it, and nobody says it."),
            ),
            Misconception(
                "refused-all-the-same",
                lambda answer, _capture: _NO_LETTER_CARD in answer,
                _(
                    "The sender was accepted, so no refusal belongs there; and this server never asks for "
                    "authentication."
                ),
            ),
            Misconception(
                "send-before-read",
                lambda answer, capture: _earlier(answer, _cards(capture), 4, 2),
                _("MAIL comes before the password in your order: then the window is still closed."),
            ),
            Misconception(
                "password-before-name",
                lambda answer, capture: _earlier(answer, _cards(capture), 2, 0),
                _("POP3 asks for the name first (USER), then for the password (PASS)."),
            ),
        ),
        hints=(
            _("First all of POP3, then all of SMTP."),
            _("Each line of the client (C) is answered by one of the server (S)."),
        ),
        where=_("the dialogue of this part's experiment: its two blocks are the two connections."),
    )


def _cards(capture: Capture) -> Sequence[str]:
    """The login at the POP3 server and the sender at the SMTP server, each with its answer. Raises Missing."""
    told = [turn for turn in pop3_turns(capture) if turn.verb in {"USER", "PASS"}]
    if [turn.verb for turn in told] != ["USER", "PASS"]:
        raise Missing(_("This capture does not hold one POP3 login with USER and PASS."))
    return tuple(
        card for turn in (*told, _door(capture).mail) for card in (f"C: {turn.asked.text}", f"S: {turn.answered.text}")
    )


def _earlier(answer: Sequence[str], cards: Sequence[str], early: int, late: int) -> bool:
    """Whether the card of place `early` was laid before the one of place `late`."""
    first, second = cards[early], cards[late]
    return first in answer and second in answer and answer.index(first) < answer.index(second)


# 3 The clock


def _clock() -> Experiment:
    return Experiment(
        id="04-5",
        section=_("3 Move the clock"),
        takes=(Provider, Capture),
        question=_(
            "The window is 15 minutes. hanako reads at 12:00:00 and sends at 12:14:59. At 12:15:01 she sends again. "
            "What "
            "becomes of the two letters?"
        ),
        choices={
            "a": _("Both are taken: the first letter keeps the window open."),
            "b": _("The first is taken, the second refused."),
            "c": _("Both are refused: each letter needs a reading of its own."),
        },
        truth=lambda _provider, capture: {(True, True): "a", (True, False): "b", (False, False): "c"}.get(
            _two_letters(capture), ""
        ),
        found=_clock_in_words,
        lines=lambda _provider, capture: [line for sending in sendings(capture) for line in _both(sending.mail)],
        replies={
            "a": _("Sending proves nothing, so it opens nothing: the time counts from the last reading."),
            "c": _("One reading serves for every letter within the window."),
        },
    )


def _two_letters(capture: Capture) -> tuple[bool, bool]:
    found = sendings(capture)
    if len(found) != 2 or not _has_read(capture):
        raise Missing(_("This capture does not hold one reading and two letters."))
    return found[0].taken, found[1].taken


def _clock_in_words(provider: Provider, capture: Capture) -> str:
    fates = [_("taken") if taken else _("refused") for taken in _two_letters(capture)]
    text = _("The window of this provider is {minutes} minutes. The first letter was {first}, the second {second}.")
    return text.format(minutes=_window(provider), first=fates[0], second=fates[1])


def _window(provider: Provider) -> int:
    """The window in minutes. Raises Missing for a provider without one."""
    window = provider.policy.pop_window
    if window is None:
        raise Missing(_("This provider has no window: it does not use POP before SMTP."))
    return int(window.total_seconds()) // 60


def _minutes() -> Exercise:
    return Exercise(
        id="04-6",
        section=_("3 Move the clock"),
        needs="04-5",
        task=_(
            "With `quarter`, hanako reads at 12:00 and again at 12:10, and sends at 12:20. How many minutes after "
            "12:00 does "
            "her window close?"
        ),
        kind=Number(lambda provider, _capture: 10 + _window(provider)),
        why=lambda _provider, _capture: _("Each reading starts the window anew, and sending does not."),
        misconceptions=(
            Misconception(
                "from-the-first",
                lambda answer, provider, _capture: answer == _window(provider),
                _("That counts from the first reading. The second one at 12:10 started the window anew."),
            ),
            Misconception(
                "from-the-letter",
                lambda answer, provider, _capture: answer == 20 + _window(provider),
                _("That counts from the letter. But sending opens nothing, as you have seen."),
            ),
            Misconception(
                "added-up",
                lambda answer, provider, _capture: answer > 10 + _window(provider),
                _("That adds too much up. A new reading replaces the old window, it does not lengthen it."),
            ),
            Misconception(
                "time-left",
                lambda answer, provider, _capture: answer == _window(provider) - 10,
                _("That is how much was left at the second reading. It started a whole new window."),
            ),
            Misconception(
                "too-early",
                lambda answer, provider, _capture: answer < 10 + _window(provider),
                _("That is too early: when she read for the last time, the window was opened for its whole length."),
            ),
        ),
        hints=(
            _("What counts is the last successful reading."),
            _("The last reading was at 12:10, and the window of `quarter` is as long as in the experiment."),
        ),
        where=_("the experiment above; or try it out with `quarter.clock.advance(minutes=10)`."),
    )


def _half_hour() -> Exercise:
    return Exercise(
        id="04-7",
        section=_("3 Move the clock"),
        needs=None,
        task=_(
            "Record, with `provider`, one letter that is taken a second before the window closes and one that is "
            "refused a second after."
        ),
        kind=Proof(Capture, _("a capture"), lambda capture: _story(capture) == ("read", "taken", "refused")),
        why=lambda: _(
            "One reading, and then the clock alone decided. Was it 29:59 and 30:01? The server never asked who sends."
        ),
        misconceptions=(
            Misconception(
                "read-again",
                lambda capture: _story(capture).count("read") > 1,
                _(
                    "Her program read before each letter, and so opened the window anew: switch `check_mail_first` "
                    "off for sending."
                ),
            ),
            Misconception(
                "never-closed",
                lambda capture: "taken" in _story(capture) and "refused" not in _story(capture),
                _(
                    "Nothing was refused: the clock was not moved past the end of the window. `provider` gives 30 "
                    "minutes."
                ),
            ),
            Misconception(
                "never-open",
                lambda capture: "refused" in _story(capture) and "taken" not in _story(capture),
                _("Nothing was taken: read first, and send before you move the clock too far."),
            ),
        ),
        hints=(
            _(
                'Begin with `hers = provider.client("hanako", check_mail_first=False)`, and do with `hers` and `provider` '
                "what the experiment does with `hanako` and `quarter`."
            ),
            _("Read; advance by minutes=29, seconds=59; send; advance by seconds=2; send."),
        ),
        where=_("the 530 that ends your capture, and what comes before it."),
    )


def _story(capture: Capture) -> tuple[str, ...]:
    """What happened, connection by connection: read, taken, refused."""
    return tuple(_chapters(capture))


def _chapters(capture: Capture) -> Iterator[str]:
    for flow in capture.flows:
        verbs = {command.verb for command in flow.commands}
        codes = {reply.code for reply in flow.replies}
        if "PASS" in verbs and "-ERR" not in codes:
            yield "read"
        elif "MAIL" in verbs:
            yield "refused" if "530" in codes else "taken"


# 4 A wrong password


def _wrong_password() -> Experiment:
    return Experiment(
        id="04-8",
        section=_("4 Try a wrong password"),
        takes=(Capture,),
        question=_(
            "The window of `quarter` is closed. Somebody tries to read hanako's mail with a wrong password, and then "
            "sends. What happens?"
        ),
        choices={
            "a": _("Reading is refused, but the attempt has opened the window."),
            "b": _("Reading is refused, and so is sending."),
            "c": _("Reading is refused, and the SMTP server asks for the password again."),
        },
        truth=lambda capture: {"a": "a", "b": "b", "c": "c"}[_fate(_after_a_wrong_password(capture))],
        found=lambda capture: _("After `{refused}` the letter was answered `{reply}`.").format(
            refused=_passes(capture)[-1].answered.text, reply=_after_a_wrong_password(capture).mail.answered.text
        ),
        lines=lambda capture: [*_reading_lines(capture), *_both(_sending(capture).mail)],
        replies={
            "a": _("Then everybody could open it. Only a login that succeeded counts."),
            "c": _("The SMTP server has no way to ask: it offers no AUTH."),
        },
    )


def _after_a_wrong_password(capture: Capture) -> Sending:
    passes = _passes(capture)
    if not passes or any(turn.code == "+OK" for turn in passes):
        raise Missing(_("In this capture nobody tried a wrong password, or a right one was said as well."))
    return _sending(capture)


# 5 The neighbour


def _neighbour() -> Experiment:
    return Experiment(
        id="04-9",
        section=_("5 Meet the neighbour"),
        takes=(Capture,),
        question=_(
            "hanako has just read her mail in a café. The stranger at the next table sends a letter in her name. "
            "What does the server do?"
        ),
        choices={
            "a": _("It refuses: the stranger has never logged in."),
            "b": _("It takes the letter."),
            "c": _("It asks the stranger for hanako's password."),
        },
        truth=lambda capture: {"a": "b", "b": "a", "c": "c"}[_fate(_strangers(capture))],
        found=_stranger_in_words,
        lines=lambda capture: _all_turns(_strangers(capture)),
        replies={
            "a": _("hanako has, and to the server her address is the stranger's too."),
            "c": _("It never asks anybody: the address is all that it looks at."),
        },
    )


def _strangers(capture: Capture) -> Sending:
    """A letter from somebody who read nothing. Raises Missing."""
    if _has_read(capture):
        raise Missing(_("Somebody read mail in this capture: record the stranger alone."))
    return _sending(capture)


def _stranger_in_words(capture: Capture) -> str:
    sending = _strangers(capture)
    text = _("A client called `{client}` said no name and no password, and the letter from {sender} was {fate}.")
    fate = _("taken") if sending.taken else _("refused")
    return text.format(client=value(capture, Fact.CLIENT_NAME), sender=sending.sender, fate=fate)


def _all_turns(sending: Sending) -> Iterable[Line]:
    lines = [line for turn in sending.turns if turn.verb in {"MAIL", "RCPT", "DATA"} for line in _both(turn)]
    return [*lines, sending.accepted] if sending.accepted else lines


def _forged() -> Exercise:
    return Exercise(
        id="04-10",
        section=_("5 Meet the neighbour"),
        needs="04-9",
        task=_(
            "Be the neighbour: record a letter in taro's name that the server takes, without any login in your capture."
        ),
        kind=Proof(
            Capture, _("a capture"), lambda capture, _before: _in_the_name_of(capture, "taro") and not _proofs(capture)
        ),
        why=lambda _before: _("taro never sent this. The server knows an address, and no person."),
        misconceptions=(
            Misconception(
                "read-first",
                lambda capture, _before: bool(_proofs(capture)),
                _("Somebody logged in here. The neighbour has no password and needs none: send only."),
            ),
            Misconception(
                "shut",
                lambda capture, _before: any(sending.refused for sending in sendings(capture)),
                _("The window is closed (530). Let hanako read her mail again, outside your capture, and then send."),
            ),
            Misconception(
                "in-hanakos-name",
                lambda capture, _before: _in_the_name_of(capture, "hanako"),
                _("Taken, but in hanako's name. Any name will do: take taro's."),
            ),
            Misconception(
                "not-sent",
                lambda capture, _before: bool(smtp_flows(capture)),
                _("There was a conversation, but no letter was taken: it takes MAIL, RCPT, DATA and the letter."),
            ),
        ),
        hints=(
            _('A letter from taro is `labkit.sample_message(provider.accounts["taro"])`.'),
            _(
                'Open `smtplib.SMTP(provider.host, provider.smtp_port, "neighbour.example")` in a `with`, and call '
                "its `send_message`."
            ),
        ),
        where=_("the experiment of this part, and the by-hand session of part 2."),
    )


def _in_the_name_of(capture: Capture, name: str) -> bool:
    return any(sending.taken and sending.sender.partition("@")[0] == name for sending in sendings(capture))


def _proofs(capture: Capture) -> list[Turn]:
    """Every attempt to log in."""
    return [turn for turn in (*pop3_turns(capture), *turns(capture)) if turn.verb in {"USER", "PASS", "APOP", "AUTH"}]


# 6 A restart


def _restart() -> Experiment:
    return Experiment(
        id="04-11",
        section=_("6 Restart the server"),
        takes=(Capture,),
        found=lambda capture: _("the window was open, the server was started again, and it answers {code}.").format(
            code=_sending(capture).mail.code
        ),
        lines=lambda capture: _both(_sending(capture).mail),
    )


# 7 Make


def _shut_out() -> Exercise:
    return Exercise(
        id="04-12",
        section=_("7 Shut the neighbour out"),
        needs=None,
        task=_("Record hanako reading her mail and, right after it, the neighbour being refused."),
        kind=Proof(Capture, _("a capture"), _is_shut_out),
        why=lambda: _(
            "With SMTP AUTH it does not help the neighbour that hanako has read: each connection has to prove who "
            "sends."
        ),
        misconceptions=(
            Misconception(
                "inside-tls",
                lambda capture: any(flow.tls for flow in capture.flows),
                _(
                    "hanako reads inside TLS here, where this recording cannot show it, and the neighbour speaks no TLS. "
                    "Take a policy without TLS that asks for a login at every sending."
                ),
            ),
            Misconception(
                "nobody-read",
                lambda capture: not _has_read(capture),
                _("Nobody has read here, so there was no window that the neighbour could have used."),
            ),
            Misconception(
                "no-neighbour",
                lambda capture: not sendings(capture),
                _("hanako has read, but the neighbour did not try: call `attack.neighbour` with your provider."),
            ),
            Misconception(
                "still-open",
                lambda capture: "taken" in _story(capture),
                _("The neighbour's letter was taken: this policy does not ask who sends."),
            ),
            Misconception(
                "only-too-late",
                lambda capture: "refused" in _story(capture) and not _offers_auth(capture),
                _(
                    "Refused, but only because the window has closed: the next reading opens it for the neighbour "
                    "again."
                ),
            ),
        ),
        hints=(
            _("No clock helps: the policy has to be another one, one that asks for a login at every sending."),
            _("The policy is `smtp-auth`; the two lines that read and attack stay the same."),
        ),
        where=_("the server's offers after EHLO in your capture: is AUTH among them?"),
    )


def _is_shut_out(capture: Capture) -> bool:
    return _story(capture) == ("read", "refused") and _offers_auth(capture)


def _offers_auth(capture: Capture) -> bool:
    offers = (line for flow in smtp_flows(capture) for reply in flow.replies for line in reply.text.splitlines())
    return any(line.upper().startswith("AUTH ") for line in offers)
