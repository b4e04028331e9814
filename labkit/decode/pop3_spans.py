"""The spans of a POP3 session: what each octet of the elements that `pop3` cut means (RFC 1939 and its extensions)."""

import re

from labkit.decode import lines, sasl
from labkit.decode.fields import text
from labkit.decode.lines import Element, ElementKind
from labkit.decode.meanings import is_known, meaning_of
from labkit.decode.message import content, stuffing
from labkit.decode.spans import Span, Tiles, Visibility
from labkit.texts import _

VERBS = {"USER", "PASS", "APOP", "AUTH", "STAT", "LIST", "RETR", "DELE", "NOOP", "RSET", "QUIT", "TOP", "UIDL", "CAPA"}
VERBS |= {"STLS", "UTF8", "LANG", "LAST"}
_RESPONSE_CODE = re.compile(rb"\[([^\]\r\n]+)\]")
_TIMESTAMP = re.compile(rb"<[^<>\r\n]+>")
_OCTETS = re.compile(rb"[ \t]*(\d+)(?= octets)")
_NUMBERED = {"LIST": "size", "UIDL": "uid"}  # what stands after the number of a message
_SYNTAX = "RFC 1939 section 3"


def spans(client: bytes, server: bytes, reading: lines.Reading) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Spans for both streams, up to where TLS takes over; `reading` is what `scan` made of the same streams."""
    return _client_spans(client, reading.client), _server_spans(server, reading.server)


# --- the client ------------------------------------------------------------------------------------------------------


def _client_spans(data: bytes, elements: list[Element]) -> tuple[Span, ...]:
    tiles = Tiles(data, 0)
    initial = 0  # whether the AUTH command itself carried the first message of the exchange
    for element in elements:
        if element.kind is ElementKind.COMMAND:
            initial = _command(tiles, element)
        elif element.kind is ElementKind.RESPONSE:
            sasl.answer(tiles, element, element.step - 1 + initial)
        else:
            lines.fragment(tiles, element)
    return tuple(tiles.spans)


def _command(tiles: Tiles, element: Element) -> int:
    """A command line; returns 1 when it carried an initial response of AUTH, else 0."""
    data, field = tiles.data, f"pop3.{element.about.lower() if element.about in VERBS else 'unknown'}"
    stop = lines.without_line_end(data, element.start, element.end)
    inner = Tiles(data, element.start)
    inner.add(lines.blank_end(data, element.start, stop), "space", meaning=_("White space."), source=_SYNTAX)
    lines.verb_span(inner, lines.word_end(data, inner.at, stop), f"{field}.verb", element.about)
    single = data.startswith(b" ", inner.at)  # a password may begin with spaces (RFC 1939 section 7)
    lines.separator(inner, inner.at + 1 if single else lines.blank_end(data, inner.at, stop), _SYNTAX)
    initial = 0
    if element.about == "AUTH" and inner.at < stop:
        initial = sasl.arguments(inner, stop, element.mechanism)
    elif arguments := _ARGUMENTS.get(element.about):
        arguments(inner, stop, field)
    inner.add(stop, f"{field}.argument", meaning=_("What the command is about."))
    lines.line_end_span(inner, element.end)
    tiles.nest(field, inner.spans, text(data[element.start : stop]))
    return initial


def _user(tiles: Tiles, stop: int, _field: str) -> None:
    tiles.add(stop, "pop3.user.name")


def _pass(tiles: Tiles, stop: int, _field: str) -> None:
    tiles.add(stop, "pop3.pass.password")


def _apop(tiles: Tiles, stop: int, _field: str) -> None:
    space = tiles.data.rfind(b" ", tiles.at, stop)
    if space > tiles.at:
        tiles.add(space, "pop3.apop.name")
        tiles.add(space + 1, "space", source=_SYNTAX)
        tiles.add(stop, "pop3.apop.digest", visibility=Visibility.GUESSABLE)
    tiles.add(stop, "pop3.apop.invalid")


def _number(tiles: Tiles, stop: int, field: str) -> None:
    meaning = _("The number of a message in this session.")
    tiles.add(lines.word_end(tiles.data, tiles.at, stop), f"{field}.number", meaning=meaning)
    tiles.add(lines.blank_end(tiles.data, tiles.at, stop), "space", source=_SYNTAX)


def _top(tiles: Tiles, stop: int, field: str) -> None:
    _number(tiles, stop, field)
    _values(tiles, stop, f"{field}.lines")


_ARGUMENTS = {"USER": _user, "PASS": _pass, "APOP": _apop, "TOP": _top}
_ARGUMENTS |= dict.fromkeys(("LIST", "RETR", "DELE", "UIDL"), _number)


# --- the server ------------------------------------------------------------------------------------------------------


def _server_spans(data: bytes, elements: list[Element]) -> tuple[Span, ...]:
    tiles = Tiles(data, 0)
    for number, element in enumerate(elements):
        follows = elements[number + 1] if number + 1 < len(elements) else None
        if element.kind is ElementKind.CHALLENGE:
            start = Tiles(data, element.start)
            start.add(
                element.start + 1, "pop3.status", meaning=_("A plus: go on with AUTH."), source="RFC 5034 section 4"
            )
            space = min(start.at + 1, lines.without_line_end(data, element.start, element.end))
            start.add(space, "space", source="RFC 5034 section 4")
            sasl.question(tiles, element, start, "RFC 5034 section 4")
        elif element.kind is ElementKind.CONTENT:
            stop = lines.terminator_start(data, element.start, element.end)
            field = "pop3.excerpt" if element.about == "TOP" else "pop3.content"
            tiles.nest(field, content(data, element.start, element.end, stop))
        elif element.kind is ElementKind.LISTING:
            _listing(tiles, element)
        elif element.kind is ElementKind.FRAGMENT:
            lines.fragment(tiles, element)
        else:
            _status(tiles, element, follows)
    return tuple(tiles.spans)


def _status(tiles: Tiles, element: Element, follows: Element | None) -> None:
    data = tiles.data
    stop = lines.without_line_end(data, element.start, element.end)
    inner = Tiles(data, element.start)
    meaning = "" if element.code == "+OK" else _("Negative: the server refuses.")
    inner.add(element.start + len(element.code), "pop3.status", meaning=meaning)
    inner.add(lines.blank_end(data, inner.at, stop), "space", source=_SYNTAX)
    if element.kind is ElementKind.GREETING:
        _greeting(inner, stop)
    elif element.code == "+OK":
        _answer(inner, stop, element, follows)
    if code := _RESPONSE_CODE.match(data, inner.at, stop):
        key = text(code.group(1)).lower()
        told = meaning_of(
            f"pop3.response-code.{key if is_known(f'pop3.response-code.{key}') else key.partition('/')[0]}"
        )
        inner.add(code.end(), "pop3.response-code", meaning=told.sentence, source=told.source)
    inner.add(stop, "pop3.text")
    lines.line_end_span(inner, element.end)
    field = "pop3.greeting" if element.kind is ElementKind.GREETING else "pop3.response"
    tiles.nest(field, inner.spans, element.code, meaning=meaning)


def _greeting(tiles: Tiles, stop: int) -> None:
    found = list(_TIMESTAMP.finditer(tiles.data, tiles.at, stop))
    if found:
        tiles.add(found[-1].start(), "pop3.text", source="RFC 1939 section 4")
        tiles.add(found[-1].end(), "pop3.greeting.timestamp")


def _answer(tiles: Tiles, stop: int, element: Element, follows: Element | None) -> None:
    """The values that an +OK carries before its words: counts and sizes."""
    field = f"pop3.{element.about.lower()}"
    if element.about == "STAT":
        _values(tiles, stop, "pop3.stat.count", "pop3.stat.size")
    elif element.about in _NUMBERED and (follows is None or follows.kind is not ElementKind.LISTING):
        _values(tiles, stop, f"{field}.number", f"{field}.{_NUMBERED[element.about]}", source="RFC 1939 section 5")
    elif element.about in ("RETR", "TOP") and (announced := _OCTETS.match(tiles.data, tiles.at, stop)):
        meaning = _octets_meaning(tiles.data, int(announced.group(1)[:20]), element.about, follows)
        tiles.add(announced.end(), f"{field}.octets", meaning=meaning, source="RFC 1939 section 5")


def _octets_meaning(data: bytes, announced: int, verb: str, follows: Element | None) -> str:
    """What the server announced beside what came: without the terminator and without stuffed dots (RFC 1939 section 11)."""
    if verb == "TOP":
        return _("A number of octets: whether of the whole message or of what follows, only the server knows.")
    if follows is None or follows.kind is not ElementKind.CONTENT:
        return _("The size of the message in octets, as the server announces.")
    stop = lines.terminator_start(data, follows.start, follows.end)
    came = stop - follows.start - stuffing(data, follows.start, stop)
    if stop == follows.end:
        sentence = _(
            "The size of the message in octets, as the server announces; {came} were captured, and not the end."
        )
    elif came == announced:
        sentence = _("The size of the message in octets, as the server announces; exactly {came} came.")
    else:
        sentence = _("The size of the message in octets, as the server announces; {came} came.")
    return sentence.format(came=came)


def _values(tiles: Tiles, stop: int, *fields: str, source: str = "") -> None:
    for field in fields:
        tiles.add(lines.word_end(tiles.data, tiles.at, stop), field, source=source)
        tiles.add(lines.blank_end(tiles.data, tiles.at, stop), "space", source=_SYNTAX)


def _listing(tiles: Tiles, element: Element) -> None:
    data = tiles.data
    inner = Tiles(data, element.start)
    stop = lines.terminator_start(data, element.start, element.end)
    for start, end in lines.cut(data, element.start, stop):
        line = Tiles(data, start)
        line_stop = lines.without_line_end(data, start, end)
        if element.about == "CAPA":
            _capability(line, line_stop)
        elif element.about == "AUTH":
            meaning = sasl.mechanism_meaning(lines.upper(data[start:line_stop]))
            line.add(line_stop, "pop3.auth.mechanism", meaning=meaning)
        elif element.about in _NUMBERED:
            field = f"pop3.{element.about.lower()}"
            _values(line, line_stop, f"{field}.number", f"{field}.{_NUMBERED[element.about]}")
        elif element.about == "LANG":
            _values(line, line_stop, "pop3.lang.language")
            line.add(line_stop, "pop3.lang.name")
        line.add(line_stop, "pop3.listing.text")
        lines.line_end_span(line, end)
        inner.nest("pop3.listing.line", line.spans, text(data[start:line_stop]))
    inner.add(element.end, "pop3.terminator", ".")
    tiles.nest("pop3.listing", inner.spans, element.about)


def _capability(line: Tiles, stop: int) -> None:
    data = line.data
    end = lines.word_end(data, line.at, stop)
    key = lines.upper(data[line.at : end])
    field = f"pop3.capa.{key.lower()}"
    field = field if is_known(field) else "pop3.capa.other"
    line.add(end, field)
    while line.at < stop:
        line.add(lines.blank_end(data, line.at, stop), "space", source="RFC 2449 section 5")
        end = lines.word_end(data, line.at, stop)
        meaning = sasl.mechanism_meaning(lines.upper(data[line.at : end])) if key == "SASL" else ""
        line.add(end, f"{field}.parameter", meaning=meaning)
