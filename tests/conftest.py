"""What every test shares: deterministic Hypothesis runs, and skips with a reason."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No deadlines: the machines that run this are shared, and the first call of a numba function compiles it.
settings.register_profile("default", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=1000)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, and torch sees none"))
