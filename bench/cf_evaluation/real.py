"""The protocol of FAULTS.md on the real recordings, and the comparators in the same run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cf_evaluation import kept_aside
from bench.cf_evaluation.comparators import NAMES, SiteComparators, summaries
from bench.cf_evaluation.inside import Scorer
from bench.cf_evaluation.plan import LEVELS, Plan
from bench.qwen_recordings import FAULTS, SITES, QwenRecording, plant, read_recording

OURS = "model-forensics"
SIZES = ("54", "20", "5 × 1")
RANDOM = ("noise.3", "noise.1", "noise.3raw", "stuck5", "sign5", "drop_block", "permute", "nan1", *kept_aside.FAULTS)
POWER_LEVEL = 0.0228
COMPARATOR_LIMIT = 2.0  # sigma
NONFINITE = 1e6  # NaN is a hard flag and ranks first


def draw(recordings: Sequence[QwenRecording], size: str) -> list[QwenRecording]:
    """All recordings, or 20 spread over the prompts, or one of each of the first five prompts."""
    groups: dict[str, list[QwenRecording]] = defaultdict(list)
    for recording in recordings:
        groups[recording.group].append(recording)
    if size == SIZES[0]:
        return list(recordings)
    if size == SIZES[2]:
        return [members[0] for members in list(groups.values())[:5]]
    return [members[turn] for turn in range(9) for members in groups.values() if turn < len(members)][:20]


@dataclass
class Fitted:
    """One baseline, ours and theirs."""

    ours: Scorer
    theirs: list[SiteComparators]

    @staticmethod
    def of(recordings: list[QwenRecording]) -> Fitted:
        groups = [recording.group for recording in recordings]
        theirs = [SiteComparators([recording.arrays[site] for recording in recordings], groups) for site in SITES]
        return Fitted(Scorer.of(recordings), theirs)

    def compare(self, recording: QwenRecording, simple: np.ndarray) -> np.ndarray:
        """[sites, comparators] from a recording and its [sites, 2] summaries."""
        entries = [recording.arrays[site] for site in SITES]
        return np.stack([one.scores(entry, s) for one, entry, s in zip(self.theirs, entries, simple, strict=True)])


class Tally:
    """What one method did with one baseline size, summed over folds, seeds and faults."""

    def __init__(self) -> None:
        self.auroc: dict[str, list[float]] = defaultdict(list)
        self.power: dict[str, list[float]] = defaultdict(list)
        self.ranks: dict[str, list[np.ndarray]] = defaultdict(list)
        self.clean: dict[str, list[np.ndarray]] = defaultdict(list)  # level or "limit" → flags of one prompt

    def add(self, fault: str, weight: int, positive: np.ndarray, negative: np.ndarray, hit: np.ndarray) -> None:
        """[recordings, sites] each; a fault without randomness counts for all seeds at once."""
        wins = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
        above = negative[:, None, :] >= positive[:, :, None]
        above &= ~np.eye(positive.shape[1], dtype=bool)[None]
        self.auroc[fault] += [float(wins.mean())] * weight
        self.power[fault] += [float(hit.mean())] * weight
        self.ranks[fault] += [above.sum(axis=-1)] * weight

    def summary(self) -> dict[str, Any]:
        per_fault = {
            fault: {
                "auroc": float(np.mean(values)),
                "top1": float(np.mean([(rank == 0).mean() for rank in self.ranks[fault]])),
                "top5": float(np.mean([(rank < 5).mean() for rank in self.ranks[fault]])),
                "power": float(np.mean(self.power[fault])),
            }
            for fault, values in self.auroc.items()
        }
        measures = ("auroc", "top1", "top5", "power")
        means = {name: float(np.mean([one[name] for one in per_fault.values()])) for name in measures}
        false = {level: [float(flags.mean()) for flags in by_prompt] for level, by_prompt in self.clean.items()}
        return means | {"faults": per_fault, "false_positives_by_prompt": false}


def measure(directory: Path, plan: Plan, held_out_faults: bool) -> dict[str, Any]:
    """Per baseline size and method: means, per fault, false positives of every prompt."""
    recordings = [read_recording(path) for path in sorted(directory.glob("*.safetensors"))]
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    faults = kept_aside.FAULTS if held_out_faults else FAULTS
    for prompt in sorted({recording.group for recording in recordings})[: plan.folds]:
        fold = _Fold(recordings, prompt)
        fold.add_clean(tallies)
        for fault in faults:
            seeds = plan.seeds if fault in RANDOM else plan.seeds[:1]
            for seed in seeds:
                fold.add_fault(tallies, fault, seed, len(plan.seeds) // len(seeds))
    return {
        size: {method: tallies[size, method].summary() for method in (OURS, *NAMES)} for size in SIZES
    } | {"recordings": len(recordings), "sites": len(SITES), "seeds": len(plan.seeds), "folds": plan.folds}  # fmt: skip


class _Fold:
    """One held-out prompt: baselines without it, and the clean scores of its recordings."""

    def __init__(self, recordings: list[QwenRecording], prompt: str) -> None:
        others = [recording for recording in recordings if recording.group != prompt]
        self.fitted = {size: Fitted.of(draw(others, size)) for size in SIZES}
        self.tested = [(n, recording) for n, recording in enumerate(recordings) if recording.group == prompt]
        self.normal = {size: [fitted.ours.normal(r) for _, r in self.tested] for size, fitted in self.fitted.items()}
        self.ours = {
            size: np.stack([fitted.ours.statistic(normal) for normal in self.normal[size]])
            for size, fitted in self.fitted.items()
        }
        simple = [_summaries(recording) for _, recording in self.tested]
        self.theirs = {
            size: np.stack([fitted.compare(r, s) for (_, r), s in zip(self.tested, simple, strict=True)])
            for size, fitted in self.fitted.items()
        }

    def add_clean(self, tallies: dict[tuple[str, str], Tally]) -> None:
        for size, fitted in self.fitted.items():
            p = fitted.ours.p_values(self.ours[size])
            for level in LEVELS:
                tallies[size, OURS].clean[str(level)].append(p <= level)
            for column, name in enumerate(NAMES):
                tallies[size, name].clean["limit"].append(self.theirs[size][..., column] > COMPARATOR_LIMIT)

    def add_fault(self, tallies: dict[tuple[str, str], Tally], fault: str, seed: int, weight: int) -> None:
        broken = [_planted(recording, number, fault, seed) for number, recording in self.tested]
        simple = [_summaries(recording) for recording in broken]
        for size, fitted in self.fitted.items():
            ours = np.stack(list(self._statistics(size, broken)))
            hit = fitted.ours.p_values(ours) <= POWER_LEVEL
            if fault == "nan1":
                ours, hit = ours + NONFINITE, np.ones_like(hit)
            tallies[size, OURS].add(fault, weight, ours, self.ours[size], hit)
            theirs = np.stack([fitted.compare(r, s) for r, s in zip(broken, simple, strict=True)])
            for column, name in enumerate(NAMES):
                positive, negative = theirs[..., column], self.theirs[size][..., column]
                tallies[size, name].add(fault, weight, positive, negative, positive > COMPARATOR_LIMIT)

    def _statistics(self, size: str, broken: list[QwenRecording]) -> Iterator[np.ndarray]:
        """[sites] for each recording: the statistic of each site when it alone is faulty."""
        scorer = self.fitted[size].ours
        for clean, recording in zip(self.normal[size], broken, strict=True):
            yield scorer.one_by_one(clean, scorer.normal(recording))


def _summaries(recording: QwenRecording) -> np.ndarray:
    return np.stack([summaries(recording.arrays[site]) for site in SITES])


def _planted(recording: QwenRecording, number: int, fault: str, seed: int) -> QwenRecording:
    """Every site faulty; the randomness is that of FAULTS.md."""
    arrays = dict(recording.arrays)
    for site, name in enumerate(SITES):
        rng = np.random.default_rng([seed, site, number])
        if fault in kept_aside.FAULTS:
            arrays[name] = kept_aside.plant(recording.arrays[name], fault, rng)
        else:
            arrays[name] = plant(recording, name, fault, rng)
    return QwenRecording(recording.name, arrays, SITES)
