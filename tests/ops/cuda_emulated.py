"""Builds `_core_cuda` as plain C++ over the emulation of CUDA, so that `ops/_cuda.py` runs where there is no GPU."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
COMPILERS = ("g++", "c++", "clang++")


def compiler() -> str | None:
    return next((name for name in COMPILERS if shutil.which(name)), None)


def _module_file(folder: Path) -> Path:
    return folder / f"_core_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"


def build(folder: Path) -> None:
    """Compile the emulated extension into `folder`."""
    import pybind11

    sources = [*sorted((ROOT / "csrc/cuda").glob("*.c[up]*")), ROOT / "csrc/bindings/cuda_module.cpp"]
    includes = [
        ROOT / "csrc/cuda",
        ROOT / "csrc/tests/cuda_emulation",
        pybind11.get_include(),
        sysconfig.get_path("include"),
    ]
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fvisibility=hidden", "-w"]
    define = '-DMODEL_FORENSICS_CUDA_COMPILER="emulated"'
    name = compiler()
    assert name is not None
    command = [name, *flags, define, *(f"-I{path}" for path in includes), "-x", "c++", *map(str, sources)]
    subprocess.run([*command, "-o", str(_module_file(folder))], check=True)


def load(folder: Path) -> ModuleType:
    """The extension that `build` made, under a name of its own: pybind11 gives a name's first module out again."""
    spec = importlib.util.spec_from_file_location("cuda_emulation._core_cuda", _module_file(folder))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
