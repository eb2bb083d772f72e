"""Means over several benign groups, as the benign counterpart of a recording of as many.

A recording of m groups departs from a baseline of G by the mean of its own scores and by how far off the baseline's
mean and spread are. A mean over benign groups knows of the latter only if it is judged by groups that it does not hold.
By all of them, the same few scores would be what is judged and what it is judged by, and their squares would sum to
just what the baseline expects: the null would be too narrow. So each draw is judged by the groups that it leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model_forensics.cf.grouping import weighted_mean
from model_forensics.cf.planes import Floats

UNCHANGING = 1e-9  # share of the variance of all groups below which what the others hold does not vary


@dataclass(frozen=True)
class HeldOutScores:
    """Normal scores of benign samples, each from a reference that does not hold its group.

    Attributes:
        scores: [samples, sites, columns], NaN where not measured.
        numbers: [samples] group numbers from 0.
        prior: [sites, columns] degrees of freedom by which the reference's variances are moderated.
    """

    scores: Floats
    numbers: npt.NDArray[np.int64]
    prior: Floats

    @cached_property
    def groups(self) -> int:
        return int(self.numbers.max(initial=-1)) + 1

    @cached_property
    def _totals(self) -> tuple[Floats, Floats, Floats]:
        return self._sums(range(self.groups))

    def _sums(self, groups: Iterable[int]) -> tuple[Floats, Floats, Floats]:
        """[sites, columns] sums over groups of the mean and of the mean square over samples, and groups that measured
        it."""
        first, second, seen = np.zeros((3, *self.scores.shape[1:]))
        for group in groups:
            samples = self.scores[self.numbers == group]
            weights = np.ones(len(samples))
            known = np.isfinite(samples).any(axis=0)
            first += np.where(known, weighted_mean(samples, weights), 0.0)
            second += np.where(known, weighted_mean(samples**2, weights), 0.0)
            seen += known
        return first, second, seen

    def draw(self, size: int, rng: np.random.Generator) -> Floats:
        """[sites, columns] mean score of `size` groups, one sample each, drawn without replacement, in the unit of a
        single sample; NaN where none of them, or fewer than two of the others, measured the column."""
        chosen = rng.choice(self.groups, size, replace=False)
        samples = np.array([rng.choice(np.flatnonzero(self.numbers == group)) for group in chosen])
        mean = weighted_mean(self.scores[samples], np.ones(size))
        count = np.isfinite(self.scores[samples]).sum(axis=0)
        first, second, seen = (
            total - part for total, part in zip(self._totals, self._sums(chosen.tolist()), strict=True)
        )
        enough = (count > 0) & (seen > 1)
        seen = np.where(enough, seen, 2.0)
        common = _variance(*self._totals)
        variance = _variance(first, second, seen)
        moderated = (self.prior * common + (seen - 1) * variance) / (self.prior + seen - 1)
        # What never changes in the others says nothing about how much it may.
        relative = np.divide(moderated, common, out=np.ones(common.shape), where=variance > UNCHANGING * common)
        spread = np.sqrt(relative * (1 / np.maximum(count, 1) + 1 / seen))
        result: Floats = np.where(enough, (mean - first / seen) / spread, np.nan)
        return result


def _variance(first: Floats, second: Floats, count: Floats) -> Floats:
    """Of one sample, from sums over groups of the mean and of the mean square."""
    safe = np.maximum(count, 2.0)
    result: Floats = np.maximum(second / safe - (first / safe) ** 2, 0.0) * safe / (safe - 1)
    return result
