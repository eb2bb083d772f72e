"""Damaged and hostile bundles: a named error or the correct result, at once and in little memory.

    python ci/limits/damage.py [--output FILE.json]

Damage: of a small plain and a small compressed bundle every byte of every file is changed in several ways, and every
file is cut at every length; everything that a reader can ask for is then read, with and without digests. Hostile: made
bundles that must be refused within 100 ms each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from model_forensics import ops
from model_forensics.bundle import Bundle, load_bundle
from model_forensics.errors import ModelForensicsError
from model_forensics.types import Sparse

GOLDEN = Path(__file__).parents[2] / "tests" / "bundle"
PATTERNS = (0x01, 0x80, 0xFF)
MOST_SECONDS, MOST_MEMORY, REFUSED_WITHIN = 1.0, 64 << 20, 0.1
SHARD = "activations/000.safetensors"


def everything(bundle: Bundle) -> str:
    """Digest of all values that can be read."""
    digest = hashlib.sha256()

    def take(value: np.ndarray | Sparse) -> None:
        for array in (value.values, value.indices) if isinstance(value, Sparse) else (value,):
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())

    for sample in range(len(bundle.samples)):
        digest.update(bundle.samples[sample].model_dump_json().encode())
        bundle.recorded_activations(list(bundle.sites), sample)
        for number, site in enumerate(bundle.sites):
            if bundle.has_activation(site, sample):
                digest.update(b"%d" % number)
                take(bundle.raw(site, sample))
        for value in bundle.outputs(sample).values():
            take(value)
    for call in range(bundle.manifest.calls):
        for value in bundle.inputs(call).values():
            take(value)
    return digest.hexdigest()


def damages(data: bytes) -> Iterator[bytes]:
    for place in range(len(data)):
        for pattern in PATTERNS:
            yield data[:place] + bytes([data[place] ^ pattern]) + data[place + 1 :]
        yield data[:place]


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def damage(name: str, root: Path) -> dict[str, Any]:
    bundle = Path(shutil.copytree(GOLDEN / name, root / name))
    expected = everything(load_bundle(bundle))
    before, longest = peak(), 0.0
    counts = {"cases": 0, "named_errors": 0, "correct": 0, "wrong": 0, "crashes": 0, "other_valid_manifests": 0}
    for file in sorted(path for path in bundle.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for changed in damages(data):
            file.write_bytes(changed)
            for verify in (True, False):
                counts["cases"] += 1
                started = time.perf_counter()
                try:
                    right = everything(load_bundle(bundle, verify=verify)) == expected
                except ModelForensicsError:
                    counts["named_errors"] += 1
                except Exception as problem:  # noqa: BLE001 - what is counted here are the unforeseen ones
                    counts["crashes"] += 1
                    print(f"{file.name}: {problem!r}")
                else:
                    counts[_read_as(right, verify, file.name)] += 1
                longest = max(longest, time.perf_counter() - started)
        file.write_bytes(data)
    return {"bundle": name, **counts, "longest_seconds": longest, "extra_memory_bytes": peak() - before}


def _read_as(right: bool, verify: bool, file: str) -> str:
    """What a damaged bundle that was read counts as: without digests, other values are what was asked for."""
    if right or not verify:
        return "correct"
    return "other_valid_manifests" if file == "manifest.json" else "wrong"


# --- hostile bundles ----------------------------------------------------------------------------------


def manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(bundle: Path) -> None:
        value = json.loads((bundle / "manifest.json").read_text())
        change(value)
        (bundle / "manifest.json").write_text(json.dumps(value))

    return edit


def seal(bundle: Path, name: str, data: bytes) -> None:
    """A file whose size and digest the manifest lists, as an attacker would."""
    (bundle / name).write_bytes(data)
    entry = {"sha256": "sha256:" + hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest(lambda value: value["files"][name].update(entry))(bundle)


def header_of(entries: int, nbytes: int = 0) -> bytes:
    named = {f"t{n}": {"dtype": "U8", "shape": [nbytes], "data_offsets": [n * nbytes, (n + 1) * nbytes]}
             for n in range(entries)}  # fmt: skip
    text = json.dumps(named).encode()
    return len(text).to_bytes(8, "little") + text


def bomb(bundle: Path) -> None:
    """A section that unpacks to 64 MiB."""
    stored = (bundle / f"{SHARD}.mfa").read_bytes()
    count = int.from_bytes(stored[8:16], "little")
    sizes = np.frombuffer(stored[16 : 16 + 8 * count], "<u8").tolist()
    start = 16 + 8 * count
    parts = [stored[start + sum(sizes[:n]) : start + sum(sizes[: n + 1])] for n in range(count)]
    parts[1] = ops.arithmetic_encode(bytes(64 << 20), model="static", dtype="bytes")
    index = np.array([count, *map(len, parts)], "<u8").tobytes()
    (bundle / f"{SHARD}.mfa").write_bytes(stored[:8] + index + b"".join(parts))


def link(make: Callable[[Path, Path], object]) -> Callable[[Path], None]:
    def replace(bundle: Path) -> None:
        outside = bundle.parent / f"{bundle.name}-outside"
        shutil.copy(bundle / "samples.jsonl", outside)
        (bundle / "samples.jsonl").unlink()
        make(outside, bundle / "samples.jsonl")

    return replace


def many_sites(value: dict[str, Any]) -> None:
    value["sites"] = [{**value["sites"][0], "name": f"s{number}"} for number in range(100_000)]


def many_files(value: dict[str, Any]) -> None:
    value["files"].update({f"activations/{n:06d}.safetensors": value["files"][SHARD] for n in range(100_000)})


PLAIN: dict[str, Callable[[Path], None]] = {
    "a file name that leaves the bundle": manifest(lambda v: v["files"].update({"../x": v["files"][SHARD]})),
    "a site's file that leaves the bundle": manifest(lambda v: v["sites"][0].update(file="../../x.safetensors")),
    "a symbolic link": link(lambda outside, inside: inside.symlink_to(outside)),
    "a hard link": link(os.link),
    "NUL in a file name": manifest(lambda v: v["files"].update({"a\0": v["files"][SHARD]})),
    "NUL in a site name": manifest(lambda v: v["sites"][0].update(name="a\0")),
    "a right-to-left override in a site name": manifest(lambda v: v["sites"][0].update(name="L0\u202emlp")),
    "sites that look the same": manifest(
        lambda v: (v["sites"][0].update(name="caf\u00e9"), v["sites"][1].update(name="cafe\u0301"))
    ),
    "a header of 100,000 entries": lambda bundle: seal(bundle, SHARD, header_of(100_000)),
    "a header of 65,000 entries": lambda bundle: seal(bundle, SHARD, header_of(65_000)),
    "a header that claims 2^63 bytes": lambda bundle: seal(bundle, SHARD, b"\xff" * 7 + b"\x7f" + b"{}"),
    "a manifest of 100,000 sites": manifest(many_sites),
    "a manifest of 100,000 files": manifest(many_files),
    "a declared size of 1 TiB": manifest(lambda v: v["files"][SHARD].update(bytes=1 << 40)),
    "a tensor that claims more than the file": lambda bundle: seal(bundle, SHARD, header_of(1, 1 << 40)),
    "2^40 samples": manifest(lambda v: v.update(samples=1 << 40)),
    "JSON 100,000 deep": lambda bundle: (bundle / "manifest.json").write_text("[" * 100_000) and None,
    "a sample 100,000 deep": lambda bundle: seal(bundle, "samples.jsonl", b"[" * 100_000 + b"\n"),
}
CODED: dict[str, Callable[[Path], None]] = {
    "a section that unpacks to 64 MiB": bomb,
    "a coded file that claims 64 TiB": manifest(lambda v: v["files"][SHARD].update(bytes=1 << 46)),
}


def hostile(root: Path) -> list[dict[str, Any]]:
    rows = []
    for golden, cases in (("golden", PLAIN), ("golden-arithmetic", CODED)):
        load_bundle(GOLDEN / golden)  # what the first call loads is not the refusal's
        for name, make in cases.items():
            bundle = Path(shutil.copytree(GOLDEN / golden, root / f"hostile-{len(rows)}-{golden}"))
            make(bundle)
            before = peak()
            seconds = []
            for _ in range(3):
                started = time.perf_counter()
                refusal = refused(bundle)
                seconds.append(time.perf_counter() - started)
            row = {"case": name, "refused_as": refusal, "seconds": min(seconds), "extra_memory_bytes": peak() - before}
            rows.append(row)
    return rows


def refused(bundle: Path) -> str | None:
    try:
        load_bundle(bundle)
    except ModelForensicsError as error:
        return type(error).__name__
    return None


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="damage-") as temporary:
        refusals = hostile(Path(temporary))
        damaged = [damage(name, Path(temporary)) for name in ("golden", "golden-arithmetic")]
    for row in [*refusals, *damaged]:
        print(json.dumps(row))
    if given.output:
        given.output.write_text(json.dumps({"hostile": refusals, "damage": damaged}, indent=1) + "\n")
    held = all(
        row["wrong"] + row["crashes"] == 0
        and row["longest_seconds"] <= MOST_SECONDS
        and row["extra_memory_bytes"] <= MOST_MEMORY
        for row in damaged
    ) and all(row["refused_as"] and row["seconds"] <= REFUSED_WITHIN for row in refusals)
    print("held" if held else "NOT held")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
