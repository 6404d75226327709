# Everything runs in .venv, which is made when it is missing or when what it is made from has changed.
PYTHON ?= python3
BIN := .venv/bin
MADE_FROM := constraints.txt pyproject.toml

.PHONY: demo test lint format benchmark clean

# A real mixture taken apart: stems, residual, report.json and spectrograms.png in demo-out/.
demo: .venv/.installed
	$(BIN)/sourceprior demo examples/demo -o demo-out

# A process for each core and a thread for each process: most of a test is Python, or waiting for another process.
test: .venv/.installed-all
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: .venv/.installed-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed-all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Seconds and memory of a separation on this machine; see benchmarks/.
benchmark: .venv/.installed
	$(BIN)/python benchmarks/speed.py

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/.installed: $(MADE_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.installed-all: $(MADE_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[eval,train,scale,dev]"
	touch .venv/.installed $@

clean:
	rm -rf .venv demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
