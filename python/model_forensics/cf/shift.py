"""Do the mean innovations of a recording's groups lie where those of benign groups lie?

One squared distance a site, channel sums by channel sums, so that a small shift that all groups share is seen although
it would drown in each of them.

An innovation is a deviation from the mean of the groups that taught its map. That of m new groups has variance
σ² (1/m + 1/G) in each direction, the second term for how far off the mean of G groups is; that of m held-out groups of
*one fold* σ² (1/m + 1/H), with H groups outside the fold. Held-out groups of different folds have taught each other's
maps, so that their mean spreads by something else, and neither their differences nor the mean of all of them is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model_forensics.cf.grouping import weighted_mean
from model_forensics.cf.innovation import FOLDS
from model_forensics.cf.planes import Floats

PRIOR_DEGREES = 4.0  # a direction's variance is shrunk towards the site's mean variance by this many groups
OUTSIDE = 1 - 1 / FOLDS  # share of the groups that teach a fold's map
LEAST_DISTANCE = 1e-9


@dataclass(frozen=True)
class Shift:
    """Benign innovations, ready to compare with.

    Attributes:
        profiles: [samples, sites, sketch] held-out innovations of benign samples (`fit_innovations`), NaN where not
            measured.
        numbers: [samples] group numbers from 0, those of `fit_innovations`.
    """

    profiles: Floats
    numbers: npt.NDArray[np.int64]

    @cached_property
    def groups(self) -> int:
        return int(self.numbers.max(initial=-1)) + 1

    @cached_property
    def _squares(self) -> tuple[Floats, Floats]:
        """[groups, sites, sketch] mean square over samples, [groups, sites, 1] whether there are any."""
        shape = (self.groups, *self.profiles.shape[1:])
        square, count = np.zeros(shape), np.zeros((*shape[:2], 1))
        known = np.isfinite(self.profiles[..., :1])
        np.add.at(square, self.numbers, np.where(known, self.profiles, 0.0) ** 2)
        np.add.at(count, self.numbers, known.astype(np.float64))
        return square / np.maximum(count, 1), (count > 0).astype(np.float64)

    @cached_property
    def _totals(self) -> tuple[Floats, Floats]:
        square, seen = self._squares
        return square.sum(axis=0), seen.sum(axis=0)

    def distance(self, profile: Floats, count: Floats) -> Floats:
        """[sites] log of the mean squared standardised innovation of a recording.

        Args:
            profile: [sites, sketch] mean innovations of a recording's groups.
            count: [sites] how many groups were averaged.
        """
        seen = self._totals[1][:, 0]
        return self._distance(profile, count, seen, *self._totals)

    def draw(self, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """One sample each of `size` groups of one fold, or of all of the fold's where there are fewer."""
        fold = np.unique(self.numbers[self.numbers % FOLDS == rng.integers(min(FOLDS, self.groups))])
        chosen = rng.choice(fold, min(size, fold.size), replace=False)
        return np.array([rng.choice(np.flatnonzero(self.numbers == group)) for group in chosen])

    def held_out(self, samples: npt.NDArray[np.int64]) -> Floats:
        """[sites] the same of benign samples, one each of different groups of one fold, by the spread of all others."""
        chosen = self.profiles[samples]
        count = np.isfinite(chosen[..., 0]).sum(axis=0).astype(np.float64)
        square, seen = self._squares
        outside = self.numbers[samples]
        others = self._totals[0] - square[outside].sum(axis=0), self._totals[1] - seen[outside].sum(axis=0)
        reference = OUTSIDE * self._totals[1][:, 0]
        return self._distance(weighted_mean(chosen, np.ones(len(samples))), count, reference, *others)

    def _distance(self, profile: Floats, count: Floats, reference: Floats, square: Floats, seen: Floats) -> Floats:
        """From a mean over `count` groups of innovations from `reference` others, with the sum of squares of `seen`
        groups' innovations; NaN with fewer than two of them."""
        enough = seen > 1
        mean_square = square / np.where(enough, seen, np.nan)
        used = mean_square > 0
        directions = np.maximum(used.sum(axis=1, keepdims=True), 1)
        pooled = np.where(used, mean_square, 0.0).sum(axis=1, keepdims=True) / directions
        moderated = (seen * mean_square + PRIOR_DEGREES * pooled) / (seen + PRIOR_DEGREES)
        # Each of the squares is that of one group's innovation, from the mean of the groups outside its fold.
        variance = moderated / (1 + 1 / np.maximum(OUTSIDE * self._totals[1], 1))
        spread = variance * (1 / np.maximum(count, 1) + 1 / np.maximum(reference, 1))[:, None]
        squared = np.divide(profile**2, spread, out=np.zeros(spread.shape), where=used)
        distance = squared.sum(axis=1) / directions[:, 0]
        result: Floats = np.where(
            enough[:, 0] & np.isfinite(profile[:, 0]) & used.any(axis=1), np.log(distance + LEAST_DISTANCE), np.nan
        )
        return result
