"""The zoo's score: shares with their intervals, of all incidents, of each split and of each kind.

Intervals are 95 %, over incidents: Clopper-Pearson's of shares, resampled ones of other numbers. Each incident has a
fault and prompts of its own; networks they share, so that they say less about other networks than about other faults in
these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from bench.table import MARKER, fill
from bench.zoo.calibration import Calibration, Confidences, Rights, calibration
from bench.zoo.intervals import Interval, resampled
from bench.zoo.judged import Judged, judge
from bench.zoo.plan import Entry
from bench.zoo.table import blocks
from bench.zoo.work import CRASHED
from model_forensics.cca.evidence import clopper_pearson
from model_forensics.files import atomic_write

Told = Callable[[Judged], "bool | None"]


@dataclass(frozen=True)
class Share:
    """How many of how many, with its interval."""

    hits: int
    of: int
    low: float | None
    high: float | None

    @staticmethod
    def over(told: Iterable[bool | None]) -> Share:
        """Of those that are not None."""
        known = [one for one in told if one is not None]
        if not known:
            return Share(0, 0, None, None)
        found = clopper_pearson(sum(known), len(known))
        return Share(sum(known), len(known), found.low, found.high)

    @property
    def rate(self) -> float | None:
        return self.hits / self.of if self.of else None


MEASURES: dict[str, Told] = {
    "sufficient fix found": lambda one: one.fix_found,
    "cause named, with a reference model": lambda one: one.named if one.reference else None,
    "cause named, without": lambda one: None if one.reference else one.named,
    "cause named": lambda one: one.named,
    "or what restores, with a reference model": lambda one: one.named_or_restores if one.reference else None,
    "or what restores, without": lambda one: None if one.reference else one.named_or_restores,
    "layer named": lambda one: one.layer_named,
    "onset: layer": lambda one: None if one.onset is None else one.onset[1],
    "onset: site": lambda one: None if one.onset is None else one.onset[0],
    "onset: site among the first three": lambda one: one.onset_top,
    "strongest: layer": lambda one: None if one.strongest is None else one.strongest[1],
    "strongest: site": lambda one: None if one.strongest is None else one.strongest[0],
    "strongest: site among the first three": lambda one: one.strongest_top,
    "false alarms": lambda one: one.alarm,
}
NOISE = "noise_level"
RIVALS = ("zlib", "mahalanobis", "single patches", "gradient", "weights")


def shares(judged: Sequence[Judged]) -> dict[str, Share]:
    found = {name: Share.over(map(told, judged)) for name, told in MEASURES.items()}
    return found | {f"{name}: site": Share.over(one.rivals.get(name) for one in judged) for name in RIVALS}


@dataclass(frozen=True)
class Confidence:
    """Of reported causes that have one: the mean, and how many are right."""

    mean: float
    right: int
    of: int


MEDIANS: dict[str, Callable[[Judged], float | None]] = {
    "changed": lambda one: one.changed,
    "seconds": lambda one: one.seconds,
    "cpu_seconds": lambda one: one.cpu_seconds,
    "forwards": lambda one: one.forwards,
}


@dataclass(frozen=True)
class Summary:
    """Of some incidents.

    Attributes:
        changed: median share of benign outputs that a reported fix changes.
        seconds, cpu_seconds, forwards: medians.
        intervals: of those.
        confidence: mean of the reported causes', and how many of these are right.
        noise, damage: how far the healthy activations are from the incident's: the furthest where nothing but rounding
            is at work, the nearest where something is damaged.
    """

    incidents: int
    refused: int
    shares: dict[str, Share]
    changed: float | None
    seconds: float | None
    cpu_seconds: float | None
    forwards: float | None
    intervals: dict[str, Interval | None]
    confidence: Confidence | None
    noise: float | None
    damage: float | None
    calibration: Calibration | None


def summarise(judged: Sequence[Judged]) -> Summary:
    known = {name: _known(map(told, judged)) for name, told in MEDIANS.items()}
    confidence, right = _confident(judged)
    return Summary(
        incidents=len(judged),
        refused=sum(one.refused is not None for one in judged),
        shares=shares(judged),
        changed=_median(known["changed"]),
        seconds=_median(known["seconds"]),
        cpu_seconds=_median(known["cpu_seconds"]),
        forwards=_median(known["forwards"]),
        intervals={name: resampled(_median, values) for name, values in known.items()},
        confidence=Confidence(float(confidence.mean()), int(right.sum()), right.size) if right.size else None,
        noise=max((one.change for one in judged if one.kind == NOISE and one.change is not None), default=None),
        damage=min((one.change for one in judged if one.onset is not None and one.change is not None), default=None),
        calibration=calibration(confidence, right),
    )


def _known(values: Iterable[float | None]) -> Confidences:
    return np.array([value for value in values if value is not None], np.float64)


def _median(values: Confidences) -> float | None:
    return float(np.median(values)) if values.size else None


def _confident(judged: Sequence[Judged]) -> tuple[Confidences, Rights]:
    """Of reported causes with a confidence: it, and whether the cause is right."""
    found = [one for one in judged if one.confidence is not None]
    return _known(one.confidence for one in found), np.array([bool(one.named) for one in found], np.bool_)


def score(
    root: Path,
    chosen: Sequence[Entry],
    pages: Sequence[Path] = (),
    copy: Path | None = None,
    planned: int | None = None,
) -> int:
    """Prints the score of the incidents that were run and writes it beside them; 1 where some were not run or crashed.

    Args:
        planned: how many there are where `chosen` is a part; those that are missing are told below the table.
        pages: whose tables are filled with it.
        copy: where it is written to as well.
    """
    there = [one for one in chosen if (root / "results" / f"{one.name}.run.json").exists()]
    judged = [judge(root, one) for one in there]
    parts: dict[str, list[Judged]] = {"all": judged}
    for one in judged:
        parts.setdefault(one.split, []).append(one)
        parts.setdefault(f"kind: {one.kind}", []).append(one)
    summaries = {name: summarise(part) for name, part in parts.items()}
    document: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "commits": sorted({one.commit or "unknown" for one in judged}),
        "machine": machine.describe(),
        "not_run": (len(chosen) if planned is None else planned) - len(there),
        "summaries": {name: asdict(one) for name, one in summaries.items()},
        "incidents": [asdict(one) for one in judged],
    }
    for place in (root / "score.json", *([] if copy is None else [copy])):
        atomic_write(place, written(document))
    for page in pages:
        atomic_write(page, filled(page.read_text(), document))
    for name, summary in summaries.items():
        print(_told(name, summary))
    crashed = any(one.refused is not None and one.refused.startswith(CRASHED) for one in judged)
    return 1 if crashed or len(there) < len(chosen) else 0


def written(document: Mapping[str, Any]) -> str:
    """JSON, an incident a line."""
    rest = json.dumps({name: value for name, value in document.items() if name != "incidents"}, indent=1)
    lines = ",\n  ".join(json.dumps(one) for one in document["incidents"])
    return f'{rest.removesuffix("}").rstrip()},\n "incidents": [\n  {lines}\n ]\n}}\n'


def filled(page: str, document: Mapping[str, Any]) -> str:
    """The page with those of the tables that it has markers for."""
    known = {name: text for name, text in blocks(document).items() if MARKER.format(name=name) in page}
    return fill(page, known)


def _told(name: str, summary: Summary) -> str:
    lines = [f"\n{name}: {summary.incidents} incidents, {summary.refused} refused"]
    for measure, share in summary.shares.items():
        if share.of:
            lines.append(f"  {measure}: {share.hits} of {share.of} ({share.low:.2f} to {share.high:.2f})")
    for measure, interval in summary.intervals.items():
        lines.append(f"  {measure}, median: {getattr(summary, measure)} {interval}")
    lines.append(f"  confidence: {summary.confidence}")
    lines.append(f"  calibration: {summary.calibration}")
    return "\n".join(lines)
