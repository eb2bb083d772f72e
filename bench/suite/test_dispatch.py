"""What a call costs before it computes anything: 437 sites at once, and the import."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from bench import inputs
from bench.contest import Contender, Contest, equal_to, ours
from bench.plugin import Size
from model_forensics import ops

SITES = 437
TINY = 16  # symbols a site


def test_entropy_windows(contest: Contest) -> None:
    symbols = inputs.uniform_symbols(SITES * TINY, 16)
    offsets = np.arange(SITES + 1, dtype=np.int64) * TINY

    def run(backend: str) -> np.ndarray:
        return ops.entropy_windows(symbols, window=TINY, alphabet=16, offsets=offsets, backend=backend)

    contest.run(
        "437 sites, entropy_windows",
        unit="call",
        given=f"{SITES} rows of {TINY} symbols, one window each",
        contenders=ours("entropy_windows", run, equal_to(run("numpy")), 1),
    )


def test_codelength(contest: Contest) -> None:
    values = inputs.activations(SITES, TINY).reshape(-1)
    shapes = np.tile(np.array([[1, TINY]], dtype=np.int64), (SITES, 1))
    channels = SITES * TINY
    grid = ops.Grid("log", levels=31, low=np.full(channels, -8, np.float32), step=np.full(channels, 0.5, np.float32))
    cost = np.random.default_rng(inputs.SEED).exponential(4.0, (1, 32)).astype(np.float32)
    tables = np.zeros(channels, dtype=np.int32)

    def run(backend: str) -> np.ndarray:
        return ops.codelength(values, cost, grid=grid, tables=tables, shapes=shapes, reduce="site", backend=backend)

    contest.run(
        "437 sites, codelength",
        unit="call",
        given=f"{SITES} sites of one token and {TINY} channels, float32, log grid, to site",
        contenders=ours("codelength", run, equal_to(run("numpy")), 1),
    )


def test_import(contest: Contest, size: Size) -> None:
    """A new interpreter each time."""

    def importing(line: str) -> Contender:
        command = [sys.executable, "-c", line]
        run = lambda: subprocess.run(command, check=True).returncode  # noqa: E731
        return Contender(line, run, equal_to(0), 1, ours=line != "pass")

    contest.run(
        "import",
        unit="call",
        given="a new interpreter",
        rounds=size(5, 1),
        contenders=[importing(line) for line in ("import model_forensics", "import model_forensics.ops", "pass")],
    )
