"""How much is run: the full evaluation, and a quick one while developing."""

from __future__ import annotations

from dataclasses import dataclass

from model_forensics.config import ForensicsConfig

CONFIG = ForensicsConfig(compression_methods=("arithmetic", "zlib"), baseline_samples=1000)
LEVELS = (0.01, 0.0228)  # nominal false-positive rates; the second is two sigma


@dataclass(frozen=True)
class Plan:
    """Sizes of every experiment.

    Attributes:
        seeds: of the faults planted into the real recordings.
        folds: held-out prompts of the real recordings.
        baselines: groups of a baseline → (disjoint baselines, clean recordings that each of them judges).
        pool, tested: groups that baselines are drawn from; groups that are judged. None is in both.
        incidents: groups of a baseline → (disjoint baselines, clean recordings of ten groups that each of them judges).
            How far off a baseline is, is common to all that it judges: many baselines say more than many recordings.
        simulated: baselines of each simulated setting.
        training_steps: of the character model.
        windows: planted spans of each kind and size.
        case_step: every how many-th damaged component is run.
        singles: incidents of one prompt for each damaged component.
    """

    seeds: tuple[int, ...]
    folds: int
    baselines: dict[int, tuple[int, int]]
    pool: int
    tested: int
    incidents: dict[int, tuple[int, int]]
    simulated: int
    training_steps: int
    windows: int
    case_step: int
    singles: int


FULL = Plan(
    seeds=(0, 1, 2),
    folds=7,
    baselines={5: (40, 15), 20: (10, 60), 100: (5, 150)},
    pool=500,
    tested=300,
    incidents={20: (24, 5), 100: (5, 12)},
    simulated=100,
    training_steps=1500,
    windows=6,
    case_step=1,
    singles=5,
)
QUICK = Plan(
    seeds=(0,),
    folds=1,
    baselines={5: (4, 10), 20: (2, 20), 100: (1, 20)},
    pool=100,
    tested=40,
    incidents={20: (4, 2), 100: (1, 4)},
    simulated=4,
    training_steps=60,
    windows=1,
    case_step=12,
    singles=2,
)
