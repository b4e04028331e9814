"""Every sentence that a person reads passes through `_`, so that a translation can replace it.

Translations are gettext catalogues in `labkit/locale/<language>/LC_MESSAGES/labkit.mo`; the English sentence is the key.
Sentences take their values by name, `_("{count} packets").format(count=3)`, so that a translation may reorder them.
The language comes from LABKIT_LANG, then English: never from the machine's locale, because outputs must repeat.
"""

import gettext
import os
from functools import cache
from pathlib import Path


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation("labkit", Path(__file__).parent / "locale", [language], fallback=True)


def _(sentence: str) -> str:
    """The sentence in the reader's language."""
    return _catalogue(os.environ.get("LABKIT_LANG", "en")).gettext(sentence)
