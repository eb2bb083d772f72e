"""`python -m bench.zoo make|run|score|fit|gallery|floor`; see docs/zoo.md."""

from __future__ import annotations

import argparse
import fnmatch
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from bench.zoo import work
from bench.zoo.plan import SPLITS, Entry, entries

ROOT = Path("zoo")
WORK: dict[str, Callable[[Path, Entry], str]] = {"make": work.make, "run": work.run}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.zoo", description=__doc__)
    parser.add_argument("what", choices=("make", "run", "score", "fit", "gallery", "floor"))
    parser.add_argument("--root", type=Path, default=ROOT, help="where the incidents are (default: zoo)")
    parser.add_argument("--only", default="*", help="incidents whose name fits this pattern, such as 'flipped_bits-*'")
    parser.add_argument("--split", choices=SPLITS, help="incidents of this split alone")
    parser.add_argument(
        "--seeds",
        type=_seed,
        nargs="+",
        metavar="SEED",
        help="seeds of your own, in networks that are trained for them",
    )
    parser.add_argument(
        "--write",
        type=Path,
        nargs="+",
        default=[],
        metavar="PAGE",
        help="with score: put the tables between the markers of these pages",
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="with score: a copy of score.json")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    planned = list(entries() if given.seeds is None else entries(sorted(set(given.seeds))))
    chosen = [one for one in planned if fnmatch.fnmatch(one.name, given.only) and given.split in (None, one.split)]
    if not chosen:
        parser.error("no incident fits --only, --split and --seeds together")
    if given.what == "score":
        from bench.zoo.score import score  # noqa: PLC0415

        return score(given.root, chosen, given.write, given.save, len(planned))
    if given.what == "fit":
        from bench.zoo.fitting import told  # noqa: PLC0415

        print(told(given.root / "score.json"))
        return 0
    if given.what == "gallery":
        from bench.zoo.gallery import write  # noqa: PLC0415

        print("\n".join(write(given.root)))
        return 0
    if given.what == "floor":
        return floor(given.processes)
    return in_processes(given.what, given.root, chosen, given.processes)


def _seed(text: str) -> int:
    seed = int(text)
    if seed < 0:
        raise argparse.ArgumentTypeError(f"{seed} is below 0")
    return seed


def floor(processes: int) -> int:
    """1 where the subset's accuracy is below its floor, or something failed; its score is printed."""
    from bench.zoo.floor import complaints, subset  # noqa: PLC0415
    from bench.zoo.judged import judge  # noqa: PLC0415
    from bench.zoo.score import score  # noqa: PLC0415

    chosen = subset()
    with tempfile.TemporaryDirectory(prefix="zoo-") as directory:
        root = Path(directory)
        for step in ("make", "run"):
            if in_processes(step, root, chosen, processes):
                return 1
        score(root, chosen)
        said = list(complaints([judge(root, one) for one in chosen]))
    print("\n".join(["", *said]) if said else "\nnot below the floor")
    return 1 if said else 0


def in_processes(what: str, root: Path, chosen: Sequence[Entry], processes: int) -> int:
    """0 if all was done; what fails is told, and the rest goes on."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    failed = 0
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        if what == "make":
            networks = sorted({(one.network, one.training) for one in chosen})
            list(pool.map(partial(work.train, root), networks))
        jobs = [pool.submit(WORK[what], root, one) for one in chosen]
        for number, job in enumerate(as_completed(jobs), start=1):
            told = job.result()
            failed += told.startswith(work.FAILED)
            print(f"{number}/{len(chosen)} {told}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
