# `make demo` shows the main job, `make test` runs the whole suite; both set up .venv first where it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test lint docs bench fuzz clean

help:
	@echo "make demo   extract flow from synthetic videos and show the result"
	@echo "make test   lint, types and the whole test suite"
	@echo "make lint   ruff and mypy alone"
	@echo "make docs   write the generated pages of docs/ anew"
	@echo "make bench  measure, see docs/benchmarks/"
	@echo "make fuzz   10,000 mutated videos a format, see docs/faults.md; FUZZ=\"--files N --formats A,B\""

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

fuzz: setup
	PYTHONPATH=tests $(BIN)/python -m helpers.fuzz $(FUZZ)

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
