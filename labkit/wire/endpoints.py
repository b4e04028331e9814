"""Endpoints: the two ends of a connection, as the packets name them and as people know them.

A name resolver tells by which address, port and name people know an end. Two are here: for what is recorded, with the names
that it is given, and for a file that labkit saved, which holds them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

Address = tuple[str, int]

MADE_HERE = "labkit"  # how the comment of a file begins that labkit saved
# The line of a host table (as in /etc/hosts), in such a comment.
_HOST = re.compile(r"(?P<address>[0-9a-fA-F:.]+) (?P<name>[A-Za-z0-9.-]+)")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection: an address, a port, and the name that people know it by."""

    address: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        host = self.name or (f"[{self.address}]" if ":" in self.address else self.address)
        return f"{host}:{self.port}"


class NameResolver(Protocol):
    """Tells by which address, port and name people know an endpoint."""

    def client(self, address: str, port: int) -> Endpoint: ...

    def server(self, address: str, port: int) -> Endpoint | None:
        """None when no server that is known is there."""


class RecordedNames:
    """Names for the ends of what is recorded: servers listen on loopback and on free ports, people know others.

    services: the standard port for each real (address, port) that is listened on. server, client: the names, of RFC 2606.
    Clients get ports 50001, 50002, … in the order in which they first appear; addresses are from RFC 5737 and RFC 3849.
    One for each recording: it remembers whom it has seen.
    """

    def __init__(self, services: Mapping[Address, int], server: str, client: str) -> None:
        self._services = dict(services)
        self._names = server, client
        self._hosts: list[str] = []
        self._ports: dict[Address, int] = {}

    def server(self, address: str, port: int) -> Endpoint | None:
        standard = self._services.get((address, port))
        if standard is None:
            return None
        return Endpoint("2001:db8::25" if ":" in address else "192.0.2.25", standard, self._names[0])

    def client(self, address: str, port: int) -> Endpoint:
        # The first is 198.51.100.7, and the network ends at .254: more hosts than that keep their own address.
        host = self._host(address)
        known = self._ports.setdefault((address, port), 50_001 + len(self._ports) % 15_000)
        if host > 247:
            return Endpoint(address, port)
        name = self._names[1] if host == 0 else self._names[1].replace(".", f"{host + 1}.", 1)
        return Endpoint(f"2001:db8::{host + 7:x}" if ":" in address else f"198.51.100.{host + 7}", known, name)

    def _host(self, address: str) -> int:
        """0 for this machine's usual loopback address, then 1, 2, … in order of appearance."""
        if address in {"127.0.0.1", "::1"}:
            return 0
        if address not in self._hosts:
            self._hosts.append(address)
        return self._hosts.index(address) + 1


class SavedNames:
    """The names in a file that labkit saved: its addresses are the ones that people know, and stay as they are."""

    def __init__(self, comment: str) -> None:
        """From the file's comment. Of what others wrote nothing is believed."""
        lines = comment.splitlines() if comment.startswith(MADE_HERE) else []
        self._names = {match["address"]: match["name"] for match in map(_HOST.fullmatch, lines) if match}

    def server(self, address: str, port: int) -> Endpoint | None:
        return self.client(address, port) if address in self._names else None

    def client(self, address: str, port: int) -> Endpoint:
        return Endpoint(address, port, self._names.get(address, ""))
