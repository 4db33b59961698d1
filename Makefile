# Everything a developer does here, by name. All of it happens in .venv; nothing is installed outside of it but
# the Debian packages that the tests talk to (see .ci/system-packages).
.DEFAULT_GOAL := help
.PHONY: help setup dev demo test power-cuts lint types contracts bench proto proto-check reference reference-check ci lock clean

PYTHON ?= python3
BIN := .venv/bin
RUN_READY := .venv/ready-run
DEV_READY := .venv/ready-dev
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(RUN_READY) ## make .venv with all that running and the demo need

dev: $(DEV_READY) ## make .venv with all that tests, checks and training need as well

demo: setup ## run sensors, broker, agent and relay on this machine; Ctrl-C ends it
	$(BIN)/edgeflow demo

test: dev ## run the tests, having installed the Debian packages they talk to
	.ci/system-packages
	$(BIN)/pytest $(TESTS)

power-cuts: dev ## pull the plug a thousand times while journals and agents write; needs root
	.ci/system-packages
	EDGEFLOW_POWER_CUTS=1000 $(BIN)/pytest --log-cli-level=INFO tests/powercuts

lint: dev ## check style, names, docstrings, complexity and sizes
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python .ci/file_sizes.py

types: dev ## check types, strictly
	$(BIN)/mypy

contracts: dev ## check who imports whom
	$(BIN)/lint-imports --no-logo

bench: dev ## measure, and print ratios to the bare building blocks
	$(BIN)/python -m benchmarks.run

proto: dev ## generate Python from proto/edgeflow_proto/v1/*.proto
	$(BIN)/python .ci/proto.py

proto-check: dev ## compare the committed generated code with what the .proto files generate
	$(BIN)/python .ci/proto.py --check

reference: dev ## write the reference of docs/pipelines.md and the schema for editors from the kinds
	$(BIN)/python .ci/reference.py

reference-check: dev ## compare both with what the kinds say
	$(BIN)/python .ci/reference.py --check

ci: ## run what continuous integration runs
	.ci/run

lock: dev ## resolve the dependencies anew and write requirements/*.txt
	.ci/lock

clean: ## remove .venv and all caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The locks hold hashes of every wheel, for x86-64 and aarch64, and the build backend too: nothing is resolved,
# and nothing is fetched that is not named there. A stamp is written last, so an interrupted set-up is done again.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("EdgeFlow needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

$(RUN_READY): requirements/run.txt pyproject.toml | .venv/bin/python
	@echo "setting up .venv; this takes a minute" >&2
	$(PIP_INSTALL) --require-hashes --only-binary=:all: -r requirements/run.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(DEV_READY): requirements/dev.txt $(RUN_READY)
	$(PIP_INSTALL) --require-hashes --only-binary=:all: -r requirements/dev.txt
	touch $@
