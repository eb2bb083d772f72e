"""Faults that nobody looks at while choosing features: computed only with `--held-out`, reported apart.

The seeds and sizes were fixed before anything was measured on them.
"""

from __future__ import annotations

import numpy as np
import torch

from bench.cf_evaluation.damage import Damage

FAULTS = ("pairs10", "outliers1")


def plant(
    entry: tuple[np.ndarray, np.ndarray, int], fault: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """The recording of one site with one fault.

    `pairs10`: a tenth of the kept channels change values with each other, two and two. `outliers1`: one value in a
    hundred is four times as large (exact in bfloat16).
    """
    values, indices, width = entry
    changed = values.copy()
    if fault == "pairs10":
        chosen = rng.permutation(values.size)[: 2 * max(1, round(values.size / 20))]
        changed[chosen] = values[chosen.reshape(-1, 2)[:, ::-1].ravel()]
    else:
        changed[rng.choice(values.size, max(1, round(values.size / 100)), replace=False)] *= 4
    return changed, indices, width


def _truncated(weight: torch.Tensor, _generator: torch.Generator) -> None:
    """Only the strongest quarter of the singular directions stays."""
    left, strength, right = torch.linalg.svd(weight, full_matrices=False)
    kept = len(strength) // 4
    weight.copy_((left[:, :kept] * strength[:kept]) @ right[:kept])


def _exponents(weight: torch.Tensor, generator: torch.Generator) -> None:
    """One weight in a thousand has bit 2 of its exponent flipped: 16 times too large or too small."""
    flat = weight.contiguous().view(torch.int32).flatten()
    chosen = torch.randperm(flat.numel(), generator=generator)[: max(1, flat.numel() // 1000)]
    flat[chosen] ^= 1 << 25
    weight.copy_(flat.view(torch.float32).view(weight.shape))


DAMAGES: dict[str, Damage] = {"truncated": _truncated, "exponents": _exponents}
