"""Hostile bundles: each is refused by name, within 100 ms and in little memory.

    python ci/limits/hostile.py [--output FILE.json]

Each is read several times in a process of its own; what counts is the least processor time. Cases of the second table
lie within the limits of the format, so that nothing short of reading them tells that they lie: those take time in
proportion to their size, which is measured and not bounded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from model_forensics import ops

GOLDEN: Final = Path(__file__).parents[2] / "tests" / "bundle"
REFUSED_WITHIN: Final = 0.1
MOST_MEMORY: Final = 64 << 20
TIMES: Final = 5
SHARD: Final = "activations/000.safetensors"
Make = Callable[[Path], object]

CHILD: Final = """
import json, sys, time
from pathlib import Path
from model_forensics.bundle import load_bundle
from model_forensics.errors import ModelForensicsError

def peak():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10

load_bundle(sys.argv[2])  # what the first call loads is not the refusal's
before, seconds, refused_as = peak(), [], None
for _ in range(int(sys.argv[3])):
    started = time.process_time()
    try:
        load_bundle(sys.argv[1])
    except ModelForensicsError as error:
        refused_as = type(error).__name__
    seconds.append(time.process_time() - started)
print(json.dumps({"refused_as": refused_as, "seconds": min(seconds), "extra_memory_bytes": peak() - before}))
"""


def manifest(change: Callable[[dict[str, Any]], object]) -> Make:
    def edit(bundle: Path) -> None:
        value = json.loads((bundle / "manifest.json").read_text())
        change(value)
        (bundle / "manifest.json").write_text(json.dumps(value))

    return edit


def written(name: str, data: bytes) -> Make:
    """A file whose size and digest the manifest lists, as an attacker would."""

    def seal(bundle: Path) -> None:
        (bundle / name).write_bytes(data)
        entry = {"sha256": "sha256:" + hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        manifest(lambda value: value["files"][name].update(entry))(bundle)

    return seal


def header_of(entries: int, *, name: str = "t{}", nbytes: int = 0) -> bytes:
    named = {name.format(n): {"dtype": "U8", "shape": [nbytes], "data_offsets": [n * nbytes, (n + 1) * nbytes]}
             for n in range(entries)}  # fmt: skip
    text = json.dumps(named).encode()
    return len(text).to_bytes(8, "little") + text


def coded(number: int, content: bytes, claimed: int | None = None) -> Make:
    """A compressed file of which one section holds something else; the manifest may claim another size."""

    def replace(bundle: Path) -> None:
        stored = (bundle / f"{SHARD}.mfa").read_bytes()
        count = int.from_bytes(stored[8:16], "little")
        sizes = np.frombuffer(stored[16 : 16 + 8 * count], "<u8").tolist()
        start = 16 + 8 * count
        parts = [stored[start + sum(sizes[:n]) : start + sum(sizes[: n + 1])] for n in range(count)]
        parts[number] = ops.arithmetic_encode(content, model="static", dtype="bytes")
        index = np.array([count, *map(len, parts)], "<u8").tobytes()
        (bundle / f"{SHARD}.mfa").write_bytes(stored[:8] + index + b"".join(parts))
        if claimed is not None:
            manifest(lambda value: value["files"][SHARD].update(bytes=claimed))(bundle)

    return replace


def link(make: Callable[[Path, Path], object]) -> Make:
    def replace(bundle: Path) -> None:
        outside = bundle.parent / f"{bundle.name}-outside"
        shutil.copy(bundle / "samples.jsonl", outside)
        (bundle / "samples.jsonl").unlink()
        make(outside, bundle / "samples.jsonl")

    return replace


def many_sites(count: int) -> Make:
    return manifest(
        lambda value: value.update(sites=[{**value["sites"][0], "name": f"s{number}"} for number in range(count)])
    )


def many_files(value: dict[str, Any]) -> None:
    value["files"].update({f"activations/{n:06d}.safetensors": value["files"][SHARD] for n in range(100_000)})


def many_stored(bundle: Path) -> None:
    for number in range(20_000):
        (bundle / "activations" / str(number)).touch()


def look_alike(one: str, other: str) -> Make:
    return manifest(lambda v: (v["sites"][0].update(name=one), v["sites"][1].update(name=other)))


def text_failure(pattern: str) -> Make:
    return manifest(
        lambda v: v["failure"].update(
            kind="text", wrong=[], right=[], position=-1, wrong_pattern=pattern, max_new_tokens=4
        )
    )


def site_named(name: str) -> Make:
    return manifest(lambda v: v["sites"][0].update(name=name))


def file_named(name: str) -> Make:
    return manifest(lambda v: v["files"].update({name: v["files"][SHARD]}))


PLAIN: Final[dict[str, Make]] = {
    "a file name that leaves the bundle": file_named("../x"),
    "an absolute file name": file_named("/etc/passwd"),
    "a site's file that leaves the bundle": manifest(lambda v: v["sites"][0].update(file="../../x.safetensors")),
    "a symbolic link": link(lambda outside, inside: inside.symlink_to(outside)),
    "a hard link": link(os.link),
    "NUL in a file name": file_named("a\0"),
    "NUL in a site name": site_named("a\0"),
    "a right-to-left override in a site name": site_named("L0\u202emlp"),
    "site names equal after normalisation": look_alike("caf\u00e9", "cafe\u0301"),
    "site names equal but for an invisible character": look_alike("L0.mlp", "L0.mlp\u200b"),
    "a header of 100,000 entries": written(SHARD, header_of(100_000)),
    "a header of 60,000 entries": written(SHARD, header_of(60_000)),
    "a header of 100,000 inputs": written("inputs.safetensors", header_of(100_000, name="call0/t{}")),
    "a header of 60,000 outputs": written("outputs.safetensors", header_of(60_000)),
    "a header that claims 2^63 bytes": written(SHARD, b"\xff" * 7 + b"\x7f" + b"{}"),
    "a manifest of 100,000 sites": many_sites(100_000),
    "a manifest of 100,000 files": manifest(many_files),
    "20,000 files that the manifest does not list": many_stored,
    "100,000 samples where the manifest says 3": written("samples.jsonl", b"{}\n" * 100_000),
    "a declared size of 1 TiB": manifest(lambda v: v["files"][SHARD].update(bytes=1 << 40)),
    "a tensor that claims more than the file": written(SHARD, header_of(1, nbytes=1 << 40)),
    "2^30 calls": manifest(lambda v: v.update(calls=1 << 30)),
    "2^40 samples": manifest(lambda v: v.update(samples=1 << 40)),
    "JSON 100,000 deep": lambda bundle: (bundle / "manifest.json").write_text("[" * 100_000),
    "a header 100,000 deep": written(SHARD, (100_001).to_bytes(8, "little") + b"{" + b"[" * 100_000),
    "a pattern that takes gigabytes to compile": text_failure("((a{999}){999}){999}"),
    "a pattern 800 deep": text_failure("(?:" * 800 + "a" + ")*" * 800),
    "a sample 100,000 deep": written("samples.jsonl", b"[" * 100_000 + b"\n" * 3),
}
CODED: Final[dict[str, Make]] = {
    "a section that unpacks to 64 MiB": coded(1, bytes(64 << 20)),
    "a header that unpacks to 64 MiB": coded(0, bytes(64 << 20), claimed=1 << 30),
    "a compressed header of 100,000 entries": coded(0, header_of(100_000), claimed=len(header_of(100_000))),
    "a compressed file that claims 64 TiB": manifest(lambda v: v["files"][SHARD].update(bytes=1 << 46)),
}
WITHIN_LIMITS: Final[dict[str, Make]] = {
    "60,000 inputs of a call that does not exist": written("inputs.safetensors", header_of(60_000, name="call9/t{}")),
    "60,000 sites that no file holds": many_sites(60_000),
}


def refusals(work: Path, golden: str, cases: dict[str, Make]) -> list[dict[str, Any]]:
    rows = []
    for number, (name, make) in enumerate(cases.items()):
        bundle = Path(shutil.copytree(GOLDEN / golden, work / golden / str(number)))
        make(bundle)
        command = [sys.executable, "-c", CHILD, bundle, GOLDEN / golden, str(TIMES)]
        rows.append({"case": name, **json.loads(subprocess.run(command, capture_output=True, check=True).stdout)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-") as temporary:
        work = Path(temporary)
        bounded = refusals(work / "a", "golden", PLAIN) + refusals(work / "b", "golden-arithmetic", CODED)
        measured = refusals(work / "c", "golden", WITHIN_LIMITS)
    if given.output:
        given.output.write_text(json.dumps({"bounded": bounded, "within_limits": measured}, indent=1) + "\n")
    held = all(row["refused_as"] for row in measured) and all(
        row["refused_as"] and row["seconds"] <= REFUSED_WITHIN and row["extra_memory_bytes"] <= MOST_MEMORY
        for row in bounded
    )
    print("held" if held else "NOT held")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
