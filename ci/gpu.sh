#!/usr/bin/env bash
# The tests that need a CUDA GPU, on a machine that has one. Choose the build of torch with TORCH_INDEX.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make test ARGS="-m gpu -rs"
