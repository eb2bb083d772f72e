"""The shipped incident, and one full analysis of it, for every test of the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model_forensics.cli.main import main
from model_forensics.demo import data_directory
from tests import interrupts

Run = Callable[..., Result]
EachMoment = Callable[[Callable[[int], Sequence[object]], Callable[[int], None]], int]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs a command in this process; stdout and stderr are kept apart."""
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def each_moment(run: Run) -> EachMoment:
    """`interrupts.each_moment` of a command, whose arguments `prepare` gives."""

    def of_command(prepare: Callable[[int], Sequence[object]], check: Callable[[int], None]) -> int:
        return interrupts.each_moment(lambda moment: partial(_interrupted, run, prepare(moment)), check)

    return of_command


def _interrupted(run: Run, arguments: Sequence[object]) -> bool:
    done = run(*arguments)
    assert done.exit_code in (0, 130), done.output
    assert "Traceback" not in done.stderr
    assert ("interrupted" in done.stderr) is (done.exit_code == 130)
    return done.exit_code == 130


@pytest.fixture(scope="session")
def data() -> Iterator[Path]:
    """`reference`, `model`, `incident` and `benign`, to be read only."""
    with data_directory() as directory:
        yield directory


@pytest.fixture
def case(data: Path, tmp_path: Path) -> Path:
    """A copy of the data, to be damaged."""
    shutil.copytree(data, tmp_path / "case")
    return tmp_path / "case"


@pytest.fixture(scope="session")
def analyzed(run: Run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The results file of the full analysis, and what the command printed."""
    results = tmp_path_factory.mktemp("analyzed") / "results.json"
    done = run("analyze", data / "incident", "--baseline", data / "benign", "--output", results)
    assert done.exit_code == 0, done.output
    return results, done


@pytest.fixture(scope="session")
def fitted(run: Run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline fitted from the benign recordings."""
    directory = tmp_path_factory.mktemp("fitted") / "baseline"
    done = run("build-baseline", data / "benign", "--output", directory)
    assert done.exit_code == 0, done.output
    return directory


@pytest.fixture(scope="session")
def edit_manifest() -> Callable[[Path, Callable[[dict], object]], None]:
    """Changes a bundle's manifest and lists its files' present sizes and digests, so that only the change is wrong."""

    def edit(bundle: Path, change: Callable[[dict], object]) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        change(manifest)
        for name in manifest["files"]:
            content = (bundle / name).read_bytes()
            manifest["files"][name] = {
                "sha256": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "bytes": len(content),
            }
        (bundle / "manifest.json").write_text(json.dumps(manifest))

    return edit
