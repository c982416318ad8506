# The commands of the project. `make start` and `make test` do their whole set-up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Set somewhere, it makes every process compile the whole project at its start: half of the start, and of a recovery.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup start test accept chaos soak bench screenshots check docs audit format lock clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## make .venv with the pinned dependencies

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0])'
	@echo "Setting up $(VENV) (once; about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || \
		echo "The scanner's model needs libgomp: apt-get install libgomp1 (or your system's name for it)"
	@touch $@

start: setup  ## run the whole pipeline with the paper profile until Ctrl-C
	@trap : INT; PILOT_PROFILE=$${PILOT_PROFILE:-paper} $(BIN)/honcho start --no-prefix; code=$$?; test $$code -eq 130 || exit $$code

test: setup  ## run all tests, two at a time
	@$(BIN)/pytest -n 2 --dist worksteal

accept: setup  ## decisions of a real small model and faults of another's server; fetches both into .accept/ once
	@$(BIN)/python -m tests.accept.install
	@$(BIN)/pytest tests/accept -s -rs

chaos: setup  ## kill anything at any moment and check that nothing is lost (MINUTES=m: storms; SWEEP=m, RESUME=file goes on; SEED=n; LANES=n; API=trader)
	@$(BIN)/python -m tests.chaos.run $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SWEEP),--sweep $(SWEEP)) $(if $(RESUME),--resume $(RESUME)) $(if $(SEED),--seed $(SEED)) $(if $(LANES),--lanes $(LANES)) $(if $(API),--api $(API))

soak: setup  ## live through a week in an hour under random kills, and audit each day (MINUTES=m; DAYS=d; SEED=n)
	@$(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(DAYS),--days $(DAYS)) $(if $(SEED),--seed $(SEED))

bench: setup  ## run every bench, ours beside other queues; ends with a line of JSON (PARTS="growth idle", WRITE=1 renews docs)
	@$(BIN)/python -c 'import huey, litequeue, redis, taskiq, taskiq_redis' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@command -v redis-server >/dev/null || echo "redis-server is missing, its rivals are left out (Debian: apt-get install redis-server)"
	@$(BIN)/python -m tests.bench $(PARTS) $(if $(WRITE),--write)

screenshots: setup  ## renew docs/pictures from a real pipeline in a real browser (needs chromium and chromium-driver)
	@$(BIN)/python -m tests.browser.screenshots

check: setup  ## format, lint, types, import contracts, unsafe code, documents, known vulnerabilities where they can be asked for
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml actors bus config store supervisor
	@$(BIN)/python -m tests.kit.audit
	@$(MAKE) --no-print-directory docs

docs: setup  ## build the documentation into site/; a link, an anchor or a page that leads nowhere fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

audit: setup  ## known vulnerabilities of the pinned packages (asks the package registry)
	@$(BIN)/python -m tests.kit.audit

format: setup  ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock:  ## renew requirements.lock, those of the bench and of the image from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --quiet --output-file requirements.lock
	uv pip compile pyproject.toml --extra dev --extra bench --universal --python-version 3.11 --generate-hashes \
		--constraints requirements.lock \
		--no-emit-index-url --no-emit-find-links --no-header --quiet --output-file requirements-bench.lock
	uv pip compile pyproject.toml --extra image --universal --python-version 3.11 --generate-hashes \
		--constraints requirements.lock \
		--no-emit-index-url --no-emit-find-links --no-header --quiet --output-file requirements-image.lock

clean:  ## remove the virtual environment and caches, never data/
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
