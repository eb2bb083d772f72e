"""`python -m bench.zoo floor`: a part of the zoo that takes two minutes, for every change to be tried on.

It fails where a share is below its floor by more than chance: where its whole interval is. The networks are those that
need no minutes of training; the incidents are of the development split, so that the test split stays unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.zoo.judged import Judged
from bench.zoo.kinds import all_kinds
from bench.zoo.plan import Entry, entries
from bench.zoo.score import shares

NETWORKS = ("digits", "lookup")
FLOORS = {"sufficient fix found": 0.95, "cause named": 0.9, "onset: layer": 0.9}
CEILINGS = {"false alarms": 0.05}


def subset() -> list[Entry]:
    """Of the development split, in these networks, with donors; without kinds that are slow to plant."""
    quick = {name for name, kind in all_kinds().items() if kind.family != "several" and name != "backdoor"}
    return [
        one
        for one in entries()
        if one.split == "development" and one.network in NETWORKS and one.kind in quick
        if one.reference or one.same_requests
    ]


def complaints(judged: Sequence[Judged]) -> Iterator[str]:
    """What is below its floor or above its ceiling with its whole interval."""
    found = shares(judged)
    for name, bound in (*FLOORS.items(), *CEILINGS.items()):
        share = found[name]
        if share.low is None or share.high is None:
            yield f"{name}: nothing was measured"
            continue
        outside = share.high < bound if name in FLOORS else share.low > bound
        told = f"{share.hits} of {share.of} ({share.low:.2f} to {share.high:.2f})"
        if outside:
            yield f"{name}: {told}, {'below' if name in FLOORS else 'above'} {bound}"
