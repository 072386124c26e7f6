# Holdfast: one word per job. `make help` lists them.
# Everything is installed into .venv; nothing outside this folder, ~/.cache/holdfast and the caches of
# pip and Maven is touched, except that, as root on Debian, missing Redis and PostgreSQL are installed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

# The first of these that runs and is new enough. A name on PATH may be a shim that does not run.
PYTHON ?= $(shell for candidate in python3.13 python3.12 python3.11 python3; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	echo $$candidate; break; fi; done)

.PHONY: help setup compile run test lint demo bench faults wheel lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | \
		awk -F ':.*## ' '{ printf "  make %-7s %s\n", $$1, $$2 }'
	@echo '  Options of a command go into ARGS: make faults ARGS="--requests 30000 --kills 3"'

setup: $(STAMP) ## Make .venv with the locked packages (the second time takes no time)
	@:

$(STAMP): requirements.lock pyproject.toml setup.py schemas/_compiled.pyx processor/engine/_producing.pyx processor/inventory/_plain_rows.pyx processor/compiled.py
	@if [ -z "$(PYTHON)" ]; then \
		echo "Holdfast needs Python 3.11, 3.12 or 3.13: apt-get install python3 python3-venv" >&2; exit 1; fi
	@if [ ! -x $(BIN)/python ]; then \
		echo "Making $(VENV) with $$($(PYTHON) -V)"; \
		$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "This Python cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }; fi
	@if ! command -v java >/dev/null && ! docker info >/dev/null 2>&1; then \
		echo "Note: without Docker, Kafka needs Java 17 and Maven:" \
		"apt-get install openjdk-17-jre-headless maven" >&2; fi
	@echo "Installing the locked Python packages into $(VENV) (once; about two minutes)"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	@PYTHONWARNINGS=ignore \
		$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## Start servers, worker, view, gateway and connector; Ctrl-C stops what it started
	@$(BIN)/holdfast run $(ARGS)

test: setup ## Run the tests, two at a time, on real servers; ARGS=tests/unit: some of them
	@$(BIN)/pytest $(or $(ARGS),-n 2)

compile: setup ## Build the core and the codec anew, after a change (from source it is slower)
	@$(BIN)/python setup.py -q build_ext --inplace

lint: setup ## Check style, types and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

demo: setup ## Run ten scenarios end to end and show each as a table
	@$(BIN)/holdfast demo $(ARGS)

bench: compile ## Measure everything against floors and goals (20 minutes), beside four peers
	@$(BIN)/holdfast bench table $(ARGS)

faults: setup ## Kill, pause and restart workers and broker under load, then check every answer
	@$(BIN)/python -m holdfast faults $(ARGS)

wheel: setup ## Build an installable wheel, compiled codec included, into dist
	@rm -rf build
	@$(BIN)/python -m pip wheel --disable-pip-version-check -q --no-deps --no-build-isolation -w dist .

lock: ## Bring requirements.lock in step with pyproject.toml (minutes; ARGS=--upgrade for newer ones)
	@$(BIN)/pip-compile -q $(ARGS) --all-extras --allow-unsafe --strip-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file=requirements.lock pyproject.toml
	@if grep -q '://' requirements.lock; then \
		echo "requirements.lock names an address; it may hold names, versions and hashes only" >&2; exit 1; fi

clean: ## Stop the stack of this checkout and delete its data, .venv and caches
	@if [ -x $(BIN)/holdfast ]; then $(BIN)/holdfast stack down --wipe; fi
	@rm -rf $(VENV) .holdfast .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
