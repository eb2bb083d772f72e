"""A baseline on disk, format 2.1: `baseline.json` and `baseline.safetensors`, versioned and digest-checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from model_forensics.cf.compatibility import SiteForms
from model_forensics.cf.features.table import COLUMNS
from model_forensics.cf.innovation import MOST_SOURCES, Innovations, upstream_sites
from model_forensics.cf.moments import Moments
from model_forensics.cf.origin import Source
from model_forensics.cf.planes import Layout
from model_forensics.cf.sketch import SKETCH
from model_forensics.errors import BaselineError
from model_forensics.files import (
    EncryptionKey,
    Seal,
    Storage,
    atomic_directory,
    create_file,
    dump_json,
    encryption_key,
    holds,
    open_safetensors,
    read_json,
    sha256_bytes,
    sha256_file,
    write_safetensors,
)
from model_forensics.types import Frozen, ModelReference, SiteInfo

if TYPE_CHECKING:
    from model_forensics.cf.baseline import Baseline

FORMAT_VERSION = "2.1"
CONTAINER = "baseline"
MANIFEST = "baseline.json"
TENSORS = "baseline.safetensors"
CURE = "Build the baseline again with model-forensics build-baseline"
EXACT_IN_FLOAT32 = 1 << 24
INNOVATION_FIELDS = ("centre", "own", "given")
MOMENT_FIELDS = ("count", "total", "square", "positive", "rows")


class Manifest(Frozen):
    """`baseline.json`."""

    format: Literal["model-forensics baseline"] = "model-forensics baseline"
    format_version: str = FORMAT_VERSION
    baseline_id: str
    model: ModelReference | None
    sites: tuple[SiteInfo, ...] = Field(min_length=1)
    forms: tuple[SiteForms, ...]
    columns: tuple[str, ...]
    group_names: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    window: int = Field(ge=16)
    nonfinite: dict[str, int]
    warnings: tuple[str, ...]
    sources: tuple[Source, ...] | None
    tensors_sha256: str
    checksum: str  # of all the rest of this file


def group_digest(name: str) -> str:
    """16 hexadecimal digits; prompts may be private, so their names are not kept."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def content_digest(baseline: Baseline) -> str:
    """`sha256:…` over the JSON part and every array."""
    digest = hashlib.sha256(json.dumps(describe(baseline), sort_keys=True).encode())
    for name, array in sorted(arrays_of(baseline).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def is_baseline(directory: Path) -> bool:
    """Whether a baseline's manifest is there, plain or encrypted; it is not looked at."""
    return holds(directory, MANIFEST)


def save(baseline: Baseline, directory: Path, *, overwrite: bool) -> None:
    key = encryption_key()
    with atomic_directory(directory, overwrite=overwrite) as temporary:
        storage = Storage(temporary, CONTAINER, key)
        write_safetensors(storage.path(TENSORS), arrays_of(baseline), seal=storage.seal(TENSORS))
        content = describe(baseline) | {
            "baseline_id": baseline.baseline_id,
            "sources": _stored_sources(baseline, directory),
            "tensors_sha256": sha256_file(storage.path(TENSORS), seal=storage.seal(TENSORS)),
        }
        with create_file(storage.path(MANIFEST), storage.seal(MANIFEST)) as out:
            out.write(dump_json(content | {"checksum": _checksum(content)}))


def load(directory: Path, make: Callable[..., Baseline], key: EncryptionKey | None) -> Baseline:
    """Read a baseline; `make` is its class (passed in, because `baseline` imports this module)."""
    storage = Storage.of(directory, CONTAINER, MANIFEST, key)
    manifest = _read_manifest(storage)
    path, seal = storage.path(TENSORS), storage.seal(TENSORS)
    if sha256_file(path, seal=seal, error=BaselineError) != manifest.tensors_sha256:
        raise BaselineError("its bytes differ from the digest in baseline.json", where=path, cure=CURE)
    arrays = _read_arrays(path, seal, Layout(manifest.sites), len(manifest.group_names))
    baseline = assemble(make, manifest, arrays, _loaded_sources(manifest, directory))
    if baseline.baseline_id != manifest.baseline_id:
        raise BaselineError("its content differs from its baseline_id", where=storage.path(MANIFEST), cure=CURE)
    return baseline


def assemble(
    make: Callable[..., Baseline],
    manifest: Manifest,
    arrays: Mapping[str, npt.NDArray[np.float64]],
    sources: tuple[Source, ...] | None,
) -> Baseline:
    """A baseline from what is stored of it; the arrays are those of `shapes`."""
    first, later = (Moments(*(arrays[f"{part}.{name}"] for name in MOMENT_FIELDS)) for part in ("first", "later"))
    return make(
        model=manifest.model,
        layout=Layout(manifest.sites),
        moments=(first, later),
        tables=arrays["tables"],
        innovations=Innovations(
            upstream_sites(Layout(manifest.sites)),
            *(arrays[f"innovations.{name}"].astype(np.float32) for name in INNOVATION_FIELDS),
        ),
        profiles=arrays["profiles"],
        tokens=arrays["tokens"].astype(np.int64),
        group_names=manifest.group_names,
        methods=manifest.methods,
        window=manifest.window,
        nonfinite=manifest.nonfinite,
        warnings=manifest.warnings,
        forms=manifest.forms,
        sources=sources,
    )


def _read_manifest(storage: Storage) -> Manifest:
    path = storage.path(MANIFEST)
    content = read_json(path, seal=storage.seal(MANIFEST), error=BaselineError)
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise BaselineError(
            f"format_version is {version!r}, this release reads {FORMAT_VERSION}", where=path, cure=CURE
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise BaselineError(f"field {key}: {first['msg']}", where=path, cure=CURE) from problem
    if manifest.checksum != _checksum(content):
        raise BaselineError("its content differs from its checksum", where=path, cure=CURE)
    if manifest.columns != COLUMNS:
        raise BaselineError("it holds other measurements than this release computes", where=path, cure=CURE)
    if any(info.features < 1 for info in manifest.sites) or len({i.name for i in manifest.sites}) < len(manifest.sites):
        raise BaselineError("a site is listed twice or has no features", where=path, cure=CURE)
    if len(manifest.forms) != len(manifest.sites):
        raise BaselineError(f"{len(manifest.forms)} forms of {len(manifest.sites)} sites", where=path, cure=CURE)
    return manifest


def shapes_of(layout: Layout, samples: int) -> dict[str, tuple[int, ...]]:
    """Of every array; those of `later` tokens are stored only where the baseline saw some."""
    shapes: dict[str, tuple[int, ...]] = {
        "tables": (samples, len(layout), len(COLUMNS)),
        "tokens": (samples, len(layout)),
        "profiles": (samples, len(layout), SKETCH),
        "innovations.centre": (len(layout), SKETCH),
        "innovations.own": (len(layout), SKETCH, SKETCH),
        "innovations.given": (len(layout), MOST_SOURCES, SKETCH, SKETCH),
    }
    for part in ("first", "later"):
        shapes |= {f"{part}.{name}": (layout.channels,) for name in MOMENT_FIELDS[:-1]}
        shapes[f"{part}.rows"] = (len(layout),)
    return shapes


def _read_arrays(path: Path, seal: Seal | None, layout: Layout, samples: int) -> dict[str, npt.NDArray[np.float64]]:
    stored = open_safetensors(path, seal=seal, error=BaselineError)
    shapes = shapes_of(layout, samples)
    absent = {name for name in shapes if name.startswith("later.") and name not in stored.names}
    if set(stored.names) != set(shapes) - absent or (absent and "later.rows" not in absent):
        raise BaselineError(f"it holds {sorted(stored.names)[:12]}, not {sorted(shapes)}", where=path, cure=CURE)
    arrays: dict[str, npt.NDArray[np.float64]] = {}
    for name, shape in shapes.items():
        if name in absent:
            arrays[name] = np.zeros(shape)
            continue
        if stored.shape(name) != shape or stored.dtype(name) not in ("F32", "F64"):
            raise BaselineError(
                f"{name} is {stored.dtype(name)} {stored.shape(name)}, not {shape}", where=path, cure=CURE
            )
        arrays[name] = stored.array(name).astype(np.float64)
        if name not in ("tables", "profiles") and not (np.isfinite(arrays[name]).all()):
            raise BaselineError(f"{name} holds NaN or Inf", where=path, cure=CURE)
    return arrays


def describe(baseline: Baseline) -> dict[str, Any]:
    return {
        "format": "model-forensics baseline",
        "format_version": FORMAT_VERSION,
        "model": None if baseline.model is None else baseline.model.model_dump(mode="json"),
        "sites": [info.model_dump(mode="json") for info in baseline.layout.sites],
        "forms": [forms.model_dump(mode="json") for forms in baseline.forms],
        "columns": list(COLUMNS),
        "group_names": list(baseline.group_names),
        "methods": list(baseline.methods),
        "window": baseline.window,
        "nonfinite": baseline.nonfinite,
        "warnings": list(baseline.warnings),
        "sources": None
        if baseline.sources is None
        else [source.model_dump(mode="json", exclude={"places"}) for source in baseline.sources],
    }


def _stored_sources(baseline: Baseline, directory: Path) -> list[dict[str, Any]] | None:
    if baseline.sources is None:
        return None
    return [source.stored_in(directory.resolve()).model_dump(mode="json") for source in baseline.sources]


def _loaded_sources(manifest: Manifest, directory: Path) -> tuple[Source, ...] | None:
    if manifest.sources is None:
        return None
    return tuple(source.loaded_from(directory.resolve()) for source in manifest.sources)


def _checksum(content: dict[str, Any]) -> str:
    kept = {field: value for field, value in content.items() if field != "checksum"}
    return sha256_bytes(json.dumps(kept, sort_keys=True).encode())


def arrays_of(baseline: Baseline) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "tables": baseline.tables.astype(np.float32),
        "tokens": _counts(baseline.tokens.astype(np.float64)),
        "profiles": baseline.profiles.astype(np.float32),
    }
    for name in INNOVATION_FIELDS:
        arrays[f"innovations.{name}"] = getattr(baseline.innovations, name)
    for part, moments in zip(("first", "later"), baseline.moments, strict=True):
        if part == "later" and not moments.rows.any():
            continue
        for name in MOMENT_FIELDS:
            values = getattr(moments, name)
            arrays[f"{part}.{name}"] = values if name in ("total", "square") else _counts(values)
    return arrays


def _counts(values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    return values.astype(np.float32) if values.max(initial=0) < EXACT_IN_FLOAT32 else values
