"""A recorded run can be run again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model_forensics import Failure, RCAPipeline, Recorder, load_bundle
from model_forensics.demo import data_directory, task

TOLERANCE = 5e-6  # of the largest logit: what another batch composition may change in float32


def padded(prompts: list[task.Prompt]) -> dict[str, torch.Tensor]:
    longest = max(len(prompt.tokens) for prompt in prompts)
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt.tokens)] = torch.from_numpy(prompt.tokens)
        mask[row, : len(prompt.tokens)] = 1
    return {"input_ids": tokens, "attention_mask": mask}


def test_padded_batch_replays_bit_for_bit_and_alone_within_rounding(demo_reference, tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    prompts = [task.draw_prompt(generator) for _ in range(7)]
    wrong = [[(prompt.answer + 1) % len(task.SYMBOLS)] for prompt in prompts]
    with Recorder(demo_reference, sites="components").incident(
        tmp_path / "batch", failure=Failure.token()
    ) as recording:
        recording.run(**padded(prompts), right=wrong, groups=[prompt.text for prompt in prompts])
    bundle = load_bundle(tmp_path / "batch")
    with torch.no_grad():
        inputs = {name: torch.from_numpy(np.array(value)) for name, value in bundle.inputs(0).items()}
        again = demo_reference.module(**inputs).logits
    for index, prompt in enumerate(prompts):
        recorded = bundle.outputs(index)["logits"][0]
        assert np.array_equal(again[index, len(prompt.tokens) - 1].numpy(), recorded)
        with torch.no_grad():
            alone = demo_reference.module(input_ids=torch.from_numpy(prompt.tokens[None])).logits[0, -1].numpy()
        assert np.abs(alone - recorded).max() <= TOLERANCE * np.abs(recorded).max()


def test_failure_that_does_not_fail_is_a_verdict(demo_reference, tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    with Recorder(demo_reference, sites="components").incident(tmp_path / "inc", failure=Failure.token()) as recording:
        for _ in range(3):
            prompt = task.draw_prompt(generator)
            recording.run(
                input_ids=torch.from_numpy(prompt.tokens[None]), right=[[prompt.answer]], groups=[prompt.text]
            )
    result = RCAPipeline().analyze_incident(
        tmp_path / "inc", demo_reference.module, output=tmp_path / "results.json"
    )  # the module in the baseline's place: the call shape without a baseline
    assert result.verdict == "not_reproduced"
    assert result.fix_set is None
    assert result.confidence is None
    assert result.anomaly_score is None  # nothing to judge with


def test_same_input_same_result(tmp_path: Path) -> None:
    with data_directory() as data:
        first, second = (
            RCAPipeline().analyze_incident(data / "incident", data / "benign", output=tmp_path / f"{n}.json")
            for n in range(2)
        )
    ignored = {"execution_time", "export_path"}
    assert first.model_dump(exclude=ignored) == second.model_dump(exclude=ignored)
