"""Resumes a batch of 200,000 finished incidents and one new one, and says when work on the new one began.

    python ci/limits/resume_batch.py [--finished N] [--limit SECONDS]

Makes N finished bundles (a manifest each) and their ledger, then runs `model-forensics batch --resume` on them as a
person would. The clock runs from the start of the command to the ledger's claim of the new incident: interpreter,
imports, baseline, directory scan, ledger and the start of a worker with its model are all in it. Exits with 1 above
the limit.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from model_forensics.batch.incidents import stamp_of
from model_forensics.demo import data_directory

FINISHED = """
INSERT INTO incident (name, state, run, attempt, deaths, bytes, modified, inode, digest, bundle_id, verdict, cause,
  anomaly_score, confidence, flip_rate, seconds, ended_at)
VALUES (?, 'done', 'earlier', 0, 0, ?, ?, ?, 'sha256:0', 'incident', 'cause_found', 'patch L2.mlp',
  0.9, 0.8, 1.0, 12.0, '2026-01-01T00:00:00.000+00:00')
"""


def prepare(root: Path, finished: int) -> list[str]:
    """A batch with one finished incident, `finished` more in its ledger, and a new one; gives the command."""
    with data_directory() as data:
        shutil.copytree(data, root / "case")
    bundles, output = root / "bundles", root / "out"
    shutil.copytree(root / "case" / "incident", bundles / "first")
    command = [str(Path(sys.executable).with_name("model-forensics")), "batch", str(bundles), "--output", str(output)]
    command += ["--baseline", str(root / "case" / "benign"), "--model", str(root / "case" / "model"), "--no-html"]
    subprocess.run([*command, "--quiet", "--workers", "1"], check=True, stdout=subprocess.DEVNULL)
    manifest = (bundles / "first" / "manifest.json").read_bytes()
    rows = []
    for number in range(finished):
        place = bundles / f"incident-{number:07}"
        place.mkdir()
        (place / "manifest.json").write_bytes(manifest)
        rows.append((place.name, *stamp_of(place)))
    with closing(sqlite3.connect(output / "batch.sqlite")) as database, database:
        database.executemany(FINISHED, rows)
    shutil.copytree(root / "case" / "incident", bundles / "new")
    return [*command, "--quiet", "--workers", "1", "--resume"]


def measure(command: list[str], ledger: Path) -> float:
    """Seconds from the start of the command to the claim of the new incident; ends the command then."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    claimed = None
    with closing(sqlite3.connect(ledger, timeout=60)) as database:
        while claimed is None:
            if database.execute("SELECT 1 FROM incident WHERE name = 'new'").fetchone() is not None:
                claimed = time.perf_counter() - started
            elif process.poll() is not None:
                sys.exit(f"the command ended with {process.returncode} before it began")
            time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait()
    return claimed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--finished", type=int, default=200_000)
    parser.add_argument("--limit", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="resume-batch-") as directory:
        root = Path(directory)
        command = prepare(root, arguments.finished)
        times = []
        for _ in range(arguments.repeats):
            times.append(measure(command, root / "out" / "batch.sqlite"))
            print(f"{arguments.finished:,} finished: new work began after {times[-1]:.2f} s", flush=True)
            with closing(sqlite3.connect(root / "out" / "batch.sqlite")) as database, database:
                database.execute("DELETE FROM incident WHERE name = 'new'")
    sys.exit(min(times) > arguments.limit)


if __name__ == "__main__":
    main()
