"""Tiny models with one damaged component, and recordings of them in memory."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from model_forensics.errors import UnknownSite
from model_forensics.failure import Failure
from model_forensics.models import Model, hooks, rows
from model_forensics.types import ModelReference, Sample, SiteInfo

sys.path.insert(0, str(Path(__file__).parent))  # mechanisms

VOCABULARY = 48


@dataclass
class MemoryRecording:
    """A `Recording` in memory."""

    bundle_id: str
    kind: str
    samples: list[Sample]
    calls: list[dict[str, npt.NDArray[Any]]]
    recorded: dict[str, list[npt.NDArray[Any] | None]]
    logged: list[dict[str, npt.NDArray[Any]]]
    sites: dict[str, SiteInfo]
    failure: Failure | None = None
    model: ModelReference | None = None
    path: Path | None = None
    content_digest: None = None
    created_at: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def activation(self, site: str, sample: int) -> npt.NDArray[Any]:
        value = self.recorded.get(site, [None] * len(self.samples))[sample]
        if value is None:
            raise UnknownSite("not recorded", where=site, cure="Record it")
        return value

    def has_activation(self, site: str, sample: int) -> bool:
        return site in self.recorded and self.recorded[site][sample] is not None

    def inputs(self, call: int) -> Mapping[str, npt.NDArray[Any]]:
        return self.calls[call]

    def outputs(self, sample: int) -> Mapping[str, npt.NDArray[Any]]:
        return self.logged[sample]


def tiny_gpt2(layers: int = 3, seed: int = 0) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=32, n_embd=32, n_layer=layers, n_head=4, attn_implementation="eager"
    )
    module = GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # large enough that the layers matter beside the embedding
        for name, parameter in module.named_parameters():
            if "c_proj.weight" in name or "c_fc.weight" in name or "c_attn.weight" in name:
                parameter.mul_(8.0)
    return module


def damaged_copy(module: torch.nn.Module, layer: int, kind: str, seed: int = 1, scale: float = 3.0) -> torch.nn.Module:
    """The module with noise in one output projection."""
    broken = copy.deepcopy(module)
    block = broken.transformer.h[layer]  # type: ignore[union-attr,index]
    weight = (block.attn if kind == "attn" else block.mlp).c_proj.weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight.add_(torch.randn(weight.shape, generator=generator) * weight.std() * scale)
    return broken


def batches(count: int, *, size: int = 3, seed: int = 0, side: str = "right") -> list[dict[str, npt.NDArray[Any]]]:
    """Padded batches of random token ids; every row has its own length."""
    random = np.random.default_rng(seed)
    calls = []
    for start in range(0, count, size):
        lengths = random.integers(4, 9, min(size, count - start))
        ids = np.zeros((len(lengths), int(lengths.max())), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, length in enumerate(lengths):
            where = slice(0, length) if side == "right" else slice(ids.shape[1] - int(length), None)
            ids[row, where] = random.integers(1, VOCABULARY, length)
            mask[row, where] = 1
        calls.append({"input_ids": ids, "attention_mask": mask})
    return calls


def record(
    module: torch.nn.Module | Model,
    calls: Sequence[dict[str, npt.NDArray[Any]]],
    *,
    name: str,
    failure: Failure | None = None,
    sites: str | Sequence[str] = "all",
    group_size: int = 1,
) -> MemoryRecording:
    """Run the calls and keep what a recorder would."""
    model = module if isinstance(module, Model) else Model.wrap(module)
    taps = model.sites.select(sites) if isinstance(sites, str) or sites else ()
    position = -1 if failure is None else failure.position
    samples: list[Sample] = []
    recorded: dict[str, list[npt.NDArray[Any] | None]] = {tap.name: [] for tap in taps}
    logged: list[dict[str, npt.NDArray[Any]]] = []
    for index, call in enumerate(calls):
        inputs = {key: torch.from_numpy(np.array(value)) for key, value in call.items()}
        mask = rows.real_token_mask(inputs)
        values: dict[str, torch.Tensor] = {}
        with (
            torch.no_grad(),
            hooks.read(model.module, taps, lambda tap, v, to=values: to.__setitem__(tap.name, v.clone())),
        ):
            logits = rows.scored_logits(model.forward(inputs), mask, position).float().cpu().numpy()
        for row in range(logits.shape[0]):
            number = len(samples)
            tokens = int(mask[row].sum()) if mask is not None else 1
            samples.append(
                Sample(
                    sample_id=f"{name}-{number}", group=f"g{number // group_size}", call=index, row=row, tokens=tokens
                )
            )
            logged.append({"logits": logits[row : row + 1]})
            for tap in taps:
                recorded[tap.name].append(rows.to_rows(values[tap.name], mask, row).cpu().numpy())
    infos = {
        tap.name: SiteInfo(
            name=tap.name, module=tap.module, kind=tap.kind, layer=tap.layer, features=tap.features, dtype="float32"
        )
        for tap in taps
    }
    kind = "benign" if failure is None else "incident"
    return MemoryRecording(name, kind, samples, list(calls), recorded, logged, infos, failure, model.reference)


def with_answers(incident: MemoryRecording, healthy: MemoryRecording) -> MemoryRecording:
    """Keep the samples whose answer differs from the healthy model's; that answer is right, the given one wrong."""
    for index, sample in enumerate(list(incident.samples)):
        right = int(np.argmax(healthy.logged[index]["logits"]))
        wrong = int(np.argmax(incident.logged[index]["logits"]))
        if right == wrong:  # does not fail: any other answer is wrong
            wrong = (right + 1) % incident.logged[index]["logits"].size
        incident.samples[index] = sample.model_copy(update={"right": (right,), "wrong": (wrong,)})
    return incident


def compared(
    intact: torch.nn.Module | Model, broken: torch.nn.Module | Model, calls: Sequence[dict[str, npt.NDArray[Any]]]
) -> tuple[MemoryRecording, MemoryRecording]:
    """The incident of a broken model whose right answers are the intact one's, and the healthy run; no sites."""
    healthy = record(intact, calls, name="healthy", sites=[])
    incident = record(broken, calls, name="inc", failure=Failure.token(), sites=[])
    return with_answers(incident, healthy), healthy


@dataclass
class Planted:
    """An incident of a model with one damaged component, and last week's healthy run of the same requests."""

    intact: Model
    broken: Model
    incident: MemoryRecording
    benign: list[MemoryRecording]
    site: str


@pytest.fixture(scope="session")
def planting() -> SimpleNamespace:
    """The helpers of this file, for tests that build their own incident."""
    helpers = (tiny_gpt2, damaged_copy, batches, record, with_answers, compared)
    return SimpleNamespace(VOCABULARY=VOCABULARY, **{helper.__name__: helper for helper in helpers})


@pytest.fixture(scope="session")
def plant() -> Callable[..., Planted]:
    @cache
    def build(
        layer: int, kind: str, *, layers: int = 3, side: str = "right", sites: Any = "all", count: int = 8
    ) -> Planted:
        module = tiny_gpt2(layers)
        intact, broken = Model.wrap(module), Model.wrap(damaged_copy(module, layer, kind))
        calls = batches(count, side=side)
        healthy = record(intact, calls, name="benign-same", sites=sites)
        other = record(intact, batches(6, seed=9, side=side), name="benign-other", sites=sites)
        incident = record(broken, calls, name="incident", failure=Failure.token(), sites=sites)
        return Planted(intact, broken, with_answers(incident, healthy), [healthy, other], f"L{layer}.{kind}")

    return build
