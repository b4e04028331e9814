"""Lesson 08, compare everything: what its notebook asks, and how the wire answers."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, product
from string import ascii_lowercase, digits
from zlib import crc32

from labkit.attack import WORDS, guess
from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.decode.exposure import Exposure, Fact, Verdict, expose
from labkit.decode.protocol import Service
from labkit.decode.protocols import SMTP
from labkit.lessons.evidence import Missing, login_lines, policy_on_the_wire, pop3_flows, pop3_turns, verdict
from labkit.lessons.kinds import Labels, Number, Proof, Text
from labkit.lessons.steps import Exercise, Experiment, Lesson, Misconception
from labkit.mail.accounts import Account
from labkit.provider import Provider
from labkit.texts import _

FOUR = (Capture,) * 4
FIVE = (Capture,) * 5
_OPEN = {Verdict.READABLE, Verdict.ENCODED}
_MILLISECONDS = 40
_LETTERS = 26
# A password of fewer characters is short; one of so many may hold words. What is left of it without them must be so long,
# and it must have so many different characters. A word of so many letters does not come about by chance.
_LEAST, _ENOUGH, _REST, _KINDS, _TELLING = 12, 20, 8, 6, 4


def lesson() -> Lesson:
    """The lesson, in the reader's language."""
    steps = (
        _side_by_side(),
        _fifth(),
        _columns(),
        _waiting(),
        _milliseconds(),
        _by_hand(),
        _kenji(),
        _two_passwords(),
        _longer(),
        _replay(),
        _strong(),
    )
    return Lesson("08", _("Compare everything"), steps)


def _by_policy(captures: Sequence[Capture], *policies: str) -> Iterator[Capture]:
    """The captures that show these policies, in the order of the names. Raises Missing."""
    known = {policy_on_the_wire(capture): capture for capture in captures}
    for policy in policies:
        if policy not in known:
            raise Missing(_("None of these captures shows {policy}.").format(policy=policy))
        yield known[policy]


def _part(capture: Capture, service: Service) -> Exposure:
    return expose(talk for talk in capture.flows if talk.protocol.service is service)


# 1 Side by side


def _side_by_side() -> Experiment:
    return Experiment(
        id="08-1",
        section=_("1 Put four side by side"),
        takes=FOUR,
        question=_("What does SMTP AUTH hide from somebody on the way that plaintext gives away?"),
        choices={
            "a": _("The password with which hanako sends."),
            "b": _("The letter."),
            "c": _("Nothing; it even gives away something more."),
        },
        truth=lambda *four: _hidden_letter(*_gained_and_hidden(four)),
        found=lambda *four: _gained_in_words(*_gained_and_hidden(four)),
        lines=lambda *four: login_lines(next(_by_policy(four, "smtp-auth")), "PLAIN"),
        replies={
            "a": _("In plaintext hanako sent no password at all, so there was none to give away."),
            "b": _("The letter crosses the network as before: SMTP AUTH asks who sends, and encrypts nothing."),
        },
    )


def _gained_and_hidden(four: Sequence[Capture]) -> tuple[list[Fact], list[Fact]]:
    """What SMTP AUTH gives away of the sending and plaintext does not, and the other way round."""
    plain, auth = (_part(capture, Service.SENDING) for capture in _by_policy(four, "plaintext", "smtp-auth"))
    gained = [fact for fact in Fact if auth[fact].verdict in _OPEN and plain[fact].verdict not in _OPEN]
    hidden = [fact for fact in Fact if plain[fact].verdict in _OPEN and auth[fact].verdict not in _OPEN]
    return gained, hidden


def _hidden_letter(_gained: list[Fact], hidden: list[Fact]) -> str:
    if Fact.TEXT in hidden:
        return "b"
    return "a" if hidden else "c"


def _gained_in_words(gained: list[Fact], hidden: list[Fact]) -> str:
    text = _("Of the sending, SMTP AUTH hides: {hidden}. It gives away besides: {gained}.")
    return text.format(hidden=_listed(hidden), gained=_listed(gained))


def _listed(facts: Iterable[Fact]) -> str:
    return ", ".join(_(fact.value) for fact in facts) or _("nothing")


# 2 The fifth


def _fifth() -> Experiment:
    return Experiment(
        id="08-2",
        section=_("2 Add the fifth"),
        takes=FIVE,
        question=_("STARTTLS begins in the clear and changes to TLS. What does it give away that SSL hides?"),
        choices={
            "a": _("Nothing."),
            "b": _("What hanako's computer calls itself."),
            "c": _("hanako's login name."),
        },
        truth=lambda *five: _letter_of(_only_starttls(five)),
        found=lambda *five: _("Readable with STARTTLS and hidden with SSL: {facts}.").format(
            facts=_listed(_only_starttls(five))
        ),
        lines=lambda *five: [
            line
            for capture in _by_policy(five, "starttls")
            for talk in capture.flows
            for line in talk.lines
            if talk.protocol is SMTP and line.text.upper().startswith("EHLO")
        ],
        replies={
            "a": _("Something is said before the change: the client greets, and tells its name."),
            "c": _("The login comes after the change to TLS; a server like this refuses it before."),
        },
    )


def _letter_of(facts: Sequence[Fact]) -> str:
    if Fact.LOGIN_NAME in facts:
        return "c"
    return "b" if Fact.CLIENT_NAME in facts else "a"


def _only_starttls(five: Sequence[Capture]) -> list[Fact]:
    starttls, ssl = (capture.findings for capture in _by_policy(five, "starttls", "ssl"))
    return [fact for fact in Fact if starttls[fact].verdict in _OPEN and ssl[fact].verdict not in _OPEN]


_ENCRYPTED = {"starttls", "ssl"}
_POLICIES = ("plaintext", "smtp-auth", "pop-before-smtp", "starttls", "ssl")


def _columns() -> Exercise:
    return Exercise(
        id="08-3",
        section=_("2 Add the fifth"),
        needs="08-2",
        task=_(
            "The check shows the five recordings mixed, without their names. Label each: plaintext, smtp-auth, "
            "pop-before-smtp, starttls or ssl."
        ),
        kind=Labels(_mixed, _POLICIES),
        why=lambda *_five: _(
            "Who reads before sending, who proves what, and what is hidden: that tells all five apart."
        ),
        misconceptions=(
            Misconception(
                "plaintext-for-pop",
                lambda answer, *five: _confused(answer, five, {"plaintext", "pop-before-smtp"}),
                _(
                    "The same facts leak in these two. What tells them apart: in one of them hanako reads before she sends."
                ),
            ),
            Misconception(
                "starttls-for-ssl",
                lambda answer, *five: _confused(answer, five, {"starttls", "ssl"}),
                _("Both hide the passwords. Only SSL hides even the client's first word, which tells its name."),
            ),
            Misconception(
                "auth-hides",
                lambda answer, *five: any(
                    given == "smtp-auth" and right in _ENCRYPTED for given, right in _pairs(answer, five)
                ),
                _("SMTP AUTH encrypts nothing: with it, the password for sending is there to be decoded."),
            ),
        ),
        hints=(
            _("Begin with the two that hide the passwords. Which of them hides the client's name, too?"),
            _("Of the other three, one sends a password with SMTP, and one reads before it sends."),
        ),
        where=_("the matrix above: its rows say “sending” and “reading”."),
    )


def _mixed(*five: Capture) -> list[tuple[str, str]]:
    """What each recording shows beside its policy, in an order that tells nothing."""
    found = [(_column(capture), policy_on_the_wire(capture)) for capture in five]
    return sorted(found, key=lambda piece: crc32(piece[0].encode()))


def _column(capture: Capture) -> str:
    steps = [_("sends") if talk.protocol.service is Service.SENDING else _("reads") for talk in capture.flows]
    values = {
        "steps": ", ".join(steps),
        "sending": _(_part(capture, Service.SENDING)[Fact.PASSWORD].verdict.value),
        "reading": _(_part(capture, Service.READING)[Fact.PASSWORD].verdict.value),
        "client": _(verdict(capture, Fact.CLIENT_NAME).value),
    }
    return _("{steps}; password: sending {sending}, reading {reading}; client name {client}").format(**values)


def _pairs(answer: Sequence[str], five: Sequence[Capture]) -> list[tuple[str, str]]:
    return [(given, right) for given, (_text, right) in zip(answer, _mixed(*five), strict=True)]


def _confused(answer: Sequence[str], five: Sequence[Capture], two: set[str]) -> bool:
    """Whether one of the two was taken for the other."""
    return any(given != right and {given, right} == two for given, right in _pairs(answer, five))


# 3 Cost


def _waiting() -> Experiment:
    return Experiment(
        id="08-4",
        section=_("3 Count the cost"),
        takes=FIVE,
        question=_("With which of the five do the two programs wait most often for an answer?"),
        choices={
            "a": _("SSL: encrypting takes its time."),
            "b": _("POP before SMTP: it needs one connection more."),
            "c": _("STARTTLS: it talks first, and then changes to TLS."),
        },
        truth=lambda *five: _most_patient(_trips(five)),
        found=lambda *five: _("Round trips: {counts}.").format(
            counts=", ".join(f"{policy} {count}" for policy, count in _trips(five).items())
        ),
        replies={
            "a": _(
                "Encrypting itself makes nobody wait for the other side; only the handshake does, once a connection."
            ),
            "b": _("A connection more costs several round trips, but one policy costs still more."),
        },
    )


def _trips(five: Sequence[Capture]) -> Mapping[str, int]:
    return dict(zip(_POLICIES, (capture.cost.round_trips for capture in _by_policy(five, *_POLICIES)), strict=True))


def _most_patient(trips: Mapping[str, int]) -> str:
    letters = {"ssl": "a", "pop-before-smtp": "b", "starttls": "c"}
    most = max(trips, key=lambda policy: trips[policy])
    if most not in letters:
        raise Missing(
            _("In these captures {policy} costs most: they are not the course's exchange.").format(policy=most)
        )
    return letters[most]


def _milliseconds() -> Exercise:
    return Exercise(
        id="08-5",
        section=_("3 Count the cost"),
        needs="08-4",
        task=_(
            "Suppose that one round trip takes 40 milliseconds. How many milliseconds longer do the programs wait with "
            "SSL than with SMTP AUTH?"
        ),
        kind=Number(lambda *five: _MILLISECONDS * _more_trips(five, "smtp-auth")),
        why=lambda *five: _("{count} round trips more, one for each of the two TLS handshakes.").format(
            count=_more_trips(five, "smtp-auth")
        ),
        misconceptions=(
            Misconception(
                "against-plaintext",
                lambda answer, *five: answer == _MILLISECONDS * _more_trips(five, "plaintext"),
                _("That is against plaintext, where nobody proves anything. Compare with SMTP AUTH."),
            ),
            Misconception(
                "one-round-trip",
                lambda answer, *five: answer == _MILLISECONDS != _MILLISECONDS * _more_trips(five, "smtp-auth"),
                _("That is one round trip more. But there are two connections, and each has a handshake of its own."),
            ),
            Misconception(
                "round-trips",
                lambda answer, *five: answer == _more_trips(five, "smtp-auth"),
                _("That many round trips more, yes. How long do they take?"),
            ),
            Misconception(
                "not-the-difference",
                lambda answer, *five: answer == _MILLISECONDS * _trips(five)["ssl"],
                _("That is all the waiting with SSL. How much of it is there with SMTP AUTH, too?"),
            ),
        ),
        hints=(
            _("Take the column Round trips: what is in the row of SSL, and what in that of SMTP AUTH?"),
            _("The difference of the two, times 40."),
        ),
        where=_("the column Round trips of the table above."),
    )


def _more_trips(five: Sequence[Capture], policy: str) -> int:
    return _trips(five)["ssl"] - _trips(five)[policy]


# 4 Guessing by hand


def _by_hand() -> Experiment:
    return Experiment(
        id="08-6",
        section=_("4 Guess at home"),
        takes=(Capture, Capture),
        question=_("Somebody has recorded timestamp and digest. What else does it take to get a simple password?"),
        choices={
            "a": _("It cannot be done: there is no way back from the digest."),
            "b": _("A list of words and some computing at home."),
            "c": _("The provider's server, to try each word at."),
        },
        truth=lambda hanako, _kenji: "a" if guess(hanako).password is None else "b",
        found=lambda hanako, _kenji: _guessed_in_words(hanako),
        lines=lambda hanako, _kenji: _apop_lines(hanako),
        replies={
            "a": _("No way back is needed. Calculate forward, word by word, until the digest is the same."),
            "c": _("The server is not asked at all, so it can neither count the tries nor stop them."),
        },
    )


def _guessed_in_words(capture: Capture) -> str:
    found = guess(capture)
    if found.password is None:
        return _("None of {count} words gives the digest.").format(count=found.tried)
    text = _("The word `{word}` gives the digest that {name} sent.")
    return text.format(word=found.password, name=found.login)


def _apop_lines(capture: Capture) -> list[Line]:
    greetings = [flow.lines[0] for flow in pop3_flows(capture) if flow.lines][:1]
    said = (turn for turn in pop3_turns(capture) if turn.verb == "APOP")
    return [*greetings, *(line for turn in said for line in (turn.asked, turn.answered))]


def _kenji() -> Exercise:
    return Exercise(
        id="08-7",
        section=_("4 Guess at home"),
        needs="08-6",
        task=_("Find kenji's password with a loop over `attack.WORDS`: it is one of them, but nobody told you which."),
        kind=Text(lambda _hanako, kenji: _guessed(kenji)),
        why=lambda _hanako, kenji: _("Found after {count} words, and no server has seen one of them.").format(
            count=guess(kenji).tried
        ),
        misconceptions=(
            Misconception(
                "digest",
                lambda answer, _hanako, kenji: len(answer) == 32 and set(answer) <= set("0123456789abcdef"),
                _("That is a digest. Which word makes it?"),
            ),
            Misconception(
                "hanakos",
                lambda answer, hanako, _kenji: answer == guess(hanako).password,
                _("That is hanako's password. The digest and the timestamp must both be kenji's."),
            ),
            Misconception(
                "last-word",
                lambda answer, *_captures: answer == WORDS[-1],
                _(
                    "That is the list's last word: your loop ran on to the end. Stop it (`break`) where the digest fits."
                ),
            ),
            Misconception(
                "login-name",
                lambda answer, _hanako, kenji: answer == guess(kenji).login,
                _("That is the name, which anybody can read. The password is what makes the digest."),
            ),
        ),
        hints=(
            _("The last line of the cell above prints a digest and a word. The first of the two is what is missing."),
            _("`if digest == hashlib.md5((timestamp + word).encode()).hexdigest():`"),
        ),
        where=_("the cell above that tries three words for hanako's digest."),
    )


def _guessed(capture: Capture) -> str:
    found = guess(capture).password
    if found is None:
        raise Missing(_("The password in this capture is not in the list."))
    return found


# 5 Two passwords


def _two_passwords() -> Experiment:
    return Experiment(
        id="08-8",
        section=_("5 Ask what length buys"),
        takes=(Capture, Capture),
        question=_("`attack.guess` tries the same list on both logins. Whose password does it find?"),
        choices={
            "a": _("Both."),
            "b": _("Only hanako's, a single word."),
            "c": _("Neither: CRAM-MD5 was made to prevent that."),
        },
        truth=_fallen,
        found=_both_in_words,
        replies={
            "a": _("Not with this list. A longer one, with digits behind its words, would have both."),
            "c": _(
                "It was made so that the password is not sent and a recorded login is no use again. Guessing it allows."
            ),
        },
    )


def _fallen(hanako: Capture, taro: Capture) -> str:
    """The letter of the choice that says whose password is found."""
    found = [guess(capture).password is not None for capture in (hanako, taro)]
    if found == [False, True]:
        raise Missing(_("The first capture must be hanako's, the second taro's."))
    return {0: "c", 1: "b", 2: "a"}[sum(found)]


def _both_in_words(*two: Capture) -> str:
    text = {
        True: _("{name}'s password is `{word}`, found after {count} words."),
        False: _("{name}'s is none of {count} words."),
    }
    found = map(guess, two)
    return " ".join(
        text[item.password is not None].format(name=item.login, word=item.password, count=item.tried) for item in found
    )


def _longer() -> Exercise:
    return Exercise(
        id="08-9",
        section=_("5 Ask what length buys"),
        needs=None,
        task=_(
            "A computer needs 1 hour to try all passwords of 8 small letters (a to z). How many hours does it need for "
            "all those of 10?"
        ),
        kind=Number(lambda: _LETTERS**2),
        why=lambda: _("Each letter more means 26 times as many passwords: 26 × 26. Four weeks in place of one hour."),
        misconceptions=(
            Misconception(
                "one-letter",
                lambda answer: answer == _LETTERS,
                _("That is for one letter more. And with a second one?"),
            ),
            Misconception(
                "added",
                lambda answer: answer == 2 * _LETTERS,
                _("The second letter does not add 26: to each choice of the first there are 26 of the second."),
            ),
            Misconception(
                "letters-counted",
                lambda answer: answer in {10, 16, 18, 20, 80, 100},
                _("Do not multiply by how many letters there are. In each place more there can be any of 26 letters."),
            ),
            Misconception(
                "doubled",
                lambda answer: answer in {2, 3, 4},
                _("It grows much faster: each place more can hold any of 26 letters."),
            ),
        ),
        hints=(
            _("How many passwords of 9 letters are there for each one of 8?"),
            _("26 for each. And then again, for the tenth letter."),
        ),
        where=_("no capture: only the alphabet, which has 26 letters."),
    )


# 6 Replay, and a password that holds


def _replay() -> Experiment:
    return Experiment(
        id="08-10",
        section=_("6 Make a password that holds"),
        takes=(Capture, Capture),
        found=_replayed_in_words,
        lines=lambda stolen, thief: [*login_lines(stolen, "CRAM-MD5")[1:], *login_lines(thief, "CRAM-MD5")[1:]],
    )


def _replayed_in_words(stolen: Capture, thief: Capture) -> str:
    first, again = login_lines(stolen, "CRAM-MD5"), login_lines(thief, "CRAM-MD5")
    if len(first) < 4 or len(again) < 4 or first[2].text != again[2].text:
        raise Missing(_("The second capture does not repeat the CRAM-MD5 login of the first."))
    if first[1].text == again[1].text:
        return _("the same challenge, the same digest, and the answer `{reply}`.").format(reply=again[3].text)
    return _("the thief says the same digest, but the challenge was another one: `{reply}`.").format(
        reply=again[3].text
    )


def _strong() -> Exercise:
    return Exercise(
        id="08-11",
        section=_("6 Make a password that holds"),
        needs=None,
        task=_("Give kenji a password that does not fall when the check attacks it."),
        kind=Proof(Provider, _("a provider"), lambda provider: _weakness(provider) == ""),
        why=lambda: _(
            "It is long, no pattern shows, and it held against {count:,} tries. Nobody can prove more: a real attack tries "
            "billions. What counts is that it was drawn at random, and a password manager does that."
        ).format(count=sum(1 for _word in _tries())),
        misconceptions=(
            Misconception(
                "in-the-list",
                lambda provider: _weakness(provider) == "word",
                _("It fell at once: it is a word of the list, perhaps with a capital letter."),
            ),
            Misconception(
                "word-and-digits",
                lambda provider: _weakness(provider) == "digits",
                _("It fell: a word with a number or a year behind it is what everybody thinks of, programs first."),
            ),
            Misconception(
                "all-tried",
                lambda provider: _weakness(provider) == "short",
                _("It fell: so short a password is found by trying all there are."),
            ),
            Misconception(
                "own-name",
                lambda provider: _weakness(provider) == "own",
                _(
                    "It held against this list only. Part of it is kenji's name or address, which everybody tries for kenji."
                ),
            ),
            Misconception(
                "pattern",
                lambda provider: _weakness(provider) == "pattern",
                _(
                    "It held against this list only. It is made of words, years, rows of keys or repeats, and programs put "
                    "those together, too. Draw it at random."
                ),
            ),
            Misconception(
                "too-few",
                lambda provider: _weakness(provider) == "few",
                _(
                    "It held against this list only. With fewer than {least} characters, a fast computer finds it by trying "
                    "all there are."
                ).format(least=_LEAST),
            ),
            Misconception(
                "hidden",
                lambda provider: _weakness(provider) == "hidden",
                _("Inside TLS there is nothing to attack. That is best, but here the password has to hold by itself."),
            ),
        ),
        hints=(
            _("Part 5 says what helps: length, if every place was drawn at random."),
            _("Let chance draw it: `secrets.token_urlsafe(12)` makes sixteen characters that nobody has thought of."),
        ),
        where=_("what the answer cell says for a password: the third text of `Account`."),
    )


def _spelled(alphabet: str, longest: int) -> Iterator[str]:
    return ("".join(letters) for size in range(1, longest + 1) for letters in product(alphabet, repeat=size))


def _cased() -> Iterator[str]:
    return (form for word in WORDS for form in dict.fromkeys((word, word.capitalize(), word.upper())))


def _numbered() -> Iterator[str]:
    endings = [*map(str, range(100)), *map(str, range(1950, 2031)), "123", "1234", "!"]
    return (word + ending for word in _cased() for ending in endings)


def _short() -> Iterator[str]:
    return chain(_spelled(digits, 5), _spelled(ascii_lowercase, 4))


_ATTACKS: Mapping[str, Callable[[], Iterator[str]]] = {"word": _cased, "digits": _numbered, "short": _short}


def _tries() -> Iterator[str]:
    return chain.from_iterable(attack() for attack in _ATTACKS.values())


@lru_cache(maxsize=8)
def _weakness(provider: Provider) -> str:
    """What is wrong with kenji's password at a provider, as somebody finds who records him reading; "" when nothing is.

    The name of the attack that finds it; "hidden" when there is nothing to attack; "own", "pattern" or "few" when no
    attack of these finds it and others would. Raises LabError when he cannot read there.
    """
    if "kenji" not in provider.accounts:
        raise Missing(_("This provider has no account kenji: name it in `accounts`."))
    with provider, provider.capture() as capture:
        provider.client("kenji", pop3_login="APOP").check()
    if verdict(capture, Fact.PASSWORD) is Verdict.HIDDEN:
        return "hidden"
    found = (name for name, words in _ATTACKS.items() if guess(capture, words()).password is not None)
    return next(found, "") or _looks_weak(provider.accounts["kenji"])


def _looks_weak(account: Account) -> str:
    """ "own" for what has the account's names in it, "few" for what is short, "pattern" for what is made of words, years,
    rows of keys or repeats, or "".
    """
    password, own = account.password, re.findall(r"\w+", f"{account.address} {account.full_name} {account.login}")
    if any(word.casefold() in password.casefold() for word in filter(_telling, own)):
        return "own"
    if len(password) < _LEAST:
        return "few"
    rest = re.sub("|".join(sorted(filter(_telling, WORDS), key=len, reverse=True)), "", password, flags=re.IGNORECASE)
    rest = re.sub(r"(19|20)\d\d", "", rest)
    built = re.fullmatch(r"([A-Z]?[a-z]+|[A-Z]+)\d{1,4}\W*", password) or len(rest) < _REST
    few_kinds = len(set(password.casefold())) < _KINDS
    return "pattern" if few_kinds or (built and len(password) < _ENOUGH) else ""


def _telling(word: str) -> bool:
    return len(word) >= _TELLING
