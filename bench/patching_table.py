"""`python -m bench patching_table [RUN.json ...] [--write]`: the table of docs/fix-sets.md, from runs of `patching`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.table import fill, markdown, number

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "bench" / "results" / "patching"
PAGE = ROOT / "docs" / "fix-sets.md"
RIVALS = ("TransformerLens", "nnsight", "plain hooks")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench patching_table", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="default: all that are committed")
    parser.add_argument("--write", action="store_true", help="put the table into docs/fix-sets.md")
    options = parser.parse_args(arguments)
    text = as_markdown([json.loads(path.read_text()) for path in options.runs or sorted(RUNS.glob("*.json"))])
    print(text)
    if options.write:
        PAGE.write_text(fill(PAGE.read_text(), {"patching": text}))
    return 0


def as_markdown(runs: Sequence[Mapping[str, Any]]) -> str:
    """One row a run, and below what they ran on."""
    rows = [["shape", "tokens", "on", "ms a patch", *(f"× {name}" for name in RIVALS), "of the limit", "beam"]]
    for run in runs:
        ratios = [number(run["ratio"].get(name)) for name in RIVALS]
        share = f"{100 * run['matrix_multiply']['share_of_limit']:.0f} %"
        beam = run.get("beam_in_patches", {}).get("TransformerLens")
        measured = number(run["median_ms"]["ours"])
        rows.append([run["shape"], _tokens(run), _device(run), measured, *ratios, share, number(beam)])
    machines = dict.fromkeys(map(_machine, runs))
    return "\n\n".join([markdown(rows), "\n".join(machines)])


def _tokens(run: Mapping[str, Any]) -> str:
    """How many there are, and how many of the last ones are patched."""
    last = run["patched_tokens"]
    return str(run["tokens"]) if last == run["tokens"] else f"{run['tokens']}, last {last}"


def _device(run: Mapping[str, Any]) -> str:
    if run["device_name"] is not None:
        return str(run["device_name"])
    return f"{run['threads']} thread" + ("s" if run["threads"] > 1 else "")


def _machine(run: Mapping[str, Any]) -> str:
    about = run["machine"]
    commit = f"{(run['commit']['id'] or 'unknown')[:12]}{' with uncommitted changes' if run['commit']['dirty'] else ''}"
    where = run["device_name"] or f"{about['cpu']}, {about['cores']} cores"
    load = (
        "" if run["load_of_others"] is None else f"; others took {100 * run['load_of_others']:.0f} % of the processors"
    )
    return f"- {run['measured_at'][:10]}, commit {commit}; {where}; torch {about['libraries']['torch']}{load}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
