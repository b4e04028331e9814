"""What a client hears from a server, bounded: the server may be hostile, and talk for ever.

smtplib and poplib bound a line at most, not how many lines make a reply, nor how long they may take: an octet now and then
is never a time-out. So both read through a `Hearing`, which stands between them and the socket, counts octets against the
latest allowance, and looks at the clock.
"""

import io
import socket
import time
from typing import Any

from labkit.mail.talk import Unruly
from labkit.texts import _


class Hearing:
    """All that is heard in one session. seconds: how long it may last. patience: seconds of silence, at most."""

    def __init__(self, patience: float, seconds: float) -> None:
        self._patience = patience
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._room = 0
        self._too_much = ""

    def allow(self, octets: int, too_much: str) -> None:
        """From now on so many octets may come; `too_much` says what it was when more did."""
        self._room = octets
        self._too_much = too_much

    def through(self, reader: io.BufferedReader, sock: socket.socket) -> io.BufferedReader:
        """What reads from this socket in the place of `reader`, which is used no more. It raises Unruly."""
        return io.BufferedReader(_Ear(self, reader.detach(), sock))

    def wait(self, sock: socket.socket) -> None:
        """Never wait for the socket beyond the end of the session. Raises Unruly when that has come."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise Unruly(_("a session of more than {seconds:g} seconds").format(seconds=self._seconds))
        if sock.gettimeout() != 0:
            sock.settimeout(min(left, self._patience))

    def count(self, octets: int) -> None:
        """So many octets have come. Raises Unruly when they are too many."""
        self._room -= octets
        if self._room < 0:
            raise Unruly(self._too_much)


class _Ear(io.RawIOBase):
    def __init__(self, hearing: Hearing, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._hearing = hearing
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._hearing.wait(self._sock)
        try:
            octets = self._raw.readinto(buffer)
        except TimeoutError:
            self._hearing.wait(self._sock)  # which of the two clocks has run out?
            raise
        self._hearing.count(octets or 0)
        return octets

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
