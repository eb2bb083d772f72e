"""Distribution shape of a site's values without a model: distinct values, mantissa, saturation, quantiles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics import ops
from model_forensics.cf.planes import Floats, Selection


def shape_columns(selection: Selection) -> dict[str, Floats]:
    """Columns, each [sites] float64, NaN where a site has no finite nonzero value.

    `distinct`: distinct values / values. `low_mantissa`: share of values with a set bit below bfloat16's mantissa.
    `saturated`: share at the largest magnitude.
    `repeated`: share of the most frequent value (stuck units). `top`, `upper`, `lower`: largest magnitude, 90 % and
    10 % quantile of magnitude over the median, octaves. `zero`: zeros among recorded entries.
    """
    shapes, recorded = selection.shapes, selection.recorded
    magnitude = shapes.quantiles
    octaves = np.log2(magnitude, out=np.full(magnitude.shape, np.nan, dtype=np.float32), where=magnitude > 0)
    lower, median, upper, top = octaves.T.astype(np.float64)
    return {
        "distinct": share(shapes.distinct, shapes),
        "low_mantissa": share(shapes.low_mantissa, shapes),
        "saturated": share(shapes.saturated, shapes),
        "repeated": share(shapes.most_frequent, shapes),
        "zero": np.divide(selection.zeros, recorded, out=np.full(recorded.shape, np.nan), where=recorded > 0),
        "top": top - median,
        "upper": upper - median,
        "lower": lower - median,
    }


def share(count: npt.NDArray[np.int64], shapes: ops.ValueShapes) -> Floats:
    """[sites] count among the values looked at; NaN in sites without any."""
    total = shapes.looked_at
    result: Floats = np.divide(count, total, out=np.full(total.shape, np.nan), where=total > 0)
    return result
