"""A bundle of ten times a ceiling is analysed within the ceiling + 10 %, with the results of the in-memory way.

    python ci/limits/streaming.py [--ceiling-mib 512] [--times 10] [--directory DIR] [--output FILE.json]

Each analysis runs in a process of its own, whose peak resident memory (VmHWM) is read at its end. The bundle is written
to DIR, a temporary directory by default, and removed in the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from model_forensics import BundleWriter
from model_forensics.bundle import load_bundles
from model_forensics.cf import fit_baseline
from model_forensics.config import ForensicsConfig

SITES, WIDTH, SAMPLE_BYTES = 64, 2048, 64 << 20
BENIGN = 24
MIB = 1 << 20

CHILD = """
import json, sys, time
from pathlib import Path
from model_forensics import cf
from model_forensics.pipeline import streaming
from model_forensics.bundle import load_bundle
from model_forensics.config import ForensicsConfig, StreamingConfig
bundle, baseline, ceiling, output = sys.argv[1:]
started = time.perf_counter()
fitted = cf.Baseline.load(Path(baseline)) if baseline else None
config = ForensicsConfig(compression_methods=("arithmetic",))
incident = load_bundle(bundle)
warnings = []
if int(ceiling):
    settings = StreamingConfig(max_memory=int(ceiling))
    result = streaming.analyze(incident, fitted, config, settings, warn=warnings.append)
else:
    result = cf.analyze(incident, fitted, config)
Path(output).write_text(result.model_dump_json())
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({"peak": int(status["VmHWM"].split()[0]) * 1024, "seconds": time.perf_counter() - started,
                  "warnings": warnings}))
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
    with tempfile.NamedTemporaryFile() as output:
        arguments = [str(bundle), str(baseline or ""), str(ceiling), output.name]
        done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True)
        result = Path(output.name).read_bytes()
    return {**json.loads(done.stdout), "digest": hashlib.sha256(result).hexdigest()}


def measure(root: Path, ceiling: int, times: int) -> list[dict[str, Any]]:
    tokens = SAMPLE_BYTES // (SITES * WIDTH * 4)
    record(root / "incident", "incident", -(-ceiling * times // SAMPLE_BYTES), 7, tokens)
    for number in range(BENIGN):
        record(root / "benign" / f"b{number}", "benign", 1, 100 + number, 16)
    config = ForensicsConfig(compression_methods=("arithmetic",))
    fit_baseline(load_bundles(root / "benign"), config).save(root / "baseline")
    size = sum(file.stat().st_size for file in (root / "incident").rglob("*") if file.is_file())
    rows = []
    for name, baseline in (("without a baseline", None), ("against a baseline", root / "baseline")):
        streamed = analysed(root / "incident", baseline, ceiling)
        whole = analysed(root / "incident", baseline, 0)
        rows.append(
            {
                "case": name,
                "bundle_bytes": size,
                "ceiling_bytes": ceiling,
                "peak_bytes": streamed["peak"],
                "over_ceiling": streamed["peak"] / ceiling - 1,
                "seconds": streamed["seconds"],
                "in_memory_peak_bytes": whole["peak"],
                "in_memory_seconds": whole["seconds"],
                "same_result": streamed["digest"] == whole["digest"],
                "warnings": streamed["warnings"],
            }
        )
    return rows


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ceiling-mib", type=int, default=512)
    options.add_argument("--times", type=int, default=10)
    options.add_argument("--directory", type=Path)
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    root = Path(tempfile.mkdtemp(prefix="streaming-", dir=given.directory))
    started = time.perf_counter()
    try:
        rows = measure(root, given.ceiling_mib * MIB, given.times)
    finally:
        shutil.rmtree(root)
    for row in rows:
        mib = {name: f"{row[name] / MIB:,.0f} MiB" for name in row if name.endswith("_bytes")}
        print(
            f"{row['case']}: bundle {mib['bundle_bytes']}, ceiling {mib['ceiling_bytes']}: "
            f"peak {mib['peak_bytes']} ({row['over_ceiling']:+.1%}) in {row['seconds']:.0f} s; "
            f"in memory {mib['in_memory_peak_bytes']} in {row['in_memory_seconds']:.0f} s; "
            f"{'the same result' if row['same_result'] else 'ANOTHER RESULT'}",
            flush=True,
        )
    if given.output:
        given.output.write_text(json.dumps({"rows": rows, "seconds": time.perf_counter() - started}, indent=1) + "\n")
    held = all(row["over_ceiling"] <= 0.1 and row["same_result"] for row in rows)
    print("held" if held else "NOT held")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
