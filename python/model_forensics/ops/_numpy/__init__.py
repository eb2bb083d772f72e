"""The reference: plain NumPy, one module for each public one. Every other backend answers to it.

Backends get checked, C-contiguous arrays and fill `out`, which may hold anything on entry.
"""

from model_forensics.ops._numpy.arithmetic import BrokenStream, arithmetic_decode, arithmetic_encode, arithmetic_size
from model_forensics.ops._numpy.bins import bin_sums
from model_forensics.ops._numpy.codelength import codelength
from model_forensics.ops._numpy.entropy import entropy_windows
from model_forensics.ops._numpy.patch import patch_rows
from model_forensics.ops._numpy.planes import histogram, quantize
from model_forensics.ops._numpy.predictive import add_moments, predictive_bits
from model_forensics.ops._numpy.value_shapes import value_shapes

__all__ = [
    "BrokenStream",
    "add_moments",
    "arithmetic_decode",
    "arithmetic_encode",
    "arithmetic_size",
    "bin_sums",
    "codelength",
    "entropy_windows",
    "histogram",
    "patch_rows",
    "predictive_bits",
    "quantize",
    "value_shapes",
]
