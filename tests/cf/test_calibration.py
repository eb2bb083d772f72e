"""Q-values against those of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from model_forensics.cf.calibration import q_values


@pytest.mark.parametrize("count", [0, 1, 2, 437])
def test_q_values_are_those_of_scipy(count: int) -> None:
    p = np.random.default_rng(count).uniform(0, 1, count) ** 3
    p[count // 2 :: 7] = p[:1]  # ties
    with_gaps = np.concatenate([[np.nan], p, [np.nan]])
    for got, method in zip(q_values(with_gaps), ("bh", "by"), strict=True):
        assert np.isnan(got[[0, -1]]).all()
        expected = stats.false_discovery_control(p, method=method) if count else p
        np.testing.assert_allclose(got[1:-1], expected, rtol=1e-14)
