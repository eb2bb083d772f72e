"""What the processes of the zoo do: one incident each, told in a line."""

from __future__ import annotations

import time
import traceback
from pathlib import Path

from bench.zoo.plan import Entry

FAILED, CRASHED = "FAILED", "crashed"
"""How lines of what was not done begin, and what is written of an incident that the tool crashed on."""


def train(root: Path, network: tuple[str, int]) -> None:
    from bench.zoo import make  # noqa: PLC0415  (loads torch, once a process)

    make.train(root, *network)


def make(root: Path, entry: Entry) -> str:
    from bench.zoo.kind import Unplantable  # noqa: PLC0415
    from bench.zoo.make import make  # noqa: PLC0415

    began = time.perf_counter()
    try:
        make(root, entry)
    except Unplantable as problem:
        return f"{FAILED} {entry.name}: {problem}"
    except Exception:  # noqa: BLE001  (the others are made all the same, and the run fails for this one)
        return f"{FAILED} {entry.name}: {traceback.format_exc()}"
    return f"{entry.name}: made in {time.perf_counter() - began:.1f} s"


def run(root: Path, entry: Entry) -> str:
    from bench.zoo.run import run  # noqa: PLC0415

    try:
        return run(root, entry)
    except Exception:  # noqa: BLE001  (as above)
        return f"{FAILED} {entry.name}: {traceback.format_exc()}"
