"""Recording what a model computes. Needs torch."""

from __future__ import annotations

from model_forensics.record.recorder import Recorder, Recording

__all__ = ["Recorder", "Recording"]
