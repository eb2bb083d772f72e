"""Damaged files: a named error or the correct content, at once and in little memory.

    python ci/limits/damage.py [--places 4000] [--output FILE.json]

Of a small bundle (plain, compressed, encrypted), a saved baseline and a results file, every byte of every file is
changed in three ways, and every file is cut at every length; of files of more bytes than `--places`, so many places
spread evenly. Everything that a reader can ask for is then read; bundles with and without digests. The reading is done
in other processes, so that a crash or a hang is seen and counted, and the rest goes on.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from model_forensics import RCAPipeline
from model_forensics.bundle import Bundle, BundleWriter, load_bundle, load_bundles
from model_forensics.cf import Baseline, fit_baseline
from model_forensics.config import ForensicsConfig
from model_forensics.errors import ModelForensicsError
from model_forensics.files import KEY_VARIABLE, encryption_key
from model_forensics.report import read_json_result
from model_forensics.types import Sparse
from tests.bundle.golden_writer import write_golden

PATTERNS: Final = (0x01, 0x80, 0xFF)
MOST_SECONDS, MOST_MEMORY = 1.0, 64 << 20
HANGS_AFTER: Final = 60.0
"""Seconds by the wall after which a case counts as hanging, whatever else the machine does."""
OUTCOMES: Final = ("named_errors", "correct", "other_valid", "wrong", "crashes", "hangs")


@dataclass(frozen=True)
class Subject:
    """What is damaged.

    Attributes:
        name: as the page shows it.
        root: the file or directory.
        read: gives a digest of all that can be read.
        undetectable: names of files in which another valid content cannot be told from the right one.
    """

    name: str
    root: Path
    read: Callable[[Path], str]
    undetectable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One damage of one file: a byte changed, or everything from it on cut off."""

    file: Path
    place: int
    pattern: int | None

    def of(self, data: bytes) -> bytes:
        if self.pattern is None:
            return data[: self.place]
        return data[: self.place] + bytes([data[self.place] ^ self.pattern]) + data[self.place + 1 :]


class Tally:
    """Counts that a process and the one that started it share; the process may die at any moment."""

    def __init__(self) -> None:
        self._numbers = np.frombuffer(mmap.mmap(-1, 4096), np.int64)
        self.counts = self._numbers[: len(OUTCOMES)]
        self._rest = self._numbers[len(OUTCOMES) :]

    done = property(lambda self: int(self._rest[0]), lambda self, value: self._rest.__setitem__(0, value))
    """Cases that are finished."""
    longest = property(lambda self: int(self._rest[1]), lambda self, value: self._rest.__setitem__(1, value))
    """Processor nanoseconds of the slowest case."""
    memory = property(lambda self: int(self._rest[2]), lambda self, value: self._rest.__setitem__(2, value))
    """Bytes that the highest of all processes took over what it took before its first case."""

    def add(self, outcome: str) -> None:
        self.counts[OUTCOMES.index(outcome)] += 1


def damage(subject: Subject, places: int) -> dict[str, Any]:
    cases, tally = cases_of(subject, places), Tally()
    expected = subject.read(subject.root)
    intact = {case.file: case.file.read_bytes() for case in cases}
    while tally.done < len(cases):
        before = tally.done
        child = os.fork()
        if not child:
            try:
                read_damaged(subject, cases, intact, expected, tally)
            finally:
                os._exit(0 if tally.done == len(cases) else 1)
        ended = wait_for(child, tally)
        if tally.done < len(cases):
            case = cases[tally.done]
            case.file.write_bytes(intact[case.file])
            print(f"{subject.name}: {ended} at {case}", flush=True)
            tally.add("hangs" if ended == "hung" else "crashes")
            tally.done += 1
        assert tally.done > before, "every process gets further"
    counts = dict(zip(OUTCOMES, tally.counts.tolist(), strict=True))
    return {"subject": subject.name, "cases": len(cases), **counts, "longest_seconds": tally.longest / 1e9,
            "extra_memory_bytes": tally.memory}  # fmt: skip


def cases_of(subject: Subject, places: int) -> list[Case]:
    root = subject.root
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    cases = []
    for file in files:
        size = file.stat().st_size
        for place in np.unique(np.linspace(0, size - 1, min(size, places)).astype(int)).tolist():
            cases += [Case(file, place, pattern) for pattern in (*PATTERNS, None)]
    return cases


def read_damaged(
    subject: Subject, cases: Sequence[Case], intact: Mapping[Path, bytes], expected: str, tally: Tally
) -> None:
    """All cases that are left; in a process of its own."""
    reset_peak()
    resident = peak()
    for number in range(tally.done, len(cases)):
        case = cases[number]
        data = intact[case.file]
        case.file.write_bytes(case.of(data))
        os.utime(case.file, ns=(number, number))  # a clock may stand still between two damages, and caches go by it
        started = time.process_time_ns()
        try:
            outcome = read_once(subject, case, expected)
        finally:
            tally.longest = max(tally.longest, time.process_time_ns() - started)
            tally.memory = max(tally.memory, peak() - resident)
            case.file.write_bytes(data)
        tally.add(outcome)
        tally.done = number + 1


def read_once(subject: Subject, case: Case, expected: str) -> str:
    try:
        right = subject.read(subject.root) == expected
    except ModelForensicsError:
        return "named_errors"
    except Exception as problem:  # noqa: BLE001 - the unforeseen ones are what is looked for
        print(f"{subject.name}: {case}: {problem!r}", flush=True)
        return "crashes"
    if right:
        return "correct"
    return "other_valid" if {case.file.name, "*"} & set(subject.undetectable) else "wrong"


def wait_for(child: int, tally: Tally) -> str:
    """How the process ended: in words, "hung" where it had to be killed."""
    seen, since = tally.done, time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return f"ended with {os.waitstatus_to_exitcode(status)}"
        if tally.done != seen:
            seen, since = tally.done, time.monotonic()
        elif time.monotonic() - since > HANGS_AFTER:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return "hung"
        time.sleep(0.05)


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes of resident memory at their highest since `reset_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


# --- what is damaged, and what is read of it ----------------------------------------------------------


def everything(bundle: Bundle) -> str:
    """Digest of all that a bundle says."""
    digest = hashlib.sha256(json.dumps(bundle.describe() | {"path": None}).encode())
    digest.update(str(bundle.manifest.failure).encode())

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


def subjects(work: Path) -> list[Subject]:
    found = []
    for name, codec in (("plain", "none"), ("compressed", "arithmetic")):
        write_golden(work / name, codec=codec)  # type: ignore[arg-type]
        found += of_bundle(f"bundle, {name}", work / name, ("manifest.json",))
    os.environ[KEY_VARIABLE] = base64.b64encode(os.urandom(32)).decode()
    write_golden(work / "encrypted")
    found += of_bundle("bundle, encrypted", work / "encrypted", ())
    del os.environ[KEY_VARIABLE]
    return [*found, baseline(work), results(work)]


def of_bundle(name: str, root: Path, undetectable: tuple[str, ...]) -> list[Subject]:
    key = encryption_key()
    return [
        Subject(name, root, lambda path: everything(load_bundle(path, key=key)), undetectable),
        Subject(f"{name}, without digests", root, lambda path: everything(load_bundle(path, verify=False, key=key)),
                ("*",) if key is None else ()),
    ]  # fmt: skip


def baseline(work: Path) -> Subject:
    random = np.random.default_rng(0)
    for number in range(6):
        with BundleWriter(work / "benign" / str(number), kind="benign") as writer:
            writer.add_sample(activations={"L0.mlp": random.standard_normal((3, 4), np.float32)}, group=str(number))
    fit_baseline(load_bundles(work / "benign"), ForensicsConfig()).save(work / "baseline")
    return Subject("baseline", work / "baseline", lambda path: Baseline.load(path).baseline_id)


def results(work: Path) -> Subject:
    settings = {"output_dir": work / "out", "cache": {"enabled": False}, "modules": {"cca": {"enabled": False}}}
    result = RCAPipeline(settings).analyze_incident(work / "plain")
    assert result.export_path is not None
    return Subject("results file", Path(result.export_path), lambda path: str(read_json_result(path)), ("*",))


def held(row: dict[str, Any]) -> bool:
    return (
        row["wrong"] + row["crashes"] + row["hangs"] == 0
        and row["longest_seconds"] <= MOST_SECONDS
        and row["extra_memory_bytes"] <= MOST_MEMORY
    )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--places", type=int, default=4000)
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="damage-") as temporary:
        for subject in subjects(Path(temporary)):
            rows.append(damage(subject, given.places))
            print(json.dumps(rows[-1]), flush=True)
    if given.output:
        given.output.write_text(json.dumps({"rows": rows, "places": given.places}, indent=1) + "\n")
    print("held" if all(map(held, rows)) else "NOT held")
    return 0 if all(map(held, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
