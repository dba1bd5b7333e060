# `make help` lists the targets. A fresh machine needs Python ≥ 3.11, pip, make, a C compiler and the package registries.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/localmodel
VERSION := 0.1.0
RUN := uv run --frozen --no-sync
export PATH := $(PATH):$(CACHE)/uv/bin

.PHONY: help setup uv nginx chromium shells controlplane servers lint fmt crds test tests-of-cluster tests-of-all-else test-unit test-component test-cluster test-e2e images audit demo demo-cluster bench bench-controller clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

setup: uv nginx chromium shells controlplane ## Install all that tests and demo need; once, about 10 minutes on two cores

# In a folder of its own: a distribution's Python lets nobody install beside its packages.
uv:
	@command -v uv >/dev/null || { echo "installing uv into $(CACHE)/uv"; PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install --quiet --target $(CACHE)/uv uv; }
	@test -d .venv || echo "installing the locked packages into .venv"
	@uv sync --frozen --all-extras --quiet

nginx:
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx || { \
	  echo "installing nginx, which serves the HTTP sources of the tests"; \
	  as_root=$$(test "$$(id -u)" = 0 || echo sudo); \
	  { $$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends nginx >/dev/null; } \
	  || { echo "nginx could not be installed: do it with this machine's package manager"; exit 1; }; }

chromium:
	@for name in chromium chromium-browser google-chrome google-chrome-stable chrome; do command -v $$name >/dev/null && exit 0; done; \
	  echo "installing chromium, in which the tests look at the page"; \
	  as_root=$$(test "$$(id -u)" = 0 || echo sudo); \
	  { $$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
	  || { echo "chromium could not be installed: do it with this machine's package manager"; exit 1; }

shells:
	@command -v zsh >/dev/null && command -v fish >/dev/null || { \
	  echo "installing zsh and fish, whose completion the tests try"; \
	  as_root=$$(test "$$(id -u)" = 0 || echo sudo); \
	  { $$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends zsh fish >/dev/null; } \
	  || echo "zsh and fish could not be installed: the tests of their completion are skipped"; }

controlplane: uv
	@$(PYTHON) -m tests.support.binaries

servers: uv nginx
	@$(PYTHON) -m tests.support.binaries servers

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

# Half of the tests wait for a control plane most of the time, so the other half runs beside them.
test: setup lint ## Everything that must pass: lints and all tests
	@echo "Two halves side by side; each is shown when it is done, after ten minutes or so."
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target tests-of-cluster tests-of-all-else

tests-of-cluster:
	$(RUN) pytest tests/cluster

tests-of-all-else:
	$(RUN) pytest --deselect=tests/cluster

test-unit: uv ## The quick tests: no servers, no control plane
	$(RUN) pytest tests/unit tests/property

test-component: servers ## Each source against its real server, the engine and the command line
	$(RUN) pytest tests/component

test-cluster: setup tests-of-cluster ## Both programs on a real etcd, kube-apiserver and kube-controller-manager

# tests.support.nodes gets what real nodes need, the control plane included.
test-e2e: uv nginx ## The programs as pods on real nodes; takes root and about 12 minutes, once 10 more for builds
	@trap 'echo "make test-e2e: $$SECONDS s"' EXIT; set -x; \
	  $(RUN) python -m tests.support.nodes; \
	  $(RUN) pytest tests/e2e

# The OCI format, which podman and buildah prefer, has no health command. All times are the commit's, so that two builds are equal;
# docker sets those of files by `docker buildx build --output=type=image,rewrite-timestamp=true` alone.
images: ## Build both images with docker, podman or buildah (BASE=… takes another base)
	@engine=$$(command -v docker || command -v podman || command -v buildah) || { echo "docker, podman or buildah is needed"; exit 1; }; \
	export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); \
	case $$engine in *docker) options=--build-arg=SOURCE_DATE_EPOCH ;; *) options="--format=docker --timestamp=$$SOURCE_DATE_EPOCH" ;; esac; \
	for name in agent controller; do \
	  "$$engine" build $$options $(if $(BASE),--build-arg=BASE=$(BASE)) --build-arg=REVISION=$$(git rev-parse HEAD) \
	    --file=Dockerfile.$$name --tag=ghcr.io/localmodel/$$name:$(VERSION) .; \
	done

audit: uv ## Known vulnerabilities and licences of what the images hold
	@$(RUN) python -m tests.support.audit
	@$(RUN) pytest -q tests/unit/deploy/test_licences.py

demo: setup ## The whole main path on a real API server, with commentary (KEEP=1 leaves it running)
	$(RUN) python -m tests.demo $(if $(KEEP),--keep)

demo-cluster: uv nginx ## The same as pods on real nodes; takes root
	$(RUN) python -m tests.support.nodes
	$(RUN) python -m tests.demo.cluster

bench: setup ## Measure memory and speed beside other downloaders; prints tables (about an hour)
	$(RUN) python -m tests.bench

bench-controller: setup ## Measure the controller at up to 300 caches on 3,000 nodes; prints tables
	$(RUN) python -m tests.bench.controller

clean: ## Remove what tests and tools left behind
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .demo dist
