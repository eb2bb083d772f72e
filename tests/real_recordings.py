"""The real recordings (Qwen3-4B, sparse bfloat16) as bundles; tests that need them skip where they are absent.

The folder is `$MODEL_FORENSICS_REAL_DATA/qwen3-4b-recordings`, or `../shared/data/…` beside the repository.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from model_forensics.bundle import BundleWriter
from model_forensics.files import open_safetensors
from model_forensics.types import BundleKind, ModelReference, SiteInfo, Sparse


def real_recordings() -> list[Path]:
    """Paths of the recordings, sorted; skips the test with a reason where there are none."""
    root = os.environ.get("MODEL_FORENSICS_REAL_DATA")
    base = Path(root) if root else Path(__file__).parents[2] / "shared" / "data"
    files = sorted((base / "qwen3-4b-recordings").glob("*.safetensors"))
    if not files:
        pytest.skip(f"no real recordings in {base}; set MODEL_FORENSICS_REAL_DATA")
    return files


def import_qwen(folder: Path | None, out: Path, *, kind: BundleKind = "benign", limit: int | None = None) -> list[Path]:
    """Write each recording as a bundle `out/<recording>`; returns their paths, sorted by name."""
    files = real_recordings() if folder is None else sorted(folder.glob("*.safetensors"))
    return [import_one(file, out / file.stem, kind=kind) for file in files[:limit]]


def import_one(file: Path, target: Path, *, kind: BundleKind = "benign") -> Path:
    """Write one recording as a bundle of one sample: sites are module paths, [1, heads · features] each, sparse."""
    tensors = open_safetensors(file)
    shapes = json.loads(tensors.metadata["shapes"])
    model = ModelReference(
        source=tensors.metadata["model"], architecture="Qwen3ForCausalLM", family="qwen3", layers=36, width=2560
    )
    with BundleWriter(target, kind=kind, model=model, created_at=datetime(2025, 1, 1, tzinfo=UTC)) as writer:
        activations = {}
        for name, shape in sorted(shapes.items(), key=lambda item: _execution_order(item[0])):
            features = int(np.prod(shape[2:]))
            writer.declare_site(
                SiteInfo(
                    name=name,
                    module=name,
                    kind="module",
                    layer=_layer(name),
                    features=features,
                    dtype="bfloat16",
                    layout="sparse",
                )
            )
            indices = tensors.array(f"{name}/indices").astype(np.int64)
            activations[name] = Sparse(tensors.array(f"{name}/values"), indices, (1, features))
        writer.add_sample(
            activations=activations, text=tensors.metadata["prompt"], group=file.stem.partition("-")[0], tokens=1
        )
    return target


_IN_LAYER = (
    "input_layernorm", "q_proj", "q_norm", "k_proj", "k_norm", "v_proj", "o_proj",
    "post_attention_layernorm", "gate_proj", "act_fn", "up_proj", "down_proj",
)  # fmt: skip
_OUTSIDE = ("model.embed_tokens", "model.rotary_emb_output_0", "model.rotary_emb_output_1", "model.norm", "lm_head")


def _layer(name: str) -> int | None:
    parts = name.split(".")
    return int(parts[2]) if name.startswith("model.layers.") else None


def _execution_order(name: str) -> tuple[int, int]:
    layer = _layer(name)
    if layer is not None:
        return layer, _IN_LAYER.index(name.rpartition(".")[2])
    place = _OUTSIDE.index(name)
    return (-1 if place < 3 else 1000), place
