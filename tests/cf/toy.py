"""A small network with fixed weights, its recordings in memory, and the same as bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from model_forensics.bundle import BundleWriter, load_bundle
from model_forensics.bundle.reader import Bundle
from model_forensics.config import ForensicsConfig
from model_forensics.types import ModelReference, Sample, SiteInfo, Sparse

CONFIG = ForensicsConfig(compression_methods=("arithmetic", "zlib"), entropy_window=64, baseline_samples=100)
WIDTH = 48
LAYERS = 4
MODEL = ModelReference(
    architecture="Toy",
    family="gpt2",
    layers=LAYERS,
    width=WIDTH,
    weights_digest="sha256:a",
    tokenizer_digest="sha256:t",
)


@dataclass
class MemoryRecording:
    bundle_id: str
    arrays: list[dict[str, Any]]
    groups: list[str]
    model: ModelReference | None = MODEL
    kind: Any = "benign"
    created_at: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    path: Path | None = None
    content_digest: str | None = None
    failure: None = None
    sites: dict[str, SiteInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for arrays in self.arrays:
            for name, value in arrays.items():
                kind: Any = name.split(".")[-1]
                layer = int(name[1]) if name.startswith("L") else None
                layout: Any = "sparse" if isinstance(value, Sparse) else "dense"
                self.sites[name] = SiteInfo(
                    name=name,
                    module=f"m.{name}",
                    kind=kind,
                    layer=layer,
                    features=value.shape[1],
                    dtype="float32",
                    layout=layout,
                )

    @property
    def samples(self) -> Sequence[Sample]:
        return [
            Sample(sample_id=f"s{i}", group=group, call=0, row=i, tokens=next(iter(arrays.values())).shape[0])
            for i, (arrays, group) in enumerate(zip(self.arrays, self.groups, strict=True))
        ]

    def activation(self, site: str, sample: int) -> Any:
        return self.arrays[sample][site]

    def has_activation(self, site: str, sample: int) -> bool:
        return site in self.arrays[sample]

    def inputs(self, call: int) -> dict[str, Any]:
        return {}

    def outputs(self, sample: int) -> dict[str, Any]:
        return {}


def toy_run(seed: int, damaged: str | None = None) -> dict[str, np.ndarray]:
    """A small random network whose components have fixed weights; damage in one component spreads downstream."""
    weights = np.random.default_rng(7)
    rng = np.random.default_rng([1, seed])
    tokens = int(rng.integers(5, 14))
    table = weights.normal(size=(30, WIDTH)) + weights.normal(size=WIDTH)
    stream = table[rng.integers(0, 30, tokens)]
    run = {"embed": stream}
    for layer in range(LAYERS):
        for kind in ("attn", "mlp"):
            matrix = weights.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)
            bias = weights.normal(size=WIDTH)
            source = stream if kind == "mlp" else np.cumsum(stream, axis=0) / np.arange(1, tokens + 1)[:, None]
            normal = source / np.sqrt((source**2).mean(axis=1, keepdims=True))
            output = np.tanh(normal @ matrix + bias)
            if damaged == f"L{layer}.{kind}":
                output = np.roll(output, 5, axis=1) * 2
            stream = stream + output
            run[f"L{layer}.{kind}"] = output
        run[f"L{layer}.resid"] = stream
    return {name: value.astype(np.float32) for name, value in run.items()}


def recording(seeds: Sequence[int], damaged: str | None = None, name: str = "r") -> MemoryRecording:
    return MemoryRecording(name, [toy_run(seed, damaged) for seed in seeds], [f"g{seed}" for seed in seeds])


def bundle(path: Path, source: MemoryRecording) -> Bundle:
    """The recording as a bundle at `path`, whose name is its id."""
    with BundleWriter(path, kind=source.kind, model=source.model, created_at=source.created_at) as writer:
        for info in source.sites.values():
            writer.declare_site(info)
        for sample, arrays in zip(source.samples, source.arrays, strict=True):
            writer.add_sample(activations=arrays, group=sample.group, sample_id=sample.sample_id)
    return load_bundle(path)
