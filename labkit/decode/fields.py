"""Cutting bytes into touching spans, front to back: what every decoder of a binary format needs.

A Cutter stands at a position and takes field after field. Bytes that are not there any more are not invented: a field that
runs past the end is cut short and says so, and what nobody took becomes a span of its own. So whatever the bytes, and
whatever the lengths in them claim, the spans tile the range exactly.
"""

import re
from collections.abc import Callable

from labkit.decode.meanings import own_meaning
from labkit.decode.spans import Span, Visibility
from labkit.texts import _

LONGEST_HEX = 32  # octets


def hexadecimal(data: bytes) -> str:
    """Bytes in hexadecimal; of many octets only the first ones and how many there are."""
    if len(data) <= LONGEST_HEX:
        return data.hex()
    return _("{first}… ({count} bytes)").format(first=data[:LONGEST_HEX].hex(), count=len(data))


def text(data: bytes) -> str:
    """Bytes as text; what is not UTF-8 as backslash escapes."""
    return data.decode("utf-8", "backslashreplace")


def whole_number(value: str) -> int | None:
    """A field's value as a number; None where it is none."""
    found = _NUMBER.fullmatch(value)
    return int(found[1]) if found else None


_NUMBER = re.compile(r"\s*([0-9]{1,20})\s*")


def octets(count: int) -> str:
    """So many octets, in words."""
    return _("1 octet") if count == 1 else _("{count} octets").format(count=count)


def how_long(data: bytes) -> str:
    """How many octets these are, in words; for a field of which nothing else can be said."""
    return octets(len(data))


class Cutter:
    """Cuts data[start:end] into spans that touch. What a field does not say itself, it has from the field around it."""

    def __init__(
        self,
        data: bytes,
        start: int,
        end: int,
        source: str = "",
        visibility: Visibility = Visibility.HANDSHAKE,
        meaning: str = "",
    ) -> None:
        self.data = data
        self.position = min(start, len(data))
        self.end = min(end, len(data))
        self.source = source
        self.visibility = visibility
        self.meaning = meaning
        self.spans: list[Span] = []

    @property
    def left(self) -> int:
        """How many octets have not been taken yet."""
        return self.end - self.position

    def peek(self, length: int) -> bytes:
        """The next octets, as far as there are any, without taking them."""
        return self.data[self.position : min(self.position + length, self.end)]

    def take(
        self,
        length: int,
        field: str,
        say: Callable[[bytes], str] = hexadecimal,
        *,
        visibility: Visibility | None = None,
        meaning: str = "",
        source: str = "",
    ) -> bytes:
        """The next `length` octets as one span whose value is say(octets); fewer where there are fewer."""
        data = self.peek(max(length, 0))
        if data:
            if len(data) < length:
                meaning = meaning or own_meaning(field).sentence or self.meaning
                say, meaning = hexadecimal, _("{meaning} (Cut short here.)").format(meaning=meaning).strip()
            self._append(len(data), field, say(data), meaning, source, visibility, ())
        return data

    def number(
        self, width: int, field: str, say: Callable[[int], str] = str, *, meaning: str = "", source: str = ""
    ) -> int:
        """The next `width` octets as a big-endian number; 0 where there are none."""
        data = self.take(
            width, field, lambda octets: say(int.from_bytes(octets, "big")), meaning=meaning, source=source
        )
        return int.from_bytes(data, "big")

    def group(
        self,
        length: int,
        field: str,
        explain: Callable[["Cutter"], str],
        *,
        visibility: Visibility | None = None,
        meaning: str = "",
        source: str = "",
    ) -> str:
        """The next `length` octets as a span whose children `explain` cuts; returns what that returns, the value."""
        end = min(self.position + max(length, 0), self.end)
        if end == self.position:
            return ""
        told = own_meaning(field)
        source, meaning = source or told.source or self.source, meaning or told.sentence or self.meaning
        visibility = visibility or self.visibility
        inner = Cutter(self.data, self.position, end, source, visibility, meaning)
        value = explain(inner)
        inner.rest(f"{field}.rest")
        self._append(end - self.position, field, value, meaning, source, visibility, tuple(inner.spans))
        return value

    def vector(
        self, width: int, field: str, explain: Callable[["Cutter"], str], *, meaning: str = "", source: str = ""
    ) -> str:
        """A length of `width` octets, then so many octets explained by `explain`: TLS's variable-length vector."""
        length = self.number(width, f"{field}.length", source=source or own_meaning(field).source)
        return self.group(length, field, explain, meaning=meaning, source=source)

    def opaque(
        self, width: int, field: str, say: Callable[[bytes], str] = hexadecimal, *, meaning: str = "", source: str = ""
    ) -> bytes:
        """A length of `width` octets, then so many octets as one span."""
        length = self.number(width, f"{field}.length", source=source or own_meaning(field).source)
        return self.take(length, field, say, meaning=meaning, source=source)

    def rest(self, field: str, say: Callable[[bytes], str] = hexadecimal, *, meaning: str = "") -> bytes:
        """All that is left as one span; none when nothing is left."""
        return self.take(self.left, field, say, meaning=meaning)

    def _append(
        self,
        length: int,
        field: str,
        value: str,
        meaning: str,
        source: str,
        visibility: Visibility | None,
        children: tuple[Span, ...],
    ) -> None:
        told = own_meaning(field)
        sentence, source = meaning or told.sentence or self.meaning, source or told.source or self.source
        start, self.position = self.position, self.position + length
        visibility = visibility or self.visibility
        self.spans.append(Span(start, self.position, field, value, sentence, source, visibility, children))
