"""Recording a greedy generation: the rows of every step, joined to the rows of one sequence."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model_forensics.errors import ModelError, UsageError
from model_forensics.models import Tap, hooks, rows
from model_forensics.models.values import output_tensor
from model_forensics.record.capture import Capture, check_complete, copy_to_cpu

_TOKENS = 3


@dataclass(frozen=True)
class Generated:
    """A recorded generation.

    Attributes:
        sequences: [batch, prompt + new] int64, what `generate` returned.
        inputs: what a teacher-forced replay passes to the model: the sequence without its last token, the mask of the
            tokens that the model saw, and position ids where the prompts are padded.
        mask: [batch, prompt + new - 1] bool on the CPU; rows that ended early are padded on the right.
        capture: the sites' values over these positions.
        logits: [batch, classes] at each sample's scored position.
        generated_from: per sample, the number of its prompt tokens.
    """

    sequences: Tensor
    inputs: dict[str, Tensor]
    mask: Tensor
    capture: Capture
    logits: Tensor
    generated_from: tuple[int, ...]


class _Steps:
    """What the hooks see: for every forward of the generation the sites' values and the logits."""

    def __init__(self) -> None:
        self.values: list[dict[Tap, Tensor]] = []
        self.logits: list[Tensor] = []

    def begin(self, _module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        self.values.append({})

    def on_value(self, tap: Tap, value: Tensor) -> None:
        if tap in self.values[-1]:
            raise ModelError(
                "the site is computed several times in one forward, so it has no single value",
                where=tap.name,
                cure="Leave it out, and record the modules that call it",
            )
        self.values[-1][tap] = copy_to_cpu(value)

    def end(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        self.logits.append(copy_to_cpu(output_tensor(output, "")))


def generate(
    module: nn.Module,
    taps: Sequence[Tap],
    required: frozenset[str],
    inputs: Mapping[str, Tensor],
    *,
    position: int,
    max_new_tokens: int,
    options: Mapping[str, Any],
) -> Generated:
    """Runs the model's own `generate`, greedily, and records every step.

    Args:
        inputs: `input_ids` [batch, tokens], and `attention_mask` when prompts are padded (on the left).
        position: scored position among a sample's own tokens, the generated ones included, the last one excluded.
        options: `eos_token_id`, `pad_token_id`.

    Raises:
        UsageError: the model cannot generate; other inputs; prompts padded on the right.
        ModelError: the steps do not add up to the sequence (assisted or chunked decoding).
    """
    prompt, mask = _prompt(module, inputs)
    accepted = inspect.signature(module.forward).parameters
    every_logit = position != -1 or any(tap.kind == "logits" for tap in taps)
    extra = {"logits_to_keep": 0} if every_logit and "logits_to_keep" in accepted else {}
    steps = _Steps()
    with ExitStack() as stack:
        for handle in (module.register_forward_pre_hook(steps.begin), module.register_forward_hook(steps.end)):
            stack.callback(handle.remove)
        stack.enter_context(hooks.read(module, taps, steps.on_value))
        sequences = _run(module, prompt, mask, max_new_tokens, {**options, **extra})
    for device in {value.device for value in module.parameters() if value.is_cuda}:
        torch.cuda.synchronize(device)  # the copies to the CPU are asynchronous
    if not steps.values:
        raise ModelError(
            "generate() did not call the model's forward, so nothing could be recorded",
            where=type(module).__name__,
            cure="Record the finished sequence with run()",
        )
    check_complete(steps.values[0], taps, required)
    own = _own_tokens(sequences.cpu(), mask.cpu(), _end_tokens(module, options))
    columns = rows.scored_columns(own, position, batch=own.shape[0], tokens=own.shape[1])
    replay = {"input_ids": sequences[:, :-1], "attention_mask": own.to(sequences.device, mask.dtype)}
    if not bool(mask.all()) and "position_ids" in accepted:
        replay["position_ids"] = (replay["attention_mask"].long().cumsum(dim=1) - 1).clamp(min=0)
    return Generated(
        sequences=sequences.cpu(),
        inputs=replay,
        mask=own,
        capture=_joined(steps, own),
        logits=_scored(steps, columns, own.shape[1]),
        generated_from=tuple(int(count) for count in mask.sum(dim=1)),
    )


def _prompt(module: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    if not callable(getattr(module, "generate", None)):
        raise UsageError(
            f"{type(module).__name__} has no generate()", cure="Call run() with the whole sequence, prompt and answer"
        )
    unknown = sorted(set(inputs) - {"input_ids", "attention_mask"})
    if unknown or "input_ids" not in inputs:
        raise UsageError(
            f"generate() records input_ids and attention_mask, not {', '.join(unknown) or 'nothing'}",
            cure="Pass these two",
        )
    prompt = inputs["input_ids"]
    mask = inputs.get("attention_mask", torch.ones_like(prompt))
    if prompt.ndim != 2 or mask.shape != prompt.shape:
        raise UsageError(
            f"input_ids have shape {list(prompt.shape)}, attention_mask {list(mask.shape)}",
            cure="Pass both as [batch, tokens]",
        )
    if not bool((mask[:, -1] != 0).all()):
        raise UsageError(
            "prompts are padded on the right", cure="Pad on the left: generation continues the last column"
        )
    return prompt, mask


def _run(module: nn.Module, prompt: Tensor, mask: Tensor, max_new_tokens: int, options: Mapping[str, Any]) -> Tensor:
    run: Any = module.generate
    sequences = run(
        input_ids=prompt,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        return_dict_in_generate=False,
        **options,
    )
    if not isinstance(sequences, Tensor) or sequences.ndim != 2 or sequences.shape[1] <= prompt.shape[1]:
        raise ModelError("generate() returned no continuation", cure="Check max_new_tokens and the model's generate()")
    return sequences


def _end_tokens(module: nn.Module, options: Mapping[str, Any]) -> set[int]:
    ends = options.get("eos_token_id", getattr(getattr(module, "generation_config", None), "eos_token_id", None))
    if ends is None:
        return set()
    return {int(ends)} if isinstance(ends, int) else {int(end) for end in ends}


def _own_tokens(sequences: Tensor, mask: Tensor, ends: set[int]) -> Tensor:
    """[batch, length - 1] bool: tokens that the model saw: the prompt's, and the generated ones before the last."""
    start = mask.shape[1]
    own = torch.ones(sequences.shape[0], sequences.shape[1] - 1, dtype=torch.bool)
    own[:, :start] = mask != 0
    for row, tokens in enumerate(sequences[:, start:].tolist()):
        finished = next((number for number, token in enumerate(tokens) if token in ends), None)
        if finished is not None:  # the end token itself was never fed back
            own[row, start + finished :] = False
    return own


def _joined(steps: _Steps, own: Tensor) -> Capture:
    """The steps' values joined along the tokens, padding removed."""
    batch, tokens = own.shape
    capture = Capture()
    for tap in steps.values[0]:
        parts = [step[tap] for step in steps.values if tap in step]
        if any(part.ndim != _TOKENS for part in parts) or sum(part.shape[1] for part in parts) != tokens:
            shapes = f"{list(parts[0].shape)} and {len(parts) - 1} more steps"
            raise ModelError(
                f"the site's values ({shapes}) do not add up to the {tokens} tokens of the sequence",
                where=tap.name,
                cure="Record the whole sequence with run(), or leave the site out",
            )
        joined = torch.cat([part.expand(batch, -1, -1) for part in parts], dim=1)
        capture.packed[tap] = joined[own]
    return capture


def _scored(steps: _Steps, columns: Tensor, tokens: int) -> Tensor:
    """[batch, classes] at the given columns of the joined sequence; steps may have kept their last logits only."""
    prompt = tokens - (len(steps.logits) - 1)
    first = steps.logits[0]
    scored = []
    for row, column in enumerate(columns.tolist()):
        if column >= prompt:
            scored.append(steps.logits[column - prompt + 1][row, -1])
        elif column - prompt + first.shape[1] >= 0:
            scored.append(first[row, column - prompt + first.shape[1]])
        else:
            raise ModelError(
                f"the model kept no logits for token {column} of the prompt",
                cure="Score a generated token (position -1), or record with run()",
            )
    return torch.stack(scored)
