"""Every sentence that a person reads passes through here, so that a translation can replace it. English is the key.

`_` translates where a sentence is shown. `N_` marks one in a table: it stays English until whoever shows it calls `_`. `n_`
takes the form that a number wants. Sentences take their values by name, `_("{count} packets").format(count=3)`, so that a
translation may reorder them; nothing decides by comparing them, because they read otherwise in another language.

Translations are gettext catalogues: `labkit/locale/<language>/LC_MESSAGES/labkit.mo`. `make catalogue` lists the sentences.
LABKIT_LANG names the language, or the .mo file of whoever is writing one, when the process starts. Without it, or without a
catalogue for it, the language is English: never the machine's, because outputs must repeat.
"""

import gettext
import os
from functools import cache
from pathlib import Path


def _catalogue(language: str) -> gettext.NullTranslations:
    if language.endswith(".mo"):
        with Path(language).open("rb") as file:
            return gettext.GNUTranslations(file)
    return gettext.translation("labkit", Path(__file__).parent / "locale", [language], fallback=True)


CATALOGUE = _catalogue(os.environ.get("LABKIT_LANG", "en"))
LANGUAGE = CATALOGUE.info().get("language", "en").replace("_", "-")  # as HTML names it (RFC 5646)


@cache
def _(sentence: str) -> str:
    """The sentence in the reader's language."""
    return CATALOGUE.gettext(sentence)


def N_(sentence: str) -> str:  # noqa: N802 (gettext's name for it)
    """The sentence as it is: marked to be translated, by `_`, where it is shown."""
    return sentence


def n_(one: str, many: str, count: int) -> str:
    """The form of a sentence that the count wants in the reader's language; English has one for 1 and one for all others."""
    return CATALOGUE.ngettext(one, many, count)
