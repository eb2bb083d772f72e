"""Memory that patching takes, against what was planned: `python -m bench planned_memory [--limit 64MiB]`.

A model of 200 MB runs every patch of 12 layers at four tokens, self-checks on, with `MODEL_FORENSICS_MAX_MEMORY` set.
What is measured is the growth of the resident memory of this process while it does, so run it in a process of its own.
The promise is that a process takes no more than twice the model and the planned batch.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

import torch

from bench.memory import peak_extra_bytes
from bench.patching import Bench, all_patches, ours
from bench.patching_models import SEED, prompts
from model_forensics.cca.memory import VARIABLE, stated_limit
from model_forensics.models import Model

TOKENS, LAST = 64, 4


def model_of_200_mb() -> torch.nn.Module:
    """GPT-2's blocks: 12 layers, 544 features, 17,000 tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415

    torch.manual_seed(SEED)
    sizes = {"vocab_size": 17000, "n_positions": TOKENS, "n_embd": 544, "n_layer": 12, "n_head": 8}
    config = GPT2Config(**sizes, bos_token_id=None, eos_token_id=None, architectures=["GPT2LMHeadModel"])
    return GPT2LMHeadModel(config).eval()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench planned_memory", description=__doc__)
    parser.add_argument("--limit", help=f"for {VARIABLE}; without it, as the environment has it")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.limit is not None:
        os.environ[VARIABLE] = options.limit
    torch.set_num_threads(options.threads)
    print(json.dumps(measured(), indent=1))
    return 0


def measured() -> dict[str, int | None]:
    """Bytes of the model, of the planned batch, and taken beside the model at most; batches and rows, too.

    `peak_extra_bytes` is null where the system cannot tell.
    """
    model = Model.wrap(model_of_200_mb())
    bench = Bench(model, *prompts(TOKENS, 17000), layers=12)
    patches = all_patches(bench.layers, range(LAST))  # the first tokens: whole rows
    weights = sum(p.numel() * p.element_size() for p in model.module.parameters())
    assert model.reference.weights_digest, "taken before, and kept"
    rows = 0

    def run() -> None:
        nonlocal rows
        _, executor = ours(bench, patches, max_rows=64)
        rows = executor.runner.rows_run

    return {
        "model_bytes": weights,
        "planned_bytes": stated_limit(),
        "peak_extra_bytes": peak_extra_bytes(run),
        "patches": len(patches),
        "rows_run": rows,
    }
