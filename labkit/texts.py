"""Every sentence that a person reads passes through `_`, so that a translation can replace it.

Translations are gettext catalogues in `labkit/locale/<language>/LC_MESSAGES/labkit.mo`; the English sentence is the key.
Sentences take their values by name, `_("{count} packets").format(count=3)`, so that a translation may reorder them.
The language is LABKIT_LANG's when the process starts, else English: never the machine's locale, because outputs must repeat.
"""

import gettext
import os
from functools import cache
from pathlib import Path

LANGUAGE = os.environ.get("LABKIT_LANG", "en")
_CATALOGUE = gettext.translation("labkit", Path(__file__).parent / "locale", [LANGUAGE], fallback=True)


@cache
def _(sentence: str) -> str:
    """The sentence in the reader's language."""
    return _CATALOGUE.gettext(sentence)
