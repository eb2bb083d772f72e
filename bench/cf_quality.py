"""How well forensics detects, localises and stays quiet: `python -m bench.cf_quality [DIRECTORY OF QWEN RECORDINGS]`.

Prints Markdown tables. Part 1 is the protocol of FAULTS.md beside the recordings; part 2 uses a small random GPT-2.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import GPT2LMHeadModel

from bench.qwen_recordings import FAULTS, SITES, QwenRecording, plant, read_recording
from bench.small_gpt2 import LAYERS, build_model, damaged, prompts, record
from model_forensics.cf import Baseline, analyze, fit_baseline
from model_forensics.cf.planes import read_entries
from model_forensics.config import ForensicsConfig

CONFIG = ForensicsConfig(compression_methods=("arithmetic", "zlib"), baseline_samples=1000)
SEEDS = (0, 1, 2)
DAMAGES = [
    (n, kind, what) for n in range(LAYERS) for kind in ("attn", "mlp") for what in ("noise", "zero_rows", "quantized")
]


def statistics(baseline: Baseline, clean: np.ndarray, faulty: np.ndarray) -> np.ndarray:
    """[sites] statistic of each site when it alone is faulty, from normal scores [sites, columns]."""
    judge = baseline.calibration(CONFIG.compression_methods).judge
    one_by_one = np.repeat(clean[None], len(clean), axis=0)
    diagonal = np.arange(len(clean))
    one_by_one[diagonal, diagonal] = faulty
    return judge.scores(one_by_one).statistic[diagonal, diagonal]


def normal_scores(baseline: Baseline, recording: QwenRecording) -> np.ndarray:
    entries = read_entries(recording, 0, baseline.layout)
    table = baseline.measure(entries, CONFIG.compression_methods).table
    return baseline.calibration(CONFIG.compression_methods).judge.normal_scores(table, entries.rows)


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Mean over sites; [recordings, sites] each."""
    wins = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    return float(wins.mean())


def draw(recordings: list[QwenRecording], size: str) -> list[QwenRecording]:
    """All recordings, or 20 spread over the prompts, or one of each of the first five prompts."""
    groups: dict[str, list[QwenRecording]] = defaultdict(list)
    for recording in recordings:
        groups[recording.group].append(recording)
    if size == "54":
        return recordings
    if size == "5 × 1":
        return [members[0] for members in list(groups.values())[:5]]
    return [members[turn] for turn in range(9) for members in groups.values()][:20]


def qwen(directory: Path) -> None:
    recordings = [read_recording(path) for path in sorted(directory.glob("*.safetensors"))]
    print("| baseline | mean AUROC | top-1 | top-5 | FPR at 1 % | at 2.3 % |", "|---|---|---|---|---|---|", sep="\n")
    per_fault: dict[tuple[str, str], list[float]] = defaultdict(list)
    for size in ("54", "20", "5 × 1"):
        ranks: list[np.ndarray] = []
        quiet: list[np.ndarray] = []
        for held_out in sorted({recording.group for recording in recordings}):
            baseline = fit_baseline(draw([r for r in recordings if r.group != held_out], size), CONFIG)
            calibration = baseline.calibration(CONFIG.compression_methods)
            assert calibration.sites is not None
            tested = [(n, r) for n, r in enumerate(recordings) if r.group == held_out]
            clean = {n: normal_scores(baseline, r) for n, r in tested}
            negative = np.stack([calibration.judge.scores(clean[n]).statistic for n, _ in tested])
            quiet.append(calibration.sites.p_values(negative))
            for fault in FAULTS:
                for seed in SEEDS:
                    positive = np.stack([_faulty(baseline, r, n, fault, seed, clean[n]) for n, r in tested])
                    per_fault[size, fault].append(auroc(positive, negative))
                    above = negative[:, None, :] >= positive[:, :, None]
                    above &= ~np.eye(len(SITES), dtype=bool)[None]
                    ranks.append(above.sum(axis=-1).ravel())
        mean = np.mean([np.mean(per_fault[size, fault]) for fault in FAULTS])
        rank, p = np.concatenate(ranks), np.concatenate(quiet)
        rates = (p <= 0.01).mean(), (p <= 0.0228).mean()
        print(f"| {size} | {mean:.3f} | {(rank == 0).mean():.2f} | {(rank < 5).mean():.2f} | ", end="")
        print(f"{rates[0]:.2%} | {rates[1]:.2%} |")
    print("\n| fault | 54 | 20 | 5 × 1 |", "|---|---|---|---|", sep="\n")
    for fault in FAULTS:
        cells = " | ".join(f"{np.mean(per_fault[size, fault]):.2f}" for size in ("54", "20", "5 × 1"))
        print(f"| {fault} | {cells} |")


def _faulty(
    baseline: Baseline, recording: QwenRecording, number: int, fault: str, seed: int, clean: np.ndarray
) -> np.ndarray:
    arrays = dict(recording.arrays)
    for site, name in enumerate(SITES):
        arrays[name] = plant(recording, name, fault, np.random.default_rng([seed, site, number]))
    broken = QwenRecording(recording.name, arrays, SITES)
    result = statistics(baseline, clean, normal_scores(baseline, broken))
    return result + 1e6 if fault == "nan1" else result  # NaN is a hard flag and ranks first


def gpt2() -> None:
    """False-positive rates over several baselines of distinct prompts, and whether onset names a damaged component."""
    model = build_model()
    asked = prompts(800, seed=1)
    runs = [record(model, [prompt], f"r{n}", [f"g{n}"]) for n, prompt in enumerate(asked)]
    tested, incident_prompts = runs[500:], asked[500:510]
    print(
        "\n| groups | baselines | FPR at 1 % | at 2.3 % | worst baseline | incident > 0.8 | onset on clean | ", end=""
    )
    print("onset right | other | none |", "|---|---|---|---|---|---|---|---|---|---|", sep="\n")
    for groups in (5, 20, 100):
        baselines = [fit_baseline(runs[n * groups : (n + 1) * groups], CONFIG) for n in range(5)]
        results = [[analyze(run, baseline, CONFIG) for run in tested] for baseline in baselines]
        p = np.array([[[row.p_value for row in r.metrics] for r in found] for found in results], dtype=float)
        flat = [result for found in results for result in found]
        alarms = np.mean([result.anomaly_score is not None and result.anomaly_score > 0.8 for result in flat])
        onsets = np.mean([result.onset is not None for result in flat])
        named = [_onset_named(model, incident_prompts, baselines[0], *case) for case in DAMAGES]
        shares = " | ".join(f"{named.count(what) / len(named):.0%}" for what in ("right", "other", "none"))
        worst = (p <= 0.0228).mean(axis=(1, 2)).max()
        print(f"| {groups} | 5 | {(p <= 0.01).mean():.2%} | {(p <= 0.0228).mean():.2%} | {worst:.1%} | ", end="")
        print(f"{alarms:.1%} | {onsets:.1%} | {shares} |")


def _onset_named(
    model: GPT2LMHeadModel, asked: list[np.ndarray], baseline: Baseline, layer: int, kind: str, damage: str
) -> str:
    incident = record(damaged(model, layer, kind, damage), asked, "incident", [f"i{n}" for n in range(len(asked))])
    onset = analyze(incident, baseline, CONFIG).onset
    if onset is None:
        return "none"
    return "right" if onset.site == f"L{layer}.{kind}" else "other"


def main(arguments: Sequence[str]) -> int:
    if arguments:
        qwen(Path(arguments[0]))
    gpt2()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
