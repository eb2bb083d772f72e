"""Where it began: the earliest site that departs given everything upstream of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from model_forensics.cf.maximum import MaximumNull
from model_forensics.cf.planes import Floats
from model_forensics.types import Onset

FAMILY_WISE_ERROR = 0.05
# Failing inputs are selected, and so depart a little from others at sites where nothing is wrong. Beside a site that
# departs surely, one that departs less than half as surely (in log p) is not where it began. No more than `SURE`
# is asked of any, however far what comes of it departs (3e-4 to 1e-6 do as well on the zoo); so sure is NaN or Inf.
HALF_AS_SURE, SURE = 0.5, 1e-4
# Of that error. The null of shifts is the less sure one, where sites are linear functions of narrow sources, and a
# large share gains little (docs/forensics.md): what shifts see, they see with very small p-values.
GIVEN_SHARE, SHIFT_SHARE = 0.9, 0.1
SMALLEST_P = 1e-300  # keeps sigma finite
LOG_OF_ZERO = -1000.0  # below the logarithm of every positive float64, and finite when standardised


def make_onset(site: str, p_value: float) -> Onset:
    p = max(p_value, SMALLEST_P)
    return Onset(site=site, p_value=p, sigma=-float(ndtri(p)))


@dataclass(frozen=True)
class OnsetNulls:
    """The two ways in which a site can depart given what is upstream of it.

    Attributes:
        given: of log scores given upstream (`combine`): codelengths and whatever else is measured.
        shift: of the log distance between mean innovations (`shift`); None where the baseline has too few groups.
    """

    given: MaximumNull
    shift: MaximumNull | None

    def p_values(self, given: Floats, shift: Floats) -> Floats:
        """[sites] family-wise p-values: the smaller of both, each over its share of the error (Bonferroni); NaN where
        neither is known."""
        # A score of zero (nothing measured departs at all) is as far from the tail as can be.
        scores = np.log(given, out=np.full(given.shape, LOG_OF_ZERO), where=given != 0)
        both = [self.given.p_values(scores) / GIVEN_SHARE]
        if self.shift is not None:
            both.append(self.shift.p_values(shift) / SHIFT_SHARE)
        smallest = np.where(np.isfinite(both), both, np.inf).min(axis=0)
        return np.where(np.isfinite(smallest), np.minimum(smallest, 1.0), np.nan)


def departing(p_values: Floats, hard: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """[sites] those of which the first one is the onset; arguments as of `find_onset`."""
    surest = float(np.fmin.reduce(p_values, initial=SURE if hard.any() else 1.0))
    level = min(max(surest**HALF_AS_SURE, SURE), FAMILY_WISE_ERROR)
    found: npt.NDArray[np.bool_] = (p_values <= level) | hard
    return found


def find_onset(
    names: list[str], p_values: Floats | None, hard: list[bool], floor: float | None
) -> tuple[Onset | None, str | None]:
    """The onset, or the reason why there is none.

    Args:
        names: sites that this recording holds, in execution order.
        p_values: [sites] family-wise p-values (`OnsetNulls`): the share of clean recordings any site of which departs
            as far; NaN where a site was not judged; None with too few groups.
        hard: [sites], NaN or Inf recorded; such a site departs by itself, for no benign sample has one.
        floor: the smallest p-value that the baseline's size allows to state, which NaN or Inf gets.
    """
    if p_values is None or floor is None:
        return None, "no onset: the baseline has too few groups"
    departs = departing(p_values, np.array(hard, dtype=bool))
    if not departs.any():
        return None, None
    first = int(np.argmax(departs))
    return make_onset("input" if first == 0 else names[first], floor if hard[first] else float(p_values[first])), None
