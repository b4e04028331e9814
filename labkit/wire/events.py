"""What happens on a connection, as its server's end knows it: what the tap writes down, and what frames are made from.

Apart from the tap itself, so that whoever reads capture files does without asyncio.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from labkit.wire.endpoints import Address


class EventKind(Enum):
    """What happened on a connection, as the server's end of it knows."""

    OPENED = "opened"
    RECEIVED = "received"
    SENT = "sent"
    CLIENT_FIN = "the client has finished sending"
    SERVER_FIN = "the server has finished sending"
    CLIENT_RST = "reset by the client"
    SERVER_RST = "reset by the server"


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One accepted TCP connection: its number on this network, and the real (address, port) of its two ends."""

    number: int
    client: Address
    server: Address


class Event(NamedTuple):
    """Something that happened at `time` (ns since the epoch); data only for RECEIVED and SENT."""

    time: int
    connection: Connection
    kind: EventKind
    data: bytes = b""
