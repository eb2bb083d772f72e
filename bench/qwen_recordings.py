"""The 63 real recordings and the 16 planted faults of shared/data (see FAULTS.md there), in memory."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from model_forensics.types import ModelReference, Sample, SiteInfo, Sparse

ORDER = (
    "input_layernorm", "self_attn.q_proj", "self_attn.q_norm", "self_attn.k_proj", "self_attn.k_norm",
    "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.act_fn",
    "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
LAYERS = (2, 12, 22, 33)
SITES = ("model.embed_tokens", *(f"model.layers.{layer}.{name}" for layer in LAYERS for name in ORDER), "model.norm")
FAULTS = (
    "q4", "q8", "scale1.3", "scale1.1", "noise.3", "noise.1", "noise.3raw", "swap_adj", "swap_far",
    "stuck5",
    "sign5", "shift1", "clip.5", "drop_block", "permute", "nan1",
)  # fmt: skip
MODEL = ModelReference(architecture="Qwen3ForCausalLM", family="llama", layers=36, width=2560)


@dataclass
class QwenRecording:
    """One file as a `Recording` of one sample; `arrays` maps site → (values, indices, width)."""

    name: str
    arrays: Mapping[str, tuple[np.ndarray, np.ndarray, int]]
    names: tuple[str, ...]
    kind: str = "benign"
    created_at: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    path: Path | None = None
    content_digest: None = None
    model: ModelReference | None = MODEL
    failure: None = None
    sites: dict[str, SiteInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for site in self.names:
            layer = re.search(r"layers\.(\d+)\.", site)
            self.sites[site] = SiteInfo(
                name=site, module=site, kind="module", layer=int(layer[1]) if layer else None,
                features=self.arrays[site][2], dtype="bfloat16", layout="sparse",
            )  # fmt: skip

    @property
    def bundle_id(self) -> str:
        return self.name

    @property
    def group(self) -> str:
        return self.name.split("-")[0]

    @property
    def samples(self) -> tuple[Sample, ...]:
        return (Sample(sample_id=self.name, group=self.group, call=0, row=0, tokens=1),)

    def has_activation(self, site: str, sample: int) -> bool:
        return site in self.sites

    def activation(self, site: str, sample: int) -> Sparse:
        values, indices, width = self.arrays[site]
        return Sparse(values, indices, (1, width))

    def recorded_activations(self, sites: Sequence[str], sample: int) -> dict[str, Sparse]:
        return {site: self.activation(site, sample) for site in sites if self.has_activation(site, sample)}

    def inputs(self, call: int) -> dict[str, np.ndarray]:
        return {}

    def outputs(self, sample: int) -> dict[str, np.ndarray]:
        return {}


def module_order(name: str) -> tuple[int, int]:
    """Sort key: execution order of the modules."""
    layer = re.match(r"model\.layers\.(\d+)\.(.+)", name)
    if layer:
        return int(layer[1]), ORDER.index(layer[2])
    return {"model.embed_tokens": (-2, 0), "model.norm": (998, 0), "lm_head": (999, 0)}.get(name, (-1, 0))


def read_recording(path: Path, names: tuple[str, ...] | None = SITES) -> QwenRecording:
    """All sites, or those in `names`; values widened from bfloat16 to float32."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    shapes = json.loads(header["__metadata__"]["shapes"])

    def array(key: str) -> np.ndarray:
        start, stop = header[key]["data_offsets"]
        return np.frombuffer(
            data[8 + size + start : 8 + size + stop], {"U16": np.uint16, "U32": np.uint32}[header[key]["dtype"]]
        )

    arrays: dict[str, Any] = {}
    for name in shapes:
        indices = array(f"{name}/indices").astype(np.int64)
        values = (array(f"{name}/values").astype(np.uint32) << np.uint32(16)).view(np.float32)
        order = np.argsort(indices)
        arrays[name] = (values[order], indices[order], int(np.prod(shapes[name])))
    chosen = names if names is not None else tuple(sorted(arrays, key=module_order))
    return QwenRecording(path.stem, arrays, chosen)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round to nearest even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    result = (rounded & np.uint32(0xFFFF0000)).view(np.float32).copy()
    result[~np.isfinite(values)] = values[~np.isfinite(values)]
    return result


def plant(
    recording: QwenRecording, site: str, fault: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """The site's recording with one fault."""
    values, indices, width = recording.arrays[site]
    if fault in ("swap_adj", "swap_far"):
        other_values, other_indices, _ = recording.arrays[_swapped(site, 1 if fault == "swap_adj" else 18)]
        return other_values, other_indices, width
    if fault == "shift1":
        moved = (indices + 1) % width
        order = np.argsort(moved)
        return values[order], moved[order], width
    if fault == "permute":
        return rng.permutation(values), indices, width
    if fault in ("noise.3", "noise.1"):
        noisy = values + float(fault[5:]) * values.std() * rng.standard_normal(values.size).astype(np.float32)
        lost = np.abs(noisy) < np.abs(values).min()
        return _replace(noisy, indices, width, lost, values, np.empty(0, dtype=np.int64), rng)
    if fault == "drop_block":
        size = max(1, round(width * 0.05))
        start = int(rng.integers(0, width - size + 1))
        lost = (indices >= start) & (indices < start + size)
        return _replace(values, indices, width, lost, values, np.arange(start, start + size), rng)
    changed = _pointwise(values, fault, rng)
    return (changed if fault == "noise.3raw" else to_bfloat16(changed)), indices, width


def _pointwise(values: np.ndarray, fault: str, rng: np.random.Generator) -> np.ndarray:
    changed = values.copy()
    largest = np.abs(values).max()
    if fault in ("q4", "q8"):
        step = largest / (7 if fault == "q4" else 127)
        return (np.round(values / step) * step).astype(np.float32)
    if fault.startswith("scale"):
        return (values * np.float32(fault[5:])).astype(np.float32)
    if fault == "noise.3raw":
        return (values + 0.3 * values.std() * rng.standard_normal(values.size)).astype(np.float32)
    if fault == "stuck5":
        hit = rng.choice(values.size, max(1, round(values.size * 0.05)), replace=False)
        changed[hit] = np.median(np.abs(values))
    elif fault == "sign5":
        changed[rng.random(values.size) < 0.05] *= -1
    elif fault == "clip.5":
        changed = np.clip(values, -0.5 * largest, 0.5 * largest)
    elif fault == "nan1":
        changed[rng.integers(values.size)] = np.nan
    return changed


def _replace(values, indices, width, lost, original, forbidden, rng):  # type: ignore[no-untyped-def]
    """Entries in `lost` leave; as many other channels enter with values of the smallest fifth, random sign."""
    taken = np.zeros(width, dtype=bool)
    taken[indices] = True
    taken[forbidden] = True
    free = rng.choice(np.flatnonzero(~taken), int(lost.sum()), replace=False)
    magnitude = np.sort(np.abs(original))[: max(1, original.size // 5)]
    drawn = rng.choice(magnitude, free.size) * rng.choice([-1.0, 1.0], free.size)
    merged = np.concatenate([indices[~lost], free])
    order = np.argsort(merged)
    return to_bfloat16(np.concatenate([values[~lost], drawn.astype(np.float32)])[order]), merged[order], width


def _swapped(site: str, by: int) -> str:
    match = re.match(r"model\.layers\.(\d+)\.(.+)", site)
    if match:
        return f"model.layers.{(int(match[1]) + by) % 36}.{match[2]}"
    return "model.layers.35.post_attention_layernorm" if site == "model.norm" else "model.layers.0.input_layernorm"
