"""A bundle of ten times a ceiling is analysed within the ceiling + 10 %, with the results of the in-memory way.

    python ci/limits/streaming.py [--ceiling-mib 512] [--times 10] [--stored plain] [--directory DIR] [--output FILE]

Each analysis runs in a process of its own, whose peak resident memory (VmHWM) is read at its end. The bundle is written
to DIR, a temporary directory by default, and removed in the end; `--stored plain compressed encrypted` writes it again
in each form, all of which are compared with one analysis in memory.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_forensics import BundleWriter
from model_forensics.bundle import load_bundle, load_bundles
from model_forensics.cf import fit_baseline
from model_forensics.config import ForensicsConfig
from model_forensics.files import KEY_VARIABLE

SITES, WIDTH, SAMPLE_BYTES = 64, 2048, 64 << 20
BENIGN = 24
FORMS = ("plain", "compressed", "encrypted")
MIB = 1 << 20

CHILD = """
import json, sys, time
from pathlib import Path
from model_forensics import RCAPipeline
bundle, baseline, ceiling, output = sys.argv[1:]
started = time.perf_counter()
pipeline = RCAPipeline({
    "output_dir": output, "cache": {"enabled": False}, "modules": {"cf": {"compression_methods": ["arithmetic"]}},
    "streaming": {"max_memory": int(ceiling)} if int(ceiling) else {},
})
result = pipeline.analyze_incident(bundle, baseline or None)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "peak": int(status["VmHWM"].split()[0]) * 1024, "seconds": time.perf_counter() - started,
    "found": result.model_dump(mode="json", include={
        "verdict", "anomaly_score", "compression_metrics", "onset", "strongest"}),
    "warnings": [warning for warning in result.warnings if "max_memory" in warning],
}))
"""


def record(path: Path, kind: str, samples: int, seed: int, tokens: int, codec: str = "none") -> None:
    random = np.random.default_rng(seed)
    scales = np.exp2(np.random.default_rng(1).normal(0, 2, (SITES, WIDTH))).astype(np.float32)
    with BundleWriter(path, kind=kind, codec=codec) as writer:  # type: ignore[arg-type]
        for sample in range(samples):
            values = {
                f"L{site}.mlp": random.standard_normal((tokens, WIDTH), np.float32) * scales[site]
                for site in range(SITES)
            }
            if kind == "incident":
                values["L20.mlp"][tokens // 2 :, 100:200] *= 8
            writer.add_sample(activations=values, group=f"{path.name}-{sample}")


def analysed(bundle: Path, baseline: Path | None, ceiling: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as output:
        arguments = [str(bundle), str(baseline or ""), str(ceiling), output]
        done = subprocess.run([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(root: Path, ceiling: int, times: float, forms: Sequence[str]) -> Iterator[dict[str, Any]]:
    tokens = SAMPLE_BYTES // (SITES * WIDTH * 4)
    for number in range(BENIGN):
        record(root / "benign" / f"b{number}", "benign", 1, 100 + number, 16)
    config = ForensicsConfig(compression_methods=("arithmetic",))
    fit_baseline(load_bundles(root / "benign"), config).save(root / "baseline")
    whole: dict[str, dict[str, Any]] = {}
    for form in forms:
        incident = root / form
        if form == "encrypted":
            os.environ[KEY_VARIABLE] = base64.b64encode(os.urandom(32)).decode()
        codec = "arithmetic" if form == "compressed" else "none"
        record(incident, "incident", math.ceil(ceiling * times / SAMPLE_BYTES), 7, tokens, codec)
        for case, baseline in (("without a baseline", None), ("against a baseline", root / "baseline")):
            if case not in whole:
                whole[case] = analysed(incident, baseline, 0)
            streamed = analysed(incident, baseline, ceiling)
            yield {
                "case": f"{form}, {case}",
                "bundle_bytes": load_bundle(incident, verify=False).content_bytes,
                "ceiling_bytes": ceiling,
                "peak_bytes": streamed["peak"],
                "over_ceiling": streamed["peak"] / ceiling - 1,
                "seconds": streamed["seconds"],
                "in_memory_peak_bytes": whole[case]["peak"],
                "in_memory_seconds": whole[case]["seconds"],
                "same_result": streamed["found"] == whole[case]["found"],
                "warnings": streamed["warnings"],
            }
        shutil.rmtree(incident)
        os.environ.pop(KEY_VARIABLE, None)


def in_words(row: dict[str, Any]) -> str:
    mib = {name: f"{row[name] / MIB:,.0f} MiB" for name in row if name.endswith("_bytes")}
    return (
        f"{row['case']}: bundle {mib['bundle_bytes']}, ceiling {mib['ceiling_bytes']}: "
        f"peak {mib['peak_bytes']} ({row['over_ceiling']:+.1%}) in {row['seconds']:.0f} s; "
        f"in memory {mib['in_memory_peak_bytes']} in {row['in_memory_seconds']:.0f} s; "
        f"{'the same result' if row['same_result'] else 'ANOTHER RESULT'} {row['warnings'] or ''}"
    )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ceiling-mib", type=int, default=512)
    options.add_argument("--times", type=float, default=10)
    options.add_argument("--stored", choices=FORMS, nargs="+", default=["plain"])
    options.add_argument("--directory", type=Path)
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    root = Path(tempfile.mkdtemp(prefix="streaming-", dir=given.directory))
    rows = []
    try:
        for row in measure(root, given.ceiling_mib * MIB, given.times, given.stored):
            rows.append(row)
            print(in_words(row), flush=True)
    finally:
        shutil.rmtree(root)
    if given.output:
        given.output.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    held = all(row["over_ceiling"] <= 0.1 and row["same_result"] for row in rows)
    print("held" if held else "NOT held")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
