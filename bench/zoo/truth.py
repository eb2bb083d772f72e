"""Which sets of the damaged components remove a failure: found by running every one of them with plain hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from bench.zoo.network import Prompt
from bench.zoo.training import last_logits
from model_forensics.failure import Failure
from model_forensics.models import Model, Tap, hooks

SUFFICIENT = 0.8
"""Share of the failing prompts that a set must repair, as `early_stop_threshold` has it by default."""
MOST_SITES, SMALL = 6, 2
"""A larger fault is diffuse. All its sets would be too many: those up to `SMALL` are run, and all together."""

Values = dict[str, Tensor]


@dataclass(frozen=True)
class Repaired:
    """What one set of components does when it computes what the healthy network computes.

    Attributes:
        flips: prompts that are right then.
    """

    sites: tuple[str, ...]
    flips: int
    prompts: int

    @property
    def sufficient(self) -> bool:
        return self.flips >= SUFFICIENT * self.prompts


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
    found = []
    for subset in subsets:
        chosen = {site: taps[site] for site in subset}
        flips = sum(
            _is_fixed(module, prompt, failure, chosen, values) for prompt, values in zip(prompts, donors, strict=True)
        )
        found.append(Repaired(subset, flips, len(prompts)))
    return found


def minimal(found: Sequence[Repaired]) -> list[tuple[str, ...]]:
    """The sufficient sets of which no part is sufficient; of more than `MOST_SITES` damaged ones, small sets alone."""
    largest = max((len(one.sites) for one in found), default=0)
    most = SMALL if largest > MOST_SITES else largest
    sets = [one.sites for one in found if one.sufficient and len(one.sites) <= most]
    return [one for one in sets if not any(set(other) < set(one) for other in sets)]


@torch.no_grad()
def _values(module: nn.Module, taps: Sequence[Tap], prompt: Prompt) -> Values:
    values: Values = {}
    with hooks.read(module, list(taps), lambda tap, value: values.__setitem__(tap.name, value.detach().clone())):
        module(**prompt.inputs)
    return values


@torch.no_grad()
def _is_fixed(module: nn.Module, prompt: Prompt, failure: Failure, taps: Mapping[str, Tap], values: Values) -> bool:
    edits = {tap: (lambda _old, new=values[site]: new) for site, tap in taps.items()}
    with hooks.edit(module, edits):
        logits = last_logits(module, prompt.inputs)[0]
    _, outcome = failure.with_answers(None, (prompt.right,)).judge(logits.to(torch.float64).numpy())
    return outcome == "fixed"
