"""Compression forensics: which sites does a run use in a way that benign runs do not, and where did it begin?"""

from __future__ import annotations

from model_forensics.cf.analyze import analyze
from model_forensics.cf.baseline import Baseline, fit_baseline
from model_forensics.cf.blocks import kept_memory, least_memory
from model_forensics.cf.origin import Source, missing_sources
from model_forensics.cf.packing import pack_baseline, unpack_baseline
from model_forensics.cf.reading import release_memory
from model_forensics.cf.store import is_baseline

__all__ = [
    "Baseline",
    "Source",
    "analyze",
    "fit_baseline",
    "is_baseline",
    "kept_memory",
    "least_memory",
    "missing_sources",
    "pack_baseline",
    "release_memory",
    "unpack_baseline",
]
