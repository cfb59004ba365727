# `make help` lists the targets. Needs Python 3.11 or newer with venv, and nothing else.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
EXTRAS ?=
EXTRA = $(EXTRAS:%=$(VENV)/.%)

.DEFAULT_GOAL := help
.PHONY: help setup demo run test fuzz browser clients pictures check fix lock audit sweep search bench

help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

setup: $(VENV)/.ready $(EXTRA) ## create the virtual environment from the locked, hashed requirements (EXTRAS="browser chart" adds more)

PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps

$(VENV)/.run: requirements/run.txt requirements/build.txt # what the service itself needs, and the command `tallyhook`
	@test -n "$(PYTHON)" || { echo "Tallyhook needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt install python3-venv)"; exit 1; }
	$(PIP_INSTALL) --require-hashes -r requirements/run.txt -r requirements/build.txt
	$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.ready: $(VENV)/.run requirements/dev.txt
	$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.parquet $(VENV)/.tracing $(VENV)/.browser $(VENV)/.chart: $(VENV)/.%: $(VENV)/.run requirements/%.txt
	$(PIP_INSTALL) --require-hashes -r requirements/$*.txt
	@touch $@

demo: $(VENV)/.run ## the whole flow on this machine, without a Stripe account (ARGS=--once stops when done)
	$(BIN)/python -m app demo $(ARGS)

run: $(VENV)/.run $(EXTRA) ## the service, with the settings of the environment or .env (EXTRAS="tracing parquet" adds those)
	$(BIN)/python -m app serve $(ARGS)

test: setup ## all tests, on an embedded PostgreSQL (or on TEST_DATABASE_URL)
	# Three processes on two cores: with two, both cores were idle a quarter of the time.
	$(BIN)/pytest -n 3 $(ARGS)

fuzz: setup ## fuzz the API against its OpenAPI document, with valid and invalid input
	$(BIN)/pytest -m fuzz $(ARGS)

browser: setup $(VENV)/.browser ## the pages in a real browser (BROWSER=/path/to/chromium, default: the one on the PATH)
	$(BIN)/pytest tests/web/browser -m browser $(ARGS)

# In an environment of its own: it needs another version of the command line's library.
$(VENV)-clients/.ready: tests/clients/requirements.txt
	@$(PYTHON) -m venv $(VENV)-clients
	$(VENV)-clients/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

clients: setup $(VENV)-clients/.ready ## typed clients made from the OpenAPI document: Python and, with npm, TypeScript
	CLIENT_GENERATOR=$(abspath $(VENV)-clients/bin/openapi-python-client) $(BIN)/pytest tests/clients -m clients $(ARGS)

pictures: setup $(VENV)/.browser ## take the README's pictures of the pages again (ARGS=FOLDER: of every page)
	$(BIN)/python -m tests.web.pictures $(ARGS)

check: setup ## format, lint, types, import contracts, containers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.demo.yml

fix: setup ## fix format and lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

COMPILE = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q

lock: ## write requirements/*.txt from pyproject.toml (needs uv)
	$(COMPILE) --extra objectstore pyproject.toml -o requirements/run.txt
	$(COMPILE) --group build -c requirements/run.txt -o requirements/build.txt
	for extra in parquet tracing; do \
		$(COMPILE) --extra $$extra pyproject.toml -c requirements/run.txt -o requirements/$$extra.txt || exit 1; done
	$(COMPILE) --all-extras --group dev pyproject.toml -c requirements/parquet.txt -c requirements/tracing.txt -c requirements/build.txt \
		-c requirements/run.txt -o requirements/dev.txt
	for group in browser chart; do \
		$(COMPILE) --group $$group -c requirements/dev.txt -o requirements/$$group.txt || exit 1; done

	echo 'openapi-python-client>=0.29' | $(COMPILE) - -o tests/clients/requirements.txt

audit: ## known vulnerabilities of locked packages (needs uv, and PyPI itself: a mirror may not know them)
	for lock in requirements/*.txt; do \
		uvx pip-audit==2.10.1 --strict --disable-pip --require-hashes -r $$lock || exit 1; done

sweep: setup ## kill the service right before and after every effect, then 1,000 runs under kills; prints a report
	$(BIN)/python -m tests.proofs.sweep
	PROOF_EVERY_STEP=1 $(BIN)/pytest tests/tables/test_killed_loading.py
	PROOF_RUNS=1000 $(BIN)/pytest tests/proofs/test_two_services.py $(ARGS)
	PROOF_MESSAGES=10000 $(BIN)/pytest tests/proofs/test_targets_under_fire.py $(ARGS)

search: setup ## look for a story that breaks a promise, for half an hour (SEARCH_MINUTES=5: for five)
	$(BIN)/pytest tests/proofs/test_search.py --hypothesis-profile=search --timeout=0 -s $(ARGS)

bench: setup ## every figure beside its limit, measured in the same run (ARGS="intake --short" does one, quickly)
	$(BIN)/python -m benchmarks $(ARGS)
