# `make help` lists the targets. A fresh machine needs Python ≥ 3.11, pip, make, a C compiler and the package registries.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
RUN := uv run --frozen --no-sync
export PATH := $(HOME)/.local/bin:$(PATH)

.PHONY: help setup uv nginx controlplane lint fmt crds test test-unit demo bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

setup: uv nginx controlplane ## Install everything that tests and demo need

uv:
	@command -v uv >/dev/null || { echo "installing uv"; $(PYTHON) -m pip install --quiet uv; }
	@uv sync --frozen --all-extras --quiet

nginx:
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx || { \
	  echo "installing nginx (serves the HTTP sources of the tests)"; \
	  sudo=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends nginx-light >/dev/null; }

controlplane:
	@$(PYTHON) -m tests.support.binaries

lint: uv ## Formatting, lints, types, import rules, generated files
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) python -m shared.ops.crds --check

fmt: uv ## Format the code
	$(RUN) ruff format
	$(RUN) ruff check --fix

crds: uv ## Generate deploy/crds from the models
	$(RUN) python -m shared.ops.crds

test: setup lint ## Everything that must pass: lints and all tests
	$(RUN) pytest

test-unit: uv ## The quick tests: no servers, no control plane
	$(RUN) pytest tests/unit tests/property

demo: setup ## The whole main path on a real API server, with commentary (KEEP=1 leaves it running)
	$(RUN) python -m tests.demo $(if $(KEEP),--keep)

bench: setup ## Measure memory and speed; prints tables
	$(RUN) python -m tests.bench

clean: ## Remove what tests and tools left behind
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .demo dist
