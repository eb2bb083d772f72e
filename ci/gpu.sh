#!/usr/bin/env bash
# Tests and benchmarks that need a CUDA GPU, on a machine that has one. Downloads nothing: it uses the python3 (or $PYTHON)
# that is there, with torch, triton, numpy, numba, pytest, pybind11, scikit-build-core, cmake and ninja, and nvcc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"

"$python" - <<'CHECK'
import importlib.util, shutil, sys
modules = ("torch", "triton", "numpy", "numba", "scipy", "pytest", "pybind11", "scikit_build_core")
missing = [name for name in modules if importlib.util.find_spec(name) is None]
missing += [name for name in ("nvcc", "cmake", "ninja") if shutil.which(name) is None]
if missing:
    sys.exit(f"ci/gpu.sh needs {', '.join(missing)}; install them first, this script downloads nothing")
import torch
if not torch.cuda.is_available():
    sys.exit("ci/gpu.sh needs a CUDA GPU that torch can see")
CHECK

packages="$(mktemp -d)"
trap 'rm -rf "$packages"' EXIT
MODEL_FORENSICS_CUDA=ON "$python" -m pip install --quiet --no-index --no-build-isolation --no-deps --target "$packages" .
export PYTHONPATH="$packages"
tests=(tests/ops tests/kernels)
if "$python" -c "import pydantic, transformers"; then # what more than the operations needs
  tests+=(tests/models tests/record tests/cca tests/export tests/test_profile.py)
fi
"$python" -m pytest -m gpu -rs -p no:cacheprovider "${tests[@]}"
"$python" -m bench gpu "$@"
