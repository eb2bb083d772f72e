"""Searching in the most promising part of a large pool, and noticing when it was the wrong part.

The order comes from forensics and from estimates; neither is trusted. A sample of what was left out is run, and the
part grows while that contradicts the order, or nothing was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

import numpy as np

from model_forensics.cca.attribution import agreement
from model_forensics.cca.executor import OutOfTime
from model_forensics.cca.pool import Candidate
from model_forensics.cca.search import Found, Problem, Search, Settings

AUDITED = 32
"""Interventions outside the shortlist that are run, drawn at random, to check the order."""
TRUSTED = 0.5
"""Rank correlation of estimates and measurements below which estimates do not choose."""


@dataclass
class Shortlisted:
    """What a search in part of the pool found.

    Attributes:
        candidates: the first so many of the pool were searched.
        agreement: of estimates and measurements, over the single interventions that were run; None without estimates.
        warnings: why the part was widened.
    """

    found: Found
    candidates: int
    agreement: float | None = None
    warnings: list[str] = field(default_factory=list)


def promising_order(pool: Sequence[Candidate], ranking: Sequence[str], estimated: Sequence[float] | None) -> list[int]:
    """Indices into the pool: the sites that forensics and the estimates put first, in turn, then the others.

    Args:
        ranking: site names, most suspicious first.
        estimated: per candidate; the size counts, not the sign, since harm alone may be help in a set.
    """
    by_site: dict[str, list[int]] = {}
    for index, candidate in enumerate(pool):
        by_site.setdefault(candidate.tap.name, []).append(index)
    strength = {} if estimated is None else {s: max(abs(estimated[i]) for i in m) for s, m in by_site.items()}
    suspected = [site for site in ranking if site in by_site]
    estimated_first = sorted(strength, key=lambda site: -strength[site])
    turns = chain.from_iterable(zip_longest(suspected, estimated_first))
    sites = dict.fromkeys(site for site in (*turns, *by_site) if site is not None)
    return [index for site in sites for index in by_site[site]]


def search_shortlist(
    problem: Callable[[int], Problem],
    sites: Sequence[str],
    estimated: Sequence[float] | None,
    limit: int,
    settings: Settings,
) -> Shortlisted:
    """Search the candidates of the first `limit` sites, and twice as many as long as the order proves wrong.

    Args:
        problem: the problem of the first so many candidates.
        sites: per candidate, in the order in which they are taken; the candidates of a site are neighbours.
        estimated: per candidate, None where there are no estimates.
    """
    warnings: list[str] = []
    for count in _sizes(sites, limit):
        found = Search(problem(count), settings).result()
        result = Shortlisted(found, count, warnings=warnings)
        if found.timed_out or count == len(sites):
            return result
        try:
            reason, result.agreement = _distrust(problem(len(sites)), count, estimated, settings.seed)
        except OutOfTime:
            found.timed_out = True
            return result
        if reason is None and (found.restoring or found.flipping):
            return result
        outside = len(set(sites[count:]))
        warnings.append(
            f"{reason or 'nothing was found'}: the pool was widened by some of the {outside} sites left out"
        )
    raise AssertionError("the last size is the whole pool")


def _sizes(sites: Sequence[str], limit: int) -> Iterator[int]:
    """Numbers of candidates at the first `limit` sites, at twice as many, …, at all."""
    distinct = list(dict.fromkeys(sites))
    while limit < len(distinct):
        yield sites.index(distinct[limit])
        limit *= 2
    yield len(sites)


def _distrust(
    problem: Problem, inside: int, estimated: Sequence[float] | None, seed: int
) -> tuple[str | None, float | None]:
    """(why the order is not to be trusted or None, agreement of the estimates)."""
    outside = np.random.default_rng([seed, 3]).permutation(np.arange(inside, len(problem.sites)))[:AUDITED]
    audited = [int(i) for i in outside]
    outcomes = problem.run([(i,) for i in (*range(inside), *audited)])
    measured = [outcome.score_decrease for outcome in outcomes]
    value = None if estimated is None else agreement([estimated[i] for i in (*range(inside), *audited)], measured)
    if any(problem.sufficient(outcome) for outcome in outcomes[inside:]):
        return "an intervention that was left out removes the failure", value
    if value is not None and value < TRUSTED:
        return f"estimated and measured effects of single interventions disagree (rank correlation {value:.2f})", value
    return None, value
