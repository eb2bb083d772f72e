"""Which sets of the damaged components remove a failure: found by running every one of them with plain hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

from bench.zoo.network import Prompt
from bench.zoo.training import last_logits
from model_forensics.failure import Failure, kl_bits
from model_forensics.models import Model, Tap, hooks

SUFFICIENT = 0.8
"""Share of the failing prompts that a set must repair, as `early_stop_threshold` has it by default."""
RESTORED = 0.1
"""Of the distance between the healthy and the damaged output, what a repair may leave."""
MOST_SITES, SMALL = 6, 2
"""A larger fault is diffuse. All its sets would be too many: those up to `SMALL` are run, and all together."""

Values = dict[str, Tensor]


@dataclass(frozen=True)
class Repaired:
    """What one set of components does when it computes what the healthy network computes.

    Attributes:
        flips: prompts that are right then.
        residual: KL(healthy ‖ repaired) ÷ KL(healthy ‖ damaged) of the outputs, median; one bit takes the place of a
            distance to what is not finite.
        recovery: (repaired − damaged) ÷ (healthy − damaged) of the failure's score, median.
    """

    sites: tuple[str, ...]
    flips: int
    prompts: int
    residual: float
    recovery: float

    @property
    def sufficient(self) -> bool:
        return self.flips >= SUFFICIENT * self.prompts

    @property
    def restores(self) -> bool:
        return self.sufficient and self.residual <= RESTORED


def repairs(
    module: nn.Module, healthy: nn.Module, prompts: Sequence[Prompt], failure: Failure, sites: Sequence[str]
) -> list[Repaired]:
    """Every non-empty subset of `sites`, smallest first; of more than `MOST_SITES` the small ones and the whole."""
    model, donor = Model.wrap(module), Model.wrap(healthy)
    taps = {site: model.sites.get(site) for site in sites}
    theirs = {site: donor.sites.get(site) for site in sites}
    donors = [_values(healthy, theirs.values(), prompt) for prompt in prompts]
    sizes = range(1, len(sites) + 1) if len(sites) <= MOST_SITES else [*range(1, SMALL + 1), len(sites)]
    subsets = [subset for size in sizes for subset in combinations(sites, size)]
    wrong, right = ([_output(one, prompt, {}, {}) for prompt in prompts] for one in (module, healthy))
    found = []
    for subset in subsets:
        chosen = {site: taps[site] for site in subset}
        outputs = [_output(module, prompt, chosen, values) for prompt, values in zip(prompts, donors, strict=True)]
        asked = [failure.with_answers(None, (prompt.right,)) for prompt in prompts]
        flips = sum(one.judge(output)[1] == "fixed" for one, output in zip(asked, outputs, strict=True))
        three = list(zip(right, wrong, outputs, strict=True))
        residual = float(np.median([_residual(*one) for one in three]))
        recovery = float(np.median([_recovery(*one) for one in zip(asked, right, wrong, outputs, strict=True)]))
        found.append(Repaired(subset, flips, len(prompts), residual, recovery))
    return found


def minimal(found: Sequence[Repaired]) -> list[tuple[str, ...]]:
    """The sufficient sets of which no part is sufficient; of more than `MOST_SITES` damaged ones, small sets alone."""
    return _smallest(found, lambda one: one.sufficient)


def restoring(found: Sequence[Repaired]) -> list[tuple[str, ...]]:
    """The same of the sets that give the healthy network's output back as well."""
    return _smallest(found, lambda one: one.restores)


def _smallest(found: Sequence[Repaired], holds: Callable[[Repaired], bool]) -> list[tuple[str, ...]]:
    largest = max((len(one.sites) for one in found), default=0)
    most = SMALL if largest > MOST_SITES else largest
    sets = [one.sites for one in found if holds(one) and len(one.sites) <= most]
    return [one for one in sets if not any(set(other) < set(one) for other in sets)]


@torch.no_grad()
def _values(module: nn.Module, taps: Sequence[Tap], prompt: Prompt) -> Values:
    values: Values = {}
    with hooks.read(module, list(taps), lambda tap, value: values.__setitem__(tap.name, value.detach().clone())):
        module(**prompt.inputs)
    return values


@torch.no_grad()
def _output(module: nn.Module, prompt: Prompt, taps: Mapping[str, Tap], values: Values) -> np.ndarray:
    """[classes] float64, with these values at these sites."""
    edits = {tap: (lambda _old, new=values[site]: new) for site, tap in taps.items()}
    with hooks.edit(module, edits):
        logits: np.ndarray = last_logits(module, prompt.inputs)[0].to(torch.float64).numpy()
    return logits


def _recovery(failure: Failure, healthy: np.ndarray, damaged: np.ndarray, repaired: np.ndarray) -> float:
    """(repaired − damaged) ÷ (healthy − damaged) of the failure's score; where one is not finite, fixed or not."""
    (right, _), (wrong, _), (now, outcome) = (failure.judge(output) for output in (healthy, damaged, repaired))
    if not np.isfinite([right, wrong, now]).all():
        return float(outcome == "fixed")
    return (now - wrong) / (right - wrong)


def _residual(healthy: np.ndarray, damaged: np.ndarray, repaired: np.ndarray) -> float:
    if not np.isfinite(repaired).all():
        return float("inf")
    distance = kl_bits(healthy, damaged) if np.isfinite(damaged).all() else 1.0
    return kl_bits(healthy, repaired) / max(distance, 1e-12)
