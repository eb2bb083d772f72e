"""What is in the wheel, and that a machine without a compiler can install and use it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "CMakeLists.txt", "LICENSE", "README.md")
FOLDERS = ("cmake", "csrc", "kernels", "python", "tests", "bench")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "CMakeLists.txt").exists(), reason="needs the source tree"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, so that no build touches the checkout's."""
    for tool in ("scikit_build_core", "pybind11"):
        pytest.importorskip(tool, reason="building needs the build tools (make test installs them)")
    copy = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for name in (*FILES, *FOLDERS):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    return copy


def build_wheel(tree: Path, target: Path, **environment: str) -> tuple[zipfile.ZipFile, str]:
    """The wheel of `tree`, built in this environment, and what the build said."""
    shutil.rmtree(tree / "build", ignore_errors=True)  # a cached configuration would remember the compiler
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", str(target)]
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [*command, str(tree)],
        env={**os.environ, "PATH": scripts, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = target.glob("*.whl")
    return zipfile.ZipFile(wheel), done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    names = build_wheel(tree, tmp_path)[0].namelist()
    inside = {name.split("/")[0] for name in names}
    assert inside == {"model_forensics", next(name for name in inside if name.endswith(".dist-info"))}
    assert "model_forensics/kernels/__init__.py" in names
    assert any(name.startswith("model_forensics/_core.") and name.endswith((".so", ".pyd")) for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    package = ROOT / "python" / "model_forensics"
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so":
            assert f"model_forensics/{path.relative_to(package).as_posix()}" in names


def test_the_wheel_switched_off_has_no_core(tree: Path, tmp_path: Path) -> None:
    names = build_wheel(tree, tmp_path, MODEL_FORENSICS_CORE="OFF")[0].namelist()
    assert not any("_core." in name and not name.endswith(".pyi") for name in names)
    assert "model_forensics/ops/__init__.py" in names


def test_without_a_compiler_the_install_succeeds_with_a_warning_and_works_on_numba(tree: Path, tmp_path: Path) -> None:
    wheel, said = build_wheel(tree, tmp_path / "wheels", CC="/missing/cc", CXX="/missing/c++")
    assert "compiled core could not be built" in said
    site = tmp_path / "site"
    wheel.extractall(site)
    program = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Scikit' not in type(f).__name__]; "
        f"sys.path.insert(0, {str(site)!r}); "
        "import numpy, model_forensics; from model_forensics import ops; "
        f"assert model_forensics.__file__.startswith({str(site)!r}), model_forensics.__file__; "
        "bits = ops.entropy_windows(numpy.arange(256, dtype='u1')); "
        "print(bits[0], ops.chosen()['entropy_windows'], ops.backends()['histogram']['cpp'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("8.0 numba the compiled core is not built")
