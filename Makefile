# `make` lists what there is. Everything installs into .venv, and only when its pins have changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SQL_DIRS := models tests analyses
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-deps
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-emit-index-url --custom-compile-command 'make lock' $(UPGRADE)
LOCK := $(COMPILE) pyproject.toml --group build
# The linter compiles the models: in a warehouse of its own, since DuckDB lets one process in. What it
# says on the way out, of connections it did not close, is shown only where it failed.
SQLFLUFF := mkdir -p .cache/lint && ONEDEAL_HOME=.cache/lint $(BIN)/sqlfluff

MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check-bigquery check-browser check-infra lint format docs benchmark audit lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/local profiles.yml ## Install onedeal for DuckDB, and copy the dbt profile

demo: setup ## Three days of generated deals: the whole loop on this machine
	@$(BIN)/onedeal demo

test: $(VENV)/dev $(VENV)/emulator/ready profiles.yml ## Run the tests
	@$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check-bigquery: $(VENV)/dev ## Have every statement for BigQuery analysed by Google's own analyser
	@$(BIN)/python -m tests.bigquery.reference.check

check-browser: $(VENV)/dev profiles.yml ## Try the review page in Chromium, which has to be installed
	@$(BIN)/pytest -m browser

check-infra: ## Have Terraform validate infra/, which has to be installed
	@terraform -chdir=infra init -backend=false -input=false
	@terraform -chdir=infra validate
	@terraform -chdir=infra fmt -check

lint: $(VENV)/dev profiles.yml ## Check style and types: ruff, mypy, sqlfluff
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/mypy
	@$(SQLFLUFF) lint $(SQL_DIRS) 2> .cache/lint/stderr || { cat .cache/lint/stderr; exit 1; }

format: $(VENV)/dev profiles.yml ## Rewrite Python and SQL in the project's style
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet
	@$(SQLFLUFF) fix --quiet $(SQL_DIRS)

docs: setup ## Write dbt's documentation, with the lineage, to target/static_index.html
	@$(BIN)/dbt --quiet docs generate --static

benchmark: $(VENV)/dev $(VENV)/benchmark/ready profiles.yml ## Measure quality and speed (SIZE=--full: to 3,000,000 deals)
	@$(BIN)/python -m benchmarks $(SIZE)

audit: $(VENV)/audit/ready ## Look the pinned packages up in the index's list of known vulnerabilities
	@for file in local gcp serving dev; do \
	echo "requirements/$$file.txt" && $(VENV)/audit/bin/pip-audit --strict --progress-spinner off \
	--require-hashes --disable-pip --requirement requirements/$$file.txt || exit 1; done

lock: $(VENV)/dev ## Compile requirements/ anew (UPGRADE=--upgrade takes newer versions)
	@$(LOCK) --extra local --extra gcp --extra serving --extra dev --output-file requirements/dev.txt
	@$(LOCK) --extra local --extra serving --constraint requirements/dev.txt --output-file requirements/local.txt
	@$(LOCK) --extra gcp --constraint requirements/dev.txt --output-file requirements/gcp.txt
	@$(LOCK) --extra local --extra gcp --extra serving --constraint requirements/dev.txt --output-file requirements/serving.txt
	@$(COMPILE) --group emulator --output-file requirements/emulator.txt
	@$(COMPILE) --group benchmark --output-file requirements/benchmark.txt
	@$(COMPILE) --group audit --output-file requirements/audit.txt

clean: ## Remove what was installed and generated; .onedeal and profiles.yml stay
	@rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build logs target infra/.terraform*
	@find . -name __pycache__ -prune -exec rm -rf {} +

profiles.yml:
	@cp profiles.example.yml profiles.yml

# An environment gets its pip last: without one it is not made.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v[:2] < (3, 14) or sys.exit("onedeal \
	needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12" % v[:2])'
	@$(PYTHON) -m venv $(VENV) || { rm -f $@; exit 1; }

# The developers' pins are those of `local` and more, so after them `local` has nothing to do.
$(VENV)/local: requirements/local.txt pyproject.toml | $(BIN)/python
	@echo 'Installing onedeal into $(VENV) ...'
	@$(PIP_INSTALL) --require-hashes -r requirements/local.txt
	@$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo 'Installing onedeal and its development tools into $(VENV) ...'
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $(VENV)/local $@

# The emulated BigQuery of the tests, which takes other versions.
$(VENV)/emulator/ready: requirements/emulator.txt | $(BIN)/python
	@echo 'Installing the emulated BigQuery into $(VENV)/emulator ...'
	@$(BIN)/python -m venv $(VENV)/emulator
	@$(VENV)/emulator/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/emulator.txt
	@touch $@

# What looks for vulnerabilities, apart from what it looks at.
$(VENV)/audit/ready: requirements/audit.txt | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/audit.txt
	@touch $@

# Splink, which the benchmarks compare with.
$(VENV)/benchmark/ready: requirements/benchmark.txt | $(BIN)/python
	@echo 'Installing Splink into $(VENV)/benchmark ...'
	@$(BIN)/python -m venv $(VENV)/benchmark
	@$(VENV)/benchmark/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/benchmark.txt
	@touch $@
