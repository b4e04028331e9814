"""What every test may ask for."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("LABKIT_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared_captures() -> Path:
    """Public captures by others, kept beside the project and never in it."""
    folder = SHARED / "captures"
    if not folder.is_dir():
        pytest.skip("the public captures of others are not beside this checkout (../shared/captures)")
    return folder
