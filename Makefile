# Two commands do all the set-up on a fresh machine: make demo, make test.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow chaos bench kaggle-image lint types check docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# The environment is made anew only when what it is made from changes.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 demo"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group dev --group docs -e '.[local]'
	@touch $(STAMP)

install: $(STAMP)  ## make the environment in .venv

demo: $(STAMP)  ## the whole loop offline, from drawn X-rays to a scored submission
	$(BIN)/harness demo

test: $(STAMP)  ## every test but the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadscope

chaos: $(STAMP)  ## kills, faults and races against the loop: make chaos SEEDS=1000
	$(BIN)/python -m tests.chaos.campaign --regressions --seeds $(or $(SEEDS),50)

test-slow: $(STAMP)  ## the slow tests too
	$(BIN)/python -m pytest -m "slow or not slow"

bench: $(STAMP)  ## speed beside the peers: make bench ARGS="--quick --only features --json FILE"
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m pip install --quiet --no-deps "grad-cam>=1.5"
	$(BIN)/python -m benchmarks $(ARGS)

kaggle-image: $(STAMP)  ## every script in the library versions of Kaggle's image
	$(BIN)/python benchmarks/kaggle_image.py

lint: $(STAMP)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy
	$(BIN)/mypy

check: lint types test  ## everything CI runs

docs: $(STAMP)  ## the documentation as a site, in docs/_build/html
	$(BIN)/python docs/commands.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

clean:  ## remove the environment and caches, keep ledger and submissions
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
