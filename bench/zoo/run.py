"""Runs the tool on an incident as an operator would, and beside it what the operator would otherwise reach for.

    zoo/results/flipped_bits-003.json       what the tool reported
    zoo/results/flipped_bits-003.run.json   time, and the rankings of the others

A result that is there is left as it is, so `run` goes on where it was; a removed one is made again. Each names the
commit that made it, and `score` tells all of them. A crash is scored as an answer that is wrong, fails the run and the
score, and is tried again the next time.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from bench import machine
from bench.zoo.comparators import rankings
from bench.zoo.plan import Entry
from bench.zoo.work import CRASHED, FAILED
from model_forensics import RCAPipeline
from model_forensics.errors import ModelForensicsError
from model_forensics.files import atomic_write

FACTORY = "bench.zoo.loading:build"
CONFIGURATION: dict[str, Any] = {"device": "cpu", "cache": {"enabled": False}}
"""The defaults: the zoo scores what an operator gets who sets nothing."""


def run(root: Path, entry: Entry) -> str:
    """Runs an incident that `make` made, and says so in a line."""
    place, result = root / "incidents" / entry.name, root / "results" / f"{entry.name}.json"
    beside = result.with_suffix(".run.json")
    if beside.exists() and not _again(result, json.loads(beside.read_text())["refused"]):
        return f"{entry.name}: there"
    if not place.exists():
        return f"{FAILED} {entry.name}: not made"
    result.parent.mkdir(parents=True, exist_ok=True)
    pipeline = RCAPipeline({**CONFIGURATION, "output_dir": str(root / "results")})
    began, cpu = time.perf_counter(), time.process_time()
    try:
        found = pipeline.analyze_incident(
            place / "incident",
            place / "benign",
            str(place / "model"),
            donor_model=str(place / "reference") if entry.reference else None,
            model_factory=FACTORY,
            output=result,
        )
    except ModelForensicsError as problem:
        verdict, refused = None, str(problem)
    except Exception as problem:  # noqa: BLE001  (to an operator a crash is no answer, and so it is to the score)
        verdict, refused = None, f"{CRASHED}: {problem!r}"
    else:
        verdict, refused = found.verdict, None
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu, "refused": refused}
    told = {**spent, "commit": machine.commit()["id"], "rankings": rankings(place)}
    atomic_write(beside, json.dumps(told, indent=1) + "\n")
    failed = f"{FAILED} " if refused is not None and refused.startswith(CRASHED) else ""
    return f"{failed}{entry.name}: {refused or verdict} in {spent['seconds']:.1f} s"


def _again(result: Path, refused: str | None) -> bool:
    """Whether what is there is no answer: a crash, or a result that was removed."""
    return not result.exists() if refused is None else refused.startswith(CRASHED)
