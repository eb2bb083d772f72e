"""Model Forensics: from a failing foundation model to its proven root cause."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_forensics.bundle import BundleWriter, load_bundle
    from model_forensics.cf import Baseline
    from model_forensics.failure import Failure
    from model_forensics.pipeline import RCAPipeline
    from model_forensics.record import Recorder

# Public names load on first use, so that `import model_forensics` needs neither torch nor pydantic.
_HOMES = {
    "Baseline": "model_forensics.cf",
    "BundleWriter": "model_forensics.bundle",
    "Failure": "model_forensics.failure",
    "RCAPipeline": "model_forensics.pipeline",
    "Recorder": "model_forensics.record",
    "load_bundle": "model_forensics.bundle",
}

__all__ = ["Baseline", "BundleWriter", "Failure", "RCAPipeline", "Recorder", "load_bundle"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("model-forensics")
    if name not in _HOMES:
        raise AttributeError(f"module 'model_forensics' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
