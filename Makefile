PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCRIPTS := $(shell grep -lrs '^\#!/usr/bin/env python3' tools)
FULLY_COVERED := peernet/wire/*,peernet/trust/*policy.py,peernet/peers/ip_networks.py,peernet/channel/handlers.py
COVERED := 95
WORKERS ?= 2
# Tests start processes by the hundred. None of them shall compile all modules again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test coverage stress fuzz lint types proto proto-check bench bench-instructions chaos docs dist clean

help: ## List what make can do
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do printf '%-20s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.test ## Run three nodes that meet, talk, refuse and trust one another
	$(BIN)/python tools/demo

test: $(VENV)/.test ## Run the tests
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m 'not stress'

coverage: $(VENV)/.test ## Require branch coverage by the tests: full where decisions are made, COVERED percent in all
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m 'not stress and not processes' --cov --cov-report=
	$(BIN)/coverage report --include='$(FULLY_COVERED)' --fail-under=100
	$(BIN)/coverage report --fail-under=$(COVERED)

stress: $(VENV)/.test ## Run the tests that measure attacked and loaded nodes, which need the machine for themselves
	$(BIN)/pytest -m stress

fuzz: $(VENV)/.fuzz ## Feed the wire code and a node with what no honest peer sends, for FUZZ_SECONDS
	$(BIN)/python tools/fuzz

lint: $(VENV)/.dev ## Check style, formatting and the layers
	$(BIN)/ruff check . $(SCRIPTS)
	$(BIN)/ruff format --check . $(SCRIPTS)
	$(BIN)/python tools/check_layers

types: $(VENV)/.dev ## Check the types of the package, the tests, the tools, and the programs in the documents
	$(BIN)/mypy
	$(BIN)/mypy --scripts-are-modules $(SCRIPTS)
	$(BIN)/python tools/check_documents

proto: ## Generate peernet/v1 from proto/
	$(PYTHON) tools/gen_proto

proto-check: $(VENV)/.dev ## Check generated code, style and compatibility of proto/
	$(PYTHON) tools/gen_proto --check
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/peernet-v1.binpb

bench: $(VENV)/.bench ## Measure speed and size beside other libraries
	$(BIN)/python -m tools.bench

bench-instructions: $(VENV)/.test ## Count instructions per message and hold them within limits; needs valgrind
	$(BIN)/python -m tools.bench.instructions --enforce

chaos: $(VENV)/.test ## Kill, stop and cut peers, and measure what that does
	$(BIN)/python -m tools.chaos

docs: $(VENV)/.docs ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

dist: $(VENV)/.dev ## Build the source distribution and the wheel into dist/
	$(BIN)/python -m build

clean: ## Remove everything that make has made
	rm -rf $(VENV) .venv-proto build dist docs/_build *.egg-info .coverage* .fuzz bench-results.json chaos-results.json .hypothesis .*_cache
	find peernet tests tools -name __pycache__ -prune -exec rm -rf {} +

# .venv/.test is the stamp of the extra "test" in the environment, and so on.
$(VENV)/.%: setup.cfg pyproject.toml peernet/_version.py | $(BIN)/python
	@echo "Installing peernet with the extra '$*' into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
