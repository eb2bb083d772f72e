"""The shipped incident, and one full analysis of it, for every test of the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model_forensics.cli.main import main
from model_forensics.demo import data_directory

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs a command in this process; stdout and stderr are kept apart."""
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


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
