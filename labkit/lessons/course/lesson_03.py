"""Lesson 03, authenticate with SMTP AUTH: what its notebook asks, and how the wire answers."""

from collections.abc import Sequence

from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.decode.exposure import Fact, Verdict
from labkit.decode.protocols import SMTP, SMTPS
from labkit.lessons.evidence import (
    Missing,
    Turn,
    decoded,
    holds_a_letter,
    login_lines,
    smtp_flows,
    spans,
    turns,
    value,
    verdict,
    was_sent,
)
from labkit.lessons.kinds import Labels, Order, Proof, Text, WrongSetting
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.mail.settings import Settings
from labkit.provider import Provider
from labkit.texts import _
from labkit.wire.flows import Side


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (
        _switch_off(),
        _switch_on(),
        _names(),
        _settings(),
        _plain(),
        _password(),
        _login(),
        _labels(),
        _replay(),
        _challenge(),
        _order(),
        _vanish(),
    )
    return Lesson("03", _("Authenticate with SMTP AUTH"), steps)


# 1 The switch


def _switch_off() -> Experiment:
    return Experiment(
        id="03-1",
        section=_("1 Leave the switch off"),
        takes=(Capture,),
        question=_("The switch is off, the provider demands SMTP AUTH. What happens to the letter?"),
        choices={
            "a": _("It is sent all the same."),
            "b": _("It is refused as soon as the program names the sender."),
            "c": _("The server takes the whole letter and then refuses it."),
        },
        truth=lambda capture: {"MAIL": "b", "": "a"}.get(_refused(capture), "c"),
        found=_refusal_in_words,
        lines=lambda capture: [line for turn in turns(capture) if turn.code == "530" for line in _both(turn)],
        replies={
            "a": _("A server that asks nobody would send it; this one wants to know first who is there."),
            "c": _("It need not wait so long: the sender's name is already a claim that nobody has proved."),
        },
    )


def _refused(capture: Capture) -> str:
    """The command that was answered 530 (RFC 4954 section 6); "" when the letter was taken."""
    refused = next((turn.verb for turn in turns(capture) if turn.code == "530"), None)
    if refused is None and not was_sent(capture):
        raise Missing(_("In this capture nobody tried to send a letter."))
    return refused or ""


def _refusal_in_words(capture: Capture) -> str:
    if not _refused(capture):
        return _("The server took the letter and asked for no proof.")
    return _("The program named the sender, and the server answered with a refusal.")


def _both(turn: Turn) -> tuple[Line, Line]:
    return turn.asked, turn.answered


def _switch_on() -> Exercise:
    return Exercise(
        id="03-2",
        section=_("1 Leave the switch off"),
        needs="03-1",
        task=_("Record a capture in which hanako's letter is accepted because her program proves who she is."),
        kind=Proof(Capture, _("a capture"), lambda capture, _before: _as_hanako(capture) and was_sent(capture)),
        why=lambda _before: _("AUTH comes before MAIL, the server answers 235, and from then on it takes her letter."),
        misconceptions=(
            Misconception(
                "read-instead",
                lambda capture, _before: not smtp_flows(capture),
                _("No SMTP in the clear is in this capture: sending is SMTP's affair, reading is POP3's."),
            ),
            Misconception(
                "switch-still-off",
                lambda capture, _before: "530" in _codes(capture),
                _("The server still answers 530: the program never said AUTH, so the switch is still off."),
            ),
            Misconception(
                "wrong-credentials",
                lambda capture, _before: "535" in _codes(capture),
                _("The switch is on, but name and password do not belong together: the server answers 535."),
            ),
            Misconception(
                "another-person",
                lambda capture, _before: _proved(capture) and was_sent(capture),
                _(
                    "Accepted, but it was not hanako who logged in. (That she is named as the sender all the same did not "
                    "disturb this server: it checks who logs in, not who is named.) Let her own program do it."
                ),
            ),
            Misconception(
                "asks-nobody",
                lambda capture, _before: was_sent(capture) and not _proved(capture),
                _("The letter was accepted, but nobody proved anything: this provider asks nobody. Use `provider`."),
            ),
        ),
        hints=(
            _("Take the line that sent in the first experiment, and leave out the setting that switches it off."),
            _('`provider.client("hanako")` is a program that is set up as the provider wants it.'),
        ),
        where=_("the lines after `ehlo` in your capture: is there one that begins with AUTH?"),
    )


def _codes(capture: Capture) -> set[str]:
    return {turn.code for turn in turns(capture)}


def _proved(capture: Capture) -> bool:
    return "235" in _codes(capture)


def _as_hanako(capture: Capture) -> bool:
    """Whether the login that succeeded was hanako's, under any of her three kinds of name."""
    return _proved(capture) and capture.findings[Fact.LOGIN_NAME].value in _HERS


_HERS = ("hanako", "hanako@mail.example", "m1001-hy")


# 2 The name


def _names() -> Experiment:
    return Experiment(
        id="03-3",
        section=_("2 Use the right name"),
        takes=(Provider, Capture),
        question=_(
            "hanako logs in twice: first with her address instead of her login name, then with a wrong password. "
            "How does the server answer?"
        ),
        choices={
            "a": _("It says which of the two was wrong."),
            "b": _("It refuses both in the same words."),
            "c": _("It accepts the address, since the password is right."),
        },
        truth=lambda _provider, capture: _answers(capture),
        found=_answers_in_words,
        lines=lambda _provider, capture: [line for turn in _logins(capture) for line in _both(turn)],
        replies={
            "a": _("That would help hanako, but also a stranger who tries out which names exist."),
            "c": _(
                "To this provider the address is not a login name: it compares the whole name, and only then the password."
            ),
        },
    )


def _logins(capture: Capture) -> tuple[Turn, Turn]:
    found = [turn for turn in turns(capture) if turn.verb == "AUTH"]
    if len(found) < 2:
        raise Missing(_("This capture does not hold two logins."))
    return found[0], found[1]


def _answers(capture: Capture) -> str:
    first, second = _logins(capture)
    if first.code == "235":
        return "c"
    return "b" if first.answered.text == second.answered.text else "a"


def _answers_in_words(provider: Provider, capture: Capture) -> str:
    said = {
        "a": _("The two refusals differ."),
        "b": _("Both refusals are the same, word for word."),
        "c": _("The first login was accepted."),
    }
    text = _("{said} This provider wanted the login name `{login}`.")
    return text.format(said=said[_answers(capture)], login=provider.accounts["hanako"].login)


def _settings() -> Exercise:
    return Exercise(
        id="03-4",
        section=_("2 Use the right name"),
        needs="03-3",
        task=_("Taro cannot send through `company`. Which of his settings is wrong?"),
        kind=WrongSetting(_filled_in, lambda provider, _capture: provider.settings("taro")),
        why=lambda provider, _capture: _("taro typed the part before the @; `company` wants `{login}`.").format(
            login=provider.accounts["taro"].login
        ),
        misconceptions=(
            Misconception(
                "password",
                lambda answer, *_evidence: answer == "password",
                _(
                    "The password is as the letter says. The refusal cannot tell you that: it is the same for a wrong name."
                ),
            ),
            Misconception(
                "switch",
                lambda answer, *_evidence: answer == "outgoing_requires_authentication",
                _("The switch is on, as it must be. Were it off, the refusal would be 530."),
            ),
            Misconception(
                "pop-first",
                lambda answer, *_evidence: answer == "check_mail_first",
                _("Checking mail first opens a door only with POP before SMTP. This provider asks for SMTP AUTH."),
            ),
        ),
        hints=(
            _("Compare each line of the table with the provider's letter."),
            _("`company` uses the third kind of account name."),
        ),
        where=_("the provider's letter above, and the table that this check shows while the answer is blank."),
    )


def _filled_in(provider: Provider, _capture: Capture) -> Settings:
    return provider.settings("taro", login=provider.accounts["taro"].local_part)


# 3 PLAIN


def _plain() -> Experiment:
    return Experiment(
        id="03-5",
        section=_("3 Read a login off the wire"),
        takes=(Capture,),
        question=_("What does somebody on the way need to read hanako's password in that line?"),
        choices={
            "a": _("The provider's secret key."),
            "b": _("A fast computer and a long list of passwords to try."),
            "c": _("Nothing but a way to undo the spelling."),
        },
        truth=lambda capture: _price(verdict(capture, Fact.PASSWORD)),
        found=lambda capture: _("To somebody on the way, the password is {verdict}.").format(
            verdict=_(verdict(capture, Fact.PASSWORD).value)
        ),
        lines=lambda capture: login_lines(capture, "PLAIN"),
        replies={
            "a": _("There is no key. The line looks secret, but every computer can turn it back."),
            "b": _("No guessing is needed: the line holds the password itself, spelled differently."),
        },
    )


def _price(found: Verdict) -> str:
    """What it costs to get a password that is so well hidden, as the choices of 03-5 put it."""
    if found is Verdict.NOT_SENT:
        raise Missing(_("Nobody logged in in this capture."))
    return {Verdict.READABLE: "c", Verdict.ENCODED: "c", Verdict.GUESSABLE: "b"}.get(found, "a")


def _password() -> Exercise:
    return Exercise(
        id="03-6",
        section=_("3 Read a login off the wire"),
        needs="03-5",
        task=_("Undo the base64 of `token` and write down hanako's password."),
        kind=Text(lambda capture: value(capture, Fact.PASSWORD)),
        why=lambda capture: _(
            "Between two zero bytes stands the name, and after them the password: no key was needed."
        ),
        misconceptions=(
            Misconception(
                "still-encoded",
                lambda answer, capture: answer in login_lines(capture, "PLAIN")[0].text.split(),
                _("That is still base64, as it was on the wire. Let `base64.b64decode` undo it."),
            ),
            Misconception(
                "login-name",
                lambda answer, capture: answer == value(capture, Fact.LOGIN_NAME),
                _("That is the login name. It stands before the password."),
            ),
            Misconception(
                "whole-message",
                lambda answer, capture: (
                    value(capture, Fact.LOGIN_NAME) in answer and value(capture, Fact.PASSWORD) in answer
                ),
                _("The password is in there, and more. Zero bytes, `\\x00`, separate the parts: take the last one."),
            ),
        ),
        hints=(
            _(
                "`base64.b64decode(token)` gives bytes. A zero byte, shown as \\x00, stands before the name, and another "
                "one before the password."
            ),
            _('`base64.b64decode(token).split(b"\\0")` gives the three parts as a list.'),
        ),
        where=_("the line that begins with AUTH PLAIN; its last word is the token."),
    )


# 4 LOGIN


def _login() -> Experiment:
    return Experiment(
        id="03-7",
        section=_("4 Label an AUTH LOGIN"),
        takes=(Capture,),
        found=lambda capture: _("two questions, two answers, and the password is {verdict}.").format(
            verdict=_(verdict(capture, Fact.PASSWORD).value)
        ),
        lines=lambda capture: login_lines(capture, "LOGIN"),
    )


_LOGIN_LABELS = {
    "sasl.login.prompt": "question",
    "sasl.login.name": "login name",
    "sasl.login.password": "password",
}


def _labels() -> Exercise:
    question, name, password = _LOGIN_LABELS.values()
    return Exercise(
        id="03-8",
        section=_("4 Label an AUTH LOGIN"),
        needs="03-7",
        task=_("Label the four lines between AUTH LOGIN and 235: question, login name, password or message."),
        kind=Labels(_login_pieces, (question, name, password, "message")),
        why=lambda capture: _("The server asks twice, the client answers twice, and base64 hides none of it."),
        misconceptions=(
            Misconception(
                "answers-swapped",
                lambda answer, capture: answer == (question, password, question, name),
                _("The server asks for the name first. Decode its first question: it says so."),
            ),
            Misconception(
                "sides-swapped",
                lambda answer, capture: answer[0] in {name, password},
                _("A line that begins with 334 comes from the server: it asks, and the client answers."),
            ),
            Misconception(
                "looks-secret",
                lambda answer, capture: "message" in answer,
                _("No letter has been sent at that point: it comes only after 235, 250 and 354."),
            ),
        ),
        hints=(
            _("Lines that begin with 334 are the server's."),
            _("The line printed above the dialogue is the server's first question, decoded."),
        ),
        where=_("the marked lines above: C is the client, S the server."),
    )


def _login_pieces(capture: Capture) -> Sequence[tuple[str, str]]:
    lines = login_lines(capture, "LOGIN")[1:-1]
    pieces = []
    for line, inside in zip(lines, spans(capture, lines), strict=True):
        label = next((_LOGIN_LABELS[span.field] for span in inside if span.field in _LOGIN_LABELS), None)
        if label is None:
            raise Missing(_("The login in this capture is not complete."))
        pieces.append((line.text, label))
    return pieces


# 5 Replay


def _replay() -> Experiment:
    return Experiment(
        id="03-9",
        section=_("5 Replay a stolen login"),
        takes=(Capture, Capture),
        question=_("A thief sends hanako's AUTH PLAIN line again, from another connection. Is the thief let in?"),
        choices={
            "a": _("No: the line was made for hanako's connection."),
            "b": _("No: the thief has not decoded the password."),
            "c": _("Yes."),
        },
        truth=lambda _plain, stolen: "c" if _proved(stolen) else "a",
        found=_replayed_in_words,
        lines=lambda _plain, stolen: login_lines(stolen, "PLAIN"),
        replies={
            "a": _("Nothing in the line belongs to one connection: it is only a name and a password."),
            "b": _("Nobody needs to decode it: the server compares what the line says, not who says it."),
        },
    )


def _replayed_in_words(plain: Capture, stolen: Capture) -> str:
    first, again = login_lines(plain, "PLAIN"), login_lines(stolen, "PLAIN")
    if first[0].text != again[0].text:
        raise Missing(_("The second capture does not repeat the AUTH PLAIN line of the first."))
    values = {"client": value(stolen, Fact.CLIENT_NAME), "reply": again[-1].text}
    return _("The same line, byte for byte, from a client that calls itself `{client}`: `{reply}`.").format(**values)


# 6 Challenge and response


def _challenge() -> Experiment:
    return Experiment(
        id="03-10",
        section=_("6 Answer a challenge instead"),
        takes=(Capture, Capture),
        question=_("What does somebody on the way now get of hanako's password?"),
        choices={
            "a": _("The password: base64 hides nothing."),
            "b": _("Not the password, but enough to test guesses at home."),
            "c": _("Nothing that could help."),
        },
        truth=lambda cram, _scram: {"c": "a", "b": "b", "a": "c"}[_price(verdict(cram, Fact.PASSWORD))],
        found=_digests_in_words,
        lines=lambda cram, scram: [*login_lines(cram, "CRAM-MD5"), *login_lines(scram, "SCRAM-SHA-256")],
        replies={
            "a": _(
                "Base64 hides nothing, true. But what it spells here is a digest, and a digest cannot be turned back."
            ),
            "c": _(
                "The password does not cross the wire, but challenge and digest do: whoever guesses it can see that it fits."
            ),
        },
    )


def _digests_in_words(cram: Capture, scram: Capture) -> str:
    lines = login_lines(scram, "SCRAM-SHA-256")
    rounds = next((span.value for inside in spans(scram, lines) for span in inside if span.field == _ROUNDS), "0")
    text = _("The password is {cram} with CRAM-MD5, and {scram} with SCRAM, where each guess takes {rounds:,} rounds.")
    values = {"cram": verdict(cram, Fact.PASSWORD).value, "scram": verdict(scram, Fact.PASSWORD).value}
    return text.format(cram=_(values["cram"]), scram=_(values["scram"]), rounds=int(rounds) if rounds.isdigit() else 0)


_ROUNDS = "sasl.scram.iterations"
_PASSWORD_PROMPT = "S: 334 Password:"
_PASSWORD_SENT = "C: hanako sakura"


def _order() -> Exercise:
    return Exercise(
        id="03-11",
        section=_("6 Answer a challenge instead"),
        needs="03-10",
        task=_(
            "Lay these lines of the CRAM-MD5 session in order. Some lines are left out, two cards do not belong there."
        ),
        kind=Order(_cram_cards, (_PASSWORD_PROMPT, _PASSWORD_SENT)),
        why=lambda cram, _scram: _("Offer, challenge, digest, success; only then does the program name the sender."),
        misconceptions=(
            Misconception(
                "password-asked",
                lambda answer, *_captures: _PASSWORD_PROMPT in answer,
                _("Nobody asks for the password here: that question belongs to AUTH LOGIN."),
            ),
            Misconception(
                "password-sent",
                lambda answer, *_captures: _PASSWORD_SENT in answer,
                _("With CRAM-MD5 the password itself never crosses the wire; a digest goes in its place."),
            ),
            Misconception(
                "digest-before-challenge",
                lambda answer, cram, _scram: _comes_before(answer, _cram_cards(cram, _scram), 3, 2),
                _("The client calculates its digest from the challenge, so the challenge must come first."),
            ),
            Misconception(
                "sender-too-early",
                lambda answer, cram, _scram: _comes_before(answer, _cram_cards(cram, _scram), 5, 4),
                _("MAIL is accepted only after 235: before that the server answers 530, as in part 1."),
            ),
        ),
        hints=(
            _("The client greets first (ehlo), then names the mechanism."),
            _("After 334 it is the client's turn, and 235 ends the login."),
        ),
        where=_(
            "the first lines that this part's experiment showed, and part 3's dialogue for what comes before and after."
        ),
    )


def _cram_cards(cram: Capture, _scram: Capture) -> Sequence[str]:
    """The client's greeting, the login with its base64 undone, and the command after it."""
    login = login_lines(cram, "CRAM-MD5")
    if len(login) < 4:
        raise Missing(_("The login in this capture is not complete."))
    lines = next(flow.lines for flow in smtp_flows(cram) if set(login) <= set(flow.lines))
    commands = [line for line in lines if line.side is Side.CLIENT]
    at = commands.index(login[0])
    if not at or len(commands) < at + 3:
        raise Missing(_("In this capture nobody sent a letter after logging in with CRAM-MD5."))
    start, challenge, digest, outcome = login[:4]
    return (
        f"C: {commands[at - 1].text}",
        f"C: {start.text}",
        f"S: {challenge.text[:3]} {decoded(challenge)}",
        f"C: {decoded(digest)}",
        f"S: {outcome.text}",
        f"C: {commands[at + 2].text}",
    )


def _comes_before(answer: Sequence[str], cards: Sequence[str], early: int, late: int) -> bool:
    """Whether the card that comes at place `early` was laid before the one at `late`; a missing card is not before any."""
    first, second = cards[early], cards[late]
    return first in answer and second in answer and answer.index(first) < answer.index(second)


# 7 Make


def _vanish() -> Exercise:
    return Exercise(
        id="03-12",
        section=_("7 Make the password vanish"),
        needs=None,
        task=_("Record hanako sending the letter so that `vanished.exposure` says of her password: hidden."),
        kind=Proof(Capture, _("a capture"), _sent_unseen),
        why=lambda: _(
            "Inside TLS even AUTH PLAIN is safe from the network: name, password and letter are encrypted together."
        ),
        misconceptions=(
            Misconception(
                "read-instead",
                lambda capture: verdict(capture, Fact.PASSWORD) is Verdict.HIDDEN and not _sends(capture),
                _("The password is hidden, but nobody sent anything: this capture only reads mail."),
            ),
            Misconception(
                "not-sent",
                lambda capture: verdict(capture, Fact.PASSWORD) is Verdict.HIDDEN,
                _("The password is hidden, but no letter followed it: the server refused, or the program gave up."),
            ),
            Misconception(
                "no-login",
                lambda capture: verdict(capture, Fact.PASSWORD) is Verdict.NOT_SENT,
                _("No password crossed the wire because nobody logged in. hanako must prove who she is, unseen."),
            ),
            Misconception(
                "guessable",
                lambda capture: verdict(capture, Fact.PASSWORD) is Verdict.GUESSABLE,
                _("The password stayed off the wire, but a digest of it did not: a simple one can be guessed from it."),
            ),
            Misconception(
                "encoded",
                lambda capture: verdict(capture, Fact.PASSWORD) in {Verdict.ENCODED, Verdict.READABLE},
                _("Anybody on the way still reads the password: this connection is in the clear."),
            ),
        ),
        hints=(
            _("No mechanism hides everything. Another policy of the provider does: `list(labkit.POLICIES)`."),
            _("Encrypt from the first byte: a provider with the policy `ssl`."),
        ),
        where=_("the row `password` of `vanished.exposure`."),
    )


def _sent_unseen(capture: Capture) -> bool:
    return verdict(capture, Fact.PASSWORD) is Verdict.HIDDEN and _sends(capture) and holds_a_letter(capture)


def _sends(capture: Capture) -> bool:
    return any(flow.protocol in {SMTP, SMTPS} for flow in capture.flows)
