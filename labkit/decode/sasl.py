"""SASL on the wire: what the steps of an AUTH exchange say, the same for SMTP and POP3 (RFC 4422, RFC 4954, RFC 5034).

Challenges and responses are base64 (RFC 4648). One character holds six bits, so a character may carry the end of one
part and the start of the next: each is given to the part that its first bit belongs to. So the three parts of PLAIN,
or the attributes of SCRAM, can be pointed at in the text as it crossed the wire.
"""

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from labkit.decode.fields import text
from labkit.decode.lines import Element, blank_end, line_end_span, not_as_written, separator, without_line_end, word_end
from labkit.decode.protocol import Fact
from labkit.decode.spans import Span, Tiles, Visibility, hardest_to_read
from labkit.texts import N_, _

BASE64 = "RFC 4648 section 4"
PLAIN = "RFC 4616 section 2"
LOGIN = "draft-murchison-sasl-login-00"
CRAM = "RFC 2195 section 2"
SCRAM = "RFC 5802 section 5.1"
XOAUTH2 = "Gmail XOAUTH2 protocol"
OAUTHBEARER = "RFC 7628 section 3.1"


class Part(NamedTuple):
    """Decoded octets [start, end) and what they are."""

    start: int
    end: int
    field: str
    value: str
    meaning: str
    source: str
    visibility: Visibility = Visibility.ENCODED


Parser = Callable[[bytes], list[Part]]


def unbase64(data: bytes) -> bytes | None:
    """What base64 text holds; None when it is not base64."""
    try:
        return binascii.a2b_base64(data, strict_mode=True) if data else b""
    except binascii.Error:
        return None


def _almost_base64(data: bytes) -> bytes | None:
    """What lenient software reads: base64 with too much or too little padding, or with white space after it."""
    found = _ALMOST_BASE64.fullmatch(data)
    return unbase64(found[1] + b"=" * (-len(found[1]) % 4)) if found else None


_ALMOST_BASE64 = re.compile(rb"([A-Za-z0-9+/]{2,})=*[\t\r ]*")


class Gives(StrEnum):
    """What a mechanism in the clear gives to whoever reads it."""

    PASSWORD = "password"
    TOKEN = "token"  # which opens the account as the password does, until it expires
    DIGEST = "digest"  # by which passwords can be tried offline
    NOTHING = "nothing"  # of a password
    UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False, kw_only=True)
class Mechanism:
    """A way of proving who one is, as it looks on the wire.

    name: as in AUTH; one that ends with a hyphen is a family. meaning, gives: what an eavesdropper has of it.
    responses: how to read the client's messages, the last for all that follow. challenge: how to read the server's.
    names, secrets: the fields that hold the login name and the proof.
    """

    name: str
    meaning: str
    gives: Gives = Gives.UNKNOWN
    responses: tuple[Parser, ...] = ()
    challenge: Parser | None = None
    names: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    def is_called(self, name: str) -> bool:
        """Whether this is the mechanism of that name, in upper case."""
        return name.startswith(self.name) if self.name.endswith("-") else name == self.name


def mechanism_called(name: str) -> Mechanism:
    """The mechanism of this name; one that is not known is explained as far as it goes.

    name: ASCII letters in upper case. One such as PLAıN, which only a lenient server takes for PLAIN, is read so, for what
    follows it can be read too.
    """
    lenient = name.upper()
    return next((known for known in MECHANISMS if known.is_called(lenient)), _OTHER)


def mechanism_meaning(name: str) -> str:
    """What a mechanism lets an eavesdropper have."""
    known, lenient = mechanism_called(name), name.upper()
    return _(known.meaning) if known is _OTHER or lenient == name else f"{_(known.meaning)} {not_as_written(lenient)}"


def response(data: bytes, start: int, end: int, mechanism: str, index: int) -> tuple[Span, ...]:
    """Spans for what a client says within AUTH: base64 text at [start, end) of `data`.

    index: 0 for the client's first message of this exchange, whether it came with the command or after a challenge.
    """
    if start == end:
        return ()
    words = data[start:end]
    if words == b"*":
        return (
            Span(start, end, "sasl.cancel", "*", _("The client gives up this AUTH exchange."), "RFC 4954 section 4"),
        )
    if words == b"=":
        meaning = _(
            "An initial response of no octets; it needs a sign, for nothing at all would mean that there is none."
        )
        return (Span(start, end, "sasl.empty", "=", meaning, "RFC 4954 section 4"),)
    return _explained(words, start, mechanism, _response_parser(mechanism, index), "response")


def challenge(data: bytes, start: int, end: int, mechanism: str) -> tuple[Span, ...]:
    """Spans for what a server asks within AUTH: base64 text at [start, end) of `data`."""
    if start == end:
        return ()
    return _explained(data[start:end], start, mechanism, mechanism_called(mechanism).challenge or _opaque, "challenge")


def arguments(tiles: Tiles, stop: int, mechanism: str) -> int:
    """What follows AUTH; the same for POP3. Returns 1 when there is an initial response, else 0."""
    data = tiles.data
    end = word_end(data, tiles.at, stop)
    tiles.add(end, "auth.mechanism", meaning=mechanism_meaning(mechanism))
    separator(tiles, blank_end(data, end, stop), "RFC 4954 section 4")
    if tiles.at == stop:
        return 0
    tiles.extend(response(data, tiles.at, stop, mechanism, 0))
    return 1


def answer(tiles: Tiles, element: Element, index: int) -> None:
    """One line that the client says within AUTH; the same for POP3."""
    inner = Tiles(tiles.data, element.start)
    stop = without_line_end(tiles.data, element.start, element.end)
    inner.extend(response(tiles.data, element.start, stop, element.mechanism, index))
    line_end_span(inner, element.end)
    meaning = _("Step {number} of {mechanism}: the client answers.").format(
        number=index + 1, mechanism=element.mechanism or "AUTH"
    )
    tiles.nest("auth.response", inner.spans, element.mechanism, meaning=meaning)


def question(tiles: Tiles, element: Element, inner: Tiles, source: str) -> None:
    """One line in which the server asks within AUTH; `inner` has what stands before the challenge."""
    stop = without_line_end(tiles.data, element.start, element.end)
    inner.extend(challenge(tiles.data, inner.at, stop, element.mechanism))
    line_end_span(inner, element.end)
    asks = _("Step {number} of {mechanism}: the server asks.")
    meaning = asks.format(number=element.step, mechanism=element.mechanism or "AUTH")
    tiles.nest("auth.challenge", inner.spans, element.mechanism, meaning=meaning, source=source)


def _response_parser(mechanism: str, index: int) -> Parser:
    known = mechanism_called(mechanism).responses
    return known[min(index, len(known) - 1)] if known else _opaque


def _explained(words: bytes, start: int, mechanism: str, parse: Parser, role: str) -> tuple[Span, ...]:
    end = start + len(words)
    decoded, odd = unbase64(words), ""
    if decoded is None:
        decoded, odd = _almost_base64(words), " " + _("It is not quite base64; this is what can be read of it.")
    if decoded is None:
        meaning = _("This should be base64, and is not.")
        return (Span(start, end, "sasl.invalid", text(words), meaning, BASE64),)
    if not decoded:
        return (Span(start, end, f"sasl.{role}", "", _("Nothing, in base64."), BASE64, Visibility.ENCODED),)
    children = _spread(parse(decoded), start, end)
    meaning = (
        _("The client's answer for {mechanism}, in base64.")
        if role == "response"
        else _("The server's challenge for {mechanism}, in base64.")
    ).format(mechanism=mechanism or "SASL")
    return (
        Span(start, end, f"sasl.{role}", text(decoded), meaning + odd, BASE64, hardest_to_read(children), children),
    )


def _spread(parts: list[Part], start: int, end: int) -> tuple[Span, ...]:
    spans = []
    at = start
    for part in parts:
        stop = end if part is parts[-1] else start + part.end * 8 // 6
        spans.append(Span(at, stop, part.field, part.value, part.meaning, part.source, part.visibility))
        at = stop
    return tuple(spans)


def _whole(decoded: bytes, field: str, meaning: str, source: str) -> list[Part]:
    return [Part(0, len(decoded), field, text(decoded), meaning, source)]


def _opaque(decoded: bytes) -> list[Part]:
    return _whole(
        decoded, "sasl.data", _("What the mechanism exchanges, in a form of its own."), "RFC 4422 section 3.4"
    )


def _plain(decoded: bytes) -> list[Part]:
    fields = decoded.split(b"\0")
    if len(fields) != 3:
        return _whole(
            decoded, "sasl.invalid", _("PLAIN wants three parts with a NUL between; this is something else."), PLAIN
        )
    identity, name, password = fields
    first, second = len(identity), len(identity) + 1 + len(name)
    nul = _("A NUL octet, which separates the parts.")
    parts = [
        Part(
            0, first, "sasl.plain.authzid", text(identity), _("Authorization identity: on whose behalf to act."), PLAIN
        ),
        Part(first, first + 1, "sasl.plain.nul", "NUL", nul, PLAIN),
        Part(first + 1, second, "sasl.plain.authcid", text(name), _("Authentication identity: the login name."), PLAIN),
        Part(second, second + 1, "sasl.plain.nul", "NUL", nul, PLAIN),
        Part(second + 1, len(decoded), "sasl.plain.password", text(password), _("The password itself."), PLAIN),
    ]
    return [part for part in parts if part.end > part.start]


def _login_prompt(decoded: bytes) -> list[Part]:
    return _whole(decoded, "sasl.login.prompt", _("The server asks for the next value in words, in base64."), LOGIN)


def _login_name(decoded: bytes) -> list[Part]:
    return _whole(decoded, "sasl.login.name", _("The login name."), LOGIN)


def _login_password(decoded: bytes) -> list[Part]:
    return _whole(decoded, "sasl.login.password", _("The password itself."), LOGIN)


def _cram_challenge(decoded: bytes) -> list[Part]:
    meaning = _("A text that the server never uses twice: the client has to mix it with the password.")
    return _whole(decoded, "sasl.cram.challenge", meaning, CRAM)


def _cram_response(decoded: bytes) -> list[Part]:
    name, space, digest = decoded.rpartition(b" ")
    if not space or not digest:
        return _whole(
            decoded, "sasl.invalid", _("CRAM-MD5 wants a name, a space and a digest; this is something else."), CRAM
        )
    middle = len(name)
    meaning = _(
        "HMAC-MD5 of the challenge with the password as key, in hexadecimal: a guessed password can be checked against it."
    )
    parts = [
        Part(0, middle, "sasl.cram.name", text(name), _("The login name."), CRAM),
        Part(middle, middle + 1, "sasl.cram.space", " ", _("A space between name and digest."), CRAM),
        Part(middle + 1, len(decoded), "sasl.cram.digest", text(digest), meaning, CRAM, Visibility.GUESSABLE),
    ]
    return [part for part in parts if part.end > part.start]


_SCRAM_ATTRIBUTES = {
    b"n": ("sasl.scram.name", "The login name."),
    b"a": ("sasl.scram.authzid", "Authorization identity: on whose behalf to act."),
    b"r": (
        "sasl.scram.nonce",
        "Random characters: the client begins them, the server adds its own, so that no exchange can be replayed.",
    ),
    b"s": ("sasl.scram.salt", "The salt that is mixed with the password, in base64 of its own."),
    b"i": (
        "sasl.scram.iterations",
        "How often the hash is repeated for one password: it makes every guess that much dearer.",
    ),
    b"c": (
        "sasl.scram.binding",
        "The GS2 header again, and channel binding data if there is any, in base64 of its own.",
    ),
    b"p": (
        "sasl.scram.proof",
        "The client's proof that it knows the password: a guessed password can be checked against it.",
    ),
    b"v": ("sasl.scram.verifier", "The server's signature: proof that it knows the account as well."),
    b"e": ("sasl.scram.error", "Why the server refuses."),
    b"m": ("sasl.scram.extension", "An extension that must be understood."),
}


def _scram(decoded: bytes) -> list[Part]:
    parts: list[Part] = []
    at = 0
    tokens = decoded.split(b",")
    first = tokens[0] in (b"n", b"y") or (tokens[0].startswith(b"p=") and len(tokens) > 1)
    for number, token in enumerate(tokens):
        if number:
            meaning = _("A comma between attributes.")
            parts.append(Part(at, at + 1, "sasl.scram.comma", ",", meaning, SCRAM))
            at += 1
        if token:
            parts.append(_scram_token(token, at, gs2=first and number == 0))
            at += len(token)
    return parts


def _scram_token(token: bytes, at: int, *, gs2: bool) -> Part:
    end = at + len(token)
    if gs2:
        meaning = _SCRAM_BINDING[token[:1]]
        return Part(at, end, "sasl.scram.gs2", text(token), _(meaning), "RFC 5802 section 7")
    letter, equals, value = token.partition(b"=")
    known = _SCRAM_ATTRIBUTES.get(letter) if equals else None
    if known is None:
        return Part(at, end, "sasl.scram.other", text(token), _("An attribute that RFC 5802 does not name."), SCRAM)
    field, meaning = known
    if letter in (b"n", b"a"):
        value = value.replace(b"=2C", b",").replace(b"=3D", b"=")
    visibility = Visibility.GUESSABLE if letter in (b"p", b"v") else Visibility.ENCODED
    return Part(at, end, field, text(value), _(meaning), SCRAM, visibility)


_SCRAM_BINDING = {
    b"n": N_("The client does not support binding the login to the TLS channel."),
    b"y": N_("The client could bind the login to the TLS channel, and thinks that the server cannot."),
    b"p": N_("The client binds the login to the TLS channel in this way."),
}


def _bearer(decoded: bytes) -> list[Part]:
    """XOAUTH2 and OAUTHBEARER: key=value pairs, each ended by the octet 01."""
    parts: list[Part] = []
    at = 0
    for number, piece in enumerate(decoded.split(b"\x01")):
        if number:
            parts.append(Part(at, at + 1, "sasl.oauth.separator", "\\x01", _("Octet 01 ends a field."), OAUTHBEARER))
            at += 1
        if piece:
            parts.append(_bearer_field(piece, at))
            at += len(piece)
    return parts


def _bearer_field(piece: bytes, at: int) -> Part:
    end = at + len(piece)
    key, _equals, value = piece.partition(b"=")
    if key == b"user":
        return Part(at, end, "sasl.oauth.name", text(value), _("The login name."), XOAUTH2)
    if key == b"auth":
        meaning = _("The access token: whoever holds it is let in until it expires.")
        return Part(at, end, "sasl.oauth.token", text(value), meaning, "RFC 6750 section 2.1")
    if key in (b"host", b"port"):
        return Part(
            at, end, f"sasl.oauth.{text(key)}", text(value), _("Where the client means to connect to."), OAUTHBEARER
        )
    if piece[:2] in (b"n,", b"y,", b"p="):
        name = piece.split(b",")[1].removeprefix(b"a=") if b"," in piece else b""
        meaning = _("GS2 header: whether the login is bound to the TLS channel, and the login name after a=.")
        return Part(at, end, "sasl.oauth.name", text(name), meaning, "RFC 5801 section 4")
    return Part(at, end, "sasl.oauth.other", text(piece), _("A field that the mechanism does not name."), OAUTHBEARER)


MECHANISMS = (
    Mechanism(
        name="PLAIN",
        gives=Gives.PASSWORD,
        meaning=N_("PLAIN sends the login name and the password, in base64: anybody who sees it can read both."),
        responses=(_plain,),
        names=("sasl.plain.authcid",),
        secrets=("sasl.plain.password",),
    ),
    Mechanism(
        name="LOGIN",
        gives=Gives.PASSWORD,
        meaning=N_(
            "LOGIN sends the login name and then the password, each in base64: anybody who sees it can read both."
        ),
        responses=(_login_name, _login_password),
        challenge=_login_prompt,
        names=("sasl.login.name",),
        secrets=("sasl.login.password",),
    ),
    Mechanism(
        name="XOAUTH2",
        gives=Gives.TOKEN,
        meaning=N_(
            "XOAUTH2 sends an access token instead of a password, in base64: who sees it can use it until it expires."
        ),
        responses=(_bearer,),
        names=("sasl.oauth.name",),
        secrets=("sasl.oauth.token",),
    ),
    Mechanism(
        name="OAUTHBEARER",
        gives=Gives.TOKEN,
        meaning=N_("OAUTHBEARER sends an access token instead of a password: who sees it can use it until it expires."),
        responses=(_bearer,),
        names=("sasl.oauth.name",),
        secrets=("sasl.oauth.token",),
    ),
    Mechanism(
        name="CRAM-MD5",
        gives=Gives.DIGEST,
        meaning=N_("CRAM-MD5 sends no password, but a digest of it: who sees it can try passwords offline."),
        responses=(_cram_response,),
        challenge=_cram_challenge,
        names=("sasl.cram.name",),
        secrets=("sasl.cram.digest",),
    ),
    Mechanism(
        name="SCRAM-",
        gives=Gives.DIGEST,
        meaning=N_(
            "SCRAM sends a proof instead of the password: who sees it can try passwords offline, each at a set cost."
        ),
        responses=(_scram,),
        challenge=_scram,
        names=("sasl.scram.name",),
        secrets=("sasl.scram.proof",),
    ),
    Mechanism(
        name="DIGEST-MD5",
        gives=Gives.DIGEST,
        meaning=N_("DIGEST-MD5 sends no password, but a digest of it: who sees it can try passwords offline."),
    ),
    Mechanism(
        name="EXTERNAL",
        gives=Gives.NOTHING,
        meaning=N_("EXTERNAL relies on something outside SASL, such as a TLS client certificate."),
    ),
    Mechanism(
        name="ANONYMOUS", gives=Gives.NOTHING, meaning=N_("ANONYMOUS asks for access without proving an identity.")
    ),
    Mechanism(name="GSSAPI", gives=Gives.NOTHING, meaning=N_("GSSAPI carries Kerberos tickets.")),
    Mechanism(
        name="NTLM",
        gives=Gives.DIGEST,
        meaning=N_(
            "NTLM is a challenge and a response computed from the password: who sees them can try passwords offline."
        ),
    ),
)
_OTHER = Mechanism(name="", meaning=N_("A SASL mechanism: the way of proving who the client is."))
FACTS = {
    Fact.LOGIN_NAME: tuple(field for mechanism in MECHANISMS for field in mechanism.names),
    Fact.PASSWORD: tuple(field for mechanism in MECHANISMS for field in mechanism.secrets),
}
