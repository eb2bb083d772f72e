"""Which results are kept between runs, and under which keys: what can be computed again bit for bit, and nothing else.

Kept: baselines that are fitted on the fly, forensics of stored incidents, and healthy base runs of stock models. Not
kept: the incident's own run and the edited ones. Replaying the incident is part of the proof (does this model, here and
now, fail as recorded?); a replay from the cache would prove nothing. See docs/storage.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import model_forensics
from model_forensics import cf, ops
from model_forensics.files import sha256_file
from model_forensics.logs import LOGGER
from model_forensics.store import Cache, cache_key
from model_forensics.types import ForensicsResult

if TYPE_CHECKING:
    from torch import Tensor

    from model_forensics.cf import Baseline
    from model_forensics.config import ForensicsConfig
    from model_forensics.config.schema import CacheConfig
    from model_forensics.models import Model
    from model_forensics.types import Recording

FITTING: Final = ("baseline_samples", "compression_methods", "entropy_window")
"""Keys of `modules.cf` that a baseline depends on."""
JUDGING: Final = ("anomaly_threshold", "compression_methods", "entropy_window")
"""Keys of `modules.cf` that forensics against a baseline depends on."""
MOST_RUN_BYTES: Final = 512 << 20
"""Of one base run: larger ones would push everything else out, and are copied in memory while they are written."""
STEERING: Final = ("BLIS_", "GOTO_", "MKL_", "NPY_", "NUMBA_", "OMP_", "OPENBLAS_")
"""How variables begin that say on how many threads, and with which instructions, libraries compute."""


class Kept:
    """Results from the cache where they are there, else computed and kept; the same either way.

    Args:
        settings: the section `cache`.
    """

    def __init__(self, settings: CacheConfig) -> None:
        directory = _directory(settings) if settings.enabled else None
        self._cache = None if directory is None else Cache(directory, settings.size)

    def baseline(self, recordings: Sequence[Recording], config: ForensicsConfig) -> Baseline:
        """As `cf.fit_baseline`."""
        if self._cache is None or any(one.content_digest is None or one.path is None for one in recordings):
            return cf.fit_baseline(recordings, config)
        # A baseline knows where its sources are.
        sources = [[one.content_digest, os.path.realpath(str(one.path))] for one in recordings]
        key = _key("baseline", sources=sources, config=config.model_dump(mode="json", include=set(FITTING)))
        kept = self._cache.get(key)
        if kept is not None:
            meta, packed = kept.split(b"\n", 1)
            ops.note_served(json.loads(meta))
            return cf.unpack_baseline(packed)
        with ops.collected() as served:
            fitted = cf.fit_baseline(recordings, config)
        self._cache.put(key, json.dumps(served).encode() + b"\n" + cf.pack_baseline(fitted))
        return fitted

    def run(self, model: Model, of: Mapping[str, Any], compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `compute` gives of this model: the `recall` of `cca.find_fix_set`."""
        from safetensors.torch import load, save  # noqa: PLC0415  (torch loads late)

        from model_forensics.models import computation  # noqa: PLC0415

        identity = None if self._cache is None else computation(model)
        if self._cache is None or identity is None:
            return compute()
        key = _key("run", model=identity, of=of)
        kept = self._cache.get(key)
        if kept is not None:
            return load(kept)
        computed = compute()
        if sum(value.nbytes for value in computed.values()) <= MOST_RUN_BYTES:
            # Copies, because the format takes no views of one tensor, which the rows of a batch are.
            self._cache.put(key, save({name: value.clone() for name, value in computed.items()}))
        return computed

    def forensics(
        self,
        recording: Recording,
        baseline: Baseline | None,
        config: ForensicsConfig,
        compute: Callable[[], ForensicsResult],
        progress: Callable[[int, int], None],
    ) -> ForensicsResult:
        """What `compute` gives for these inputs: the result of `cf.analyze`, with windows."""
        if self._cache is None or recording.content_digest is None:
            return compute()
        key = _key(
            "forensics",
            incident=recording.content_digest,
            baseline=None if baseline is None else baseline.baseline_id,
            config=config.model_dump(mode="json", include=set(JUDGING)),
        )
        kept = self._cache.get(key)
        if kept is not None:
            meta, document = kept.split(b"\n", 1)
            ops.note_served(json.loads(meta))
            progress(len(recording.samples), len(recording.samples))
            return ForensicsResult.model_validate_json(document)
        with ops.collected() as served:
            found = compute()
        document = found.model_dump_json().encode()
        if ForensicsResult.model_validate_json(document) == found:  # JSON has no NaN
            self._cache.put(key, json.dumps(served).encode() + b"\n" + document)
        return found


def _key(kind: str, **parts: Any) -> str:
    return cache_key(kind, made_by=_maker(), **parts)


@cache
def _maker() -> dict[str, Any]:
    """What computes: results may differ in their last bits between versions, processors and settings of libraries."""
    names = ("model-forensics", "numpy", "scipy", "numba")
    return {
        "code": _code_digest(Path(model_forensics.__file__).parent),
        "versions": {name: version(name) for name in names},
        "python": platform.python_version(),
        "libc": platform.libc_ver(),  # logarithms of the compiled core
        "machine": [platform.machine(), _processor()],
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(STEERING)},
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "backend": ops.select("predictive_bits", np.empty(0, np.float32)).backend,
        "core": _core_digest(),
    }


def _code_digest(package: Path) -> str:
    """Of this package's code: an edit makes another key, also without another version."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _core_digest() -> str | None:
    """Of the compiled core, once an operation was asked for; None where there is none."""
    core = sys.modules.get("model_forensics._core")
    return None if core is None or core.__file__ is None else sha256_file(core.__file__)


def _processor() -> str:
    """Model and abilities of the processor, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    told = {line.split(":")[0].strip(): line for line in reversed(lines) if ":" in line}
    return hashlib.sha256("".join(told.get(name, "") for name in ("model name", "flags")).encode()).hexdigest()


def _directory(settings: CacheConfig) -> Path | None:
    """None, with a warning, where the user has no home."""
    if settings.directory is not None:
        return settings.directory
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "model-forensics"
    try:
        return Path.home() / ".cache" / "model-forensics"
    except RuntimeError as problem:
        LOGGER.warning("nothing is kept in the cache: %s; set cache.directory, or switch it off", problem)
        return None
