"""The incident that ships with the package, and the scripts that made it."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_forensics.types import FixSet


def data_directory() -> AbstractContextManager[Path]:
    """The shipped incident: `reference`, `model`, `incident`, `benign` and `truth.json` below one directory."""
    return as_file(files(__name__) / "data")


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes:
        how: in words.
        minimal_fix_sets: the smallest sets of damaged components that, repaired, remove the failure: found by running
            them, which `tests/bench/test_zoo_demo.py` does again.
    """

    how: str
    minimal_fix_sets: tuple[tuple[str, ...], ...]

    @staticmethod
    def read(data: Path) -> Truth:
        told = json.loads((data / "truth.json").read_text())
        return Truth(told["how"], tuple(map(tuple, told["minimal_fix_sets"])))

    def is_named_by(self, fix: FixSet | None) -> bool:
        """Whether this is called a cause, and is one of the sets."""
        sites = set() if fix is None else {one.site for one in fix.interventions}
        return fix is not None and fix.label == "cause" and sites in map(set, self.minimal_fix_sets)
