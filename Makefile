# `make` alone says what there is.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
CODE := streamwatch pipelines benchmarks tests

DEMO_READY := $(VENV)/.demo-ready
DEV_READY := $(VENV)/.dev-ready

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint fmt lock clean

help: ## say what there is
	@echo "usage: make TARGET [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO_READY) ## see a bad release halted; SERVE=1 keeps the API up afterwards
	$(BIN)/streamwatch demo $(if $(SERVE),--serve)

test: $(DEV_READY) ## run every test; ARGS="-k topics" picks some
	$(BIN)/pytest $(ARGS)

lint: $(DEV_READY) ## check format, style and types
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)

fmt: $(DEV_READY) ## format, fix what can be fixed, renew streamwatch.yaml
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/streamwatch check-config --print-default > streamwatch.yaml

# dev.txt comes first and constrains the others: one version of everything in all three. Extra
# places to find packages are unset, because a hash must be that of the published file.
lock: $(DEV_READY) ## renew requirements/*.txt after a change of pyproject.toml; UPGRADE=1 raises all
	$(LOCK) --extra dev requirements/build.in -o requirements/dev.txt
	$(LOCK) --extra embedded requirements/build.in -c requirements/dev.txt -o requirements/demo.txt
	$(LOCK) -c requirements/dev.txt -o requirements/run.txt
	@! grep -nE '://|^-' requirements/*.txt || { echo "an address or option got in"; exit 1; }

LOCK = env -u UV_FIND_LINKS -u UV_INDEX -u UV_EXTRA_INDEX_URL $(BIN)/uv --no-config -q pip compile \
	pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

clean: ## remove the virtual environment and everything generated
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "streamwatch needs Python 3.11 or newer and $(PYTHON) is not." >&2; \
		echo "Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)

# The package is installed without its dependencies: those come from the hash-checked file.
$(DEMO_READY): requirements/demo.txt pyproject.toml | $(BIN)/python
	$(PIP) install -q --require-hashes -r requirements/demo.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_READY): requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install -q --require-hashes -r requirements/dev.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $(DEMO_READY) $@
