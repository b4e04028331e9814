"""labkit: real mail sessions on your own machine, seen as an eavesdropper sees them.

with labkit.Provider("smtp-auth") as provider: a mail provider on this machine
with provider.capture() as capture: all that crosses its network
labkit.compare(): the same exchange under four policies, side by side

The names are loaded when they are first used, so that `import labkit` costs next to nothing.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.platform == "emscripten":  # a browser tab
    from labkit.browser.platform import fill

    fill()

if TYPE_CHECKING:
    from labkit.capture import Capture
    from labkit.errors import LabError
    from labkit.exchanges import Comparison, Exchange, compare, exchange
    from labkit.lessons.session import check, hint, predict, progress, resume, reveal
    from labkit.mail.accounts import Account
    from labkit.mail.certificates import Certificate
    from labkit.mail.client import MailClient
    from labkit.mail.policy import POLICIES, LoginFormat, Policy, Security
    from labkit.mail.sample import LESSON_ACCOUNTS, sample_message
    from labkit.mail.settings import Settings
    from labkit.probing import ReportCard, probe
    from labkit.provider import Provider
    from labkit.show.explore import explore

__version__ = "0.2.0"

__all__ = [
    "LESSON_ACCOUNTS",
    "POLICIES",
    "Account",
    "Capture",
    "Certificate",
    "Comparison",
    "Exchange",
    "LabError",
    "LoginFormat",
    "MailClient",
    "Policy",
    "Provider",
    "ReportCard",
    "Security",
    "Settings",
    "check",
    "compare",
    "exchange",
    "explore",
    "hint",
    "predict",
    "probe",
    "progress",
    "resume",
    "reveal",
    "sample_message",
]

_HOMES = {
    "labkit.capture": ("Capture",),
    "labkit.errors": ("LabError",),
    "labkit.exchanges": ("Comparison", "Exchange", "compare", "exchange"),
    "labkit.lessons.session": ("check", "hint", "predict", "progress", "resume", "reveal"),
    "labkit.mail.accounts": ("Account",),
    "labkit.mail.certificates": ("Certificate",),
    "labkit.mail.client": ("MailClient",),
    "labkit.mail.settings": ("Settings",),
    "labkit.mail.policy": ("POLICIES", "LoginFormat", "Policy", "Security"),
    "labkit.mail.sample": ("LESSON_ACCOUNTS", "sample_message"),
    "labkit.probing": ("ReportCard", "probe"),
    "labkit.provider": ("Provider",),
    "labkit.show.explore": ("explore",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name from its home (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
