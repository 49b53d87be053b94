# Two commands do everything on a fresh machine with Python 3.10+ (venv) and make:
#   make demo   environment, install, and the main job on real models
#   make test   everything that must hold: lint, types, tests, notebooks, README

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint types unit census oracle oracle-long fuzz trainers planted planted-report equality-report ray bench coverage-report budget-reports renames notebooks clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed ## scan, budget, check and export real models, pilot a small one; no network needed
	@BIN=$(BIN) sh tests/demo.sh

test: lint types unit census oracle fuzz trainers planted ray ## everything that must hold

lint: $(VENV)/.installed-dev ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## static types, strict
	$(BIN)/mypy

unit: $(VENV)/.installed-dev ## tests, notebooks and README blocks
	$(BIN)/python -m pytest -n $(JOBS) -m "not census and not oracle and not fuzz and not bench and not trainers and not planted and not ray"

census: $(VENV)/.installed-dev ## scan every model type of the installed transformers
	$(BIN)/python -m pytest -n $(JOBS) -m census

oracle: $(VENV)/.installed-dev ## compare with what the real PEFT injects
	$(BIN)/python -m pytest -n $(JOBS) -m oracle

oracle-long: $(VENV)/.installed-dev ## the same with ten times as many cases
	ORACLE_CASES=70 $(BIN)/python -m pytest -n $(JOBS) -m oracle

fuzz: $(VENV)/.installed-dev ## long property runs over broken input
	$(BIN)/python -m pytest -n $(JOBS) -m fuzz

trainers: $(VENV)/.installed-dev ## read exports with the trainers' own code (71 MB of wheels, no GPU)
	rm -rf .trainers  # pip leaves what an older list put there
	$(PIP) --no-deps --target .trainers --requirement tests/trainers.txt
	$(PIP) --no-deps --target .trainers/apart --requirement tests/trainers_torchtune.txt
	LORA_PROBE_TRAINERS=1 PYTHONPATH=.trainers:.trainers/apart $(BIN)/python -m pytest -m trainers

planted: $(VENV)/.installed-dev ## pilots that must find a planted truth, and none where there is none (uses two cores itself)
	$(BIN)/python -m pytest -m planted

planted-report: $(VENV)/.installed-dev ## rewrite reports/planted_truth.md
	$(BIN)/python -m tests.planted.report

equality-report: $(VENV)/.installed-dev ## rewrite reports/equality.md
	$(BIN)/python -m tests.equality.report

ray: $(VENV)/.installed-dev ## pilots on a local Ray cluster, with a worker killed midway
	$(BIN)/python -m pytest -m ray

bench: $(VENV)/.installed-dev ## timings, side by side, into reports/benchmarks.md and pilot_benchmarks.md
	$(BIN)/python -m tests.benchmarks.report

coverage-report: $(VENV)/.installed-dev ## rewrite reports/coverage.md
	$(BIN)/python -m tests.census.report

budget-reports: $(VENV)/.installed-dev ## rewrite the sample pages in reports/budgets
	$(BIN)/python -m tests.budget_samples

renames: $(VENV)/.installed-dev ## rewrite what transformers 5 renamed, for the checks
	$(BIN)/python -m tests.check_renames

notebooks: $(VENV)/.installed-dev ## execute the notebooks in place
	$(BIN)/python -m tests.notebooks

clean: ## remove the environment and caches
	rm -rf $(VENV) .trainers .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
