"""What somebody in the middle can do, done to the lab's own providers and captures.

Each takes a Provider or a Capture, never a host name or an address: the lab attacks nobody but itself, on loopback.

with StripStartTls(provider) as middle: the offer of TLS is taken away
with Impersonate(provider, "expired") as middle: a wrong certificate, and what is read behind it
replay(capture, provider): a captured login, said again
guess(capture): words tried against a captured challenge and response
inject(provider, command): a command slipped in before the TLS handshake
shared_address(provider): sending from behind an address that somebody else has read mail from
"""

from labkit.attack.guess import Guessed, guess
from labkit.attack.inject import Injected, inject
from labkit.attack.logins import Login, logins
from labkit.attack.middle import Impersonate, StripStartTls
from labkit.attack.replay import Replayed, replay
from labkit.attack.shared_address import SentWithoutLogin, shared_address
from labkit.attack.wordlist import WORDS

__all__ = [
    "WORDS",
    "Guessed",
    "Impersonate",
    "Injected",
    "Login",
    "Replayed",
    "SentWithoutLogin",
    "StripStartTls",
    "guess",
    "inject",
    "logins",
    "replay",
    "shared_address",
]
