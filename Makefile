# `make help` tells what there is. PYTHON chooses the interpreter, 3.10 or later: `make PYTHON=python3.12 test`.

PYTHON ?= python3
VENV ?= .venv
TESTS ?= tests

BIN := $(VENV)/bin
SETUP := setup.py nora/__init__.py
BASE := $(VENV)/.installed
TEST := $(VENV)/.installed-test
CHECK := $(VENV)/.installed-check
AXE := tests/browser/node_modules/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test check demo bench screenshots format clean programs

help: ## Tell what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(BASE) ## Install, and start NORA on 127.0.0.1:4000 with its store under ./data
	$(BIN)/twistd -n --pidfile= nora $(if $(CONFIG),--config $(CONFIG))

test: $(TEST) programs $(AXE) ## Run all tests with coverage; TESTS=tests/unit runs some, and asks for no coverage
	@rm -f .coverage .coverage.*
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/.coverage \
	    $(BIN)/python -m pytest -p no:cacheprovider $(TESTS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered $(if $(filter tests,$(TESTS)),,--fail-under=0)

check: $(CHECK) ## Lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: $(TEST) ## Show it without a network: an upstream, NORA, two pulls
	@bash .ci/programs docker-registry skopeo
	$(BIN)/python -m tests.demo

bench: $(TEST) ## Measure NORA beside docker-registry and nginx; GROUPS="cached cold", WRITE=1 for docs/benchmarks.md
	@bash .ci/programs docker-registry nginx wrk skopeo
	$(BIN)/python -m tests.bench $(GROUPS) $(if $(WRITE),--write)

screenshots: $(TEST) ## Take a picture of every page into docs/images
	@bash .ci/programs docker-registry skopeo chromium chromedriver
	$(BIN)/python -m tests.screenshots

format: $(CHECK) ## Put the code into its format
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

clean: ## Remove what was made here, but never ./data
	rm -rf $(VENV) tests/browser/node_modules build dist *.egg-info .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find nora tests twisted -name __pycache__ -type d -prune -exec rm -rf {} +

programs:
	@bash .ci/programs

$(BIN)/python:
	@bash .ci/python $(PYTHON)
	$(PYTHON) -m venv $(VENV)

# An editable install, so that what runs and is tested is always the checkout.
$(BASE): $(SETUP) | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(TEST): $(SETUP) | $(BIN)/python
	$(PIP) install --editable '.[test]'
	@touch $(BASE) $@

# What tests in a browser take from npm, held to its lock file by checksum; without npm those tests are skipped.
$(AXE): tests/browser/package-lock.json | programs
	@if command -v npm >/dev/null; then \
	    npm --prefix tests/browser ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; \
	fi

# mypy wants to know what the tests import too.
$(CHECK): $(SETUP) | $(BIN)/python
	$(PIP) install --editable '.[test,check]'
	@touch $(BASE) $(TEST) $@
