# Thin aliases. Every target promises only 0 or not 0: make turns all failures
# into 2, so scripts that tell a mistake from a failure call `.venv/bin/pandom`.

STACK ?= dev
ROLE ?= pandom_app
FORMAT ?= dotenv
PYTHON ?= python3
PANDOM = .venv/bin/pandom
# The caller's PYTHON… variables and locale decide nothing here.
BARE = $(PYTHON) -E -X utf8
SCRIPTS = .ci/run app_image/metrics/pandom-metrics app_image/minio/pandom-minio app_image/postgres/pandom-* toolchain/standins/bin/*
RUN = .venv/bin/python -E -X utf8 -m

.DEFAULT_GOAL := help
.NOTPARALLEL:

## first
.PHONY: up
up: ready ## bring STACK up, from a bare machine to healthy
	@$(PANDOM) up --stack $(STACK)

.PHONY: test
test: ready lint ## every check and every test layer, on stacks of their own
	@$(RUN) pytest --numprocesses 4 --no-loadscope-reorder

.PHONY: tools
tools: ## provide what this machine lacks; say where each tool came from
	@$(BARE) -m toolchain

## a stack (STACK=dev)
.PHONY: down
down: ready ## take STACK down and leave nothing of it
	@$(PANDOM) down --stack $(STACK)

.PHONY: health
health: ready ## check STACK: server, tables, object store
	@$(PANDOM) health --stack $(STACK)

.PHONY: audit
audit: ready ## who can do what in STACK, and is it what was declared
	@$(PANDOM) audit --stack $(STACK) --store --host
	@$(PANDOM) audit --stack $(STACK) trail --anchor bucket --archive bucket

.PHONY: env
env: ready ## print STACK's settings and secrets (ROLE=pandom_app FORMAT=…)
	@case '$(firstword -$(MAKEFLAGS))' in *w*) \
	  echo 'make -C and recursive makes print lines of their own among the settings.' >&2; \
	  echo "Next: make -s -C ..., or $$PWD/$(PANDOM) env" >&2; exit 2;; esac
	@$(PANDOM) env --stack $(STACK) --role $(ROLE) --format $(FORMAT)

.PHONY: preview
preview: ready ## show what `up` would change
	@$(PANDOM) preview --stack $(STACK)

.PHONY: refresh
refresh: ready ## compare the state with what is there
	@$(PANDOM) refresh --stack $(STACK)

.PHONY: shell
shell: ready ## a shell with psql, pg_dump and the operator's login
	@$(PANDOM) shell --stack $(STACK)

## checks
.PHONY: lint
lint: ready ## format, types, imports, SQL, shell, Dockerfiles, spelling
	@$(RUN) ruff check --quiet .
	@$(RUN) ruff format --quiet --check .
	@$(RUN) mypy --no-error-summary
	@.venv/bin/squawk --reporter gcc migrations/sql/*/*.sql
	@.venv/bin/sqruff lint --quiet schema migrations
	@.venv/bin/lint-imports --no-cache > /dev/null || .venv/bin/lint-imports --no-cache
	@.venv/bin/vulture
	@.venv/bin/codespell
	@.venv/bin/shellcheck $(SCRIPTS)
	@.venv/bin/hadolint app_image/*/Dockerfile
	@echo 'ruff, mypy, squawk, sqruff, imports, vulture, codespell, shellcheck, hadolint: clean'

.PHONY: conformance
conformance: ready ## record what the official plugins do (OFFICIAL=folder)
	@$(RUN) tests.conformance.record $(OFFICIAL)

.PHONY: soak
soak: ready ## the sizes and rounds that `make test` leaves out
	@$(RUN) pytest -m soak

.PHONY: bench
bench: ready ## measure the stack, the database and the audit
	@$(RUN) tests.bench

.PHONY: docs
docs: ready ## make the generated reference again
	@$(PANDOM) docs
	@$(RUN) tests.fixtures.requirements

.PHONY: wheel
wheel: ready ## dist/pandom_stack-*.whl, for other repositories (docs/ci.md)
	@$(RUN) hatchling build --target wheel

.PHONY: record
record: ready ## write schema/catalog.json from what the revisions make, on STACK
	@$(PANDOM) audit record --stack $(STACK)

## cleaning
.PHONY: clean
clean: ## remove the project's images and this clone's caches
	@$(BARE) -m toolchain --clean

.PHONY: clean-tools
clean-tools: ## remove the user's cache of built tools and the base image
	@$(BARE) -m toolchain --clean-tools

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^## / { print "\n" substr($$0, 4) } \
	  /^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The quick form of `tools`: says only what it had to do.
.PHONY: ready
ready:
	@$(BARE) -m toolchain --quiet
