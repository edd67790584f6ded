# Every target sets up what it needs; nothing but Python 3.11+ is assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test chaos check contract hammer bench bench-quality up constraints clean
.DEFAULT_GOAL := help

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## Create .venv and install the service, the engine and the tools

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,dev]'
	@touch $@

demo: $(READY) ## Train three small models, fuse them through the REST service, show the result (under 10 minutes)
	$(BIN)/python -m examples.demo.run

test: $(READY) ## Run all tests, end to end on SQLite and on PostgreSQL + Redis + Celery
	$(BIN)/python -m pytest -n 2 --dist loadfile

chaos: $(READY) ## Kill, freeze and cut everything for 30 minutes on PostgreSQL + Redis and 10 on SQLite; CHAOS="--minutes 1 --seed 7"
	$(BIN)/python -m tests.faults.chaos $(CHAOS)

check: $(READY) ## Format, lint, types, import contracts, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	@! grep -n '://' constraints.txt || (echo 'constraints.txt must not hold addresses' && false)

contract: $(READY) ## Write what the API promises, tests/contracts/openapi.json and docs/api.md, and show what changed
	$(BIN)/python -m tests.contracts.document
	$(BIN)/python scripts/write_api_reference.py
	git diff --stat -- tests/contracts/openapi.json docs/api.md

hammer: $(READY) ## Send 20,000 generated requests with every check of schemathesis; HAMMER="--requests 500 --seed 7"
	$(BIN)/python -m tests.contracts.hammer $(HAMMER)

bench: $(READY) ## Measure the engine against a bare forward pass and plain training, as ratios of one run
	$(BIN)/python -m benchmarks

bench-quality: $(READY) ## Fuse with every strategy in several regimes, against plain training (about an hour on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality

up: ## Start PostgreSQL, Redis, API and a worker in containers
	docker compose up --build

constraints: $(READY) ## Write constraints.txt from the installed versions
	$(BIN)/python -m pip freeze --exclude-editable | grep -vE '^(torch|nvidia-.*|triton|cuda-.*)==' > constraints.txt

clean: ## Remove the environment, caches and what the demo made
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
