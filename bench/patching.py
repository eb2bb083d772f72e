"""Activation patches: `python -m bench patching [--shape gpt2|llama] [--tokens N] [--last N] [--beam] [--unembedding]
[--device D]`.

The executor runs every patch of three kinds of sites × layers × tokens, its self-checks on. The others run a sample
of these, spread evenly, one patch a forward, which is what each of them costs whatever its layer and token. All
results are compared before anything is reported. Contenders take turns; ratios are of the medians over the rounds.

With `--device cuda` the same table is of a GPU. `python -m bench patching_table` makes the table of docs/fix-sets.md
from what `--output` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import torch

from bench import machine
from bench.matrix_multiply import operations, operations_a_second
from bench.memory import peak_extra_bytes
from bench.patching_models import SHAPES, Prompt, activations, prompts
from bench.patching_rivals import Answers, Patch, Rival, nnsight, plain_hooks, site_of, transformer_lens
from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import Calls
from model_forensics.cca.donors import PatchDonor
from model_forensics.cca.executor import Executor
from model_forensics.cca.pool import Candidate, Sources
from model_forensics.cca.replay import Case
from model_forensics.failure import Failure
from model_forensics.models import Model
from model_forensics.types import Donor, Intervention

TOLERANCE = 2e-5
"""Of the largest |logit difference|: two logits, each within 5e-6 of the largest logit."""
BEAM_WIDTH, BEAM_SIZE = 8, 3


@dataclass
class Bench:
    """One model with its two prompts."""

    model: Model
    prompt: Prompt
    donor_prompt: Prompt
    layers: int

    def __post_init__(self) -> None:
        sites = [f"L{n}.{kind}" for n in range(self.layers) for kind in ("attn", "mlp", "resid")]
        heads = [f"L{n}.head{h}" for n in range(self.layers) for h in range(self.model.sites.heads or 0)]
        self.donor, self.donor_logits = activations(self.model, self.donor_prompt, ["embed", *sites, *heads])
        _, self.failed = activations(self.model, self.prompt, [])
        self.answers: Answers = (int(self.failed.argmax()), int(self.donor_logits.argmax()))
        self.heads = heads

    def executor(self, sites: Sequence[tuple[str, tuple[int, ...] | None]], max_rows: int) -> Executor:
        """A new one, which has run nothing yet: its base run and its proof are part of what is timed."""
        description = Donor(kind="contrast", source=None, same_input=False)
        donor = PatchDonor(description, (self.donor_logits.double().numpy(),), {k: (v,) for k, v in self.donor.items()})
        pool = [
            Candidate(
                self.model.sites.get(site),
                Intervention(site=site, kind="patch", donor=description, positions=positions),
                1.0,
            )
            for site, positions in sites
        ]
        failed = self.failed.double().numpy()
        failure = Failure.token(wrong=self.answers[:1], right=self.answers[1:])
        case = Case(0, "g0", failure, failed, failure.score(failed), donor=self.donor_logits.double().numpy())
        runner = BatchedRunner(self.model, Calls(self.prompt, self.model.device), -1, max_rows)  # type: ignore[arg-type]
        return Executor(runner, Sources(donor, None, {}), pool, [case], seed=0)


def all_patches(layers: int, tokens: range) -> list[Patch]:
    return [(kind, layer, token) for kind in ("attn", "mlp", "in") for layer in range(layers) for token in tokens]


def ours(bench: Bench, patches: Sequence[Patch], max_rows: int) -> tuple[list[float], Executor]:
    """Scores of all patches, and the executor that ran them."""
    executor = bench.executor([(site_of(patch), (patch[2],)) for patch in patches], max_rows)
    outcomes = executor.score_many([(i,) for i in range(len(patches))], [0])
    return [outcome.cases[0].score for outcome in outcomes], executor


def beam(bench: Bench, max_rows: int) -> Executor:
    """Width 8 to size 3 over all heads, at all tokens."""
    executor = bench.executor([(head, None) for head in bench.heads], max_rows)
    kept: list[tuple[int, ...]] = [()]
    for _ in range(BEAM_SIZE):
        sets = {tuple(sorted({*one, i})) for one in kept for i in range(len(bench.heads)) if i not in one}
        outcomes = executor.score_many(sorted(sets), [0])
        best = sorted(outcomes, key=lambda outcome: -outcome.score_decrease)[:BEAM_WIDTH]
        kept = [outcome.members for outcome in best]
    return executor


@dataclass
class Times:
    """Per round, seconds a patch: of the clock, and of all processors. On a busy machine only the latter compare."""

    clock: list[float] = field(default_factory=list)
    processors: list[float] = field(default_factory=list)

    def add(self, run: Callable[[], object], patches: int, device: torch.device) -> None:
        start, worked = time.perf_counter(), time.process_time()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.clock.append((time.perf_counter() - start) / patches)
        self.processors.append((time.process_time() - worked) / patches)


def share_of(module: torch.nn.Module, run: Callable[[], object]) -> float:
    """Share of the time that `run` takes that this module runs; of the clock, on a CPU."""
    started: list[float] = []
    spent: list[float] = []
    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs: started.append(time.perf_counter())),
        module.register_forward_hook(lambda *_: spent.append(time.perf_counter() - started[-1])),
    ]
    start = time.perf_counter()
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return sum(spent) / (time.perf_counter() - start)


def check(name: str, found: Sequence[float], expected: Sequence[float], scale: float) -> None:
    """Raises AssertionError where a contender's scores are not the executor's."""
    worst = float(np.abs(np.subtract(found, expected)).max()) / scale
    assert worst <= TOLERANCE, f"{name} differs from the executor by {worst:.3g} of the largest logit"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench patching", description=__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="gpt2")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--last", type=int, help="patch only so many last tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64, help="max_batch_rows")
    parser.add_argument("--sample", type=int, default=12, help="patches that each of the others runs in a round")
    parser.add_argument("--beam", action="store_true", help="also a beam search over all heads")
    parser.add_argument("--unembedding", action="store_true", help="also which share of the time the unembedding takes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="keep the JSON here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    load = machine.Load()
    result = run(options) | {"threads": options.threads, "device": options.device, "machine": machine.describe()}
    result["device_name"] = torch.cuda.get_device_name() if options.device.startswith("cuda") else None
    result["commit"] = machine.commit()
    result["measured_at"] = datetime.now(UTC).isoformat()
    result["load_of_others"] = load.of_others()
    print(as_text(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=1))
    return 0


def run(options: argparse.Namespace) -> dict[str, object]:
    """Everything measured; a contender that is not installed is missing."""
    model = Model.wrap(SHAPES[options.shape]().to(options.device))
    classes = int(model.module.config.vocab_size)  # type: ignore[union-attr,arg-type]
    bench = Bench(model, *prompts(options.tokens, classes), layers=model.sites.layers or 0)
    first = 0 if options.last is None else options.tokens - options.last
    patches = all_patches(bench.layers, range(first, options.tokens))
    spread = np.linspace(0, len(patches) - 1, options.sample).astype(int)
    sample = [patches[i] for i in spread]
    candidates: dict[str, Rival | None] = {
        "TransformerLens": transformer_lens(model, bench.prompt, bench.donor_prompt, bench.answers),
        "nnsight": nnsight(model, bench.prompt, bench.donor, bench.answers),
        "plain hooks": plain_hooks(model, bench.prompt, bench.donor, bench.answers),
    }
    rivals = {name: rival for name, rival in candidates.items() if rival is not None}
    scores, executor = ours(bench, patches, options.rows)
    scale = float(bench.failed.abs().max())
    for name, rival in rivals.items():
        check(name, rival(sample), [scores[i] for i in spread], scale)
    times = {name: Times() for name in ("ours", *rivals)}
    limits = []
    for _ in range(options.rounds):
        limits.append(operations_a_second(model.device, model.dtype or torch.float32))
        for name, rival in rivals.items():
            times[name].add(lambda rival=rival: rival(sample), len(sample), model.device)  # type: ignore[misc]
        times["ours"].add(lambda: ours(bench, patches, options.rows), len(patches), model.device)
    multiplied = operations(lambda: ours(bench, patches, options.rows)) / len(patches)
    weights = sum(p.numel() * p.element_size() for p in model.module.parameters())
    result: dict[str, object] = {
        "shape": options.shape,
        "tokens": options.tokens,
        "patched_tokens": options.tokens - first,
        "patches": len(patches),
        "max_batch_rows": options.rows,
        "seconds_per_patch": {name: asdict(one) for name, one in times.items()},
        "median_ms": {name: 1000 * median(one.clock) for name, one in times.items()},
        "ratio": {name: median(times[name].clock) / median(times["ours"].clock) for name in rivals},
        "ratio_of_processor_time": {
            name: median(times[name].processors) / median(times["ours"].processors) for name in rivals
        },
        "matrix_multiply": {
            "operations_per_patch": multiplied,
            "operations_a_second": median(limits),
            "share_of_limit": multiplied / median(times["ours"].clock) / median(limits),
        },
        "self_check_max_error": executor.worst_error,
        "execution": executor.runner.execution.model_dump(),
        "model_bytes": weights,
        "peak_extra_bytes": peak_extra_bytes(lambda: ours(bench, patches, options.rows)),
    }
    if options.unembedding:
        unembedding = model.module.get_submodule("lm_head")
        result["unembedding_share"] = share_of(unembedding, lambda: ours(bench, patches, options.rows))
    if options.beam:
        spent = Times()
        spent.add(lambda: beam(bench, options.rows), 1, model.device)
        result["beam_seconds"] = spent.clock[0]
        result["beam_in_patches"] = {name: spent.clock[0] / median(times[name].clock) for name in rivals}
        result["beam_in_patches_of_processor_time"] = {
            name: spent.processors[0] / median(times[name].processors) for name in rivals
        }
    return result


def as_text(result: dict[str, object]) -> str:
    """The table for people."""
    keys = ("shape", "tokens", "patches", "threads", "device", "max_batch_rows", "load_of_others")
    lines = [", ".join(f"{key} {result[key]}" for key in keys)]
    tables = [result[key] for key in ("median_ms", "ratio", "ratio_of_processor_time")]
    assert all(isinstance(table, dict) for table in tables)
    medians, ratios, of_processors = tables
    lines.append("                  ms a patch    ratio    ratio of processor time")
    for name, value in medians.items():  # type: ignore[union-attr]
        compared = f"{ratios[name]:8.1f} {of_processors[name]:10.1f}" if name in ratios else ""  # type: ignore
        lines.append(f"{name:16} {value:11.2f} {compared}")
    for key, value in result.items():
        if key.startswith(("matrix", "self_check", "model_bytes", "peak", "unembedding", "beam")):
            lines.append(f"{key}: {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
