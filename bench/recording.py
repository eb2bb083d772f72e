"""What recording costs: a GPT-2-size model's blocks, as a share of the forward time.

Prints JSON. The cost is only reported when the recorded values equal what plain hooks read (the correctness gate).
Plain and recorded forwards alternate, so that other load on the machine meets both; medians are compared.

Run: python bench/recording.py [--layers 12] [--batch 4] [--tokens 128] [--repeats 15] [--device cpu]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from model_forensics.bundle import load_bundle
from model_forensics.models import Model, hooks, rows
from model_forensics.record import Recorder

BAR = 0.15  # recording may add this share of the forward time on the CPU


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    torch.manual_seed(0)
    config = GPT2Config(n_layer=options.layers, n_head=12, n_embd=768)
    model = Model.wrap(GPT2LMHeadModel(config).to(options.device))
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, config.vocab_size, (options.batch, options.tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, options.tokens // 2 :] = 0  # one padded sample, as in a real batch
    inputs = {"input_ids": ids.to(options.device), "attention_mask": mask.to(options.device)}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "bundle"
        plain, recorded = measure(model, inputs, path, options)
        correct = matches(model, inputs, path, options.sites)
    shares = [r / p - 1 for p, r in zip(plain, recorded, strict=True)]
    share = statistics.median(shares)  # of pairs that ran next to each other, so that slow drifts cancel
    result = {
        "benchmark": "recording",
        "sites": options.sites,
        "layers": options.layers,
        "batch": options.batch,
        "tokens": options.tokens,
        "device": device_name(options.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": options.repeats,
        "correct": correct,
        "forward_seconds": statistics.median(plain) if correct else None,
        "recorded_seconds": statistics.median(recorded) if correct else None,
        "share": share if correct else None,
        "share_quartiles": quartiles(shares) if correct else None,
        "bar": BAR,
        "below_bar": share < BAR if correct else None,
    }
    print(json.dumps(result, indent=2))
    return 0 if correct else 1


def measure(
    model: Model, inputs: dict[str, torch.Tensor], path: Path, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Seconds of plain and of recorded forwards; what is recorded is on disk when the clock stops."""
    plain, recorded = [], []
    with Recorder(model, options.sites).benign(path) as recording, torch.no_grad():
        for repeat in range(options.repeats + 2):
            synchronise(options.device)
            start = time.perf_counter()
            model.module(**inputs)
            synchronise(options.device)
            middle = time.perf_counter()
            recording.run(**inputs)
            synchronise(options.device)
            end = time.perf_counter()
            if repeat >= 2:  # the first ones warm up caches and allocators
                plain.append(middle - start)
                recorded.append(end - middle)
    return plain, recorded


def matches(model: Model, inputs: dict[str, torch.Tensor], path: Path, sites: str) -> bool:
    """Whether the last recorded call holds what plain hooks read, bit for bit."""
    values: dict[str, torch.Tensor] = {}
    taps = model.sites.select(sites)
    with hooks.read(model.module, taps, lambda tap, value: values.__setitem__(tap.name, value.clone())):
        model.forward(inputs)
    bundle, mask = load_bundle(path), rows.real_token_mask(inputs)
    first = len(bundle.samples) - len(inputs["input_ids"])
    return all(
        np.array_equal(
            bundle.activation(tap.name, first + row), rows.to_rows(values[tap.name], mask, row).cpu().numpy()
        )
        for tap in taps
        for row in range(len(inputs["input_ids"]))
    )


def quartiles(values: list[float]) -> list[float]:
    return [float(value) for value in np.quantile(values, [0.25, 0.75])]


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--sites", default="blocks")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
