"""A baseline as bytes, for caches: what `store` writes, in one piece, with its sources' places as they are."""

from __future__ import annotations

import numpy as np
from safetensors import numpy as tensors

from model_forensics.cf import store
from model_forensics.cf.baseline import Baseline
from model_forensics.cf.planes import Layout
from model_forensics.files import dump_json

_MANIFEST = "manifest"


def pack_baseline(baseline: Baseline) -> bytes:
    """`unpack_baseline` makes the same baseline of it: same content, same scores, same places."""
    places = None if baseline.sources is None else [one.model_dump(mode="json") for one in baseline.sources]
    digests = {"baseline_id": baseline.baseline_id, "tensors_sha256": "", "checksum": ""}
    manifest = dump_json(store.describe(baseline) | digests | {"sources": places}, indent=None)
    arrays = {name: np.ascontiguousarray(array) for name, array in store.arrays_of(baseline).items()}
    packed: bytes = tensors.save({**arrays, _MANIFEST: np.frombuffer(manifest, dtype=np.uint8)})
    return packed


def unpack_baseline(data: bytes) -> Baseline:
    """The baseline of bytes that `pack_baseline` of this very release gave; they are trusted."""
    stored = tensors.load(data)
    manifest = store.Manifest.model_validate_json(stored.pop(_MANIFEST).tobytes())
    shapes = store.shapes_of(Layout(manifest.sites), len(manifest.group_names))
    arrays = {
        name: stored[name].astype(np.float64) if name in stored else np.zeros(shape) for name, shape in shapes.items()
    }
    return store.assemble(Baseline, manifest, arrays, manifest.sources)
