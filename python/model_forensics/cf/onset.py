"""Where it began: the earliest site that departs given everything upstream of it."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from model_forensics.cf.calibration import Calibration
from model_forensics.cf.planes import Floats
from model_forensics.types import Onset

FAMILY_WISE_ERROR = 0.05
SMALLEST_P = 1e-300  # keeps sigma finite


def make_onset(site: str, p_value: float) -> Onset:
    p = max(p_value, SMALLEST_P)
    return Onset(site=site, p_value=p, sigma=float(norm.isf(p)))


def find_onset(
    names: list[str], given_upstream: Floats, hard: list[bool], calibration: Calibration
) -> tuple[Onset | None, str | None]:
    """The onset, or the reason why there is none.

    Each site's p-value is that of its statistic given upstream under `calibration.onset`; a site departs when p times
    the
    number of sites tested is at most 5 % (Bonferroni), so that a clean recording has an onset in at most 5 % of cases
    whatever the dependence, as far as the extrapolated tail holds. A site with NaN or Inf departs by itself: no benign
    sample has one, and its p-value is the conformal floor.

    Args:
        names: judged sites in execution order, the sites that this recording holds.
        given_upstream: [sites], NaN where a site was not judged.
        hard: [sites], NaN or Inf recorded.
    """
    if calibration.onset is None or calibration.sites is None:
        return None, "no onset: the baseline has too few groups"
    p = calibration.onset.p_values(given_upstream)
    tested = np.isfinite(given_upstream)
    limit = FAMILY_WISE_ERROR / max(int(tested.sum()), 1)
    departs = np.where(tested, p <= limit, False) | np.array(hard, dtype=bool)
    if not departs.any():
        return None, None
    first = int(np.argmax(departs))
    p_value = calibration.sites.floor if hard[first] else float(p[first])
    return make_onset("input" if first == 0 else names[first], p_value), None
