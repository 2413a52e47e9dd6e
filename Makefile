# One target for each habit; CI runs the same ones.
PYTHON ?= python3
BIN := .venv/bin
# By variables, since an option does not reach the environment in which pip builds the package itself:
# pip took the second one's meaning out of the first with 25.3.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
  $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: help serve demo dev test soak lint format audit bench screenshots build pyz clean

help: ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

serve: .venv/serve ## install into .venv and start on http://localhost:3000
	@exec $(BIN)/little-bell serve

demo: .venv/serve ## show it, full of invented mail
	@exec $(BIN)/little-bell demo

# watchfiles waits until the old server has stopped by itself, so that port and file are free.
dev: .venv/dev ## serve data/dev.db at LOG_LEVEL=debug, anew after each change in src
	@LOG_LEVEL=$${LOG_LEVEL:-debug} DATABASE_URL=$${DATABASE_URL:-sqlite:data/dev.db} \
	  exec $(BIN)/watchfiles --sigint-timeout 20 --target-type command '$(BIN)/little-bell serve' src

# As many tests at once as there are processors, up to four. One after the other: make test WORKERS=0
WORKERS ?= auto
test: .venv/test ## install what the tests need and run them all
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal $(TESTS)

soak: .venv/test ## the long forms: hundreds of kills, power cuts, fuzzing
	LITTLE_BELL_SOAK=1 $(BIN)/python -m pytest --timeout 3600 $(TESTS)

lint: .venv/test ## ruff and mypy --strict
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: .venv/test ## let ruff format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# --strict: a package that could not be looked up has not passed.
AUDIT := PIP_AUDIT_LOGLEVEL=error $(BIN)/pip-audit --strict --progress-spinner off
audit: .venv/dev ## ask PyPI for known vulnerabilities of what is pinned, and of what pip would take
	@$(AUDIT) --disable-pip --no-deps --requirement constraints.txt && \
	  $(AUDIT) . || \
	  { echo 'The audit failed: something is vulnerable, or could not be looked up (above)'; exit 1; }

bench: .venv/bench ## nginx, uvicorn and Little Bell in turn; writes bench/RESULTS.md
	$(BIN)/python -m bench

screenshots: .venv/test ## make docs/img anew, by Chromium
	$(BIN)/python tests/screenshots.py

build: .venv/build ## dist/: the wheel, and the source archive
	@rm -rf dist/little_bell-*
	$(BIN)/python -m build --no-isolation --outdir dist .

pyz: build ## dist/little-bell.pyz: all in one file, for this Python and platform
	$(BIN)/python tools/build_pyz.py dist/little_bell-*.whl dist/little-bell.pyz

clean: ## remove what was installed and built here; data/ stays
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Stamps: each names what is installed in .venv.
.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Little Bell needs Python 3.11 or newer; name one: make serve PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'This Python has no venv module; install it (Debian: apt install python3-venv)'; exit 1; }
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/serve: .venv/python pyproject.toml constraints.txt
	@echo 'Installing Little Bell into .venv' >&2
	@$(PIP) --editable .
	@touch $@

.venv/dev: .venv/serve
	@$(PIP) --editable '.[dev]'
	@touch $@

.venv/test: .venv/serve tests/install-system-packages
	@$(PIP) --editable '.[test]'
	@tests/install-system-packages
	@touch $@

.venv/build: .venv/serve
	@$(PIP) --editable '.[build]'
	@touch $@

.venv/bench: .venv/serve
	@$(PIP) --editable '.[bench]'
	@PACKAGES='nginx-light:nginx wrk:wrk' tests/install-system-packages
	@touch $@
