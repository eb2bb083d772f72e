"""Recordings of a small random GPT-2 on distinct prompts of varied length, clean or with one damaged component."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from model_forensics.types import ModelReference, Sample, SiteInfo

LAYERS, WIDTH, VOCABULARY = 6, 64, 200
MODEL = ModelReference(architecture="GPT2LMHeadModel", family="gpt2", layers=LAYERS, width=WIDTH)


@dataclass
class DenseRecording:
    """Samples in memory: one dict of site → [tokens, features] each."""

    bundle_id: str
    arrays: list[dict[str, np.ndarray]]
    groups: list[str]
    sites: dict[str, SiteInfo]
    kind: str = "benign"
    created_at: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    path: None = None
    model: ModelReference | None = MODEL
    failure: None = None

    @property
    def samples(self) -> list[Sample]:
        return [
            Sample(
                sample_id=f"{self.bundle_id}-{i}", group=group, call=0, row=i, tokens=len(next(iter(arrays.values())))
            )
            for i, (arrays, group) in enumerate(zip(self.arrays, self.groups, strict=True))
        ]

    def has_activation(self, site: str, sample: int) -> bool:
        return site in self.arrays[sample]

    def activation(self, site: str, sample: int) -> np.ndarray:
        return self.arrays[sample][site]

    def inputs(self, call: int) -> dict[str, np.ndarray]:
        return {}

    def outputs(self, sample: int) -> dict[str, np.ndarray]:
        return {}


def build_model(seed: int = 0) -> GPT2LMHeadModel:
    """Random weights at five times the usual scale, so that layers do something to the residual stream."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=64, n_embd=WIDTH, n_layer=LAYERS, n_head=4, initializer_range=0.1
    )
    return GPT2LMHeadModel(config).eval()


def site_modules(model: GPT2LMHeadModel) -> Iterator[tuple[SiteInfo, Any]]:
    def info(name: str, module: str, kind: Any, layer: int | None) -> SiteInfo:
        return SiteInfo(name=name, module=module, kind=kind, layer=layer, features=WIDTH, dtype="float32")

    yield info("embed", "transformer.drop", "embed", None), model.transformer.drop
    for layer, block in enumerate(model.transformer.h):
        path = f"transformer.h.{layer}"
        yield info(f"L{layer}.attn", f"{path}.attn", "attn", layer), block.attn
        yield info(f"L{layer}.mlp", f"{path}.mlp", "mlp", layer), block.mlp
        yield info(f"L{layer}.resid", path, "resid", layer), block


@torch.no_grad()
def record(model: GPT2LMHeadModel, prompts: list[np.ndarray], name: str, groups: list[str]) -> DenseRecording:
    """Run the prompts one by one."""
    sites = {info.name: info for info, _ in site_modules(model)}
    seen: dict[str, np.ndarray] = {}
    handles = []
    for info, module in site_modules(model):

        def keep(_module: Any, _inputs: Any, output: Any, site: str = info.name) -> None:
            seen[site] = (output[0] if isinstance(output, tuple) else output)[0].numpy().copy()

        handles.append(module.register_forward_hook(keep))
    arrays = []
    try:
        for prompt in prompts:
            model(input_ids=torch.from_numpy(prompt)[None])
            arrays.append(dict(seen))
    finally:
        for handle in handles:
            handle.remove()
    return DenseRecording(name, arrays, groups, sites)


def prompts(count: int, seed: int) -> list[np.ndarray]:
    """Distinct prompts of 6 to 40 tokens with a Zipf-like vocabulary; each has its own favourite tokens."""
    rng = np.random.default_rng(seed)
    base = 1 / np.arange(1, VOCABULARY + 1)
    result = []
    for _ in range(count):
        weight = base * rng.gamma(0.5, size=VOCABULARY)
        result.append(rng.choice(VOCABULARY, int(rng.integers(6, 41)), p=weight / weight.sum()).astype(np.int64))
    return result


def damaged(model: GPT2LMHeadModel, layer: int, kind: str, damage: str, seed: int = 0) -> GPT2LMHeadModel:
    """A copy with one damaged output projection: `noise`, `zero_rows` or `quantized` (3 bits)."""
    broken = copy.deepcopy(model)
    block = broken.transformer.h[layer]
    weight = (block.attn if kind == "attn" else block.mlp).c_proj.weight.data
    generator = torch.Generator().manual_seed(seed)
    if damage == "noise":
        weight += 0.5 * weight.std() * torch.randn(weight.shape, generator=generator)
    elif damage == "zero_rows":
        weight[: weight.shape[0] // 4] = 0
    else:
        step = weight.abs().max() / 3
        weight.copy_((weight / step).round() * step)
    return broken
