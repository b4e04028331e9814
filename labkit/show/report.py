"""The machine-readable face: what a capture says, as plain data for JSON. Its shape is documented in the README.

Packet numbers here are those of the capture file, as Wireshark counts them; the faces for people use bursts instead.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from labkit.decode.cost import Cost
from labkit.decode.dissection import Dissection
from labkit.decode.exposure import Exposure


def _dialogue(dissection: Dissection) -> dict[str, Any]:
    return {
        "commands": [
            {"verb": command.verb, "argument": command.argument, "packet": command.packet}
            for command in dissection.commands
        ],
        "replies": [{"code": reply.code, "text": reply.text, "packet": reply.packet} for reply in dissection.replies],
    }


def _flow(dissection: Dissection) -> dict[str, Any]:
    tls = dissection.tls
    return {
        "client": str(dissection.flow.client),
        "server": str(dissection.flow.server),
        "protocol": dissection.protocol.name,
        **_dialogue(dissection),
        "tls": tls
        and {"version": tls.version, "cipher": tls.cipher, "server_name": tls.server_name, "started": tls.started},
        "opened": dissection.opened and _dialogue(dissection.opened),
    }


def _exposure(exposure: Exposure) -> dict[str, Any]:
    return {
        fact.value: {
            "verdict": finding.verdict.value,
            "value": finding.value,
            "packet": finding.packet,
            "bytes": None if finding.start is None else [finding.start, finding.end],
        }
        for fact, finding in exposure.items()
    }


def report(
    *,
    engine: str,
    packets: int,
    notes: Sequence[str],
    dissections: Iterable[Dissection],
    exposure: Exposure,
    cost: Cost,
) -> dict[str, Any]:
    """A capture as plain data: engine, packets, notes, flows, exposure and cost."""
    return {
        "engine": engine,
        "packets": packets,
        "notes": list(notes),
        "flows": [_flow(dissection) for dissection in dissections],
        "exposure": _exposure(exposure),
        "cost": {
            "connections": cost.connections,
            "packets": cost.packets,
            "bytes": cost.bytes,
            "round_trips": cost.round_trips,
        },
    }
