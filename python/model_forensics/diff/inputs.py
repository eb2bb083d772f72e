"""When two samples have the same input."""

from __future__ import annotations

import hashlib

import numpy as np

from model_forensics.types import Recording

_LAYOUT = frozenset({"attention_mask", "position_ids", "cache_position"})  # where tokens are, not what they are


def input_digests(recording: Recording, sample: int) -> dict[str, str]:
    """Digest of each input of one sample, padding removed; empty where the bundle holds none."""
    info = recording.samples[sample]
    arrays = recording.inputs(info.call)
    mask = arrays.get("attention_mask")
    real = None if mask is None or mask.ndim != 2 else np.asarray(mask[info.row]) != 0
    found = {}
    for name in sorted(set(arrays) - _LAYOUT):
        array = np.asarray(arrays[name])
        if array.ndim == 0 or info.row >= array.shape[0]:
            continue
        value = array[info.row]
        if real is not None and value.ndim >= 1 and value.shape[0] == real.size:
            value = value[real]
        if value.dtype.kind in "iub":
            value = value.astype(np.int64)
        head = f"{value.dtype}:{value.shape};".encode()
        found[name] = hashlib.sha256(head + np.ascontiguousarray(value).tobytes()).hexdigest()
    return found
