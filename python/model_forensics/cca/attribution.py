"""First-order estimates of what single interventions do: one backward pass a batch instead of one run a candidate.

RelP (Jafari et al. 2025): the gradient of a model in which norms keep their scale, activation functions their ratio of
output to input, and attention its pattern. What flows through queries and keys alone is therefore not seen. Estimates
are never reported as effects: they only order candidates, and `agreement` says whether that order can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from model_forensics.cca.calls import Calls
from model_forensics.cca.pool import Candidate, Sources
from model_forensics.cca.replay import Case, Run
from model_forensics.models import Model, Tap, hooks
from model_forensics.models import rows as model_rows
from model_forensics.models.values import output_tensor

_ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Mish, nn.ELU)
_PATTERN_INPUTS = frozenset({"q_proj", "k_proj", "query", "key", "q", "k"})
_FUSED_INPUTS = frozenset({"c_attn", "query_key_value", "qkv"})
"""Projections to queries, keys and values together, in three equal parts."""


def estimated_effects(
    model: Model, calls: Calls, base: Run, sources: Sources, pool: Sequence[Candidate], cases: Sequence[Case]
) -> list[float] | None:
    """Per candidate, by how much the failure's score would fall, mean over the cases; negative where it would rise.

    None where the score has no gradient: failures of kind `nonfinite`, texts without a reference, and gradients that
    are not finite.
    """
    if any(case.failure.kind == "nonfinite" or (case.text is not None and case.text.pair is None) for case in cases):
        return None
    taps = list(dict.fromkeys(candidate.tap for candidate in pool))
    total = np.zeros(len(pool))
    samples = calls.recording.samples
    for call in sorted({samples[case.sample].call for case in cases}):
        own = [case for case in cases if samples[case.sample].call == call]
        gradients = _gradients(model, calls, call, taps, own)
        mask = calls[call].mask
        for case in own:
            row = samples[case.sample].row
            for index, candidate in enumerate(pool):
                gradient = model_rows.to_rows(gradients[candidate.tap], mask, row).to("cpu", torch.float64)
                before = base.activations[candidate.tap.name][case.sample].to(torch.float64)
                written = sources.replacement(candidate.tap, candidate.intervention, case.sample)
                change = gradient * (before - written.values.to(torch.float64))
                total[index] += float((change if written.positions is None else change[list(written.positions)]).sum())
    return (total / len(cases)).tolist() if np.isfinite(total).all() else None


def agreement(estimated: Sequence[float], measured: Sequence[float]) -> float | None:
    """Rank correlation (Spearman) of estimates and measurements; None with fewer than 3, or where one is constant."""
    if len(estimated) < 3 or len(set(estimated)) < 2 or len(set(measured)) < 2:
        return None
    return float(stats.spearmanr(estimated, measured).statistic)


@contextmanager
def linearised(module: nn.Module) -> Iterator[None]:
    """The module computes the same values, with RelP's gradients, while the context is open."""
    handles = []
    try:
        for name, part in module.named_modules():
            rule = _rule(name.rpartition(".")[2], part)
            if rule is not None:
                handles.append(part.register_forward_hook(rule))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rule(name: str, part: nn.Module) -> Callable[[nn.Module, tuple[Any, ...], Any], Any] | None:
    kind = type(part).__name__
    if isinstance(part, nn.LayerNorm):
        return _centred
    if kind.endswith("RMSNorm") or isinstance(part, _ACTIVATIONS) or kind.endswith("Activation"):
        return _proportional
    if name in _PATTERN_INPUTS:
        return lambda _part, _inputs, output: output.detach()
    return _values_only if name in _FUSED_INPUTS else None


def _centred(part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """A layer norm whose scale is a constant: output + (what the input's change adds)."""
    assert isinstance(part, nn.LayerNorm)
    value: Tensor = inputs[0]
    scale = torch.rsqrt(value.detach().var(-1, keepdim=True, unbiased=False) + part.eps)
    linear = (value - value.mean(-1, keepdim=True)) * scale
    linear = linear if part.weight is None else linear * part.weight
    return _with_gradient_of(linear, output)


def _proportional(_part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Output = ratio · input with a constant ratio; inputs of zero pass nothing on."""
    value: Tensor = inputs[0]
    fixed = value.detach()
    ratio = torch.where(fixed == 0, 0.0, output.detach() / torch.where(fixed == 0, 1.0, fixed))
    return _with_gradient_of(ratio * value, output)


def _with_gradient_of(linear: Tensor, value: Tensor) -> Tensor:
    return value.detach() + (linear - linear.detach())


def _values_only(_part: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    queries_and_keys = output.shape[-1] // 3 * 2
    return torch.cat([output[..., :queries_and_keys].detach(), output[..., queries_and_keys:]], dim=-1)


def _gradients(model: Model, calls: Calls, call: int, taps: Sequence[Tap], cases: Sequence[Case]) -> dict[Tap, Tensor]:
    """Of the summed scores of these cases, with respect to the value at each site: as the model computes it."""
    probes: dict[Tap, Tensor] = {}

    def probe(tap: Tap) -> Callable[[Tensor], Tensor]:
        def add_zero(value: Tensor) -> Tensor:
            probes[tap] = torch.zeros_like(value, requires_grad=True)
            return value + probes[tap]

        return add_zero

    given = calls[call]
    dtype = model.dtype
    inputs = {n: v.to(dtype) if v.is_floating_point() else v for n, v in given.inputs.items()}
    position = -1 if calls.recording.failure is None else calls.recording.failure.position
    with torch.enable_grad(), linearised(model.module), hooks.edit(model.module, {tap: probe(tap) for tap in taps}):
        output = model_rows.scored_logits(output_tensor(model.module(**inputs), ""), given.mask, position).double()
        scores = [_score(case, output[calls.recording.samples[case.sample].row]) for case in cases]
        found = torch.autograd.grad(torch.stack(scores).sum(), list(probes.values()), allow_unused=True)
    return {
        tap: torch.zeros_like(value) if gradient is None else gradient
        for (tap, value), gradient in zip(probes.items(), found, strict=True)
    }


def _score(case: Case, logits: Tensor) -> Tensor:
    """`Failure.score` with a gradient; logits [classes]."""
    failure = case.failure
    if case.text is not None:
        assert case.text.pair is not None, "flat scores have no estimates"
        wrong_token, right_token = case.text.pair
        return logits[wrong_token] - logits[right_token]
    if failure.kind == "divergence":
        assert case.reference is not None, "a divergence that was judged has a reference"
        reference = torch.from_numpy(case.reference).to(logits).log_softmax(-1)
        divergence: Tensor = (reference.exp() * (reference - logits.log_softmax(-1))).sum() / np.log(2)
        return divergence
    wrong = torch.zeros(logits.shape[0], dtype=torch.bool, device=logits.device)
    right = wrong.clone()
    wrong[list(failure.wrong)] = True
    right[list(failure.right)] = True
    wrong = wrong if failure.wrong else ~right
    right = right if failure.right else ~wrong
    return logits[wrong].max() - logits[right].max()
