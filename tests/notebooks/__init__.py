"""The notebooks as CI sees them: executed, compared output by output, and normalised before they are committed."""

from pathlib import Path

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


def lessons() -> list[Path]:
    """Every notebook of the course, in order."""
    return sorted(NOTEBOOKS.glob("*/[0-9]*.ipynb"))
