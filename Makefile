# Everything a checkout can do. Each target makes what it needs first: a Python of 3.11 or newer and make are enough.
#
#   make demo          a bank's real event log through the whole framework, with PostgreSQL and Kafka
#   make demo-small    the same with a part of the log
#   make test          the tests; ARGS goes to pytest, as in: make test ARGS="tests/devserver -x"
#   make campaign      the fault campaigns in their long form (minutes to hours; `make test` runs the quick one)
#   make bench         measure against raw asyncpg, pgbench and other libraries, and write docs/benchmarks.md; ARGS, as in:
#                      make bench ARGS="--only appends --rounds 5 --quick"
#   make bench-storage measure the choices of the schema (bytes, WAL, time) and write them into docs/design/storage.md
#   make bench-histories hold other libraries to the history checker, and write what it finds into docs/history.md
#   make lint          style, types and the layers of the architecture
#   make format        rewrite the code as `make lint` wants it
#   make lock          write requirements/dev.txt anew; ARGS goes to uv, as in: make lock ARGS=--upgrade
#   make clean         stop servers that a killed run left behind; delete all that these targets made
#
# PYTHON chooses another Python, EVENTSTORE_POSTGRES and EVENTSTORE_KAFKA other servers: see README.md.

SHELL := /bin/sh
BIN := .venv/bin
STATE := .eventstore

export PYTHON
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help bootstrap demo demo-small test campaign bench bench-storage bench-histories lint format lock clean

help:
	@sed -n 's/^#   //p' Makefile

bootstrap:
	@scripts/bootstrap

demo: bootstrap
	@$(BIN)/python -m examples.loans $(ARGS)

demo-small: bootstrap
	@$(BIN)/python -m examples.loans --small $(ARGS)

test: bootstrap
	@$(BIN)/python -m pytest $(ARGS)

campaign: bootstrap
	@EVENTSTORE_CAMPAIGN_RESULTS=$${EVENTSTORE_CAMPAIGN_RESULTS:-$(CURDIR)/$(STATE)/campaign.jsonl} \
		$(BIN)/python -m pytest tests/campaigns --campaign $(ARGS)

bench: bootstrap
	@$(BIN)/python -m benchmarks $(ARGS)

bench-storage: bootstrap
	@$(BIN)/python -m benchmarks.storage $(ARGS)

bench-histories: bootstrap
	@$(BIN)/python -m benchmarks.peers.histories $(ARGS)

lint: bootstrap
	@failed=0; \
	for check in "ruff check" "ruff format --check" mypy lint-imports; do \
		$(BIN)/$$check || failed=1; \
	done; \
	exit $$failed

format: bootstrap
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: bootstrap
	@scripts/lock $(ARGS)

clean:
	@if [ -d $(STATE) ]; then scripts/bootstrap && $(BIN)/python -m eventstore.devserver.removal $(STATE); fi
	rm -rf .venv .bootstrap.lock build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
