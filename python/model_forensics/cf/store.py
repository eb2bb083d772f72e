"""A baseline on disk, format 1.0: `baseline.json` and `baseline.safetensors`, versioned and digest-checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from model_forensics.cf.features.table import COLUMNS
from model_forensics.cf.moments import Moments
from model_forensics.cf.planes import Layout
from model_forensics.errors import BaselineError
from model_forensics.files import atomic_directory, open_safetensors, read_json, sha256_file, write_safetensors
from model_forensics.types import Frozen, ModelReference, SiteInfo

if TYPE_CHECKING:
    from model_forensics.cf.baseline import Baseline

FORMAT_VERSION = "1.0"
MANIFEST = "baseline.json"
TENSORS = "baseline.safetensors"
CURE = "Build the baseline again with model-forensics build-baseline"
EXACT_IN_FLOAT32 = 1 << 24
MOMENT_FIELDS = ("count", "total", "square", "positive", "rows")


class Manifest(Frozen):
    """`baseline.json`."""

    format: Literal["model-forensics baseline"] = "model-forensics baseline"
    format_version: str = FORMAT_VERSION
    baseline_id: str
    model: ModelReference | None
    sites: tuple[SiteInfo, ...] = Field(min_length=1)
    columns: tuple[str, ...]
    group_names: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    window: int = Field(ge=16)
    nonfinite: dict[str, int]
    warnings: tuple[str, ...]
    tensors_sha256: str


def group_digest(name: str) -> str:
    """16 hexadecimal digits; prompts may be private, so their names are not kept."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def content_digest(baseline: Baseline) -> str:
    """`sha256:…` over the JSON part and every array."""
    digest = hashlib.sha256(json.dumps(_description(baseline), sort_keys=True).encode())
    for name, array in sorted(_arrays(baseline).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def save(baseline: Baseline, directory: Path, *, overwrite: bool) -> None:
    with atomic_directory(directory, overwrite=overwrite) as temporary:
        write_safetensors(temporary / TENSORS, _arrays(baseline))
        manifest = Manifest.model_validate(
            _description(baseline)
            | {"baseline_id": baseline.baseline_id, "tensors_sha256": sha256_file(temporary / TENSORS)}
        )
        (temporary / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load(directory: Path, make: Callable[..., Baseline]) -> Baseline:
    """Read a baseline; `make` is its class (passed in, because `baseline` imports this module)."""
    manifest = _read_manifest(directory / MANIFEST)
    path = directory / TENSORS
    if sha256_file(path, error=BaselineError) != manifest.tensors_sha256:
        raise BaselineError("its bytes differ from the digest in baseline.json", where=path, cure=CURE)
    arrays = _read_arrays(path, Layout(manifest.sites), len(manifest.group_names))
    first, later = (Moments(*(arrays[f"{part}.{name}"] for name in MOMENT_FIELDS)) for part in ("first", "later"))
    baseline = make(
        model=manifest.model,
        layout=Layout(manifest.sites),
        moments=(first, later),
        tables=arrays["tables"],
        tokens=arrays["tokens"].astype(np.int64),
        group_names=manifest.group_names,
        methods=manifest.methods,
        window=manifest.window,
        nonfinite=manifest.nonfinite,
        warnings=manifest.warnings,
    )
    if baseline.baseline_id != manifest.baseline_id:
        raise BaselineError("its content differs from its baseline_id", where=directory / MANIFEST, cure=CURE)
    return baseline


def _read_manifest(path: Path) -> Manifest:
    content = read_json(path, error=BaselineError)
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
    if manifest.columns != COLUMNS:
        raise BaselineError("it holds other measurements than this release computes", where=path, cure=CURE)
    if any(info.features < 1 for info in manifest.sites) or len({i.name for i in manifest.sites}) < len(manifest.sites):
        raise BaselineError("a site is listed twice or has no features", where=path, cure=CURE)
    return manifest


def _read_arrays(path: Path, layout: Layout, samples: int) -> dict[str, npt.NDArray[np.float64]]:
    stored = open_safetensors(path, error=BaselineError)
    shapes: dict[str, tuple[int, ...]] = {
        "tables": (samples, len(layout), len(COLUMNS)),
        "tokens": (samples, len(layout)),
    }
    for part in ("first", "later"):
        shapes |= {f"{part}.{name}": (layout.channels,) for name in MOMENT_FIELDS[:-1]}
        shapes[f"{part}.rows"] = (len(layout),)
    # A class of tokens that the baseline never saw is not stored.
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
        if name != "tables" and not (np.isfinite(arrays[name]).all()):
            raise BaselineError(f"{name} holds NaN or Inf", where=path, cure=CURE)
    return arrays


def _description(baseline: Baseline) -> dict[str, Any]:
    return {
        "format": "model-forensics baseline",
        "format_version": FORMAT_VERSION,
        "model": None if baseline.model is None else baseline.model.model_dump(mode="json"),
        "sites": [info.model_dump(mode="json") for info in baseline.layout.sites],
        "columns": list(COLUMNS),
        "group_names": list(baseline.group_names),
        "methods": list(baseline.methods),
        "window": baseline.window,
        "nonfinite": baseline.nonfinite,
        "warnings": list(baseline.warnings),
    }


def _arrays(baseline: Baseline) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "tables": baseline.tables.astype(np.float32),
        "tokens": _counts(baseline.tokens.astype(np.float64)),
    }
    for part, moments in zip(("first", "later"), baseline.moments, strict=True):
        if part == "later" and not moments.rows.any():
            continue
        for name in MOMENT_FIELDS:
            values = getattr(moments, name)
            arrays[f"{part}.{name}"] = values if name in ("total", "square") else _counts(values)
    return arrays


def _counts(values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    return values.astype(np.float32) if values.max(initial=0) < EXACT_IN_FLOAT32 else values
