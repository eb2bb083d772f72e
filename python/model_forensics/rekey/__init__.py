"""Changing the key of everything under a directory: bundles, baselines, results and reports. See docs/encryption.md."""

from __future__ import annotations

from model_forensics.rekey.directory import Rekeyed, rekey_directory
from model_forensics.rekey.keys import Keys

__all__ = ["Keys", "Rekeyed", "rekey_directory"]
