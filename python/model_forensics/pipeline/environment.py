"""What a result says about how and on what it was computed."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from model_forensics import ops
from model_forensics.types import BundleSummary, Environment

if TYPE_CHECKING:
    from model_forensics.config import Config
    from model_forensics.models import Model
    from model_forensics.types import Recording


def installed(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe_environment(
    config: Config, *, model: Model | None, donor: Model | None, incident: Path | None, baseline: Path | None
) -> Environment:
    """The environment record of a result."""
    return Environment(
        model_forensics=version("model-forensics"),
        python=platform.python_version(),
        platform=platform.platform(),
        numpy=version("numpy"),
        torch=installed("torch"),
        transformers=installed("transformers"),
        device=str(model.device) if model is not None else None,
        threads=_torch_threads(),
        backends=dict(ops.chosen()),
        seed=config.seed,
        configuration=config.model_dump(mode="json", exclude={"cache"}),  # with it results are the same as without
        model_source=model.source if model is not None else None,
        model_factory=model.factory if model is not None else None,
        weights_digest=model.reference.weights_digest if model is not None else None,
        donor_source=_located(donor.source) if donor is not None else None,
        incident_path=_absolute(incident),
        baseline_path=_absolute(baseline),
    )


def summarise_recording(recording: Recording) -> BundleSummary:
    """What a report says about the incident itself."""
    stored = getattr(recording, "bytes", None)  # recordings in memory have no size on disk
    return BundleSummary(
        path=str(recording.path) if recording.path is not None else None,
        created_at=recording.created_at,
        samples=len(recording.samples),
        groups=len({sample.group for sample in recording.samples}),
        tokens=sum(sample.tokens for sample in recording.samples),
        sites=len(recording.sites),
        bytes=stored,
        model=recording.model,
        failure=recording.failure.in_words() if recording.failure is not None else None,
    )


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _located(source: str | None) -> str | None:
    """A local directory by its full path, so that the proof runs from anywhere; a hub id as it is."""
    return _absolute(Path(source)) if source is not None and Path(source).is_dir() else source


def _torch_threads() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())
