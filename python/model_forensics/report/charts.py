"""Small SVG charts: entropy profiles and the interval glyph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_forensics.report.markup import Markup, element
from model_forensics.report.numbers import number
from model_forensics.types import Interval

MAX_POINTS = 200
_LEFT, _WIDTH, _HEIGHT = 26, 270, 96


@dataclass(frozen=True)
class Profile:
    """An entropy profile in at most `MAX_POINTS` points: mean, lowest and highest of the windows in each.

    Attributes:
        low, mean, high: [points] float64, bits per symbol; NaN where no window was finite.
        windows: windows of the profile.
        windows_per_point: windows that share a point (the last may hold fewer).
    """

    low: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    windows: int
    windows_per_point: int


def bin_profile(values: Sequence[float], *, max_points: int = MAX_POINTS) -> Profile:
    """[windows] → at most `max_points` points; `values` must not be empty."""
    data = np.asarray(values, dtype=np.float64)
    per_point = math.ceil(data.size / max_points)
    starts = np.arange(0, data.size, per_point)
    counts = np.diff(np.append(starts, data.size))
    return Profile(
        low=np.minimum.reduceat(data, starts),
        mean=np.add.reduceat(data, starts) / counts,
        high=np.maximum.reduceat(data, starts),
        windows=data.size,
        windows_per_point=per_point,
    )


def entropy_chart(profile: Profile, top: float, label: str) -> Markup:
    """Line of the mean with the band from lowest to highest.

    Args:
        profile: from `bin_profile`.
        top: upper end of the y axis in bits per symbol, the same for all charts of a page.
        label: the text alternative.
    """
    count = profile.mean.size
    xs = _LEFT + (np.arange(count, dtype=np.float64) + 0.5) * (_WIDTH / count)
    upper, lower = _points(xs, profile.high, top), _points(xs, profile.low, top)
    mean = _points(xs, profile.mean, top)
    parts: list[Markup | None] = [element("title", label)]
    for value, y in ((0.0, _HEIGHT), (top / 2, _HEIGHT / 2), (top, 0)):
        parts.append(element("path", d=f"M{_LEFT} {y:g}h{_WIDTH}", class_="rule"))
        parts.append(element("text", number(value, 2), x=_LEFT - 5, y=f"{y + 4:g}", text_anchor="end", class_="axis"))
    if profile.windows_per_point > 1:
        parts.append(element("polygon", points=" ".join([*upper, *reversed(lower)]), class_="band"))
    if count == 1 and mean:
        parts.append(element("circle", cx=mean[0].split(",")[0], cy=mean[0].split(",")[1], r=3, class_="dot"))
    else:
        parts.append(element("polyline", points=" ".join(mean), class_="line"))
    parts.append(element("text", "0", x=_LEFT, y=_HEIGHT + 16, class_="axis"))
    if profile.windows > 1:
        last = f"window {profile.windows - 1:,}"
        parts.append(element("text", last, x=_LEFT + _WIDTH, y=_HEIGHT + 16, text_anchor="end", class_="axis"))
    return element("svg", *parts, viewBox=f"0 -8 {_LEFT + _WIDTH + 4} {_HEIGHT + 30}", role="img")


def interval_glyph(value: float, interval: Interval) -> Markup:
    """The value and its interval on the line from 0 to 1. The numbers stand beside it, so it is hidden from readers
    that speak."""
    low, high, point = (4 + 124 * min(1.0, max(0.0, share)) for share in (interval.low, interval.high, value))
    return element(
        "svg",
        element("path", d="M4 7h124M4 3v8M128 3v8", class_="rule"),
        element("path", d=f"M{low:.1f} 7H{high:.1f}", class_="span"),
        element("circle", cx=f"{point:.1f}", cy=7, r=4, class_="point"),
        viewBox="0 0 132 14",
        class_="interval",
        aria_hidden="true",
    )


def _points(xs: npt.NDArray[np.float64], values: npt.NDArray[np.float64], top: float) -> list[str]:
    ys = _HEIGHT * (1 - np.clip(values, 0, top) / top)
    return [f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
