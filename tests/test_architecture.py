"""The arrows of docs/architecture.md: who may import whom, and what loads when."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import model_forensics
from model_forensics.cli.main import COMMANDS

PACKAGE = Path(model_forensics.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LEAVES = {"errors", "failure", "types", "files", "config", "logs", "spans", "processes"}
WIRING = {"pipeline", "health", "rekey", "selftest"}
EVERYTHING = {"ops", "models", "bundle", "record", "cf", "cca", "export", "diff", "report", "batch", "store", "profile"}
# What each part may import, besides itself and the package's own `__init__`.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "failure": {"errors"},
    "files": {"errors"},
    "types": {"errors", "failure"},
    "config": {"errors", "files"},
    "spans": set(),
    "logs": {"errors", "spans"},
    "ops": {*LEAVES},
    "models": {*LEAVES},
    "bundle": {*LEAVES, "ops"},
    "record": {*LEAVES, "models", "bundle"},
    "cf": {*LEAVES, "ops"},
    "cca": {*LEAVES, "models", "ops"},
    "export": {*LEAVES, "models"},
    "diff": {*LEAVES},
    "report": {*LEAVES},
    "batch": {*LEAVES, "bundle", "report"},
    "store": {*LEAVES},
    "profile": {*LEAVES},
    "processes": set(),
    **{part: {*LEAVES, *EVERYTHING, *WIRING} for part in WIRING},
    "selftest": {*LEAVES, *EVERYTHING, *WIRING, "demo"},
    "demo": {*LEAVES, *EVERYTHING, *WIRING},
    "cli": {*LEAVES, *EVERYTHING, *WIRING, "demo"},
    "": {*EVERYTHING, *WIRING, *LEAVES},  # the package's `__init__`: public names, loaded on first use
    "_core": set(),
}
NATIVE = {"_core", "_core_cuda", "kernels"}


def part_of(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of what a module imports anywhere in it; `from package import name` gives `package.name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where an arrow leads"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(file: Path) -> set[str]:
    names = (name.split(".") for name in imported(ast.parse(file.read_text())))
    return {name[1] for name in names if name[0] == "model_forensics" and len(name) > 1}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(file):
    part = part_of(file)
    assert part in ARROWS, f"{part} has no place in docs/architecture.md"
    native = NATIVE if part == "ops" else set()
    outside = parts_imported(file) - ARROWS[part] - {part} - native
    assert not outside, f"{part} may not import {sorted(outside)}"


def test_every_part_is_on_the_map():
    page = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text()
    layers = page.split("## Layers")[1].split("```")[1]
    for part in ARROWS:
        assert part in {"", "_core"} or part in layers, f"{part} is missing from docs/architecture.md"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_that_can_run_code_from_a_file(file):
    source = file.read_text()
    tree = ast.parse(source)
    top = {name.split(".")[0] for name in imported(tree)}
    assert not top & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if ast.unparse(call.func) in {"torch.load", "eval", "exec"}]
    keywords = [keyword for call in calls for keyword in call.keywords]
    for keyword in keywords:
        if isinstance(keyword.value, ast.Constant):
            assert not (keyword.arg in {"trust_remote_code", "allow_pickle"} and keyword.value.value)
    assert '"trust_remote_code": True' not in source
    for node in ast.walk(tree):  # the switch is off unless the operator turns it on
        if isinstance(node, ast.FunctionDef):
            for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                if argument.arg == "trust_remote_code":
                    assert isinstance(default, ast.Constant)
                    assert default.value is False


def loaded_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint('modules:', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.rsplit("modules:", 1)[1].split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_after("import model_forensics")
    assert not loaded & {"torch", "pydantic", "transformers", "numba", "scipy", "rich", "click"}


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_loads_no_torch(command):
    arguments = [*command, "--help"]
    code = f"from model_forensics.cli.main import main\nmain({arguments!r}, standalone_mode=False)"
    assert not loaded_after(code) & {"torch", "transformers", "numba", "pydantic", "scipy"}


def test_reading_and_writing_bundles_loads_no_torch():
    assert "torch" not in loaded_after("import model_forensics as m\nm.BundleWriter, m.load_bundle, m.Failure")


def test_judging_a_recording_loads_no_torch():
    assert "torch" not in loaded_after("import model_forensics as m\nm.Baseline, m.RCAPipeline")
