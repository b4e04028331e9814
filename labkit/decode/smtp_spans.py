"""The spans of an SMTP session: what each octet of the elements that `smtp` cut means (RFC 5321 and its extensions)."""

import re
from functools import lru_cache

from labkit.decode import lines, sasl
from labkit.decode.fields import octets, text
from labkit.decode.lines import Element, ElementKind
from labkit.decode.meanings import Meaning, is_known, meaning_of
from labkit.decode.message import content, message
from labkit.decode.spans import Span, Tiles, window
from labkit.texts import _

VERBS = {"EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "VRFY", "EXPN", "HELP", "NOOP", "QUIT", "STARTTLS"}
VERBS |= {"AUTH", "ETRN", "TURN", "SEND", "SOML", "SAML"}
_SYNTAX = "RFC 5321 section 4.1.1"
_PATH = re.compile(rb"(?i)(FROM:|TO:)([ \t]*)(<(?:\"(?:[^\"\\]|\\.)*\"|[^<>\"])*>|[^ \t<>]+)?")
_KEYWORD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*")
_ENHANCED = re.compile(rb"([245])\.(\d{1,3})\.(\d{1,3})(?=[ \r\n]|\Z)")


def spans(client: bytes, server: bytes, reading: lines.Reading) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Spans for both streams, up to where TLS takes over; `reading` is what `scan` made of the same streams."""
    return _client_spans(client, reading.client), _server_spans(server, reading.server)


# --- the client ------------------------------------------------------------------------------------------------------


def _client_spans(data: bytes, elements: list[Element]) -> tuple[Span, ...]:
    tiles = Tiles(data, 0)
    initial = 0  # whether the AUTH command itself carried the first message of the exchange
    bodies = _chunked(data, elements)
    for number, element in enumerate(elements):
        if element.kind is ElementKind.COMMAND:
            initial = _command(tiles, element)
        elif element.kind is ElementKind.RESPONSE:
            sasl.answer(tiles, element, element.step - 1 + initial)
        elif element.kind is ElementKind.CONTENT:
            stop = lines.terminator_start(data, element.start, element.end)
            tiles.nest("smtp.content", content(data, element.start, element.end, stop))
        elif element.kind is ElementKind.CHUNK:
            meaning = _("A chunk of the message: {size}.").format(size=octets(element.end - element.start))
            tiles.nest("smtp.chunk", bodies[number], meaning=meaning)
        else:
            lines.fragment(tiles, element)
    return tuple(tiles.spans)


def _chunked(data: bytes, elements: list[Element]) -> dict[int, tuple[Span, ...]]:
    """For each chunk, its part of the spans of the message that the chunks make together."""
    found: dict[int, tuple[Span, ...]] = {}
    together: list[int] = []
    for number, element in enumerate(elements):
        if element.kind is ElementKind.CHUNK:
            together.append(number)
        last = element.about == "BDAT" and element.kind is ElementKind.CHUNK and _is_last(data, elements[number - 1])
        if together and (last or number == len(elements) - 1 or element.about not in ("BDAT", "")):
            found.update(_one_message(data, elements, together))
            together = []
    return found


def _is_last(data: bytes, command: Element) -> bool:
    words = data[command.start : command.end].split()
    return len(words) > 2 and words[2].upper() == b"LAST"


def _one_message(data: bytes, elements: list[Element], chunks: list[int]) -> dict[int, tuple[Span, ...]]:
    whole = b"".join(data[elements[number].start : elements[number].end] for number in chunks)
    explained = message(whole, 0, len(whole))
    found = {}
    at = 0
    for number in chunks:
        element = elements[number]
        size = element.end - element.start
        found[number] = window(explained, at, at + size, element.start - at)
        at += size
    return found


def _command(tiles: Tiles, element: Element) -> int:
    """A command line; returns 1 when it carried an initial response of AUTH, else 0."""
    data, field = tiles.data, f"smtp.{element.about.lower() if element.about in VERBS else 'unknown'}"
    stop = lines.without_line_end(data, element.start, element.end)
    inner = Tiles(data, element.start)
    inner.add(lines.blank_end(data, element.start, stop), "space", meaning=_("White space."), source=_SYNTAX)
    lines.verb_span(inner, lines.word_end(data, inner.at, stop), f"{field}.verb", element.about)
    lines.separator(inner, lines.blank_end(data, inner.at, stop), _SYNTAX)
    initial = 0
    if element.about == "AUTH" and inner.at < stop:
        initial = sasl.arguments(inner, stop, element.mechanism)
    elif arguments := _ARGUMENTS.get(element.about):
        arguments(inner, stop)
    inner.add(stop, f"{field}.argument", meaning=_("What the command is about."))
    lines.line_end_span(inner, element.end)
    tiles.nest(field, inner.spans, text(data[element.start : stop]))
    return initial


def _hello(tiles: Tiles, stop: int) -> None:
    tiles.add(lines.word_end(tiles.data, tiles.at, stop), "smtp.ehlo.client")
    tiles.add(stop, "smtp.ehlo.rest")


def _mail(tiles: Tiles, stop: int) -> None:
    _path(tiles, stop, "smtp.mail.sender")


def _recipient(tiles: Tiles, stop: int) -> None:
    _path(tiles, stop, "smtp.rcpt.recipient")


def _path(tiles: Tiles, stop: int, field: str) -> None:
    data = tiles.data
    found = _PATH.match(data, tiles.at, stop)
    if not found:
        tiles.add(stop, f"{field}.invalid")
        return
    tiles.add(found.end(1), f"{field}.keyword")
    misplaced = _("White space, which the command does not allow here.")
    tiles.add(found.end(2), "space", meaning=misplaced, source=meaning_of(field).source)
    if found.group(3):
        _address(tiles, found.end(3), field)
    while tiles.at < stop:
        lines.separator(tiles, lines.blank_end(data, tiles.at, stop), _SYNTAX)
        if tiles.at < stop:
            _parameter(tiles, lines.word_end(data, tiles.at, stop))


def _address(tiles: Tiles, end: int, field: str) -> None:
    path = tiles.data[tiles.at : end]
    bare = path[1:-1] if path.startswith(b"<") else path
    if path == b"<>":
        meaning = _("The empty sender: a notice, to which no failure notice may be sent.")
        tiles.add(end, field, "<>", meaning=meaning, source="RFC 5321 section 4.5.5")
        return
    if path == bare:
        tiles.add(end, field)
        return
    inner = Tiles(tiles.data, tiles.at)
    inner.add(inner.at + 1, f"{field}.open")
    if bare.startswith(b"@") and b":" in bare:
        inner.add(inner.at + bare.index(b":") + 1, f"{field}.route")
    if bare.rfind(b"@") > 0:
        at = tiles.at + 1 + bare.rfind(b"@")
        inner.add(at, f"{field}.local-part")
        inner.add(at + 1, f"{field}.at")
        inner.add(end - 1, f"{field}.domain")
    else:
        inner.add(end - 1, f"{field}.local-part", meaning=_("A mailbox without a domain."))
    inner.add(end, f"{field}.close")
    tiles.nest(field, inner.spans, text(bare))


def _parameter(tiles: Tiles, end: int) -> None:
    data, start = tiles.data, tiles.at
    equals = data.find(b"=", start, end)
    key_end = equals if equals >= 0 else end
    field = f"smtp.parameter.{text(data[start:key_end].lower())}"
    field = field if is_known(field) else "smtp.parameter.other"
    inner = Tiles(data, start)
    inner.add(key_end, f"{field}.name")
    if equals >= 0:
        inner.add(equals + 1, f"{field}.equals")
        inner.add(end, f"{field}.value")
    tiles.nest(field, inner.spans, text(data[key_end + 1 : end]))


def _chunk_size(tiles: Tiles, stop: int) -> None:
    tiles.add(lines.word_end(tiles.data, tiles.at, stop), "smtp.bdat.size")
    lines.separator(tiles, lines.blank_end(tiles.data, tiles.at, stop), _SYNTAX)
    tiles.add(stop, "smtp.bdat.last")


_ARGUMENTS = {"EHLO": _hello, "HELO": _hello, "MAIL": _mail, "RCPT": _recipient, "BDAT": _chunk_size}


# --- the server ------------------------------------------------------------------------------------------------------


def _server_spans(data: bytes, elements: list[Element]) -> tuple[Span, ...]:
    tiles = Tiles(data, 0)
    for element in elements:
        if element.kind is ElementKind.CHALLENGE:
            start = Tiles(data, element.start)
            start.add(element.start + 3, "smtp.code", meaning=_code("334").sentence, source=_code("334").source)
            start.add(min(start.at + 1, lines.without_line_end(data, element.start, element.end)), "smtp.separator")
            sasl.question(tiles, element, start, "RFC 4954 section 4")
        elif element.kind is ElementKind.FRAGMENT:
            lines.fragment(tiles, element)
        else:
            _reply(tiles, element)
    return tuple(tiles.spans)


def _reply(tiles: Tiles, element: Element) -> None:
    each = [
        _reply_line(tiles.data, *line, element, number=number)
        for number, line in enumerate(lines.cut(tiles.data, element.start, element.end))
    ]
    inner = Tiles(tiles.data, element.start)
    for line in each:
        inner.nest("smtp.reply.line", line)
    field = "smtp.greeting" if element.kind is ElementKind.GREETING else "smtp.reply"
    whole = each[0] if len(each) == 1 else inner.spans
    tiles.nest(field, whole, element.code, meaning=_code(element.code).sentence, source=_code(element.code).source)


@lru_cache(maxsize=1024)
def _code(code: str) -> Meaning:
    """What a reply's code means; where nobody says, what its first digit means."""
    return meaning_of(f"smtp.code.{code if is_known(f'smtp.code.{code}') else code[:1]}")


def _reply_line(data: bytes, start: int, end: int, element: Element, *, number: int) -> list[Span]:
    stop = lines.without_line_end(data, start, end)
    tiles = Tiles(data, start)
    meaning, source = _code(element.code)
    tiles.add(min(start + 3, stop), "smtp.code", meaning=meaning, source=source)
    more = _("A hyphen: more lines of this reply follow.") if data.startswith(b"-", tiles.at) else ""
    tiles.add(min(tiles.at + 1, stop), "smtp.separator", meaning=more)
    if element.kind is ElementKind.GREETING and number == 0:
        _server_name(tiles, stop, "smtp.greeting.server")
    elif element.about in ("EHLO", "HELO") and element.code == "250":
        if number == 0:
            _server_name(tiles, stop, "smtp.ehlo.server")
        else:
            _extension(tiles, stop)
    else:
        _enhanced(tiles, stop, element.code)
    tiles.add(stop, "smtp.reply.text")
    lines.line_end_span(tiles, end)
    return tiles.spans


def _server_name(tiles: Tiles, stop: int, field: str) -> None:
    tiles.add(lines.word_end(tiles.data, tiles.at, stop), field)
    tiles.add(lines.blank_end(tiles.data, tiles.at, stop), "space", source=_SYNTAX)


def _extension(tiles: Tiles, stop: int) -> None:
    data = tiles.data
    found = _KEYWORD.match(data, tiles.at, stop)
    if not found:
        return
    key = lines.upper(found.group())
    name = key.lower() if is_known(f"smtp.extension.{key.lower()}") else "other"
    field, (meaning, source) = f"smtp.ehlo.{name}", meaning_of(f"smtp.extension.{name}")
    inner = Tiles(data, tiles.at)
    inner.add(found.end(), f"{field}.keyword", meaning=meaning, source=source)
    while inner.at < stop:
        between = _("What separates keyword and parameters.")
        inner.add(inner.at + 1, "space", meaning=between, source="RFC 5321 section 4.1.1.1")
        end = lines.word_end(data, inner.at, stop)
        about = sasl.mechanism_meaning(lines.upper(data[inner.at : end])) if key == "AUTH" else meaning
        inner.add(end, f"{field}.parameter", meaning=about, source=source)
    tiles.nest(field, inner.spans, text(data[tiles.at : stop]), meaning=meaning, source=source)


def _enhanced(tiles: Tiles, stop: int, code: str) -> None:
    found = _ENHANCED.match(tiles.data, tiles.at, stop)
    if not found or text(found.group(1)) != code[:1]:
        return
    subject = meaning_of(f"smtp.enhanced.{text(found.group(2))}.{text(found.group(3))}").sentence
    subject = subject or _("a subject that RFC 3463 does not name")
    meaning = _("Enhanced status code: {kind} About: {subject}.").format(kind=_code(code[:1]).sentence, subject=subject)
    tiles.add(found.end(), "smtp.enhanced", meaning=meaning)
    tiles.add(lines.blank_end(tiles.data, tiles.at, stop), "space", source=_SYNTAX)
