# `make demo` shows the main job, `make test` runs the whole suite; both set up .venv first where it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test lint docs bench chaos clean

help:
	@echo "make demo   extract flow from synthetic videos and show the result"
	@echo "make test   lint, types and the whole test suite"
	@echo "make lint   ruff and mypy alone"
	@echo "make docs   write the generated pages of docs/ anew"
	@echo "make bench  measure, see docs/benchmarks/"
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

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

docs: setup
	$(BIN)/python docs/generate.py

bench: setup
	$(BIN)/python benchmarks/bench_stages.py
	$(BIN)/python benchmarks/bench_memory.py
	$(BIN)/python benchmarks/bench_read.py
	$(BIN)/python benchmarks/bench_loader.py
	$(BIN)/python benchmarks/bench_tvl1.py all
	$(BIN)/python benchmarks/bench_help.py

MINUTES ?= 30
SEED ?= 0

chaos: setup
	$(BIN)/python benchmarks/chaos.py --minutes $(MINUTES) --seed $(SEED)

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
