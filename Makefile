# `make demo` shows the main job, `make test` runs the whole suite; both set up .venv first where it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo proof test nightly fuzz chaos lint docs bench clean

help:
	@echo "make demo   extract flow from synthetic videos, and what only fusion in space and time can tell of them"
	@echo "make proof  the same in full: all controls, three seeds, leak tests; see docs/proof.md"
	@echo "make test   lint, types and the whole test suite"
	@echo "make nightly  a few steps of every preset at its own size, tens of minutes"
	@echo "make lint   ruff and mypy alone"
	@echo "make docs   write the generated pages of docs/ anew, and build site/"
	@echo "make bench  measure, see docs/benchmarks/"
	@echo "make fuzz   10,000 mutated videos a format, see docs/faults.md; FUZZ=\"--files N --formats A,B\""
	@echo "make chaos  random faults in a cluster for 30 minutes (make chaos MINUTES=5 SEED=1)"

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("flowprep needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; give another with make PYTHON=python3.x") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(STAMP)

demo: setup
	$(BIN)/python docs/demo.py

proof: setup
	$(BIN)/python benchmarks/proof.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A file of tests stays in one process. Small networks are slower on several threads than on one.
JOBS ?= 2

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

nightly: setup
	$(BIN)/python -m pytest -m nightly -s -v

docs: setup
	$(BIN)/python docs/generate.py
	PYTHONPATH=docs $(BIN)/zensical build --strict

bench: setup
	$(BIN)/python benchmarks/bench_stages.py
	$(BIN)/python benchmarks/bench_memory.py
	$(BIN)/python benchmarks/bench_read.py
	$(BIN)/python benchmarks/bench_loader.py
	$(BIN)/python benchmarks/bench_tvl1.py all
	$(BIN)/python benchmarks/bench_help.py

fuzz: setup
	PYTHONPATH=tests $(BIN)/python -m helpers.fuzz $(FUZZ)

MINUTES ?= 30
SEED ?= 0

chaos: setup
	$(BIN)/python benchmarks/chaos.py --minutes $(MINUTES) --seed $(SEED)

clean:
	rm -rf $(VENV) demo proof site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
