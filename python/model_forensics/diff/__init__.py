"""What differs between two recordings or between two results. Knows nothing of where they come from."""

from __future__ import annotations

from model_forensics.diff.recordings import compare_recordings
from model_forensics.diff.results import compare_results

__all__ = ["compare_recordings", "compare_results"]
