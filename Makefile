# Everything a person or CI runs. Set-up happens by itself, once, and again when what it depends on changes.
#
#   make demo     set up, and find the cause of the failure that ships with the package
#   make test     set up with the test extra, and run the whole suite      ARGS="-m 'not slow'" passes arguments to pytest,
#                                                                          PROCESSES=4 spreads the suite over so many
#   make lint     ruff and mypy
#   make bench    benchmarks, and the bars that they should reach          BENCH="run -k entropy" chooses which
#   make zoo      make the incidents with known causes, run the tool on all of them, and score it; goes on where it was
#   make zoo-floor  a part of them, in two minutes: fails where accuracy is below a floor
#   make sanitize C++ checks of the core under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
#   make fuzz     fuzz the decoders with libFuzzer                         FUZZ_SECONDS=30, FUZZ_CXX=clang++-19
#
# PYTHON=python3.12 chooses the interpreter of a new .venv. Which build of torch (CPU or CUDA) is installed follows pip's
# configured index; TORCH_INDEX=URL takes torch, and only torch, from another one.

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
PROCESSES ?= 2
BENCH ?= run
FUZZ_SECONDS ?= 30
FUZZ_CXX ?= $(firstword $(shell command -v clang++-19 clang++))

VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
CONSTRAINTS := ci/constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH := $(shell sed -n 's/^torch==/&/p' $(CONSTRAINTS))
TORCH_SOURCE := $(VENV)/.torch-index
SOURCES := pyproject.toml $(CONSTRAINTS) CMakeLists.txt $(shell find csrc cmake -type f ! -path '*/corpus/*')

# cmake and ninja come from the environment; nothing needs to be installed by hand but Python, make and a C++ compiler.
export PATH := $(BIN):$(PATH)
# What the caller put there could hide the environment's own packages.
unexport PYTHONPATH

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint bench zoo zoo-floor sanitize fuzz clean FORCE

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(MAKEFILE_LIST)

demo: $(VENV)/.ready-hf
	$(BIN)/model-forensics demo

test: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile $(ARGS)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready-bench
	$(BIN)/python -m bench $(BENCH)

# What could not be made or run is told by each step, and the score fails for it: the rest is scored first.
zoo: $(VENV)/.ready-bench
	-$(BIN)/python -m bench.zoo make
	-$(BIN)/python -m bench.zoo run
	$(BIN)/python -m bench.zoo score --write docs/zoo.md README.md --save bench/zoo/results.json

zoo-floor: $(VENV)/.ready-test
	$(BIN)/python -m bench.zoo floor

sanitize: $(VENV)/.ready-dev
	$(BIN)/cmake --preset asan
	$(BIN)/cmake --build --preset asan
	$(BIN)/ctest --preset asan
	$(BIN)/cmake --preset tsan
	$(BIN)/cmake --build --preset tsan
	$(BIN)/ctest --preset tsan

# What is found goes to build/fuzz/corpus; inputs worth keeping are copied to csrc/fuzz/corpus by hand.
fuzz: $(VENV)/.ready-dev
	@test -n "$(FUZZ_CXX)" || { echo "No clang++ was found, which libFuzzer comes with. Install clang and its runtime \
	(Debian, Ubuntu: apt-get install clang libclang-rt-dev), or use: make fuzz FUZZ_CXX=/path/to/clang++" >&2; exit 1; }
	$(BIN)/cmake --preset fuzz -DCMAKE_CXX_COMPILER="$(FUZZ_CXX)"
	$(BIN)/cmake --build --preset fuzz
	mkdir -p build/fuzz/corpus build/fuzz/crashes
	build/fuzz/arithmetic_fuzz build/fuzz/corpus csrc/fuzz/corpus -max_total_time=$(FUZZ_SECONDS) -max_len=4096 \
	  -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=128 -artifact_prefix=build/fuzz/crashes/ -print_final_stats=1

clean:
	rm -rf build dist $(VENV)/.ready-*

# An environment that is there and runs is kept, whoever made it; one whose interpreter is gone is made anew.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) or sys.version_info[:2] > (3, 13))' || \
	  { echo "Model Forensics needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is another. Use: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

# Torch is installed again when TORCH_INDEX names another index than last time; without TORCH_INDEX what is there stays.
# The file changes only then, so that only then the set-up below runs again (for what that build of torch needs).
$(TORCH_SOURCE): FORCE | $(BIN)/python
	@if [ -n "$(TORCH_INDEX)" ] && [ "$$(cat $@ 2>/dev/null)" != "$(TORCH_INDEX)" ]; then \
	  echo "Installing $(TORCH) from $(TORCH_INDEX)"; \
	  PIP_EXTRA_INDEX_URL="$(TORCH_INDEX)" $(PIP) install --no-deps --force-reinstall \
	    --index-url "$(TORCH_INDEX)" "$(TORCH)" && echo "$(TORCH_INDEX)" > $@; \
	elif [ ! -e $@ ]; then touch $@; fi

# Without build isolation, so that the build tools stay where an editable install finds them when it rebuilds.
$(VENV)/.ready-%: $(SOURCES) $(TORCH_SOURCE)
	@echo "Setting up .venv with the '$*' extra (the first time downloads torch and takes minutes)"
	@$(PIP) install -c $(CONSTRAINTS) scikit-build-core pybind11 cmake ninja
	@$(PIP) install -c $(CONSTRAINTS) --no-build-isolation -e ".[$*]"
	@touch $@
