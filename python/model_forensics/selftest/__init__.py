"""Whether this installation works: what `model-forensics test` runs."""

from __future__ import annotations

from model_forensics.selftest.run import Check, SelfTest, self_test

__all__ = ["Check", "SelfTest", "self_test"]
