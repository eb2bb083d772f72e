"""How fast forensics is on real recordings: `python -m bench cf_speed DIRECTORY`.

Milliseconds of a recording without zlib and gzip and of these two apart, recordings a second through
`RCAPipeline.triage`, seconds to fit a baseline of 50, and the naive way beside it: a Python loop over the sites with
zlib and `np.histogram`. Prints a table, and JSON with `--output`. No time is reported unless the compiled core gives
what the reference gives, and several processes what one gives.

Times of work are of this process's processor, so that other load on the machine counts little; rates are of the wall
clock, from bundles on disk to the ranking, and say how much of the machine others used meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import machine
from bench.qwen_recordings import QwenRecording, read_recording
from model_forensics import ops
from model_forensics.bundle import Bundle, BundleWriter, load_bundle
from model_forensics.cf import Baseline, analyze, fit_baseline
from model_forensics.cf.features.general import compressed_bits
from model_forensics.cf.planes import CELLS, Layout, read_entries, select
from model_forensics.config import Config
from model_forensics.pipeline import RCAPipeline
from model_forensics.types import TriageEntry

FITTED = 50  # recordings of the baseline
BARS = {"analyze_ms": 30.0, "fit_seconds": 3.0, "recordings_per_second": 25.0}
CONFIG = Config.from_dict({"modules": {"cf": {"compression_methods": ["arithmetic"], "baseline_samples": FITTED}}})


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    recordings = [read_recording(path, None) for path in sorted(options.directory.glob("*.safetensors"))]
    ops.set_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        benign = [load_bundle(write(each, Path(folder) / "benign" / each.name)) for each in recordings[:FITTED]]
        # Fitted while nothing else is held, as `build-baseline` does it.
        baseline, fitting = timed(lambda: fit_baseline(benign, CONFIG.modules.cf))
        places = [
            write(recording, Path(folder) / "incidents" / f"{recording.name}-{copy}")
            for copy in range(options.copies)
            for recording in recordings
        ]
        bundles = [load_bundle(place) for place in places[: len(recordings)]]
        baseline.save(Path(folder) / "baseline")
        agrees = same_as_reference(bundles[0], baseline)
        load = machine.Load()
        ranked = {workers: rank(Path(folder), len(places), workers, options.repeats) for workers in (1, 2)}
        others = load.of_others()
        agrees = agrees and ranked[1].entries == ranked[2].entries
        measured = {
            "analyze_ms": each_ms(bundles, lambda one: judge(one, baseline)),
            "windows_ms": each_ms(bundles, lambda one: judge(one, baseline, windows=True)),
            "zlib_ms": each_ms(bundles[: options.compressed], lambda one: compress(one, "zlib")),
            "gzip_ms": each_ms(bundles[: options.compressed], lambda one: compress(one, "gzip")),
            "naive_ms": each_ms(bundles[: options.compressed], naive),
            "fit_seconds": fitting,
            "triage_ms_1": ranked[1].processor_ms,
            "triage_ms_2": ranked[2].processor_ms,
            "recordings_per_second_1": ranked[1].per_second,
            "recordings_per_second_2": ranked[2].per_second,
        }
    result = {
        "benchmark": "cf_speed",
        "machine": machine.describe(),
        "commit": machine.commit(),
        "sites": len(recordings[0].sites),
        "values": int(sum(values.size for values, _, _ in recordings[0].arrays.values())),
        "recordings": len(places),
        "load_of_others": others,
        "bars": BARS,
        "correct": agrees,
        "measured": measured if agrees else None,
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    if not agrees:
        print("the compiled core or several processes give something else: there is nothing to report", file=sys.stderr)
        return 1
    print(table(measured))
    if others is not None:
        print(f"meanwhile others used {others:.0%} of the processors' time, which rates suffer from", file=sys.stderr)
    return 0


def write(recording: QwenRecording, target: Path) -> Path:
    """As a bundle of one sample, bfloat16 as it was recorded."""
    kind: Any = "benign" if target.parent.name == "benign" else "incident"
    with BundleWriter(target, kind=kind, model=recording.model, created_at=recording.created_at) as writer:
        for info in recording.sites.values():
            writer.declare_site(info)
        activations = {name: stored(recording.activation(name, 0)) for name in recording.sites}
        writer.add_sample(activations=activations, group=recording.group, tokens=1)
    return target


def stored(activation: Any) -> Any:
    bits = (activation.values.view(np.uint32) >> 16).astype(np.uint16)
    return type(activation)(bits, activation.indices, activation.shape)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and seconds of this process's processor."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def each_ms(bundles: Sequence[Bundle], work: Callable[[Bundle], object]) -> float:
    """Median milliseconds of a bundle; the first is done twice, for what is computed once."""
    work(bundles[0])
    return 1000 * statistics.median(timed(lambda one=one: work(one))[1] for one in bundles)


class Ranked(NamedTuple):
    """A triage: the fastest of some runs, from reading the saved baseline on, starting processes included."""

    per_second: float  # recordings, wall clock
    processor_ms: float  # of a recording, all processes together
    entries: list[TriageEntry]


def rank(folder: Path, bundles: int, workers: int, repeats: int) -> Ranked:
    runs = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), sum(os.times()[:4])
        entries = RCAPipeline(CONFIG).triage(folder / "incidents", baseline=folder / "baseline", workers=workers)
        wall, processor = time.perf_counter() - wall, sum(os.times()[:4]) - processor
        runs.append(Ranked(bundles / wall, 1000 * processor / bundles, entries))
    return max(runs, key=lambda run: run.per_second)


def judge(bundle: Bundle, baseline: Baseline, *, windows: bool = False) -> object:
    """As triage does it, or with what `analyze` shows besides: where inside the sites it lies."""
    return analyze(bundle, baseline, CONFIG.modules.cf, windows=windows)


def compress(bundle: Bundle, method: str) -> object:
    """The general-purpose part of measuring, as `analyze` does it."""
    return compressed_bits(read_entries(bundle, 0, Layout(tuple(bundle.sites.values()))), method)


def naive(bundle: Bundle) -> dict[str, tuple[float, float]]:
    """Bits a value of zlib, and of a histogram's entropy, site by site."""
    found = {}
    for site in bundle.sites:
        values = np.asarray(bundle.activation(site, 0).values)  # type: ignore[union-attr]
        counts, _ = np.histogram(values, bins=256)
        share = counts[counts > 0] / values.size
        found[site] = (8 * len(zlib.compress(values.tobytes())) / values.size, float(-(share * np.log2(share)).sum()))
    return found


def same_as_reference(bundle: Bundle, baseline: Baseline) -> bool:
    """Whether the operations of measuring give the reference's numbers, to the last bit."""
    chosen = select(read_entries(bundle, 0, baseline.layout), 0)
    model = baseline.models[0]
    assert model is not None, "every recording has a first token"

    def run(backend: str) -> Iterator[np.ndarray]:
        yield from ops.predictive_bits(chosen.values, chosen.channel, chosen.starts, model.predictive, backend=backend)
        yield from ops.value_shapes(chosen.values, chosen.starts, most=1 << 16, levels=(0.1, 0.5, 1.0), backend=backend)
        moments = np.zeros((4, baseline.layout.channels))
        ops.add_moments(chosen.values, chosen.channel, *moments, backend=backend)
        yield moments
        terms, bins = chosen.values.astype(np.float64), chosen.site * CELLS + model.cell[chosen.channel]
        yield from ops.bin_sums(terms, bins, chosen.starts, count=CELLS * len(baseline.layout), backend=backend)

    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(run("auto"), run("numpy"), strict=True))


def table(measured: dict[str, float]) -> str:
    rows = (
        ("one recording, without zlib and gzip", "analyze_ms", "ms", "at most 30"),
        ("the same with windows and profiles", "windows_ms", "ms", ""),
        ("one recording, zlib alone", "zlib_ms", "ms", ""),
        ("one recording, gzip alone", "gzip_ms", "ms", ""),
        ("one recording, the naive way (zlib and np.histogram in a loop)", "naive_ms", "ms", ""),
        (f"baseline of {FITTED}, without zlib and gzip", "fit_seconds", "s", "at most 3"),
        ("triage, one process", "recordings_per_second_1", "recordings/s", ""),
        ("triage, two processes", "recordings_per_second_2", "recordings/s", "at least 25"),
        ("processors' time of a recording, triage in one process", "triage_ms_1", "ms", ""),
        ("processors' time of a recording, triage in two processes", "triage_ms_2", "ms", ""),
    )
    lines = ["| what | measured | bar |", "|---|---|---|"]
    lines += [f"| {what} | {measured[key]:.3g} {unit} | {bar} |" for what, key, unit, bar in rows]
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench cf_speed", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("directory", type=Path, help="folder of the real recordings")
    parser.add_argument("--copies", type=int, default=4, help="bundles of each recording that triage ranks")
    parser.add_argument("--compressed", type=int, default=5, help="recordings that zlib, gzip and the naive way take")
    parser.add_argument("--repeats", type=int, default=2, help="runs of triage; the best counts")
    parser.add_argument("--output", type=Path, help="JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
