"""What the tests of trust share: nothing is reported behind a test's back, and nothing is left open."""

import gc
from collections.abc import Iterator

import pytest

from tests.mail.conftest import quiet

__all__ = ["quiet"]


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """What a test leaves unclosed complains here, and that fails the test."""
    yield
    gc.collect()
