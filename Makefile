# Verbs for people: run, test, check, sim SEEDS=n, soak, bench; small ones: venv, install-debian, format, lock, clean.
# Everything is installed below this directory (.venv, .venv313, .cache), nothing is installed twice while the lock stands.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check sim soak bench venv install-debian format lock clean

PYTHON := .venv/bin/python
CODE := $(wildcard hubd drivers sync local_api tests bench)
SEEDS ?= 200

# The layers of tests, in this order; and those that are repeated on the newest Python.
LAYERS := tidy unit contract migrations verifier simulation integration crash browser service machine
LAYERS_313 := unit contract simulation

INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes --requirement
PROJECT := -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .

help:  ## what can be done here
	@sed -nE 's|^([a-z-]+):.*## (.*)|make \1\t\2|p' Makefile | expand -t 20

run: .venv/.run  ## set everything up and open the demo store
	exec .venv/bin/hubd demo

test: install-debian venv .cache/axe/axe.min.js .cache/adyen/node_modules/.package-lock.json  ## set everything up and run every test
	$(MAKE) check
	scripts/run-layers.sh $(PYTHON) $(LAYERS)
	$(if $(LAYERS_313),$(MAKE) test-313)

.PHONY: test-313
test-313: .venv313/.dev
	scripts/run-layers.sh .venv313/bin/python $(LAYERS_313)

check: venv  ## lint, format, types, import rules
	.venv/bin/ruff check $(CODE)
	.venv/bin/ruff format --check $(CODE)
	.venv/bin/mypy $(CODE)
	.venv/bin/lint-imports --no-cache

sim: venv  ## simulate SEEDS stores, each with faults of its own; with PLANT=name, until a planted bug is found
	$(PYTHON) -m tests.simulation --seeds $(SEEDS) $(if $(PLANT),--plant $(PLANT))

soak:  ## the same tests at full numbers (hours)
	HUBD_SOAK=1 PYTEST_TIMEOUT=14400 $(MAKE) test
	$(MAKE) sim SEEDS=200
	$(MAKE) sim SEEDS=200 PLANT=every

bench: venv  ## the numbers of the README, each next to its peers
	scripts/install-debian-packages.sh gcc libc6-dev mosquitto redis-server wrk
	$(PYTHON) -m bench

format: venv  ## mend what the tools can mend
	.venv/bin/ruff check --fix $(CODE)
	.venv/bin/ruff format $(CODE)

lock: venv  ## choose versions anew and write them down with their hashes
	uv() { .venv/bin/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$$@"; }; \
	uv --group build --output-file requirements/run.txt; \
	uv --group dev --constraint requirements/run.txt --output-file requirements/dev.txt

install-debian:
	scripts/install-debian-packages.sh

clean:  ## remove what make installed
	rm -rf .venv .venv313 .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

venv: .venv/.dev  ## the environment for development, in .venv

.venv/.run: requirements/run.txt pyproject.toml
	scripts/make-venv.sh .venv any
	$(PYTHON) $(INSTALL) requirements/run.txt
	$(PYTHON) $(PROJECT)
	touch $@

.venv/.dev: requirements/dev.txt pyproject.toml
	scripts/make-venv.sh .venv any
	$(PYTHON) $(INSTALL) requirements/dev.txt
	$(PYTHON) $(PROJECT)
	touch .venv/.run $@

.venv313/.dev: requirements/dev.txt pyproject.toml
	scripts/make-venv.sh .venv313 3.13
	.venv313/bin/python $(INSTALL) requirements/dev.txt
	.venv313/bin/python $(PROJECT)
	touch $@

.cache/axe/axe.min.js: scripts/fetch-axe.sh
	scripts/fetch-axe.sh $(@D)

.cache/adyen/node_modules/.package-lock.json: scripts/fetch-adyen.sh tests/peers/adyen/package-lock.json
	scripts/fetch-adyen.sh .cache/adyen
