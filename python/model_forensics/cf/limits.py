"""What a result could not judge, in words: why a site has no score, and what the scores that are there leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from model_forensics.cf.calibration import MINIMUM_GROUPS
from model_forensics.cf.features.table import COLUMN
from model_forensics.cf.planes import Floats, Integers

if TYPE_CHECKING:
    from model_forensics.cf.baseline import Baseline
    from model_forensics.types import Recording

LISTED = 5  # sites that a warning names
WINDOWS = [COLUMN["first.entropy"], COLUMN["later.entropy"]]


def layout_differences(baseline: Baseline, recording: Recording) -> list[str | None]:
    """[sites] why the recording's form of the site cannot be compared with the baseline's."""
    return [
        forms.layout_difference(recording.sites[info.name]) if info.name in recording.sites else None
        for info, forms in zip(baseline.sites, baseline.forms, strict=True)
    ]


def dtype_differences(baseline: Baseline, recording: Recording) -> list[str | None]:
    """[sites] in words, where benign runs never recorded the recording's dtype."""
    return [
        forms.dtype_difference(recording.sites[info.name]) if info.name in recording.sites else None
        for info, forms in zip(baseline.sites, baseline.forms, strict=True)
    ]


def reasons_not_judged(
    baseline: Baseline, tokens: Integers, statistic: Floats, layouts: Sequence[str | None]
) -> list[str | None]:
    """[sites] why a site of the baseline has no p-value, or None.

    Args:
        tokens: [samples, sites] of the recording.
        statistic: [sites], NaN where nothing was measured.
        layouts: `layout_differences`.
    """
    recorded = tokens.max(axis=0) > 0
    reasons: list[str | None] = []
    for position, layout in enumerate(layouts):
        seen = int(baseline.judged_groups[position])
        if layout is not None:
            reasons.append(layout)
        elif not recorded[position]:
            reasons.append("not recorded in any sample")
        elif seen < MINIMUM_GROUPS:
            plural = "group" if seen == 1 else "groups"
            reasons.append(f"recorded in {seen} baseline {plural}; a p-value needs {MINIMUM_GROUPS}")
        elif baseline.valueless[position]:
            reasons.append("benign runs hold no finite value other than zero here")
        elif baseline.constant[position]:
            reasons.append("constant in the baseline, so there is no spread to judge by")
        elif not np.isfinite(statistic[position]):
            reasons.append("no finite value other than zero to judge")
        else:
            reasons.append(None)
    return reasons


def limitations(baseline: Baseline, recording: Recording, tables: Floats, tokens: Integers) -> list[str]:
    """What the scores leave out, for the result's warnings.

    Args:
        tables: [samples, sites, columns] of the recording.
        tokens: [samples, sites].
    """
    names = np.array([info.name for info in baseline.sites])
    present = tokens.max(axis=0) > 0
    later = present & (tokens.max(axis=0) > 1)
    unseen = later & (baseline.moments[1].rows == 0)
    short = present & ~np.isfinite(tables[..., WINDOWS]).any(axis=(0, 2))
    found = (
        (~present, "in the baseline but not recorded here, so not judged"),
        (unseen, "later tokens not judged, because benign runs have only one"),
        (short, f"entropy not scored, because there are fewer values than a window of {baseline.window} symbols needs"),
    )
    return [f"{words}: {listed(names[where])}" for where, words in found if where.any()]


def listed(names: Sequence[str]) -> str:
    """How many sites, and the first few names."""
    more = ", …" if len(names) > LISTED else ""
    return f"{len(names)} {'site' if len(names) == 1 else 'sites'} ({', '.join(names[:LISTED])}{more})"
