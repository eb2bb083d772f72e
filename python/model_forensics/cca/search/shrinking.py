"""Shrinking sets that meet a goal. It needs no partial signal, so it finds sets whose members show nothing alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from model_forensics.cca.executor import Members
from model_forensics.cca.search.problem import Goal, Ledger, Problem, without


def shrink(
    ledger: Ledger, problem: Problem, start: Members, goal: Goal, keep: Callable[[Members], None], sets: int
) -> tuple[Members, bool]:
    """Leave out ever smaller parts as long as the goal is met (complements of ddmin; Zeller and Hildebrandt 2002).

    What is held at any time was run and meets the goal, so nothing is assumed of the sets in between: no set needs to
    be as good as its subsets.

    Args:
        start: a set that was run and meets the goal.
        keep: called with every smaller set that meets the goal.
        sets: give up after so many.

    Returns:
        The smallest set held, and whether it is locally minimal: each set with one member fewer was run and misses.
    """
    members, parts, spent = start, 2, 0
    while len(members) > 1:
        chunks = list(_split(members, min(parts, len(members))))
        rests = {without(members, chunk): chunk for chunk in chunks}
        if spent + len(rests) > sets:
            return members, False
        spent += len(rests)
        hits = ledger.hits(list(rests), goal)
        if not hits and parts >= len(members):
            return members, True
        if not hits:
            parts = min(2 * parts, len(members))
            continue
        together = without(members, [m for rest in hits for m in rests[rest]])
        if len(hits) > 1 and ledger.meets(together, goal):
            hits, parts = [together], parts - len(hits) + 1
        members = min(hits, key=lambda rest: (len(rest), problem.bits_of(rest), rest))
        parts = max(2, parts - 1)
        keep(members)
    return members, True


def everything(problem: Problem, excluded: frozenset[str] = frozenset()) -> Iterator[Members]:
    """Full sets: one intervention at every site that is not excluded.

    For every place in the lists of interventions at a site there is one, the last place first (patches, as a rule).
    """
    by_site: dict[str, list[int]] = {}
    for index, site in enumerate(problem.sites):
        if site not in excluded:
            by_site.setdefault(site, []).append(index)
    for choice in reversed(range(max(map(len, by_site.values()), default=0))):
        yield tuple(sorted(members[min(choice, len(members) - 1)] for members in by_site.values()))


def _split(members: Sequence[int], parts: int) -> Iterator[Members]:
    for part in range(parts):
        yield tuple(members[len(members) * part // parts : len(members) * (part + 1) // parts])
