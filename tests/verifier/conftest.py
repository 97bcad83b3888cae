"""Fixtures of the tests of the engine."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    """Writes a property of one input and one output from its assertions, and returns the path."""

    def write(assertions: str) -> str:
        file = tmp_path / "property.vnnlib"
        file.write_text("(declare-const X_0 Real)\n(declare-const Y_0 Real)\n" + assertions)
        return str(file)

    return write
