"""Incidents whose analysis takes no time and does what their manifest says; run by itself, a batch of them.

python -m tests.batch.toy BUNDLES OUT LOG WORKERS      # always with `resume`
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from model_forensics.batch import Job, Places, Task, run_batch
from model_forensics.errors import BundleFormatError, LedgerError, StorageError
from model_forensics.files import atomic_write
from model_forensics.types import BatchSummary, IncidentFinding


def make_bundles(directory: Path, **behaviours: str) -> Path:
    """One toy incident for each name: `done`, `benign`, `refused`, `full`, `damaged`, `raises`, `aborts`,
    `killed`, `hangs`."""
    for name, behaviour in behaviours.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / name / "manifest.json").write_text(json.dumps({"does": behaviour}))
    return directory


@dataclass(frozen=True)
class Toy:
    """Makes itself; every load and analysis is a line of the log, with the process that did it."""

    log: Path
    weights: str = "sha256:one"
    workers: int = 1  # analyses wait until so many are loaded

    def __call__(self) -> ToyAnalyst:
        self.note("load")
        return ToyAnalyst(self)

    def note(self, what: str) -> None:
        with open(self.log, "a") as stream:
            stream.write(f"{what}\t{os.getpid()}\n")


class ToyAnalyst:
    def __init__(self, toy: Toy) -> None:
        self._toy = toy

    @property
    def identity(self) -> dict[str, str | None]:
        return {"weights": self._toy.weights}

    def __call__(self, task: Task) -> IncidentFinding:
        while noted(self._toy.log).count("load") < self._toy.workers:
            time.sleep(0.01)
        self._toy.note(task.name)
        self._toy.note(f"run {task.run}")
        does = json.loads((task.path / "manifest.json").read_text())["does"]
        match does:
            case "refused":
                raise BundleFormatError("it is odd", where=task.path, cure="Make it even")
            case "full":
                raise StorageError("no space", where=task.staged, cure="Free some")
            case "damaged":
                raise LedgerError("no ledger", where=task.staged, cure="Move it away")
            case "raises":
                raise RuntimeError("out of patience")
            case "aborts":
                os.abort()
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(3600)
        if does != "benign":
            atomic_write(task.staged, json.dumps({"name": task.name, "export_path": str(task.result)}))
            atomic_write(task.staged.with_suffix(".html"), f"<p>{task.name}</p>")
        return IncidentFinding(
            bundle_id="the same for all", content_digest=None, verdict=None if does == "benign" else "cause_found",
            cause=does, signature=None, anomaly_score=0.9, confidence=0.5, flip_rate=1.0, seconds=1.0,
        )  # fmt: skip


def run_toy(
    bundles: Path, output: Path, log: Path, workers: int = 1, *, settings: str = "one", weights: str = "sha256:one",
    lease: float | None = None, together: int = 1, resume: bool = False, force: bool = False, retry: bool = False,
) -> BatchSummary:  # fmt: skip
    toy = Toy(log, weights, together)

    def prepare(places: Places) -> Job:
        return Job(
            toy, {"option": settings}, workers, "for a test", lease, lambda task, why: toy.note(f"poisoned {task.run}")
        )

    return run_batch(bundles, output, prepare, resume=resume, force=force, retry=retry)


def noted(log: Path) -> list[str]:
    """What was loaded and analysed, in order."""
    return [line for line in lines(log) if not line.startswith(("run ", "poisoned "))]


def runs(log: Path, kind: str = "run") -> list[str]:
    """Names of the analyses that were begun, or of those whose bundle was `poisoned`."""
    return [line.removeprefix(f"{kind} ") for line in lines(log) if line.startswith(f"{kind} ")]


def lines(log: Path) -> list[str]:
    return [line.split("\t")[0] for line in log.read_text().splitlines()] if log.exists() else []


def check_results(bundles: Path, output: Path) -> None:
    """Every incident that should be done has its whole result, and nothing else is there."""
    names = {place.name for place in bundles.iterdir() if "done" in (place / "manifest.json").read_text()}
    results = output / "results"
    assert {path.name for path in results.iterdir()} == {f"{name}{end}" for name in names for end in (".json", ".html")}
    for name in names:
        check_result(results / f"{name}.json")
    there = {path.name for path in output.iterdir()}
    assert there == {".lock", "batch.sqlite", "results", "summary.json", "summary.html"}


def check_result(path: Path) -> None:
    """It is complete and of this incident, and its page is there."""
    document = json.loads(path.read_text())
    assert document == {"name": path.stem, "export_path": str(path)}
    assert path.with_suffix(".html").read_text() == f"<p>{path.stem}</p>"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background has it ignored
    run_toy(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), resume=True)
