"""The shipped incident from end to end: analysed, proven again, in a directory that is removed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from model_forensics.config import CausalConfig, Config, ModulesConfig
from model_forensics.demo import data_directory
from model_forensics.pipeline import RCAPipeline

EXPECTED = ("cause_found", "patch L2.mlp")
"""Verdict and cause of the shipped incident: what was damaged when it was made."""
_SHORT = CausalConfig(intervention_types=("patch",), max_fix_set_size=1, max_alternatives=0, refine=False)
"""One component is damaged, so that single patches find it; what else could be done takes longer and shows no more."""


@dataclass(frozen=True)
class Found:
    """`wrong` says what is not as it should be; None where everything is."""

    told: str
    wrong: str | None


def analyse_demo(config: Config) -> Found:
    """Analyses the shipped incident on the configured device and validates the fix.

    Nothing is written outside a temporary directory: no ledger, no cache, no audit log.
    """
    with tempfile.TemporaryDirectory(prefix="model-forensics-") as folder, data_directory() as data:
        output = Path(folder, "results.json")
        own = config.model_copy(
            update={
                "output_dir": Path(folder),
                "bundle_dir": data,
                "baseline_dir": None,
                "audit_log": None,
                "cache": config.cache.model_copy(update={"enabled": False}),
                "modules": ModulesConfig(cca=_SHORT),
                "timeout_minutes": Config().timeout_minutes,
                "seed": 0,
            }
        )
        pipeline = RCAPipeline(own)
        result = pipeline.analyze_incident(data / "incident", data / "benign", output=output)
        if (result.verdict, str(result.fix_set)) != EXPECTED:
            return Found("", f"the shipped incident gives {result.verdict} ({result.fix_set}), not {EXPECTED}")
        validation = pipeline.validate_fix(output, data / "model")
    if not validation.holds:
        return Found("", f"the proof of the shipped incident does not hold: {validation.reason}")
    return Found(f"the shipped incident gives its cause, {result.fix_set}, and the proof holds", None)
