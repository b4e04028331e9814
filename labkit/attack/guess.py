"""Guessing offline: trying words against a captured proof, with no server to count the attempts.

CRAM-MD5, APOP and SCRAM never send the password, but a value computed from it and from what was said in the clear. So
whoever has the capture can compute the same value for any word and compare. How many words a second depends on how dear
one computation is: SCRAM repeats its hash thousands of times for that reason alone.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from scramp import ScramException
from scramp.utils import saslprep

from labkit.attack.logins import Login, first
from labkit.attack.result import AttackResult
from labkit.attack.wordlist import WORDS
from labkit.capture import Capture
from labkit.decode.sasl import unbase64
from labkit.errors import LabError
from labkit.texts import N_, _

GUESSABLE = ("CRAM-MD5", "APOP", "SCRAM-SHA-256")
MOST_ITERATIONS = 10_000_000  # a hostile capture may say more, and one word would take minutes
Fits = Callable[[str], bool]


@dataclass(frozen=True, repr=False)
class Guessed(AttackResult):
    """What guessing came to. password: None when no word fits. tried: words, up to the one that fits.

    iterations: how often the hash is repeated for one guess. guesses_per_second: on this machine, in this run, and so in
    no text.
    """

    heading = N_("Words tried against a captured login")

    mechanism: str
    login: str
    password: str | None
    tried: int
    iterations: int
    guesses_per_second: float = field(compare=False)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        return (
            (_("login name"), self.login),
            (_("mechanism"), self.mechanism),
            (_("words tried"), f"{self.tried:,}"),
            (_("iterations a word"), f"{self.iterations:,}"),
            (_("password"), _("not in the list") if self.password is None else self.password),
        )

    @property
    def conclusion(self) -> str:
        if self.password is None:
            return _("No word fits. That does not make the password safe: there are longer lists than this one.")
        return _("The password is found, and the server has noticed nothing: a simple password is no protection here.")


def guess(capture: Capture, words: Iterable[str] = WORDS) -> Guessed:
    """Try words against the first CRAM-MD5, APOP or SCRAM-SHA-256 login in a capture, better one that succeeded.

    words: a list of them; a string is one word.
    Raises LabError when the capture shows none, or only a part of one.
    """
    login = first(capture, *GUESSABLE)
    try:
        fits, iterations = _TESTS[login.mechanism](login)
    except (ValueError, IndexError, KeyError, StopIteration):
        message = _("The {mechanism} login in this capture is not complete: record the whole exchange.")
        raise LabError(message.format(mechanism=login.mechanism)) from None
    began = time.perf_counter()
    tried, found = 0, None
    for word in [words] if isinstance(words, str) else words:
        tried += 1
        if fits(word):
            found = word
            break
    took = time.perf_counter() - began
    return Guessed(login.mechanism, login.name, found, tried, iterations, tried / took if took else 0.0)


def _cram_md5(login: Login) -> tuple[Fits, int]:
    """RFC 2195 section 2: HMAC-MD5 of the challenge under the password."""
    (challenge,), (response,) = login.challenges, login.responses
    digest = _md5(response.rpartition(b" ")[2].decode())
    return (lambda word: hmac.digest(word.encode(), challenge, "md5") == digest), 1


def _apop(login: Login) -> tuple[Fits, int]:
    """RFC 1939 section 7: MD5 of the greeting's timestamp and the password."""
    stamp = login.asked[0].encode()
    digest = _md5(login.sent[0].split()[-1])
    return (lambda word: hashlib.md5(stamp + word.encode(), usedforsecurity=False).digest() == digest), 1


def _md5(words: str) -> bytes:
    digest = bytes.fromhex(words)
    if len(digest) != 16:
        raise ValueError
    return digest


def _scram_sha_256(login: Login) -> tuple[Fits, int]:
    """RFC 5802 section 3: the proof is ClientKey XOR ClientSignature; StoredKey is the hash of ClientKey."""
    client_first, client_final = login.responses[:2]
    server_first = next(asked for asked in login.challenges if asked.startswith(b"r="))
    told = dict(part.partition(b"=")[::2] for part in server_first.split(b","))
    without_proof, _comma, proof_words = client_final.rpartition(b",p=")
    bare = client_first.split(b",", 2)[2]  # without the GS2 header (RFC 5802 section 7)
    message = b",".join((bare, server_first, without_proof))
    salt, iterations, proof = unbase64(told[b"s"]), int(told[b"i"]), unbase64(proof_words)
    if not salt or not proof or not 0 < iterations <= MOST_ITERATIONS:
        raise ValueError

    def fits(word: str) -> bool:
        try:
            octets = saslprep(word).encode()  # type: ignore[no-untyped-call]
        except ScramException:  # no SCRAM password can be like that (RFC 5802 section 5.1)
            return False
        salted = hashlib.pbkdf2_hmac("sha256", octets, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        return bytes(a ^ b for a, b in zip(client_key, signature, strict=True)) == proof

    return fits, iterations


_TESTS: dict[str, Callable[[Login], tuple[Fits, int]]] = {
    "CRAM-MD5": _cram_md5,
    "APOP": _apop,
    "SCRAM-SHA-256": _scram_sha_256,
}
