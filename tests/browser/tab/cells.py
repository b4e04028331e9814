"""Runs in Pyodide: the code cells of notebooks, one shell for each, and what they show, as a notebook's file holds it."""

import contextlib
import io
import json
import time
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

OUTPUTS: list[dict[str, Any]] = []


class Stream(io.TextIOBase):
    """stdout or stderr."""

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        if text:
            OUTPUTS.append({"output_type": "stream", "name": self._name, "text": text})
        return len(text)


class Hook(DisplayHook):
    """The value of a cell's last line."""

    def write_output_prompt(self) -> None:
        """Counts are not compared."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:
        OUTPUTS.append({"output_type": "execute_result", "data": dict(format_dict)})


class Publisher(DisplayPublisher):
    """What a cell displays."""

    def publish(self, data: dict[str, Any], *_given: Any, **_more: Any) -> None:
        OUTPUTS.append({"output_type": "display_data", "data": dict(data)})


class Shell(InteractiveShell):
    """A kernel's shell without a kernel."""

    displayhook_class = Hook
    display_pub_class = Publisher

    def _showtraceback(self, kind: Any, value: Any, lines: Any) -> None:
        OUTPUTS.append({"output_type": "error", "ename": kind.__name__, "evalue": str(value)})


def run(text: str) -> str:
    """A notebook's text: each code cell's outputs, and the seconds that it took, as JSON."""
    Shell.clear_instance()
    shell = Shell.instance()
    cells = []
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] == "code":
            OUTPUTS.clear()
            began = time.perf_counter()
            with contextlib.redirect_stdout(Stream("stdout")), contextlib.redirect_stderr(Stream("stderr")):
                shell.run_cell("".join(cell["source"]))
            cells.append({"outputs": list(OUTPUTS), "seconds": time.perf_counter() - began})
    return json.dumps(cells)
