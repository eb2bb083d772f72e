"""Causal minimal fix sets: the smallest change of a run's activations that makes its failure disappear. Needs torch."""

from __future__ import annotations

from model_forensics.cca.deployed import fixed_runs
from model_forensics.cca.fix_sets import find_fix_set
from model_forensics.cca.given import GivenValues
from model_forensics.cca.memory import memory_limit
from model_forensics.cca.recall import Recall
from model_forensics.cca.validate import validate_fix

__all__ = ["GivenValues", "Recall", "find_fix_set", "fixed_runs", "memory_limit", "validate_fix"]
