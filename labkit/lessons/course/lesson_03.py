"""Lesson 03, authenticate with SMTP AUTH: how the wire answers what its notebook asks."""

from collections.abc import Sequence

from labkit.capture import Capture
from labkit.decode.exposure import Fact, Verdict
from labkit.lessons.answers import Labels, Made, Order, Text, WrongSetting, laid_before
from labkit.lessons.evidence import (
    Missing,
    Turn,
    card,
    decoded,
    holds_a_letter,
    in_words,
    lines_of,
    login_lines,
    password,
    sends,
    smtp_flows,
    spans,
    turns,
    value,
    was_sent,
)
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.provider import Provider
from labkit.texts import N_, _
from labkit.wire.flows import Side

_HERS = ("hanako", "hanako@mail.example", "m1001-hy")
_LABELS = {"sasl.login.prompt": "question", "sasl.login.name": "login name", "sasl.login.password": "password"}
_ROUNDS = "sasl.scram.iterations"
_PASSWORD_PROMPT = "S: 334 Password:"
_PASSWORD_SENT = "C: hanako sakura"

STEPS: tuple[Step, ...] = (
    Experiment(
        "03-1",
        truth=lambda seen: {"MAIL": "b", "": "a"}.get(_refused(seen.capture), "c"),
        found={
            "a": N_("The server took the letter and asked for no proof."),
            "b": N_("The program named the sender, and the server answered with a refusal."),
            "c": N_("The server answered with a refusal, but not to the sender's name."),
        },
        lines=lambda seen: lines_of(turn for turn in turns(seen.capture) if turn.code == "530"),
        replies={
            "a": N_("A server that asks nobody would send it; this one wants to know first who is there."),
            "c": N_("It need not wait so long: the sender's name is already a claim that nobody has proved."),
        },
    ),
    Exercise(
        "03-2",
        needs="03-1",
        answer=Made(
            Capture,
            lambda capture, _seen: _as_hanako(capture) and was_sent(capture),
            mistakes={
                "read-instead": lambda capture, _seen: not smtp_flows(capture),
                "switch-still-off": lambda capture, _seen: "530" in _codes(capture),
                "wrong-credentials": lambda capture, _seen: "535" in _codes(capture),
                "another-person": lambda capture, _seen: _proved(capture) and was_sent(capture),
                "asks-nobody": lambda capture, _seen: was_sent(capture),
            },
        ),
        why=N_("AUTH comes before MAIL, the server answers 235, and from then on it takes her letter."),
        says={
            "read-instead": N_("No SMTP in the clear is in this capture: sending is SMTP's affair, reading is POP3's."),
            "switch-still-off": N_(
                "The server still answers 530: the program never said AUTH, so the switch is still off."
            ),
            "wrong-credentials": N_(
                "The switch is on, but name and password do not belong together: the server answers 535."
            ),
            "another-person": N_(
                "Accepted, but it was not hanako who logged in. (That she is named as the sender all the same did not "
                "disturb this server: it checks who logs in, not who is named.) Let her own program do it."
            ),
            "asks-nobody": N_(
                "The letter was accepted, but nobody proved anything: this provider asks nobody. Use `provider`."
            ),
        },
        hints=(
            N_("Take the line that sent in the first experiment, and leave out the setting that switches it off."),
            N_('`provider.client("hanako")` is a program that is set up as the provider wants it.'),
        ),
        where=N_("the lines after `ehlo` in your capture: is there one that begins with AUTH?"),
    ),
    Experiment(
        "03-3",
        takes=(Provider, Capture),
        truth=lambda seen: _answers(seen.capture),
        found=lambda seen: _answers_in_words(seen.provider, seen.capture),
        lines=lambda seen: lines_of(_logins(seen.capture)),
        replies={
            "a": N_("That would help hanako, but also a stranger who tries out which names exist."),
            "c": N_(
                "To this provider the address is not a login name: it compares the whole name, and only then the "
                "password."
            ),
        },
    ),
    Exercise(
        "03-4",
        needs="03-3",
        answer=WrongSetting(
            lambda seen: seen.provider.settings("taro", login=seen.provider.accounts["taro"].local_part),
            lambda seen: seen.provider.settings("taro"),
            mistakes={
                "password": lambda answer, _seen: answer == "password",
                "switch": lambda answer, _seen: answer == "outgoing_requires_authentication",
                "pop-first": lambda answer, _seen: answer == "check_mail_first",
            },
        ),
        why=lambda seen: _("taro typed the part before the @; `company` wants `{login}`.").format(
            login=seen.provider.accounts["taro"].login
        ),
        says={
            "password": N_(
                "The password is as the letter says. The refusal cannot tell you that: it is the same for a wrong name."
            ),
            "switch": N_("The switch is on, as it must be. Were it off, the refusal would be 530."),
            "pop-first": N_(
                "Checking mail first opens a door only with POP before SMTP. This provider asks for SMTP AUTH."
            ),
        },
        hints=(
            N_("Compare each line of the table with the provider's letter."),
            N_("`company` uses the third kind of account name."),
        ),
        where=N_("the provider's letter above, and the table that this check shows while the answer is blank."),
    ),
    Experiment(
        "03-5",
        truth=lambda seen: _price(seen.capture),
        found=lambda seen: _("To somebody on the way, the password is {verdict}.").format(
            verdict=in_words(seen.capture, Fact.PASSWORD)
        ),
        lines=lambda seen: login_lines(seen.capture, "PLAIN"),
        replies={
            "a": N_("There is no key. The line looks secret, but every computer can turn it back."),
            "b": N_("No guessing is needed: the line holds the password itself, spelled differently."),
        },
    ),
    Exercise(
        "03-6",
        needs="03-5",
        answer=Text(
            lambda seen: value(seen.capture, Fact.PASSWORD),
            mistakes={
                "still-encoded": lambda answer, seen: answer in login_lines(seen.capture, "PLAIN")[0].text.split(),
                "login-name": lambda answer, seen: answer == value(seen.capture, Fact.LOGIN_NAME),
                "whole-message": lambda answer, seen: (
                    value(seen.capture, Fact.LOGIN_NAME) in answer and value(seen.capture, Fact.PASSWORD) in answer
                ),
            },
        ),
        why=N_("Between two zero bytes stands the name, and after them the password: no key was needed."),
        says={
            "still-encoded": N_("That is still base64, as it was on the wire. Let `base64.b64decode` undo it."),
            "login-name": N_("That is the login name. It stands before the password."),
            "whole-message": N_(
                "The password is in there, and more. Zero bytes, `\\x00`, separate the parts: take the last one."
            ),
        },
        hints=(
            N_(
                "`base64.b64decode(token)` gives bytes. A zero byte, shown as \\x00, stands before the name, and "
                "another one before the password."
            ),
            N_('`base64.b64decode(token).split(b"\\0")` gives the three parts as a list.'),
        ),
        where=N_("the line that begins with AUTH PLAIN; its last word is the token."),
    ),
    Experiment(
        "03-7",
        found=lambda seen: _("two questions, two answers, and the password is {verdict}.").format(
            verdict=in_words(seen.capture, Fact.PASSWORD)
        ),
        lines=lambda seen: login_lines(seen.capture, "LOGIN"),
    ),
    Exercise(
        "03-8",
        needs="03-7",
        answer=Labels(
            lambda seen: _login_pieces(seen.capture),
            (*_LABELS.values(), "message"),
            mistakes={
                "answers-swapped": lambda answer, _seen: answer == ("question", "password", "question", "login name"),
                "sides-swapped": lambda answer, _seen: answer[0] in {"login name", "password"},
                "looks-secret": lambda answer, _seen: "message" in answer,
            },
        ),
        why=N_("The server asks twice, the client answers twice, and base64 hides none of it."),
        says={
            "answers-swapped": N_("The server asks for the name first. Decode its first question: it says so."),
            "sides-swapped": N_("A line that begins with 334 comes from the server: it asks, and the client answers."),
            "looks-secret": N_("No letter has been sent at that point: it comes only after 235, 250 and 354."),
        },
        hints=(
            N_("Lines that begin with 334 are the server's."),
            N_("The line printed above the dialogue is the server's first question, decoded."),
        ),
        where=N_("the marked lines above: C is the client, S the server."),
    ),
    Experiment(
        "03-9",
        takes=(Capture, Capture),
        truth=lambda seen: "c" if _proved(seen.captures[1]) else "a",
        found=lambda seen: _replayed_in_words(*seen.captures),
        lines=lambda seen: login_lines(seen.captures[1], "PLAIN"),
        replies={
            "a": N_("Nothing in the line belongs to one connection: it is only a name and a password."),
            "b": N_("Nobody needs to decode it: the server compares what the line says, not who says it."),
        },
    ),
    Experiment(
        "03-10",
        takes=(Capture, Capture),
        truth=lambda seen: {"c": "a", "b": "b", "a": "c"}[_price(seen.capture)],
        found=lambda seen: _digests_in_words(*seen.captures),
        lines=lambda seen: [
            *login_lines(seen.captures[0], "CRAM-MD5"),
            *login_lines(seen.captures[1], "SCRAM-SHA-256"),
        ],
        replies={
            "a": N_(
                "Base64 hides nothing, true. But what it spells here is a digest, and a digest cannot be turned back."
            ),
            "c": N_(
                "The password does not cross the wire, but challenge and digest do: whoever guesses it can see that "
                "it fits."
            ),
        },
    ),
    Exercise(
        "03-11",
        needs="03-10",
        answer=Order(
            lambda seen: _cards(seen.capture),
            (_PASSWORD_PROMPT, _PASSWORD_SENT),
            mistakes={
                "password-asked": lambda answer, _seen: _PASSWORD_PROMPT in answer,
                "password-sent": lambda answer, _seen: _PASSWORD_SENT in answer,
                "digest-before-challenge": lambda answer, seen: laid_before(answer, _cards(seen.capture), 3, 2),
                "sender-too-early": lambda answer, seen: laid_before(answer, _cards(seen.capture), 5, 4),
            },
        ),
        why=N_("Offer, challenge, digest, success; only then does the program name the sender."),
        says={
            "password-asked": N_("Nobody asks for the password here: that question belongs to AUTH LOGIN."),
            "password-sent": N_(
                "With CRAM-MD5 the password itself never crosses the wire; a digest goes in its place."
            ),
            "digest-before-challenge": N_(
                "The client calculates its digest from the challenge, so the challenge must come first."
            ),
            "sender-too-early": N_(
                "MAIL is accepted only after 235: before that the server answers 530, as in part 1."
            ),
        },
        hints=(
            N_("The client greets first (ehlo), then names the mechanism."),
            N_("After 334 it is the client's turn, and 235 ends the login."),
        ),
        where=N_(
            "the first lines that this part's experiment showed, and part 3's dialogue for what comes before and after."
        ),
    ),
    Exercise(
        "03-12",
        answer=Made(
            Capture,
            lambda capture, _seen: password(capture) is Verdict.HIDDEN and sends(capture) and holds_a_letter(capture),
            mistakes={
                "read-instead": lambda capture, _seen: password(capture) is Verdict.HIDDEN and not sends(capture),
                "not-sent": lambda capture, _seen: password(capture) is Verdict.HIDDEN,
                "no-login": lambda capture, _seen: password(capture) is Verdict.NOT_SENT,
                "guessable": lambda capture, _seen: password(capture) is Verdict.GUESSABLE,
                "encoded": lambda _capture, _seen: True,
            },
        ),
        why=N_(
            "Inside TLS even AUTH PLAIN is safe from the network: name, password and letter are encrypted together."
        ),
        says={
            "read-instead": N_("The password is hidden, but nobody sent anything: this capture only reads mail."),
            "not-sent": N_(
                "The password is hidden, but no letter followed it: the server refused, or the program gave up."
            ),
            "no-login": N_(
                "No password crossed the wire because nobody logged in. hanako must prove who she is, unseen."
            ),
            "guessable": N_(
                "The password stayed off the wire, but a digest of it did not: a simple one can be guessed from it."
            ),
            "encoded": N_("Anybody on the way still reads the password: this connection is in the clear."),
        },
        hints=(
            N_("No mechanism hides everything. Another policy of the provider does: `list(labkit.POLICIES)`."),
            N_("Encrypt from the first byte: a provider with the policy `ssl`."),
        ),
        where=N_("the row `password` of `vanished.exposure`."),
    ),
)


def _refused(capture: Capture) -> str:
    """The command that was answered 530 (RFC 4954 section 6); "" when the letter was taken."""
    refused = next((turn.verb for turn in turns(capture) if turn.code == "530"), None)
    if refused is None and not was_sent(capture):
        raise Missing(_("In this capture nobody tried to send a letter."))
    return refused or ""


def _codes(capture: Capture) -> set[str]:
    return {turn.code for turn in turns(capture)}


def _proved(capture: Capture) -> bool:
    return "235" in _codes(capture)


def _as_hanako(capture: Capture) -> bool:
    """Whether the login that succeeded was hanako's, under any of her three kinds of name."""
    return _proved(capture) and capture.findings[Fact.LOGIN_NAME].value in _HERS


def _logins(capture: Capture) -> tuple[Turn, Turn]:
    found = turns(capture, "AUTH")
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


def _price(capture: Capture) -> str:
    """What it costs to get the password, as the choices of 03-5 put it."""
    found = password(capture)
    if found is Verdict.NOT_SENT:
        raise Missing(_("Nobody logged in in this capture."))
    return {Verdict.READABLE: "c", Verdict.ENCODED: "c", Verdict.GUESSABLE: "b"}.get(found, "a")


def _login_pieces(capture: Capture) -> Sequence[tuple[str, str]]:
    lines = login_lines(capture, "LOGIN")[1:-1]
    pieces = []
    for line, inside in zip(lines, spans(capture, lines), strict=True):
        label = next((_LABELS[span.field] for span in inside if span.field in _LABELS), None)
        if label is None:
            raise Missing(_("The login in this capture is not complete."))
        pieces.append((line.text, label))
    return pieces


def _replayed_in_words(plain: Capture, stolen: Capture) -> str:
    first, again = login_lines(plain, "PLAIN"), login_lines(stolen, "PLAIN")
    if first[0].text != again[0].text:
        raise Missing(_("The second capture does not repeat the AUTH PLAIN line of the first."))
    told = {"client": value(stolen, Fact.CLIENT_NAME), "reply": again[-1].text}
    return _("The same line, byte for byte, from a client that calls itself `{client}`: `{reply}`.").format(**told)


def _digests_in_words(cram: Capture, scram: Capture) -> str:
    lines = login_lines(scram, "SCRAM-SHA-256")
    rounds = next((span.value for inside in spans(scram, lines) for span in inside if span.field == _ROUNDS), "0")
    text = _("The password is {cram} with CRAM-MD5, and {scram} with SCRAM, where each guess takes {rounds:,} rounds.")
    leaks = {"cram": in_words(cram, Fact.PASSWORD), "scram": in_words(scram, Fact.PASSWORD)}
    return text.format(**leaks, rounds=int(rounds) if rounds.isdigit() else 0)


def _cards(cram: Capture) -> Sequence[str]:
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
    asked, answered = f"S: {challenge.text[:3]} {decoded(challenge)}", f"C: {decoded(digest)}"
    return (card(commands[at - 1]), card(start), asked, answered, card(outcome), card(commands[at + 2]))
