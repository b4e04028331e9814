"""What each field of a span means, and where that is written: meanings.csv, a table for people, translators among them.

So the code that cuts bytes says what they are, and the table says what that means. A field is told by its own row; else by
the row for all fields with the same last word (`*.length`); else by the row of the field around it (`smtp.ehlo.verb` by
`smtp.ehlo`). What depends on the bytes is said by the code instead.
"""

import csv
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from typing import IO, NamedTuple

from labkit.texts import _


class Meaning(NamedTuple):
    """One sentence in the reader's language, and RFC and section; both "" where nothing is said."""

    sentence: str
    source: str


def sentences(file: IO[bytes], *_given: object, **_options: object) -> Iterator[tuple[int, str, str, list[str]]]:
    """The sentences of a table, for Babel: `make catalogue` finds them here."""
    for number, row in enumerate(csv.DictReader(line.decode() for line in file), 2):
        if row["meaning"]:
            yield number, "", row["meaning"], [row["field"]]


@cache
def _table() -> dict[str, Meaning]:
    with (files(__package__) / "meanings.csv").open(encoding="utf-8") as file:
        return {row["field"]: Meaning(row["meaning"], row["source"]) for row in csv.DictReader(file)}


def is_known(field: str) -> bool:
    """Whether the table has a row for exactly this field."""
    return field in _table()


@lru_cache(maxsize=2048)
def own_meaning(field: str) -> Meaning:
    """What the rows for this field, or for all fields with its last word, say; nothing of the fields around it."""
    found = _table().get(field) or _table().get(f"*.{field.rpartition('.')[2]}")
    return Meaning(_(found.sentence) if found.sentence else "", found.source) if found else Meaning("", "")


@lru_cache(maxsize=2048)  # fields may be named by who sends them: not without a bound
def meaning_of(field: str) -> Meaning:
    """What a field means, or the field around it."""
    found = own_meaning(field)
    while found == ("", "") and "." in field:
        field = field.rpartition(".")[0]
        found = own_meaning(field)
    return found
