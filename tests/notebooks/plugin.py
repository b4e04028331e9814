"""Makes nbval compare everything: images too, and no cell that was never executed passes for checked.

Used by `make test-notebooks` (`pytest -p tests.notebooks.plugin --nbval notebooks`).
"""

from typing import Any

import nbval.kernel
import pytest

from tests.notebooks.kernels import Kernels

COMPARED_TOO = {"image/png", "image/jpeg"}


def pytest_configure() -> None:
    nbval.kernel.KernelManager = Kernels


def never_executed(cells: list[Any]) -> list[int]:
    """The 1-based numbers of code cells that hold code but no execution count: nbval would compare nothing there."""
    return [
        number
        for number, cell in enumerate(cells, 1)
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
    ]


def pytest_collectstart(collector: pytest.Collector) -> None:
    if not hasattr(collector, "skip_compare"):
        return
    import nbformat

    collector.skip_compare = tuple(kind for kind in collector.skip_compare if kind not in COMPARED_TOO)
    missing = never_executed(nbformat.read(collector.path, as_version=4).cells)
    if missing:
        raise pytest.UsageError(f"{collector.path.name}: cells {missing} were never executed; run make notebooks")
