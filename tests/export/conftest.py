"""The damaged models, once for all tests of exports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # damaged

import damaged


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> dict[str, damaged.Case]:
    """By family."""
    return {family: damaged.recorded(family, tmp_path_factory.mktemp(family)) for family in damaged.FAMILIES}
