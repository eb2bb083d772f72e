"""Recordings of padded batches, and rows with edits of every kind."""

from __future__ import annotations

import numpy as np
import torch

from model_forensics.cca.calls import Calls
from model_forensics.cca.jobs import Job, Replacement
from model_forensics.failure import Failure
from tests.cca.families import VOCABULARY

TOKENS = 11


def calls_of(planting, model, side, *, rows=3, position=-1):
    """A recording of one padded batch; with side None all rows are full, without a mask."""
    random = np.random.default_rng(5)
    ids = random.integers(1, VOCABULARY, (rows, TOKENS))
    call = {"input_ids": ids}
    if side is not None:
        mask = np.ones_like(ids)
        for row in range(rows):
            padding = [0, 3, 5][row % 3]
            mask[row, slice(0, padding) if side == "left" else slice(TOKENS - padding, None)] = 0
        call["attention_mask"] = mask
    failure = Failure.token(wrong=[1], right=[2], position=position)
    recording = planting.record(model, [call], name="inc", failure=failure, sites=[])
    for row, sample in enumerate(recording.samples):
        recording.samples[row] = sample.model_copy(update={"tokens": len(real(call, row))})
    return Calls(recording, model.device), recording


def real(call, row):
    return np.flatnonzero(call["attention_mask"][row]) if "attention_mask" in call else np.arange(TOKENS)


def random_jobs(model, recording, count, seed=0):
    """Jobs with one to four edits of all kinds of sites: whole samples, single rows for all tokens, some positions."""
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    names = [f"L{layer}.{kind}" for layer in range(3) for kind in ("attn", "mlp", "resid", "head1", "head3", "neuron5")]
    names.append("embed")
    jobs = []
    for _ in range(count):
        row = int(random.integers(len(recording.samples)))
        tokens = recording.samples[row].tokens
        edits = {}
        for name in random.choice(names, random.integers(1, 5), replace=False):
            tap = model.sites.get(str(name))
            values = torch.randn(1 if random.random() < 0.3 else tokens, tap.features, generator=generator)
            if random.random() < 0.2:
                values = torch.zeros(1, tap.features)
            chosen = random.choice(tokens, random.integers(1, 4), replace=False)
            positions = None if random.random() < 0.3 else tuple(int(p - tokens * (p % 2)) for p in chosen)
            edits[tap] = Replacement(values * 0.3, positions)
        jobs.append(Job(0, row, edits))
    return jobs


def run_all(runner, jobs):
    results = {}
    for batch in runner.batches(jobs):
        results.update(zip(batch, runner.run([jobs[i] for i in batch]), strict=True))
    return [results[i] for i in range(len(jobs))]
