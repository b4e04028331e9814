"""What an exchange costs: connections, packets, octets, and how often the client had to wait for an answer.

All of it is counted on the wire. Packets depend on the operating system; the other three repeat everywhere, as far as
the protocols on top repeat.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from labkit.wire.flows import Flow, Side


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of some flows.

    connections: TCP connections. packets: all their packets, those without data too. bytes: octets of payload, both
    ways. round_trips: how often the client waited for the server, see `cost`.
    """

    connections: int
    packets: int
    bytes: int
    round_trips: int


def cost(flows: Iterable[Flow]) -> Cost:
    """Adds up the cost of flows.

    A round trip is one wait of the client for the server. There is one for SYN and SYN-ACK, when the capture has the SYN;
    one from the ACK to a greeting, when the server speaks first; and one for each burst of the client that a burst of the
    server follows. So a server's greeting is paid for once, and pipelined commands cost one round trip together.
    """
    known = tuple(flows)
    return Cost(
        connections=len(known),
        packets=sum(len(flow.packets) for flow in known),
        bytes=sum(len(flow.client_stream.data) + len(flow.server_stream.data) for flow in known),
        round_trips=sum(_round_trips(flow) for flow in known),
    )


def _round_trips(flow: Flow) -> int:
    sides = [burst.side for burst in flow.bursts]
    answers = sum(1 for before, after in pairwise(sides) if (before, after) == (Side.CLIENT, Side.SERVER))
    greeted = bool(sides) and sides[0] is Side.SERVER
    return int(flow.opened) + int(greeted) + answers
