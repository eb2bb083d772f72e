"""Which incidents the zoo holds: kinds × seeds, each in one network."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from bench.zoo.kinds import all_kinds

DEVELOPMENT_SEEDS, TEST_SEEDS = range(5), range(5, 11)
HEALTHY_TIMES = 2
"""Incidents of a healthy kind for each of a faulty one: there are few such kinds, and false alarms are what costs."""
Split = Literal["development", "test", "other"]
SPLITS: tuple[Split, ...] = ("development", "test", "other")
"""`other` are seeds that are not the zoo's: anyone's who wants to see the tool on what nobody saw."""


@dataclass(frozen=True)
class Entry:
    """One incident.

    Attributes:
        training: seed of the network's training; another one in each split, so that its networks are new too.
        reference: whether a reference model comes with it.
        same_requests: whether the healthy recordings hold the incident's requests: those of the release before.
    """

    kind: str
    network: str
    seed: int
    split: Split
    training: int
    reference: bool
    same_requests: bool

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed:03}"


def entries(seeds: Iterable[int] = (*DEVELOPMENT_SEEDS, *TEST_SEEDS)) -> Iterator[Entry]:
    """In the order of their kinds."""
    chosen = list(seeds)
    for kind in all_kinds().values():
        number = zlib.crc32(kind.name.encode())  # not its place among them, which another kind would shift
        times = HEALTHY_TIMES if kind.family == "healthy" else 1
        for seed in chosen:
            for again in range(times):
                yield entry(kind.name, kind.networks, seed * times + again, number, split_of(seed))


def split_of(seed: int) -> Split:
    return "development" if seed in DEVELOPMENT_SEEDS else "test" if seed in TEST_SEEDS else "other"


def entry(kind: str, networks: tuple[str, ...], seed: int, number: int, split: Split) -> Entry:
    """Networks, and with or without a reference model, come in turn, each with each."""
    turn = seed + number
    reference = sum(divmod(turn, len(networks))) % 2 == 0
    return Entry(
        kind=kind,
        network=networks[turn % len(networks)],
        seed=seed,
        split=split,
        training=SPLITS.index(split),
        reference=reference,
        # Without a reference model, most operators have recordings of the release before: four in five here.
        same_requests=not reference and seed % 5 != 4,
    )
