"""Lesson 08, compare everything: how the wire answers what its notebook asks."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, product
from string import ascii_lowercase, digits

from labkit.attack import WORDS, guess
from labkit.attack.guess import Guessed
from labkit.capture import Capture
from labkit.decode.dissection import Line
from labkit.decode.exposure import Exposure, Fact, Verdict, expose
from labkit.decode.protocol import Service
from labkit.decode.protocols import SMTP
from labkit.lessons.answers import Labels, Made, Number, Text
from labkit.lessons.evidence import (
    Missing,
    in_words,
    lines_of,
    login_lines,
    password,
    policy_on_the_wire,
    pop3_flows,
    pop3_turns,
)
from labkit.lessons.steps import Exercise, Experiment, Step
from labkit.mail.accounts import Account
from labkit.provider import Provider
from labkit.texts import N_, _

_OPEN = {Verdict.READABLE, Verdict.ENCODED}
_MILLISECONDS = 40
_LETTERS = 26
# A password of fewer characters is short; one of so many may hold words. What is left of it without them must be so long,
# and it must have so many different characters. A word of so many letters does not come about by chance.
_LEAST, _ENOUGH, _REST, _KINDS, _TELLING = 12, 20, 8, 6, 4
_ENCRYPTED = {"starttls", "ssl"}
_MIXED = ("starttls", "ssl", "plaintext", "smtp-auth", "pop-before-smtp")
_POLICIES = ("plaintext", "smtp-auth", "pop-before-smtp", "starttls", "ssl")

STEPS: tuple[Step, ...] = (
    Experiment(
        "08-1",
        takes=(Capture,) * 4,
        truth=lambda seen: _hidden_letter(*_gained_and_hidden(seen.captures)),
        found=lambda seen: _gained_in_words(*_gained_and_hidden(seen.captures)),
        lines=lambda seen: login_lines(next(_by_policy(seen.captures, "smtp-auth")), "PLAIN"),
        replies={
            "a": N_("In plaintext hanako sent no password at all, so there was none to give away."),
            "b": N_("The letter crosses the network as before: SMTP AUTH asks who sends, and encrypts nothing."),
        },
    ),
    Experiment(
        "08-2",
        takes=(Capture,) * 5,
        truth=lambda seen: _letter_of(_only_starttls(seen.captures)),
        found=lambda seen: _("Readable with STARTTLS and hidden with SSL: {facts}.").format(
            facts=_listed(_only_starttls(seen.captures))
        ),
        lines=lambda seen: [
            line
            for capture in _by_policy(seen.captures, "starttls")
            for talk in capture.flows
            for line in talk.lines
            if talk.protocol is SMTP and line.text.upper().startswith("EHLO")
        ],
        replies={
            "a": N_("Something is said before the change: the client greets, and tells its name."),
            "c": N_("The login comes after the change to TLS; a server like this refuses it before."),
        },
    ),
    Exercise(
        "08-3",
        needs="08-2",
        answer=Labels(
            lambda seen: _mixed(seen.captures),
            _POLICIES,
            mistakes={
                "plaintext-for-pop": lambda answer, seen: _confused(
                    answer, seen.captures, {"plaintext", "pop-before-smtp"}
                ),
                "starttls-for-ssl": lambda answer, seen: _confused(answer, seen.captures, {"starttls", "ssl"}),
                "auth-hides": lambda answer, seen: any(
                    (given == "smtp-auth" and right in _ENCRYPTED for given, right in _pairs(answer, seen.captures))
                ),
            },
        ),
        why=N_("Who reads before sending, who proves what, and what is hidden: that tells all five apart."),
        says={
            "plaintext-for-pop": N_(
                "The same facts leak in these two. What tells them apart: in one of them hanako reads before she sends."
            ),
            "starttls-for-ssl": N_(
                "Both hide the passwords. Only SSL hides even the client's first word, which tells its name."
            ),
            "auth-hides": N_("SMTP AUTH encrypts nothing: with it, the password for sending is there to be decoded."),
        },
        hints=(
            N_("Begin with the two that hide the passwords. Which of them hides the client's name, too?"),
            N_("Of the other three, one sends a password with SMTP, and one reads before it sends."),
        ),
        where=N_("the matrix above: its rows say “sending” and “reading”."),
    ),
    Experiment(
        "08-4",
        takes=(Capture,) * 5,
        truth=lambda seen: _most_patient(_trips(seen.captures)),
        found=lambda seen: _("Round trips: {counts}.").format(
            counts=", ".join((f"{policy} {count}" for policy, count in _trips(seen.captures).items()))
        ),
        replies={
            "a": N_(
                "Encrypting itself makes nobody wait for the other side; only the handshake does, once a connection."
            ),
            "b": N_("A connection more costs several round trips, but one policy costs still more."),
        },
    ),
    Exercise(
        "08-5",
        needs="08-4",
        answer=Number(
            lambda seen: _MILLISECONDS * _more_trips(seen.captures, "smtp-auth"),
            mistakes={
                "against-plaintext": lambda answer, seen: (
                    answer == _MILLISECONDS * _more_trips(seen.captures, "plaintext")
                ),
                "one-round-trip": lambda answer, seen: (
                    answer == _MILLISECONDS != _MILLISECONDS * _more_trips(seen.captures, "smtp-auth")
                ),
                "round-trips": lambda answer, seen: answer == _more_trips(seen.captures, "smtp-auth"),
                "not-the-difference": lambda answer, seen: answer == _MILLISECONDS * _trips(seen.captures)["ssl"],
            },
        ),
        why=lambda seen: _("{count} round trips more, one for each of the two TLS handshakes.").format(
            count=_more_trips(seen.captures, "smtp-auth")
        ),
        says={
            "against-plaintext": N_("That is against plaintext, where nobody proves anything. Compare with SMTP AUTH."),
            "one-round-trip": N_(
                "That is one round trip more. But there are two connections, and each has a handshake of its own."
            ),
            "round-trips": N_("That many round trips more, yes. How long do they take?"),
            "not-the-difference": N_("That is all the waiting with SSL. How much of it is there with SMTP AUTH, too?"),
        },
        hints=(
            N_("Take the column Round trips: what is in the row of SSL, and what in that of SMTP AUTH?"),
            N_("The difference of the two, times 40."),
        ),
        where=N_("the column Round trips of the table above."),
    ),
    Experiment(
        "08-6",
        takes=(Capture, Capture),
        truth=lambda seen: "a" if guess(seen.capture).password is None else "b",
        found=lambda seen: _told(
            guess(seen.capture),
            N_("The word `{word}` gives the digest that {name} sent."),
            N_("None of {count} words gives the digest."),
        ),
        lines=lambda seen: _apop_lines(seen.capture),
        replies={
            "a": N_("No way back is needed. Calculate forward, word by word, until the digest is the same."),
            "c": N_("The server is not asked at all, so it can neither count the tries nor stop them."),
        },
    ),
    Exercise(
        "08-7",
        needs="08-6",
        answer=Text(
            lambda seen: _guessed(seen.captures[1]),
            mistakes={
                "digest": lambda answer, _seen: len(answer) == 32 and set(answer) <= set("0123456789abcdef"),
                "hanakos": lambda answer, seen: answer == guess(seen.capture).password,
                "last-word": lambda answer, _seen: answer == WORDS[-1],
                "login-name": lambda answer, seen: answer == guess(seen.captures[1]).login,
            },
        ),
        why=lambda seen: _("Found after {count} words, and no server has seen one of them.").format(
            count=guess(seen.captures[1]).tried
        ),
        says={
            "digest": N_("That is a digest. Which word makes it?"),
            "hanakos": N_("That is hanako's password. The digest and the timestamp must both be kenji's."),
            "last-word": N_(
                "That is the list's last word: your loop ran on to the end. Stop it (`break`) where the digest fits."
            ),
            "login-name": N_("That is the name, which anybody can read. The password is what makes the digest."),
        },
        hints=(
            N_("The last line of the cell above prints a digest and a word. The first of the two is what is missing."),
            N_("`if digest == hashlib.md5((timestamp + word).encode()).hexdigest():`"),
        ),
        where=N_("the cell above that tries three words for hanako's digest."),
    ),
    Experiment(
        "08-8",
        takes=(Capture, Capture),
        truth=lambda seen: _fallen(*seen.captures),
        found=lambda seen: _both_in_words(*seen.captures),
        replies={
            "a": N_("Not with this list. A longer one, with digits behind its words, would have both."),
            "c": N_(
                "It was made so that the password is not sent and a recorded login is no use again. Guessing it allows."
            ),
        },
    ),
    Exercise(
        "08-9",
        answer=Number(
            lambda _seen: _LETTERS**2,
            mistakes={
                "one-letter": lambda answer, _seen: answer == _LETTERS,
                "added": lambda answer, _seen: answer == 2 * _LETTERS,
                "letters-counted": lambda answer, _seen: answer in {10, 16, 18, 20, 80, 100},
                "doubled": lambda answer, _seen: answer in {2, 3, 4},
            },
        ),
        why=N_("Each letter more means 26 times as many passwords: 26 × 26. Four weeks in place of one hour."),
        says={
            "one-letter": N_("That is for one letter more. And with a second one?"),
            "added": N_("The second letter does not add 26: to each choice of the first there are 26 of the second."),
            "letters-counted": N_(
                "Do not multiply by how many letters there are. In each place more there can be any of 26 letters."
            ),
            "doubled": N_("It grows much faster: each place more can hold any of 26 letters."),
        },
        hints=(
            N_("How many passwords of 9 letters are there for each one of 8?"),
            N_("26 for each. And then again, for the tenth letter."),
        ),
        where=N_("no capture: only the alphabet, which has 26 letters."),
    ),
    Experiment(
        "08-10",
        takes=(Capture, Capture),
        found=lambda seen: _replayed_in_words(*seen.captures),
        lines=lambda seen: [
            *login_lines(seen.captures[0], "CRAM-MD5")[1:],
            *login_lines(seen.captures[1], "CRAM-MD5")[1:],
        ],
    ),
    Exercise(
        "08-11",
        answer=Made(
            Provider,
            lambda provider, _seen: _weakness(provider) == "",
            mistakes={
                "in-the-list": lambda provider, _seen: _weakness(provider) == "word",
                "word-and-digits": lambda provider, _seen: _weakness(provider) == "digits",
                "all-tried": lambda provider, _seen: _weakness(provider) == "short",
                "own-name": lambda provider, _seen: _weakness(provider) == "own",
                "pattern": lambda provider, _seen: _weakness(provider) == "pattern",
                "too-few": lambda provider, _seen: _weakness(provider) == "few",
                "hidden": lambda provider, _seen: _weakness(provider) == "hidden",
            },
        ),
        why=lambda _seen: _(
            "It is long, no pattern shows, and it held against {count:,} tries. Nobody can prove more: a real attack "
            "tries billions. What counts is that it was drawn at random, and a password manager does that."
        ).format(count=sum(1 for _word in _tries())),
        says={
            "in-the-list": N_("It fell at once: it is a word of the list, perhaps with a capital letter."),
            "word-and-digits": N_(
                "It fell: a word with a number or a year behind it is what everybody thinks of, programs first."
            ),
            "all-tried": N_("It fell: so short a password is found by trying all there are."),
            "own-name": N_(
                "It held against this list only. Part of it is kenji's name or address, which everybody tries for "
                "kenji."
            ),
            "pattern": N_(
                "It held against this list only. It is made of words, years, rows of keys or repeats, and programs "
                "put those together, too. Draw it at random."
            ),
            "too-few": N_(
                "It held against this list only. With fewer than 12 characters, a fast computer finds it by trying "
                "all there are."
            ),
            "hidden": N_(
                "Inside TLS there is nothing to attack. That is best, but here the password has to hold by itself."
            ),
        },
        hints=(
            N_("Part 5 says what helps: length, if every place was drawn at random."),
            N_("Let chance draw it: `secrets.token_urlsafe(12)` makes sixteen characters that nobody has thought of."),
        ),
        where=N_("what the answer cell says for a password: the third text of `Account`."),
    ),
)


def _by_policy(captures: Sequence[Capture], *policies: str) -> Iterator[Capture]:
    """The captures that show these policies, in the order of the names. Raises Missing."""
    known = {policy_on_the_wire(capture): capture for capture in captures}
    for policy in policies:
        if policy not in known:
            raise Missing(_("None of these captures shows {policy}.").format(policy=policy))
        yield known[policy]


def _part(capture: Capture, service: Service) -> Exposure:
    return expose(talk for talk in capture.flows if talk.protocol.service is service)


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


def _letter_of(facts: Sequence[Fact]) -> str:
    if Fact.LOGIN_NAME in facts:
        return "c"
    return "b" if Fact.CLIENT_NAME in facts else "a"


def _only_starttls(five: Sequence[Capture]) -> list[Fact]:
    starttls, ssl = (capture.findings for capture in _by_policy(five, "starttls", "ssl"))
    return [fact for fact in Fact if starttls[fact].verdict in _OPEN and ssl[fact].verdict not in _OPEN]


def _mixed(five: Sequence[Capture]) -> list[tuple[str, str]]:
    """What each recording shows beside its policy, in an order that tells nothing. Raises Missing."""
    return [(_column(capture), policy) for policy, capture in zip(_MIXED, _by_policy(five, *_MIXED), strict=True)]


def _column(capture: Capture) -> str:
    steps = [_("sends") if talk.protocol.service is Service.SENDING else _("reads") for talk in capture.flows]
    values = {
        "steps": ", ".join(steps),
        "sending": _(_part(capture, Service.SENDING)[Fact.PASSWORD].verdict.value),
        "reading": _(_part(capture, Service.READING)[Fact.PASSWORD].verdict.value),
        "client": in_words(capture, Fact.CLIENT_NAME),
    }
    return _("{steps}; password: sending {sending}, reading {reading}; client name {client}").format(**values)


def _pairs(answer: Sequence[str], five: Sequence[Capture]) -> list[tuple[str, str]]:
    return [(given, right) for given, (_text, right) in zip(answer, _mixed(five), strict=True)]


def _confused(answer: Sequence[str], five: Sequence[Capture], two: set[str]) -> bool:
    """Whether one of the two was taken for the other."""
    return any(given != right and {given, right} == two for given, right in _pairs(answer, five))


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


def _more_trips(five: Sequence[Capture], policy: str) -> int:
    return _trips(five)["ssl"] - _trips(five)[policy]


def _apop_lines(capture: Capture) -> list[Line]:
    greetings = [flow.lines[0] for flow in pop3_flows(capture) if flow.lines][:1]
    return [*greetings, *lines_of(pop3_turns(capture, "APOP"))]


def _guessed(capture: Capture) -> str:
    found = guess(capture).password
    if found is None:
        raise Missing(_("The password in this capture is not in the list."))
    return found


def _fallen(hanako: Capture, taro: Capture) -> str:
    """The letter of the choice that says whose password is found."""
    found = [guess(capture).password is not None for capture in (hanako, taro)]
    if found == [False, True]:
        raise Missing(_("The first capture must be hanako's, the second taro's."))
    return {0: "c", 1: "b", 2: "a"}[sum(found)]


def _both_in_words(*two: Capture) -> str:
    found = N_("{name}'s password is `{word}`, found after {count} words.")
    return " ".join(_told(guess(capture), found, N_("{name}'s is none of {count} words.")) for capture in two)


def _told(tried: Guessed, found: str, none: str) -> str:
    """What came of guessing, in one of two sentences."""
    return _(none if tried.password is None else found).format(name=tried.login, word=tried.password, count=tried.tried)


def _replayed_in_words(stolen: Capture, thief: Capture) -> str:
    first, again = login_lines(stolen, "CRAM-MD5"), login_lines(thief, "CRAM-MD5")
    if len(first) < 4 or len(again) < 4 or first[2].text != again[2].text:
        raise Missing(_("The second capture does not repeat the CRAM-MD5 login of the first."))
    if first[1].text == again[1].text:
        return _("the same challenge, the same digest, and the answer `{reply}`.").format(reply=again[3].text)
    text = _("the thief says the same digest, but the challenge was another one: `{reply}`.")
    return text.format(reply=again[3].text)


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


def _weakness(provider: Provider) -> str:
    """What is wrong with kenji's password at a provider, found out once."""
    return _found_weakness(provider)


@lru_cache(maxsize=8)
def _found_weakness(provider: Provider) -> str:
    """What is wrong with kenji's password at a provider, as somebody finds who records him reading; "" when nothing is.

    The name of the attack that finds it; "hidden" when there is nothing to attack; "own", "pattern" or "few" when no
    attack of these finds it and others would. Raises LabError when he cannot read there.
    """
    if "kenji" not in provider.accounts:
        raise Missing(_("This provider has no account kenji: name it in `accounts`."))
    with provider, provider.capture() as capture:
        provider.client("kenji", pop3_login="APOP").check()
    if password(capture) is Verdict.HIDDEN:
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
