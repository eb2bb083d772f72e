"""Sites × tokens as an SVG: where in the model, and at which token, the run costs more bits than benign runs do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from model_forensics.report.markup import Markup, element, join
from model_forensics.report.numbers import clean, labels
from model_forensics.types import SiteMetrics

MAX_ROWS = 150
MAX_COLUMNS = 128
STEPS = 5  # shades above the ground; each covers twice the range of the one below

_LEFT, _CELLS, _RIGHT = 190, 700, 110
_LABEL_HEIGHT = 13


@dataclass(frozen=True)
class Grid:
    """Excess bits, binned by the maximum.

    Attributes:
        values: [rows, columns] float64, NaN where nothing was measured.
        sites: the sites of each row, in execution order.
        tokens_per_column: tokens that share a column (the last column may hold fewer).
        tokens: tokens of the longest profile.
    """

    values: npt.NDArray[np.float64]
    sites: tuple[tuple[SiteMetrics, ...], ...]
    tokens_per_column: int
    tokens: int

    @property
    def sites_per_row(self) -> int:
        return len(self.sites[0])


def bin_profiles(metrics: Sequence[SiteMetrics], *, max_rows: int = MAX_ROWS, max_columns: int = MAX_COLUMNS) -> Grid:
    """The token profiles as a grid of at most `max_rows` × `max_columns`.

    Bins keep the maximum: a single token at a single site that departs must stay visible.
    Sites without a profile are left out; at least one must have one.
    """
    profiles = [(row, row.token_profile) for row in metrics if row.token_profile]
    tokens = max(len(profile) for _, profile in profiles)
    values = np.full((len(profiles), tokens), np.nan)
    for place, (_, profile) in enumerate(profiles):
        values[place, : len(profile)] = [np.nan if value is None else value for value in profile]
    per_row = math.ceil(len(profiles) / max_rows)
    per_column = math.ceil(tokens / max_columns)
    values = np.fmax.reduceat(values, np.arange(0, len(profiles), per_row), axis=0)
    values = np.fmax.reduceat(values, np.arange(0, tokens, per_column), axis=1)
    sites = [row for row, _ in profiles]
    return Grid(
        values=values,
        sites=tuple(tuple(sites[start : start + per_row]) for start in range(0, len(sites), per_row)),
        tokens_per_column=per_column,
        tokens=tokens,
    )


def scale_top(grid: Grid) -> float:
    """Upper end of the scale in bits: the next power of two above the largest finite value, at least 1.

    The floor of 1 bit keeps the noise of a run in which nothing departs pale.
    """
    finite = grid.values[np.isfinite(grid.values)]
    largest = float(finite.max()) if finite.size else 0.0
    return 2.0 ** min(1023, math.ceil(math.log2(largest))) if largest > 1 else 1.0


def shades(grid: Grid, top: float) -> npt.NDArray[np.int64]:
    """[rows, columns]: 0 (below top/32) to 5 (from top/2 on), -1 where nothing was measured."""
    breaks = [top / 2**power for power in range(STEPS, 0, -1)]
    classes = np.digitize(grid.values, breaks).astype(np.int64)
    classes[np.isnan(grid.values)] = -1
    return classes


def render(grid: Grid, *, marks: Mapping[str, str], anomalous: frozenset[str]) -> Markup:
    """The figure's SVG.

    Args:
        grid: from `bin_profiles`.
        marks: site → word written beside its row ("onset", "fix").
        anomalous: sites whose rows get a dot.
    """
    rows, columns = grid.values.shape
    height = 18 if rows <= 30 else 13 if rows <= 60 else 6
    width = _CELLS / columns
    body = height * rows
    top = scale_top(grid)
    classes = shades(grid, top)
    scaled = f"translate({_LEFT} {height / 2:g}) scale({width:.6g} {height})"
    cells = [
        element("path", d=path, class_=f"c{shade}" if shade > 0 else "absent-cell")
        for shade in (-1, *range(1, STEPS + 1))
        if (path := _runs(classes == shade))
    ]
    return element(
        "svg",
        element("title", f"Heat map of {len(grid.sites)} rows of sites by {columns} columns of tokens"),
        element("rect", x=_LEFT, y=0, width=_CELLS, height=body, class_="frame"),
        element("g", *cells, transform=scaled, shape_rendering="crispEdges"),
        _row_labels(grid, height, marks),
        _marks(grid, height, marks, anomalous),
        _token_axis(grid, width, body),
        viewBox=f"0 -8 {_LEFT + _CELLS + _RIGHT} {body + 52}",
        role="img",
    )


def legend(grid: Grid) -> Markup:
    """The shades with the range that each covers, in bits."""
    top = scale_top(grid)
    edges = [top / 2**power for power in range(STEPS, -1, -1)]
    ranges = [f"below {edges[0]:g}"]
    ranges += [f"{low:g}–{high:g}" for low, high in pairwise(edges)]
    keys = [
        _key(element("rect", x=0.5, y=0.5, width=16, height=12, class_=f"swatch k{shade}"), text)
        for shade, text in enumerate(ranges)
    ]
    return element("ul", *keys, _key(element("path", d="M0 6.5h17", class_="rule"), "not measured"), class_="legend")


def _key(drawing: Markup, text: str) -> Markup:
    return element("li", element("svg", drawing, viewBox="0 0 17 13", aria_hidden="true"), text)


def largest_rows(grid: Grid, count: int) -> list[tuple[str, str, float]]:
    """The rows with the largest cells as (sites, tokens, bits): what the map shows, in text."""
    finite = np.where(np.isfinite(grid.values), grid.values, -np.inf)
    columns = finite.argmax(axis=1)
    peaks = finite.max(axis=1)
    found = []
    for row in np.argsort(-peaks, kind="stable")[:count].tolist():
        if np.isfinite(peaks[row]):
            names = [site.site for site in grid.sites[row]]
            name = clean(names[0]) if len(names) == 1 else f"{clean(names[0])} … {clean(names[-1])}"
            found.append((name, _tokens(grid, int(columns[row])), float(peaks[row])))
    return found


def _tokens(grid: Grid, column: int) -> str:
    start = column * grid.tokens_per_column
    stop = min(grid.tokens, start + grid.tokens_per_column) - 1
    return str(start) if start == stop else f"{start}–{stop}"


def _runs(mask: npt.NDArray[np.bool_]) -> str:
    """Horizontal runs of True as path data in cell units."""
    padded = np.pad(mask.astype(np.int8), ((0, 0), (1, 1)))
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, stops = np.nonzero(change == -1)
    return "".join(f"M{start} {row}h{stop - start}" for row, start, stop in zip(rows, starts, stops, strict=True))


def _row_labels(grid: Grid, height: int, marks: Mapping[str, str]) -> Markup:
    """Every row's name where rows are tall enough; else the marked rows first and then as many as fit."""
    centres = [height * (place + 0.5) for place in range(len(grid.sites))]
    marked = [place for place, sites in enumerate(grid.sites) if any(site.site in marks for site in sites)]
    taken: list[int] = []
    for place in (*marked, *range(len(grid.sites))):
        if all(abs(centres[place] - centres[other]) >= _LABEL_HEIGHT for other in taken):
            taken.append(place)
    names = [
        next((site.site for site in grid.sites[place] if site.site in marks), grid.sites[place][0].site)
        for place in taken
    ]
    parts = []
    for place, name, label in zip(taken, names, labels(names, 25), strict=True):
        parts.append(
            element(
                "text",
                element("title", clean(name, 120)),
                label,
                x=_LEFT - 8,
                y=f"{centres[place] + 4:g}",
                text_anchor="end",
            )
        )
    return join(parts)


def _marks(grid: Grid, height: int, marks: Mapping[str, str], anomalous: frozenset[str]) -> Markup:
    right = _LEFT + _CELLS
    parts: list[Markup] = []
    floor = -math.inf  # labels of neighbouring rows move down rather than overlap
    for place, sites in enumerate(grid.sites):
        centre = height * (place + 0.5)
        if any(site.site in anomalous for site in sites):
            parts.append(element("circle", cx=right + 7, cy=f"{centre:g}", r=2.5, class_="dot"))
        said = list(dict.fromkeys(marks[site.site] for site in sites if site.site in marks))
        if said:
            y = max(centre, floor + _LABEL_HEIGHT)
            floor = y
            parts.append(element("path", d=f"M{right + 13} {centre:g}L{right + 22} {y:g}", class_="leader"))
            parts.append(element("text", ", ".join(said), x=right + 26, y=f"{y + 4:g}", class_="mark"))
    return join(parts)


def _token_axis(grid: Grid, width: float, body: int) -> Markup:
    step = _nice_step(grid.tokens)
    parts: list[Markup] = []
    for token in range(0, grid.tokens, step):
        x = _LEFT + width * token / grid.tokens_per_column
        # A token is as wide as its cell; its number stands under the middle of it.
        x += width / grid.tokens_per_column / 2
        parts.append(element("path", d=f"M{x:.1f} {body}v5", class_="rule"))
        parts.append(element("text", str(token), x=f"{x:.1f}", y=body + 18, text_anchor="middle", class_="axis"))
    middle_x = _LEFT + _CELLS / 2
    parts.append(element("text", "token position", x=middle_x, y=body + 38, text_anchor="middle", class_="axis"))
    return join(parts)


def _nice_step(tokens: int) -> int:
    """A step of 1, 2 or 5 times a power of ten that gives at most 12 ticks."""
    step, factors = 1, (2, 2.5, 2)
    turn = 0
    while tokens > 12 * step:
        step = int(step * factors[turn % 3])
        turn += 1
    return step
