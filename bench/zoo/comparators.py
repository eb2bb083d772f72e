"""What a reader would otherwise reach for, on the same incident: each ranks the components, most suspicious first."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.zoo import loading
from bench.zoo.parts import COMPONENTS, layers_of, part
from model_forensics.bundle import load_bundle
from model_forensics.cca.calls import Calls
from model_forensics.models import Model, Tap, hooks
from model_forensics.models.values import output_tensor
from model_forensics.types import Recording

RIDGE = 0.1  # of the site's mean variance, added to every feature's
Ranking = list[str]


def rankings(place: Path) -> dict[str, Ranking | None]:
    """By method; None where the incident does not come with what the method needs."""
    told: dict[str, Any] = json.loads((place / "truth.json").read_text())
    incident, benign = load_bundle(place / "incident"), load_bundle(place / "benign")
    module = loading.build(str(place / "model"))
    subject = json.loads((place / "model" / loading.SUBJECT).read_text())
    # Recordings of the same requests hold the activations that the healthy network computes again here.
    paired = told["reference"] or told["same_requests"]
    healthy = loading.NETWORKS[subject["network"]].load((place / "model" / subject["healthy"]).resolve())
    sites = [f"L{layer}.{kind}" for layer in range(layers_of(module)) for kind in COMPONENTS]
    effects = _Effects(Model.wrap(module), Model.wrap(healthy), incident, sites) if paired else None
    return {
        "zlib": _ranked({site: _zlib(incident, benign, site) for site in sites}),
        "mahalanobis": _ranked({site: _mahalanobis(incident, benign, site) for site in sites}),
        "single patches": None if effects is None else _ranked(effects.patched()),
        "gradient": None if effects is None else _ranked(effects.attributed()),
        "weights": _ranked(_weights(module, healthy)) if told["reference"] else None,
    }


def _ranked(scores: Mapping[str, float]) -> Ranking:
    """Largest first; what is not finite is most suspicious of all, what is zero is not suspected."""
    suspected = [site for site, score in scores.items() if score != 0]
    return sorted(suspected, key=lambda site: -np.nan_to_num(scores[site], nan=np.inf, posinf=np.inf))


def _values(recording: Recording, site: str) -> Iterator[np.ndarray]:
    for sample in range(len(recording.samples)):
        yield np.asarray(recording.activation(site, sample), np.float64)


def _zlib(incident: Recording, benign: Recording, site: str) -> float:
    """|z| of the bits a value under zlib."""

    def bits(values: np.ndarray) -> float:
        return 8 * len(zlib.compress(values.astype(np.float32).tobytes(), 6)) / values.size

    ours, theirs = ([bits(values) for values in _values(one, site)] for one in (incident, benign))
    return float(abs(np.mean(ours) - np.mean(theirs)) / max(np.std(theirs, ddof=1), 1e-6))


def _mahalanobis(incident: Recording, benign: Recording, site: str) -> float:
    """z of the diagonal Mahalanobis distance of a sample's mean over its tokens."""
    rows = [np.stack([np.nan_to_num(values).mean(0) for values in _values(one, site)]) for one in (incident, benign)]
    mean, variance = rows[1].mean(0), rows[1].var(0)
    spread = variance + RIDGE * max(float(variance.mean()), 1e-12)
    ours, theirs = (np.sqrt(((one - mean) ** 2 / spread).sum(1)) for one in rows)
    return float((ours.mean() - theirs.mean()) / max(theirs.std(ddof=1), 1e-6))


class _Effects:
    """What healthy activations at one site do to the failing outputs."""

    def __init__(self, model: Model, healthy: Model, incident: Recording, sites: Sequence[str]) -> None:
        self._model = model
        self._taps = {site: model.sites.get(site) for site in sites}
        self._right = [int(sample.right[0]) for sample in incident.samples]
        calls = Calls(incident, "cpu")
        self._inputs = [dict(calls[sample.call].inputs) for sample in incident.samples]
        theirs = {site: healthy.sites.get(site) for site in sites}
        self._donors = [_read(healthy.module, theirs, inputs) for inputs in self._inputs]

    def patched(self) -> dict[str, float]:
        """By how much the right answer's logarithmic probability rises, mean over the samples: one site at a time."""
        scores = {}
        with torch.no_grad():
            for site, tap in self._taps.items():
                gains = []
                for inputs, donor, right in zip(self._inputs, self._donors, self._right, strict=True):
                    with hooks.edit(self._model.module, {tap: lambda _old, new=donor[site]: new}):
                        after = float(self._loss(inputs, right))
                    gains.append(_gain(float(self._loss(inputs, right)), after))
                scores[site] = float(np.mean(gains))
        return scores

    def attributed(self) -> dict[str, float]:
        """The same to first order: gradient × change."""
        totals = dict.fromkeys(self._taps, 0.0)
        for inputs, donor, right in zip(self._inputs, self._donors, self._right, strict=True):
            probes = {site: torch.zeros_like(value, requires_grad=True) for site, value in donor.items()}
            values: dict[str, Tensor] = {}
            edits = {tap: partial(_probed, values, probes, site) for site, tap in self._taps.items()}
            with hooks.edit(self._model.module, edits):
                loss = self._loss(inputs, right)
            gradients = torch.autograd.grad(loss, list(probes.values()), allow_unused=True)
            for site, gradient in zip(probes, gradients, strict=True):
                if gradient is not None:
                    totals[site] -= float((gradient * (donor[site] - values[site])).sum())
        return {site: total if np.isfinite(total) else 0.0 for site, total in totals.items()}

    def _loss(self, inputs: dict[str, Tensor], right: int) -> Tensor:
        logits = output_tensor(self._model.module(**inputs), "")
        last = logits[:, -1] if logits.ndim == 3 else logits
        return -last[0].log_softmax(-1)[right]


def _gain(before: float, after: float) -> float:
    """Of a loss. To make it finite is the largest gain there is; to break it, none."""
    if not np.isfinite(after):
        return 0.0
    return before - after if np.isfinite(before) else float("inf")


def _probed(values: dict[str, Tensor], probes: dict[str, Tensor], site: str, value: Tensor) -> Tensor:
    """The value, remembered, with a probe that takes its gradient."""
    values[site] = value.detach()
    return value + probes[site]


@torch.no_grad()
def _read(module: nn.Module, taps: Mapping[str, Tap], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    with hooks.read(module, list(taps.values()), lambda tap, value: values.__setitem__(tap.name, value.clone())):
        module(**inputs)
    return values


def _weights(module: nn.Module, healthy: nn.Module) -> dict[str, float]:
    """Relative change of a component's weights, its norm's among them."""
    scores = {}
    for layer in range(layers_of(module)):
        for kind in COMPONENTS:
            ours, theirs = part(module, layer, kind), part(healthy, layer, kind)
            pairs = list(zip(_parameters(ours), _parameters(theirs), strict=True))
            change = sum(float((one - other).double().square().sum()) for one, other in pairs)
            scores[ours.site] = float(np.sqrt(change / sum(float(other.double().square().sum()) for _, other in pairs)))
    return scores


def _parameters(one: Any) -> list[Tensor]:
    modules = [*one.readers, one.writer, *([] if one.norm is None else [one.norm])]
    return [parameter.detach() for module in modules for parameter in module.parameters()]
