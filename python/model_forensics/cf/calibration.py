"""From measured tables to p-values: cross-fitted statistics of benign groups as the null.

What holds and what does not:

- A site's p-value is conformal against the statistics of held-out benign samples, *pooled over sites* and weighted so
that
  every group counts once per site: right on average over sites, not for each site. Its floor is 1/(n + 1).
- The incident's p-value compares the largest site statistic with that of each held-out benign sample, so it controls
for
  the number of sites and for their dependence. Groups are few, so beyond the median the tail is extrapolated (`Tail`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from model_forensics.cf.combine import Statistic, Upstream, fit_statistic, fit_upstream
from model_forensics.cf.features.table import COLUMN, COLUMNS, columns_of
from model_forensics.cf.fitting import assign_folds
from model_forensics.cf.grouping import group_weights, weighted_mean
from model_forensics.cf.innovation import FOLDS
from model_forensics.cf.maximum import MaximumNull, largest
from model_forensics.cf.nulls import Null, Tail
from model_forensics.cf.onset import OnsetNulls
from model_forensics.cf.planes import Floats
from model_forensics.cf.resampling import HeldOutScores
from model_forensics.cf.shift import Shift
from model_forensics.cf.standardise import Reference, groups_seen, refer, site_families

MINIMUM_GROUPS = 5
GROUPS_FOR_SHIFTS = 19  # 1/(19 + 1) is the family-wise error that an onset may have
INCIDENT_TAIL = 0.5  # share of benign values that teach the extrapolated tail
RESAMPLES = 200
# A resampled mean holds at most every how many-th group, so that those that are left judge it much as all judge a
# recording. For shifts there is only one fold to draw from, and half of it leaves enough different draws.
JUDGED_BY = 5
SHIFTS_JUDGED_BY = 2 * FOLDS
# Departures from what the channel models expect. A held-out group taught the models under which the others were
# measured, and so moved the others away from itself; see `_without_own_pull`.
EXPECTED = ("magnitude", "scale", "spread", "sign", "entropy")
PRIOR_GROUPS = 2  # what a held-out group taught them counts as one group's among these and the baseline's
# A recording has one first token. Models of a few of them bend to each, in ways that no shift takes back, and a
# held-out one seems to lie farther out than a new one does: with fewer than so many these departures have a limit.
FEW_FIRST_TOKENS = 10
FIRST_TOKEN_LIMIT = 2.5  # sigma
SEEN_ONCE = ("magnitude", "sign", "redundancy")
CONDITIONAL = ("magnitude", "scale", "spread", "sign", "presence", "redundancy")  # also scored given upstream


@dataclass(frozen=True)
class Scores:
    """What the calibration says about one recording, [sites] each."""

    normal: Floats  # [sites, columns]
    statistic: Floats
    given_upstream: Floats
    methods: Mapping[str, Floats]
    shift: Floats | None = None


@dataclass(frozen=True)
class Judge:
    """Fitted on some benign samples; scores others."""

    reference: Reference
    limits: Floats  # [columns] normal scores count up to these
    upstream: Upstream
    statistic: Statistic
    conditional_statistic: Statistic
    columns: npt.NDArray[np.int64]
    conditional: npt.NDArray[np.int64]
    methods: Mapping[str, tuple[int, ...]]

    def normal_scores(self, tables: Floats, tokens: Floats) -> Floats:
        return np.clip(self.reference.standardise(tables, tokens), -self.limits, self.limits)

    def scores(self, normal: Floats) -> Scores:
        """From normal scores [..., sites, all columns]."""
        used = normal[..., self.columns]
        residual = self.upstream.residuals(used)
        joined = np.concatenate([used, residual[..., self.conditional]], axis=-1)
        methods = {name: _largest(normal[..., list(columns)]) for name, columns in self.methods.items()}
        return Scores(normal, self.statistic(joined), self.conditional_statistic(residual), methods)


def _largest(scores: Floats) -> Floats:
    filled = np.abs(np.nan_to_num(scores)).max(axis=-1, initial=0.0)
    return np.where(np.isfinite(scores).any(axis=-1), filled, np.nan)


@dataclass(frozen=True)
class Calibration:
    """A judge fitted on all benign samples, and the nulls from judges that did not see the sample's fold."""

    judge: Judge
    groups: int
    sites: Null | None  # None with fewer than MINIMUM_GROUPS groups
    methods: Mapping[str, Null]
    incident: Tail | None
    onset: OnsetNulls | None
    shift: Shift
    held_out: HeldOutScores = field(repr=False)
    _resampled: dict[int, Calibration] = field(default_factory=dict, repr=False, compare=False)

    def for_groups(self, count: int) -> Calibration:
        """The calibration for recordings of `count` independent groups.

        A mean over groups has lighter tails than a single sample, so its null is resampled: means over as many benign
        groups (at most a fifth of them, for the others are what they are judged by), in the same unit scale.
        """
        size = min(count, self.groups // JUDGED_BY)
        if self.sites is None or size <= 1:
            return self
        if size not in self._resampled:
            self._resampled[size] = self._resample(size)
        return self._resampled[size]

    def _resample(self, size: int) -> Calibration:
        rng = np.random.default_rng(size)
        shift_size = min(size, max(1, self.groups // SHIFTS_JUDGED_BY))
        draws = [self.judge.scores(self.held_out.draw(size, rng)) for _ in range(RESAMPLES)]
        shifts = [self.shift.held_out(self.shift.draw(shift_size, rng)) for _ in range(RESAMPLES)]
        return replace(
            self,
            **_nulls(
                np.stack([draw.statistic for draw in draws]),
                np.stack([draw.given_upstream for draw in draws]),
                np.stack(shifts),
                {name: np.stack([draw.methods[name] for draw in draws]) for name in self.judge.methods},
                np.full(RESAMPLES, self.groups / RESAMPLES),
                self.groups,
            ),
        )

    def score(self, tables: Floats, tokens: Floats, profiles: Floats, groups: Sequence[str]) -> Scores:
        """Score a recording; its samples' normal scores are averaged inside each group, then over groups.

        A mean over m independent groups spreads by √((1/m + 1/G) / (1 + 1/G)) of a single sample's and is scaled back
        by that; how far off the mean of G groups is shows once, because what the channel models get wrong moves the
        reference as well. Several samples of one group count as one. Its null: `for_groups`.

        Args:
            tables: [samples, sites, columns].
            tokens: [samples, sites].
            profiles: [samples, sites, sketch] innovations.
            groups: [samples] names.
        """
        normal = self.judge.normal_scores(tables, tokens)
        numbers = site_families(groups)
        weights = group_weights(numbers)
        measured = np.isfinite(normal)
        mean = weighted_mean(normal, weights)
        seen = groups_seen(measured, numbers)
        reference = self.judge.reference.groups
        with np.errstate(divide="ignore"):
            gain = np.sqrt((1 + 1 / reference) / (1 / np.maximum(seen, 1) + 1 / reference))
        profile = weighted_mean(profiles, weights)
        shift = self.shift.distance(profile, groups_seen(np.isfinite(profiles[..., :1]), numbers)[:, 0])
        return replace(self.judge.scores(mean * gain), shift=shift)


class _Nulls(TypedDict):
    sites: Null
    methods: dict[str, Null]
    incident: Tail
    onset: OnsetNulls


def _nulls(
    statistic: Floats, given: Floats, shift: Floats, methods: Mapping[str, Floats], weights: Floats, groups: int
) -> _Nulls:
    """Nulls from benign [samples, sites] statistics and [samples] weights that sum to the number of groups."""
    # A benign score of zero has no logarithm and is left out.
    logs = np.log(given, out=np.full(given.shape, np.nan), where=given > 0)
    return {
        "sites": Null.of(statistic, weights),
        "methods": {name: Null.of(values, weights) for name, values in methods.items()},
        "incident": Tail.pareto(largest(statistic)[:, None], weights, groups, INCIDENT_TAIL),
        "onset": OnsetNulls(
            MaximumNull.of(logs, weights, groups),
            MaximumNull.of(shift, weights, groups) if groups >= GROUPS_FOR_SHIFTS else None,
        ),
    }


def _limits(samples: int) -> Floats:
    """[columns] up to where normal scores count, for a baseline of so many samples."""
    result = np.full(len(COLUMNS), np.inf)
    if samples < FEW_FIRST_TOKENS:
        result[[COLUMN[f"first.{name}"] for name in SEEN_ONCE]] = FIRST_TOKEN_LIMIT
    return result


def _fit_judge(
    reference: Reference, limits: Floats, held_out: Floats, families: npt.NDArray[np.int64], methods: Sequence[str]
) -> Judge:
    """Fit everything that scoring needs on benign samples' held-out normal scores [samples, sites, columns]."""
    usable = np.asarray(np.isfinite(reference.variance).any(axis=0))
    by_method = {name: tuple(c for c in columns_of(name) if usable[c]) for name in (*methods, "entropy", "integrity")}
    columns = np.array(sorted(c for chosen in by_method.values() for c in chosen), dtype=np.int64)
    names = {COLUMN[f"{kind}.{name}"] for kind in ("first", "later") for name in CONDITIONAL}
    conditional = np.flatnonzero(np.isin(columns, sorted(names)))
    normal = held_out[..., columns]
    upstream = fit_upstream(normal, families)
    residual = upstream.residuals(normal)
    joined = np.concatenate([normal, residual[..., conditional]], axis=-1)
    return Judge(
        reference, limits, upstream, fit_statistic(joined), fit_statistic(residual), columns, conditional, by_method
    )


def _held_out(
    tables: Floats,
    tokens: Floats,
    groups: npt.NDArray[np.int64],
    families: npt.NDArray[np.int64],
    floors: Floats,
) -> Floats:
    """Normal scores of each sample against the other folds."""
    folds = assign_folds(groups.tolist())
    result = np.full(tables.shape, np.nan)
    for fold in np.unique(folds):
        inside = folds == fold
        if inside.all():
            continue
        others = site_families(groups[~inside].tolist())
        reference = refer(tables[~inside], tokens[~inside], others, families, floors)
        scores = reference.standardise(tables[inside], tokens[inside])
        share = np.unique(groups[inside]).size / (np.unique(groups).size + PRIOR_GROUPS)
        result[inside] = _without_own_pull(scores, group_weights(site_families(groups[inside].tolist())), share)
    return result


def _without_own_pull(scores: Floats, weights: Floats, share: float) -> Floats:
    """Normal scores [samples, sites, columns] of a held-out fold as a new recording of the same values would get them.

    Departures from the models' expectation sum to about zero over cross-fitted groups. So the mean of the others lies
    opposite to that of the fold, at share / (1 − share) times its distance, and the fold seems farther away by the
    factor 1 / (1 − share) than it would if it had not taught the others' models: that much of the fold's mean is taken
    back. Measuring the others again without each fold would do the same at the price of a fit for every fold.
    The models are shrunk and the departures not linear in what they learn, so the whole share would be too much:
    `PRIOR_GROUPS` lessens it, the more the fewer groups there are.

    Args:
        weights: [samples] that count groups alike.
        share: of what taught the models, in this fold.
    """
    columns = [COLUMN[f"{kind}.{name}"] for kind in ("first", "later") for name in EXPECTED]
    result = scores.copy()
    result[..., columns] -= share * weighted_mean(scores[..., columns], weights)
    return result


def calibrate(
    tables: Floats,
    tokens: Floats,
    profiles: Floats,
    group_names: Sequence[str],
    families: npt.NDArray[np.int64],
    floors: Floats,
    methods: Sequence[str],
) -> Calibration:
    """Fit the judge and, with at least `MINIMUM_GROUPS` groups, the nulls.

    Args:
        tables: [samples, sites, columns], each sample measured with channel models that never saw its group.
        tokens: [samples, sites].
        profiles: [samples, sites, sketch], innovations of each sample under maps that never saw its group.
        group_names: [samples].
        families: [sites]; floors: [sites, columns], see `standardise.refer`.
        methods: the configured compression methods that the tables hold.
    """
    groups = site_families(group_names)
    count = int(groups.max(initial=-1)) + 1
    limits = _limits(len(tables))
    normal = np.clip(_held_out(tables, tokens, groups, families, floors), -limits, limits)
    reference = refer(tables, tokens, groups, families, floors)
    judge = _fit_judge(reference, limits, normal, families, methods)
    shift = Shift(profiles, groups)
    own = np.nan_to_num(reference.groups) - 1  # degrees of freedom that a column's variance brings itself
    held_out = HeldOutScores(normal, groups, np.maximum(np.nan_to_num(reference.degrees) - own, 0.0))
    if count < MINIMUM_GROUPS:
        return Calibration(judge, count, None, {}, None, None, shift, held_out)
    folds = assign_folds(group_names)
    statistic = np.full(tables.shape[:2], np.nan)
    given = np.full(tables.shape[:2], np.nan)
    by_method = {name: np.full(tables.shape[:2], np.nan) for name in judge.methods}
    for fold in np.unique(folds):
        inside = folds == fold
        # The held-out fold's scores come from a reference without it; so do the weights that combine them. The other
        # folds' scores, which teach those weights, come from references that did see this fold (as in jackknife+).
        scores = _fit_judge(reference, limits, normal[~inside], families, methods).scores(normal[inside])
        statistic[inside], given[inside] = scores.statistic, scores.given_upstream
        for name, values in scores.methods.items():
            by_method[name][inside] = values
    if not np.isfinite(statistic).any():  # no site is in enough groups
        return Calibration(judge, count, None, {}, None, None, shift, held_out)
    shifts = np.stack([shift.held_out(np.array([sample])) for sample in range(len(groups))])
    nulls = _nulls(statistic, given, shifts, by_method, group_weights(groups), count)
    return Calibration(judge, count, **nulls, shift=shift, held_out=held_out)


def q_values(p: Floats) -> tuple[Floats, Floats]:
    """Benjamini–Hochberg (1995) and Benjamini–Yekutieli (2001) q-values of [n] p-values; NaN stays NaN."""
    tested = np.isfinite(p)
    count = int(tested.sum())
    bh = np.full(p.shape, np.nan)
    by = np.full(p.shape, np.nan)
    if count:
        order = np.argsort(p[tested])
        rank = np.arange(1, count + 1)
        stepped = np.minimum.accumulate((p[tested][order] * count / rank)[::-1])[::-1]
        adjusted = np.empty(count)
        adjusted[order] = stepped
        bh[tested] = np.minimum(adjusted, 1.0)
        by[tested] = np.minimum(adjusted * (1 / rank).sum(), 1.0)
    return bh, by
