"""What patching takes stays within what was planned, which is less than it takes without a plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def measured(*arguments: str) -> dict[str, int | None]:
    """In a process of its own, because the memory of a process is what is measured."""
    environment = {name: value for name, value in os.environ.items() if name != "MODEL_FORENSICS_MAX_MEMORY"}
    command = [sys.executable, "-m", "bench", "planned_memory", "--threads", "1", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_patching_takes_the_planned_batch_and_little_beside_it():
    """Beside it are the kept run and the plain forwards of the checks: less than an eighth of this model."""
    free, tight = measured(), measured("--limit", "32MiB")
    if tight["peak_extra_bytes"] is None:
        pytest.skip("this system does not tell how much memory a process took at most")
    model, planned = tight["model_bytes"], tight["planned_bytes"]
    assert 200e6 < model < 220e6
    assert (free["planned_bytes"], planned) == (None, 32 << 20)
    assert tight["peak_extra_bytes"] <= planned + model // 8 < free["peak_extra_bytes"]
    assert max(free["peak_extra_bytes"], tight["peak_extra_bytes"]) <= model, "twice the model in all, batch included"
    assert tight["rows_run"] > 100
