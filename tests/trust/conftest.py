"""What the tests of trust share: nothing is reported behind a test's back, and nothing is left open."""

import gc
from collections.abc import Iterator

import pytest

from tests.mail.conftest import quiet

__all__ = ["quiet"]


@pytest.fixture(autouse=True, scope="module")
def tidy() -> Iterator[None]:
    """What the tests of a module leave unclosed complains here, and that fails the test."""
    yield
    gc.collect()
