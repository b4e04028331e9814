"""What a reader sees of a notebook's cells, in one form, whoever ran them: nbclient, JupyterLab, or a kernel in a hub."""

from collections.abc import Mapping, Sequence
from typing import Any


def seen(cells: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """The outputs of each cell, without counts, and without metadata, which names the engine."""
    return [list(_outputs(cell)) for cell in cells]


def joined(lines: Any) -> Any:
    """A text that a notebook's file may hold as a list of lines, as one; anything else as it is."""
    return "".join(lines) if isinstance(lines, list) else lines


def _outputs(cell: Mapping[str, Any]) -> list[Any]:
    told: list[Any] = []
    for output in cell.get("outputs", []):
        kind = output["output_type"]
        if kind == "stream" and told and told[-1][:2] == [kind, output["name"]]:
            told[-1][2] += joined(output["text"])
        elif kind == "stream":
            told.append([kind, output["name"], joined(output["text"])])
        elif kind == "error":
            told.append([kind, output["ename"], output["evalue"]])
        else:
            told.append([kind, {name: joined(value) for name, value in output["data"].items()}])
    return told
