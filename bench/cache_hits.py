"""How much faster a hit of the cache is than computing: `python -m bench cache_hits [--repeats 5]`.

On the shipped incident, in a cache of its own. Before a time is reported, what came from the cache is compared with
what was computed: the baseline by its digest and its scores, forensics in every field. The bar is 20 times, for the
worst of both; exit 1 below it. Times are CPU seconds of this process (a hit waits for no disk: it has just been
written), the least of the repeats.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from model_forensics import cf
from model_forensics.bundle import load_bundle, load_bundles
from model_forensics.config import Config, ForensicsConfig
from model_forensics.demo import data_directory
from model_forensics.pipeline.caching import Kept

BAR = 20.0
T = TypeVar("T")


def least(repeats: int, work: Callable[[], T]) -> tuple[float, T]:
    """The least CPU seconds of several runs, and what the last one gave."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        result = work()
        times.append(time.process_time() - began)
    return min(times), result


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench cache_hits", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args(arguments).repeats
    config = ForensicsConfig()
    with tempfile.TemporaryDirectory() as directory, data_directory() as data:
        kept = Kept(Config.from_dict({"cache": {"directory": directory}}).cache)
        benign, incident = load_bundles(data / "benign"), load_bundle(data / "incident")

        def judged(baseline: cf.Baseline) -> Callable[[], object]:
            def compute() -> object:
                return cf.analyze(incident, baseline, config)

            return lambda: kept.forensics(incident, baseline, config, compute, lambda done, total: None)

        kept.baseline(benign, config)  # the first call compiles, and fills the cache
        fit_seconds, fitted = least(repeats, lambda: cf.fit_baseline(benign, config))
        hit_seconds, found = least(repeats, lambda: kept.baseline(benign, config))
        judged(fitted)()
        analyze_seconds, expected = least(repeats, lambda: cf.analyze(incident, fitted, config))
        judged_seconds, result = least(repeats, judged(fitted))
        assert found.baseline_id == fitted.baseline_id, "the cache gave another baseline"
        assert cf.analyze(incident, found, config) == expected, "its scores differ"
        assert result == expected, "the cache gave other forensics"
    ratios = {"baseline": fit_seconds / hit_seconds, "forensics": analyze_seconds / judged_seconds}
    seconds = {
        "fit_baseline": fit_seconds,
        "baseline_hit": hit_seconds,
        "analyze": analyze_seconds,
        "forensics_hit": judged_seconds,
    }
    print(json.dumps({"cpu_seconds": seconds, "times_faster": ratios, "bar": BAR}, indent=1))
    return 0 if min(ratios.values()) >= BAR else 1
