"""Fits `confidence`: how often a reported cause is the cause, by how surely its least needed member is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

DECIMALS = 1
RIDGE = 0.1
"""Inverse strength: few reported causes are wrong, and should not make one number decide everything."""


def fit(incidents: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """(intercept, slope) of a logistic regression, of the development split's reported causes.

    Args:
        incidents: as `score` writes them.

    Raises:
        ValueError: all of the causes are right, or none is.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (takes a second to load)

    causes = [one for one in incidents if one["split"] == "development" and one["evidence"] is not None]
    evidence = np.array([[one["evidence"]] for one in causes])
    right = np.array([bool(one["named"]) for one in causes])
    fitted = LogisticRegression(C=RIDGE).fit(evidence, right)
    return round(float(fitted.intercept_[0]), DECIMALS), round(float(fitted.coef_[0, 0]), DECIMALS)


def told(document: Path) -> str:
    """What belongs into `model_forensics.pipeline.confidence`, fitted on a document that `score` wrote."""
    intercept, slope = fit(json.loads(document.read_text())["incidents"])
    return f"INTERCEPT, SLOPE = {intercept}, {slope}"
