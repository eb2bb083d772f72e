"""Turns what a caller hands over (paths, loaded objects, modules) into what the stages take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_forensics.bundle import load_bundle, load_bundles
from model_forensics.cf import Baseline, fit_baseline
from model_forensics.errors import BaselineError, InputRefused, ModelError, UsageError, WeightsMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_forensics.config import Config
    from model_forensics.models import Model
    from model_forensics.types import Recording

BASELINE_FILE = "baseline.json"


@dataclass(frozen=True)
class BenignSource:
    """A fitted baseline and, where there are any, the recordings that donors and side effects come from."""

    baseline: Baseline | None
    recordings: tuple[Recording, ...]
    path: Path | None


def open_recording(source: str | Path | Recording) -> Recording:
    """A bundle by path, or the recording itself."""
    return load_bundle(source) if isinstance(source, str | Path) else source


def open_baseline(source: str | Path | Baseline | Recording | Sequence[Recording] | None, config: Config) -> BenignSource:
    """A fitted baseline, a benign bundle, a directory of them, or recordings; without one, the configured directory.

    Raises:
        BaselineError: nothing benign is there.
    """
    if source is None:
        source = config.baseline_dir
    if source is None:
        return BenignSource(None, (), None)
    if isinstance(source, Baseline):
        return BenignSource(source, (), None)
    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None:
        if (path / BASELINE_FILE).is_file():
            return BenignSource(Baseline.load(path), (), path)
        recordings: tuple[Recording, ...] = tuple(load_bundles(path))
    else:
        recordings = tuple(source) if isinstance(source, list | tuple) else (source,)  # type: ignore[assignment]
    return BenignSource(fit_baseline(benign_only(recordings, path), config.modules.cf), recordings, path)


def benign_only(recordings: Sequence[Recording], path: Path | None) -> Sequence[Recording]:
    """The recordings themselves, when there are some and all are benign.

    Raises:
        BaselineError: there are none, or one is an incident.
    """
    if not recordings:
        raise BaselineError("no benign bundle is there", where=path, cure="Give a benign bundle or a directory of them")
    for recording in recordings:
        if recording.kind != "benign":
            raise BaselineError(
                f"bundle {recording.bundle_id} is an incident, not a benign recording",
                where=recording.path or path,
                cure="Fit baselines from benign bundles only",
            )
    return recordings


def open_model(source: Any, *, factory: str | None, config: Config) -> Model:
    """A model by path, hub id or factory, or from a module in memory."""
    from model_forensics.models import Model, load_model  # noqa: PLC0415  (torch loads late)

    if isinstance(source, Model):
        return source
    if source is None or isinstance(source, str | Path):
        return load_model(source, factory=factory, device=config.device)
    return Model.wrap(source)


def open_recorded_model(recording: Recording, config: Config) -> tuple[Model | None, str | None]:
    """The model that a bundle names, or None and the reason why there is none.

    A bundle names a model; only a local directory or what is in the local hub cache is loaded, and never code.
    """
    reference = recording.model
    if reference is None or reference.source is None:
        return None, "the bundle names no model source; pass --model to search for a fix"
    source = reference.source
    directory = Path(source)
    if not directory.is_absolute() and recording.path is not None:
        directory = recording.path / directory
    from model_forensics.models import load_model  # noqa: PLC0415  (torch loads late)

    try:
        if directory.is_dir():
            return load_model(directory.resolve(), device=config.device), None
        return load_model(source, device=config.device, local_files_only=True), None
    except ModelError as error:
        return None, f"the bundle's model '{source}' could not be loaded, so no fix was searched: {error}"


def weights_warning(recording: Recording, model: Model, *, strict: bool) -> str | None:
    """Names both digests when the model's weights are not those that were recorded.

    Raises:
        WeightsMismatch: they differ and `strict` is set.
    """
    recorded = recording.model.weights_digest if recording.model is not None else None
    actual = model.reference.weights_digest
    if recorded is None or actual is None or recorded == actual:
        return None
    what = f"the model's weights digest {actual} differs from the recording's {recorded}"
    if strict:
        raise WeightsMismatch(what, where=recording.path, cure="Pass the model that was recorded, or drop --strict")
    return what


def is_bundle(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def bundle_directories(directory: Path) -> list[Path]:
    """Directories directly below that hold a manifest, sorted by name.

    Raises:
        UsageError: the directory is not there.
        InputRefused: it holds no bundle.
    """
    if not directory.is_dir():
        raise UsageError("this directory does not exist", where=directory, cure="Give a directory of bundles")
    if is_bundle(directory):
        return [directory]
    found = sorted(path for path in directory.iterdir() if is_bundle(path))
    if not found:
        raise InputRefused("no bundle is in this directory", where=directory, cure="Give a directory of bundles")
    return found
