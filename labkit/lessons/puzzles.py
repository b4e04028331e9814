"""Puzzles: mail programs with one wrong setting, and recordings of which nobody says what they are.

They are made here, so that a notebook does not show its own solution. Each is the same on every machine.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from zlib import crc32

from labkit.capture import Capture
from labkit.errors import BadSetting
from labkit.mail.policy import POLICIES, LoginFormat
from labkit.mail.sample import sample_message
from labkit.mail.settings import Settings
from labkit.provider import Provider
from labkit.texts import _

# What hanako typed wrong, by the name of her provider.
_TYPED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"company": {"security": "none"}, "campus": {"mechanism": "PLAIN"}, "shop": {"server": "shop-mail.example"}}
)
# How somebody may log in where it can be seen: the policy, and the setting that says how.
_LOGINS = (
    ("smtp-auth", "mechanism", "PLAIN"),
    ("smtp-auth", "mechanism", "LOGIN"),
    ("smtp-auth", "mechanism", "CRAM-MD5"),
    ("smtp-auth", "mechanism", "SCRAM-SHA-256"),
    ("pop-before-smtp", "pop3_login", "USER"),
    ("pop-before-smtp", "pop3_login", "APOP"),
)


def settings(puzzle: str, provider: Provider) -> Settings:
    """What hanako entered for her account at a provider, one of them wrong. puzzle: "company", "campus" or "shop".

    Raises BadSetting for another puzzle, and when the provider does not run.
    """
    if puzzle not in _TYPED:
        message = _("There is no puzzle {name!r}: choose one of {names}.")
        raise BadSetting(message.format(name=puzzle, names=", ".join(_TYPED)))
    return provider.settings("hanako", **_TYPED[puzzle])


def recording(number: int) -> Capture:
    """hanako sends a letter, somewhere, somehow, and it is recorded. Each number is another, the same for everybody."""
    every = tuple(product(_LOGINS, LoginFormat))
    (policy, setting, how), login_format = every[crc32(f"case {number}".encode()) % len(every)]
    chosen = replace(POLICIES[policy], login_format=login_format)
    with Provider(chosen, repeatable=True) as provider, provider.capture() as capture:
        provider.client("hanako", **{setting: how}).send(sample_message())
    return capture
