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
from labkit.decode.meanings import is_known, meaning_of
from labkit.decode.protocol import Fact
from labkit.decode.spans import Span, Tiles, Visibility, hardest_to_read
from labkit.texts import _


class Part(NamedTuple):
    """The next decoded octets, and what they are. value: their text unless another is given."""

    octets: bytes
    field: str
    value: str | None = None
    visibility: Visibility = Visibility.ENCODED
    meaning: str = ""  # where the table's does not do


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
    """A way of proving who one is, as it looks on the wire. What that means stands in the table of meanings.

    name: as in AUTH; one that ends with a hyphen is a family. gives: what an eavesdropper has of it.
    responses: how to read the client's messages, the last for all that follow. challenge: how to read the server's.
    login_name, proof: the fields that hold the login name and the proof.
    """

    name: str
    gives: Gives = Gives.UNKNOWN
    responses: tuple[Parser, ...] = ()
    challenge: Parser | None = None
    login_name: str = ""
    proof: str = ""

    def is_called(self, name: str) -> bool:
        """Whether this is the mechanism of that name, in upper case."""
        return name.startswith(self.name) if self.name.endswith("-") else name == self.name


def mechanism_called(name: str) -> Mechanism:
    """The mechanism of this name; one that is not known is explained as far as it goes.

    A name such as PLAıN, which only a lenient server takes for PLAIN, is read so: what follows it can be read, too.
    """
    return next((known for known in MECHANISMS if known.is_called(name.upper())), Mechanism(name=name))


def mechanism_meaning(name: str) -> str:
    """What a mechanism lets an eavesdropper have. name: its ASCII letters in upper case."""
    lenient = name.upper()
    row = f"sasl.mechanism.{'scram' if lenient.startswith('SCRAM-') else lenient.lower()}"
    meaning = meaning_of(row).sentence
    return meaning if name == lenient or not is_known(row) else f"{meaning} {not_as_written(lenient)}"


def response(data: bytes, start: int, end: int, mechanism: str, index: int) -> tuple[Span, ...]:
    """Spans for what a client says within AUTH: base64 text at [start, end) of `data`.

    index: 0 for the client's first message of this exchange, whether it came with the command or after a challenge.
    """
    if start == end:
        return ()
    words = data[start:end]
    if words == b"*":
        return (Span(start, end, "sasl.cancel", "*", *meaning_of("sasl.cancel")),)
    if words == b"=":
        return (Span(start, end, "sasl.empty", "=", *meaning_of("sasl.empty")),)
    known = mechanism_called(mechanism).responses
    parse = known[min(index, len(known) - 1)] if known else _opaque
    return _explained(words, start, mechanism, parse, "sasl.response")


def challenge(data: bytes, start: int, end: int, mechanism: str) -> tuple[Span, ...]:
    """Spans for what a server asks within AUTH: base64 text at [start, end) of `data`."""
    if start == end:
        return ()
    return _explained(
        data[start:end], start, mechanism, mechanism_called(mechanism).challenge or _opaque, "sasl.challenge"
    )


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


def _explained(words: bytes, start: int, mechanism: str, parse: Parser, field: str) -> tuple[Span, ...]:
    end = start + len(words)
    meaning, source = meaning_of(field)
    meaning = meaning.format(mechanism=mechanism or "SASL")
    decoded = unbase64(words)
    if decoded is None:
        decoded = _almost_base64(words)
        lenient = _("It is not quite base64; this is what can be read of it.")
        meaning = f"{meaning} {lenient}"
    if decoded is None:
        return (Span(start, end, "sasl.invalid", text(words), *meaning_of("sasl.invalid")),)
    if not decoded:
        return (Span(start, end, field, "", _("Nothing, in base64."), source, Visibility.ENCODED),)
    children = _spread([part for part in parse(decoded) if part.octets], start, end)
    return (Span(start, end, field, text(decoded), meaning, source, hardest_to_read(children), children),)


def _spread(parts: list[Part], start: int, end: int) -> tuple[Span, ...]:
    """Each part over the characters whose first bits are its own."""
    spans = []
    at, count = start, 0
    for number, part in enumerate(parts, 1):
        count += len(part.octets)
        stop = end if number == len(parts) else start + count * 8 // 6
        meaning, source = meaning_of(part.field)
        value = text(part.octets) if part.value is None else part.value
        spans.append(Span(at, stop, part.field, value, part.meaning or meaning, source, part.visibility))
        at = stop
    return tuple(spans)


# --- the mechanisms --------------------------------------------------------------------------------------------------


def _whole(field: str) -> Parser:
    return lambda decoded: [Part(decoded, field)]


_opaque = _whole("sasl.data")


def _plain(decoded: bytes) -> list[Part]:
    fields = decoded.split(b"\0")
    if len(fields) != 3:
        return [Part(decoded, "sasl.plain.invalid")]
    identity, name, password = fields
    nul = Part(b"\0", "sasl.plain.nul", "NUL")
    return [
        Part(identity, "sasl.plain.authzid"),
        nul,
        Part(name, "sasl.plain.authcid"),
        nul,
        Part(password, "sasl.plain.password"),
    ]


def _cram_response(decoded: bytes) -> list[Part]:
    name, space, digest = decoded.rpartition(b" ")
    if not space or not digest:
        return [Part(decoded, "sasl.cram.invalid")]
    return [
        Part(name, "sasl.cram.name"),
        Part(space, "sasl.cram.space"),
        Part(digest, "sasl.cram.digest", visibility=Visibility.GUESSABLE),
    ]


_SCRAM_ATTRIBUTES = {
    b"n": "name",
    b"a": "authzid",
    b"r": "nonce",
    b"s": "salt",
    b"i": "iterations",
    b"c": "binding",
    b"p": "proof",
    b"v": "verifier",
    b"e": "error",
    b"m": "extension",
}


def _scram(decoded: bytes) -> list[Part]:
    parts: list[Part] = []
    tokens = decoded.split(b",")
    bound = tokens[0] in (b"n", b"y") or (tokens[0].startswith(b"p=") and len(tokens) > 1)
    for number, token in enumerate(tokens):
        if number:
            parts.append(Part(b",", "sasl.scram.comma"))
        parts.append(_scram_binding(token) if bound and number == 0 else _scram_attribute(token))
    return parts


def _scram_binding(token: bytes) -> Part:
    return Part(token, "sasl.scram.gs2", meaning=meaning_of(f"sasl.scram.gs2.{text(token[:1])}").sentence)


def _scram_attribute(token: bytes) -> Part:
    letter, equals, value = token.partition(b"=")
    field = _SCRAM_ATTRIBUTES.get(letter, "") if equals else ""
    if not field:
        return Part(token, "sasl.scram.other")
    if letter in (b"n", b"a"):
        value = value.replace(b"=2C", b",").replace(b"=3D", b"=")
    visibility = Visibility.GUESSABLE if letter in (b"p", b"v") else Visibility.ENCODED
    return Part(token, f"sasl.scram.{field}", text(value), visibility)


def _bearer(decoded: bytes) -> list[Part]:
    """XOAUTH2 and OAUTHBEARER: key=value pairs, each ended by the octet 01."""
    parts: list[Part] = []
    for number, piece in enumerate(decoded.split(b"\x01")):
        if number:
            parts.append(Part(b"\x01", "sasl.oauth.separator", "\\x01"))
        parts.append(_bearer_field(piece))
    return parts


def _bearer_field(piece: bytes) -> Part:
    key, _equals, value = piece.partition(b"=")
    field = {b"user": "name", b"auth": "token", b"host": "host", b"port": "port"}.get(key)
    if field:
        return Part(piece, f"sasl.oauth.{field}", text(value))
    if piece[:2] in (b"n,", b"y,", b"p="):
        name = piece.split(b",")[1].removeprefix(b"a=") if b"," in piece else b""
        return Part(piece, "sasl.oauth.name", text(name), meaning=meaning_of("sasl.oauth.gs2").sentence)
    return Part(piece, "sasl.oauth.other")


MECHANISMS = (
    Mechanism(
        name="PLAIN",
        gives=Gives.PASSWORD,
        responses=(_plain,),
        login_name="sasl.plain.authcid",
        proof="sasl.plain.password",
    ),
    Mechanism(
        name="LOGIN",
        gives=Gives.PASSWORD,
        responses=(_whole("sasl.login.name"), _whole("sasl.login.password")),
        challenge=_whole("sasl.login.prompt"),
        login_name="sasl.login.name",
        proof="sasl.login.password",
    ),
    Mechanism(
        name="XOAUTH2", gives=Gives.TOKEN, responses=(_bearer,), login_name="sasl.oauth.name", proof="sasl.oauth.token"
    ),
    Mechanism(
        name="OAUTHBEARER",
        gives=Gives.TOKEN,
        responses=(_bearer,),
        login_name="sasl.oauth.name",
        proof="sasl.oauth.token",
    ),
    Mechanism(
        name="CRAM-MD5",
        gives=Gives.DIGEST,
        responses=(_cram_response,),
        challenge=_whole("sasl.cram.challenge"),
        login_name="sasl.cram.name",
        proof="sasl.cram.digest",
    ),
    Mechanism(
        name="SCRAM-",
        gives=Gives.DIGEST,
        responses=(_scram,),
        challenge=_scram,
        login_name="sasl.scram.name",
        proof="sasl.scram.proof",
    ),
    Mechanism(name="DIGEST-MD5", gives=Gives.DIGEST),
    Mechanism(name="NTLM", gives=Gives.DIGEST),
    Mechanism(name="EXTERNAL", gives=Gives.NOTHING),
    Mechanism(name="ANONYMOUS", gives=Gives.NOTHING),
    Mechanism(name="GSSAPI", gives=Gives.NOTHING),
)
FACTS = {
    Fact.LOGIN_NAME: tuple(mechanism.login_name for mechanism in MECHANISMS if mechanism.login_name),
    Fact.PASSWORD: tuple(mechanism.proof for mechanism in MECHANISMS if mechanism.proof),
}
