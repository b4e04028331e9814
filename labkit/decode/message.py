"""A mail message on the wire: headers, MIME parts, encodings, attachments, dot-stuffing (RFC 5322, RFC 2045 to 2049).

A message is explained where it lies in the stream. Only when dots were stuffed in front of lines is it first read without
them and then laid back over the stream, each stuffed dot becoming a span of its own at the place where it stands.
"""

import binascii
import codecs
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from labkit.decode.fields import octets, text
from labkit.decode.lines import line_end, without_line_end
from labkit.decode.meanings import is_known, meaning_of
from labkit.decode.protocol import Fact, Measured
from labkit.decode.spans import Span, Tiles, Visibility
from labkit.texts import _

FACTS = {
    Fact.SENDER: ("message.from",),
    Fact.RECIPIENTS: ("message.to",),
    Fact.SUBJECT: ("message.subject",),
    Fact.TEXT: ("message.text", "message.html"),
    Fact.ATTACHMENT: ("message.attachment", "message.attached"),
}
DEEPEST = 32  # a message nested deeper than this is explained no further

_STUFFED = re.compile(rb"(?:\A|(?<=\n))\.(?!\r?\n|\Z)")
_BOUNDARY_TAIL = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")
_ENCODED_WORD = re.compile(rb"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\s]*)\?=")
_BETWEEN_WORDS = re.compile(rb"(\?=)[ \t\r\n]+(?==\?[^?\s]+\?[bBqQ]\?[^?\s]*\?=)")
_HEADER_NAME = re.compile(rb"([!-9;-~]+)([ \t]*:[ \t]*)")
_PARAMETER = re.compile(rb';[ \t\r\n]*([^\s=;"]+)[ \t]*=[ \t\r\n]*("(?:[^"\\]|\\.)*"|[^;\s]*)[ \t\r\n]*')
_NOT_CHARSETS = frozenset({"ascii", "unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined"})


def content(data: bytes, start: int, end: int, stop: int) -> tuple[Span, ...]:
    """Spans for dot-stuffed content: the message at [start, stop) and its terminator at [stop, end)."""
    spans = list(stuffed(data, start, stop))
    if stop < end:
        spans.append(Span(stop, end, "message.terminator", ".", *meaning_of("message.terminator")))
    return tuple(spans)


def stuffed(data: bytes, start: int, end: int) -> tuple[Span, ...]:
    """Spans for a message at [start, end) in which every line that begins with a dot got another one in front."""
    if data.find(b"\n.", start, end) < 0 and not data.startswith(b".", start, end):
        return message(data, start, end)
    wire = data[start:end]
    pieces = []
    dots: list[int] = []  # where each stuffed dot stood, counted in the message without them
    at = 0
    for found in _STUFFED.finditer(wire):
        dots.append(found.start() - len(dots))
        pieces.append(wire[at : found.start()])
        at = found.end()
    pieces.append(wire[at:])
    clean = b"".join(pieces)
    return _laid_back(message(clean, 0, len(clean)), dots, start)


def stuffing(data: bytes, start: int, end: int) -> int:
    """How many dots were stuffed into [start, end)."""
    return sum(1 for _dot_at in _STUFFED.finditer(data[start:end]))


def dotted(spans: Iterable[Span], field: str) -> Iterator[Measured]:
    """Messages that end with a single dot: start, end, octets without it and without stuffed dots, whether the end came."""
    for span in spans:
        if span.field == field:
            size = span.end - span.start - sum(part.end - part.start for part in _overhead(span))
            yield span.start, span.end, size, span.children[-1].field == "message.terminator"


def _overhead(span: Span) -> Iterator[Span]:
    for child in span.children:
        if child.field in ("message.terminator", "message.stuffing"):
            yield child
        yield from _overhead(child)


def _laid_back(spans: Iterable[Span], dots: list[int], offset: int) -> tuple[Span, ...]:
    """Spans of the clean message moved to where their octets stand in the stream, with the dots between them."""
    moved = []
    for span in spans:
        first, last = bisect_left(dots, span.start), bisect_left(dots, span.end)
        start, end = span.start + first + offset, span.end + last + offset
        children = _laid_back(span.children, dots, offset)
        if not children and last > first:
            children = _around(span, dots[first:last], first, offset)
        moved.append(replace(span, start=start, end=end, children=children))
    return tuple(moved)


def _around(leaf: Span, dots: list[int], before: int, offset: int) -> tuple[Span, ...]:
    spans = []
    at = leaf.start
    for count, dot in enumerate(dots, before):
        if dot > at:
            spans.append(replace(leaf, start=at + count + offset, end=dot + count + offset))
        stands = dot + count + offset
        spans.append(Span(stands, stands + 1, "message.stuffing", ".", *meaning_of("message.stuffing")))
        at = dot
    after = before + len(dots)
    spans.append(replace(leaf, start=at + after + offset, end=leaf.end + after + offset))
    return tuple(spans)


def message(data: bytes, start: int, end: int, depth: int = 0) -> tuple[Span, ...]:
    """Spans for a whole message at [start, end), without dot-stuffing: its headers, the empty line, its body."""
    tiles = Tiles(data, start)
    fields = _headers(tiles, end)
    if tiles.at < end:
        _body(tiles, end, Entity.of(fields), depth)
    return tuple(tiles.spans)


class Entity(NamedTuple):
    """What the headers of a message or a part say of its body. charset, name: "" when they say nothing."""

    type: str
    encoding: str
    disposition: str
    charset: str
    boundary: bytes
    name: str

    @classmethod
    def of(cls, fields: dict[str, bytes]) -> "Entity":
        """From header fields, names in lower case; what is missing or broken means plain text (RFC 2045 section 5.2)."""
        content_type = fields.get("content-type", b"")
        disposition = fields.get("content-disposition", b"")
        parameters = _parameters(content_type)
        name = _parameters(disposition).get("filename") or parameters.get("name") or b""
        kind = text(content_type.split(b";", 1)[0]).strip().lower()
        return cls(
            type=kind if "/" in kind else "text/plain",
            encoding=text(fields.get("content-transfer-encoding", b"7bit").split(b"(")[0]).strip().lower(),
            disposition=text(disposition.split(b";", 1)[0]).strip().lower(),
            charset=text(parameters.get("charset", b"")).strip().lower(),
            boundary=parameters.get("boundary", b""),
            name=unfold_words(name),
        )


def _parameters(value: bytes) -> dict[str, bytes]:
    """MIME parameters, continued and encoded ones (RFC 2231) put together as UTF-8."""
    found: dict[str, bytes] = {}
    pieces: dict[str, list[tuple[int, bytes, bool]]] = {}
    for match in _PARAMETER.finditer(value):
        key, raw = text(match.group(1)).lower(), match.group(2)
        if raw.startswith(b'"'):
            raw = re.sub(rb"\\(.)", rb"\1", raw[1:-1], flags=re.DOTALL)
        base, star, number = key.partition("*")
        if not star:
            found.setdefault(key, raw)
            continue
        encoded = number.endswith("*") or number == ""
        digits = number.rstrip("*")
        order = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0
        pieces.setdefault(base, []).append((order, raw, encoded))
    for base, parts in pieces.items():
        parts.sort(key=lambda part: part[0])
        charset = ""
        first = parts[0]
        if first[2] and first[1].count(b"'") >= 2:
            name, _language, rest = first[1].split(b"'", 2)
            charset = text(name)
            parts[0] = (first[0], rest, True)
        octets = b"".join(_unquoted(raw) if encoded else raw for _order, raw, encoded in parts)
        found[base] = in_charset(octets, charset).encode("utf-8", "replace")
    return found


def _unquoted(value: bytes) -> bytes:
    """Percent-encoded octets (RFC 2231 section 4) as they are."""
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode("ascii")), value)


def in_charset(octets: bytes, charset: str) -> str:
    """Text in a charset; UTF-8 where none is given or it is not known, and what does not fit as a replacement character."""
    try:
        return octets.decode(_codec(charset), "replace")
    except (LookupError, ValueError):
        return octets.decode("utf-8", "replace")


@lru_cache(maxsize=64)
def _codec(charset: str) -> str:
    """The name of Python's codec; UTF-8 for ASCII, which it contains, and for codecs that are no charset of MIME."""
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name in _NOT_CHARSETS else name


def unfold_words(value: bytes) -> str:
    """A header's value for a person: unfolded, its encoded words (RFC 2047) decoded."""
    value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    if b"=?" not in value:
        return text(value).strip()
    value = _BETWEEN_WORDS.sub(rb"\1", value)
    words: list[tuple[str, bytes]] = []
    at = 0
    for found in _ENCODED_WORD.finditer(value):
        if found.start() > at:
            words.append(("", value[at : found.start()]))
        charset = text(found.group(1)).lower()
        octets = _word_octets(found.group(2), found.group(3))
        if words and words[-1][0] == charset and found.start() == at:
            octets = words.pop()[1] + octets  # a character may be cut in two between words, against the rule
        words.append((charset, octets))
        at = found.end()
    words.append(("", value[at:]))
    return "".join(in_charset(octets, charset) if charset else text(octets) for charset, octets in words).strip()


def _word_octets(encoding: bytes, encoded: bytes) -> bytes:
    if encoding in b"bB":
        return from_base64(encoded)
    return binascii.a2b_qp(encoded, header=True)


def from_base64(encoded: bytes) -> bytes:
    """As much as base64 text holds, its padding missing or not."""
    try:
        return binascii.a2b_base64(encoded)
    except binascii.Error:
        letters = re.sub(rb"[^A-Za-z0-9+/]", b"", encoded)
        return binascii.a2b_base64(letters[: len(letters) // 4 * 4])


# --- headers ---------------------------------------------------------------------------------------------------------


def _headers(tiles: Tiles, end: int) -> dict[str, bytes]:
    """Header fields up to the empty line, or up to the first line that is none; returns the first of each name."""
    data = tiles.data
    fields: dict[str, bytes] = {}
    while tiles.at < end:
        start = tiles.at
        stop = line_end(data, start, end)
        if without_line_end(data, start, stop) == start:
            tiles.add(stop, "message.empty-line", value="")
            break
        found = _HEADER_NAME.match(data, start, stop)
        if not found:
            break
        while stop < end and data[stop] in b" \t":
            stop = line_end(data, stop, end)
        value_end = without_line_end(data, start, stop)
        name = text(found.group(1)).lower()
        fields.setdefault(name, data[found.end() : value_end])
        _header(tiles, name, found.end(1), min(found.end(), value_end), value_end, stop)
    return fields


def _header(tiles: Tiles, name: str, name_end: int, value_start: int, value_end: int, end: int) -> None:
    data, known = tiles.data, is_known(f"header.{name}")
    meaning, source = meaning_of(f"header.{name}" if known else "header")
    field = f"message.{_CALLED.get(name, name) if known else 'other'}"
    raw = data[value_start:value_end]
    value = unfold_words(raw)
    inner = Tiles(data, tiles.at)
    inner.add(name_end, f"{field}.name", meaning=_("The field's name."), source="RFC 5322 section 2.2")
    inner.add(value_start, f"{field}.colon")
    if name in ("content-type", "content-disposition") and b";" in raw:
        _with_parameters(inner, value_end, field, value, meaning, source)
    else:
        visibility = Visibility.ENCODED if _ENCODED_WORD.search(raw) else Visibility.READABLE
        inner.add(value_end, field, value, visibility=visibility, meaning=meaning, source=source)
    inner.add(end, f"{field}.line-end", "CRLF")
    told = f"{text(data[tiles.at : name_end])}: {value}"
    tiles.nest("message.header", inner.spans, told, meaning=meaning, source=source)


_CALLED = {"x-mailer": "user-agent"}  # fields that have the name of another


def _with_parameters(tiles: Tiles, end: int, field: str, value: str, meaning: str, source: str) -> None:
    """A value such as `text/plain; charset=utf-8`: what stands before the first semicolon, then each parameter."""
    inner = Tiles(tiles.data, tiles.at)
    first = tiles.data.find(b";", tiles.at, end)
    inner.add(first, f"{field}.value", meaning=meaning, source=source)
    while inner.at < end:
        found = _PARAMETER.match(tiles.data, inner.at, end)
        if not found:
            inner.add(end, f"{field}.rest", meaning=_("Something that is not a parameter."), source=source)
            break
        row = f"mime.parameter.{text(found.group(1)).lower().partition('*')[0]}"
        about = meaning_of(row if is_known(row) else "mime.parameter").sentence
        words = unfold_words(found.group(0)).lstrip("; \t")
        inner.add(found.end(), f"{field}.parameter", words, meaning=about, source=source)
    tiles.nest(field, inner.spans, value, meaning=meaning, source=source)


# --- bodies ----------------------------------------------------------------------------------------------------------


def _body(tiles: Tiles, end: int, entity: Entity, depth: int) -> None:
    if entity.type.startswith("multipart/") and entity.boundary and depth < DEEPEST:
        _multipart(tiles, end, entity, depth)
    elif entity.type == "message/rfc822" and entity.encoding in ("7bit", "8bit", "binary", "") and depth < DEEPEST:
        _attached_message(tiles, end, entity, depth)
    else:
        _leaf_body(tiles, end, entity)


def _attached_message(tiles: Tiles, end: int, entity: Entity, depth: int) -> None:
    tiles.nest(
        "message.attached", _renamed(message(tiles.data, tiles.at, end, depth + 1)), _file(entity, end - tiles.at)
    )


def _renamed(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """The headers of an attached message are not those of the message: their fields get a prefix of their own."""
    return tuple(
        replace(
            span,
            field=span.field.replace("message.", "message.attached.", 1),
            children=_renamed(span.children),
        )
        for span in spans
    )


def _multipart(tiles: Tiles, end: int, entity: Entity, depth: int) -> None:
    first, closed = True, False
    while tiles.at < end:
        found = _next_boundary(tiles.data, tiles.at, end, entity.boundary)
        stop, after, last = found or (end, end, False)
        if first or closed:
            tiles.add(stop, "message.preamble" if first else "message.epilogue")
        elif stop > tiles.at:
            part = message(tiles.data, tiles.at, stop, depth + 1)
            tiles.nest("message.part", part)
        if not found:
            break
        first, closed = False, closed or last
        meaning = _("The last boundary: no further part.") if last else _("A boundary: the next part begins.")
        value = text(tiles.data[stop:after]).strip()
        tiles.add(after, "message.boundary", value, meaning=meaning)


def _next_boundary(data: bytes, start: int, end: int, boundary: bytes) -> tuple[int, int, bool] | None:
    """Bytes [start, end) of the next boundary line and whether it is the last; the line end before it is part of it."""
    mark = b"--" + boundary
    at = data.find(mark, start, end)
    while at >= 0:
        tail = _BOUNDARY_TAIL.match(data, at + len(mark), end)
        if tail and (at == start or data[at - 1] == 0x0A):
            return max(start, without_line_end(data, 0, at)), tail.end(), tail.group(1) is not None
        at = data.find(mark, at + 1, end)
    return None


def _leaf_body(tiles: Tiles, end: int, entity: Entity) -> None:
    octets = tiles.data[tiles.at : end]
    visibility = Visibility.READABLE
    if entity.encoding == "base64":
        octets, visibility = from_base64(octets), Visibility.ENCODED
    elif entity.encoding == "quoted-printable":
        octets, visibility = binascii.a2b_qp(octets), Visibility.ENCODED
    attached = entity.disposition == "attachment" or entity.name or not entity.type.startswith("text/")
    if attached:
        field, words = "message.attachment", _file(entity, len(octets))
    else:
        field = {"text/plain": "message.text", "text/html": "message.html"}.get(entity.type, "message.text-other")
        words = in_charset(octets, entity.charset)
    tiles.add(end, field, words, visibility=visibility, meaning=_body_meaning(field, entity.encoding))


def _file(entity: Entity, size: int) -> str:
    """What an attachment is: name, type and decoded size in octets."""
    values = {"name": entity.name, "type": entity.type, "size": octets(size)}
    return (_("{name}, {type}, {size}") if entity.name else _("{type}, {size}")).format(**values)


def _body_meaning(field: str, encoding: str) -> str:
    """What a body is, and how everybody can undo its encoding; "" where the table says it all."""
    undone = meaning_of(f"message.encoding.{encoding}").sentence if encoding in ("base64", "quoted-printable") else ""
    return f"{meaning_of(field).sentence} {undone}" if undone else ""
