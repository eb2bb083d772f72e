"""Trains the demo's transformer (GPT-2 family, 4 layers, 64 features) on field lookup: a minute on two cores."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_forensics.demo import task

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

LAYERS = 4
WIDTH = 64
HEADS = 4
LENGTHS = range(task.FEWEST_FIELDS, task.MOST_FIELDS + 1)


def new_model() -> GPT2LMHeadModel:
    """An untrained model; needs the `hf` extra."""
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415  (transformers is an extra)

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=task.VOCABULARY,
            n_positions=task.LONGEST,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=0.08,
            bos_token_id=task.START,
            eos_token_id=None,
        )
    )


def accuracy(model: torch.nn.Module, seed: int, prompts: int = 200) -> float:
    """Share of fresh questions answered right, `prompts` of each length."""
    generator = np.random.default_rng(seed)
    right = 0
    with torch.no_grad():
        for fields in LENGTHS:
            tokens, answers = task.draw_batch(generator, fields, prompts)
            logits = model(input_ids=torch.from_numpy(tokens)).logits[:, -1]
            right += int((logits.argmax(-1) == torch.from_numpy(answers)).sum())
    return right / (prompts * len(LENGTHS))


def train(seed: int = 0, steps: int = 1500, batch: int = 128) -> GPT2LMHeadModel:
    """A model that answers the task; deterministic on one machine."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = new_model()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        tokens, answers = task.draw_batch(generator, LENGTHS[step % len(LENGTHS)], batch)
        logits = model(input_ids=torch.from_numpy(tokens)).logits[:, -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(answers))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step}: loss {loss.item():.4f}", file=sys.stderr)
    trained: GPT2LMHeadModel = model.eval()  # type: ignore[no-untyped-call]
    return trained
