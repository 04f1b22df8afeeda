"""Keep torch's own validation on: zuko turns it off."""

from collections.abc import Iterator

import pytest
from torch import distributions


@pytest.fixture(autouse=True)
def same_validation() -> Iterator[None]:
    """Put torch's own validation back: importing zuko turns it off for everyone."""
    before = distributions.Distribution._validate_args
    yield
    distributions.Distribution.set_default_validate_args(before)
