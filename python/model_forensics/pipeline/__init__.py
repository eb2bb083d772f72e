"""The only place that wires the stages: what callers hand over → stages → result."""

from __future__ import annotations

from model_forensics.pipeline.rca import RCAPipeline

__all__ = ["RCAPipeline"]
