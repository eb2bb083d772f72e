"""How well triage groups incidents by their fault: `python -m bench triage_groups`.

Twelve faults are planted in the demo's transformer, one at a time, and each is recorded on several sets of prompts.
Triage against the demo's baseline should put incidents of one fault into one group and of others into others. Prints
purity (share of incidents whose group mostly holds their fault), the adjusted Rand index (0 by chance, 1 for the same
grouping) and the number of groups.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections import Counter
from collections.abc import Hashable, Sequence
from math import comb
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from bench.cf_evaluation.damage import DAMAGES
from model_forensics import RCAPipeline
from model_forensics.demo import data_directory, task
from model_forensics.demo.faults import flip_exponent_bits, misread
from model_forensics.demo.make import record
from model_forensics.models import Model

# (kind of damage, layer, component): two of them in one place, three of one kind.
FAULTS = (
    ("misread", 2, "mlp"),
    ("misread", 1, "attn"),
    ("bit", 1, "mlp"),
    ("bit", 3, "attn"),
    ("noise", 0, "mlp"),
    ("noise", 3, "mlp"),
    ("noise", 2, "attn"),
    ("zero_rows", 2, "mlp"),
    ("stuck", 0, "attn"),
    ("scaled", 3, "mlp"),
    ("quantised", 1, "attn"),
    ("permuted", 1, "mlp"),
)


def plant(model: torch.nn.Module, kind: str, layer: int, component: str) -> None:
    """Damages one output projection, in place."""
    weight = model.get_parameter(f"transformer.h.{layer}.{component}.c_proj.weight")
    with torch.no_grad():
        if kind == "misread":
            misread(weight, 64.0)
        elif kind == "bit":
            flip_exponent_bits(weight, [3, 17], 1)
        else:
            DAMAGES[kind](weight, torch.Generator().manual_seed(layer))


def make_incidents(reference: torch.nn.Module, directory: Path, repeats: int, samples: int) -> dict[str, str]:
    """Bundle name → fault."""
    generator = np.random.default_rng(7)
    truth = {}
    for kind, layer, component in FAULTS:
        damaged = copy.deepcopy(reference)
        plant(damaged, kind, layer, component)
        for repeat in range(repeats):
            name = f"{kind}-L{layer}.{component}-{repeat}"
            prompts = [task.draw_prompt(generator) for _ in range(samples)]
            record(Model.wrap(damaged), directory / name, prompts, incident=True)
            truth[name] = f"{kind} L{layer}.{component}"
    return truth


def purity(truth: Sequence[Hashable], groups: Sequence[Hashable]) -> float:
    pairs = Counter(zip(groups, truth, strict=True))
    largest = {group: max(count for (other, _), count in pairs.items() if other == group) for group in set(groups)}
    return sum(largest.values()) / len(truth)


def adjusted_rand_index(truth: Sequence[Hashable], groups: Sequence[Hashable]) -> float:
    """Hubert and Arabie (1985)."""
    together = sum(comb(count, 2) for count in Counter(zip(truth, groups, strict=True)).values())
    in_truth = sum(comb(count, 2) for count in Counter(truth).values())
    in_groups = sum(comb(count, 2) for count in Counter(groups).values())
    expected = in_truth * in_groups / comb(len(truth), 2)
    return (together - expected) / ((in_truth + in_groups) / 2 - expected)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench triage_groups", description=__doc__)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--entries", type=Path, help="write what triage says here, with the fault")
    options = parser.parse_args(arguments)
    kept = []
    with data_directory() as data:
        reference = GPT2LMHeadModel.from_pretrained(data / "reference").eval()
        for samples in options.samples:
            with tempfile.TemporaryDirectory() as directory:
                truth = make_incidents(reference, Path(directory), options.repeats, samples)
                entries = RCAPipeline().triage(directory, baseline=data / "benign")
            faults = [truth[Path(entry.path).name] for entry in entries]
            kept += [
                (samples, fault, entry.model_dump(mode="json")) for fault, entry in zip(faults, entries, strict=True)
            ]
            groups = [entry.group for entry in entries]
            places = [fault.split()[1] for fault in faults]
            print(f"{samples} prompts each, {len(entries)} incidents, {len(FAULTS)} faults: {len(set(groups))} groups")
            for name, planted in (("fault", faults), ("place", places)):
                measured = f"purity {purity(planted, groups):.2f}, ARI {adjusted_rand_index(planted, groups):.2f}"
                print(f"  by {name}: {measured}")
    if options.entries is not None:
        options.entries.write_text(json.dumps(kept))
    return 0
