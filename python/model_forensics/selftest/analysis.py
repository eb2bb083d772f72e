"""The shipped incident from end to end: written, analysed, proven again, in a directory that is removed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_forensics.bundle import BundleWriter, load_bundle
from model_forensics.config import CausalConfig, Config, ForensicsConfig, ModulesConfig
from model_forensics.demo import data_directory
from model_forensics.pipeline import RCAPipeline
from model_forensics.types import Recording

EXPECTED = ("cause_found", "patch L2.mlp")
"""Verdict and cause of the shipped incident: what was damaged when it was made."""
_SHORT = CausalConfig(intervention_types=("patch",), max_fix_set_size=1, max_alternatives=0, refine=False)
"""One component is damaged, so that single patches find it; what else could be done takes longer and shows no more."""
_FEW = ForensicsConfig(baseline_samples=20)
_SAMPLES = 8


@dataclass(frozen=True)
class Found:
    """`wrong` says what is not as it should be; None where everything is."""

    told: str
    wrong: str | None


def analyse_demo(config: Config) -> Found:
    """Writes a few samples of the shipped incident, analyses them on the configured device and validates the fix.

    Nothing is written outside a temporary directory: no ledger, no audit log, a cache of its own.
    """
    with tempfile.TemporaryDirectory(prefix="model-forensics-") as folder, data_directory() as data, _one_thread():
        incident, output = Path(folder, "incident"), Path(folder, "results.json")
        _write_some(load_bundle(data / "incident"), incident)
        own = config.model_copy(
            update={
                "output_dir": Path(folder),
                "bundle_dir": data,
                "baseline_dir": None,
                "audit_log": None,
                "cache": config.cache.model_copy(update={"enabled": True, "directory": Path(folder, "cache")}),
                "modules": ModulesConfig(cf=_FEW, cca=_SHORT),
                "timeout_minutes": Config().timeout_minutes,
                "seed": 0,
            }
        )
        pipeline, model = RCAPipeline(own), data / "model"
        result = pipeline.analyze_incident(incident, data / "benign", str(model), output=output)
        if (result.verdict, str(result.fix_set)) != EXPECTED:
            return Found("", f"the shipped incident gives {result.verdict} ({result.fix_set}), not {EXPECTED}")
        validation = pipeline.validate_fix(output, model)
    if not validation.holds:
        return Found("", f"the proof of the shipped incident does not hold: {validation.reason}")
    return Found(f"the shipped incident gives its cause, {result.fix_set}, and the proof holds", None)


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a model gains nothing by more, and threads wait for one another where others want the processors."""
    import torch  # noqa: PLC0415  (loads late)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _write_some(recording: Recording, target: Path) -> None:
    with BundleWriter(target, kind=recording.kind, failure=recording.failure, model=recording.model) as writer:
        for index, sample in enumerate(recording.samples[:_SAMPLES]):
            inputs = recording.inputs(sample.call)
            writer.add_sample(
                inputs={name: value[sample.row : sample.row + 1] for name, value in inputs.items()},
                activations={site: recording.activation(site, index) for site in recording.sites},
                outputs=recording.outputs(index),
                group=sample.group,
                right=sample.right,
            )
