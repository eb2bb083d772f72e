"""Turns what a caller hands over (paths, loaded objects, modules) into what the stages take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_forensics import diff, report
from model_forensics.bundle import Shelf, is_bundle, load_bundle, load_bundles
from model_forensics.cf import Baseline, fit_baseline, is_baseline, missing_sources
from model_forensics.errors import (
    BaselineError,
    BundleError,
    EncryptionError,
    ModelError,
    StorageError,
    UsageError,
    WeightsMismatch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from model_forensics.cca import GivenValues
    from model_forensics.cf import Source
    from model_forensics.config import Config, ForensicsConfig
    from model_forensics.models import Model
    from model_forensics.types import Comparison, Recording


@dataclass(frozen=True)
class BenignSource:
    """A fitted baseline and, where there are any, the recordings that donors and side effects come from."""

    baseline: Baseline | None
    recordings: tuple[Recording, ...]
    path: Path | None


def open_recording(source: str | Path | Recording, config: Config) -> Recording:
    """A bundle by path, or the recording itself."""
    return load_bundle(find_bundle(source, config)) if isinstance(source, str | Path) else source


def find_bundle(source: str | Path, config: Config) -> Path:
    """The path itself, or that below `bundle_dir` where it leads to nothing from here and to something from there."""
    path = Path(source)
    stored = config.bundle_dir / path
    return stored if not path.is_absolute() and not path.exists() and stored.exists() else path


def open_baseline(
    source: str | Path | Baseline | BenignSource | Recording | Sequence[Recording] | None,
    config: Config,
    fit: Callable[[Sequence[Recording], ForensicsConfig], Baseline] = fit_baseline,
) -> BenignSource:
    """A fitted baseline, a benign bundle, a directory of them, or recordings; without one, the configured directory.
    What was opened before is taken as it is.

    Args:
        source: any of these, or its path.
        config: of the analysis.
        fit: gives the baseline of recordings.

    Raises:
        BaselineError: nothing benign is there.
    """
    if isinstance(source, BenignSource):
        return source
    if source is None:
        source = config.baseline_dir
    if source is None:
        return BenignSource(None, (), None)
    if isinstance(source, Baseline):
        return BenignSource(source, (), None)
    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None:
        if is_baseline(path):
            return BenignSource(Baseline.load(path), (), path)
        recordings: tuple[Recording, ...] = tuple(load_bundles(path))
    else:
        recordings = tuple(source) if isinstance(source, list | tuple) else (source,)  # type: ignore[assignment]
    return BenignSource(fit(benign_only(recordings, path), config.modules.cf), recordings, path)


def open_benign(places: Sequence[Path]) -> tuple[list[Baseline], list[Recording]]:
    """What is at these places: the fitted baselines, and the benign recordings of bundles and directories of them.

    A fitted baseline stands for the bundles that it was fitted from, which are among the recordings too. They are
    looked for among the bundles at the other places, by their ids, and then where they were. Bundles are opened when
    they are read, so that memory hardly grows with their number; see `bundle.Shelf`.

    Raises:
        BaselineError: nothing benign is there, or a source of a fitted baseline is missing or altered.
        BundleError: a bundle is broken.
    """
    shelf = Shelf()
    parts: list[Baseline] = []
    recordings: list[Recording] = []
    for place in places:
        if is_baseline(place):
            parts.append(Baseline.load(place))
        else:
            recordings += benign_only(shelf.add(place), place)
    for source in missing_sources(parts, recordings):
        recordings += benign_only([_open_source(source, shelf)], None)
    return parts, recordings


def _open_source(source: Source, shelf: Shelf) -> Recording:
    """The bundle that a baseline was fitted from, at the first place where it is and is unaltered.

    Raises:
        BaselineError: there is none.
    """
    problems = []
    for place in map(Path, source.places):
        try:
            (recording,) = shelf.add(place) if is_bundle(place) else [None]
        except (BundleError, EncryptionError) as problem:
            problems.append(str(problem))
            continue
        if recording is not None and recording.content_digest == source.content_digest:
            return recording
        problems.append(f"{place} {'holds nothing' if recording is None else 'holds another bundle'}")
    raise BaselineError(
        f"bundle {source.bundle_id!r}, which a baseline was fitted from, is not found unaltered: {'; '.join(problems)}",
        where=source.places[0],
        cure="Give the unaltered bundle, or the directory that holds it, along with the baseline",
    )


def check_baseline_output(
    output: Path, places: Sequence[Path], recordings: Sequence[Recording], *, overwrite: bool
) -> None:
    """Refuse an output that is there, and one that would replace or alter what is fitted; before the work.

    One of `places` may be replaced by its successor, when it is a baseline.

    Raises:
        UsageError: names what is in the way.
    """
    target = output.resolve()
    if target.exists() and not overwrite:
        raise UsageError("already exists", where=output, cure="Choose another name, or ask to overwrite it")
    bundles = [recording.path.resolve() for recording in recordings if recording.path is not None]
    replaced = [place for place in map(Path.resolve, places) if place != target] + bundles
    for place in replaced:
        if place.is_relative_to(target) or (place in bundles and target.is_relative_to(place)):
            raise UsageError(f"would replace or alter {place}", where=output, cure="Choose a place outside of it")


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


def open_donor_values(source: str | Path | Mapping[str, npt.NDArray[Any]] | None) -> GivenValues | None:
    """Activations to write, from a safetensors file or arrays by site."""
    if source is None:
        return None
    from model_forensics.cca import GivenValues  # noqa: PLC0415  (torch loads late)

    return GivenValues.read(source) if isinstance(source, str | Path) else GivenValues.of(source)


def open_recorded_model(recording: Recording, config: Config) -> tuple[Model | None, str | None]:
    """The model that a bundle names, or None and the reason why there is none.

    A bundle names a model; only a local directory or what is in the local hub cache is loaded, and never code.
    """
    source = None if recording.model is None else recording.model.source
    place = recorded_place(recording)
    if source is None or place is None:
        return None, "the bundle names no model source; pass --model to search for a fix"
    from model_forensics.models import load_model  # noqa: PLC0415  (torch loads late)

    try:
        return load_model(place, device=config.device, local_files_only=not Path(place).is_dir()), None
    except ModelError as error:
        return None, f"the bundle's model '{source}' could not be loaded, so no fix was searched: {error}"


def recorded_place(recording: Recording) -> str | None:
    """Where the model is that a bundle names: the full path of a directory, else the name itself; None without one."""
    source = None if recording.model is None else recording.model.source
    if source is None:
        return None
    directory = Path(source)
    if not directory.is_absolute() and recording.path is not None:
        directory = recording.path / directory
    return str(directory.resolve()) if directory.is_dir() else source


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


def output_paths(
    output: str | Path | None, html: str | Path | bool, recording: Recording, config: Config, *, overwrite: bool
) -> tuple[Path, Path | None]:
    """Where the JSON and the HTML go; refused before the work when they could not be written there after it.

    Raises:
        UsageError: something is there and may not be replaced, both are one file, or a place is inside the bundle,
            whose files are exactly those that its manifest lists.
        StorageError: a directory cannot be written to.
    """
    path = Path(output) if output is not None else config.output_dir / f"{recording.bundle_id}.json"
    page = None if html is False else path.with_suffix(".html") if html is True else Path(html)
    if page is not None and page.resolve() == path.resolve():
        cure = "Give the JSON another ending than .html, or name another file for the report"
        raise UsageError("both the JSON and the HTML would go here", where=page, cure=cure)
    for place in (path, *([] if page is None else [page])):
        if recording.path is not None and place.resolve().is_relative_to(recording.path.resolve()):
            raise UsageError("is inside the incident bundle", where=place, cure="Choose a place outside of it")
        check_writable(place, overwrite=overwrite)
    return path, page


def check_writable(path: Path, *, overwrite: bool = True) -> None:
    """Whether a file can be made here, as far as can be told without making it.

    Raises:
        UsageError: a directory is there, or a file that may not be replaced.
        StorageError: what should be its directory is a file, or may not be written to.
    """
    if path.is_dir():
        raise UsageError("a directory", where=path, cure="Give the name of a file")
    if not overwrite and os.path.lexists(path):
        raise UsageError("is there already", where=path, cure="Choose another name, or replace it with --force")
    parent = path.absolute().parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise StorageError(f"{parent} is not a directory", where=path, cure="Choose another directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise StorageError(
            f"writing to {parent} is not permitted", where=path, cure="Change its permissions, or choose another one"
        )


def compare(left: Path, right: Path) -> Comparison:
    """What differs between two bundles or between two results files.

    Raises:
        UsageError: one is a bundle and the other a results file.
        InputRefused: one of them cannot be read.
    """
    names = (str(left), str(right))
    if left.is_dir() != right.is_dir():
        bundle, results = (left, right) if left.is_dir() else (right, left)
        raise UsageError(
            f"{bundle} is a bundle and {results} a results file", cure="Give two bundles, or two results files"
        )
    if left.is_dir():
        return diff.compare_recordings(load_bundle(left), load_bundle(right), names)
    return diff.compare_results(report.read_json_result(left), report.read_json_result(right), names)
