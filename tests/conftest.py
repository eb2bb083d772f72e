"""What every test shares: deterministic Hypothesis runs, and skips with a reason."""

from __future__ import annotations

import os
import shutil
import tempfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import pytest

CACHES = pytest.StashKey[Path]()
# A machine with a GPU and no package index may lack it; `make test` installs it.
PROPERTIES = find_spec("hypothesis") is not None

if PROPERTIES:
    from hypothesis import HealthCheck, settings

    # No deadlines: the machines that run this are shared, and the first call of a numba function compiles it.
    settings.register_profile("default", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=1000)
    settings.load_profile("default")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Every test begins with an empty cache, which is made only where something is kept."""
    base = request.config.stash[CACHES]
    monkeypatch.setenv("XDG_CACHE_HOME", str(base / sha256(request.node.nodeid.encode()).hexdigest()[:16]))


def pytest_configure(config: pytest.Config) -> None:
    """Not even a fixture of the whole session touches the user's cache."""
    directory = tempfile.mkdtemp(prefix="model-forensics-caches-")
    config.stash[CACHES] = Path(directory)
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    os.environ["XDG_CACHE_HOME"] = str(Path(directory) / "session")


def pytest_report_header() -> str | None:
    return None if PROPERTIES else "hypothesis is not installed: modules with property tests are left out"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what cannot be imported without Hypothesis."""
    if PROPERTIES or not collection_path.name.startswith("test_"):
        return None
    return "from hypothesis import" in collection_path.read_text() or None


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
