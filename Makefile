# Two commands are enough to begin: `make demo` and `make test`. Each sets up everything it needs.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
STAMP := .venv/.installed
EXTRAS := hf,data,tokenizers,vision,sweep,export,dev

# uv does not read pip's settings: hand over what the environment says of ready wheels (pip separates by space, uv by
# comma), of another index, and of certificates.
comma := ,
empty :=
space := $(empty) $(empty)
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(PIP_FIND_LINKS)))
endif
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif

# Each worker is a process with small matrices: more threads than one would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help setup demo test test-fast test-faults fuzz quality lint types dead-code dependencies coverage mutants lock lock-check bench bench-quick bench-docs reference clean

help: ## show these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with the command mlp in it
	@echo "Ready. Next: make demo, which trains a first model; or: source $(BIN)/activate, and then mlp --help"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) tools/check_python.py
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv && $(PYTHON) -m venv .venv; }
	@echo "Installing into .venv; the first time this downloads PyTorch."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --build-constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP) ## prepare, train and sample a small model on the sources of Python itself: about three minutes
	$(BIN)/mlp run python_stdlib

test: $(STAMP) ## pass all tests, and note which lines they reach
	@mkdir -p .cache/coverage
	$(PYTEST) --cov --cov-report=

test-fast: $(STAMP) ## the tests that take less than ten seconds each, without those of whole commands
	$(PYTEST) -m "not slow and not long" tests/unit tests/property tests/contracts tests/architecture

test-faults: $(STAMP) ## every fault on purpose: kills, full disks, damage, signals; prints how many: ten minutes
	$(PYTEST) -m "long or not long" tests/faults

fuzz: $(STAMP) ## hostile files for every reader; prints how many were tried (SECONDS=600: for ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.fuzz --seconds $(or $(SECONDS),60)

quality: lint types dead-code dependencies lock-check test ## the full gate: everything that must hold, and branch coverage of at least 95 %
	$(BIN)/coverage report --fail-under=95

lint: $(STAMP) ## style and layout of the code
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP) ## strict types of src/
	$(BIN)/basedpyright

dead-code: $(STAMP) ## settings and functions that nothing uses
	$(BIN)/python tools/dead_code.py

dependencies: $(STAMP) ## imports against declared dependencies
	$(BIN)/deptry src

coverage: $(STAMP) ## which lines the last `make test` did not reach
	$(BIN)/coverage report

mutants: $(STAMP) ## break the pure modules on purpose: tests must notice (MUTANTS=0: every mutant, hours)
	$(BIN)/python tools/mutants.py --sample $(or $(MUTANTS),60)

# Ready wheels of this machine must not decide what everybody installs. An open request would take the newest CUDA build.
lock: $(STAMP) ## renew constraints.txt (UPGRADE=1: with the newest versions)
	echo 'torch==2.13.0' | env -u UV_FIND_LINKS -u PIP_FIND_LINKS $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--all-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) --output-file constraints.txt pyproject.toml -

bench: $(STAMP) ## every table of docs/performance.md, measured here: half an hour on an idle machine
	$(BIN)/python benchmarks/run_all.py

bench-quick: $(STAMP) ## the same on small shapes: 3 minutes
	$(BIN)/python benchmarks/run_all.py --quick

bench-docs: $(STAMP) ## put the tables of the newest full bench into README.md and docs/performance.md
	$(BIN)/python benchmarks/write_docs.py

reference: $(STAMP) ## renew docs/configuration.md and docs/reference/ after a change of settings
	$(BIN)/python -m ml_playground.configuration.reference docs/configuration.md

lock-check: $(STAMP) ## constraints.txt satisfies pyproject.toml, and names no host and no path
	$(BIN)/python tools/check_lock.py

clean: ## remove what was installed and cached; runs/ and data/ stay
	rm -rf .venv .cache dist
