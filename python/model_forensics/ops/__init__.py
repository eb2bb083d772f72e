"""Numeric operations: one public function each, several backends, one dispatch point.

`select` says which backend serves a call, `backends` which could and why others cannot, `chosen` which did; `threads`,
`set_threads` and `instruction_set` say what the compiled core runs on. Only this package imports the compiled core or
the kernels; it knows no model and needs no torch.
"""

from __future__ import annotations

from model_forensics.ops._arithmetic import arithmetic_decode, arithmetic_encode
from model_forensics.ops._bins import BinSums, Distance, bin_sums
from model_forensics.ops._codelength import CostTable, codelength, codelength_adaptive
from model_forensics.ops._dispatch import Backend, Choice, backends, chosen, collected, note_served, select
from model_forensics.ops._entropy import entropy_windows
from model_forensics.ops._machine import instruction_set, set_threads, threads
from model_forensics.ops._patch import PatchEdit, PatchPlan, patch_plan, patch_rows
from model_forensics.ops._planes import Grid, histogram, quantize
from model_forensics.ops._predictive import Predictive, PredictiveBits, add_moments, predictive_bits
from model_forensics.ops._value_shapes import ValueShapes, value_shapes

__all__ = [
    "Backend",
    "BinSums",
    "Choice",
    "CostTable",
    "Distance",
    "Grid",
    "PatchEdit",
    "PatchPlan",
    "Predictive",
    "PredictiveBits",
    "ValueShapes",
    "add_moments",
    "arithmetic_decode",
    "arithmetic_encode",
    "backends",
    "bin_sums",
    "chosen",
    "codelength",
    "codelength_adaptive",
    "collected",
    "entropy_windows",
    "histogram",
    "instruction_set",
    "note_served",
    "patch_plan",
    "patch_rows",
    "predictive_bits",
    "quantize",
    "select",
    "set_threads",
    "threads",
    "value_shapes",
]
