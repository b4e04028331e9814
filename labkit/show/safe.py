"""Text from the wire, made safe to look at, and measured in the columns of a terminal.

Bytes from the wire are hostile: an ESC can rewrite a terminal, a bidirectional override can turn a name around, a
zero-width space can hide in a word. `visible` is the one place that makes any text safe, and every face uses it: what a
person would not see, or what would act instead of being seen, is written out. C0 controls become Unicode's control
pictures (␛), everything else its number (\\u202e).
"""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

# Invisible although Unicode counts them as letters or marks: fillers, joiners, variation selectors.
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0}
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_ACTING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
ELLIPSIS = "…"


@cache
def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    unseen = code in _INVISIBLE or any(code in selector for selector in _SELECTORS)
    if not unseen and unicodedata.category(character) not in _ACTING:
        return character
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte, as Python's "surrogateescape" keeps it
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def visible(text: str) -> str:
    """The text on one line, with nothing in it that acts or hides: safe for a terminal and, once escaped, for HTML."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def width(text: str) -> int:
    """Terminal columns that visible text takes: two for a wide East Asian character, none for a combining mark."""
    if text.isascii():
        return len(text)
    return sum(_cells(character) for character in text)


@cache
def _cells(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def fit(text: str, columns: int) -> str:
    """Visible text in at most `columns` terminal columns; an ellipsis where it was cut."""
    if width(text) <= columns:
        return text
    return text[: fitting(text, columns - 1)] + ELLIPSIS


def fitting(text: str, columns: int) -> int:
    """How many of the first characters of visible text take at most `columns` terminal columns."""
    for count, character in enumerate(text):
        columns -= _cells(character)
        if columns < 0:
            return count
    return len(text)


def glimpse(text: str, columns: int) -> str:
    """The beginning of any text, made visible, in at most `columns` terminal columns; the rest is not even looked at."""
    start = text[: 2 * columns]
    return fit(visible(start) + (ELLIPSIS if len(start) < len(text) else ""), columns)


def pad(text: str, columns: int) -> str:
    """Visible text, cut or filled with spaces to exactly `columns` terminal columns."""
    fitted = fit(text, columns)
    return fitted + " " * (columns - width(fitted))


def grid(rows: Sequence[Sequence[str]], limits: Sequence[int]) -> list[str]:
    """Rows of cells as lines of a text table: each column as wide as its widest cell, but not wider than its limit."""
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [
        min(limit, max(map(width, column))) for limit, column in zip(limits, zip(*cells, strict=True), strict=True)
    ]
    return ["  ".join(map(pad, row, widths)).rstrip() for row in cells]


def block(lines: Iterable[str]) -> str:
    """Lines as one text, each without spaces at its end."""
    return "\n".join(line.rstrip() for line in lines)
