"""Endpoints: the two ends of a connection, as the packets name them and as people know them."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection: an address, a port, and the name that people know it by."""

    address: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        host = self.name or (f"[{self.address}]" if ":" in self.address else self.address)
        return f"{host}:{self.port}"


class Book(Protocol):
    """Tells by which address, port and name people know an endpoint."""

    def client(self, address: str, port: int) -> Endpoint: ...

    def server(self, address: str, port: int) -> Endpoint | None:
        """None when no server of the book's is there."""
