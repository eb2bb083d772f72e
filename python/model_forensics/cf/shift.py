"""Do the mean innovations of a recording's groups lie where those of benign groups lie?

One squared distance a site, channel sums by channel sums, so that a small shift that all groups share is seen although
it would drown in each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model_forensics.cf.planes import Floats

PRIOR_DEGREES = 4.0  # a direction's variance is shrunk towards the site's mean variance by this many groups
LEAST_DISTANCE = 1e-9


@dataclass(frozen=True)
class Shift:
    """Benign innovations, ready to compare with.

    Attributes:
        profiles: [samples, sites, sketch] held-out innovations of benign samples, NaN where not measured.
        numbers: [samples] group numbers from 0.
    """

    profiles: Floats
    numbers: npt.NDArray[np.int64]

    @cached_property
    def groups(self) -> int:
        return int(self.numbers.max(initial=-1)) + 1

    @cached_property
    def _moments(self) -> tuple[Floats, Floats, Floats]:
        """[groups, sites, sketch] mean and mean square over samples, [groups, sites, 1] whether there are any."""
        shape = (self.groups, *self.profiles.shape[1:])
        first, second, count = np.zeros(shape), np.zeros(shape), np.zeros((*shape[:2], 1))
        known = np.isfinite(self.profiles[..., :1])
        filled = np.where(known, self.profiles, 0.0)
        np.add.at(first, self.numbers, filled)
        np.add.at(second, self.numbers, filled**2)
        np.add.at(count, self.numbers, known.astype(np.float64))
        some = np.maximum(count, 1)
        return first / some, second / some, (count > 0).astype(np.float64)

    @cached_property
    def _totals(self) -> tuple[Floats, Floats, Floats]:
        first, second, seen = self._moments
        return first.sum(axis=0), second.sum(axis=0), seen.sum(axis=0)

    def distance(self, profile: Floats, count: Floats) -> Floats:
        """[sites] log of the mean squared standardised difference from all benign groups.

        Args:
            profile: [sites, sketch] mean innovations of a recording's groups.
            count: [sites] how many groups were averaged.
        """
        return _distance(profile, count, *self._totals)

    def held_out(self, samples: npt.NDArray[np.int64]) -> Floats:
        """[sites] the same of benign samples, one each of different groups, from all other groups."""
        chosen = self.profiles[samples]
        known = np.isfinite(chosen[..., :1])
        count = known.sum(axis=0)
        profile = np.where(known, chosen, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan)
        first, second, seen = self._moments
        outside = self.numbers[samples]
        others = (
            total - part[outside].sum(axis=0) for total, part in zip(self._totals, (first, second, seen), strict=True)
        )
        return _distance(profile, count[:, 0].astype(np.float64), *others)


def _distance(profile: Floats, count: Floats, first: Floats, second: Floats, seen: Floats) -> Floats:
    """From a profile and the sums of a reference's groups; NaN with fewer than two of them."""
    enough = seen > 1
    size = np.where(enough, seen, np.nan)
    mean = first / size
    variance = np.maximum(second / size - mean**2, 0.0) * size / (size - 1)
    used = variance > 0
    directions = np.maximum(used.sum(axis=1, keepdims=True), 1)
    pooled = np.where(used, variance, 0.0).sum(axis=1, keepdims=True) / directions
    moderated = ((size - 1) * variance + PRIOR_DEGREES * pooled) / (size - 1 + PRIOR_DEGREES)
    spread = moderated * (1 / np.maximum(count, 1)[:, None] + 1 / size)
    squared = np.divide((profile - mean) ** 2, spread, out=np.zeros(spread.shape), where=used)
    distance = squared.sum(axis=1) / directions[:, 0]
    result: Floats = np.where(
        enough[:, 0] & np.isfinite(profile[:, 0]) & used.any(axis=1), np.log(distance + LEAST_DISTANCE), np.nan
    )
    return result
