"""The sentences that `make catalogue` finds, and what they look like in a language that nobody speaks.

A translation made of them shows what depends on English: each sentence in brackets, and longer. A catalogue that knows only
what was found shows what no translator would be given.
"""

import gettext
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.frontend import CommandLineInterface
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from tests.conftest import ROOT


@cache
def template() -> Catalog:
    """What the Makefile's command finds."""
    command = next(line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "pybabel" in line)
    _program, *options, _to, _pot, _package = command.split()
    with tempfile.TemporaryDirectory() as folder:
        pot = Path(folder) / "labkit.pot"
        options = [str(ROOT / option) if option.endswith(".toml") else option for option in options]
        CommandLineInterface().run(["pybabel", *options, "-o", str(pot), str(ROOT / "labkit")])
        with pot.open("rb") as file:
            return read_po(file)


@cache
def found() -> frozenset[str]:
    """Every sentence, in English."""
    return frozenset(sentence for message in template() for sentence in _forms(message.id))


def _forms(sentence: str | tuple[str, ...]) -> Iterator[str]:
    yield from (sentence,) if isinstance(sentence, str) else sentence


def bracketed(sentence: str) -> str:
    """A sentence in the language that nobody speaks."""
    return f"⟦{sentence}{'~' * (len(sentence) // 3)}⟧"


def write_bracketed(path: Path) -> None:
    """Its catalogue."""
    catalogue = Catalog(locale="en", header_comment="")
    for message in template():
        if message.id:
            forms = tuple(map(bracketed, _forms(message.id)))
            catalogue.add(message.id, forms if len(forms) > 1 else forms[0])
    with path.open("wb") as file:
        write_mo(file, catalogue)


class OnlyFound(gettext.NullTranslations):
    """English, and a failure for every sentence that was not found."""

    def gettext(self, message: str) -> str:
        assert message in found(), f"a sentence that no translator is given: mark {message!r} with N_"
        return message

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1) if n == 1 else self.gettext(msgid2)
