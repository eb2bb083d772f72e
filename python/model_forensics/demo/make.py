"""Makes the incident that ships with the package: `python -m model_forensics.demo.make DIRECTORY`.

Story: release 1 (`reference`) answers field-lookup questions. Release 2 (`model`) was damaged on its way to the
servers. Requests that it answers wrongly are the incident; recordings of release 1, these same requests among them,
are the baseline.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model_forensics.demo import task
from model_forensics.demo.faults import misread
from model_forensics.failure import Failure
from model_forensics.models import Model
from model_forensics.record import Recorder

if TYPE_CHECKING:
    from collections.abc import Sequence

DAMAGED_LAYER = 2
DAMAGED_COMPONENT = "mlp"
SCALE_ERROR = 64.0
INCIDENT_SAMPLES = 24
BENIGN_SAMPLES = 32  # besides the incident's own requests


def damage(model: torch.nn.Module, layer: int, component: str) -> None:
    """Misreads one output projection (`attn` or `mlp`) of a GPT-2, in place."""
    misread(model.get_parameter(f"transformer.h.{layer}.{component}.c_proj.weight"), SCALE_ERROR)


def failing_prompts(model: torch.nn.Module, generator: np.random.Generator, count: int) -> list[task.Prompt]:
    """Questions that the model answers wrongly."""
    failing: list[task.Prompt] = []
    for _ in range(200 * count):
        prompt = task.draw_prompt(generator)
        with torch.no_grad():
            answer = int(model(input_ids=torch.from_numpy(prompt.tokens[None])).logits[0, -1].argmax())
        if answer != prompt.answer:
            failing.append(prompt)
        if len(failing) == count:
            return failing
    raise RuntimeError(f"the damaged model answered nearly everything right: only {len(failing)} of {count} failures")


def record(model: Model, path: Path, prompts: Sequence[task.Prompt], *, incident: bool) -> None:
    """Records each prompt by itself, one group a prompt."""
    recorder = Recorder(model, sites="components")
    session = recorder.incident(path, failure=Failure.token()) if incident else recorder.benign(path)
    with session as recording:
        for prompt in prompts:
            recording.run(
                input_ids=torch.from_numpy(prompt.tokens[None]),
                attention_mask=torch.ones(1, len(prompt.tokens), dtype=torch.long),
                texts=[prompt.text],
                groups=[prompt.text],
                right=[[prompt.answer]],
            )


def make_incident(
    reference: torch.nn.Module, directory: Path, *, layer: int, component: str, seed: int = 0
) -> tuple[Path, Path]:
    """Damages a copy of `reference`, saves it as `directory/model` and records both bundles.

    Returns:
        The incident bundle and the benign bundle.
    """
    damaged = copy.deepcopy(reference)
    damage(damaged, layer, component)
    damaged.save_pretrained(directory / "model")  # type: ignore[operator]
    generator = np.random.default_rng(seed)
    failing = failing_prompts(damaged, generator, INCIDENT_SAMPLES)
    benign = [task.draw_prompt(generator) for _ in range(BENIGN_SAMPLES)]
    incident_path, benign_path = directory / "incident", directory / "benign"
    record(Model.wrap(damaged, source="../model"), incident_path, failing, incident=True)
    record(Model.wrap(reference, source="../reference"), benign_path, [*failing, *benign], incident=False)
    return incident_path, benign_path


def planted() -> dict[str, Any]:
    """What `truth.json` says."""
    site = f"L{DAMAGED_LAYER}.{DAMAGED_COMPONENT}"
    how = f"output channels of {site} shifted by one, scale {SCALE_ERROR:g} times what it was"
    return {"how": how, "damaged": [site], "minimal_fix_sets": [[site]]}


def main(directory: Path) -> None:
    """Trains the model, plants the damage and records, into an empty or absent directory."""
    from model_forensics.demo.train import accuracy, train  # noqa: PLC0415  (needs the hf extra)

    reference = train()
    print(f"accuracy of the intact model: {accuracy(reference, seed=1):.4f}", file=sys.stderr)
    shutil.rmtree(directory, ignore_errors=True)
    reference.save_pretrained(directory / "reference")
    make_incident(reference, directory, layer=DAMAGED_LAYER, component=DAMAGED_COMPONENT)
    (directory / "truth.json").write_text(json.dumps(planted(), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
